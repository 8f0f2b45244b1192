//! How does an upload end without an object? By an Abort, or with its bucket.

use super::name::UploadName;
use super::remove::{discard, take_away};
use super::table::Uploads;
use crate::store::disk::barrier::Ticket;
use crate::store::disk::staging::Purpose;
use crate::store::disk::{Bucket, Disk};
use crate::store::error::{Result, StoreError, UploadError};
use crate::sys::{self, Errno};

/// Ends an upload without an object. Parts that are still being received fail at their next write. `Busy` during a Complete.
pub fn abort(uploads: &Uploads, name: &UploadName<'_>) -> Result<Ticket> {
    let disk = name.bucket.disk;
    if !disk.takes_changes() {
        return Err(StoreError::VolumeFailed);
    }
    let upload = uploads.find(name)?;
    // Not during a Complete: what it has published cannot be aborted.
    let _ending = upload.begin_ending()?;
    if !upload.end() {
        return Err(UploadError::NotFound.into());
    }
    vanish(uploads, name.bucket, name.id)?;
    Ok(disk.barrier().published())
}

/// Removes an upload that has ended.
pub(super) fn vanish(uploads: &Uploads, bucket: Bucket<'_>, id: &str) -> Result<()> {
    let gone = take_away(bucket, id);
    // Not before: it could be read in once more.
    uploads.forget(id);
    gone
}

/// The uploads of a bucket that is gone, under a name in staging.
#[must_use]
#[derive(Default)]
pub struct Forgotten(Option<Vec<u8>>);

impl Forgotten {
    /// Removes their files, which can be many: under no lock.
    pub fn discard(self, disk: &Disk) {
        if let (Some(temporary), Some(own)) = (self.0, disk.own_if_any()) {
            discard(disk.reading(), &own.staging, &temporary);
        }
    }
}

/// Ends all uploads of a bucket that is not there. The caller holds the lock of buckets, so that none of a new one is meant.
pub fn forget_bucket(uploads: &Uploads, bucket: Bucket<'_>) -> Result<Forgotten> {
    let disk = bucket.disk;
    // Where there never was room for our directory there are no uploads.
    let Some(own) = disk.own_if_any() else { return Ok(Forgotten(None)) };
    let temporary = own.staging.name(&Purpose::Uploads);
    match sys::path::rename(&own.uploads, bucket.name.as_bytes(), own.staging.directory(), &temporary) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(Forgotten(None)),
        Err(errno) => return Err(errno.into()),
    }
    uploads.end_all(bucket.name);
    disk.sync_each(&[&own.uploads])?;
    Ok(Forgotten(Some(temporary)))
}
