//! Removing one version for good.

use super::commit;
use super::delete::Deleted;
use super::versions::{Intent, Removal, Step};
use super::write::Condition;
use crate::base::version_id::Version;
use crate::limits::PUBLISH_ATTEMPTS_MAX;
use crate::store::disk::stage::Staged;
use crate::store::disk::{Bucket, tree};
use crate::store::error::{Result, StoreError};
use crate::store::names::key;

impl Bucket<'_> {
    /// Removes one version for good, and restores the one before it if it was the current one. One that is not there is fine, as in S3.
    pub fn delete_version(&self, key: &[u8], version: Version, condition: Option<&Condition>) -> Result<Deleted> {
        delete_version(*self, key, version, condition)
    }
}

fn delete_version(bucket: Bucket<'_>, key: &[u8], version: Version, condition: Option<&Condition>) -> Result<Deleted> {
    let disk = bucket.disk;
    if !disk.takes_changes() {
        return Err(StoreError::VolumeFailed);
    }
    let location = key::locate(key)?;
    let (mut is_restored, mut note) = (false, None);
    for _ in 0..PUBLISH_ATTEMPTS_MAX {
        let guard = bucket.lock(key);
        let Some(rules) = bucket.rules() else {
            drop(guard);
            return without_history(bucket, key, version, condition);
        };
        let removal = Removal::begin(rules, bucket, &location)?;
        if !is_restored {
            check(bucket, key, version, condition)?;
        }
        let step = removal.step(version)?;
        drop(guard);
        match step {
            Step::Again => {}
            Step::Restore(staged, intent) => {
                settle(note.take());
                note = restore(bucket, key, staged, intent)?;
                is_restored = true;
            }
            Step::Nothing if !is_restored => {
                if !bucket.exists()? {
                    return Err(bucket.disk.missing_bucket());
                }
                return Ok(Deleted { ticket: bucket.disk.barrier().observed(), version: Some(version), is_marker: false });
            }
            // The implied marker is gone with what was restored.
            Step::Nothing => {
                settle(note);
                return Ok(Deleted { ticket: bucket.disk.barrier().published(), version: Some(version), is_marker: true });
            }
            Step::Done { is_marker, below } => {
                settle(note);
                tree::prune(bucket, &below)?;
                return Ok(Deleted { ticket: bucket.disk.barrier().published(), version: Some(version), is_marker });
            }
        }
    }
    Err(StoreError::Contended)
}

/// What then is noted: that the delete marker beside it has to go.
fn restore(bucket: Bucket<'_>, key: &[u8], staged: Staged, intent: Option<Intent>) -> Result<Option<Intent>> {
    let restored = commit::restore(bucket, key, staged);
    match restored {
        Ok(()) => Ok(intent),
        Err(error) => {
            settle(intent);
            Err(error)
        }
    }
}

fn settle(intent: Option<Intent>) {
    if let Some(intent) = intent {
        intent.is_settled();
    }
}

/// In a bucket that never kept versions there is `null` alone.
fn without_history(bucket: Bucket<'_>, key: &[u8], version: Version, condition: Option<&Condition>) -> Result<Deleted> {
    match version {
        Version::Null => bucket.delete(key, condition),
        Version::Id(_) if !bucket.exists()? => Err(bucket.disk.missing_bucket()),
        Version::Id(_) => Ok(Deleted { ticket: bucket.disk.barrier().observed(), version: Some(version), is_marker: false }),
    }
}

/// The precondition is about the version that is to be removed.
fn check(bucket: Bucket<'_>, key: &[u8], version: Version, condition: Option<&Condition>) -> Result<()> {
    let Some(condition) = condition else { return Ok(()) };
    match bucket.open_version(key, Some(version)) {
        Ok(found) if condition(Some(&found.object.state)) => Ok(()),
        Ok(_) | Err(StoreError::DeleteMarker(_)) => Err(StoreError::PreconditionFailed { was_there: true }),
        Err(error) => Err(error),
    }
}
