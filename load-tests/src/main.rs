//! The vehicle simulator.

fn main() {}
