//! Buckets: the top-level directories of the served directory with a legal bucket name.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;

use super::barrier::Ticket;
use super::multipart::{self, Forgotten};
use super::record::{DIRECTORY_MADE_BY_PUT, DIRECTORY_NAME};
use super::volume::Volume;
use super::{Result, StoreError, home, tree, versions, walk};
use super::{key, list};
use crate::base::time::Timestamp;
use crate::limits::{KEY_SIZE_MAX, PUBLISH_ATTEMPTS_MAX};
use crate::sys::path::{OpenFlags, Symlinks};
use crate::sys::{self, Cause, Errno, FileKind};

/// Mode of a bucket's directory, before the umask.
const BUCKET_MODE: u32 = 0o755;

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// When it was made; where the filesystem does not tell, the directory's earliest known time.
    pub created: Timestamp,
}

/// Which buckets are asked for.
#[derive(Debug, Clone, Copy)]
pub struct BucketsQuery<'a> {
    /// Names begin with this.
    pub prefix: &'a str,
    /// Names behind this one.
    pub after: &'a str,
    /// How many.
    pub max: usize,
}

/// A page of buckets, by name, and whether more follow. Only those on it are looked at.
pub fn list(volume: &Volume, query: &BucketsQuery<'_>) -> Result<(Vec<Bucket>, bool)> {
    let root = sys::path::open_dir(&volume.root, b"", Symlinks::Deny)?;
    let mut names = BTreeSet::new();
    let mut buffer = sys::dir::buffer(64 * 1024);
    let _ = volume.reading().visit(&root, &mut buffer, |entry| {
        let is_wanted = entry.name > query.after.as_bytes() && entry.name.starts_with(query.prefix.as_bytes());
        if is_wanted && entry.kind.is_none_or(|kind| kind == FileKind::Directory) && key::is_bucket_name(entry.name) {
            names.insert(String::from_utf8_lossy(entry.name).into_owned());
        }
        std::ops::ControlFlow::<()>::Continue(())
    })?;
    let mut buckets = names.into_iter().filter_map(|name| describe(volume, &name).transpose());
    let page = buckets.by_ref().take(query.max).collect::<Result<Vec<_>>>()?;
    Ok((page, buckets.next().transpose()?.is_some()))
}

/// One bucket.
pub fn head(volume: &Volume, name: &str) -> Result<Bucket> {
    if !key::is_bucket_name(name.as_bytes()) {
        return Err(StoreError::NoBucket);
    }
    describe(volume, name)?.ok_or(StoreError::NoBucket)
}

/// `None`: nothing of that name, or nothing that is a bucket, as another filesystem that is mounted there.
fn describe(volume: &Volume, name: &str) -> Result<Option<Bucket>> {
    let Some(directory) = find(volume, name)? else { return Ok(None) };
    let stat = sys::stat::of(&directory)?;
    // Every object made in it changes the other times.
    let born = sys::stat::born_ns(&volume.root, name.as_bytes()).ok().flatten();
    let nanoseconds = born.unwrap_or_else(|| stat.mtime_ns.min(stat.ctime_ns));
    Ok(Some(Bucket { name: name.to_owned(), created: Timestamp::from_nanoseconds(nanoseconds) }))
}

/// The bucket's directory, by the rules for every name in it, so that all requests agree on what is a bucket. It need not be
/// readable: what is not allowed is found out by who does it.
fn find(volume: &Volume, name: &str) -> Result<Option<OwnedFd>> {
    match sys::path::open(&volume.root, name.as_bytes(), OpenFlags::PATH | OpenFlags::DIRECTORY, 0, Symlinks::Deny) {
        Ok(directory) => Ok(Some(directory)),
        Err(errno) if sys::errno::is_gone(errno) => match missing(volume) {
            StoreError::NoBucket => Ok(None),
            error => Err(error),
        },
        Err(errno) => Err(errno.into()),
    }
}

/// What a bucket that is not there means: in a directory that was removed beneath us, nothing.
pub(super) fn missing(volume: &Volume) -> StoreError {
    if volume.is_removed() { StoreError::VolumeFailed } else { StoreError::NoBucket }
}

/// Whether there is such a bucket: tells a missing bucket from a missing key. What could not be found out is no answer.
pub(super) fn exists(volume: &Volume, name: &str) -> Result<bool> {
    Ok(find(volume, name)?.is_some())
}

/// Makes a bucket. The name was checked by the caller.
pub fn create(volume: &Volume, name: &str) -> Result<Ticket> {
    if !volume.takes_changes() {
        return Err(StoreError::VolumeFailed);
    }
    // While one of this name is made or removed, nobody can have begun an upload that `forget_bucket` would take for an old one.
    let alone = volume.lock_buckets();
    let forgotten = match describe(volume, name)? {
        Some(_) => Forgotten::default(),
        // Uploads of an earlier bucket of this name, whose removal a crash cut short.
        None => multipart::forget_bucket(volume, name)?,
    };
    let made = make(volume, name);
    drop(alone);
    forgotten.discard(volume);
    made
}

fn make(volume: &Volume, name: &str) -> Result<Ticket> {
    for _ in 0..PUBLISH_ATTEMPTS_MAX {
        match sys::path::mkdir(&volume.root, name.as_bytes(), BUCKET_MODE) {
            Ok(()) => {}
            Err(Errno::EXIST) if exists(volume, name)? => {
                // Its maker may not have synced yet.
                volume.sync_each(&[&volume.root])?;
                return Err(StoreError::BucketExists);
            }
            Err(Errno::EXIST) => match sys::stat::at(&volume.root, name.as_bytes()) {
                // A POSIX program is at it as well.
                Err(Errno::NOENT) => continue,
                Ok(_) => return Err(StoreError::Foreign),
                Err(errno) => return Err(errno.into()),
            },
            Err(errno) => return Err(errno.into()),
        }
        match mark(volume, name) {
            Ok(()) => {
                volume.sync_each(&[&volume.root])?;
                return Ok(volume.barrier.published());
            }
            // Somebody has removed it already.
            Err(_) if !exists(volume, name)? => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(StoreError::Contended)
}

fn mark(volume: &Volume, name: &str) -> sys::Result<()> {
    let directory = sys::path::open_dir(&volume.root, name.as_bytes(), Symlinks::Deny)?;
    sys::xattr::write(&directory, DIRECTORY_NAME, &DIRECTORY_MADE_BY_PUT)
}

/// The ticket for "it is there already": what was seen must be durable too.
pub fn observed(volume: &Volume) -> Ticket {
    volume.barrier.observed()
}

/// Removes an empty bucket. Empty directories in it that are somebody's own keep it. `stop` ends the search for an object early.
pub fn delete(volume: &Volume, name: &str, stop: &AtomicBool) -> Result<Ticket> {
    if !volume.takes_changes() {
        return Err(StoreError::VolumeFailed);
    }
    head(volume, name)?;
    if versions::are_there(volume, name, stop)? {
        return Err(StoreError::BucketNotEmpty);
    }
    let mut removed = remove(volume, name);
    if let Err(StoreError::BucketNotEmpty) = removed {
        let directory = open(volume, name)?;
        // A crash between a DELETE and its pruning leaves empty directories of ours, which nobody sees through S3.
        if walk::is_empty(&directory, volume.reading(), stop)? {
            tree::prune_below(volume, name, &directory, b"");
            home::remove(volume, &directory);
            removed = remove(volume, name);
        }
    }
    removed?;
    if let Some(rules) = volume.rules_of(name) {
        versions::forget(volume, &rules);
    }
    Ok(volume.barrier.published())
}

/// Removes the directory and the uploads that were begun in it, before another one of this name can be made.
fn remove(volume: &Volume, name: &str) -> Result<()> {
    let alone = volume.lock_buckets();
    match sys::path::rmdir(&volume.root, name.as_bytes()) {
        Ok(()) => {}
        Err(Errno::NOTEMPTY | Errno::EXIST) => return Err(StoreError::BucketNotEmpty),
        Err(Errno::NOENT) => return Err(StoreError::NoBucket),
        Err(errno) => return Err(errno.into()),
    }
    volume.sync_each(&[&volume.root])?;
    let forgotten = multipart::forget_bucket(volume, name)?;
    drop(alone);
    forgotten.discard(volume);
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
pub fn in_the_way(volume: &Volume, name: &str) -> Result<Option<InTheWay>> {
    let directory = open(volume, name)?;
    if !walk::is_empty(&directory, volume.reading(), &AtomicBool::new(false))? {
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

/// One page of the bucket's keys. `stop` ends the walk early.
pub fn page(volume: &Volume, name: &str, query: &list::Query<'_>, stop: &AtomicBool) -> list::Walked<list::Page> {
    for _ in 0..PUBLISH_ATTEMPTS_MAX {
        let directory = match open(volume, name) {
            Err(StoreError::Kernel(errno)) if sys::errno::cause(errno) == Cause::Denied => {
                return Err(list::WalkError::Unreadable(Vec::new()));
            }
            opened => opened.map_err(list::WalkError::Store)?,
        };
        match list::list(&directory, &volume.snapshots, volume.reading(), query, stop) {
            // The bucket was removed meanwhile, and may be there again.
            Err(list::WalkError::Store(StoreError::Kernel(Errno::NOENT))) => {}
            Err(list::WalkError::Store(StoreError::Kernel(list::BEING_READ))) => {
                return Err(list::WalkError::Store(StoreError::BeingRead));
            }
            page => return page,
        }
    }
    Err(list::WalkError::Store(StoreError::Contended))
}

fn open(volume: &Volume, name: &str) -> Result<OwnedFd> {
    match sys::path::open_dir(&volume.root, name.as_bytes(), Symlinks::Deny) {
        Ok(directory) => Ok(directory),
        Err(errno) if sys::errno::is_gone(errno) => Err(missing(volume)),
        Err(errno) => Err(errno.into()),
    }
}

/// `NoObject` in a bucket that is not there is `NoBucket`.
pub(super) fn or_no_bucket(volume: &Volume, bucket: &str, error: StoreError) -> StoreError {
    match error {
        StoreError::NoObject => match exists(volume, bucket) {
            Ok(true) => StoreError::NoObject,
            Ok(false) => StoreError::NoBucket,
            Err(error) => error,
        },
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Durability;
    use crate::store::batch::{Small, commit_each};
    use crate::store::object;
    use crate::store::record::Record;

    fn fixture() -> (tempfile::TempDir, Volume) {
        let top = tempfile::tempdir().unwrap();
        let volume = Volume::open(top.path().as_os_str().as_encoded_bytes(), Durability::Relaxed).unwrap();
        (top, volume)
    }

    /// The kernel refuses to look a name of 300 bytes up, as it may refuse any other for want of memory or for a broken disk.
    #[test]
    fn what_cannot_be_looked_up_is_an_error_and_not_a_missing_bucket() {
        let (_top, volume) = fixture();
        let name = "b".repeat(300);
        let refused = StoreError::Kernel(Errno::NAMETOOLONG);
        assert_eq!(describe(&volume, &name).unwrap_err(), refused);
        assert_eq!(exists(&volume, &name).unwrap_err(), refused);
        assert_eq!(or_no_bucket(&volume, &name, StoreError::NoObject), refused);
        assert_eq!(create(&volume, &name).unwrap_err(), refused);
        assert_eq!(exists(&volume, "none"), Ok(false));
    }

    /// A name that is taken, by a file or a link, is no bucket to anybody, and cannot become one.
    #[test]
    fn what_is_no_directory_is_no_bucket() {
        let (top, volume) = fixture();
        create(&volume, "bucket").unwrap();
        std::fs::write(top.path().join("file"), b"").unwrap();
        std::os::unix::fs::symlink("bucket", top.path().join("link")).unwrap();
        for name in ["file", "link"] {
            assert_eq!(head(&volume, name).unwrap_err(), StoreError::NoBucket);
            assert_eq!(create(&volume, name).unwrap_err(), StoreError::Foreign);
            assert_eq!(object::open(&volume, name, b"key").unwrap_err(), StoreError::NoBucket);
            for key in [&b"key"[..], b"a/key", b"a/"] {
                let (bucket, key, record) = (name.to_owned(), key.to_vec(), Record::new(0, 0, [0; 16]));
                let small = Small { bucket, key, bytes: Vec::new(), md5: None, record, condition: None };
                assert_eq!(commit_each(&volume, vec![small]).remove(0).unwrap_err(), StoreError::NoBucket);
            }
        }
        assert_eq!(create(&volume, "bucket").unwrap_err(), StoreError::BucketExists);
        assert_eq!(list(&volume, &BucketsQuery { prefix: "", after: "", max: 9 }).unwrap().0.len(), 1);
    }
}
