//! Objects that a core opened a moment ago: state, record, and for small ones the descriptor. The next request for one then
//! costs a look at its name instead of an open, a stat, a read of the record and a close.
//!
//! **Nothing here is believed as it stands.** The caller takes what it needs, and then asks `is_current`, which looks the name up
//! anew: the entry was true if the name still leads to the same inode with the same size, mtime and ctime. Bytes that were read
//! before that look are then the object's. Only what cannot change without its times showing it is remembered (`grain`).
//!
//! The look is by plain lookup, not by `openat2`: for the time that an entry lives (`RECENT_DURATION`) a symbolic link in the
//! place of a directory on the way is not noticed if it leads to that very inode, unchanged. An open descriptor keeps a removed
//! file's space: hence small objects only, for that time only, and `RECENT_SIZE_MAX` of them.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use super::open::{Object, State};
use crate::limits::{RECENT_DURATION, RECENT_OBJECTS_MAX, RECENT_PARTS_SIZE_MAX, RECENT_SIZE_MAX, SMALL_OBJECT_SIZE_MAX};
use crate::store::disk::{Bucket, Disk};
use crate::store::names::record::Record;
use crate::sys;

/// The objects that one core opened a moment ago.
pub struct RecentObjects {
    objects_max: usize,
    objects: HashMap<Rc<[u8]>, Recent>,
    /// In the order of their opening, which is that of their end. One that was opened again has an older place here too.
    order: VecDeque<(Instant, Rc<[u8]>)>,
    /// Bytes of the files that are kept open.
    size: u64,
    /// The path being looked up, beneath the served directory.
    path: Vec<u8>,
}

struct Recent {
    opened_at: Instant,
    object: Rc<RecentObject>,
}

/// What is remembered of an object.
pub struct RecentObject {
    /// What it was.
    pub state: State,
    /// Its file, if it is small.
    pub file: Option<OwnedFd>,
    path: Rc<[u8]>,
}

impl RecentObject {
    /// Whether the object is what it was, as of now.
    pub fn is_current(&self, disk: &Disk) -> bool {
        let stat = &self.state.stat;
        sys::stat::at(&disk.root, &self.path).is_ok_and(|now| {
            now.inode == stat.inode
                && now.ctime_ns == stat.ctime_ns
                && now.mtime_ns == stat.mtime_ns
                && now.size == stat.size
                && now.device == stat.device
        })
    }
}

impl RecentObjects {
    /// Room for `objects_max`, each of which may hold a descriptor.
    pub fn new(objects_max: usize) -> Self {
        let (objects, order, path) = (HashMap::new(), VecDeque::new(), Vec::new());
        Self { objects_max: objects_max.min(RECENT_OBJECTS_MAX), objects, order, size: 0, path }
    }

    /// The object of `key` as it was a moment ago.
    pub fn find(&mut self, bucket: Bucket<'_>, key: &[u8]) -> Option<Rc<RecentObject>> {
        if self.objects.is_empty() {
            return None;
        }
        self.path.clear();
        bucket.write_path(&mut self.path, key);
        let recent = self.objects.get(self.path.as_slice())?;
        (recent.opened_at.elapsed() < RECENT_DURATION).then(|| recent.object.clone())
    }

    /// Remembers an object that was opened no earlier than `opened_ns` (of the clock of file times), if it is worth that.
    pub fn remember(&mut self, bucket: Bucket<'_>, key: &[u8], object: Object, opened_ns: i64) {
        let now = Instant::now();
        self.forget_old(now);
        let stat = &object.state.stat;
        let is_settled =
            !object.state.may_change_unseen && bucket.disk.facts().grain.files.is_settled_since(stat.ctime_ns, opened_ns);
        let parts_size = object.state.record.as_ref().map_or(0, Record::parts_size);
        if !is_settled
            || parts_size > RECENT_PARTS_SIZE_MAX
            || !object.is_at_key
            || bucket.disk.facts().is_remote
            || self.objects.len() >= self.objects_max
        {
            return;
        }
        let mut path = Vec::with_capacity(bucket.name.len() + 1 + key.len());
        bucket.write_path(&mut path, key);
        let path: Rc<[u8]> = path.into();
        self.forget(&path);
        let Object { file, state, .. } = object;
        let is_small = state.size <= SMALL_OBJECT_SIZE_MAX as u64 && self.size + state.size <= RECENT_SIZE_MAX;
        if is_small {
            self.size += state.size;
        }
        let object = RecentObject { state, file: is_small.then_some(file), path: path.clone() };
        self.order.push_back((now, path.clone()));
        self.objects.insert(path, Recent { opened_at: now, object: Rc::new(object) });
    }

    /// Forgets an object that is not what it was.
    pub fn forget_object(&mut self, object: &RecentObject) {
        self.forget(&object.path);
    }

    /// Forgets what is older than it may be. Called regularly, also where nobody asks for anything.
    pub fn forget_old(&mut self, now: Instant) {
        while let Some((opened_at, path)) = self.order.front() {
            if now.duration_since(*opened_at) < RECENT_DURATION {
                return;
            }
            let is_latest = self.objects.get(path).is_some_and(|recent| recent.opened_at == *opened_at);
            let Some((_, path)) = self.order.pop_front() else { return };
            if is_latest {
                self.forget(&path);
            }
        }
    }

    fn forget(&mut self, path: &[u8]) {
        if let Some(Recent { object, .. }) = self.objects.remove(path)
            && object.file.is_some()
        {
            self.size -= object.state.size;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::config::Durability;
    use crate::limits::TIMESTAMP_GRAIN_NS;
    use crate::store::buckets;
    use crate::store::volume::Volume;

    /// Older than what follows may be: of a second on old inodes.
    const OLD: Duration = Duration::from_nanos(2 * TIMESTAMP_GRAIN_NS as u64);

    struct Fixture {
        top: tempfile::TempDir,
        volume: Volume,
        recent: RecentObjects,
    }

    impl Fixture {
        fn new(objects_max: usize) -> Self {
            let top = tempfile::tempdir().unwrap();
            let volume = Volume::open(top.path().as_os_str().as_encoded_bytes(), Durability::Acked).unwrap();
            buckets::create(volume.bucket("bucket"), volume.uploads()).unwrap();
            Self { top, volume, recent: RecentObjects::new(objects_max) }
        }

        fn path(&self, key: &str) -> std::path::PathBuf {
            self.top.path().join("bucket").join(key)
        }

        fn write(&self, key: &str, bytes: &[u8]) {
            let path = self.path(key);
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
            std::fs::write(path, bytes).unwrap();
        }

        fn remember(&mut self, key: &str) {
            let opened_ns = sys::clock::realtime_ns();
            let object = self.volume.bucket("bucket").open(key.as_bytes()).unwrap();
            self.recent.remember(self.volume.bucket("bucket"), key.as_bytes(), object, opened_ns);
        }

        fn find(&mut self, key: &str) -> Option<Rc<RecentObject>> {
            self.recent.find(self.volume.bucket("bucket"), key.as_bytes())
        }

        fn is_current(&mut self, key: &str) -> bool {
            self.find(key).unwrap().is_current(self.volume.disk())
        }
    }

    #[test]
    fn an_object_is_current_until_its_name_or_its_file_changes() {
        let changes: [fn(&Fixture); 7] = [
            |fixture| std::fs::write(fixture.path("dir/a"), b"BYTES").unwrap(),
            |fixture| std::fs::write(fixture.path("dir/a"), b"longer bytes").unwrap(),
            |fixture| std::fs::remove_file(fixture.path("dir/a")).unwrap(),
            |fixture| std::fs::rename(fixture.path("dir/b"), fixture.path("dir/a")).unwrap(),
            |fixture| std::fs::rename(fixture.path("dir"), fixture.path("other")).unwrap(),
            |fixture| {
                std::os::unix::fs::symlink("b", fixture.path("link"))
                    .and_then(|()| std::fs::rename(fixture.path("link"), fixture.path("dir/a")))
                    .unwrap()
            },
            // The record, which lives in an attribute.
            |fixture| sys::xattr::write(std::fs::File::open(fixture.path("dir/a")).unwrap(), c"user.sluice", b"x").unwrap(),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut fixture = Fixture::new(8);
            fixture.write("dir/a", b"bytes");
            fixture.write("dir/b", b"bytes");
            std::thread::sleep(OLD);
            fixture.remember("dir/a");
            assert!(fixture.is_current("dir/a"));
            change(&fixture);
            assert!(!fixture.is_current("dir/a"), "change {number}");
        }
    }

    #[test]
    fn what_could_still_change_unseen_is_not_remembered() {
        let mut fixture = Fixture::new(8);
        fixture.write("written", b"bytes");
        std::thread::sleep(OLD);
        let writer = std::fs::File::options().append(true).open(fixture.path("written")).unwrap();
        fixture.remember("written");
        assert!(fixture.find("written").is_none(), "somebody may be writing");
        drop(writer);
        fixture.remember("written");
        assert!(fixture.find("written").is_some());
        // Opened, as far as this can know, long before it was changed.
        fixture.recent = RecentObjects::new(8);
        let object = fixture.volume.bucket("bucket").open(b"written").unwrap();
        let is_told = fixture.volume.disk().facts().grain.files.tell_apart;
        fixture.recent.remember(fixture.volume.bucket("bucket"), b"written", object, 0);
        assert_eq!(fixture.find("written").is_some(), is_told);
    }

    #[test]
    fn an_object_inside_a_directory_of_its_name_is_not_remembered() {
        let mut fixture = Fixture::new(8);
        fixture.write("a/.sluice%o", b"the object `a`");
        std::thread::sleep(OLD);
        fixture.remember("a");
        assert!(fixture.find("a").is_none());
    }

    #[test]
    fn only_so_many_are_held_and_large_ones_without_their_file() {
        let mut fixture = Fixture::new(2);
        fixture.write("large", &vec![0; SMALL_OBJECT_SIZE_MAX + 1]);
        for key in ["a", "b"] {
            fixture.write(key, b"bytes");
        }
        std::thread::sleep(OLD);
        for key in ["large", "a", "b"] {
            fixture.remember(key);
        }
        assert!(fixture.find("large").unwrap().file.is_none());
        assert!(fixture.find("a").unwrap().file.is_some());
        assert!(fixture.find("b").is_none(), "there was no room");
        assert_eq!(fixture.recent.size, 5);
        let a = fixture.find("a").unwrap();
        fixture.recent.forget_object(&a);
        assert_eq!((fixture.recent.size, fixture.recent.objects.len()), (0, 1));
        fixture.remember("b");
        assert!(fixture.find("b").is_some());
    }

    #[test]
    fn nothing_lives_longer_than_it_may() {
        let mut fixture = Fixture::new(8);
        for key in ["a", "b"] {
            fixture.write(key, b"bytes");
        }
        std::thread::sleep(OLD);
        fixture.remember("a");
        fixture.remember("b");
        // Opened again: its older place in the order must not end the newer entry.
        let a = fixture.find("a").unwrap();
        fixture.recent.forget_object(&a);
        fixture.remember("a");
        let first = fixture.recent.order.front().unwrap().0;
        fixture.recent.forget_old(first + RECENT_DURATION);
        assert!(fixture.find("a").is_some());
        fixture.recent.forget_old(Instant::now() + RECENT_DURATION);
        assert!(fixture.recent.objects.is_empty() && fixture.recent.order.is_empty());
        assert_eq!(fixture.recent.size, 0);
    }
}
