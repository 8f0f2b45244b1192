//! CreateMultipartUpload: an upload's directory, made complete in staging, appears.

use super::abort::vanish;
use super::log;
use super::manifest::{MANIFEST_NAME, Manifest};
use super::name::UploadName;
use super::remove::discard;
use super::table::Uploads;
use crate::base::hex;
use crate::digest::Algorithm;
use crate::digest::checksum::Kind;
use crate::store::disk::barrier::Ticket;
use crate::store::disk::own::Own;
use crate::store::disk::staging::Purpose;
use crate::store::disk::{Bucket, Disk};
use crate::store::error::{Result, StoreError};
use crate::store::names::key;
use crate::store::names::record::Record;
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno};

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
pub fn create(uploads: &Uploads, bucket: Bucket<'_>, key: &[u8], new: NewUpload) -> Result<(String, Ticket)> {
    let disk = bucket.disk;
    if !disk.takes_changes() {
        return Err(StoreError::VolumeFailed);
    }
    bucket.head()?;
    key::check(key)?;
    let initiated_ns = sys::clock::realtime_ns();
    let mut random = [0; RANDOM_SIZE];
    getrandom::fill(&mut random).map_err(|_| StoreError::Kernel(Errno::IO))?;
    let id = format!("{:016x}{}", initiated_ns.max(0), hex::encode(&random));
    let manifest =
        Manifest { bucket: bucket.name.to_owned(), key: key.to_vec(), initiated_ns, checksum: new.checksum, record: new.record };
    let own = disk.own()?;
    let temporary = own.staging.name(&Purpose::Upload);
    sys::path::mkdir(own.staging.directory(), &temporary, 0o700)?;
    let moved = fill(disk, &own, &temporary, &manifest).and_then(|()| appear(&own, &temporary, bucket, &id));
    if let Err(error) = moved {
        discard(disk.reading(), &own.staging, &temporary);
        return Err(error);
    }
    // A bucket that was removed meanwhile has taken its uploads along, but for one that came a moment later; and one that was made
    // again since then has not kept those of the old one.
    let path = UploadName { bucket, key, id: &id }.path();
    let is_there = bucket.head().and_then(|_| match sys::stat::at(&own.uploads, &path) {
        Err(errno) if sys::errno::is_gone(errno) => Err(StoreError::NoBucket),
        stat => Ok(stat.map(drop)?),
    });
    if let Err(error) = is_there {
        let _ = vanish(uploads, bucket, &id);
        return Err(error);
    }
    Ok((id, disk.barrier().published()))
}

/// The directory's first files, pushed before it gets its name.
fn fill(disk: &Disk, own: &Own, temporary: &[u8], manifest: &Manifest) -> Result<()> {
    let directory = sys::path::open_dir(own.staging.directory(), temporary, Symlinks::Deny)?;
    let file = sys::path::create_new(&directory, MANIFEST_NAME, 0o600, false)?;
    sys::file::write_all_at(&file, &manifest.encode(), 0)?;
    disk.push(&file)?;
    let log = sys::path::create_new(&directory, log::LOG_NAME, 0o600, false)?;
    disk.sync_each(&[&log, &directory])
}

fn appear(own: &Own, temporary: &[u8], bucket: Bucket<'_>, id: &str) -> Result<()> {
    match sys::path::mkdir(&own.uploads, bucket.name.as_bytes(), 0o700) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    // ENOENT: the bucket was removed, and this directory with it.
    let of_bucket = |errno: Errno| if errno == Errno::NOENT { StoreError::NoBucket } else { errno.into() };
    let home = sys::path::open_dir(&own.uploads, bucket.name.as_bytes(), Symlinks::Deny).map_err(of_bucket)?;
    sys::path::rename(own.staging.directory(), temporary, &home, id.as_bytes()).map_err(of_bucket)?;
    bucket.disk.sync_each(&[&home, &own.uploads])
}
