//! `fleet-telemetry init`: three answers become a configuration that `check` calls good.

mod answers;

use std::fs::OpenOptions;
use std::io::{self, BufRead, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::check::Report;
use super::{ConfigFile, EXIT_CONFIG, complain, say};

use answers::{Certificates, Consent, Destination};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleet-telemetry init                                         asks, and writes ./config.json
  fleet-telemetry --config /etc/fleet-telemetry/config.json init
  fleet-telemetry init --certificates /etc/letsencrypt/live/telemetry.example.com \\
      --records kafka://kafka-1:9092,kafka-2:9092 --location pass-all   asks nothing")]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// Folder with the server's certificate and key: fullchain.pem and privkey.pem, or tls.crt and tls.key.
    #[arg(long, value_name = "FOLDER")]
    certificates: Option<String>,
    /// Where records go: a file (SQLite), kafka://HOST:PORT, mqtt://HOST or mqtts://HOST, https://…
    #[arg(long, value_name = "WHERE")]
    records: Option<String>,
    /// What happens to vehicles' location: pass-all, or ask (withheld until the owner's grant is entered).
    #[arg(long, value_name = "pass-all|ask")]
    location: Option<String>,
    /// The port that vehicles connect to.
    #[arg(long, default_value_t = 443)]
    port: u16,
}

pub(super) fn run(args: &Args, file: &Path) -> ExitCode {
    match write(args, file, &mut io::stdin().lock()) {
        Ok(report) => {
            say(&report);
            ExitCode::SUCCESS
        }
        Err(Failure::Answer(text)) => {
            complain(&format!("error: {text}\n"));
            ExitCode::FAILURE
        }
        Err(Failure::Config(report)) => {
            complain(&format!("{report}error: nothing was written\n"));
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

enum Failure {
    /// No configuration could be made.
    Answer(String),
    /// One was made, and the server would not start with it: the report of `check`.
    Config(String),
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Answer(text)
    }
}

/// Asks for what the arguments do not say, writes the configuration and judges it; gone again if it is not good.
fn write(args: &Args, file: &Path, from: &mut impl BufRead) -> Result<String, Failure> {
    // Before the questions: nobody likes to answer for nothing.
    if file.exists() {
        return Err(Failure::Answer(format!("{} exists; --config names another file", file.display())));
    }
    let certificates: Certificates = answers::get("--certificates", args.certificates.as_deref(), from)?;
    let destination: Destination = answers::get("--records", args.records.as_deref(), from)?;
    let consent: Consent = answers::get("--location", args.location.as_deref(), from)?;
    let token = (consent == Consent::Ask).then(|| token_file(file)).transpose()?;
    let config = config(args.port, &certificates, &destination, token.as_deref());
    let text = serde_json::to_string_pretty(&config).expect("values only") + "\n";
    let written = token.iter().try_for_each(|token| create(token, &new_token()?));
    written.and_then(|()| create(file, &text))?;
    let report = Report::of(file);
    if report.is_bad() {
        for made in [Some(file), token.as_deref()].into_iter().flatten() {
            let _ = std::fs::remove_file(made);
        }
        return Err(Failure::Config(report.text()));
    }
    let token = token.map(|token| format!("wrote {}: the token of the permissions API\n", token.display()));
    Ok(format!("{}{}", token.unwrap_or_default(), report.text()))
}

fn config(port: u16, certificates: &Certificates, destination: &Destination, token: Option<&Path>) -> Value {
    let (name, section) = destination.section();
    let mut config = json!({
        "port": port,
        "status_host": "127.0.0.1",
        "status_port": 8080,
        "monitoring": { "prometheus_metrics_port": 9090 },
        "tls": { "server_cert": certificates.chain, "server_key": certificates.key },
        "records": { "V": [name], "alerts": [name], "errors": [name], "connectivity": [name] },
        name: section,
    });
    if name == "kafka" {
        config["namespace"] = json!("tesla_telemetry");
    }
    if let Some(token) = token {
        config["permissions"] = json!({
            "mode": "enforce",
            "store": { "sqlite": { "path": "permissions.db" } },
            "api": { "port": 8481, "token_file": token },
        });
    }
    config
}

/// Beside the configuration, wherever the server will be started.
fn token_file(config: &Path) -> Result<PathBuf, String> {
    let path = config.with_file_name("permissions.token");
    std::path::absolute(&path).map_err(|error| format!("{}: {error}", path.display()))
}

fn new_token() -> Result<String, String> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the system gives no random numbers".to_owned())?;
    Ok(HEXLOWER.encode(&bytes) + "\n")
}

/// Never over what is there. Readable by the group of the folder, which is the server's under systemd.
fn create(file: &Path, text: &str) -> Result<(), String> {
    let attempt = || {
        let mut open = OpenOptions::new().write(true).create_new(true).mode(0o640).open(file)?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Only root may, and for others the folder's group is mostly their own.
        let _ = std::os::unix::fs::fchown(&open, None, Some(folder.metadata()?.gid()));
        open.write_all(text.as_bytes())
    };
    attempt().map_err(|error: io::Error| format!("{}: {error}", file.display()))
}
