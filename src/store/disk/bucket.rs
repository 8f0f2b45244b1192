//! A bucket, as a handle: its name, and the disk that it lies on. Whoever holds one knows nothing of whether it is there; each of its
//! ways asks the disk when it has to. What a bucket does as a whole is above (`buckets`), what its objects do in `objects`.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::locks::KeyGuard;
use super::root::Disk;
use super::rules::BucketRules;
use super::turns::Take;
use crate::base::time::Timestamp;
use crate::store::error::{Result, StoreError};
use crate::store::names::key;
use crate::sys;
use crate::sys::path::{OpenFlags, Symlinks};

/// A bucket's name on a disk: two pointers, made for each request.
#[derive(Clone, Copy)]
pub struct Bucket<'a> {
    pub(in crate::store) disk: &'a Disk,
    pub(in crate::store) name: &'a str,
}

/// A bucket that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedBucket {
    /// Its name.
    pub name: String,
    /// When it was made; where the filesystem does not tell, the directory's earliest known time.
    pub created: Timestamp,
}

impl Disk {
    /// The bucket of this name, whether or not it is there.
    pub fn bucket<'a>(&'a self, name: &'a str) -> Bucket<'a> {
        Bucket { disk: self, name }
    }

    /// What a bucket that is not there means: in a directory that was removed beneath us, nothing.
    pub(in crate::store) fn missing_bucket(&self) -> StoreError {
        if self.is_removed() { StoreError::VolumeFailed } else { StoreError::NoBucket }
    }
}

impl<'a> Bucket<'a> {
    /// Whether it is there, and since when.
    pub fn head(&self) -> Result<ListedBucket> {
        if !key::is_bucket_name(self.name.as_bytes()) {
            return Err(StoreError::NoBucket);
        }
        self.describe()?.ok_or(StoreError::NoBucket)
    }

    /// `None`: nothing of that name, or nothing that is a bucket, as another filesystem that is mounted there.
    pub(in crate::store) fn describe(&self) -> Result<Option<ListedBucket>> {
        let Some(directory) = self.find()? else { return Ok(None) };
        let stat = sys::stat::of(&directory)?;
        // Every object made in it changes the other times.
        let born = sys::stat::born_ns(&self.disk.root, self.name.as_bytes()).ok().flatten();
        let nanoseconds = born.unwrap_or_else(|| stat.mtime_ns.min(stat.ctime_ns));
        let created = Timestamp::from_nanoseconds(nanoseconds);
        Ok(Some(ListedBucket { name: self.name.to_owned(), created }))
    }

    /// The bucket's directory, by the rules for every name in it, so that all requests agree on what is a bucket. It need not be
    /// readable: what is not allowed is found out by who does it.
    pub(in crate::store) fn find(&self) -> Result<Option<OwnedFd>> {
        let flags = OpenFlags::PATH | OpenFlags::DIRECTORY;
        match sys::path::open(&self.disk.root, self.name.as_bytes(), flags, 0, Symlinks::Deny) {
            Ok(directory) => Ok(Some(directory)),
            Err(errno) if sys::errno::is_gone(errno) => match self.disk.missing_bucket() {
                StoreError::NoBucket => Ok(None),
                error => Err(error),
            },
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether it is there: tells a missing bucket from a missing key. What could not be found out is no answer.
    pub(in crate::store) fn exists(&self) -> Result<bool> {
        Ok(self.find()?.is_some())
    }

    /// `NoObject` in a bucket that is not there is `NoBucket`.
    pub(in crate::store) fn or_no_bucket(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::NoObject => match self.exists() {
                Ok(true) => StoreError::NoObject,
                Ok(false) => StoreError::NoBucket,
                Err(error) => error,
            },
            error => error,
        }
    }

    /// Its directory, to be read.
    pub(in crate::store) fn open_directory(&self) -> Result<OwnedFd> {
        sys::path::open_dir(&self.disk.root, self.name.as_bytes(), Symlinks::Deny)
            .map_err(|errno| if sys::errno::is_gone(errno) { self.disk.missing_bucket() } else { errno.into() })
    }

    /// The directory `path` in it.
    pub(in crate::store) fn open_below(&self, path: &[u8]) -> sys::Result<OwnedFd> {
        sys::path::open_dir(&self.disk.root, &self.path_of(path), Symlinks::Deny)
    }

    /// Where `path` of this bucket lies beneath the served directory; the bucket itself for an empty one.
    pub(in crate::store) fn path_of(&self, path: &[u8]) -> Vec<u8> {
        join(self.name, path)
    }

    /// Appends the path of `key`'s object beneath the served directory.
    pub(in crate::store) fn write_path(&self, path: &mut Vec<u8>, key: &[u8]) {
        begin(path, self.name);
        key::write_path(path, key);
    }

    /// What changes in it must keep; `None`: nothing is kept, and nothing was.
    pub fn rules(&self) -> Option<Arc<BucketRules>> {
        let rules = self.disk.rules.load();
        if rules.is_empty() { None } else { rules.get(self.name).cloned() }
    }

    /// The lock of a key: for a moment, in which a change is one step.
    pub(in crate::store) fn lock(&self, key: &[u8]) -> KeyGuard<'a> {
        self.disk.locks.lock(self.name, key)
    }

    /// The locks of two keys.
    pub(in crate::store) fn lock_both(&self, one: &[u8], other: &[u8]) -> KeyGuard<'a> {
        self.disk.locks.lock_both(self.name, one, other)
    }

    /// Waits, on a core, until it is this request's turn to change a key (`turns`).
    pub fn turn(&self, key: &[u8]) -> Take {
        self.disk.take_turn(self.name, key, false)
    }

    /// The same for a request whose change is made in company (`Disk::commits_together`): those of one core go together.
    pub fn turn_in_company(&self, key: &[u8]) -> Take {
        self.disk.take_turn(self.name, key, true)
    }
}

/// `top/path`, or `top` where the path is empty.
pub(super) fn join(top: &str, path: &[u8]) -> Vec<u8> {
    if path.is_empty() {
        return top.as_bytes().to_vec();
    }
    let mut joined = Vec::with_capacity(top.len() + 1 + path.len());
    begin(&mut joined, top);
    joined.extend_from_slice(path);
    joined
}

fn begin(path: &mut Vec<u8>, top: &str) {
    path.extend_from_slice(top.as_bytes());
    path.push(b'/');
}
