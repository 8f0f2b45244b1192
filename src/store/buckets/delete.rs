//! DeleteBucket, and what keeps a bucket from it.

use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;

use super::history::{forget_history, has_history};
use crate::limits::KEY_SIZE_MAX;
use crate::store::disk::barrier::Ticket;
use crate::store::disk::{Bucket, home, tree};
use crate::store::error::{Result, StoreError};
use crate::store::listing::walk;
use crate::store::uploads::{Uploads, forget_bucket};
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno, FileKind};

/// Removes an empty bucket. Empty directories in it that are somebody's own keep it. `stop` ends the search for an object early.
pub fn delete(bucket: Bucket<'_>, uploads: &Uploads, stop: &AtomicBool) -> Result<Ticket> {
    let disk = bucket.disk;
    if !disk.takes_changes() {
        return Err(StoreError::VolumeFailed);
    }
    bucket.head()?;
    if has_history(bucket, stop)? {
        return Err(StoreError::BucketNotEmpty);
    }
    let mut removed = remove(bucket, uploads);
    if let Err(StoreError::BucketNotEmpty) = removed {
        let directory = bucket.open_directory()?;
        // A crash between a DELETE and its pruning leaves empty directories of ours, which nobody sees through S3.
        if walk::is_empty(&directory, disk.reading(), stop)? {
            tree::prune_below(bucket, &directory, b"");
            home::remove(disk, &directory);
            removed = remove(bucket, uploads);
        }
    }
    removed?;
    forget_history(bucket);
    Ok(disk.barrier().published())
}

/// Removes the directory and the uploads that were begun in it, before another one of this name can be made.
fn remove(bucket: Bucket<'_>, uploads: &Uploads) -> Result<()> {
    let disk = bucket.disk;
    let alone = disk.lock_buckets();
    match sys::path::rmdir(&disk.root, bucket.name.as_bytes()) {
        Ok(()) => {}
        Err(Errno::NOTEMPTY | Errno::EXIST) => return Err(StoreError::BucketNotEmpty),
        Err(Errno::NOENT) => return Err(StoreError::NoBucket),
        Err(errno) => return Err(errno.into()),
    }
    disk.sync_each(&[&disk.root])?;
    let forgotten = forget_bucket(uploads, bucket)?;
    drop(alone);
    forgotten.discard(disk);
    Ok(())
}

/// What keeps a bucket without any object from being removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InTheWay {
    /// Its path in the bucket.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: InTheWayKind,
}

/// What is there in a bucket that is no object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InTheWayKind {
    /// A directory that was not made through S3.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO, a socket or a device.
    Special,
    /// A file whose name stands for no key.
    File,
}

/// The first thing that is somebody's own in a bucket that has no object; `None` where it has one, or nothing is in the way any more.
pub fn in_the_way(bucket: Bucket<'_>) -> Result<Option<InTheWay>> {
    let directory = bucket.open_directory()?;
    if !walk::is_empty(&directory, bucket.disk.reading(), &AtomicBool::new(false))? {
        return Ok(None);
    }
    Ok(foreign_below(&directory, b""))
}

/// As deep as a key can be: a byte a level.
fn foreign_below(directory: &OwnedFd, path: &[u8]) -> Option<InTheWay> {
    if path.len() > KEY_SIZE_MAX * 2 {
        return None;
    }
    let mut names: Vec<(Vec<u8>, FileKind)> = Vec::new();
    let mut buffer = sys::dir::buffer(32 * 1024);
    let _ = sys::dir::read(directory, &mut buffer, |entry| {
        if let Ok(kind) = entry.kind_in(directory) {
            names.push((entry.name.to_vec(), kind));
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
    names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    names.into_iter().find_map(|(name, kind)| {
        let path = if path.is_empty() { name.clone() } else { [path, b"/", &name].concat() };
        let kind = match kind {
            FileKind::Directory => match sys::path::open_dir(directory, &name, Symlinks::Deny) {
                Ok(below) if tree::is_prunable(&below) => return foreign_below(&below, &path),
                // What cannot be opened is a mount, or not ours to read.
                _ => InTheWayKind::Directory,
            },
            FileKind::Symlink => InTheWayKind::Symlink,
            FileKind::Other => InTheWayKind::Special,
            FileKind::Regular => InTheWayKind::File,
        };
        Some(InTheWay { path, kind })
    })
}
