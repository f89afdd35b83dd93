//! The routing table: a slot per record type.

use crate::dispatch::Route;
use crate::record::{RecordKind, Topics};

/// Routes by record type.
#[derive(Debug)]
pub struct Routes(Box<[Option<Route>]>);

impl Routes {
    /// A table over `topics`; types that `routes` does not name go nowhere.
    #[must_use]
    pub fn new<'a>(topics: &Topics, routes: impl IntoIterator<Item = (&'a str, Route)>) -> Self {
        let mut table: Box<[Option<Route>]> = topics.table(|_, _| None);
        for (topic, route) in routes {
            table[topics.kind(topic.as_bytes()).index()] = Some(route);
        }
        Self(table)
    }

    /// Where records of a type go.
    #[must_use]
    pub fn get(&self, kind: RecordKind) -> Option<&Route> {
        self.0[kind.index()].as_ref()
    }
}
