//! Whatever a client sends costs at most a constant per byte: twice as much of the same takes at most twice the steps.
//!
//! A test of all stages together, and so above them.

mod messages;
mod texts;

use crate::work;

/// How much of something hostile there is, and twice as much.
const SIZES: [usize; 2] = [1_000, 2_000];

/// Steps per byte that anything may take. What takes the most are texts full of what is nearly a place: 48, of which
/// four are the automata's that look for the rest.
const PER_BYTE: usize = 64;

/// Sorting names takes a little more than twice the steps for twice the names; and what is once per message.
const SLACK: f64 = 0.3;
const ONCE: usize = 1_000;

/// Fails when `run` over twice the bytes is more than twice the work.
fn assert_linear(name: &str, input: impl Fn(usize) -> Vec<u8>, run: impl Fn(&[u8])) {
    let [(bytes, steps), (more_bytes, more_steps)] = SIZES.map(|size| {
        let input = input(size);
        (input.len(), work::of(|| run(&input)))
    });
    let allowed = (more_bytes as f64 / bytes.max(1) as f64 + SLACK) * steps as f64;
    assert!(
        (more_steps as f64) <= allowed + ONCE as f64,
        "{name}: {steps} steps for {bytes} bytes, {more_steps} for {more_bytes}"
    );
    assert_bounded(name, more_bytes, more_steps);
}

fn assert_bounded(name: &str, bytes: usize, steps: usize) {
    assert!(
        steps <= PER_BYTE * bytes + ONCE,
        "{name}: {steps} steps for {bytes} bytes are more than {PER_BYTE} a byte"
    );
}

#[test]
fn steps_that_grow_with_the_square_are_noticed() {
    let square = |input: &[u8]| work::took(input.len() * input.len() / 100);
    let noticed = std::panic::catch_unwind(|| assert_linear("square", |size| vec![0; size], square));
    assert!(noticed.is_err());
    assert_linear("line", |size| vec![0; size], |input| work::took(3 * input.len()));
}
