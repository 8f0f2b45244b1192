//! Can a bucket keep versions, and does it have any?

use std::sync::atomic::AtomicBool;

use crate::store::disk::Bucket;
use crate::store::disk::stage::Temporary;
use crate::store::error::{Result, StoreError};
use crate::store::listing::walk;
use crate::store::objects::versions::{VERSIONS, apart, histories_of};
use crate::sys::{self, Errno};

/// Tries what an overwrite does, between the bucket's directory and ours. A directory further below can still be apart: then a change in
/// there is refused (`HistoryApart`).
pub fn can_keep_versions(bucket: Bucket<'_>) -> Result<()> {
    let (disk, facts) = (bucket.disk, bucket.disk.facts());
    let directory = bucket.open_directory()?;
    if !facts.exchange || !facts.links {
        return Err(StoreError::HistoryApart);
    }
    let staging = disk.staging()?;
    let (there, here) = (Temporary::new(&staging), Temporary::new(&staging));
    for temporary in [&there, &here] {
        sys::path::create_new(temporary.directory(), temporary.name(), 0o600, false)?;
    }
    // No key's name.
    let name = [b".sluice%t.", there.name()].concat();
    disk.rename_new(there.directory(), there.name(), &directory, &name).map_err(apart)?;
    let exchanged = sys::path::exchange(here.directory(), here.name(), &directory, &name);
    sys::path::unlink(&directory, &name)?;
    exchanged.map_err(apart)
}

/// Whether any key of the bucket has a history.
pub(super) fn has_history(bucket: Bucket<'_>, stop: &AtomicBool) -> Result<bool> {
    let Some(rules) = bucket.rules() else { return Ok(false) };
    match histories_of(bucket.disk, &rules)? {
        Some(histories) => Ok(!walk::is_empty(&histories, bucket.disk.reading(), stop)?),
        None => Ok(false),
    }
}

/// Removes what is left of a bucket that is gone: a directory with nothing in it.
pub(super) fn forget_history(bucket: Bucket<'_>) {
    let (Some(rules), Some(own)) = (bucket.rules(), bucket.disk.own_if_any()) else { return };
    let path = [VERSIONS, b"/", rules.bucket_id.as_bytes()].concat();
    match sys::path::rmdir(&own.directory, &path) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => tracing::warn!(%errno, bucket_id = %rules.bucket_id, "what is left of a bucket's versions stays"),
    }
}
