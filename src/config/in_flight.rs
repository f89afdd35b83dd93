//! The bound on what is on its way.

/// How much may be on its way at once: records, and the memory in bytes that they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// Records.
    pub records: usize,
    /// Bytes.
    pub bytes: usize,
}
