//! Who allowed what: the owners' grants, where they are kept, and how they change.
//!
//! ```text
//!  store (file, SQLite, Kafka) ──▶ Ledger ──▶ the snapshot that the filter reads (`crate::permissions`)
//!        ▲
//!        └── Authority ◀── admin API, command line (grant, revoke, import)
//! ```
//!
//! `store` is where grants live, `api` is how they are changed, `document` how many of them are written down.
//! `authority` is the one writer: it decides about changes (`change`), has the store keep them, and puts them in force
//! through `ledger`, which also withholds everything when the store is lost for too long. `audit` puts every change on
//! record.

pub mod api;
pub mod audit;
pub mod authority;
mod change;
pub mod clock;
pub mod document;
mod ledger;
mod store;
mod written;

pub use authority::Authority;
pub use change::{Actor, Change, ChangeError, Changed, Entry, ImportError, Imported, Invalid};
pub use ledger::{Health, Page};
pub use store::error::{OpenError, StoreError};

/// What can be told without opening anything of why the section could not be used.
pub(crate) fn problems(section: &crate::config::Permissions) -> Vec<String> {
    let store = store::problem(&section.store).map(|problem| problem.to_string());
    let api = section.api.iter().flat_map(api::Auth::problems).map(|problem| problem.to_string());
    api.chain(store).collect()
}
