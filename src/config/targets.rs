//! What is configured in the same way for every dispatcher: its form in the file, its typed form, and the way between.
//!
//! | key in the dispatcher's section | |
//! |---|---|
//! | `when_full` | what happens to a record for which there is no room: `wait` or `drop` |
//! | `start` | what happens when it cannot be reached at the start: `required` or `retry` |

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

/// How a dispatcher is treated, whatever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Where the ack depends on no dispatcher. Elsewhere those that it depends on wait, and the others drop.
    pub when_full: WhenFull,
    /// At the start.
    pub start: Start,
}

impl FileTarget {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self { when_full: section.value("when_full"), start: section.value("start") }
    }
}

/// Judges what the sections of `dispatchers` (each with the path of its section) say, against the routes.
pub(super) fn resolve<'a>(
    sections: impl IntoIterator<Item = (DispatcherName, &'static str, &'a FileTarget)>,
    routes: &[Route],
    problems: &mut Problems,
) -> BTreeMap<DispatcherName, Target> {
    let resolve = |(name, section, file): (_, _, &FileTarget)| (name, target(name, section, file, routes, problems));
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
    Target { when_full, start }
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
