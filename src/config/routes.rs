//! `records` and `reliable_ack_sources`: where each record type goes and when it is acked.

use strum::VariantArray;

use super::DispatcherName;
use super::error::{ConfigError, Problems};
use super::section::{Section, nearest};

/// Custom record types are numbered in 16 bits.
const MAX_RECORD_TYPES: usize = 65_535;

/// Made by the server itself; no vehicle waits for its ack.
const CONNECTIVITY: &str = "connectivity";

/// The keys about routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileRoutes {
    /// Record type to list of dispatcher names, in the order of the file.
    pub records: Vec<(String, Vec<String>)>,
    /// Record type to the one dispatcher that decides about its ack.
    pub reliable_ack_sources: Vec<(String, String)>,
    /// When a record without such a source is acked (ours): `on_delivery` or `on_receipt`.
    pub ack: Option<String>,
}

/// Where one record type goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The record type, as the envelope spells it.
    pub topic: String,
    /// In the order of the configuration, without repeats.
    pub dispatchers: Vec<DispatcherName>,
    /// When the vehicle is told.
    pub ack: AckRule,
    /// The dispatchers whose delivery that takes; none: it is acked when it is handed off.
    pub deciders: Vec<DispatcherName>,
}

/// When a record is acked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckRule {
    /// As soon as it is handed off (what the reference does without `reliable_ack_sources`).
    OnReceipt,
    /// When every durable dispatcher of its route has delivered it.
    AllDurable,
    /// When this one has delivered it (`reliable_ack_sources`).
    By(DispatcherName),
}

impl FileRoutes {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            records: section.map_of("records").unwrap_or_default(),
            reliable_ack_sources: section.map_of("reliable_ack_sources").unwrap_or_default(),
            ack: section.value("ack"),
        }
    }
}

/// `confirms`: a dispatcher that can, as it is configured, says when a record is safe.
pub(super) fn resolve(
    file: &FileRoutes,
    confirms: impl Fn(DispatcherName) -> bool,
    problems: &mut Problems,
) -> Vec<Route> {
    if file.records.is_empty() && !problems.blame("records") {
        problems.advise("records", "no record type is routed, so records are acked and dropped");
    }
    if file.records.len() > MAX_RECORD_TYPES {
        problems.out_of_range("records", file.records.len(), format!("at most {MAX_RECORD_TYPES} record types"));
    }
    let default = default_rule(file.ack.as_deref(), problems);
    let is_durable = |name: DispatcherName| name.is_durable() && confirms(name);
    for (record, dispatcher) in &file.reliable_ack_sources {
        if let Err(error) = check_source(record, dispatcher, &file.records) {
            problems.error(error);
        }
    }
    let source = |record: &str| {
        let (_, dispatcher) = file.reliable_ack_sources.iter().find(|(source, _)| source == record)?;
        DispatcherName::parse(dispatcher)
    };
    not_built(&file.records, problems);
    file.records
        .iter()
        .map(|(record, names)| {
            let dispatchers = dispatchers(record, names, problems);
            let ack = source(record).map_or_else(
                || {
                    let keeps = dispatchers.iter().any(|name| is_durable(*name));
                    rule(record, &dispatchers, keeps, default, problems)
                },
                AckRule::By,
            );
            let deciders = dispatchers.iter().copied().filter(|name| match ack {
                AckRule::OnReceipt => false,
                AckRule::AllDurable => is_durable(*name),
                AckRule::By(decider) => *name == decider,
            });
            Route { topic: record.clone(), deciders: deciders.collect(), dispatchers, ack }
        })
        .collect()
}

fn default_rule(ack: Option<&str>, problems: &mut Problems) -> AckRule {
    match ack {
        None | Some("on_delivery") => AckRule::AllDurable,
        Some("on_receipt") => AckRule::OnReceipt,
        Some(other) => {
            problems.not_allowed("ack", other, "on_delivery, on_receipt");
            AckRule::AllDurable
        }
    }
}

/// The reference server's rules in its order.
fn check_source(record: &str, dispatcher: &str, records: &[(String, Vec<String>)]) -> Result<(), ConfigError> {
    let logger = DispatcherName::Logger.label();
    let (record_owned, dispatcher_owned) = (record.to_owned(), dispatcher.to_owned());
    if record == CONNECTIVITY {
        return Err(ConfigError::AckForConnectivity);
    }
    if dispatcher == logger {
        return Err(ConfigError::AckByLogger { record: record_owned });
    }
    let Some((_, names)) = records.iter().find(|(routed, _)| routed == record) else {
        return Err(ConfigError::AckWithoutRoute { record: record_owned, dispatcher: dispatcher_owned });
    };
    let valid: Vec<_> = names.iter().map(String::as_str).filter(|name| *name != logger).collect();
    if valid.contains(&dispatcher) {
        return Ok(());
    }
    Err(ConfigError::AckByStranger { record: record_owned, dispatcher: dispatcher_owned, valid: valid.join(" ") })
}

fn dispatchers(record: &str, names: &[String], problems: &mut Problems) -> Vec<DispatcherName> {
    if names.is_empty() {
        problems.error(ConfigError::NoDispatchers { record: record.to_owned() });
    }
    let mut dispatchers = Vec::with_capacity(names.len());
    for name in names {
        match DispatcherName::parse(name) {
            None => problems.not_allowed(format!("records.{record}"), name, suggest(name)),
            Some(dispatcher) if dispatchers.contains(&dispatcher) => {
                problems.advise(format!("records.{record}"), format!("\"{name}\" is listed twice; it is used once"));
            }
            Some(dispatcher) => {
                dispatchers.push(dispatcher);
            }
        }
    }
    dispatchers
}

/// Each dispatcher that this build does not have is reported once.
fn not_built(records: &[(String, Vec<String>)], problems: &mut Problems) {
    let missing = DispatcherName::VARIANTS.iter().copied().filter(|dispatcher| !dispatcher.is_built());
    for dispatcher in missing {
        let uses = |(_, names): &&(String, Vec<String>)| names.iter().any(|name| name == dispatcher.label());
        let records: Vec<_> = records.iter().filter(uses).map(|(record, _)| record.clone()).collect();
        if !records.is_empty() {
            problems.error(ConfigError::NotBuilt { records, dispatcher, built: built() });
        }
    }
}

/// The allowed names, and the one that was probably meant.
fn suggest(name: &str) -> String {
    let labels = DispatcherName::VARIANTS.iter().copied().map(DispatcherName::label).collect::<Vec<_>>();
    let hint = nearest(name, &labels).map(|label| format!(" (did you mean \"{label}\"?)")).unwrap_or_default();
    labels.join(", ") + &hint
}

fn built() -> String {
    let names = DispatcherName::VARIANTS.iter().copied().filter(|dispatcher| dispatcher.is_built());
    names.map(DispatcherName::label).collect::<Vec<_>>().join(", ")
}

/// `keeps`: one of `dispatchers` says when a record is safe.
fn rule(
    record: &str,
    dispatchers: &[DispatcherName],
    keeps: bool,
    default: AckRule,
    problems: &mut Problems,
) -> AckRule {
    if default == AckRule::OnReceipt || keeps {
        return default;
    }
    if record == CONNECTIVITY || dispatchers.iter().all(|name| !name.is_built()) {
        return AckRule::OnReceipt;
    }
    let key = format!("records.{record}");
    if dispatchers == [DispatcherName::Logger] {
        // A line that was not written is not delivered, even if nothing promises that it stays.
        problems
            .advise(key, "acked when logger has delivered, which keeps no records: a crash may lose what was acked");
        return AckRule::By(DispatcherName::Logger);
    }
    problems.advise(key, "acked on receipt: none of its dispatchers keeps records, so nothing resends what they lose");
    AckRule::OnReceipt
}
