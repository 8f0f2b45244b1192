//! Can a bucket keep versions, and does it have any?

use std::sync::atomic::AtomicBool;

use super::super::rules::BucketRules;
use super::super::stage::Temporary;
use super::super::volume::Volume;
use super::super::{Result, StoreError, bucket, walk};
use super::change::apart;
use super::history;
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno};

/// Tries what an overwrite does, between the bucket's directory and ours. A directory further below can still be apart: then a change in
/// there is refused (`HistoryApart`).
pub fn can_be_kept(volume: &Volume, bucket: &str) -> Result<()> {
    let facts = volume.facts();
    let directory = sys::path::open_dir(&volume.root, bucket.as_bytes(), Symlinks::Deny)
        .map_err(|errno| if sys::errno::is_gone(errno) { bucket::missing(volume) } else { errno.into() })?;
    if !facts.exchange || !facts.links {
        return Err(StoreError::HistoryApart);
    }
    let staging = volume.staging()?;
    let (there, here) = (Temporary::new(&staging), Temporary::new(&staging));
    for temporary in [&there, &here] {
        sys::path::create_new(temporary.directory(), temporary.name(), 0o600, false)?;
    }
    // No key's name.
    let name = [b".sluice%t.", there.name()].concat();
    volume.rename_new(there.directory(), there.name(), &directory, &name).map_err(apart)?;
    let exchanged = sys::path::exchange(here.directory(), here.name(), &directory, &name);
    sys::path::unlink(&directory, &name)?;
    exchanged.map_err(apart)
}

/// Whether any key of the bucket has a history.
pub(in crate::store) fn are_there(volume: &Volume, bucket: &str, stop: &AtomicBool) -> Result<bool> {
    let Some(rules) = volume.rules_of(bucket) else { return Ok(false) };
    match history::of_bucket(volume, &rules)? {
        Some(histories) => Ok(!walk::is_empty(&histories, volume.reading(), stop)?),
        None => Ok(false),
    }
}

/// Removes what is left of a bucket that is gone: a directory with nothing in it.
pub(in crate::store) fn forget(volume: &Volume, rules: &BucketRules) {
    let Some(own) = volume.own_if_any() else { return };
    let path = [history::VERSIONS, b"/", rules.bucket_id.as_bytes()].concat();
    match sys::path::rmdir(&own.directory, &path) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => tracing::warn!(%errno, bucket_id = %rules.bucket_id, "what is left of a bucket's versions stays"),
    }
}
