//! What is published: everything about an object but its bytes, and the precondition under which it may take its name.

use super::open::State;
use crate::base::version_id::Version;
use crate::store::disk::Bucket;
use crate::store::disk::barrier::Ticket;
use crate::store::disk::displace::Takes;
use crate::store::disk::spot::Spot;
use crate::store::disk::staging::Identity;
use crate::store::disk::tree::Parents;
use crate::store::error::{Result, StoreError};
use crate::store::names::key::Location;
use crate::store::names::record::Record;
use crate::sys::FileKind;

/// Decides, under the key's lock, whether a change may happen, by what is there now (`None`: nothing).
pub type Condition = Box<dyn Fn(Option<&State>) -> bool + Send>;

/// An object to be published, or to replace the one that is there.
pub struct Write {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: Vec<u8>,
    /// Everything to be remembered; size and mtime are filled in when it is published.
    pub record: Record,
    /// The precondition, if there is one.
    pub condition: Option<Condition>,
}

/// A published object.
#[derive(Debug, Clone)]
pub struct Published {
    /// What to wait for before it is acknowledged.
    pub ticket: Ticket,
    /// Its record, complete.
    pub record: Record,
    /// Which version it is; `None` in a bucket that never kept any.
    pub version: Option<Version>,
}

/// Where a file is published, and on which condition.
#[derive(Clone, Copy)]
pub(in crate::store) struct Target<'a> {
    pub(in crate::store) bucket: Bucket<'a>,
    pub(in crate::store) key: &'a [u8],
    pub(in crate::store) location: &'a Location,
    pub(in crate::store) condition: Option<&'a Condition>,
}

impl Target<'_> {
    /// Whether an object of this size is a record on a directory and no file.
    pub(in crate::store) fn is_bare_directory(&self, size: u64) -> bool {
        self.location.is_directory_object && size == 0
    }

    /// What is there now meets the precondition. Answers what the name may then be taken from.
    pub(in crate::store) fn check(&self) -> Result<Takes> {
        let Some(condition) = self.condition else { return Ok(Takes::AnyFile) };
        let now = current(self.bucket, self.key)?;
        if condition(now.as_ref()) {
            Ok(decided_for(now.as_ref()))
        } else {
            Err(StoreError::PreconditionFailed { was_there: now.is_some() })
        }
    }

    /// `name` in the directory of the key's own name.
    pub(super) fn inside<'a>(&'a self, parents: &'a Parents, name: &'a [u8]) -> Spot<'a> {
        Spot { directory: &parents.directory, top: self.bucket.name, folder: &self.location.path, name }
    }
}

/// What may be taken away on a precondition that was decided for this.
pub(super) fn decided_for(now: Option<&State>) -> Takes {
    match now {
        Some(state) if state.stat.kind == FileKind::Regular => Takes::Only(Identity::of(&state.stat)),
        // An object that is a record on a directory has no file.
        _ => Takes::Nothing,
    }
}

/// What is at a key now, for a precondition.
pub(super) fn current(bucket: Bucket<'_>, key: &[u8]) -> Result<Option<State>> {
    match bucket.open(key) {
        Ok(object) => Ok(Some(object.state)),
        Err(StoreError::NoObject) => Ok(None),
        Err(error) => Err(error),
    }
}
