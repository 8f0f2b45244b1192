//! Multipart uploads: where do the parts go, so that completing moves no bytes?
//!
//! ```text
//! .sluice/uploads/<bucket>/<upload id>/
//!     upload            what CreateMultipartUpload said: bucket, key, time, the object's record, the kind of checksum
//!     parts             the log: slots claimed, parts that are there (128 bytes an entry, appended, each with its CRC)
//!     data.<S>          slots: part N of an upload in parts of S bytes at (N-1)*S
//!     part.<N>.<A>      a part that fits no slot
//!     collapsed         which ranges are being taken out of a slot file, should the server die meanwhile
//! ```
//!
//! The size S of a slot is the size of the first part that is at least 5 MiB and block-aligned. The last part may come first: a
//! larger part starts another slot file, which is the one from then on. A part of at most S bytes goes into its slot,
//! unless somebody has claimed it: a slot is written by one attempt ever, claimed in the log before it is written. A part
//! that comes again, is larger, or of unknown or odd size while no slot is known, has a file of its own.
//!
//! Complete picks the file that holds most bytes at their final place (`layout`), brings the few others there, cuts it, seals
//! it and renames it to the object's name: that rename is what completes the upload. An upload's directory appears and
//! disappears by a rename too. Until the object has its name the Complete can fail, and another list of parts may come: parts
//! that the object does not have are copied out of its file before it is cut (`takes_away`), or the object out of theirs.
//!
//! The ids sort by time and are not guessable: 16 digits of time, 32 of chance. Within a process, `table` keeps what
//! the log says and knows who is writing; Complete closes the slots and waits for their writers before it touches the file.

use std::os::fd::OwnedFd;

use super::manifest::{self, MANIFEST_NAME, Manifest};
use super::{gaps, id, log, table};
use crate::base::hex;
use crate::digest::Algorithm;
use crate::digest::checksum::Kind;
use crate::store::disk::barrier::Ticket;
use crate::store::disk::own::Own;
use crate::store::disk::staging::Purpose;
use crate::store::disk::tree::directories_in;
use crate::store::error::{Result, StoreError, UploadError};
use crate::store::names::record::Record;
use crate::store::volume::{Sync, Volume, sweep};
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno};

/// Which upload a request means.
#[derive(Debug, Clone, Copy)]
pub struct UploadName<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// The key.
    pub key: &'a [u8],
    /// The upload id, as it came.
    pub id: &'a str,
}

/// What CreateMultipartUpload says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUpload {
    /// Everything but size, time and digests.
    pub record: Record,
    /// The checksum that was announced.
    pub checksum: Option<(Algorithm, Kind)>,
}

/// Bytes of chance in an upload id.
const RANDOM_SIZE: usize = 16;

/// Starts an upload.
pub fn create(volume: &Volume, bucket: &str, key: &[u8], new: NewUpload) -> Result<(String, Ticket)> {
    if !volume.takes_changes() {
        return Err(StoreError::VolumeFailed);
    }
    crate::store::buckets::bucket::head(volume, bucket)?;
    crate::store::names::key::check(key)?;
    let initiated_ns = sys::clock::realtime_ns();
    let mut random = [0; RANDOM_SIZE];
    getrandom::fill(&mut random).map_err(|_| StoreError::Kernel(Errno::IO))?;
    let id = format!("{:016x}{}", initiated_ns.max(0), hex::encode(&random));
    let manifest =
        Manifest { bucket: bucket.to_owned(), key: key.to_vec(), initiated_ns, checksum: new.checksum, record: new.record };
    let own = volume.own()?;
    let temporary = own.staging.name(&Purpose::Upload);
    sys::path::mkdir(own.staging.directory(), &temporary, 0o700)?;
    let moved = fill(volume, &own, &temporary, &manifest).and_then(|()| appear(volume, &own, &temporary, bucket, &id));
    if let Err(error) = moved {
        discard(volume, &own, &temporary);
        return Err(error);
    }
    // A bucket that was removed meanwhile has taken its uploads along, but for one that came a moment later; and one that was made
    // again since then has not kept those of the old one.
    let path = [bucket.as_bytes(), b"/", id.as_bytes()].concat();
    let is_there = crate::store::buckets::bucket::head(volume, bucket).and_then(|_| match sys::stat::at(&own.uploads, &path) {
        Err(errno) if sys::errno::is_gone(errno) => Err(StoreError::NoBucket),
        stat => Ok(stat.map(drop)?),
    });
    if let Err(error) = is_there {
        let _ = vanish(volume, bucket, &id);
        return Err(error);
    }
    Ok((id, volume.barrier.published()))
}

/// The directory's first files, pushed before it gets its name.
fn fill(volume: &Volume, own: &Own, temporary: &[u8], manifest: &Manifest) -> Result<()> {
    let directory = sys::path::open_dir(own.staging.directory(), temporary, Symlinks::Deny)?;
    let file = sys::path::create_new(&directory, MANIFEST_NAME, 0o600, false)?;
    sys::file::write_all_at(&file, &manifest.encode(), 0)?;
    push(volume, &file)?;
    let log = sys::path::create_new(&directory, log::LOG_NAME, 0o600, false)?;
    volume.sync_each(&[&log, &directory])
}

fn appear(volume: &Volume, own: &Own, temporary: &[u8], bucket: &str, id: &str) -> Result<()> {
    match sys::path::mkdir(&own.uploads, bucket.as_bytes(), 0o700) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    // ENOENT: the bucket was removed, and this directory with it.
    let of_bucket = |errno: Errno| if errno == Errno::NOENT { StoreError::NoBucket } else { errno.into() };
    let home = sys::path::open_dir(&own.uploads, bucket.as_bytes(), Symlinks::Deny).map_err(of_bucket)?;
    sys::path::rename(own.staging.directory(), temporary, &home, id.as_bytes()).map_err(of_bucket)?;
    volume.sync_each(&[&home, &own.uploads])
}

/// Ends an upload without an object. Parts that are still being received fail at their next write. `Busy` during a Complete.
pub fn abort(volume: &Volume, name: &UploadName<'_>) -> Result<Ticket> {
    if !volume.takes_changes() {
        return Err(StoreError::VolumeFailed);
    }
    let upload = table::find(volume, name)?;
    // Not during a Complete: what it has published cannot be aborted.
    let _turn = upload.turn()?;
    if !upload.end() {
        return Err(UploadError::NotFound.into());
    }
    vanish(volume, name.bucket, name.id)?;
    Ok(volume.barrier.published())
}

/// The uploads of a bucket that is gone, under a name in staging.
#[must_use]
#[derive(Default)]
pub struct Forgotten(Option<Vec<u8>>);

impl Forgotten {
    /// Removes their files, which can be many: under no lock.
    pub fn discard(self, volume: &Volume) {
        if let (Some(temporary), Some(own)) = (self.0, volume.own_if_any()) {
            discard(volume, &own, &temporary);
        }
    }
}

/// Ends all uploads of a bucket that is not there. The caller holds the lock of buckets, so that none of a new one is meant.
pub fn forget_bucket(volume: &Volume, bucket: &str) -> Result<Forgotten> {
    // Where there never was room for our directory there are no uploads.
    let Some(own) = volume.own_if_any() else { return Ok(Forgotten(None)) };
    let temporary = own.staging.name(&Purpose::Uploads);
    match sys::path::rename(&own.uploads, bucket.as_bytes(), own.staging.directory(), &temporary) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(Forgotten(None)),
        Err(errno) => return Err(errno.into()),
    }
    volume.multipart.end_all(bucket);
    volume.sync_each(&[&own.uploads])?;
    Ok(Forgotten(Some(temporary)))
}

/// Removes what a dead process left of uploads that were completed. What cannot be read stays until the next start.
pub(in crate::store) fn sweep_completed(volume: &Volume) {
    let Some(own) = volume.own_if_any() else { return };
    for bucket in directories_in(volume.reading(), &own.uploads).unwrap_or_default() {
        let Ok(home) = sys::path::open_dir(&own.uploads, &bucket, Symlinks::Deny) else { continue };
        for id in directories_in(volume.reading(), &home).unwrap_or_default() {
            let Ok(directory) = sys::path::open_dir(&home, &id, Symlinks::Deny) else { continue };
            if manifest::is_published(&directory) {
                let temporary = own.staging.name(&Purpose::Upload);
                if sys::path::rename(&home, &id, own.staging.directory(), &temporary).is_ok() {
                    discard(volume, &own, &temporary);
                }
            }
        }
    }
}

/// Removes an upload that has ended.
pub(super) fn vanish(volume: &Volume, bucket: &str, id: &str) -> Result<()> {
    let gone = take_away(volume, bucket, id);
    // Not before: it could be read in once more.
    volume.multipart.forget(id);
    gone
}

/// Takes an upload's directory away in one step, then removes what is in it.
pub(super) fn take_away(volume: &Volume, bucket: &str, id: &str) -> Result<()> {
    let Some(own) = volume.own_if_any() else { return Ok(()) };
    let temporary = own.staging.name(&Purpose::Upload);
    let home = match sys::path::open_dir(&own.uploads, bucket.as_bytes(), Symlinks::Deny) {
        Ok(home) => home,
        // Its bucket was removed meanwhile, and all uploads in it.
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    match sys::path::rename(&home, id.as_bytes(), own.staging.directory(), &temporary) {
        Ok(()) => discard(volume, &own, &temporary),
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    }
    volume.sync_each(&[&home])
}

/// Removes an upload, or those of a bucket, in staging; what cannot be removed now goes at the next start.
fn discard(volume: &Volume, own: &Own, temporary: &[u8]) {
    sweep::upload(volume.reading(), &own.staging, temporary);
}

/// Whether an upload's directory has files of this name.
pub(in crate::store) fn is_file_name(name: &[u8]) -> bool {
    matches!(name, MANIFEST_NAME | log::LOG_NAME | gaps::COLLAPSED_NAME) || log::Place::of_file_name(name).is_some()
}

/// Whether a directory of uploads has one of this name.
pub(in crate::store) fn is_upload_id(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(id::is_id)
}

/// Whether this is an upload's directory.
pub(in crate::store) fn is_upload(directory: &OwnedFd) -> bool {
    Manifest::read(directory).is_ok()
}

/// Before a file's bytes are relied on: no dirty page left, or synced where no shared barrier does it.
pub(super) fn push(volume: &Volume, file: &OwnedFd) -> Result<()> {
    match volume.sync() {
        Sync::Barrier => Ok(sys::file::write_back(file)?),
        Sync::Each => volume.sync_each(&[file]),
        Sync::Never => Ok(()),
    }
}
