//! What large records and stuck dispatchers cost.
