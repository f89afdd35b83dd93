//! Dispatchers against what they deliver to: the contract that all of them keep, and what each adds.

mod contract;
#[cfg(feature = "sqlite")]
mod sqlite;
