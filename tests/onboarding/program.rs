//! The program as an operator runs it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// What it printed, which must be all right.
    pub(crate) fn good(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self.stdout
    }
}

/// The server's program, in `dir`.
pub(crate) fn run(dir: &Path, arguments: &[&str]) -> Run {
    run_with(dir, env!("CARGO_BIN_EXE_fleet-telemetry"), arguments, "")
}

/// Any program, with `input`.
pub(crate) fn run_with(dir: &Path, program: &str, arguments: &[&str], input: &str) -> Run {
    let mut command = Command::new(program);
    command.current_dir(dir).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that has ended does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}
