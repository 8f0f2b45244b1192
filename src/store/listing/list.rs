//! Which keys are there, in S3's order: the bytes of the whole key.
//!
//! A directory's names do not sort like keys: `a/b` comes after `a-x`, the object `a` that lives inside the directory `a`
//! before both, and a long component is spread over directories of its pieces. So a page is a best-first walk: a heap of
//! lower bounds, each with what would be done there. The least bound is taken; an entry gives its key and moves its
//! directory's cursor on, a directory gives a new cursor when its turn comes. Nothing outside of the asked range is opened:
//! the prefix leads straight to its deepest directory, a marker is found by binary search, and with a delimiter a subtree
//! costs one search for a witness that it holds an object.
//!
//! Symlinks, FIFOs, devices, mounts, `.sluice` and everything with a name that `key` does not write are no objects. What
//! vanishes while we look is skipped. Any failure fails the page, because a listing with holes makes `sync` delete files: also that
//! of a directory which the server may not read, unless the operator wants those skipped. Blocks: helper threads only.

#[cfg(test)]
mod tests;

use super::cache::SnapshotCache;
use super::read;
use super::snapshot::Snapshot;
use super::walk::{self, Below, WalkError};
use crate::config::ListUnreadable;
use crate::limits::{LISTING_HANDLES_MAX, NAME_SIZE_MAX, RECORD_SIZE_MAX, SCAN_NAMES_MAX};
use crate::store::disk::reading::Reading;
use crate::store::disk::summary::{decode, fetch};
use crate::store::names::key::{self, BODY_OF_DIRECTORY, OBJECT_OF_DIRECTORY};
use crate::store::names::record::{SUMMARY_NAME, Summary};
use crate::store::names::subtree::{EntryKind, Subtree, push_name};
use crate::sys::path::{self, OpenFlags, Symlinks};
use crate::sys::{Cause, Errno, FileStat, clock, errno, stat, xattr};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicBool};

/// What a page is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<'a> {
    pub prefix: &'a [u8],
    /// Empty: none.
    pub delimiter: &'a [u8],
    /// `marker`, `start-after` or the key of a continuation token: only what comes after it. One that is a CommonPrefix, or
    /// lies in one, skips all of that.
    pub after: &'a [u8],
    /// Entries, CommonPrefixes included.
    pub max: usize,
    /// What becomes of directories that the server's user may not read.
    pub unreadable: ListUnreadable,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Object(Object),
    CommonPrefix(Vec<u8>),
}

impl Entry {
    /// What the next page goes on after.
    pub fn marker(&self) -> &[u8] {
        match self {
            Self::Object(object) => &object.key,
            Self::CommonPrefix(prefix) => prefix,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub key: Vec<u8>,
    /// Of the file; of the directory for an explicit `dir/` without a body, whose size and time are the summary's.
    pub stat: FileStat,
    /// The record, when it is still true of the file.
    pub summary: Option<Summary>,
    /// It has no record, and its times need not tell of the next change.
    pub may_change_unseen: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub entries: Vec<Entry>,
    /// More follows; go on after the last entry's `marker`.
    pub is_truncated: bool,
    /// Directories that were left out.
    pub unreadable: Unreadable,
}

/// Directories that the server's user may not read, as far as a page came to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unreadable {
    /// How many.
    pub count: u32,
    /// What keys in the last one begin with.
    pub last: Vec<u8>,
}

/// What a walk answers.
pub type Walked<T> = std::result::Result<T, WalkError>;

/// One page of the bucket's keys. `stop` ends it early with ECANCELED, for a client that is gone.
pub fn list(
    bucket: impl AsFd,
    cache: &SnapshotCache,
    reading: Reading<'_>,
    query: &Query<'_>,
    stop: &AtomicBool,
) -> Walked<Page> {
    let Some(start) = start_of(query).filter(|_| query.max > 0) else { return Ok(Page::default()) };
    let Some(subtree) = Subtree::of_prefix(query.prefix) else { return Ok(Page::default()) };
    let mut walk = Walk {
        bucket: bucket.as_fd(),
        cache,
        reading,
        begun_ns: clock::realtime_ns(),
        query,
        stop,
        start,
        heap: BinaryHeap::new(),
        handles: VecDeque::new(),
        directories: 0,
        scan_max: SCAN_NAMES_MAX,
        page: Page::default(),
    };
    walk.push(subtree.prefix.clone(), Work::Open(subtree));
    walk.run()?;
    Ok(walk.page)
}

/// The first key that may be on the page; `None` when there cannot be one.
fn start_of(query: &Query<'_>) -> Option<Vec<u8>> {
    let after = query.after;
    let start = match common_prefix(query, after) {
        Some(skipped) => successor(skipped)?,
        None if after.is_empty() => Vec::new(),
        // The least string after it.
        None => [after, &[0]].concat(),
    };
    Some(start.max(query.prefix.to_vec()))
}

/// The CommonPrefix that stands for `key`, when the delimiter comes after the prefix.
fn common_prefix<'k>(query: &Query<'_>, key: &'k [u8]) -> Option<&'k [u8]> {
    common_prefix_of(query.prefix, query.delimiter, key)
}

/// The same for another query.
pub(in crate::store) fn common_prefix_of<'k>(prefix: &[u8], delimiter: &[u8], key: &'k [u8]) -> Option<&'k [u8]> {
    let rest = key.strip_prefix(prefix)?;
    if delimiter.is_empty() {
        return None;
    }
    let found = rest.windows(delimiter.len()).position(|window| window == delimiter)?;
    key.get(..prefix.len() + found + delimiter.len())
}

/// The least string that comes after all that begin with `prefix`.
pub(in crate::store) fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte < 0xff)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(next)
}

struct Walk<'a> {
    bucket: BorrowedFd<'a>,
    cache: &'a SnapshotCache,
    reading: Reading<'a>,
    /// When the walk began, by the clock of file times.
    begun_ns: i64,
    query: &'a Query<'a>,
    stop: &'a AtomicBool,
    /// Keys less than this are done.
    start: Vec<u8>,
    heap: BinaryHeap<Item>,
    /// Directories that are open, the last used at the back.
    handles: VecDeque<(usize, Rc<OwnedFd>)>,
    directories: usize,
    /// Names of one window onto a directory too large for a snapshot.
    scan_max: usize,
    page: Page,
}

/// What is to be done once no lower key is left. `bound` is not greater than any key that comes of it.
struct Item {
    bound: Vec<u8>,
    work: Work,
}

enum Work {
    /// The entry at this index of a directory; `bound` is its key exactly.
    Entry(Rc<Directory>, usize),
    /// A directory that has not been looked into.
    Open(Subtree),
    /// A directory too large for a snapshot, from this name on.
    Window(Subtree, Vec<u8>),
}

struct Directory {
    id: usize,
    subtree: Subtree,
    snapshot: Arc<Snapshot>,
}

impl Walk<'_> {
    fn run(&mut self) -> Walked<()> {
        while let Some(Item { bound, work }) = self.heap.pop() {
            if self.stop.load(atomic::Ordering::Relaxed) {
                return Err(Errno::CANCELED.into());
            }
            if self.page.is_truncated || (bound.as_slice() > self.query.prefix && !bound.starts_with(self.query.prefix)) {
                break;
            }
            match work {
                Work::Entry(directory, index) => self.entry(&directory, index, bound)?,
                Work::Open(subtree) => self.directory(subtree)?,
                Work::Window(subtree, from) => self.window(subtree, &from)?,
            }
        }
        Ok(())
    }

    /// A directory's turn: its own explicit object, then its entries from `start` on. Where all its keys share a
    /// CommonPrefix, only whether there is one.
    fn directory(&mut self, subtree: Subtree) -> Walked<()> {
        if let Some(prefix) = common_prefix(self.query, &subtree.prefix).map(<[u8]>::to_vec) {
            match walk::look_below(self.bucket, &subtree, self.reading, self.stop)? {
                Below::Object => self.add_common_prefix(prefix),
                Below::Nothing => {}
                Below::Unreadable(below) => self.skip_unreadable(&below)?,
            }
            return Ok(());
        }
        let handle = match path::open_dir(self.bucket, &subtree.path, Symlinks::Deny) {
            Ok(handle) => handle,
            Err(errno) => return self.skip(errno, &subtree.prefix),
        };
        let snapshot = match self.cache.load(self.reading, handle.as_fd(), &stat::of(&handle)?) {
            Ok(Some(snapshot)) => snapshot,
            Ok(None) => {
                let from = seek_name(&self.start, &subtree.prefix).unwrap_or_default();
                match read::window(self.reading, handle.as_fd(), from, self.scan_max, self.stop) {
                    Ok(window) => Arc::new(window),
                    Err(errno) => return self.skip(errno, &subtree.prefix),
                }
            }
            Err(errno) => return self.skip(errno, &subtree.prefix),
        };
        let key = &subtree.prefix;
        if subtree.may_be_object() && *key >= self.start && key.starts_with(self.query.prefix) {
            self.explicit_object(key.clone(), &handle, snapshot.has_body)?;
        }
        self.begin(subtree, snapshot, handle, b"");
        Ok(())
    }

    /// The next window onto a large directory.
    fn window(&mut self, subtree: Subtree, from: &[u8]) -> Walked<()> {
        let Some(name) = seek_name(&self.start, &subtree.prefix) else { return Ok(()) };
        let handle = match path::open_dir(self.bucket, &subtree.path, Symlinks::Deny) {
            Ok(handle) => handle,
            Err(errno) => return self.skip(errno, &subtree.prefix),
        };
        match read::window(self.reading, handle.as_fd(), from.max(name), self.scan_max, self.stop) {
            Ok(window) => self.begin(subtree, Arc::new(window), handle, from),
            Err(errno) => return self.skip(errno, &subtree.prefix),
        }
        Ok(())
    }

    /// Starts on a directory's entries; those less than `floor` had their turn.
    fn begin(&mut self, subtree: Subtree, snapshot: Arc<Snapshot>, handle: OwnedFd, floor: &[u8]) {
        let floor = snapshot.lower_bound(floor);
        let directory = Rc::new(Directory { id: self.directories, subtree, snapshot });
        self.directories += 1;
        self.keep_handle(directory.id, handle);
        self.seek(&directory, floor);
    }

    /// An entry's turn: its key, and what comes next in its directory.
    fn entry(&mut self, directory: &Rc<Directory>, index: usize, key: Vec<u8>) -> Walked<()> {
        let Some((name, kind)) = directory.snapshot.entry(index) else { return Ok(()) };
        self.push_entry(directory, index + 1);
        if let Some(child) = directory.subtree.child(name, kind) {
            self.push(child.prefix.clone(), Work::Open(child));
        }
        let is_object = kind != EntryKind::Piece && directory.subtree.key_of(name, kind).is_some();
        if !is_object || !key.starts_with(self.query.prefix) {
            return Ok(());
        }
        let mut file = Vec::with_capacity(name.len() + 16);
        push_name(&mut file, name, kind);
        let is_file = matches!(kind, EntryKind::File | EntryKind::LastFile);
        let Some(handle) = self.handle(directory)? else { return Ok(()) };
        let absent = if is_file { self.object(key, &handle, &file)? } else { Some(key) };
        match absent {
            Some(key) => self.object_of_directory(key, &handle, &file),
            None => Ok(()),
        }
    }

    /// The object beside a directory of its name is in that directory: nearly never there, so one call that fails. What the
    /// snapshot has as a file has become one when another request has put an object below it meanwhile.
    fn object_of_directory(&mut self, key: Vec<u8>, handle: &OwnedFd, name: &[u8]) -> Walked<()> {
        let inner = [name, &b"/"[..], OBJECT_OF_DIRECTORY].concat();
        let inside = path::open(handle, &inner, OpenFlags::PATH | OpenFlags::NOFOLLOW, 0, Symlinks::Deny)
            .and_then(|_| path::open_dir(handle, name, Symlinks::Deny));
        match inside {
            Ok(inside) => self.object(key, &inside, OBJECT_OF_DIRECTORY).map(drop),
            Err(errno) if errno::is_gone(errno) => Ok(()),
            Err(errno) => self.skip(errno, &[&key, &b"/"[..]].concat()),
        }
    }

    /// Adds the object in file `name`, or the CommonPrefix that stands for it. The key comes back when there is none.
    fn object(&mut self, key: Vec<u8>, directory: &OwnedFd, name: &[u8]) -> Walked<Option<Vec<u8>>> {
        match fetch(directory, name) {
            Ok(Some((stat, summary))) => {
                let times = self.reading.grain.files;
                let may_change_unseen = summary.is_none() && !times.is_settled_since(stat.ctime_ns, self.begun_ns);
                self.add_object(Object { key, stat, summary, may_change_unseen });
                Ok(None)
            }
            Ok(None) => Ok(Some(key)),
            Err(errno) if errno::is_gone(errno) => Ok(Some(key)),
            Err(errno) => {
                let slash = key.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
                self.skip(errno, &key[..slash]).map(|()| Some(key))
            }
        }
    }

    /// Adds `dir/`, when a record on the directory or a body inside says that it is an object.
    /// A PUT may have changed one for the other since the snapshot was taken, so the one that was not seen is looked for last.
    fn explicit_object(&mut self, key: Vec<u8>, directory: &OwnedFd, has_body: bool) -> Walked<()> {
        let absent = if has_body { self.object(key, directory, BODY_OF_DIRECTORY)? } else { Some(key) };
        let Some(key) = absent else { return Ok(()) };
        let mut record = [0; RECORD_SIZE_MAX];
        let summary = decode(xattr::read(directory, SUMMARY_NAME, &mut record), &record)?;
        if summary.is_some() {
            self.add_object(Object { key, stat: stat::of(directory)?, summary, may_change_unseen: false });
        } else if !has_body {
            self.object(key, directory, BODY_OF_DIRECTORY)?;
        }
        Ok(())
    }

    fn add_object(&mut self, object: Object) {
        match common_prefix(self.query, &object.key).map(<[u8]>::to_vec) {
            Some(prefix) => self.add_common_prefix(prefix),
            None => self.add(Entry::Object(object)),
        }
    }

    /// Adds a CommonPrefix and moves everything that is pending past it.
    fn add_common_prefix(&mut self, prefix: Vec<u8>) {
        let next = successor(&prefix);
        self.add(Entry::CommonPrefix(prefix));
        let Some(next) = next else {
            self.heap.clear();
            return;
        };
        self.start = next;
        for Item { bound, work } in std::mem::take(&mut self.heap) {
            if bound >= self.start {
                self.heap.push(Item { bound, work });
                continue;
            }
            match work {
                Work::Entry(directory, index) => self.seek(&directory, index),
                Work::Open(ref subtree) | Work::Window(ref subtree, _) if may_follow(&subtree.prefix, &self.start) => {
                    self.push(bound, work);
                }
                Work::Open(_) | Work::Window(..) => {}
            }
        }
    }

    fn add(&mut self, entry: Entry) {
        if self.page.entries.len() < self.query.max {
            self.page.entries.push(entry);
        } else {
            self.page.is_truncated = true;
        }
    }

    /// Puts the cursor of a directory at the first entry, from `floor` on, that is not less than `start`, and notes the
    /// directories before it whose keys are not all less: the key of a directory `a` is less than `a-x`, its subtree `a/` is
    /// not; and a piece holds all that it begins.
    fn seek(&mut self, directory: &Rc<Directory>, floor: usize) {
        let Some(name) = seek_name(&self.start, &directory.subtree.prefix).map(<[u8]>::to_vec) else { return };
        let snapshot = &directory.snapshot;
        let first = snapshot.lower_bound(&name).max(floor);
        for (size, &next) in name.iter().enumerate().take(NAME_SIZE_MAX + 1) {
            if next > b'/' && size != key::PIECE_SIZE {
                continue;
            }
            let shorter = &name[..size];
            for index in snapshot.lower_bound(shorter).max(floor)..first {
                let Some((found, kind)) = snapshot.entry(index).filter(|(found, _)| *found == shorter) else { break };
                let child = directory.subtree.child(found, kind);
                if let Some(child) = child.filter(|child| may_follow(&child.prefix, &self.start)) {
                    self.push(child.prefix.clone(), Work::Open(child));
                }
            }
        }
        self.push_entry(directory, first);
    }

    /// Notes the entry at `index`; past the end of a window onto a large directory, the next window.
    fn push_entry(&mut self, directory: &Rc<Directory>, index: usize) {
        let subtree = &directory.subtree;
        match (directory.snapshot.entry(index), &directory.snapshot.next) {
            (Some((name, _)), _) => {
                self.push([&subtree.prefix, name].concat(), Work::Entry(Rc::clone(directory), index));
            }
            (None, Some(next)) => {
                self.push([&subtree.prefix, &next[..]].concat(), Work::Window(subtree.clone(), next.to_vec()));
            }
            (None, None) => {}
        }
    }

    fn push(&mut self, bound: Vec<u8>, work: Work) {
        self.heap.push(Item { bound, work });
    }

    /// The descriptor of a directory, opened again when too many others were between. `None`: it is gone.
    fn handle(&mut self, directory: &Directory) -> Walked<Option<Rc<OwnedFd>>> {
        let kept = self.handles.iter().position(|(id, _)| *id == directory.id);
        if let Some((id, handle)) = kept.and_then(|at| self.handles.remove(at)) {
            self.handles.push_back((id, Rc::clone(&handle)));
            return Ok(Some(handle));
        }
        match path::open_dir(self.bucket, &directory.subtree.path, Symlinks::Deny) {
            Ok(handle) => Ok(Some(self.keep_handle(directory.id, handle))),
            Err(errno) => self.skip(errno, &directory.subtree.prefix).map(|()| None),
        }
    }

    fn keep_handle(&mut self, id: usize, handle: OwnedFd) -> Rc<OwnedFd> {
        if self.handles.len() >= LISTING_HANDLES_MAX {
            self.handles.pop_front();
        }
        let handle = Rc::new(handle);
        self.handles.push_back((id, Rc::clone(&handle)));
        handle
    }

    /// Whether the walk goes on after this answer about a directory, in which keys begin with `prefix`.
    fn skip(&mut self, errno: Errno, prefix: &[u8]) -> Walked<()> {
        match errno::cause(errno) {
            _ if errno::is_gone(errno) => Ok(()),
            Cause::Denied => self.skip_unreadable(prefix),
            _ => Err(errno.into()),
        }
    }

    /// The same about one that the server's user may not read.
    fn skip_unreadable(&mut self, prefix: &[u8]) -> Walked<()> {
        let unreadable = &mut self.page.unreadable;
        match self.query.unreadable {
            ListUnreadable::Fail => Err(WalkError::Unreadable(first_unreadable(self.bucket, prefix))),
            // A directory is met twice: as what may hold the object of its name, and as itself.
            ListUnreadable::Skip if unreadable.count > 0 && unreadable.last == prefix => Ok(()),
            ListUnreadable::Skip => {
                *unreadable = Unreadable { count: unreadable.count.saturating_add(1), last: prefix.to_vec() };
                Ok(())
            }
        }
    }
}

/// The first directory on the way to that of `prefix` which may not be read: those below it may not even be there.
fn first_unreadable(bucket: BorrowedFd<'_>, prefix: &[u8]) -> Vec<u8> {
    let slashes = (0..prefix.len()).filter(|&at| prefix[at] == b'/');
    let ways = slashes.filter_map(|slash| Subtree::of_prefix(&prefix[..=slash]));
    let is_denied = |subtree: &Subtree| {
        path::open_dir(bucket, &subtree.path, Symlinks::Deny).is_err_and(|errno| errno::cause(errno) == Cause::Denied)
    };
    ways.into_iter().find(is_denied).map_or_else(|| prefix.to_vec(), |subtree| subtree.prefix)
}

/// Where `start` lies in a directory whose keys begin with `prefix`; `None` when all of them are less.
fn seek_name<'s>(start: &'s [u8], prefix: &[u8]) -> Option<&'s [u8]> {
    match start.strip_prefix(prefix) {
        Some(name) => Some(name),
        None if start < prefix => Some(b""),
        None => None,
    }
}

/// Whether a key that begins with `prefix` may be `start` or come after it.
fn may_follow(prefix: &[u8], start: &[u8]) -> bool {
    prefix >= start || start.starts_with(prefix)
}

/// The heap gives the greatest first; we want the least bound.
impl Ord for Item {
    fn cmp(&self, other: &Self) -> Ordering {
        other.bound.cmp(&self.bound)
    }
}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.bound == other.bound
    }
}

impl Eq for Item {}
