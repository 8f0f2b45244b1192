//! The files of spilled records: read, and written unless they are there.

use std::os::fd::OwnedFd;

use crate::base::hex;
use crate::digest::Sha256;
use crate::limits::EXTENDED_RECORD_SIZE_MAX;
use crate::store::disk::pins::{Name, Pinned};
use crate::store::disk::root::Disk;
use crate::store::disk::stage::Temporary;
use crate::store::error::Result;
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno, FileKind};

/// The record of this name, as far as there is one: a missing file voids it. Reading it keeps it, so that what is in use is
/// not removed even where no walk has met its object.
pub(in crate::store) fn read(disk: &Disk, name: &Name) -> Result<Option<Vec<u8>>> {
    disk.pins.saw(name);
    let Some(own) = disk.own_if_any() else { return Ok(None) };
    let file = match sys::path::open_read(&own.spill, hex::encode(name).as_bytes(), Symlinks::Deny) {
        Ok(file) => file,
        Err(errno) if sys::errno::is_gone(errno) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let stat = sys::stat::of(&file)?;
    let size = usize::try_from(stat.size).unwrap_or(usize::MAX);
    if stat.kind != FileKind::Regular || size > EXTENDED_RECORD_SIZE_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; size];
    let read = sys::file::read_full_at(&file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// Writes a record, unless it is there already. Its pointer may be written now, and must have been published, or given up,
/// before the pin is dropped.
pub(in crate::store) fn write(disk: &Disk, bytes: &[u8]) -> Result<Pinned> {
    let own = disk.own()?;
    // Before the look: what is there now, stays.
    let pinned = disk.pins.pin(Sha256::of(bytes));
    let name = hex::encode(pinned.pointer());
    if is_there(&own.spill, name.as_bytes())? {
        // Its writer may not have synced the name yet.
        return disk.sync_each(&[&own.spill]).map(|()| pinned);
    }
    let temporary = Temporary::new(&own.staging);
    let file = sys::path::create_new(temporary.directory(), temporary.name(), 0o600, false)?;
    sys::file::write_all_at(&file, bytes, 0)?;
    disk.push(&file)?;
    match disk.rename_new(temporary.directory(), temporary.name(), &own.spill, name.as_bytes()) {
        // The same bytes from another writer.
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    disk.sync_each(&[&own.spill])?;
    Ok(pinned)
}

/// Whether the file is there. If so, it is young again: a new object is a reason to keep it over a restart, which forgets what
/// was seen.
fn is_there(directory: &OwnedFd, name: &[u8]) -> Result<bool> {
    match sys::path::set_mtime_at(directory, name, sys::clock::realtime_ns()) {
        Ok(()) => return Ok(true),
        Err(Errno::NOENT) => return Ok(false),
        // The file of a server that ran as another user, which is as good.
        Err(_) => {}
    }
    match sys::stat::at(directory, name) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
