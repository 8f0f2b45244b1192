//! Is there any object below? Answers for a CommonPrefix and for DeleteBucket, in the filesystem's order and without
//! sorting: the first object found ends the search.

use super::key::{self, Entry};
use super::record::SUMMARY_NAME;
use crate::limits::{KEY_SIZE_MAX, RECORD_SIZE_MAX, WALK_PENDING_MAX};
use crate::sys::path::Symlinks;
use crate::sys::{Cause, Errno, FileKind, Result, dir, errno, path, xattr};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

/// A directory of a bucket's tree and what keys in it begin with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Beneath the bucket; empty for the bucket itself.
    pub path: Vec<u8>,
    /// What every key in here begins with: ends with `/`, or with `long_size` bytes of a long component.
    pub prefix: Vec<u8>,
    /// Bytes of a long component that were in the names of piece directories up to here; 0 outside of one.
    pub long_size: usize,
}

/// One directory entry that an object may come from, in the context of its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    File,
    Directory,
    /// A directory with the next 200 bytes of a long component.
    Piece,
    LastFile,
    LastDirectory,
}

impl EntryKind {
    /// Whether the same file name could be of either kind: what distinguishes them is only what the file is.
    pub fn is_family_of(self, other: Self) -> bool {
        let family = |kind| match kind {
            Self::File | Self::Directory => Self::File,
            Self::Piece => Self::Piece,
            Self::LastFile | Self::LastDirectory => Self::LastFile,
        };
        family(self) == family(other)
    }
}

impl Place {
    /// The place of all keys that begin with `prefix` up to its last slash. `None`: no key does.
    pub fn of_prefix(prefix: &[u8]) -> Option<Self> {
        let Some(slash) = prefix.iter().rposition(|&byte| byte == b'/') else { return Some(Self::default()) };
        let components = &prefix[..=slash];
        key::check(components).ok()?;
        Some(Self { path: key::path_of(&prefix[..slash]), prefix: components.to_vec(), long_size: 0 })
    }

    /// The key of a file's entry; `None` where it is none's.
    pub fn key_of(&self, name: &[u8], kind: EntryKind) -> Option<Vec<u8>> {
        let fits = match kind {
            EntryKind::File | EntryKind::Directory => self.long_size == 0 && !name.is_empty(),
            EntryKind::LastFile | EntryKind::LastDirectory => self.is_whole(name),
            EntryKind::Piece => false,
        };
        let key = [&self.prefix, name].concat();
        (fits && key.len() <= KEY_SIZE_MAX).then_some(key)
    }

    /// The directory below of this entry; `None` where no key can be in it.
    pub fn child(&self, name: &[u8], kind: EntryKind) -> Option<Self> {
        let (end, long_size) = match kind {
            EntryKind::Directory if self.long_size == 0 => (&b"/"[..], 0),
            EntryKind::LastDirectory if self.is_whole(name) => (&b"/"[..], 0),
            EntryKind::Piece => (&b""[..], self.long_size + name.len()),
            _ => return None,
        };
        let prefix = [&self.prefix, name, end].concat();
        if prefix.len() > KEY_SIZE_MAX {
            return None;
        }
        let mut path = Vec::with_capacity(self.path.len() + name.len() + 16);
        path.extend_from_slice(&self.path);
        if !path.is_empty() {
            path.push(b'/');
        }
        push_name(&mut path, name, kind);
        Some(Self { path, prefix, long_size })
    }

    /// Whether a directory here may itself be the object `prefix`.
    pub fn may_be_object(&self) -> bool {
        self.long_size == 0 && !self.prefix.is_empty()
    }

    /// Whether `last` completes a long component, canonically.
    fn is_whole(&self, last: &[u8]) -> bool {
        let begun = &self.prefix[self.prefix.len() - self.long_size..];
        let component = [begun, last].concat();
        self.long_size > 0 && key::is_long(&component) && std::str::from_utf8(&component).is_ok()
    }
}

/// Appends the file name of an entry.
pub fn push_name(path: &mut Vec<u8>, name: &[u8], kind: EntryKind) {
    match kind {
        EntryKind::File | EntryKind::Directory => key::push_names(path, name),
        EntryKind::Piece => key::push_piece(path, name),
        EntryKind::LastFile | EntryKind::LastDirectory => key::push_last_piece(path, name),
    }
}

/// What a directory entry is: the name as it stands in a key, and its kind. `None` for everything that is no part of an object.
pub fn classify(entry: Entry<'_>, kind: FileKind) -> Option<(&[u8], EntryKind)> {
    match (entry, kind) {
        // `.sluice%e` is never a file: such a key ends with a slash and is a directory's.
        (Entry::Component(b""), FileKind::Regular) => None,
        (Entry::Component(name), FileKind::Regular) => Some((name, EntryKind::File)),
        (Entry::Component(name), FileKind::Directory) => Some((name, EntryKind::Directory)),
        (Entry::PiecePrefix(name), FileKind::Directory) => Some((name, EntryKind::Piece)),
        (Entry::PieceLast(name), FileKind::Regular) => Some((name, EntryKind::LastFile)),
        (Entry::PieceLast(name), FileKind::Directory) => Some((name, EntryKind::LastDirectory)),
        _ => None,
    }
}

/// Whether any key begins with `place.prefix`. `stop` ends it early with ECANCELED.
pub fn holds_object(bucket: impl AsFd, place: Place, stop: &AtomicBool) -> Result<bool> {
    search(bucket.as_fd(), place, false, stop)
}

/// Whether the bucket has no object.
pub fn is_empty(bucket: impl AsFd, stop: &AtomicBool) -> Result<bool> {
    holds_object(bucket, Place::default(), stop).map(|found| !found)
}

/// The directory of a place; `None` when it is not there, or not ours to read.
pub fn open(bucket: BorrowedFd<'_>, place: &Place) -> Result<Option<OwnedFd>> {
    match path::open_dir(bucket, &place.path, Symlinks::Deny) {
        Ok(directory) => Ok(Some(directory)),
        Err(errno) if errno::is_gone(errno) || errno::cause(errno) == Cause::Denied => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Whether the directory has a record: it is the explicit object of its prefix.
fn has_record(directory: BorrowedFd<'_>) -> Result<bool> {
    let mut record = [0; RECORD_SIZE_MAX];
    match xattr::read(directory, SUMMARY_NAME, &mut record) {
        Ok(Some(size)) => Ok(super::record::Summary::decode(&record[..size]).is_ok()),
        Ok(None) | Err(Errno::RANGE) => Ok(false),
        Err(errno) if matches!(errno::cause(errno), Cause::Unsupported | Cause::Denied) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// `counts_inner`: whether the object with the directory's own name, inside it, is one that is searched for.
fn search(bucket: BorrowedFd<'_>, place: Place, counts_inner: bool, stop: &AtomicBool) -> Result<bool> {
    // One page: the first entries nearly always decide.
    let mut buffer = dir::buffer(4096);
    let mut pending = vec![(place, counts_inner)];
    while let Some((place, counts_inner)) = pending.pop() {
        if stop.load(Ordering::Relaxed) {
            return Err(Errno::CANCELED);
        }
        let Some(directory) = open(bucket, &place)? else { continue };
        if place.may_be_object() && has_record(directory.as_fd())? {
            return Ok(true);
        }
        if scan(bucket, &directory, &place, counts_inner, &mut pending, &mut buffer, stop)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// One directory: `true` for an object in it; its directories are noted in `pending`, or searched at once when that is full.
fn scan(
    bucket: BorrowedFd<'_>,
    directory: &OwnedFd,
    place: &Place,
    counts_inner: bool,
    pending: &mut Vec<(Place, bool)>,
    buffer: &mut [MaybeUninit<u8>],
    stop: &AtomicBool,
) -> Result<bool> {
    let end = dir::read(directory, buffer, |entry| {
        let kind = match entry.kind_in(directory) {
            Ok(kind) => kind,
            Err(errno) if errno::is_gone(errno) => return ControlFlow::Continue(()),
            Err(errno) => return ControlFlow::Break(Err(errno)),
        };
        let decoded = key::decode_name(entry.name);
        let is_regular = kind == FileKind::Regular;
        match decoded {
            Entry::BodyOfDirectory if is_regular && place.may_be_object() => return ControlFlow::Break(Ok(true)),
            Entry::ObjectOfDirectory if is_regular && counts_inner => return ControlFlow::Break(Ok(true)),
            _ => {}
        }
        let Some((name, kind)) = classify(decoded, kind) else { return ControlFlow::Continue(()) };
        if matches!(kind, EntryKind::File | EntryKind::LastFile) {
            let found = place.key_of(name, kind).is_some();
            return if found { ControlFlow::Break(Ok(true)) } else { ControlFlow::Continue(()) };
        }
        let Some(child) = place.child(name, kind) else { return ControlFlow::Continue(()) };
        let counts_inner = place.key_of(name, kind).is_some();
        if pending.len() < WALK_PENDING_MAX {
            pending.push((child, counts_inner));
            return ControlFlow::Continue(());
        }
        match search(bucket, child, counts_inner, stop) {
            Ok(false) => ControlFlow::Continue(()),
            answer => ControlFlow::Break(answer),
        }
    })?;
    match end {
        ControlFlow::Break(answer) => answer,
        ControlFlow::Continue(()) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Record;
    use super::*;
    use std::fs::{File, create_dir_all, write};

    fn holds(bucket: &File, prefix: &[u8]) -> bool {
        holds_object(bucket, Place::of_prefix(prefix).unwrap(), &AtomicBool::new(false)).unwrap()
    }

    #[test]
    fn only_objects_count() {
        let top = tempfile::tempdir().unwrap();
        let bucket = File::open(top.path()).unwrap();
        create_dir_all(top.path().join("a/b/c")).unwrap();
        create_dir_all(top.path().join(".sluice/x")).unwrap();
        write(top.path().join(".sluice/x/file"), b"").unwrap();
        std::os::unix::fs::symlink("x", top.path().join("a/link")).unwrap();
        assert!(is_empty(&bucket, &AtomicBool::new(false)).unwrap());
        write(top.path().join("a/.sluice%o"), b"").unwrap();
        assert!(!holds(&bucket, b"a/"), "the key `a` is not below `a/`");
        assert!(!is_empty(&bucket, &AtomicBool::new(false)).unwrap());
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
        assert_eq!(is_empty(&bucket, &AtomicBool::new(true)), Err(Errno::CANCELED));
    }
}
