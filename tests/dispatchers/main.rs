//! Dispatchers against what they deliver to: the contract that all of them keep, and what each adds.

#![allow(clippy::unwrap_used, reason = "a failed step fails its test")]

mod contract;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "kafka")]
mod kafka_contract;
#[cfg(feature = "kafka")]
mod kafka_faults;
mod logger;
#[cfg(feature = "mqtt")]
mod mqtt;
#[cfg(feature = "mqtt")]
mod mqtt_consent;
#[cfg(feature = "mqtt")]
mod mqtt_contract;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod redis_contract;
#[cfg(feature = "redis")]
mod redis_many;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(feature = "zmq")]
mod zmq;
#[cfg(feature = "zmq")]
mod zmq_contract;

#[path = "../support/mod.rs"]
mod support;
