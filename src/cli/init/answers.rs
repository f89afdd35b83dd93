//! The questions, and what their answers mean.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::{Value, json};

use crate::cli::complain;

/// How often one question is asked.
const ATTEMPTS: usize = 3;

pub(super) trait Question: FromStr<Err = String> {
    const TEXT: &str;
    /// What an empty line means; none: an answer is needed.
    const DEFAULT: Option<&str>;
}

/// The value of `option`, or the answer of whoever sits at the terminal. What cannot be is asked again.
pub(super) fn get<Q: Question>(option: &str, given: Option<&str>, from: &mut impl BufRead) -> Result<Q, String> {
    if let Some(given) = given {
        return given.parse().map_err(|error| format!("{option}: {error}"));
    }
    for _ in 0..ATTEMPTS {
        let default = Q::DEFAULT.map(|default| format!(" [{default}]")).unwrap_or_default();
        complain(&format!("{}{default}: ", Q::TEXT));
        let mut line = String::new();
        let read = from.read_line(&mut line).map_err(|error| format!("stdin: {error}"))?;
        if read == 0 {
            complain("\n");
            return Err(format!("no answer; {option} gives it without a question"));
        }
        let answer = Some(line.trim()).filter(|answer| !answer.is_empty()).or(Q::DEFAULT);
        match answer.ok_or_else(|| "an answer is needed".to_owned()).and_then(str::parse) {
            Ok(answer) => return Ok(answer),
            Err(error) => complain(&format!("{error}\n")),
        }
    }
    Err(format!("{ATTEMPTS} answers that cannot be used; {option} gives it without a question"))
}

/// Chain and key of the server.
#[derive(Debug)]
pub(super) struct Certificates {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
}

impl Question for Certificates {
    const TEXT: &str = "Folder with the server's certificate and key";
    const DEFAULT: Option<&str> = None;
}

/// As certbot, Kubernetes and this project's own tools name them.
const NAMES: [(&str, &str); 3] =
    [("fullchain.pem", "privkey.pem"), ("tls.crt", "tls.key"), ("server.crt", "server.key")];

impl FromStr for Certificates {
    type Err = String;

    fn from_str(folder: &str) -> Result<Self, String> {
        let folder = std::path::absolute(folder).map_err(|error| format!("{folder}: {error}"))?;
        let found = NAMES.map(|(chain, key)| Self { chain: folder.join(chain), key: folder.join(key) });
        found.into_iter().find(|files| files.chain.is_file() && files.key.is_file()).ok_or_else(|| {
            let names = NAMES.map(|(chain, key)| format!("{chain} with {key}")).join(", nor ");
            format!("{}: has neither {names}, or they may not be read", folder.display())
        })
    }
}

/// Where records go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Destination {
    Sqlite(PathBuf),
    Kafka(String),
    Mqtt(String),
    Http(String),
}

impl Question for Destination {
    const TEXT: &str = "Where records go: a file (SQLite), kafka://HOST:PORT, mqtt://HOST or https://…";
    const DEFAULT: Option<&str> = Some("telemetry.db");
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            Some((_, "")) => Err(format!("{text}: names no host")),
            Some(("kafka", servers)) => Ok(Self::Kafka(servers.to_owned())),
            Some(("mqtt" | "mqtts", _)) => Ok(Self::Mqtt(text.to_owned())),
            Some(("http" | "https", _)) => Ok(Self::Http(text.to_owned())),
            Some((scheme, _)) => Err(format!("{scheme}:// is not known here; kafka, mqtt, mqtts, http, https are")),
            None => Ok(Self::Sqlite(Path::new(text).to_owned())),
        }
    }
}

impl Destination {
    /// The dispatcher's name, which is also that of its section, and the section.
    pub(super) fn section(&self) -> (&'static str, Value) {
        match self {
            Self::Sqlite(path) => ("sqlite", json!({ "path": path })),
            Self::Kafka(servers) => ("kafka", json!({ "bootstrap.servers": servers })),
            // With less, no broker confirms anything, and acks would promise nothing.
            Self::Mqtt(broker) => ("mqtt", json!({ "broker": broker, "topic_base": "telemetry", "qos": 1 })),
            Self::Http(url) => ("http", json!({ "url": url })),
        }
    }
}

/// What happens to vehicles' location.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Consent {
    /// All of it is passed on.
    PassAll,
    /// Only with the owner's grant.
    Ask,
}

impl Question for Consent {
    const TEXT: &str = "Location: pass-all, or ask (withheld until an owner's grant is entered)";
    // The default must not be what cannot be undone.
    const DEFAULT: Option<&str> = Some("ask");
}

impl FromStr for Consent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pass-all" => Ok(Self::PassAll),
            "ask" => Ok(Self::Ask),
            _ => Err(format!("{text}: neither pass-all nor ask")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_destinations_by_their_scheme() {
        for (text, expected) in [
            ("telemetry.db", Destination::Sqlite("telemetry.db".into())),
            ("/var/lib/a b.db", Destination::Sqlite("/var/lib/a b.db".into())),
            ("kafka://a:9092,b:9092", Destination::Kafka("a:9092,b:9092".to_owned())),
            ("mqtts://home", Destination::Mqtt("mqtts://home".to_owned())),
            ("https://example.com/t", Destination::Http("https://example.com/t".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(expected));
        }
        assert!("kafka://".parse::<Destination>().is_err());
        assert!("ftp://a".parse::<Destination>().unwrap_err().contains("ftp:// is not known"));
    }

    #[test]
    fn asks_again_and_then_gives_up() {
        let get = |mut lines: &[u8]| get::<Consent>("--location", None, &mut lines);
        assert_eq!(get(b"maybe\nask\n"), Ok(Consent::Ask));
        assert_eq!(get(b"\n"), Ok(Consent::Ask));
        assert!(get(b"a\nb\nc\npass-all\n").unwrap_err().contains("3 answers"));
        assert!(get(b"").unwrap_err().contains("--location gives it"));
    }
}
