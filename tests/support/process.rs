//! Signals to processes.

use std::fmt::Display;
use std::process::{Command, Stdio};

/// Sends the signal `name` ("TERM", …). By the shell, whose `kill` is always there; the program may not be.
pub(crate) fn signal(pid: impl Display, name: &str) {
    let mut kill = Command::new("sh");
    kill.args(["-c", "kill -s \"$0\" \"$1\"", name, &pid.to_string()]);
    let output = kill.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "SIG{name} to {pid}: {}", String::from_utf8_lossy(&output.stderr));
}
