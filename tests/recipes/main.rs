//! The recipes of `deploy/` and `examples/`, followed: each is run as it stands, but for names and ports.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::path::{Path, PathBuf};

mod consumers;
mod home;
mod packages;

#[path = "../support/mod.rs"]
mod support;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A recipe's text, with each of these pieces replaced; one that is not there as often as it says is a changed recipe.
fn adapted(path: &str, replacements: &[(&str, usize, &str)]) -> String {
    let mut text = std::fs::read_to_string(root(path)).unwrap();
    for (from, count, to) in replacements {
        assert_eq!(text.matches(from).count(), *count, "{from} in {path}");
        text = text.replace(from, to);
    }
    text
}
