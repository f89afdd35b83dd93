//! A file, JSON or CSV, that people, configuration management or the API write.
//!
//! It is looked at four times a second by device, inode, size and times of what the path leads to, so that edits
//! in place, renames over it and Kubernetes' symbolic links are all noticed. It is read whole and parsed whole
//! before anything changes; a file that cannot be read or has a mistake changes nothing and is complained about.
//!
//! A change by the API rewrites it: a new file beside it, synced, renamed over it. Where that is not possible (a
//! symbolic link, a directory that may not be written), the store is read-only.
//!
//! The file has no versions: they count from 1 when the process starts.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::error::{OpenError, StoreError};
use super::recent::Recent;
use crate::grants::change::{self, Actor, Change, ChangeError, Entry, ImportError, Invalid, Planned};
use crate::grants::clock::now_ms;
use crate::grants::document::{self, DocumentError, Format, Row};
use crate::grants::ledger::Ledger;
use crate::permissions::{Grant, Grants, State};
use crate::scope::Scope;

/// The store.
pub(in crate::grants) struct File {
    path: PathBuf,
    format: Format,
    ledger: Arc<Ledger>,
    /// Held while the file is read or written and the ledger follows; only by threads that may block.
    state: Mutex<Contents>,
}

/// What the file held when it was last read or written without a mistake.
#[derive(Default)]
struct Contents {
    /// Of the file as it was last looked at, good or bad.
    stamp: Option<Stamp>,
    /// What is wrong with it.
    problem: Option<String>,
    /// In the order of the file.
    order: Vec<(Arc<str>, Scope)>,
    grants: Grants,
    /// Versions of entries that are gone, so that they go on when the entry comes back.
    gone: HashMap<(Arc<str>, Scope), u64>,
    recent: Recent,
}

/// One grant of the file; its version does not matter.
struct Written {
    vin: Arc<str>,
    scope: Scope,
    grant: Grant,
}

/// Tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self {
            file: (file.dev(), file.ino()),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// A file that changes within this time is still being written.
const SETTLE: Duration = Duration::from_millis(50);

/// Why the file could not be read.
pub(super) fn problem(path: &Path) -> Option<OpenError> {
    let said = match fs::read(path) {
        Ok(bytes) => Format::of(path).parse(&bytes).and_then(check).err()?.to_string(),
        Err(error) => error.to_string(),
    };
    Some(OpenError::Misconfigured(format!("{path:?}: {said}")))
}

impl File {
    /// Reads the file and starts watching it.
    pub(super) fn open(path: PathBuf, ledger: Arc<Ledger>) -> Result<Arc<Self>, OpenError> {
        let format = Format::of(&path);
        let file = Self { path, format, ledger, state: Mutex::default() };
        file.first_read(&mut file.state())?;
        let file = Arc::new(file);
        let watched = Arc::downgrade(&file);
        std::thread::Builder::new()
            .name("permissions".to_owned())
            .spawn(move || watch(&watched))
            .map_err(|error| OpenError::Unavailable(format!("cannot start its thread: {error}")))?;
        Ok(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn commit(&self, changes: &[Change]) -> Result<Vec<Planned>, ImportError> {
        let mut state = self.state();
        self.refresh(&mut state);
        if let Some(problem) = state.problem.clone() {
            return Err(ImportError::of_store(StoreError::BadFile { path: self.path.clone(), problem }));
        }
        let planned = change::plan(changes, now_ms(), |vin, scope| Ok(state.grants.get(vin, scope).cloned()))?;
        if planned.iter().any(|plan| plan.changed) {
            self.write(&mut state, &planned).map_err(|error| ImportError { row: 0, error })?;
        }
        self.ledger.enforce(&planned);
        Ok(planned)
    }

    pub(super) fn history(&self, vin: &str, limit: usize) -> Vec<Entry> {
        self.state().recent.of(vin, limit)
    }

    fn first_read(&self, state: &mut Contents) -> Result<(), OpenError> {
        let (stamp, written) = self.read().map_err(|problem| OpenError::Misconfigured(self.naming(&problem)))?;
        state.stamp = Some(stamp);
        self.adopt(state, written);
        self.ledger.load(state.grants.clone());
        self.ledger.confirm();
        Ok(())
    }

    /// Reads the file again if it has changed since the last look.
    fn refresh(&self, state: &mut Contents) {
        let stamp = match fs::metadata(&self.path) {
            Ok(file) => Some(Stamp::of(&file)),
            Err(error) => {
                state.problem = Some(error.to_string());
                None
            }
        };
        if stamp.is_some() && stamp != state.stamp {
            match self.read() {
                Ok((stamp, written)) => {
                    (state.stamp, state.problem) = (Some(stamp), None);
                    self.follow(state, written);
                }
                Err(problem) => (state.stamp, state.problem) = (stamp, Some(problem)),
            }
        } else if stamp.is_none() {
            state.stamp = None;
        }
        match &state.problem {
            None => self.ledger.confirm(),
            Some(problem) => self.ledger.trouble(self.naming(problem)),
        }
    }

    /// The whole file, at a time when nobody was writing it.
    fn read(&self) -> Result<(Stamp, Vec<Written>), String> {
        let said = |error: io::Error| error.to_string();
        let before = Stamp::of(&fs::metadata(&self.path).map_err(said)?);
        std::thread::sleep(SETTLE);
        let bytes = fs::read(&self.path).map_err(said)?;
        let after = Stamp::of(&fs::metadata(&self.path).map_err(said)?);
        if before != after {
            return Err("it is being written".to_owned());
        }
        let written = self.format.parse(&bytes).and_then(check).map_err(|error| error.to_string())?;
        Ok((after, written))
    }

    /// Takes over what somebody else has written, and announces what that changes.
    fn follow(&self, state: &mut Contents, written: Vec<Written>) {
        let changes = self.adopt(state, written);
        self.ledger.apply(
            changes
                .iter()
                .map(|(vin, entry, removed)| (vin.as_ref(), entry.scope, (!removed).then(|| entry.grant.clone()))),
        );
        for (vin, entry, removed) in &changes {
            self.ledger.announce_read(vin, entry, *removed);
        }
    }

    /// What has changed, and whether by removal.
    fn adopt(&self, state: &mut Contents, written: Vec<Written>) -> Vec<(Arc<str>, Entry, bool)> {
        let actor = Actor { who: "file".to_owned(), from: self.path.display().to_string() };
        let at_ms = now_ms();
        let before = state.grants.clone();
        let mut after = Grants::default();
        let mut changes = Vec::new();
        state.order.clear();
        for Written { vin, scope, grant } in written {
            let (grant, changed) = state.versioned(before.get(&vin, scope), &vin, scope, grant);
            after.set(&vin, scope, grant.clone());
            if changed {
                let entry = Entry { at_ms, scope, grant, actor: actor.clone() };
                changes.push((Arc::clone(&vin), entry, false));
            }
            state.order.push((vin, scope));
        }
        for (vin, scope, grant) in before.iter().filter(|(vin, scope, _)| after.get(vin, *scope).is_none()) {
            state.gone.insert((Arc::clone(vin), scope), grant.version);
            let note = "no longer in the file".to_owned();
            let grant = Grant { state: State::Denied, since_ms: at_ms, expires_ms: None, note, ..grant.clone() };
            changes.push((Arc::clone(vin), Entry { at_ms, scope, grant, actor: actor.clone() }, true));
        }
        for (vin, entry, _) in &changes {
            state.recent.push(vin, entry.clone());
        }
        state.grants = after;
        changes
    }

    /// Rewrites the file with `planned` in it.
    fn write(&self, state: &mut Contents, planned: &[Planned]) -> Result<(), ChangeError> {
        let mut grants = state.grants.clone();
        let mut order = state.order.clone();
        for plan in planned.iter().filter(|plan| plan.changed) {
            if grants.set(&plan.vin, plan.entry.scope, plan.entry.grant.clone()).is_none() {
                order.push((plan.vin.as_str().into(), plan.entry.scope));
            }
        }
        let row = |(vin, scope): &(Arc<str>, Scope)| Some(Row::of(vin, *scope, grants.get(vin, *scope)?));
        let stamp = self.replace(&self.format.render(order.iter().filter_map(row)))?;
        (state.grants, state.order, state.stamp) = (grants, order, Some(stamp));
        for plan in planned.iter().filter(|plan| plan.changed) {
            state.recent.push(&plan.vin, plan.entry.clone());
        }
        Ok(())
    }

    /// A new file in place of the old one: after a crash there is one of the two, whole.
    fn replace(&self, text: &str) -> Result<Stamp, ChangeError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ChangeError::ReadOnly,
            _ => StoreError::Io { path: self.path.clone(), source }.into(),
        };
        let old = fs::symlink_metadata(&self.path).map_err(failed)?;
        if old.is_symlink() || old.permissions().readonly() {
            return Err(ChangeError::ReadOnly);
        }
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let new = self.path.with_file_name(name);
        let written = (|| {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&new)?;
            file.set_permissions(old.permissions())?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
            fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
            fs::metadata(&self.path).map(|file| Stamp::of(&file))
        })();
        written.map_err(|error| {
            // Of no use to anybody; if it cannot be removed, the next change writes over it.
            let _ = fs::remove_file(&new);
            failed(error)
        })
    }

    fn naming(&self, problem: &str) -> String {
        format!("{:?}: {problem}", self.path)
    }

    fn state(&self) -> MutexGuard<'_, Contents> {
        self.state.lock()
    }
}

impl Contents {
    /// `written` with its version, and whether it differs from `before`.
    fn versioned(&mut self, before: Option<&Grant>, vin: &Arc<str>, scope: Scope, written: Grant) -> (Grant, bool) {
        match before {
            Some(before) if before.says_the_same(&written) => (before.clone(), false),
            Some(before) => (Grant { version: before.version + 1, ..written }, true),
            None => {
                let gone = self.gone.remove(&(Arc::clone(vin), scope)).unwrap_or(0);
                (Grant { version: gone + 1, ..written }, true)
            }
        }
    }
}

/// As for an import, but every row must say since when.
fn check(rows: Vec<Row>) -> Result<Vec<Written>, DocumentError> {
    let now_ms = now_ms();
    let checked = |(n, change): (usize, Change)| {
        let written = written(change, now_ms);
        written.map_err(|invalid| DocumentError::from(invalid).in_row(n))
    };
    document::changes(rows, &Actor::default())?.into_iter().enumerate().map(checked).collect()
}

fn written(change: Change, now_ms: i64) -> Result<Written, Invalid> {
    let missing = || Invalid::new("since", "", "is missing; a file has no other time from which a grant could hold");
    let since_ms = change.since_ms.ok_or_else(missing)?;
    change.check(since_ms, now_ms)?;
    let Change { vin, scope, state, expires_ms, source, note, .. } = change;
    Ok(Written { vin: vin.into(), scope, grant: Grant { state, since_ms, expires_ms, source, note, version: 0 } })
}

fn watch(file: &Weak<File>) {
    loop {
        std::thread::sleep(LOOK);
        let Some(file) = file.upgrade() else { return };
        file.refresh(&mut file.state());
    }
}
