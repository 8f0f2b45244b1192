//! What was an object before? In buckets that keep versions: what an overwrite or a DELETE takes from its name goes into the key's
//! history, under a name that says which version it is, and is read, listed, restored and removed there.

mod change;
mod history;
mod intent;
mod list;
mod open;
mod probe;
mod remove;
#[cfg(test)]
mod tests;

pub use list::{Entry, Page, Query, list};
pub use open::{Found, open};
pub use probe::can_be_kept;
pub use remove::{Deleted, delete_version};

pub(super) use change::Change;
pub(super) use intent::settle;
pub(super) use probe::{are_there, forget};

use crate::base::version_id::Version;

/// A delete marker: the version that says that the object is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    pub version: Version,
    /// When the object was deleted.
    pub mtime_ns: i64,
    /// It is what the key is now.
    pub is_current: bool,
}
