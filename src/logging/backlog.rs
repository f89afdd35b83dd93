//! Lines that wait to be written, and what becomes of each; no locks, no threads.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Called once with what became of a line, on the thread that writes or gives up.
pub type Then = Box<dyn FnOnce(Result<(), Unwritten>) + Send>;

/// Why a line was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwritten {
    /// The system refuses.
    #[error("stderr: {0}")]
    Refused(String),
    /// The system takes it, and nobody can read it.
    #[error("stderr leads to /dev/null")]
    Nowhere,
    /// The process ends, or its owner has withdrawn it.
    #[error("given up before it was written")]
    GivenUp,
}

/// What may wait at the same time. The same again is reserved for audit lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) lines: usize,
    pub(super) bytes: usize,
}

/// What a line is, and so what becomes of it when it cannot be written.
pub(super) enum Kind {
    /// Dropped and counted.
    Ordinary,
    /// Kept and tried again until it is written, in order. Whoever makes one has asked for room first.
    Audit,
    /// Somebody waits for it, bounds how many there are, and is told.
    Record(Then),
}

/// A kind by itself, for counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Ordinary,
    Audit,
    Record,
}

/// Lines that nobody will read, since the last line that said so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) lines: u64,
    pub(super) records: u64,
    pub(super) audit: u64,
}

/// The writer's next work.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Write it.
    Line(String),
    /// Say so.
    Notice(Missing),
    /// Closed, and nothing left that could be written.
    Closed,
}

/// What follows from an attempt at a line.
pub(super) enum After {
    Nothing,
    /// An ordinary line is missing now.
    Dropped,
    /// One more audit line is written.
    Audited,
    /// Whoever waits for it has to be told.
    Tell(Then),
}

/// Everything that was handed over and has not been written.
#[derive(Default)]
pub(super) struct Backlog {
    pub(super) waiting: VecDeque<Line>,
    /// Audit lines that could not be written.
    kept: VecDeque<Line>,
    pub(super) in_hand: Option<InHand>,
    pub(super) ordinary: Used,
    pub(super) audit: Used,
    pub(super) records: Used,
    pub(super) missing: Missing,
    /// What the system said to the last attempt.
    pub(super) failing: Option<String>,
    /// From when on what is kept and what is missing are tried; `None`: at once.
    pub(super) retry_at: Option<Instant>,
}

pub(super) struct Line {
    text: String,
    kind: Kind,
}

/// What the writer is at. The text is with the writer; the rest stays here, so that a close can settle it even while
/// the writer is stuck.
pub(super) struct InHand {
    pub(super) since: Instant,
    what: What,
}

enum What {
    Line {
        /// `None`: withdrawn.
        kind: Option<Kind>,
        class: Class,
        bytes: usize,
    },
    Notice(Missing),
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    pub(super) lines: usize,
    pub(super) bytes: usize,
}

/// Between two attempts after a failure, and between two lines that say how many are missing.
const RETRY: Duration = Duration::from_secs(1);

impl Backlog {
    /// Takes a line over, whatever waits already.
    pub(super) fn add(&mut self, text: String, kind: Kind) {
        self.used(kind.class()).add(text.capacity());
        self.waiting.push_back(Line { text, kind });
    }

    /// What to write next; `None`: nothing now.
    pub(super) fn take(&mut self, now: Instant) -> Option<Next> {
        if self.retry_at.is_none_or(|at| now >= at) {
            if let Some(line) = self.kept.pop_front() {
                return Some(self.hand(line, now));
            }
            if self.missing != Missing::default() {
                self.in_hand = Some(InHand { since: now, what: What::Notice(self.missing) });
                return Some(Next::Notice(self.missing));
            }
        }
        while let Some(line) = self.waiting.pop_front() {
            // Behind those that came before it.
            if line.kind.class() == Class::Audit && !self.kept.is_empty() {
                self.kept.push_back(line);
                continue;
            }
            return Some(self.hand(line, now));
        }
        None
    }

    fn hand(&mut self, Line { text, kind }: Line, now: Instant) -> Next {
        let (class, bytes) = (kind.class(), text.capacity());
        self.in_hand = Some(InHand { since: now, what: What::Line { kind: Some(kind), class, bytes } });
        Next::Line(text)
    }

    /// The writer has tried what it had in hand.
    pub(super) fn tried(&mut self, text: String, result: &Result<(), String>, now: Instant) -> After {
        let Some(InHand { what, .. }) = self.in_hand.take() else { return After::Nothing };
        match result {
            Ok(()) if matches!(what, What::Notice(_)) => self.retry_at = Some(now + RETRY),
            Ok(()) if self.failing.is_some() => self.retry_at = None,
            Ok(()) => {}
            Err(_) => self.retry_at = Some(now + RETRY),
        }
        self.failing = result.as_ref().err().cloned();
        match what {
            What::Line { kind, class, bytes } => self.line_tried(text, kind, (class, bytes), result.is_ok()),
            What::Notice(said) => {
                if result.is_ok() {
                    self.missing.subtract(said);
                }
                After::Nothing
            }
        }
    }

    fn line_tried(&mut self, text: String, kind: Option<Kind>, (class, bytes): (Class, usize), ok: bool) -> After {
        if class == Class::Audit && !ok {
            self.kept.push_front(Line { text, kind: Kind::Audit });
            return After::Nothing;
        }
        self.used(class).subtract(bytes);
        if !ok {
            self.missing.count(class);
        }
        match kind {
            Some(Kind::Ordinary) if !ok => After::Dropped,
            Some(Kind::Audit) => After::Audited,
            Some(Kind::Record(then)) => After::Tell(then),
            Some(Kind::Ordinary) | None => After::Nothing,
        }
    }

    /// Those who wait for lines of records. These are not written any more, but for the one in hand perhaps.
    pub(super) fn withdraw_records(&mut self) -> Vec<Then> {
        let mut withdrawn = Vec::new();
        if let Some(InHand { what: What::Line { kind: kind @ Some(Kind::Record(_)), .. }, .. }) = &mut self.in_hand
            && let Some(Kind::Record(then)) = kind.take()
        {
            withdrawn.push(then);
        }
        for line in std::mem::take(&mut self.waiting) {
            match line.kind {
                Kind::Record(then) => {
                    self.records.subtract(line.text.capacity());
                    withdrawn.push(then);
                }
                kind => self.waiting.push_back(Line { text: line.text, kind }),
            }
        }
        withdrawn
    }

    /// Forgets what waits: how many lines.
    pub(super) fn clear(&mut self) -> usize {
        let left = self.waiting.len() + self.kept.len() + usize::from(self.in_hand.is_some());
        self.waiting.clear();
        self.kept.clear();
        left
    }

    /// Something has to be tried again although nothing new comes.
    pub(super) fn has_arrears(&self) -> bool {
        !self.kept.is_empty() || self.missing != Missing::default()
    }

    /// All that can be written now is written.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_hand.is_none() && (self.failing.is_some() || !self.has_arrears())
    }

    fn used(&mut self, class: Class) -> &mut Used {
        match class {
            Class::Ordinary => &mut self.ordinary,
            Class::Audit => &mut self.audit,
            Class::Record => &mut self.records,
        }
    }
}

impl Used {
    pub(super) fn has_room(self, bytes: usize, bounds: Bounds) -> bool {
        self.lines < bounds.lines && self.bytes.saturating_add(bytes) <= bounds.bytes
    }

    fn add(&mut self, bytes: usize) {
        self.lines += 1;
        self.bytes += bytes;
    }

    fn subtract(&mut self, bytes: usize) {
        self.lines -= 1;
        self.bytes -= bytes;
    }
}

impl Kind {
    pub(super) fn class(&self) -> Class {
        match self {
            Self::Ordinary => Class::Ordinary,
            Self::Audit => Class::Audit,
            Self::Record(_) => Class::Record,
        }
    }
}

impl Missing {
    pub(super) fn count(&mut self, class: Class) {
        match class {
            Class::Ordinary => self.lines += 1,
            Class::Audit => self.audit += 1,
            Class::Record => self.records += 1,
        }
    }

    fn subtract(&mut self, said: Self) {
        self.lines -= said.lines;
        self.records -= said.records;
        self.audit -= said.audit;
    }
}
