//! What goes where, in which form and under which name, and when it is acked.

use std::fmt;

use serde::Serialize;

use crate::config::{AckRule, Config, DispatcherName, Form, Route};

/// One record type.
#[derive(Serialize)]
pub(super) struct Line {
    record: String,
    dispatchers: Vec<Way>,
    acked: String,
}

#[derive(Serialize)]
struct Way {
    dispatcher: &'static str,
    /// What it is called there; `None` where the dispatcher has no such names.
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    /// Of payloads; `None` where the dispatcher writes in a form of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    form: Option<&'static str>,
}

pub(super) fn lines(config: &Config) -> Vec<Line> {
    config.routes.iter().map(|route| Line::of(route, config)).collect()
}

impl Line {
    fn of(route: &Route, config: &Config) -> Self {
        let acked = match route.ack {
            AckRule::OnReceipt => "on receipt".to_owned(),
            AckRule::AllDurable => "when every durable dispatcher has delivered".to_owned(),
            AckRule::By(dispatcher) => format!("when {dispatcher} has delivered"),
        };
        let dispatchers = route.dispatchers.iter().map(|name| Way::of(*name, &route.topic, config)).collect();
        Self { record: route.topic.clone(), dispatchers, acked }
    }
}

impl Way {
    fn of(name: DispatcherName, record: &str, config: &Config) -> Self {
        let has_topics = name == DispatcherName::Kafka;
        let form = match config.dispatchers.target(name).form {
            Form::Protobuf => "protobuf",
            Form::Json => "json",
        };
        Self {
            dispatcher: name.label(),
            topic: has_topics.then(|| format!("{}_{record}", config.dispatchers.namespace)),
            form: has_topics.then_some(form),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ways: Vec<_> = self.dispatchers.iter().map(ToString::to_string).collect();
        write!(f, "{} -> {}; acked {}", self.record, ways.join(", "), self.acked)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.dispatcher)?;
        if let Some(topic) = &self.topic {
            write!(f, " topic {topic}")?;
        }
        if let Some(form) = self.form {
            write!(f, " ({form})")?;
        }
        Ok(())
    }
}
