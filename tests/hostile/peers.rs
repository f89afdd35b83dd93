//! Vehicles that are gone, half there, or quiet.
