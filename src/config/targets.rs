//! What is configured in the same way for every dispatcher: its form in the file, its typed form, and the way between.
//!
//! | key in the dispatcher's section | |
//! |---|---|
//! | `when_full` | what happens to a record for which there is no room: `wait` or `drop` |
//! | `start` | what happens when it cannot be reached at the start: `required` or `retry` |
//! | `form` | in which form payloads go out, where there is a choice: `protobuf` or `json` |

use std::collections::BTreeMap;

use super::error::{ConfigError, Problems};
use super::section::Section;
use super::{DispatcherName, Route};

/// One dispatcher's keys, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileTarget {
    /// `wait` or `drop`.
    pub when_full: Option<String>,
    /// `required` or `retry`.
    pub start: Option<String>,
    /// `protobuf` or `json`.
    pub form: Option<String>,
}

/// What happens to a record for which a dispatcher has no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The vehicle is not read from any more until there is room.
    #[default]
    Wait,
    /// This dispatcher does not get it; counted. Never where the ack depends on it.
    Drop,
}

/// What happens when a dispatcher cannot be reached at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The server does not start.
    #[default]
    Required,
    /// The server starts; the dispatcher is full until it is up.
    Retry,
}

/// In which form payloads go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Protobuf, as vehicles send them.
    #[default]
    Protobuf,
    /// Proto3 JSON.
    Json,
}

/// How a dispatcher is treated, whatever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Where the ack depends on no dispatcher. Elsewhere those that it depends on wait, and the others drop.
    pub when_full: WhenFull,
    /// At the start.
    pub start: Start,
    /// Of its payloads; what the dispatcher writes by itself (rows, log lines) has no other.
    pub form: Form,
}

impl FileTarget {
    /// For a dispatcher with a form of its own.
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self { when_full: section.value("when_full"), start: section.value("start"), form: None }
    }

    /// For one that sends payloads.
    pub(super) fn read_with_form(section: &mut Section<'_>) -> Self {
        Self { form: section.value("form"), ..Self::read(section) }
    }
}

/// Judges what the sections of dispatchers (each with its path) say, against the routes. `transmit_decoded_records` is the
/// form of those that say nothing about it.
pub(super) fn resolve<'a>(
    sections: impl IntoIterator<Item = (DispatcherName, &'static str, &'a FileTarget)>,
    routes: &[Route],
    transmit_decoded_records: bool,
    problems: &mut Problems,
) -> BTreeMap<DispatcherName, Target> {
    let resolve = |(name, section, file): (_, _, &FileTarget)| {
        let form = form(section, file, transmit_decoded_records, problems);
        (name, Target { form, ..target(name, section, file, routes, problems) })
    };
    sections.into_iter().map(resolve).collect()
}

fn target(
    name: DispatcherName,
    section: &'static str,
    file: &FileTarget,
    routes: &[Route],
    problems: &mut Problems,
) -> Target {
    let when_full = match file.when_full.as_deref() {
        None => WhenFull::default(),
        Some("wait") => {
            forbid(name, section, routes, problems, "wait", |route| {
                !route.deciders.is_empty() && !route.deciders.contains(&name)
            });
            WhenFull::Wait
        }
        Some("drop") => {
            forbid(name, section, routes, problems, "drop", |route| route.deciders.contains(&name));
            WhenFull::Drop
        }
        Some(other) => {
            problems.not_allowed(format!("{section}.when_full"), other, "wait, drop");
            WhenFull::default()
        }
    };
    let start = match file.start.as_deref() {
        None | Some("required") => Start::Required,
        Some("retry") => Start::Retry,
        Some(other) => {
            problems.not_allowed(format!("{section}.start"), other, "required, retry");
            Start::Required
        }
    };
    Target { when_full, start, form: Form::default() }
}

fn form(section: &'static str, file: &FileTarget, transmit_decoded_records: bool, problems: &mut Problems) -> Form {
    match file.form.as_deref() {
        None if transmit_decoded_records => Form::Json,
        None | Some("protobuf") => Form::Protobuf,
        Some("json") => Form::Json,
        Some(other) => {
            problems.not_allowed(format!("{section}.form"), other, "protobuf, json");
            Form::Protobuf
        }
    }
}

/// Reports the first route on which `value` would break a promise.
fn forbid(
    name: DispatcherName,
    section: &'static str,
    routes: &[Route],
    problems: &mut Problems,
    value: &str,
    breaks: impl Fn(&Route) -> bool,
) {
    let uses = |route: &&Route| route.dispatchers.contains(&name) && breaks(route);
    let Some(route) = routes.iter().find(uses) else { return };
    let topic = &route.topic;
    let why = match value {
        "drop" => format!("the acks of records.{topic} depend on {name}, so it cannot drop any of them; leave it out"),
        // The logger cannot be named as the one that decides.
        _ if name == DispatcherName::Logger => {
            format!("the acks of records.{topic} do not depend on {name}, so it must not delay them; leave it out")
        }
        _ => format!(
            "the acks of records.{topic} do not depend on {name}, so it must not delay them; leave it out, or name \
             {name} in reliable_ack_sources.{topic}"
        ),
    };
    problems.error(ConfigError::Policy { key: format!("{section}.when_full"), value: value.to_owned(), why });
}
