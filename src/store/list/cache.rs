//! Snapshots that all listings share, bounded in bytes; the longest unused goes first.
//!
//! A snapshot is used again while the directory's mtime and ctime are what they were, and only when its ctime was older than
//! `TIMESTAMP_GRAIN_NS` when it was taken: within one tick of the kernel's clock a second change leaves no trace. mtime's
//! age does not matter: `touch` may set it, but whoever changes a directory changes its ctime. A large directory is watched
//! as well, where the kernel tells of every change (`watch`): its snapshot is brought up to date name by name instead of being
//! read again, whatever its times say.

use super::read;
use super::snapshot::Snapshot;
use super::watch::{Watch, Watcher};
use crate::limits::{SNAPSHOT_NAMES_MAX, SNAPSHOT_NAMES_SMALL, SNAPSHOT_SIZE_MAX, TIMESTAMP_GRAIN_NS};
use crate::sys::{FileStat, Result, clock};
use rustix::fd::BorrowedFd;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Debug)]
pub struct SnapshotCache {
    shelf: Mutex<Shelf>,
    /// Held while a snapshot of many names is built: one at a time, and who waited finds it on the shelf.
    large: Mutex<()>,
    watcher: Option<Arc<Watcher>>,
    names_small: usize,
    size_max: usize,
}

#[derive(Debug, Default)]
struct Shelf {
    kept: HashMap<Place, Kept>,
    by_use: BTreeMap<u64, Place>,
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

/// Bytes that the maps and the allocator take for a snapshot beside its names.
const OVERHEAD: usize = 256;

/// Device and inode.
type Place = (u64, u64);

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
    /// `size_max` bytes; 0 keeps nothing, for a filesystem whose timestamps prove nothing. `is_told`: the kernel sees every
    /// change of the filesystem's names.
    pub fn new(size_max: usize, is_told: bool) -> Self {
        let watcher = if is_told && size_max > 0 { Watcher::start() } else { None };
        Self { shelf: Mutex::default(), large: Mutex::default(), watcher, names_small: SNAPSHOT_NAMES_SMALL, size_max }
    }

    /// One that watches every directory of more names.
    #[cfg(test)]
    pub(super) fn watching(names_small: usize) -> Self {
        let cache = Self { names_small, ..Self::new(1 << 20, true) };
        assert!(cache.watcher.is_some());
        cache
    }

    /// How they were used.
    pub fn usage(&self) -> SnapshotUse {
        let shelf = lock(&self.shelf);
        SnapshotUse { hits: shelf.hits, builds: shelf.builds, size: shelf.size }
    }

    /// The snapshot of a directory whose `stat` was taken just now. `None`: it has too many names, see `read::window`.
    pub fn load(&self, directory: BorrowedFd<'_>, stat: &FileStat) -> Result<Option<Arc<Snapshot>>> {
        if let Some(snapshot) = self.find(directory, stat)? {
            return Ok(Some(snapshot));
        }
        lock(&self.shelf).builds += 1;
        let started_ns = clock::realtime_ns();
        match read::whole(directory, self.names_small, SNAPSHOT_SIZE_MAX)? {
            Some(snapshot) => Ok(Some(self.keep_timed(stat, snapshot, started_ns))),
            None => self.load_large(directory, stat),
        }
    }

    fn load_large(&self, directory: BorrowedFd<'_>, stat: &FileStat) -> Result<Option<Arc<Snapshot>>> {
        let _turn = lock(&self.large);
        if let Some(snapshot) = self.find(directory, stat)? {
            return Ok(Some(snapshot));
        }
        // Watched first, then read: a change in between is told, and asking for it once more does no harm.
        let watch = self.watcher.as_ref().and_then(|watcher| watcher.watch(directory));
        let started_ns = clock::realtime_ns();
        let Some(snapshot) = read::whole(directory, SNAPSHOT_NAMES_MAX, SNAPSHOT_SIZE_MAX)? else { return Ok(None) };
        let Some(watch) = watch else { return Ok(Some(self.keep_timed(stat, snapshot, started_ns))) };
        let snapshot = Arc::new(snapshot);
        let watched = Watched { watch, snapshot: Mutex::new(Some(Arc::clone(&snapshot))) };
        self.keep(place_of(stat), Version::Watched(Arc::new(watched)), snapshot.size());
        Ok(Some(snapshot))
    }

    /// What is on the shelf and still true.
    fn find(&self, directory: BorrowedFd<'_>, stat: &FileStat) -> Result<Option<Arc<Snapshot>>> {
        let place = place_of(stat);
        let Some(version) = lock(&self.shelf).use_again(place) else { return Ok(None) };
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
                        shelf.resize(place, snapshot.size());
                        shelf.make_room(self.size_max);
                        Some(snapshot)
                    }
                    None => {
                        shelf.remove(place);
                        None
                    }
                });
            }
        }
        lock(&self.shelf).remove(place);
        Ok(None)
    }

    fn keep_timed(&self, stat: &FileStat, snapshot: Snapshot, started_ns: i64) -> Arc<Snapshot> {
        let (size, snapshot) = (snapshot.size(), Arc::new(snapshot));
        if started_ns.saturating_sub(stat.ctime_ns) >= TIMESTAMP_GRAIN_NS {
            let (mtime_ns, ctime_ns) = (stat.mtime_ns, stat.ctime_ns);
            self.keep(place_of(stat), Version::Timed { snapshot: Arc::clone(&snapshot), mtime_ns, ctime_ns }, size);
        }
        snapshot
    }

    fn keep(&self, place: Place, version: Version, size: usize) {
        let size = size + OVERHEAD;
        if size > self.size_max {
            return;
        }
        let mut shelf = lock(&self.shelf);
        shelf.remove(place);
        shelf.make_room(self.size_max - size);
        shelf.uses += 1;
        let used = shelf.uses;
        shelf.size += size;
        shelf.by_use.insert(used, place);
        shelf.kept.insert(place, Kept { version, size, used });
    }
}

impl Shelf {
    fn use_again(&mut self, place: Place) -> Option<Version> {
        let kept = self.kept.get_mut(&place)?;
        self.uses += 1;
        let before = std::mem::replace(&mut kept.used, self.uses);
        let version = kept.version.clone();
        self.by_use.remove(&before);
        self.by_use.insert(self.uses, place);
        Some(version)
    }

    fn resize(&mut self, place: Place, size: usize) {
        if let Some(kept) = self.kept.get_mut(&place) {
            let before = std::mem::replace(&mut kept.size, size + OVERHEAD);
            self.size = self.size - before + kept.size;
        }
    }

    /// The longest unused go until no more than `size_max` bytes are left.
    fn make_room(&mut self, size_max: usize) {
        while self.size > size_max {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.remove(oldest);
        }
    }

    fn remove(&mut self, place: Place) {
        if let Some(kept) = self.kept.remove(&place) {
            self.size -= kept.size;
            self.by_use.remove(&kept.used);
        }
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
        let mut has_body = snapshot.has_body;
        let mut changes = Vec::with_capacity(names.len());
        for name in names {
            changes.extend(read::change_of(directory, &name, &mut has_body)?);
        }
        let mut changed = snapshot.changed(changes);
        changed.has_body = has_body;
        if changed.len() > SNAPSHOT_NAMES_MAX || changed.size() > SNAPSHOT_SIZE_MAX {
            return Ok(None);
        }
        let changed = Arc::new(changed);
        *kept = Some(Arc::clone(&changed));
        Ok(Some(changed))
    }
}

fn place_of(stat: &FileStat) -> Place {
    (stat.device, stat.inode)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A helper that panicked left maps that are whole at every point where code of ours can panic: none.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::stat;
    use proptest::prelude::*;
    use rustix::fd::AsFd;
    use std::fs::{File, write};
    use std::path::{Path, PathBuf};

    /// A directory whose last change is old enough to be believed.
    fn aged(top: &Path) -> (File, FileStat) {
        std::thread::sleep(std::time::Duration::from_nanos(TIMESTAMP_GRAIN_NS as u64 + 5_000_000));
        let directory = File::open(top).unwrap();
        let stat = stat::of(&directory).unwrap();
        (directory, stat)
    }

    fn load(cache: &SnapshotCache, directory: &File) -> Arc<Snapshot> {
        cache.load(directory.as_fd(), &stat::of(directory).unwrap()).unwrap().unwrap()
    }

    fn entries(snapshot: &Snapshot) -> (bool, Vec<String>) {
        let all = (0..snapshot.len()).map(|index| snapshot.entry(index).unwrap());
        (snapshot.has_body, all.map(|(name, kind)| format!("{} {kind:?}", name.escape_ascii())).collect())
    }

    #[test]
    fn shared_until_the_directory_changes() {
        let top = tempfile::tempdir().unwrap();
        write(top.path().join("a"), b"").unwrap();
        let cache = SnapshotCache::new(1 << 20, false);
        let (directory, stat) = aged(top.path());
        let first = cache.load(directory.as_fd(), &stat).unwrap().unwrap();
        assert!(Arc::ptr_eq(&first, &cache.load(directory.as_fd(), &stat).unwrap().unwrap()));
        write(top.path().join("c"), b"").unwrap();
        assert_eq!(load(&cache, &directory).len(), 2);
    }

    #[test]
    fn a_directory_changed_a_moment_ago_is_not_believed_twice() {
        let top = tempfile::tempdir().unwrap();
        let cache = SnapshotCache::new(1 << 20, false);
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
        let cache = SnapshotCache::new(3500, false);
        let aged: Vec<_> = ["a", "b", "c"].map(|dir| aged(&top.path().join(dir))).into();
        let load = |index: usize| cache.load(aged[index].0.as_fd(), &aged[index].1).unwrap().unwrap();
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
        let (cache, directory) = (SnapshotCache::watching(3), File::open(top.path()).unwrap());
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
        let cache = SnapshotCache::watching(3);
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
            let (cache, directory) = (SnapshotCache::watching(3), File::open(&path).unwrap());
            for (how, one, other, is_asked) in steps {
                change(top.path(), how, &path.join(file_name(one)), &path.join(file_name(other)));
                if is_asked {
                    let anew = read::whole(directory.as_fd(), 100, 1 << 20).unwrap().unwrap();
                    prop_assert_eq!(entries(&load(&cache, &directory)), entries(&anew));
                }
            }
        }
    }
}
