//! `fleet-telemetry health`: whether a server is ready, for container engines that ask by a command.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::{complain, say};
use crate::config::{self, Env};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Host and port of its status or metrics port. Without it, the status port of the configuration on this machine.
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// Ask whether it lives instead of whether it is ready.
    #[arg(long)]
    live: bool,
    /// Seconds to wait for an answer.
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    timeout: u64,
}

pub(super) fn run(args: &Args, config: PathBuf) -> ExitCode {
    let answer = address(args, &config).and_then(|address| {
        let path = if args.live { "/livez" } else { "/readyz" };
        ask(&address, path, Duration::from_secs(args.timeout.max(1))).map_err(|error| format!("{address}: {error}"))
    });
    match answer {
        Ok((200, body)) => {
            say(&format!("{}\n", body.trim_end()));
            ExitCode::SUCCESS
        }
        Ok((status, body)) => {
            complain(&format!("{status}: {}\n", body.trim_end()));
            ExitCode::FAILURE
        }
        Err(error) => {
            complain(&format!("error: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn address(args: &Args, config: &std::path::Path) -> Result<String, String> {
    if let Some(address) = &args.address {
        return Ok(address.clone());
    }
    let (config, _) = config::load(config, &Env::of_process()).map_err(|error| error.to_string())?;
    let port = config.admin.status.or(config.admin.metrics).map(|address| address.port());
    let port = port.ok_or("the configuration has neither status_port nor monitoring.prometheus_metrics_port")?;
    Ok(format!("localhost:{port}"))
}

/// Status and body.
fn ask(address: &str, path: &str, timeout: Duration) -> Result<(u16, String), String> {
    let words = |error: std::io::Error| error.to_string();
    let mut last = "no such host".to_owned();
    for socket in address.to_socket_addrs().map_err(words)? {
        match TcpStream::connect_timeout(&socket, timeout) {
            Err(error) => last = error.to_string(),
            Ok(mut stream) => {
                stream.set_read_timeout(Some(timeout)).map_err(words)?;
                let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
                stream.write_all(request.as_bytes()).map_err(words)?;
                let mut answer = Vec::new();
                stream.take(64 * 1024).read_to_end(&mut answer).map_err(words)?;
                return parse(&String::from_utf8_lossy(&answer)).ok_or_else(|| "no HTTP answer".to_owned());
            }
        }
    }
    Err(last)
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        assert_eq!(parse("HTTP/1.1 503 no\r\na: b\r\n\r\nloading\n"), Some((503, "loading\n".to_owned())));
        assert_eq!(parse("SSH-2.0-OpenSSH"), None);
    }
}
