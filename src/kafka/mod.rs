//! Kafka's clients, as far as they are the same whatever they are for: how one is set up, asked whether it reaches
//! Kafka, watched, and how it ends.

mod client;
pub(crate) mod pauses;
pub(crate) mod probe;
pub(crate) mod watch;

pub(crate) use self::client::{Properties, Quiet, blame, config, drop_elsewhere, is_returned, purge};
