//! Which version is a file? What it claims, whether that is believed, and how it is written onto it.

use std::os::fd::OwnedFd;

use super::history::{History, Slot};
use crate::base::time::Timestamp;
use crate::base::version_id::{Version, VersionId};
use crate::digest::ETag;
use crate::digest::etag::FileState;
use crate::limits::RECORD_SIZE_MAX;
use crate::store::disk::Disk;
use crate::store::disk::summary::read_summary;
use crate::store::error::{Result, StoreError};
use crate::store::names::record::{Record, SUMMARY_NAME, SYNTHETIC, Summary};
use crate::sys::path::Symlinks;
use crate::sys::{self, Cause, Errno, FileStat};

/// An id that a file claims is believed if it is greater than all of the history: any POSIX user can write any.
pub(in crate::store) fn version_of(claimed: Option<VersionId>, top: Option<VersionId>) -> Version {
    match claimed {
        Some(id) if !id.is_place() && Some(id) > top => Version::Id(id),
        _ => Version::Null,
    }
}

pub(in crate::store) fn slot_of(version: Version) -> Slot {
    match version {
        Version::Null => Slot::Null,
        Version::Id(id) => Slot::Numbered(id),
    }
}

/// Linked or moved over a border that no name crosses.
pub(in crate::store) fn apart(errno: Errno) -> StoreError {
    match errno {
        Errno::XDEV => StoreError::HistoryApart,
        errno => errno.into(),
    }
}

/// Somebody's file, which came into the history in place of another: the `null` version of now.
pub(in crate::store) fn settle_stranger(disk: &Disk, history: &History, name: &[u8], place: VersionId) -> Result<()> {
    let null = history.name_of(Slot::Null);
    if name != null {
        history.remove(Slot::Null)?;
        disk.rename_new(&history.directory, name, &history.directory, &null)?;
    }
    let stat = sys::stat::at(&history.directory, &null)?;
    mark_null(disk, history, &null, place, &stat)
}

/// Writes onto a `null` version in the history where it stands. One without a truthful record gets one, with the ETag that it had when it
/// was `stat`. Where the server's user may not, it stands where its mtime says.
pub(in crate::store) fn mark_null(disk: &Disk, history: &History, name: &[u8], place: VersionId, stat: &FileStat) -> Result<()> {
    history.raise(disk, place)?;
    match write_null(disk, history, name, place, stat) {
        Err(StoreError::Kernel(errno)) if sys::errno::cause(errno) == Cause::Denied => Ok(()),
        written => written,
    }
}

fn write_null(disk: &Disk, history: &History, name: &[u8], place: VersionId, stat: &FileStat) -> Result<()> {
    let file = sys::path::open_read(&history.directory, name, Symlinks::Deny)?;
    let is_truthful = read_summary(&file)?.is_some_and(|summary| summary.is_truthful(stat));
    if !is_truthful {
        let mut record = Record::new(stat.size, stat.mtime_ns, synthetic(stat));
        record.parts = SYNTHETIC;
        sys::xattr::write(&file, SUMMARY_NAME, record.encode().summary())?;
    }
    mark(disk, &file, place)
}

fn synthetic(stat: &FileStat) -> [u8; 16] {
    let time = Timestamp::from_nanoseconds;
    let state = FileState { inode: stat.inode, size: stat.size, mtime: time(stat.mtime_ns), ctime: time(stat.ctime_ns) };
    match ETag::synthetic(&state, None) {
        ETag::Synthetic(digest) => digest,
        _ => [0; 16],
    }
}

/// Writes onto a file that has its record already which version it is.
pub(super) fn mark(disk: &Disk, file: &OwnedFd, id: VersionId) -> Result<()> {
    let mut bytes = [0; RECORD_SIZE_MAX];
    let size = sys::xattr::read(file, SUMMARY_NAME, &mut bytes)?.unwrap_or(0);
    let summary = Summary::decode(&bytes[..size]).map_err(|_| Errno::IO)?;
    if summary.version_id == Some(id) {
        return Ok(());
    }
    sys::xattr::write(file, SUMMARY_NAME, &summary.with_version(id))?;
    disk.sync_each(&[file])
}
