//! Kafka's clients, as far as they are the same whatever they are for.

pub(crate) mod pauses;
pub(crate) mod probe;
pub(crate) mod watch;
