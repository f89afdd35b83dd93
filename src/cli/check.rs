//! `fleet-telemetry check`: every problem that can be found without starting.

mod certificates;
mod routes;

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::findings::Findings;
use super::{ConfigFile, EXIT_CONFIG, say};
use crate::config::{self, Config, Env};
use crate::preflight;
use crate::tls::certificate;

use certificates::Dates;
use routes::Line;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// One JSON object instead of lines for people.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(file: &Path, json: bool) -> ExitCode {
    let report = Report::of(file);
    say(&if json { report.json() } else { report.text() });
    if report.is_bad() { ExitCode::from(EXIT_CONFIG) } else { ExitCode::SUCCESS }
}

/// What `check` says.
#[derive(Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    findings: Findings,
    verdict: Verdict,
    /// Empty when the verdict is bad.
    routes: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// The server starts, as far as is told without connecting.
    Good,
    /// It starts, and nobody can connect: certificates are not valid today.
    GoodButNotToday,
    /// It does not start.
    Bad,
}

impl Report {
    pub(super) fn of(file: &Path) -> Self {
        let (config, problems) = match config::load_with_mistakes(file, &Env::of_process()) {
            Ok(read) => read,
            Err(error) => return Self { findings: Findings::of(&error), verdict: Verdict::Bad, routes: Vec::new() },
        };
        let mut findings = Findings::about(file);
        findings.errors.extend(problems.errors.iter().map(ToString::to_string));
        findings.warnings.extend(problems.warnings.iter().map(ToString::to_string));
        let judgement =
            if findings.errors.is_empty() { preflight::judge(&config) } else { preflight::judge_certificates(&config) };
        findings.errors.extend(judgement.errors);
        findings.warnings.extend(judgement.warnings);
        findings.warnings.extend(advice(&config, &Env::of_process()));
        let dates = certificates::judge(&config, certificate::now(), &mut findings);
        let verdict = match dates {
            _ if !findings.errors.is_empty() => Verdict::Bad,
            Dates::Good => Verdict::Good,
            Dates::Bad => Verdict::GoodButNotToday,
        };
        let routes = if verdict == Verdict::Bad { Vec::new() } else { routes::lines(&config) };
        Self { findings, verdict, routes }
    }

    /// The server would not start.
    pub(super) fn is_bad(&self) -> bool {
        self.verdict == Verdict::Bad
    }

    pub(super) fn text(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Bad => return self.findings.report(),
            Verdict::Good => "good",
            Verdict::GoodButNotToday => "good, BUT NOT TODAY: certificates are not valid, see the warnings",
        };
        let Findings { file, certificates, .. } = &self.findings;
        let certificates: String = certificates.iter().map(|line| format!("  {line}\n")).collect();
        let routes: String = self.routes.iter().map(|line| format!("  {line}\n")).collect();
        format!("{}{file}: {verdict}\n{certificates}{routes}", self.findings.report())
    }

    fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("texts only") + "\n"
    }
}

/// What is valid, and not what is meant where this process runs.
fn advice(config: &Config, env: &Env) -> Option<String> {
    let is_in_container = env.var("KUBERNETES_SERVICE_HOST").is_some()
        || ["/.dockerenv", "/run/.containerenv"].iter().any(|file| Path::new(file).exists());
    let metrics = config.admin.metrics.as_ref()?;
    (is_in_container && metrics.ip().is_loopback()).then(|| {
        format!(
            "monitoring.prometheus_metrics_host: {} is this container alone, so nobody can scrape; write \"0.0.0.0\"",
            metrics.ip()
        )
    })
}
