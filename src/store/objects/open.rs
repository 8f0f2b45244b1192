//! An object, opened: descriptor, stat and record in one visit, so that they belong together whatever happens to the name
//! afterwards.

use std::os::fd::OwnedFd;

use crate::limits::{EXTENDED_RECORD_SIZE_MAX, WRITER_AGE_NS};
use crate::store::disk::spill;
use crate::store::disk::summary::read_summary;
use crate::store::disk::{Bucket, Disk};
use crate::store::error::{Result, StoreError};
use crate::store::names::key::{self, Location};
use crate::store::names::record::{Record, Summary};
use crate::sys::path::{OpenFlags, Symlinks};
use crate::sys::{self, Errno, FileKind, FileStat};

/// An open object.
#[derive(Debug)]
pub struct Object {
    /// The file with its bytes; for an explicit `dir/` without a body, the directory itself.
    pub file: OwnedFd,
    /// What the object is.
    pub state: State,
    /// The file lies at the key's own path, as nearly all do: not inside a directory of that name.
    pub is_at_key: bool,
}

/// What an object is at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The file's facts.
    pub stat: FileStat,
    /// The record; `None` when the file was not written by us, or was changed since.
    pub record: Option<Record>,
    /// Bytes of the object: the file's, or none for a directory object.
    pub size: u64,
    /// It has no record, and its times need not tell of the next change: it was changed a moment ago, or somebody can write into it.
    pub may_change_unseen: bool,
}

/// How names are opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Cached,
    Blocking,
}

impl Bucket<'_> {
    /// Opens the object of `key`, waiting for the filesystem where that is needed.
    pub fn open(&self, key: &[u8]) -> Result<Object> {
        let location = key::locate(key)?;
        // A conversion (`a` becomes a directory beside `a/b`) can fall between the two looks of `find`: one more look sees it.
        match find(*self, &location, Way::Blocking) {
            Err(StoreError::NoObject) => find(*self, &location, Way::Blocking),
            found => found,
        }
        .map_err(|error| self.or_no_bucket(error))
    }

    /// The same to be read by calls that wait: it was opened so that a FIFO could not hold us, and now it is known to be a file.
    pub fn open_to_copy(&self, key: &[u8]) -> Result<Object> {
        let object = self.open(key)?;
        sys::file::set_blocking(&object.file)?;
        Ok(object)
    }

    /// Opens the object of `key` if everything about it is in memory; `None` when only a call that may block can say. Misses are
    /// answered by `open`, which may look twice.
    pub fn open_cached(&self, key: &[u8]) -> Result<Option<Object>> {
        let location = key::locate(key)?;
        Ok(find(*self, &location, Way::Cached).ok())
    }
}

impl Object {
    /// The file opened once more with O_DIRECT; `None` where the filesystem refuses it.
    pub fn open_direct(&self, disk: &Disk) -> Option<OwnedFd> {
        disk.facts().direct?;
        sys::path::reopen(&self.file, OpenFlags::RDONLY | OpenFlags::DIRECT).ok()
    }

    /// Whether the file is still the one that `state` describes: its bytes were not changed in place since.
    pub fn is_unchanged(&self) -> bool {
        let stat = &self.state.stat;
        sys::stat::of(&self.file).is_ok_and(|now| now.size == stat.size && now.mtime_ns == stat.mtime_ns)
    }
}

fn find(bucket: Bucket<'_>, location: &Location, way: Way) -> Result<Object> {
    let (disk, path) = (bucket.disk, bucket.path_of(&location.path));
    if location.is_directory_object {
        return find_directory_object(disk, &path, way);
    }
    let file = open_file(disk, &path, way)?;
    let look = Look::at(&file)?;
    match look.stat.kind {
        FileKind::Regular => describe(disk, file, look, true, way),
        // `a` beside `a/b`: the object lives inside.
        FileKind::Directory => {
            let inside = open_file(disk, &[&path, &b"/"[..], key::OBJECT_OF_DIRECTORY].concat(), way)?;
            let look = Look::at(&inside)?;
            if look.stat.kind != FileKind::Regular {
                return Err(StoreError::NoObject);
            }
            describe(disk, inside, look, false, way)
        }
        FileKind::Symlink | FileKind::Other => Err(StoreError::NoObject),
    }
}

/// `dir/`: a body inside, or a record on the directory itself.
fn find_directory_object(disk: &Disk, path: &[u8], way: Way) -> Result<Object> {
    match open_file(disk, &[path, b"/", key::BODY_OF_DIRECTORY].concat(), way) {
        Ok(body) => {
            let look = Look::at(&body)?;
            if look.stat.kind == FileKind::Regular {
                return describe(disk, body, look, false, way);
            }
        }
        Err(StoreError::NoObject) => {}
        Err(error) => return Err(error),
    }
    let directory = open_file(disk, path, way)?;
    let stat = sys::stat::of(&directory)?;
    if stat.kind != FileKind::Directory {
        return Err(StoreError::NoObject);
    }
    let Some(record) = read_directory_record(disk, &directory, way)? else { return Err(StoreError::NoObject) };
    // The record of a directory is not bound to its mtime, which every file made inside changes.
    let state = State { stat, record: Some(record), size: 0, may_change_unseen: false };
    Ok(Object { file: directory, state, is_at_key: false })
}

/// Both parts of a directory's record as they belong together: a writer may replace them between the two looks.
fn read_directory_record(disk: &Disk, directory: &OwnedFd, way: Way) -> Result<Option<Record>> {
    const ATTEMPTS: usize = 8;
    let mut record = None;
    let mut summary = read_summary(directory)?;
    for _ in 0..ATTEMPTS {
        record = summary.map(|summary| read_record(disk, directory, &summary, way)).transpose()?;
        if !summary.is_some_and(|summary| summary.has_extended) {
            break;
        }
        let before = std::mem::replace(&mut summary, read_summary(directory)?);
        if before == summary {
            break;
        }
    }
    Ok(record)
}

/// What `dir/` without a body is.
pub(super) fn read_directory_object(disk: &Disk, directory: &OwnedFd) -> Result<Option<Record>> {
    read_directory_record(disk, directory, Way::Blocking)
}

/// Opens the file of this name in a directory of ours.
pub(super) fn open_in(disk: &Disk, directory: &OwnedFd, name: &[u8]) -> Result<Object> {
    let file = match sys::path::open_read(directory, name, Symlinks::Deny) {
        Ok(file) => file,
        Err(errno) if sys::errno::is_gone(errno) => return Err(StoreError::Contended),
        Err(errno) => return Err(errno.into()),
    };
    let look = Look::at(&file)?;
    describe(disk, file, look, false, Way::Blocking)
}

fn open_file(disk: &Disk, path: &[u8], way: Way) -> Result<OwnedFd> {
    // O_NONBLOCK: a FIFO must not hold us; its kind is looked at afterwards. O_NOATIME needs ownership, so it is not asked.
    let flags = OpenFlags::RDONLY | OpenFlags::NONBLOCK | OpenFlags::NOCTTY;
    let opened = match way {
        Way::Cached => sys::path::open_cached(&disk.root, path, flags, Symlinks::Deny),
        Way::Blocking => sys::path::open(&disk.root, path, flags, 0, Symlinks::Deny),
    };
    opened.map_err(|errno| match errno {
        // ENXIO: a socket, or a device without a driver.
        errno if sys::errno::is_gone(errno) || errno == Errno::NXIO || errno == Errno::NAMETOOLONG => StoreError::NoObject,
        errno => StoreError::Kernel(errno),
    })
}

/// A file's facts, and since when they may be so.
struct Look {
    stat: FileStat,
    begun_ns: i64,
}

impl Look {
    fn at(file: &OwnedFd) -> Result<Self> {
        let begun_ns = sys::clock::realtime_ns();
        Ok(Self { stat: sys::stat::of(file)?, begun_ns })
    }
}

fn describe(disk: &Disk, file: OwnedFd, look: Look, is_at_key: bool, way: Way) -> Result<Object> {
    let state = state_of(disk, &file, look, way)?;
    Ok(Object { file, state, is_at_key })
}

/// What the object in `file` is, with its record if that is still true.
fn state_of(disk: &Disk, file: &OwnedFd, look: Look, way: Way) -> Result<State> {
    let stat = look.stat;
    let record = match read_summary(file)? {
        Some(summary) if summary.is_truthful(&stat) => Some(read_record(disk, file, &summary, way)?),
        _ => None,
    };
    let may_change_unseen = record.is_none() && may_change_unseen(disk, file, &look);
    Ok(State { size: stat.size, stat, record, may_change_unseen })
}

/// Whether the file's times need not tell of the next change. A write(2) sets them before it copies its first byte, a store into mapped
/// memory only when it is the first into a page that is clean: so while there is somebody who can do either, the bytes may change
/// behind a look. Looked for behind that look, since who comes later must set a time. A record needs none of this: its mtime is
/// that of no change but ours.
fn may_change_unseen(disk: &Disk, file: &OwnedFd, look: &Look) -> bool {
    let (facts, ctime_ns) = (disk.facts(), look.stat.ctime_ns);
    // Leases of network filesystems say something else.
    let has_writer = || {
        let is_recent = look.begun_ns.saturating_sub(ctime_ns) < WRITER_AGE_NS;
        is_recent && !facts.is_remote && sys::lock::is_open_for_writing(file) == Some(true)
    };
    !facts.grain.files.is_settled_since(ctime_ns, look.begun_ns) || has_writer()
}

fn read_record(disk: &Disk, file: &OwnedFd, summary: &Summary, way: Way) -> Result<Record> {
    if summary.is_spilled && way == Way::Cached {
        // A file of its own has to be opened and read: a helper's work.
        return Err(StoreError::Kernel(Errno::AGAIN));
    }
    let extended = if summary.has_extended { read_extended(disk, file, summary)? } else { None };
    let whole = Record::from_summary(summary, extended.as_deref());
    // Nonsense in the extended record voids that record, never the object.
    Ok(whole
        .or_else(|_| Record::from_summary(summary, None))
        .unwrap_or_else(|_| Record::new(summary.size, summary.mtime_ns, summary.etag)))
}

fn read_extended(disk: &Disk, file: &OwnedFd, summary: &Summary) -> Result<Option<Vec<u8>>> {
    let value = match sys::xattr::read_vec(file, summary.extended_name(), EXTENDED_RECORD_SIZE_MAX) {
        Ok(Some(value)) => value,
        Ok(None) | Err(Errno::TOOBIG) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    if !summary.is_spilled {
        return Ok(Some(value));
    }
    let Ok(name) = <[u8; 32]>::try_from(value.as_slice()) else { return Ok(None) };
    spill::read(disk, &name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Durability;
    use crate::store::buckets;
    use crate::store::objects::batch::{Small, commit_each};
    use crate::store::objects::write::Write;
    use crate::store::volume::Volume;

    /// A core opens nothing that it may have to wait for: the spilled part of a record is a file of its own.
    #[test]
    fn a_spilled_record_is_read_on_a_helper() {
        let top = tempfile::tempdir().unwrap();
        let volume = Volume::open(top.path().as_os_str().as_encoded_bytes(), Durability::Relaxed).unwrap();
        buckets::create(volume.bucket("bucket"), volume.uploads()).unwrap();
        for (key, is_spilled) in [("small", false), ("large", true), ("directory/", true)] {
            let mut record = Record::new(0, 0, [0; 16]);
            record.user_metadata = vec![(b"name".to_vec(), vec![b'v'; if is_spilled { 100_000 } else { 100 }])];
            let (bucket, key) = ("bucket".to_owned(), key.as_bytes().to_vec());
            let metadata = record.user_metadata.clone();
            let small =
                Small { write: Write { bucket, key: key.clone(), record, condition: None }, bytes: Vec::new(), md5: None };
            assert!(commit_each(volume.disk(), vec![small]).remove(0).is_ok());
            let opened = volume.bucket("bucket").open(&key).unwrap();
            assert_eq!(opened.state.record.unwrap().user_metadata, metadata);
            assert_eq!(volume.bucket("bucket").open_cached(&key).unwrap().is_none(), is_spilled);
        }
    }
}
