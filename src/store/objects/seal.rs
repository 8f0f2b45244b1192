//! The record of an object onto its file, or its directory.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use crate::limits::EXTENDED_RECORD_INLINE_SIZE_MAX;
use crate::store::disk::Disk;
use crate::store::disk::spill::{self, Pinned};
use crate::store::disk::summary::read_summary;
use crate::store::error::Result;
use crate::store::names::record::{EXTENDED_ALTERNATE_NAME, EXTENDED_NAME, Encoded, Record, SUMMARY_NAME};
use crate::sys::{self, Errno};

/// The spilled part of a record, if it has one: held until the file that points there has a name.
pub(in crate::store) type Spilled = Option<Pinned>;

/// The record onto the file. mtime is set first, to one that no later change has, and read back, since the filesystem may keep less than
/// nanoseconds; writing an attribute does not change it.
pub(in crate::store) fn seal(disk: &Disk, file: &OwnedFd, size: u64, record: &mut Record) -> Result<Spilled> {
    sys::path::set_mtime(file, disk.facts().grain.mtime_of_record(sys::clock::realtime_ns()))?;
    seal_as_written(disk, file, size, record)
}

/// The same for a file that was written a moment ago, where its mtime is as good (`Times::tell_apart`).
pub(super) fn seal_as_written(disk: &Disk, file: &OwnedFd, size: u64, record: &mut Record) -> Result<Spilled> {
    let stat = sys::stat::of(file)?;
    assert_eq!(stat.size, size, "a file of another length than its object is never published");
    (record.size, record.mtime_ns) = (size, stat.mtime_ns);
    // Given under the key's lock; that of a copy's source is not the copy's.
    (record.version_id, record.is_delete_marker) = (None, false);
    let spilled = write_record(disk, file, &record.encode())?;
    disk.sync_each(&[file])?;
    Ok(spilled)
}

/// A record as it was onto another file.
pub(super) fn seal_as_of(disk: &Disk, file: &OwnedFd, mut record: Record) -> Result<Spilled> {
    sys::path::set_mtime(file, record.mtime_ns)?;
    seal_as_written(disk, file, 0, &mut record)
}

/// Both attributes onto a file that has neither.
fn write_record(disk: &Disk, file: &OwnedFd, encoded: &Encoded) -> Result<Spilled> {
    let spilled = write_extended(disk, file, encoded, EXTENDED_NAME)?;
    sys::xattr::write(file, SUMMARY_NAME, &encoded.summary_of(spilled.is_some(), false))?;
    Ok(spilled)
}

/// Replaces the record of a directory. Its extended part goes where the old one is not, and counts from the moment in which the
/// summary names it: whatever comes between, the object is the old one or the new one.
pub(super) fn replace_record(disk: &Disk, directory: &OwnedFd, encoded: &Encoded) -> Result<()> {
    let (spilled, is_alternate) = write_beside(disk, directory, encoded)?;
    sys::xattr::write(directory, SUMMARY_NAME, &encoded.summary_of(spilled.is_some(), is_alternate))?;
    for (name, is_meant) in [(EXTENDED_NAME, !is_alternate), (EXTENDED_ALTERNATE_NAME, is_alternate)] {
        if encoded.extended.is_none() || !is_meant {
            sys::xattr::remove(directory, name)?;
        }
    }
    Ok(())
}

/// Writes the extended record where the summary of now does not look, and answers whether that is the other place.
pub(super) fn write_beside(disk: &Disk, directory: &OwnedFd, encoded: &Encoded) -> Result<(Spilled, bool)> {
    let before = read_summary(directory)?.filter(|before| before.has_extended);
    let is_alternate = before.is_some_and(|before| !before.is_alternate);
    let name = if is_alternate { EXTENDED_ALTERNATE_NAME } else { EXTENDED_NAME };
    Ok((write_extended(disk, directory, encoded, name)?, is_alternate))
}

/// The extended record, if there is one, into the attribute `name`, or into a spill file when it does not fit beside the inode.
fn write_extended(disk: &Disk, file: &OwnedFd, encoded: &Encoded, name: &CStr) -> Result<Spilled> {
    let Some(extended) = &encoded.extended else { return Ok(None) };
    if extended.len() <= EXTENDED_RECORD_INLINE_SIZE_MAX {
        match sys::xattr::write(file, name, extended) {
            Ok(()) => return Ok(None),
            // ext4 has one block for all attributes of a file: of 1 KiB on small images.
            Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let pinned = spill::write(disk, extended)?;
    sys::xattr::write(file, name, pinned.pointer())?;
    Ok(Some(pinned))
}
