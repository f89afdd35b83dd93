//! `import` and `export`.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::Value;

use super::client::Client;
use super::{Failure, accepted};

#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// The permissions file; `-` is standard input.
    file: PathBuf,
    /// Its form [default: by its extension].
    #[arg(long)]
    format: Option<Format>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// The form [default: by the extension of the output, or json].
    #[arg(long)]
    format: Option<Format>,
    /// Where to [default: standard output].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Json,
    Csv,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?;
        if extension.eq_ignore_ascii_case("json") {
            Some(Self::Json)
        } else if extension.eq_ignore_ascii_case("csv") {
            Some(Self::Csv)
        } else {
            None
        }
    }
}

pub(super) async fn import(client: &Client, args: &ImportArgs) -> Result<Value, Failure> {
    let unknown = || Failure::Usage(format!("{}: is it JSON or CSV? Give --format", args.file.display()));
    let content_type = match args.format.or_else(|| Format::of(&args.file)).ok_or_else(unknown)? {
        Format::Json => "application/json",
        Format::Csv => "text/csv",
    };
    let mut bytes = Vec::new();
    let read = if args.file.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(&args.file).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure::Usage(format!("{}: {error}", args.file.display())))?;
    accepted(client.ask("POST", "/v1/import", Some(content_type), bytes).await?)
}

/// The document, or, when it goes to a file, nothing.
pub(super) async fn export(client: &Client, args: &ExportArgs) -> Result<String, Failure> {
    let format = args.format.or_else(|| Format::of(args.output.as_deref()?)).unwrap_or(Format::Json);
    let path = match format {
        Format::Json => "/v1/export?format=json",
        Format::Csv => "/v1/export?format=csv",
    };
    let answer = client.ask("GET", path, None, String::new()).await?;
    if answer.status != 200 {
        return Err(Failure::Refused(answer.json()?));
    }
    let Some(output) = &args.output else { return Ok(String::from_utf8_lossy(&answer.body).into_owned()) };
    match std::fs::write(output, &answer.body) {
        Ok(()) => Ok(String::new()),
        Err(error) => Err(Failure::Usage(format!("{}: {error}", output.display()))),
    }
}
