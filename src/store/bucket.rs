//! Buckets: the top-level directories of the served directory with a legal bucket name.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicBool;

use super::barrier::Ticket;
use super::multipart;
use super::record::{DIRECTORY_MADE_BY_PUT, DIRECTORY_NAME};
use super::staging::Purpose;
use super::volume::Volume;
use super::{Result, StoreError, home, inherit, tree, versions, walk};
use super::{key, list};
use crate::base::time::Timestamp;
use crate::limits::{KEY_SIZE_MAX, PUBLISH_ATTEMPTS_MAX};
use crate::model::{BucketId, Carried, DirectoryIdentity, FoundDirectory};
use crate::sys::path::{OpenFlags, Symlinks};
use crate::sys::{self, Cause, Errno, FileKind};

/// Mode of a bucket's directory, before the umask.
const BUCKET_MODE: u32 = 0o755;
/// The attribute of a bucket's directory in which its id stands, in hexadecimal digits.
const BUCKET_NAME: &CStr = c"user.sluice.bucket";

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
    let names = names(volume, query.prefix, query.after)?;
    let mut buckets = names.into_iter().filter_map(|name| describe(volume, &name).transpose());
    let page = buckets.by_ref().take(query.max).collect::<Result<Vec<_>>>()?;
    Ok((page, buckets.next().transpose()?.is_some()))
}

/// What may be buckets, in order.
fn names(volume: &Volume, prefix: &str, after: &str) -> Result<BTreeSet<String>> {
    let root = sys::path::open_dir(&volume.root, b"", Symlinks::Deny)?;
    let mut names = BTreeSet::new();
    let mut buffer = sys::dir::buffer(64 * 1024);
    let _ = volume.reading().visit(&root, &mut buffer, |entry| {
        let is_wanted = entry.name > after.as_bytes() && entry.name.starts_with(prefix.as_bytes());
        if is_wanted && entry.kind.is_none_or(|kind| kind == FileKind::Directory) && key::is_bucket_name(entry.name) {
            names.insert(String::from_utf8_lossy(entry.name).into_owned());
        }
        std::ops::ControlFlow::<()>::Continue(())
    })?;
    Ok(names)
}

/// Every bucket, and which directory it is.
pub fn identify_all(volume: &Volume) -> Result<Vec<(String, FoundDirectory)>> {
    let of = |name: String| identify(volume, &name).map(|found| found.map(|found| (name, found))).transpose();
    names(volume, "", "")?.into_iter().filter_map(of).collect()
}

/// Which directory a bucket is; `None`: there is no such bucket.
pub fn identify(volume: &Volume, name: &str) -> Result<Option<FoundDirectory>> {
    let Some(directory) = find(volume, name)? else { return Ok(None) };
    let identity = identity(&directory, volume.root.as_fd(), name.as_bytes())?;
    let mut text = [0; 2 * BucketId::SIZE];
    let carries = match sys::xattr::read_at(&volume.root, name.as_bytes(), BUCKET_NAME, &mut text) {
        Ok(Some(size)) => BucketId::parse(&text[..size]).map_or(Carried::Illegible, Carried::Id),
        Err(Errno::RANGE) => Carried::Illegible,
        Ok(None) => Carried::Nothing,
        // What may not be read says nothing, and is used by nobody.
        Err(errno) if matches!(sys::errno::cause(errno), Cause::Denied | Cause::Unsupported) => Carried::Nothing,
        Err(errno) if sys::errno::is_gone(errno) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    Ok(Some(FoundDirectory { identity, carries }))
}

fn identity(directory: &OwnedFd, parent: BorrowedFd<'_>, name: &[u8]) -> Result<DirectoryIdentity> {
    let inode = sys::stat::of(directory)?.inode;
    Ok(DirectoryIdentity { inode, born_ns: sys::stat::born_ns(parent, name).ok().flatten() })
}

/// Has a bucket's directory carry its id. False where it cannot: a directory of somebody else's.
pub fn carry(volume: &Volume, name: &str, id: BucketId) -> Result<bool> {
    let directory = open(volume, name)?;
    match sys::xattr::write(&directory, BUCKET_NAME, id.to_string().as_bytes()) {
        Ok(()) => volume.sync_each(&[&directory]).map(|()| true),
        Err(errno) if matches!(sys::errno::cause(errno), Cause::Denied | Cause::Unsupported | Cause::NoSpace) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
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

/// Makes a bucket that carries this id. The name was checked by the caller. Before it has its name, `note` is told which directory it
/// is; where a directory cannot be moved to its name, once more of another.
pub fn create_known<E: From<StoreError>>(
    volume: &Volume,
    name: &str,
    id: BucketId,
    note: impl FnMut(DirectoryIdentity) -> std::result::Result<(), E>,
) -> std::result::Result<Ticket, E> {
    if !volume.takes_changes() {
        return Err(StoreError::VolumeFailed.into());
    }
    // While one of this name is made or removed, nobody can have begun an upload that `forget_bucket` would take for an old one.
    let alone = volume.lock_buckets();
    check_free(volume, name)?;
    // Uploads of an earlier bucket of this name, whose removal a crash cut short.
    let forgotten = multipart::forget_bucket(volume, name)?;
    let made = make_whole(volume, name, id, note);
    drop(alone);
    forgotten.discard(volume);
    made
}

/// Whether nothing has the name.
fn check_free(volume: &Volume, name: &str) -> Result<()> {
    match sys::stat::at(&volume.root, name.as_bytes()) {
        Err(errno) if sys::errno::is_gone(errno) => match missing(volume) {
            StoreError::NoBucket => Ok(()),
            error => Err(error),
        },
        Err(errno) => Err(errno.into()),
        Ok(_) if exists(volume, name)? => {
            // Its maker may not have synced yet.
            volume.sync_each(&[&volume.root])?;
            Err(StoreError::BucketExists)
        }
        Ok(_) => Err(StoreError::Foreign),
    }
}

/// Complete in staging, then named: nobody sees it without its id.
fn make_whole<E: From<StoreError>>(
    volume: &Volume,
    name: &str,
    id: BucketId,
    mut note: impl FnMut(DirectoryIdentity) -> std::result::Result<(), E>,
) -> std::result::Result<Ticket, E> {
    let staging = volume.staging()?;
    let new = staging.name(&Purpose::New);
    sys::path::mkdir(staging.directory(), &new, BUCKET_MODE).map_err(StoreError::from)?;
    let directory = furnish(volume, staging.directory(), &new, id).map_err(E::from);
    let noted = directory.and_then(|directory| note(identity(&directory, staging.directory().as_fd(), &new)?));
    let named = noted.map(|()| volume.rename_new(staging.directory(), &new, &volume.root, name.as_bytes()));
    if !matches!(named, Ok(Ok(()))) {
        let _ = sys::path::rmdir(staging.directory(), &new);
    }
    match named? {
        Ok(()) => {}
        Err(Errno::XDEV) => make_in_place(volume, name, id, note)?,
        // A POSIX program was quicker, and may be at it still.
        Err(Errno::EXIST | Errno::NOTEMPTY) => {
            return Err(check_free(volume, name).err().unwrap_or(StoreError::Contended).into());
        }
        Err(errno) => return Err(StoreError::from(errno).into()),
    }
    volume.sync_each(&[&volume.root])?;
    Ok(volume.barrier.published())
}

/// Where what is in staging cannot be renamed to here (another project id): a crash may leave it without its id.
fn make_in_place<E: From<StoreError>>(
    volume: &Volume,
    name: &str,
    id: BucketId,
    mut note: impl FnMut(DirectoryIdentity) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    match sys::path::mkdir(&volume.root, name.as_bytes(), BUCKET_MODE) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Err(check_free(volume, name).err().unwrap_or(StoreError::Contended).into()),
        Err(errno) => return Err(StoreError::from(errno).into()),
    }
    let directory = open(volume, name)?;
    note(identity(&directory, volume.root.as_fd(), name.as_bytes())?)?;
    mark(volume, &directory, Some(id))?;
    Ok(())
}

/// As if it were made among the buckets.
fn furnish(volume: &Volume, parent: &OwnedFd, name: &[u8], id: BucketId) -> Result<OwnedFd> {
    let directory = sys::path::open_dir(parent, name, Symlinks::Deny)?;
    inherit::directory_from_directory(&directory, &volume.root, BUCKET_MODE)?;
    mark(volume, &directory, Some(id))?;
    Ok(directory)
}

fn mark(volume: &Volume, directory: &OwnedFd, id: Option<BucketId>) -> Result<()> {
    sys::xattr::write(directory, DIRECTORY_NAME, &DIRECTORY_MADE_BY_PUT)?;
    if let Some(id) = id {
        sys::xattr::write(directory, BUCKET_NAME, id.to_string().as_bytes())?;
    }
    volume.sync_each(&[directory])
}

/// Makes a bucket that nobody configured, as a POSIX program does, for tests of what is done in it.
#[cfg(test)]
pub fn create(volume: &Volume, name: &str) -> Result<Ticket> {
    if !volume.takes_changes() {
        return Err(StoreError::VolumeFailed);
    }
    let alone = volume.lock_buckets();
    check_free(volume, name)?;
    let forgotten = multipart::forget_bucket(volume, name)?;
    sys::path::mkdir(&volume.root, name.as_bytes(), BUCKET_MODE)?;
    mark(volume, &open(volume, name)?, None)?;
    volume.sync_each(&[&volume.root])?;
    drop(alone);
    forgotten.discard(volume);
    Ok(volume.barrier.published())
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

    fn id(number: u8) -> BucketId {
        BucketId::new([number; 16])
    }

    #[test]
    fn a_bucket_is_seen_with_its_id_or_not_at_all() {
        let (top, volume) = fixture();
        let mut noted = None;
        let note = |identity| {
            assert!(!top.path().join("bucket").exists(), "it is told of before it has its name");
            noted = Some(identity);
            Ok::<_, StoreError>(())
        };
        create_known(&volume, "bucket", id(7), note).unwrap();
        let found = identify(&volume, "bucket").unwrap().unwrap();
        assert_eq!((Some(found.identity), found.carries), (noted, Carried::Id(id(7))));
        let again = create_known::<StoreError>(&volume, "bucket", id(8), |_| panic!("it is there"));
        assert_eq!(again.unwrap_err(), StoreError::BucketExists);
        let refused = create_known(&volume, "other", id(9), |_| Err(StoreError::Contended));
        assert_eq!((refused.unwrap_err(), identify(&volume, "other")), (StoreError::Contended, Ok(None)));
        let lost = create_known(&volume, "lost", id(9), |_| {
            std::fs::create_dir(top.path().join("lost")).unwrap();
            Ok::<_, StoreError>(())
        });
        assert_eq!(lost.unwrap_err(), StoreError::BucketExists, "somebody was quicker");
        assert_eq!(identify(&volume, "lost").unwrap().unwrap().carries, Carried::Nothing);
        assert_eq!(std::fs::read_dir(top.path().join(".sluice/staging")).unwrap().count(), 0);
        let names: Vec<String> = identify_all(&volume).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["bucket", "lost"]);
        delete(&volume, "bucket", &AtomicBool::new(false)).unwrap();
        assert_eq!(identify(&volume, "bucket"), Ok(None));
    }

    #[test]
    fn what_a_directory_carries_is_an_id_or_illegible() {
        let (_top, volume) = fixture();
        create(&volume, "bucket").unwrap();
        assert_eq!(carry(&volume, "bucket", id(1)), Ok(true));
        assert_eq!(identify(&volume, "bucket").unwrap().unwrap().carries, Carried::Id(id(1)));
        let directory = open(&volume, "bucket").unwrap();
        for text in [&b""[..], b"7", &[b'x'; 32], &[b'0'; 33]] {
            sys::xattr::write(&directory, BUCKET_NAME, text).unwrap();
            assert_eq!(identify(&volume, "bucket").unwrap().unwrap().carries, Carried::Illegible, "{text:?}");
        }
        assert_eq!(carry(&volume, "none", id(1)), Err(StoreError::NoBucket));
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
