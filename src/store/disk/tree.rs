//! Directories on the way to an object: made when a PUT needs them and marked as ours, removed when a DELETE leaves them
//! empty and they are ours, and a file turned into a directory when `a/b` comes to stand beside `a`.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::bucket::Bucket;
use super::displace::Turning;
use super::locks::KeyGuard;
use super::root::Disk;
use super::spot::Spot;
use super::unsynced::Making;
use super::{home, inherit};
use crate::limits::{KEY_SIZE_MAX, RECORD_SIZE_MAX};
use crate::store::error::{Result, StoreError};
use crate::store::names::key;
use crate::store::names::record::{self, DIRECTORY_MADE_BY_PUT, DIRECTORY_NAME, SUMMARY_NAME};
use crate::sys::path::{OpenFlags, Symlinks};
use crate::sys::{self, Errno, FileKind};

/// A directory in which to publish. Its own name is durable where no shared barrier makes it so.
pub(in crate::store) struct Parents {
    pub(in crate::store) directory: Rc<OwnedFd>,
}

/// What stands in the way of a directory.
pub(in crate::store) enum Obstacle {
    /// The file of another key, which has to become a directory first. The path is relative to the bucket.
    File { path: Vec<u8> },
    /// Anything else.
    Error(StoreError),
}

impl<E: Into<StoreError>> From<E> for Obstacle {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// Opens the directory `path` of a bucket, making what is missing.
pub(in crate::store) fn parents(bucket: Bucket<'_>, path: &[u8]) -> std::result::Result<Parents, Obstacle> {
    let disk = bucket.disk;
    match bucket.open_below(path) {
        // None on the way is being made, so each has a name that lasts.
        Ok(directory) if !disk.has_unsynced() => return Ok(Parents::at(Rc::new(directory))),
        Ok(_) => {}
        // A link or a mount: on the way, or in the bucket's place.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut parents = Parents::at(Rc::new(bucket.open_directory()?));
    let mut walked = 0;
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        walked += name.len() + usize::from(walked > 0);
        match sys::path::open_dir(&parents.directory, name, Symlinks::Deny) {
            Ok(directory) => parents.enter(disk, name, directory)?,
            Err(Errno::NOENT) => parents.make(disk, name)?,
            Err(Errno::NOTDIR) => return Err(obstacle(&parents.directory, name, &path[..walked])),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(parents)
}

/// A file in the way can become a directory; anything else is nobody's object and stays.
fn obstacle(directory: &OwnedFd, name: &[u8], path: &[u8]) -> Obstacle {
    match sys::stat::at(directory, name) {
        Ok(stat) if stat.kind == FileKind::Regular => Obstacle::File { path: path.to_vec() },
        Ok(stat) if stat.kind == FileKind::Directory => Obstacle::Error(StoreError::Contended),
        Ok(_) => Obstacle::Error(StoreError::Foreign),
        Err(errno) => errno.into(),
    }
}

impl Parents {
    /// A directory that is there.
    pub(in crate::store) fn at(directory: Rc<OwnedFd>) -> Self {
        Self { directory }
    }

    /// Goes into a directory that is there.
    fn enter(&mut self, disk: &Disk, name: &[u8], directory: OwnedFd) -> Result<()> {
        if disk.syncs_each() && disk.unsynced.contains(sys::stat::of(&self.directory)?.inode, name) {
            disk.sync_each(&[&self.directory])?;
        }
        self.directory = Rc::new(directory);
        Ok(())
    }

    fn make(&mut self, disk: &Disk, name: &[u8]) -> Result<()> {
        let _note = note(disk, &self.directory, name)?;
        let made = match sys::path::mkdir(&self.directory, name, inherit::DIRECTORY_MODE) {
            Ok(()) => true,
            // Another PUT was faster.
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(errno.into()),
        };
        let entered = sys::path::open_dir(&self.directory, name, Symlinks::Deny).and_then(|directory| {
            let marked = if made { sys::xattr::write(&directory, DIRECTORY_NAME, &DIRECTORY_MADE_BY_PUT) } else { Ok(()) };
            if marked.is_err() {
                // Without its mark nobody would ever remove it. Who has put something into it keeps it.
                let _ = remove_empty(&self.directory, name, &directory);
            }
            marked.map(|()| directory)
        });
        // At once, and before the note is gone: should this PUT fail, others rely on the directory.
        disk.sync_each(&[&self.directory])?;
        self.directory = Rc::new(entered?);
        Ok(())
    }
}

/// Notes a directory that is about to be made, where its name has to be synced.
fn note<'a>(disk: &'a Disk, parent: &OwnedFd, name: &[u8]) -> Result<Option<Making<'a>>> {
    if !disk.syncs_each() {
        return Ok(None);
    }
    Ok(Some(disk.unsynced.making(sys::stat::of(parent)?.inode, name)))
}

/// Turns the object at `path` into a directory that holds it (`a` becomes `a/` with the object inside), in one step of the
/// name: readers find the object before and after. The caller holds the lock of that object's key.
pub(in crate::store) fn convert_to_directory(bucket: Bucket<'_>, path: &[u8]) -> Result<()> {
    let disk = bucket.disk;
    if !disk.facts().exchange || !disk.facts().links {
        return Err(StoreError::Kernel(Errno::NOTDIR));
    }
    let (parent_path, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&path[..0], path),
    };
    let parent = bucket.open_below(parent_path)?;
    let file = match sys::path::open_read(&parent, name, Symlinks::Deny) {
        Ok(file) => file,
        // Gone meanwhile: nothing is in the way any more.
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    let linked = sys::stat::of(&file)?;
    if linked.kind != FileKind::Regular {
        return Ok(());
    }
    let _note = note(disk, &parent, name)?;
    let spot = Spot { directory: &parent, top: bucket.name, folder: parent_path, name };
    home::with(disk, spot, |staging| Turning::prepare(disk, staging, spot, &file, linked.inode)?.take_place(disk, spot))?;
    disk.sync_each(&[&parent])
}

/// Removes `path` (relative to the bucket) and the directories above it, as long as they are empty, were made by a PUT,
/// and are not explicit objects. Nobody's own directory is removed.
pub(in crate::store) fn prune(bucket: Bucket<'_>, path: &[u8]) -> Result<()> {
    let mut rest = path;
    while !rest.is_empty() {
        let (parent_path, name) = match rest.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&rest[..slash], &rest[slash + 1..]),
            None => (&rest[..0], rest),
        };
        let Ok(parent) = bucket.open_below(parent_path) else { return Ok(()) };
        let _guard = lock_directory_object(bucket, rest);
        let Ok(directory) = sys::path::open_dir(&parent, name, Symlinks::Deny) else { return Ok(()) };
        // ENOTEMPTY is the usual end of the way up.
        if !is_prunable(&directory) {
            return Ok(());
        }
        home::remove(bucket.disk, &directory);
        if remove_empty(&parent, name, &directory).is_err() {
            return Ok(());
        }
        bucket.disk.sync_each(&[&parent])?;
        rest = parent_path;
    }
    Ok(())
}

/// Removes what a PUT that failed has made on the way to `path`, of which the last directories may be missing. The caller holds no
/// lock.
pub(in crate::store) fn prune_unused(bucket: Bucket<'_>, path: &[u8]) {
    let ends = path.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
    let is_there = |end: &usize| {
        let flags = OpenFlags::PATH | OpenFlags::DIRECTORY;
        sys::path::open(&bucket.disk.root, &bucket.path_of(&path[..*end]), flags, 0, Symlinks::Deny).is_ok()
    };
    if let Some(end) = ends.into_iter().find(is_there) {
        let _ = prune(bucket, &path[..end]);
    }
}

/// rmdir(2) removes no directory that anything is in, whoever's it is. A name that was given to another directory since is left;
/// it could be moved away and looked at there, as files are, only if nobody found it missing meanwhile.
fn remove_empty(parent: &OwnedFd, name: &[u8], directory: &OwnedFd) -> sys::Result<()> {
    if sys::stat::at(parent, name)?.inode != sys::stat::of(directory)?.inode {
        return Err(Errno::NOTEMPTY);
    }
    sys::path::rmdir(parent, name)
}

/// The lock of the object that a record on this directory is: a PUT of it must not write onto a directory that is being removed.
/// The caller holds no other lock.
fn lock_directory_object<'a>(bucket: Bucket<'a>, path: &[u8]) -> Option<KeyGuard<'a>> {
    // No key: a piece of a long name, which is never an object.
    key::key_of(path, true).map(|key| bucket.lock(&key))
}

/// Removes all empty directories of ours below `directory`, which lies at `path` in the bucket, deepest first. What is below
/// somebody's own stays, as that does: nothing is looked for there, so that their depth costs no stack, and what was made by PUTs
/// and moved together through POSIX is followed only as deep as a key can be, which is a byte a level.
pub(in crate::store) fn prune_below(bucket: Bucket<'_>, directory: &OwnedFd, path: &[u8]) {
    if path.iter().filter(|byte| **byte == b'/').count() >= KEY_SIZE_MAX {
        return;
    }
    // What cannot be read stays.
    for name in bucket.disk.reading().directories_in(directory).unwrap_or_default() {
        let path_below = if path.is_empty() { name.clone() } else { [path, b"/", &name].concat() };
        let Ok(below) = sys::path::open_dir(directory, &name, Symlinks::Deny) else { continue };
        if !is_prunable(&below) {
            continue;
        }
        prune_below(bucket, &below, &path_below);
        let _guard = lock_directory_object(bucket, &path_below);
        if is_prunable(&below) {
            home::remove(bucket.disk, &below);
            // ENOTEMPTY: something in it is somebody's own.
            let _ = remove_empty(directory, &name, &below);
        }
    }
}

pub(in crate::store) fn is_prunable(directory: &OwnedFd) -> bool {
    let mut mark = [0; RECORD_SIZE_MAX];
    let made_by_put = matches!(sys::xattr::read(directory, DIRECTORY_NAME, &mut mark),
        Ok(Some(size)) if record::is_made_by_put(&mark[..size]));
    made_by_put && matches!(sys::xattr::read(directory, SUMMARY_NAME, &mut mark), Ok(None))
}
