//! What names does a directory have, in S3's order? Sorted snapshots, shared by all cores.
//!
//! A snapshot is used again while the directory's mtime and ctime are what they were, and only when its ctime was older than
//! `TIMESTAMP_GRAIN_NS` when it was taken: within one tick of the kernel's clock a second change leaves no trace. mtime's
//! age does not matter: `touch` may set it, but whoever changes a directory changes its ctime. Our own changes invalidate
//! like foreign ones: a directory that is written all the time is read again for each page.

use super::super::key::{self, Entry};
use super::super::walk::{self, EntryKind};
use crate::limits::{NAME_SIZE_MAX, SNAPSHOT_NAMES_MAX, SNAPSHOT_NAMES_SMALL, SNAPSHOT_SIZE_MAX, TIMESTAMP_GRAIN_NS};
use crate::sys::{FileKind, FileStat, Result, clock, dir, errno};
use rustix::fd::BorrowedFd;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Sorted entries of one directory: all of them, or the first so many from some name on.
#[derive(Debug, Default)]
pub struct Snapshot {
    names: Vec<u8>,
    slots: Vec<Slot>,
    /// The directory has the body of its own explicit object.
    pub has_body: bool,
    /// The name that comes after the last entry, where this is only a window onto the directory.
    pub next: Option<Box<[u8]>>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    offset: u32,
    size: u8,
    kind: EntryKind,
}

const _: () = assert!(NAME_SIZE_MAX <= u8::MAX as usize);

impl Snapshot {
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Name as in the key, and kind, of an entry.
    pub fn entry(&self, index: usize) -> Option<(&[u8], EntryKind)> {
        self.slots.get(index).map(|slot| (self.name(slot), slot.kind))
    }

    /// The first entry whose name is not less.
    pub fn lower_bound(&self, name: &[u8]) -> usize {
        self.slots.partition_point(|slot| self.name(slot) < name)
    }

    fn name(&self, slot: &Slot) -> &[u8] {
        let start = slot.offset as usize;
        self.names.get(start..start + usize::from(slot.size)).unwrap_or_default()
    }

    fn push(&mut self, name: &[u8], kind: EntryKind) {
        if let (Ok(offset), Ok(size)) = (u32::try_from(self.names.len()), u8::try_from(name.len())) {
            self.names.extend_from_slice(name);
            self.slots.push(Slot { offset, size, kind });
        }
    }

    fn sort(&mut self) {
        let names = &self.names;
        let name = |slot: &Slot| {
            let start = slot.offset as usize;
            names.get(start..start + usize::from(slot.size)).unwrap_or_default()
        };
        self.slots.sort_unstable_by(|one, other| name(one).cmp(name(other)).then(one.kind.cmp(&other.kind)));
    }

    fn size(&self) -> usize {
        self.names.len() + self.slots.len() * size_of::<Slot>()
    }
}

/// The snapshots that all listings share, bounded in bytes; the longest unused goes first.
#[derive(Debug)]
pub struct SnapshotCache {
    shelf: Mutex<Shelf>,
    /// Held while a snapshot of many names is built: one at a time, and who waited finds it on the shelf.
    large: Mutex<()>,
    size_max: usize,
}

#[derive(Debug, Default)]
struct Shelf {
    kept: HashMap<(u64, u64), Kept>,
    by_use: BTreeMap<u64, (u64, u64)>,
    uses: u64,
    size: usize,
    hits: u64,
    builds: u64,
}

/// How snapshots were used so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotUse {
    /// Taken from the shelf.
    pub hits: u64,
    /// Read from the directory, also in vain: it was too large, or somebody else was faster.
    pub builds: u64,
    /// Bytes on the shelf now.
    pub size: usize,
}

#[derive(Debug)]
struct Kept {
    snapshot: Arc<Snapshot>,
    mtime_ns: i64,
    ctime_ns: i64,
    size: usize,
    used: u64,
}

impl SnapshotCache {
    /// `size_max` bytes; 0 keeps nothing, for a filesystem whose timestamps prove nothing.
    pub fn new(size_max: usize) -> Self {
        Self { shelf: Mutex::default(), large: Mutex::default(), size_max }
    }

    /// How they were used.
    pub fn usage(&self) -> SnapshotUse {
        let shelf = lock(&self.shelf);
        SnapshotUse { hits: shelf.hits, builds: shelf.builds, size: shelf.size }
    }

    /// The snapshot of a directory whose `stat` was taken just now. `None`: it has too many names, see `scan`.
    pub fn load(&self, directory: BorrowedFd<'_>, stat: &FileStat) -> Result<Option<Arc<Snapshot>>> {
        if let Some(snapshot) = self.find(stat) {
            return Ok(Some(snapshot));
        }
        let started_ns = clock::realtime_ns();
        let mut turn = None;
        let mut built = Snapshot::default();
        let end = visit(directory, |entry| {
            match entry {
                Visited::Body => built.has_body = true,
                Visited::Entry(name, kind) => built.push(name, kind),
            }
            if built.len() > SNAPSHOT_NAMES_SMALL && turn.is_none() {
                turn = Some(lock(&self.large));
                if let Some(snapshot) = self.find(stat) {
                    return ControlFlow::Break(Some(snapshot));
                }
            }
            let is_too_large = built.len() > SNAPSHOT_NAMES_MAX || built.size() > SNAPSHOT_SIZE_MAX;
            if is_too_large { ControlFlow::Break(None) } else { ControlFlow::Continue(()) }
        })?;
        lock(&self.shelf).builds += 1;
        if let ControlFlow::Break(found) = end {
            return Ok(found);
        }
        built.names.shrink_to_fit();
        built.slots.shrink_to_fit();
        built.sort();
        let built = Arc::new(built);
        if started_ns.saturating_sub(stat.ctime_ns) >= TIMESTAMP_GRAIN_NS {
            self.keep(stat, &built);
        }
        Ok(Some(built))
    }

    fn find(&self, stat: &FileStat) -> Option<Arc<Snapshot>> {
        let mut shelf = lock(&self.shelf);
        let place = (stat.device, stat.inode);
        let kept = shelf.kept.get(&place)?;
        if (kept.mtime_ns, kept.ctime_ns) != (stat.mtime_ns, stat.ctime_ns) {
            shelf.remove(place);
            return None;
        }
        shelf.uses += 1;
        shelf.hits += 1;
        let now = shelf.uses;
        let kept = shelf.kept.get_mut(&place)?;
        let before = std::mem::replace(&mut kept.used, now);
        let snapshot = Arc::clone(&kept.snapshot);
        shelf.by_use.remove(&before);
        shelf.by_use.insert(now, place);
        Some(snapshot)
    }

    fn keep(&self, stat: &FileStat, snapshot: &Arc<Snapshot>) {
        // What the maps and the allocator take beside the names.
        const OVERHEAD: usize = 256;
        let size = snapshot.size() + OVERHEAD;
        if size > self.size_max {
            return;
        }
        let mut shelf = lock(&self.shelf);
        let place = (stat.device, stat.inode);
        shelf.remove(place);
        while shelf.size + size > self.size_max {
            let Some((_, oldest)) = shelf.by_use.pop_first() else { break };
            shelf.remove(oldest);
        }
        shelf.uses += 1;
        let used = shelf.uses;
        shelf.size += size;
        shelf.by_use.insert(used, place);
        let kept = Kept { snapshot: Arc::clone(snapshot), mtime_ns: stat.mtime_ns, ctime_ns: stat.ctime_ns, size, used };
        shelf.kept.insert(place, kept);
    }
}

impl Shelf {
    fn remove(&mut self, place: (u64, u64)) {
        if let Some(kept) = self.kept.remove(&place) {
            self.size -= kept.size;
            self.by_use.remove(&kept.used);
        }
    }
}

/// A window onto a directory: the first `count_max` entries or somewhat fewer that are not less than `from`, and those that
/// `from` begins with and that may have keys after it (a directory `a` for `a-x`). One pass over the directory in bounded memory.
pub fn scan(directory: BorrowedFd<'_>, from: &[u8], count_max: usize) -> Result<Snapshot> {
    let mut first: BinaryHeap<(Box<[u8]>, EntryKind)> = BinaryHeap::new();
    let mut is_window = false;
    let mut built = Snapshot::default();
    let _: ControlFlow<()> = visit(directory, |entry| {
        match entry {
            Visited::Body => built.has_body = true,
            Visited::Entry(name, kind) if name >= from => {
                first.push((name.into(), kind));
                if first.len() > count_max {
                    first.pop();
                    is_window = true;
                }
            }
            Visited::Entry(name, kind) if from.starts_with(name) => built.push(name, kind),
            Visited::Entry(..) => {}
        }
        ControlFlow::Continue(())
    })?;
    let mut first = first.into_sorted_vec();
    if is_window {
        // A name may stand twice, as a component and as a piece: the next window begins with all of the last name.
        built.next = first.last().map(|(name, _)| name.clone());
        first.retain(|(name, _)| Some(name) != built.next.as_ref());
    }
    for (name, kind) in first {
        built.push(&name, kind);
    }
    built.sort();
    Ok(built)
}

enum Visited<'a> {
    Body,
    Entry(&'a [u8], EntryKind),
}

fn visit<B>(directory: BorrowedFd<'_>, mut take: impl FnMut(Visited<'_>) -> ControlFlow<B>) -> Result<ControlFlow<B>> {
    // The kernel fills as much as there is; the first call of a small directory takes all of it.
    let mut buffer = dir::buffer(64 * 1024);
    let end = dir::read(directory, &mut buffer, |entry| {
        let decoded = key::decode_name(entry.name);
        if matches!(decoded, Entry::NotOurs | Entry::ObjectOfDirectory) {
            return ControlFlow::Continue(());
        }
        let kind = match entry.kind_in(directory) {
            Ok(kind) => kind,
            Err(errno) if errno::is_gone(errno) => return ControlFlow::Continue(()),
            Err(errno) => return ControlFlow::Break(Err(errno)),
        };
        let visited = match (decoded, kind) {
            (Entry::BodyOfDirectory, FileKind::Regular) => Some(Visited::Body),
            _ => walk::classify(decoded, kind).map(|(name, kind)| Visited::Entry(name, kind)),
        };
        match visited.map(&mut take) {
            Some(ControlFlow::Break(value)) => ControlFlow::Break(Ok(value)),
            _ => ControlFlow::Continue(()),
        }
    })?;
    match end {
        ControlFlow::Break(value) => value.map(ControlFlow::Break),
        ControlFlow::Continue(()) => Ok(ControlFlow::Continue(())),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A helper that panicked left maps that are whole at every point where code of ours can panic: none.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::stat;
    use rustix::fd::AsFd;
    use std::fs::{File, write};

    /// A directory whose last change is old enough to be believed.
    fn aged(top: &std::path::Path) -> (File, FileStat) {
        std::thread::sleep(std::time::Duration::from_nanos(TIMESTAMP_GRAIN_NS as u64 + 5_000_000));
        let directory = File::open(top).unwrap();
        let stat = stat::of(&directory).unwrap();
        (directory, stat)
    }

    fn names(snapshot: &Snapshot) -> Vec<String> {
        (0..snapshot.len()).map(|index| String::from_utf8(snapshot.entry(index).unwrap().0.to_vec()).unwrap()).collect()
    }

    #[test]
    fn sorted_by_what_stands_in_the_key_and_shared_until_changed() {
        let top = tempfile::tempdir().unwrap();
        for name in ["b", "a-", ".sluice%r.sluicex", ".sluice%d", ".sluice", ".sluice%e", ".sluice%b", "a"] {
            write(top.path().join(name), b"").unwrap();
        }
        let cache = SnapshotCache::new(1 << 20);
        let (directory, stat) = aged(top.path());
        let first = cache.load(directory.as_fd(), &stat).unwrap().unwrap();
        assert_eq!(names(&first), [".", ".sluicex", "a", "a-", "b"]);
        assert!(first.has_body && first.next.is_none());
        assert_eq!(first.lower_bound(b"a,"), 3);
        assert!(Arc::ptr_eq(&first, &cache.load(directory.as_fd(), &stat).unwrap().unwrap()));
        write(top.path().join("c"), b"").unwrap();
        let changed = cache.load(directory.as_fd(), &stat::of(&directory).unwrap()).unwrap().unwrap();
        assert_eq!(changed.len(), 6);
    }

    #[test]
    fn a_directory_changed_a_moment_ago_is_not_believed_twice() {
        let top = tempfile::tempdir().unwrap();
        let cache = SnapshotCache::new(1 << 20);
        let directory = File::open(top.path()).unwrap();
        let mut stat = stat::of(&directory).unwrap();
        stat.ctime_ns = clock::realtime_ns();
        cache.load(directory.as_fd(), &stat).unwrap();
        assert_eq!(cache.usage().size, 0);
    }

    #[test]
    fn the_longest_unused_goes_first() {
        let top = tempfile::tempdir().unwrap();
        for dir in ["a", "b", "c"] {
            std::fs::create_dir(top.path().join(dir)).unwrap();
            for index in 0..10 {
                write(top.path().join(dir).join(format!("{:0100}", index)), b"").unwrap();
            }
        }
        // Room for two: each takes 10 names of 100 bytes and the overhead.
        let cache = SnapshotCache::new(3000);
        let aged: Vec<_> = ["a", "b", "c"].map(|dir| aged(&top.path().join(dir))).into();
        let load = |index: usize| cache.load(aged[index].0.as_fd(), &aged[index].1).unwrap().unwrap();
        let (a, b) = (load(0), load(1));
        assert!(Arc::ptr_eq(&a, &load(0)));
        load(2);
        assert!(cache.usage().size <= 3000);
        assert!(Arc::ptr_eq(&a, &load(0)));
        assert!(!Arc::ptr_eq(&b, &load(1)));
    }

    #[test]
    fn a_scan_is_a_window_of_the_snapshot() {
        let top = tempfile::tempdir().unwrap();
        for index in 0..50 {
            write(top.path().join(format!("n{index:02}")), b"").unwrap();
        }
        std::fs::create_dir(top.path().join("n")).unwrap();
        let directory = File::open(top.path()).unwrap();
        let window = scan(directory.as_fd(), b"n07", 3).unwrap();
        assert_eq!(names(&window), ["n", "n07", "n08"]);
        assert_eq!(window.next.as_deref(), Some(&b"n09"[..]));
        let rest = scan(directory.as_fd(), b"n48", 3).unwrap();
        assert_eq!(names(&rest), ["n", "n48", "n49"]);
        assert_eq!(rest.next, None);
    }
}
