//! A copy with changes.

use crate::work;

/// Copies a payload to the end of a buffer, except for the parts that are replaced. What is not replaced is
/// copied in pieces as large as possible.
pub(super) struct Splice<'a, 'o> {
    source: &'a [u8],
    /// Everything before this position was copied or replaced.
    done: usize,
    out: &'o mut Vec<u8>,
}

impl<'a, 'o> Splice<'a, 'o> {
    pub(super) fn new(source: &'a [u8], out: &'o mut Vec<u8>) -> Self {
        Self { source, done: 0, out }
    }

    /// Replaces `source[start..end]` by what `write` appends. Replacements come in order.
    pub(super) fn replace(&mut self, start: usize, end: usize, write: impl FnOnce(&mut Vec<u8>)) {
        work::took(start - self.done);
        self.out.extend_from_slice(&self.source[self.done..start]);
        write(self.out);
        self.done = end;
    }

    /// Copies what is left.
    pub(super) fn finish(self) {
        work::took(self.source.len() - self.done);
        self.out.extend_from_slice(&self.source[self.done..]);
    }
}
