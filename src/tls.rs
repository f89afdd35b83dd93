//! TLS, for every listener.

pub(crate) mod certificate;
