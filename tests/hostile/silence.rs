//! Connections to the vehicles' port that prove nothing.
