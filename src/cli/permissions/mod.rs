//! `fleet-telemetry permissions`: grants, over the admin API of a running server.
//!
//! Exits with 0, with 1 when the server refuses, with 2 when the command itself is wrong, and with 69 when
//! there is no server to talk to.

mod client;
mod connection;
mod report;
mod transfer;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use self::client::{Answer, Client, ClientError};
use self::connection::Connection;
use super::{complain, say};

/// The server refuses.
const EXIT_REFUSED: u8 = 1;
/// The command line, or a file that it names, is wrong.
const EXIT_USAGE: u8 = 2;
/// There is nobody to talk to (`EX_UNAVAILABLE`).
const EXIT_UNREACHABLE: u8 = 69;

const EXAMPLES: &str = "\
Examples:
  fleet-telemetry permissions grant 5YJ3E1EA1KF000001 --source 'owner consent'
  fleet-telemetry permissions revoke 5YJ3E1EA1KF000001
  fleet-telemetry permissions show 5YJ3E1EA1KF000001
  fleet-telemetry permissions export --format csv --output grants.csv

Exit codes: 0 done, 1 refused by the server, 2 wrong usage, 69 no server reached";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,

    /// Print the server's JSON instead of text.
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The owner has consented.
    Grant {
        #[command(flatten)]
        entry: EntryArgs,
        /// Until when, exclusive, RFC 3339 [default: until it is changed].
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
    },
    /// The owner has refused, or taken it back.
    Revoke(EntryArgs),
    /// What is known of one vehicle, and whether its data may be read now.
    Show {
        /// The vehicle.
        vin: String,
    },
    /// All vehicles that have an entry.
    List {
        /// Only vehicles behind this VIN.
        #[arg(long, value_name = "VIN")]
        after: Option<String>,
        /// At most so many vehicles [default: all].
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Set all entries of a permissions file, or none.
    Import(transfer::ImportArgs),
    /// Write all entries as a permissions file.
    Export(transfer::ExportArgs),
    /// What has changed for one vehicle, newest first.
    History {
        /// The vehicle.
        vin: String,
        /// At most so many changes [default: 100].
        #[arg(long, value_name = "COUNT")]
        limit: Option<u64>,
    },
}

#[derive(Debug, clap::Args)]
struct EntryArgs {
    /// The vehicle.
    vin: String,
    /// What of its data.
    #[arg(long, default_value = "vehicle_location")]
    scope: String,
    /// From when, RFC 3339 [default: now].
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Who said so.
    #[arg(long, value_name = "TEXT", default_value = "")]
    source: String,
    /// Anything else.
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    /// Only if the entry is at this version; 0: only if there is none.
    #[arg(long, value_name = "VERSION")]
    expected_version: Option<u64>,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// What the user has said cannot be done.
    #[error("{0}")]
    Usage(String),
    /// There is nobody to talk to, or nobody that speaks as the API does.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The server has said no; its own words.
    #[error("{}", report::refusal(_0))]
    Refused(Value),
}

/// `config`: the option as it stood before the subcommand.
pub(super) fn run(args: &Args, config: Option<PathBuf>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(execute(args, config)),
        Err(error) => Err(Failure::Usage(format!("the system refuses the resources to start: {error}"))),
    };
    match outcome {
        Ok(text) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(failure) => fail(&failure, args.json),
    }
}

fn fail(failure: &Failure, json: bool) -> ExitCode {
    if let (Failure::Refused(body), true) = (failure, json) {
        say(&pretty(body));
    } else {
        complain(&format!("error: {failure}\n"));
    }
    ExitCode::from(match failure {
        Failure::Usage(_) => EXIT_USAGE,
        Failure::Client(_) => EXIT_UNREACHABLE,
        Failure::Refused(_) => EXIT_REFUSED,
    })
}

/// What is to be printed.
async fn execute(args: &Args, config: Option<PathBuf>) -> Result<String, Failure> {
    let client = args.connection.client(config)?;
    let show = |body: Value, text: fn(&Value) -> String| if args.json { pretty(&body) } else { text(&body) };
    Ok(match &args.command {
        Command::Grant { entry, expires } => {
            show(put(&client, entry, "granted", expires.as_deref()).await?, report::changed)
        }
        Command::Revoke(entry) => show(put(&client, entry, "denied", None).await?, report::changed),
        Command::Show { vin } => {
            let path = vehicle(vin);
            let body =
                json!({"vehicle": get(&client, &path).await?, "access": get(&client, &(path + "/access")).await?});
            show(body, report::vehicle)
        }
        Command::List { after, limit } => show(list(&client, after.clone(), *limit).await?, report::vehicles),
        Command::Import(import) => show(transfer::import(&client, import).await?, report::imported),
        Command::Export(export) => transfer::export(&client, export).await?,
        Command::History { vin, limit } => {
            let limit = limit.map(|limit| format!("?limit={limit}")).unwrap_or_default();
            show(get(&client, &format!("{}/history{limit}", vehicle(vin))).await?, report::history)
        }
    })
}

async fn put(client: &Client, entry: &EntryArgs, state: &str, expires: Option<&str>) -> Result<Value, Failure> {
    let mut body = Map::new();
    body.insert("state".to_owned(), state.into());
    body.insert("source".to_owned(), entry.source.as_str().into());
    body.insert("note".to_owned(), entry.note.as_str().into());
    body.insert("since".to_owned(), entry.since.as_deref().into());
    body.insert("expires".to_owned(), expires.into());
    body.insert("expected_version".to_owned(), entry.expected_version.into());
    let path = format!("{}/scopes/{}", vehicle(&entry.vin), encode(&entry.scope));
    accepted(client.ask("PUT", &path, Some("application/json"), Value::Object(body).to_string()).await?)
}

async fn get(client: &Client, path: &str) -> Result<Value, Failure> {
    accepted(client.ask("GET", path, None, String::new()).await?)
}

/// All pages as one.
async fn list(client: &Client, mut after: Option<String>, limit: Option<u64>) -> Result<Value, Failure> {
    /// The longest page that the API gives.
    const PAGE: usize = 1000;
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut vehicles = Vec::new();
    loop {
        let mut path = format!("/v1/vehicles?limit={}", (limit - vehicles.len()).min(PAGE));
        if let Some(after) = &after {
            path += &format!("&after={}", encode(after));
        }
        let mut page = get(client, &path).await?;
        if let Some(Value::Array(more)) = page.get_mut("vehicles").map(Value::take) {
            vehicles.extend(more);
        }
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() || vehicles.len() >= limit {
            return Ok(json!({"vehicles": vehicles, "next": after}));
        }
    }
}

/// The body of an answer that is not a refusal.
fn accepted(answer: Answer) -> Result<Value, Failure> {
    let body = answer.json()?;
    if answer.status == 200 { Ok(body) } else { Err(Failure::Refused(body)) }
}

fn vehicle(vin: &str) -> String {
    format!("/v1/vehicles/{}", encode(vin))
}

/// For a segment of a path, or the value of a parameter.
fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            out += &format!("%{byte:02X}");
        }
        out
    })
}

fn pretty(body: &Value) -> String {
    format!("{body:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_cannot_carry_is_encoded() {
        assert_eq!(encode("5YJ-._~a"), "5YJ-._~a");
        assert_eq!(encode("a/b?c d%é"), "a%2Fb%3Fc%20d%25%C3%A9");
    }
}
