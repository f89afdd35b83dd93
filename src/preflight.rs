//! What can be told of a configuration beyond its text, without binding, connecting or writing anything: whether the
//! files and folders that it names can be used, and what librdkafka has against its section.
//!
//! Each part of the server judges what it would use itself. `check` and the start both ask here, so that neither says
//! good to what the other refuses.

use crate::config::{Config, DispatcherName, Start};
use crate::dispatch;
use crate::grants;
use crate::listener;
use crate::onboarding;
use crate::tls::Tls;

/// What was found, each with its key.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    /// What ends the start with 64.
    pub(crate) errors: Vec<String>,
    /// What does not.
    pub(crate) warnings: Vec<String>,
}

/// Looks at all that `config` names.
pub(crate) fn judge(config: &Config) -> Judgement {
    let mut judgement = judge_certificates(config);
    if let Some(section) = &config.permissions {
        judgement.errors.extend(grants::problems(section));
    }
    if let Some(section) = &config.onboarding {
        judgement.errors.extend(onboarding::problems(section, &config.listener.tls));
        let telemetry = section.telemetry.as_ref().map(|telemetry| onboarding::judged(section, telemetry));
        judgement.warnings.extend(telemetry.into_iter().flat_map(|found| found.warnings));
    }
    for (name, problem) in dispatch::problems(&config.dispatchers) {
        judgement.add(name, problem, config);
    }
    judgement
}

/// Looks at the certificates of the vehicles' port alone. For a configuration with mistakes elsewhere, too: what it does
/// not name is left out.
pub(crate) fn judge_certificates(config: &Config) -> Judgement {
    let files = listener::tls::of(&config.listener.tls);
    let is_named = |file: &crate::tls::File| !file.path.as_os_str().is_empty();
    if !is_named(&files.cert) || !is_named(&files.key) {
        return Judgement::default();
    }
    let errors = Tls::problems(&files).iter().map(ToString::to_string).collect();
    Judgement { errors, warnings: Tls::advice(&files) }
}

impl Judgement {
    fn add(&mut self, name: DispatcherName, problem: String, config: &Config) {
        match config.dispatchers.target(name).start {
            Start::Required => self.errors.push(problem),
            Start::Retry => self.warnings.push(format!("{problem}; the server starts, and goes on trying")),
        }
    }
}
