//! Snapshots that all listings share, bounded in bytes; the longest unused goes first. They are part of the memory of requests
//! (`mem::RequestMemory`), and give way where others want it.
//!
//! A snapshot is used again while the directory's mtime and ctime are what they were, and only where they prove that it was not
//! changed since (`grain`). mtime's age does not matter: `touch` may set it, but whoever changes a directory changes its ctime.
//! Where times are whole seconds they are not believed for longer than a reading takes: a clock that is put back gives them again. A large
//! directory is watched as well, where the kernel tells of every change (`watch`): its snapshot is brought up to date name by name
//! instead of being read again, whatever its times say.

use super::read;
use super::snapshot::Snapshot;
use crate::limits::{READ_ATTEMPTS_MAX, SNAPSHOT_NAMES_MAX, SNAPSHOT_NAMES_SMALL, SNAPSHOT_SIZE_MAX, SNAPSHOTS_SHARE};
use crate::mem::RequestMemory;
#[cfg(test)]
use crate::store::disk::grain::Grain;
use crate::store::disk::reading::{Noting, Proof, Reading};
use crate::store::disk::watch::Watch;
#[cfg(test)]
use crate::store::disk::watch::Watcher;
use crate::sys::{Errno, FileStat, Result};
use rustix::fd::BorrowedFd;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// See the module.
#[derive(Debug)]
pub struct SnapshotCache {
    shelf: Mutex<Shelf>,
    /// Held while a snapshot of many names is built: one at a time. Who comes meanwhile is told to come again (`BEING_READ`), and
    /// finds it on the shelf.
    large: Mutex<()>,
    names_small: usize,
    size_max: usize,
    memory: Arc<RequestMemory>,
}

/// Every snapshot here has its bytes from `memory`.
#[derive(Debug)]
struct Shelf {
    memory: Arc<RequestMemory>,
    kept: HashMap<DirectoryId, Kept>,
    by_use: BTreeMap<u64, DirectoryId>,
    uses: u64,
    size: usize,
    hits: u64,
    builds: u64,
}

/// How snapshots were used so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotUse {
    /// Taken from the shelf, those of watched directories with what changed since.
    pub hits: u64,
    /// Read from the directory, also in vain: it was too large.
    pub builds: u64,
    /// Bytes on the shelf now.
    pub size: usize,
}

/// Another listing builds the snapshot of a large directory. No call that is made here answers this.
pub const BEING_READ: Errno = Errno::INPROGRESS;

/// Bytes that the maps and the allocator take for a snapshot beside its names.
const OVERHEAD: usize = 256;

/// Device and inode.
type DirectoryId = (u64, u64);

#[derive(Debug)]
struct Kept {
    version: Version,
    size: usize,
    used: u64,
}

/// What a snapshot's truth rests on.
#[derive(Clone, Debug)]
enum Version {
    /// The directory's times.
    Timed { snapshot: Arc<Snapshot>, mtime_ns: i64, ctime_ns: i64 },
    /// The kernel tells.
    Watched(Arc<Watched>),
}

/// A watched directory. The lock is held while what changed is asked for and put into the snapshot: who comes next must find it.
#[derive(Debug)]
struct Watched {
    watch: Watch,
    /// `None` once a change was asked for and is not in it.
    snapshot: Mutex<Option<Arc<Snapshot>>>,
}

impl SnapshotCache {
    /// Of this memory at most `size_max` bytes; 0 keeps nothing, for a filesystem whose timestamps prove nothing.
    pub fn new(memory: Arc<RequestMemory>, size_max: usize) -> Self {
        let shelf =
            Shelf { memory: memory.clone(), kept: HashMap::new(), by_use: BTreeMap::new(), uses: 0, size: 0, hits: 0, builds: 0 };
        Self { shelf: Mutex::new(shelf), large: Mutex::default(), names_small: SNAPSHOT_NAMES_SMALL, size_max, memory }
    }

    /// How they were used.
    pub fn usage(&self) -> SnapshotUse {
        let shelf = lock(&self.shelf);
        SnapshotUse { hits: shelf.hits, builds: shelf.builds, size: shelf.size }
    }

    /// The snapshot of a directory whose `stat` was taken just now. `None`: it has too many names, see `read::window`.
    pub fn load(&self, reading: Reading<'_>, directory: BorrowedFd<'_>, stat: &FileStat) -> Result<Option<Arc<Snapshot>>> {
        if let Some(snapshot) = self.find(directory, stat)? {
            return Ok(Some(snapshot));
        }
        lock(&self.shelf).builds += 1;
        match read::whole(reading, directory, self.names_small, self.build_size_max())? {
            (Some(snapshot), proof) => Ok(Some(self.keep_timed(reading, proof, snapshot))),
            (None, _) => self.load_large(reading, directory, stat),
        }
    }

    fn load_large(&self, reading: Reading<'_>, directory: BorrowedFd<'_>, stat: &FileStat) -> Result<Option<Arc<Snapshot>>> {
        let _alone = match self.large.try_lock() {
            Ok(alone) => alone,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(BEING_READ),
        };
        if let Some(snapshot) = self.find(directory, stat)? {
            return Ok(Some(snapshot));
        }
        let build_size_max = self.build_size_max();
        let Some(building) = self.take(build_size_max) else { return Ok(None) };
        let watcher = reading.watcher.filter(|_| reading.is_told && self.size_max > 0);
        for _ in 0..READ_ATTEMPTS_MAX {
            // Watched first, then read: a change in between is told, and asking for it once more does no harm.
            let Some(watch) = watcher.and_then(|watcher| watcher.watch(directory)) else { break };
            let read = read::pass(directory, &mut Noting::of(&watch), SNAPSHOT_NAMES_MAX, build_size_max)?;
            let Some(snapshot) = read else { return Ok(None) };
            let watched = Watched { watch, snapshot: Mutex::new(Some(Arc::new(snapshot))) };
            // What changed meanwhile may have been missed.
            if let Some(snapshot) = watched.current(directory)? {
                drop(building);
                self.keep(id_of(stat), Version::Watched(Arc::new(watched)), snapshot.size());
                return Ok(Some(snapshot));
            }
        }
        let (snapshot, proof) = read::whole(reading, directory, SNAPSHOT_NAMES_MAX, build_size_max)?;
        drop(building);
        Ok(snapshot.map(|snapshot| self.keep_timed(reading, proof, snapshot)))
    }

    /// What is on the shelf and still true.
    fn find(&self, directory: BorrowedFd<'_>, stat: &FileStat) -> Result<Option<Arc<Snapshot>>> {
        let id = id_of(stat);
        let Some(version) = lock(&self.shelf).use_again(id) else { return Ok(None) };
        match version {
            Version::Timed { snapshot, mtime_ns, ctime_ns } if (mtime_ns, ctime_ns) == (stat.mtime_ns, stat.ctime_ns) => {
                lock(&self.shelf).hits += 1;
                return Ok(Some(snapshot));
            }
            Version::Timed { .. } => {}
            Version::Watched(watched) => {
                let current = watched.current(directory)?;
                let mut shelf = lock(&self.shelf);
                return Ok(match current {
                    Some(snapshot) => {
                        shelf.hits += 1;
                        shelf.resize(id, snapshot.size());
                        shelf.make_room(self.size_max);
                        Some(snapshot)
                    }
                    None => {
                        shelf.remove(id);
                        None
                    }
                });
            }
        }
        lock(&self.shelf).remove(id);
        Ok(None)
    }

    /// Bytes that one snapshot may have.
    fn build_size_max(&self) -> usize {
        SNAPSHOT_SIZE_MAX.min(self.memory.size() / SNAPSHOTS_SHARE)
    }

    /// Memory for a snapshot that is being made; others go for it.
    fn take(&self, size: usize) -> Option<Taken<'_>> {
        lock(&self.shelf).take(size).then_some(Taken { memory: &self.memory, size })
    }

    /// Lets so many bytes go that others want, or what there is.
    pub fn give_way(&self, size: usize) {
        let mut shelf = lock(&self.shelf);
        let size_max = shelf.size.saturating_sub(size);
        shelf.make_room(size_max);
    }

    fn keep_timed(&self, reading: Reading<'_>, proof: Proof, snapshot: Snapshot) -> Arc<Snapshot> {
        let (size, snapshot) = (snapshot.size(), Arc::new(snapshot));
        if let Some(stat) = proof.filter(|_| !reading.grain.directories.are_coarse()) {
            let (mtime_ns, ctime_ns) = (stat.mtime_ns, stat.ctime_ns);
            self.keep(id_of(&stat), Version::Timed { snapshot: Arc::clone(&snapshot), mtime_ns, ctime_ns }, size);
        }
        snapshot
    }

    fn keep(&self, id: DirectoryId, version: Version, size: usize) {
        let size = size + OVERHEAD;
        if size > self.size_max {
            return;
        }
        let mut shelf = lock(&self.shelf);
        shelf.remove(id);
        shelf.make_room(self.size_max - size);
        if !shelf.take(size) {
            return;
        }
        shelf.uses += 1;
        let used = shelf.uses;
        shelf.size += size;
        shelf.by_use.insert(used, id);
        shelf.kept.insert(id, Kept { version, size, used });
    }
}

impl Shelf {
    fn use_again(&mut self, id: DirectoryId) -> Option<Version> {
        let kept = self.kept.get_mut(&id)?;
        self.uses += 1;
        let before = std::mem::replace(&mut kept.used, self.uses);
        let version = kept.version.clone();
        self.by_use.remove(&before);
        self.by_use.insert(self.uses, id);
        Some(version)
    }

    /// One that has no room to grow goes.
    fn resize(&mut self, id: DirectoryId, size: usize) {
        let size = size + OVERHEAD;
        let Some(before) = self.kept.get(&id).map(|kept| kept.size) else { return };
        if size > before && !self.take(size - before) {
            return self.remove(id);
        }
        // It may be among those that went for it.
        let Some(kept) = self.kept.get_mut(&id) else {
            return self.memory.give(size.saturating_sub(before));
        };
        kept.size = size;
        self.size = self.size - before + size;
        self.memory.give(before.saturating_sub(size));
    }

    /// Takes memory; the longest unused go for it.
    fn take(&mut self, size: usize) -> bool {
        loop {
            if self.memory.try_take(size) {
                return true;
            }
            if !self.remove_oldest() {
                return false;
            }
        }
    }

    /// The longest unused go until no more than `size_max` bytes are left.
    fn make_room(&mut self, size_max: usize) {
        while self.size > size_max && self.remove_oldest() {}
    }

    fn remove_oldest(&mut self) -> bool {
        let oldest = self.by_use.first_key_value().map(|(_, id)| *id);
        oldest.map(|id| self.remove(id)).is_some()
    }

    fn remove(&mut self, id: DirectoryId) {
        if let Some(kept) = self.kept.remove(&id) {
            self.size -= kept.size;
            self.memory.give(kept.size);
            self.by_use.remove(&kept.used);
        }
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        self.memory.give(self.size);
    }
}

/// Memory that a snapshot takes before anybody knows how much it needs.
struct Taken<'a> {
    memory: &'a RequestMemory,
    size: usize,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.memory.give(self.size);
    }
}

impl Watched {
    /// The snapshot as the directory is now. `None`: it has to be read again.
    fn current(&self, directory: BorrowedFd<'_>) -> Result<Option<Arc<Snapshot>>> {
        let mut kept = lock(&self.snapshot);
        // Taken out, and put back only with every change in it.
        let Some(snapshot) = kept.take() else { return Ok(None) };
        let Some(names) = self.watch.take() else { return Ok(None) };
        if names.is_empty() {
            *kept = Some(Arc::clone(&snapshot));
            return Ok(Some(snapshot));
        }
        let changed = read::brought_up(&snapshot, directory, names, |_| true)?;
        if changed.len() > SNAPSHOT_NAMES_MAX || changed.size() > SNAPSHOT_SIZE_MAX {
            return Ok(None);
        }
        let changed = Arc::new(changed);
        *kept = Some(Arc::clone(&changed));
        Ok(Some(changed))
    }
}

fn id_of(stat: &FileStat) -> DirectoryId {
    (stat.device, stat.inode)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A helper that panicked left maps that are whole at every point where code of ours can panic: none.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For tests: one with memory of its own, and what readings beside it rest on.
#[cfg(test)]
pub(in crate::store) struct Alone {
    cache: SnapshotCache,
    watcher: Option<Arc<Watcher>>,
    is_told: bool,
}

#[cfg(test)]
impl Alone {
    pub(in crate::store) fn new(size_max: usize, is_told: bool) -> Self {
        Self { cache: SnapshotCache::new(RequestMemory::new(1 << 30), size_max), watcher: Watcher::start(), is_told }
    }

    /// One that watches every directory of more names.
    pub(super) fn watching(names_small: usize) -> Self {
        let Self { cache, watcher, is_told } = Self::new(1 << 20, true);
        assert!(watcher.is_some());
        Self { cache: SnapshotCache { names_small, ..cache }, watcher, is_told }
    }

    /// How directories are read, where times have this grain.
    pub(in crate::store) fn reading(&self, grain: Grain) -> Reading<'_> {
        Reading { grain, is_told: self.is_told, is_remote: false, watcher: self.watcher.as_ref() }
    }
}

#[cfg(test)]
impl std::ops::Deref for Alone {
    type Target = SnapshotCache;

    fn deref(&self) -> &SnapshotCache {
        &self.cache
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::TIMESTAMP_GRAIN_NS;
    use crate::store::disk::grain::Times;
    use crate::sys::stat;
    use proptest::prelude::*;
    use rustix::fd::AsFd;
    use std::fs::{File, write};
    use std::path::{Path, PathBuf};

    /// A directory whose last change is old enough to be believed.
    fn aged(top: &Path) -> File {
        std::thread::sleep(std::time::Duration::from_nanos(TIMESTAMP_GRAIN_NS as u64 + 5_000_000));
        File::open(top).unwrap()
    }

    /// Times of `width_ns`.
    fn grain_of(width_ns: i64) -> Grain {
        Grain { directories: Times { tell_apart: false, width_ns }, ..Grain::ASSUMED }
    }

    fn load_by(grain: Grain, cache: &Alone, directory: &File) -> Arc<Snapshot> {
        let stat = stat::of(directory).unwrap();
        cache.load(cache.reading(grain), directory.as_fd(), &stat).unwrap().unwrap()
    }

    fn load(cache: &Alone, directory: &File) -> Arc<Snapshot> {
        load_by(grain_of(TIMESTAMP_GRAIN_NS), cache, directory)
    }

    fn entries(snapshot: &Snapshot) -> (bool, Vec<String>) {
        let all = (0..snapshot.len()).map(|index| snapshot.entry(index).unwrap());
        (snapshot.has_body, all.map(|(name, kind)| format!("{} {kind:?}", name.escape_ascii())).collect())
    }

    #[test]
    fn shared_until_the_directory_changes() {
        let top = tempfile::tempdir().unwrap();
        write(top.path().join("a"), b"").unwrap();
        let cache = Alone::new(1 << 20, false);
        let directory = aged(top.path());
        let first = load(&cache, &directory);
        assert!(Arc::ptr_eq(&first, &load(&cache, &directory)));
        write(top.path().join("c"), b"").unwrap();
        assert_eq!(load(&cache, &directory).len(), 2);
    }

    #[test]
    fn a_directory_changed_a_moment_ago_is_not_believed_twice() {
        let top = tempfile::tempdir().unwrap();
        let cache = Alone::new(1 << 20, false);
        let directory = File::open(top.path()).unwrap();
        // A minute, so that it is not over before the look.
        load_by(grain_of(60_000_000_000), &cache, &directory);
        assert_eq!(cache.usage().size, 0);
        write(top.path().join("a"), b"").unwrap();
        assert_eq!(load_by(grain_of(60_000_000_000), &cache, &directory).len(), 1);
    }

    /// A clock that is put back gives whole seconds once more.
    #[test]
    fn whole_seconds_are_not_believed_twice_however_old() {
        let top = tempfile::tempdir().unwrap();
        let cache = Alone::new(1 << 20, false);
        let directory = aged(top.path());
        directory.set_modified(std::time::UNIX_EPOCH).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1020));
        load_by(grain_of(1_000_000_000), &cache, &directory);
        assert_eq!(cache.usage().size, 0);
        load(&cache, &directory);
        assert!(cache.usage().size > 0);
    }

    #[test]
    fn times_that_tell_every_change_are_believed_at_once() {
        let top = tempfile::tempdir().unwrap();
        let cache = Alone::new(1 << 20, false);
        let directory = File::open(top.path()).unwrap();
        let telling = Grain { directories: Times { tell_apart: true, width_ns: TIMESTAMP_GRAIN_NS }, ..Grain::ASSUMED };
        write(top.path().join("a"), b"").unwrap();
        let first = load_by(telling, &cache, &directory);
        assert!(Arc::ptr_eq(&first, &load_by(telling, &cache, &directory)));
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
        let cache = Alone::new(3500, false);
        let aged: Vec<_> = ["a", "b", "c"].map(|dir| aged(&top.path().join(dir))).into();
        let load = |index: usize| load(&cache, &aged[index]);
        let (a, b) = (load(0), load(1));
        assert!(Arc::ptr_eq(&a, &load(0)));
        load(2);
        assert!(cache.usage().size <= 3500);
        assert!(Arc::ptr_eq(&a, &load(0)));
        assert!(!Arc::ptr_eq(&b, &load(1)));
    }

    #[test]
    fn a_watched_directory_is_read_once() {
        let top = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c", "d"] {
            write(top.path().join(name), b"").unwrap();
        }
        let (cache, directory) = (Alone::watching(3), File::open(top.path()).unwrap());
        let first = load(&cache, &directory);
        assert!(Arc::ptr_eq(&first, &load(&cache, &directory)), "believed at once: the kernel tells of what comes");
        write(top.path().join("a"), b"again").unwrap();
        assert!(Arc::ptr_eq(&first, &load(&cache, &directory)));
        write(top.path().join("e"), b"").unwrap();
        assert_eq!(load(&cache, &directory).len(), 5);
        assert!(matches!(lock(&cache.shelf).kept.values().next().unwrap().version, Version::Watched(_)));
    }

    #[test]
    fn too_many_changes_and_a_directory_gone_are_read_again() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("d");
        let make = |count: usize| {
            std::fs::create_dir(&path).unwrap();
            for index in 0..count {
                write(path.join(format!("n{index}")), b"").unwrap();
            }
            File::open(&path).unwrap()
        };
        let cache = Alone::watching(3);
        let directory = make(5);
        assert_eq!(load(&cache, &directory).len(), 5);
        // More than the kernel's queue holds, each told once.
        for index in 0..20_000 {
            let (one, other) = (path.join(format!("n{}", index % 5)), path.join(format!("m{}", index % 5)));
            std::fs::rename(&one, &other).unwrap();
            std::fs::rename(&other, &one).unwrap();
        }
        write(path.join("last"), b"").unwrap();
        assert_eq!(load(&cache, &directory).len(), 6);
        drop(directory);
        std::fs::remove_dir_all(&path).unwrap();
        // A new directory may have the number of the old one's inode.
        assert_eq!(load(&cache, &make(4)).len(), 4);
    }

    /// Names that decode to one another's neighbours, and some that are no entries.
    fn file_name(index: usize) -> String {
        match index {
            0..8 => format!("n{index}"),
            8 => format!(".sluice%+{}", "p".repeat(200)),
            9 => "p".repeat(200),
            10 => format!(".sluice%={}", "p".repeat(200)),
            11 => ".sluice%b".to_owned(),
            12 => ".sluice%o".to_owned(),
            13 => ".sluice%e".to_owned(),
            14 => ".sluice%rfoo".to_owned(),
            _ => ".sluice%r.sluicex".to_owned(),
        }
    }

    fn remove(path: &Path) {
        if path.is_dir() {
            std::fs::remove_dir_all(path).ok()
        } else {
            std::fs::remove_file(path).ok()
        };
    }

    /// One change of a name, as a program would make it.
    fn change(top: &Path, how: usize, path: &Path, other: &Path) {
        match how {
            0..3 => {
                remove(path);
                write(path, b"").unwrap();
            }
            3 => {
                remove(path);
                std::fs::create_dir(path).unwrap();
            }
            4 => {
                remove(path);
                std::os::unix::fs::symlink("n0", path).unwrap();
            }
            5..8 => remove(path),
            8 => {
                remove(other);
                std::fs::rename(path, other).ok();
            }
            9 => {
                let outside: PathBuf = top.join("outside");
                write(&outside, b"").unwrap();
                remove(path);
                std::fs::rename(&outside, path).unwrap();
            }
            _ => {
                let root = File::open(top).unwrap();
                let name = |path: &Path| path.strip_prefix(top).unwrap().as_os_str().as_encoded_bytes().to_vec();
                crate::sys::path::exchange(&root, &name(path), &root, &name(other)).ok();
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        /// The oracle is the directory, read anew.
        #[test]
        fn a_watched_snapshot_is_what_a_reading_would_be(
            first in prop::collection::vec(0usize..16, 0..16),
            steps in prop::collection::vec((0usize..11, 0usize..16, 0usize..16, prop::bool::weighted(0.4)), 1..60),
        ) {
            let top = tempfile::tempdir().unwrap();
            let path = top.path().join("d");
            std::fs::create_dir(&path).unwrap();
            for name in first {
                write(path.join(file_name(name)), b"").unwrap();
            }
            let (cache, directory) = (Alone::watching(3), File::open(&path).unwrap());
            for (how, one, other, is_asked) in steps {
                change(top.path(), how, &path.join(file_name(one)), &path.join(file_name(other)));
                if is_asked {
                    let reading = cache.reading(grain_of(TIMESTAMP_GRAIN_NS));
                    let anew = read::whole(reading, directory.as_fd(), 100, 1 << 20).unwrap().0.unwrap();
                    prop_assert_eq!(entries(&load(&cache, &directory)), entries(&anew));
                }
            }
        }
    }
}
