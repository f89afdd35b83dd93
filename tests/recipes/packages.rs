//! The packages, of the binary that the tests were built with.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::root;

const BINARY: &str = env!("CARGO_BIN_EXE_fleet-telemetry");

/// What a program says.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// The .deb and the .rpm.
fn make() -> (PathBuf, PathBuf) {
    let made = said(root("scripts/packages").to_str().unwrap(), &[BINARY]);
    let named = |end: &str| root("dist/packages").join(made.lines().find(|name| name.ends_with(end)).unwrap());
    (named(".deb"), named(".rpm"))
}

/// Everything under a folder that is no folder, as absolute paths there.
fn files(folder: &Path) -> BTreeSet<String> {
    let found = said("find", &[folder.to_str().unwrap(), "!", "-type", "d"]);
    found.lines().map(|path| path.strip_prefix(folder.to_str().unwrap()).unwrap().to_owned()).collect()
}

#[test]
fn both_hold_a_program_that_runs_its_unit_and_its_manual_and_are_the_same_each_time() {
    let (deb, rpm) = make();
    let first = [&deb, &rpm].map(|package| std::fs::read(package).unwrap());
    let folder = tempfile::tempdir().unwrap();
    said("dpkg-deb", &["--extract", deb.to_str().unwrap(), folder.path().to_str().unwrap()]);

    let program = folder.path().join("usr/bin/fleet-telemetry");
    assert_eq!(said(program.to_str().unwrap(), &["--version"]), said(BINARY, &["--version"]));
    let deb_files = files(folder.path());
    // Of the unit alone: what it wants besides is not in the package, and `kill` comes from one that it depends on.
    std::fs::create_dir(folder.path().join("bin")).unwrap();
    std::fs::copy("/bin/sh", folder.path().join("bin/kill")).unwrap();
    let verify = format!("--root={}", folder.path().display());
    said("systemd-analyze", &["verify", &verify, "--man=no", "--recursive-errors=no", "fleet-telemetry.service"]);
    for file in
        ["man/man1/fleet-telemetry.1.gz", "man/man1/fleet-telemetry-check.1.gz", "doc/fleet-telemetry/copyright"]
    {
        assert!(deb_files.contains(&format!("/usr/share/{file}")), "{file}: {deb_files:#?}");
    }

    let listed = said("rpm", &["-qpl", rpm.to_str().unwrap()]);
    // Each system has its own folder for completions of zsh.
    let zsh = |file: &str| file.replace("/zsh/vendor-completions/", "/zsh/site-functions/");
    let rpm_files: BTreeSet<String> = listed.lines().map(str::to_owned).collect();
    assert_eq!(rpm_files, deb_files.iter().map(|file| zsh(file)).collect());
    let scripts = said("rpm", &["-qp", "--scripts", rpm.to_str().unwrap()]);
    assert!(scripts.contains("systemd-sysusers fleet-telemetry.conf"), "{scripts}");

    let (deb, rpm) = make();
    assert!([&deb, &rpm].map(|package| std::fs::read(package).unwrap()) == first, "made again, they are others");
}
