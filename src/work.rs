//! Counts steps, so that tests can say how much work a message makes without measuring time.
//!
//! A step is a byte looked at or copied, a field walked over, a name compared. Loops whose length a client chooses
//! say here what they did. In the server this is nothing at all.

/// Says that so many steps were taken.
#[inline(always)]
#[allow(clippy::inline_always)] // it has no code outside tests
pub(crate) fn took(steps: usize) {
    #[cfg(test)]
    TAKEN.set(TAKEN.get() + steps);
    #[cfg(not(test))]
    let _ = steps;
}

#[cfg(test)]
thread_local! {
    static TAKEN: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// How many steps `work` takes on this thread.
#[cfg(test)]
pub(crate) fn of(work: impl FnOnce()) -> usize {
    let before = TAKEN.get();
    work();
    TAKEN.get() - before
}
