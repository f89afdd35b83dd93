//! Protobuf wire format: a walk over the fields of a message, without allocation.
