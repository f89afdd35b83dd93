//! Compiles `proto/*.proto` (no `protoc` needed) and records the commit for `--version`.

use std::path::{Path, PathBuf};
use std::process::Command;

const PROTOS: [&str; 6] = [
    "proto/vehicle_data.proto",
    "proto/vehicle_alert.proto",
    "proto/vehicle_error.proto",
    "proto/vehicle_connectivity.proto",
    "proto/vehicle_metric.proto",
    "proto/webhook.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // Tests use the descriptors as a reflection oracle.
    std::fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;
    prost_build::Config::new().compile_fds(descriptors)?;
    for proto in PROTOS {
        println!("cargo::rerun-if-changed={proto}");
    }
    println!("cargo::rustc-env=FLEET_TELEMETRY_COMMIT={}", commit());
    Ok(())
}

/// The short commit, `unknown` outside a checkout; `SOURCE_COMMIT` wins (container builds have no `.git`).
fn commit() -> String {
    println!("cargo::rerun-if-env-changed=SOURCE_COMMIT");
    if let Ok(commit) = std::env::var("SOURCE_COMMIT") {
        return commit;
    }
    if Path::new(".git/HEAD").exists() {
        println!("cargo::rerun-if-changed=.git/HEAD");
    }
    Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}
