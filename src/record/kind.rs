//! Record types and the table of topics that a configuration knows.

use std::sync::Arc;

/// The type of a record, resolved once from the envelope's topic.
///
/// Everything that is kept per record type (routes, metric handles, topic names of a dispatcher) is a
/// table indexed by [`RecordKind::index`], so labels come from a closed set and the hot path does no
/// map look-ups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// Topic `V`: vehicle data.
    V,
    /// Topic `alerts`.
    Alerts,
    /// Topic `errors`.
    Errors,
    /// Topic `connectivity`: made by this server.
    Connectivity,
    /// A topic that only the configuration's `records` names; its payload is opaque.
    Custom(u16),
    /// A topic that nobody configured.
    Other,
}

impl RecordKind {
    /// Position in a table of [`Topics::len`] entries.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::V => 0,
            Self::Alerts => 1,
            Self::Errors => 2,
            Self::Connectivity => 3,
            Self::Other => 4,
            Self::Custom(n) => FIXED.len() + usize::from(n),
        }
    }

    /// Whether the payload is a message that this server decodes.
    #[must_use]
    pub fn is_known(self) -> bool {
        matches!(self, Self::V | Self::Alerts | Self::Errors | Self::Connectivity)
    }
}

const FIXED: [(RecordKind, &str); 5] = [
    (RecordKind::V, "V"),
    (RecordKind::Alerts, "alerts"),
    (RecordKind::Errors, "errors"),
    (RecordKind::Connectivity, "connectivity"),
    (RecordKind::Other, "other"),
];

/// Every topic that the process has a name for: the four known ones, `other`, and the custom ones of
/// the configuration. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Topics {
    custom: Arc<[Box<str>]>,
}

impl Topics {
    /// `configured` are the keys of the configuration's `records`; known topics among them are fine.
    ///
    /// # Panics
    /// With more than 65,536 custom topics; the configuration's resolver refuses that many.
    #[must_use]
    pub fn new<'a>(configured: impl IntoIterator<Item = &'a str>) -> Self {
        let custom: Arc<[Box<str>]> = configured
            .into_iter()
            .filter(|name| !FIXED.iter().any(|(kind, fixed)| fixed == name && *kind != RecordKind::Other))
            .map(Box::from)
            .collect();
        assert!(custom.len() <= usize::from(u16::MAX), "at most 65,535 custom topics");
        Self { custom }
    }

    /// The kind of a topic, by its exact bytes (case-sensitive). Unknown topics are [`RecordKind::Other`].
    #[must_use]
    pub fn kind(&self, topic: &[u8]) -> RecordKind {
        match topic {
            b"V" => RecordKind::V,
            b"alerts" => RecordKind::Alerts,
            b"errors" => RecordKind::Errors,
            b"connectivity" => RecordKind::Connectivity,
            _ => self
                .custom
                .iter()
                .position(|name| name.as_bytes() == topic)
                .and_then(|n| u16::try_from(n).ok())
                .map_or(RecordKind::Other, RecordKind::Custom),
        }
    }

    /// The topic's name as the envelope spells it; `other` for [`RecordKind::Other`].
    #[must_use]
    pub fn name(&self, kind: RecordKind) -> &str {
        match kind {
            RecordKind::Custom(n) => &self.custom[usize::from(n)],
            fixed => FIXED[fixed.index()].1,
        }
    }

    /// Entries of a table indexed by [`RecordKind::index`].
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        FIXED.len() + self.custom.len()
    }

    /// All kinds in table order.
    pub fn kinds(&self) -> impl Iterator<Item = RecordKind> + '_ {
        let custom = (0..self.custom.len()).map(|n| RecordKind::Custom(u16::try_from(n).expect("checked in new")));
        FIXED.iter().map(|(kind, _)| *kind).chain(custom)
    }

    /// Builds a table with one entry per kind, in table order.
    pub fn table<T>(&self, mut entry: impl FnMut(RecordKind, &str) -> T) -> Box<[T]> {
        self.kinds().map(|kind| entry(kind, self.name(kind))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_known_custom_and_unknown_topics() {
        let topics = Topics::new(["V", "custom", "other"]);
        assert_eq!(topics.kind(b"V"), RecordKind::V);
        assert_eq!(topics.kind(b"v"), RecordKind::Other);
        assert_eq!(topics.kind(b"custom"), RecordKind::Custom(0));
        assert_eq!(topics.kind(b"other"), RecordKind::Custom(1));
        assert_eq!(topics.kind(b"\xff"), RecordKind::Other);
        assert_eq!(topics.name(RecordKind::Custom(0)), "custom");
        assert_eq!(topics.len(), 7);
    }

    #[test]
    fn tables_are_in_index_order() {
        let topics = Topics::new(["a", "b"]);
        let table = topics.table(|kind, _| kind);
        for kind in topics.kinds() {
            assert_eq!(table[kind.index()], kind);
        }
        assert_eq!(table.len(), topics.len());
    }
}
