//! Is there any object below? Answers for a CommonPrefix and for DeleteBucket, in the filesystem's order and without
//! sorting: the first object found ends the search.

use crate::limits::{RECORD_SIZE_MAX, WALK_PENDING_MAX};
use crate::store::disk::reading::Reading;
use crate::store::error::StoreError;
use crate::store::names::key::{self, Entry};
use crate::store::names::record::SUMMARY_NAME;
use crate::store::names::subtree::{EntryKind, Subtree, classify};
use crate::sys::dir::{self, DirEntry};
use crate::sys::path::Symlinks;
use crate::sys::{Cause, Errno, FileKind, Result, errno, path, xattr};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

/// Why a walk through a bucket's tree has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalkError {
    /// The server's user may not read this directory, so that nobody knows which keys begin with this.
    Unreadable(Vec<u8>),
    Store(StoreError),
}

impl From<Errno> for WalkError {
    fn from(errno: Errno) -> Self {
        Self::Store(errno.into())
    }
}

/// What is in a subtree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Below {
    Object,
    Nothing,
    /// No object where we may look; but not into this directory, and what keys in it begin with.
    Unreadable(Vec<u8>),
}

/// Whether any key begins with `subtree.prefix`. `stop` ends it early with ECANCELED.
pub fn look_below(bucket: impl AsFd, subtree: &Subtree, reading: Reading<'_>, stop: &AtomicBool) -> Result<Below> {
    // An object that was found is one, whatever else was missed; that there is none has to be proved, and is hardly ever so.
    let bucket = bucket.as_fd();
    match Search::new(bucket, None, stop).run(subtree.clone(), false)? {
        Below::Object => Ok(Below::Object),
        Below::Nothing | Below::Unreadable(_) => Search::new(bucket, Some(reading), stop).run(subtree.clone(), false),
    }
}

/// Whether nothing in the bucket is, or may be, an object.
pub fn is_empty(bucket: impl AsFd, reading: Reading<'_>, stop: &AtomicBool) -> Result<bool> {
    look_below(bucket, &Subtree::default(), reading, stop).map(|below| below == Below::Nothing)
}

/// Whether the directory has a record: it is the explicit object of its prefix.
fn has_record(directory: BorrowedFd<'_>) -> Result<bool> {
    let mut record = [0; RECORD_SIZE_MAX];
    match xattr::read(directory, SUMMARY_NAME, &mut record) {
        Ok(Some(size)) => Ok(crate::store::names::record::Summary::decode(&record[..size]).is_ok()),
        Ok(None) | Err(Errno::RANGE) => Ok(false),
        Err(errno) if matches!(errno::cause(errno), Cause::Unsupported | Cause::Denied) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// A search under way.
struct Search<'a> {
    bucket: BorrowedFd<'a>,
    /// How directories are read so that nothing is missed; `None`: as they come.
    reading: Option<Reading<'a>>,
    stop: &'a AtomicBool,
    /// What keys begin with in the first directory that we may not read.
    unreadable: Option<Vec<u8>>,
}

impl<'a> Search<'a> {
    fn new(bucket: BorrowedFd<'a>, reading: Option<Reading<'a>>, stop: &'a AtomicBool) -> Self {
        Self { bucket, reading, stop, unreadable: None }
    }

    /// `counts_inner`: whether the object with the directory's own name, inside it, is one that is searched for.
    fn run(mut self, subtree: Subtree, counts_inner: bool) -> Result<Below> {
        if self.search(subtree, counts_inner)? {
            return Ok(Below::Object);
        }
        Ok(self.unreadable.map_or(Below::Nothing, Below::Unreadable))
    }

    fn search(&mut self, subtree: Subtree, counts_inner: bool) -> Result<bool> {
        // One page: the first entries nearly always decide.
        let mut buffer = dir::buffer(4096);
        let mut pending = vec![(subtree, counts_inner)];
        while let Some((subtree, counts_inner)) = pending.pop() {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Errno::CANCELED);
            }
            let found = self.open(&subtree).and_then(|directory| match directory {
                Some(directory) if subtree.may_be_object() && has_record(directory.as_fd())? => Ok(true),
                Some(directory) => self.scan(&directory, &subtree, counts_inner, &mut pending, &mut buffer),
                None => Ok(false),
            });
            match found {
                Ok(false) => {}
                Ok(true) => return Ok(true),
                Err(errno) if errno::cause(errno) == Cause::Denied => drop(self.unreadable.get_or_insert(subtree.prefix)),
                // Removed since it was opened.
                Err(errno) if errno::is_gone(errno) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(false)
    }

    /// The directory of a subtree; `None` when it is not there.
    fn open(&self, subtree: &Subtree) -> Result<Option<OwnedFd>> {
        match path::open_dir(self.bucket, &subtree.path, Symlinks::Deny) {
            Ok(directory) => Ok(Some(directory)),
            Err(errno) if errno::is_gone(errno) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// One directory: `true` for an object in it; its directories are noted in `pending`, or searched at once when that is full.
    fn scan(
        &mut self,
        directory: &OwnedFd,
        subtree: &Subtree,
        counts_inner: bool,
        pending: &mut Vec<(Subtree, bool)>,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Result<bool> {
        let reading = self.reading;
        let take = |entry: DirEntry<'_>| {
            let kind = match entry.kind_in(directory) {
                Ok(kind) => kind,
                Err(errno) if errno::is_gone(errno) => return ControlFlow::Continue(()),
                Err(errno) => return ControlFlow::Break(Err(errno)),
            };
            let decoded = key::decode_name(entry.name);
            let is_regular = kind == FileKind::Regular;
            match decoded {
                Entry::BodyOfDirectory if is_regular && subtree.may_be_object() => return ControlFlow::Break(Ok(true)),
                Entry::ObjectOfDirectory if is_regular && counts_inner => return ControlFlow::Break(Ok(true)),
                _ => {}
            }
            let Some((name, kind)) = classify(decoded, kind) else { return ControlFlow::Continue(()) };
            if matches!(kind, EntryKind::File | EntryKind::LastFile) {
                let found = subtree.key_of(name, kind).is_some();
                return if found { ControlFlow::Break(Ok(true)) } else { ControlFlow::Continue(()) };
            }
            let Some(child) = subtree.child(name, kind) else { return ControlFlow::Continue(()) };
            let counts_inner = subtree.key_of(name, kind).is_some();
            if pending.len() < WALK_PENDING_MAX {
                pending.push((child, counts_inner));
                return ControlFlow::Continue(());
            }
            match self.search(child, counts_inner) {
                Ok(false) => ControlFlow::Continue(()),
                answer => ControlFlow::Break(answer),
            }
        };
        let end = match reading {
            Some(reading) => reading.visit(directory, buffer, take)?,
            None => dir::read(directory, buffer, take)?,
        };
        match end {
            ControlFlow::Break(answer) => answer,
            ControlFlow::Continue(()) => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::grain::Grain;
    use crate::store::listing::cache::Alone;
    use crate::store::names::record::Record;
    use std::fs::{File, create_dir_all, write};

    fn below(bucket: &File, prefix: &[u8]) -> Below {
        let cache = Alone::new(0, true);
        let (subtree, reading) = (Subtree::of_prefix(prefix).unwrap(), cache.reading(Grain::ASSUMED));
        look_below(bucket, &subtree, reading, &AtomicBool::new(false)).unwrap()
    }

    fn holds(bucket: &File, prefix: &[u8]) -> bool {
        below(bucket, prefix) == Below::Object
    }

    fn empty(bucket: &File) -> bool {
        let cache = Alone::new(0, true);
        is_empty(bucket, cache.reading(Grain::ASSUMED), &AtomicBool::new(false)).unwrap()
    }

    #[test]
    fn only_objects_count() {
        let top = tempfile::tempdir().unwrap();
        let bucket = File::open(top.path()).unwrap();
        create_dir_all(top.path().join("a/b/c")).unwrap();
        create_dir_all(top.path().join(".sluice/x")).unwrap();
        write(top.path().join(".sluice/x/file"), b"").unwrap();
        std::os::unix::fs::symlink("x", top.path().join("a/link")).unwrap();
        assert!(empty(&bucket));
        write(top.path().join("a/.sluice%o"), b"").unwrap();
        assert!(!holds(&bucket, b"a/"), "the key `a` is not below `a/`");
        assert!(!empty(&bucket));
        write(top.path().join("a/b/.sluice%o"), b"").unwrap();
        assert!(holds(&bucket, b"a/") && !holds(&bucket, b"a/b/"));
        let directory = File::open(top.path().join("a/b/c")).unwrap();
        xattr::write(&directory, SUMMARY_NAME, Record::new(0, 0, [0; 16]).encode().summary()).unwrap();
        assert!(holds(&bucket, b"a/b/") && holds(&bucket, b"a/b/c/"));
        assert!(!holds(&bucket, b"missing/"));
    }

    #[test]
    fn stopped_is_an_error_not_an_answer() {
        let top = tempfile::tempdir().unwrap();
        let bucket = File::open(top.path()).unwrap();
        let cache = Alone::new(0, true);
        let reading = cache.reading(Grain::ASSUMED);
        assert_eq!(is_empty(&bucket, reading, &AtomicBool::new(true)), Err(Errno::CANCELED));
    }
}
