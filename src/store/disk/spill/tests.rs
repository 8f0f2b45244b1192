//! The rules: what is pointed to is never removed, by whatever way its pointer came to be where it is; what is not, goes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering as Atomic};
use std::time::Duration;

use super::*;
use crate::config::Durability;
use crate::digest::Sha256;
use crate::limits::{SPILL_WALK_DEPTH_MAX, SPILL_WALK_OPEN_MAX};
use crate::store::buckets;
use crate::store::disk::pins::*;
use crate::store::disk::spill::sweep::{Stop, Timing, round};
use crate::store::disk::spill::walk::{Incomplete, Order, Walk};
use crate::store::names::record::{EXTENDED_ALTERNATE_NAME, EXTENDED_NAME, Record, SUMMARY_NAME};
use crate::store::objects::batch::{Small, commit_each};
use crate::store::objects::write::Write;
use crate::store::volume::Volume;
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno};

const NOW: Timing = Timing { delay: Duration::ZERO, grace: Duration::ZERO, interval: Duration::ZERO };

struct Fixture {
    top: tempfile::TempDir,
    volume: Volume,
}

impl Fixture {
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        let volume = Volume::open(top.path().as_os_str().as_encoded_bytes(), Durability::Relaxed).unwrap();
        buckets::create(volume.bucket("bucket"), volume.uploads()).unwrap();
        Self { top, volume }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.top.path().join(path)
    }

    fn record(text: &str) -> Record {
        let mut record = Record::new(0, 0, [0; 16]);
        record.user_metadata = vec![(b"text".to_vec(), text.as_bytes().repeat(3000))];
        record
    }

    /// An object with metadata that no other has, unless its text is the same.
    fn put(&self, key: &str, text: &str) {
        let (bucket, key, record) = ("bucket".to_owned(), key.as_bytes().to_vec(), Self::record(text));
        let small = Small { write: Write { bucket, key, record, condition: None }, bytes: Vec::new(), md5: None };
        commit_each(self.volume.disk(), vec![small]).remove(0).unwrap();
    }

    fn delete(&self, key: &str) {
        self.volume.bucket("bucket").delete(key.as_bytes(), None).unwrap();
    }

    fn has(&self, key: &str, text: &str) -> bool {
        let record = self.volume.bucket("bucket").open(key.as_bytes()).unwrap().state.record.unwrap();
        record.user_metadata == Self::record(text).user_metadata
    }

    fn spilled(&self) -> usize {
        std::fs::read_dir(self.at(".sluice/spill")).unwrap().count()
    }

    /// What no timestamp can tell from now is not old.
    fn round(&self) -> std::result::Result<Option<u64>, Incomplete> {
        std::thread::sleep(Duration::from_millis(12));
        round(self.volume.disk(), NOW, &Stop::default())
    }

    fn walk(&self, order: Order, mut pace: impl FnMut(&[u8])) {
        let root = sys::path::open_dir(&self.volume.disk().root, b"", Symlinks::Deny).unwrap();
        let mut pace = |name: &[u8]| {
            pace(name);
            Ok(())
        };
        Walk::new(self.volume.disk(), order, &mut pace).run(root).unwrap();
    }

    /// Whether a walk, in which `pace` does what it does, meets the pointer of `text`.
    fn sees(&self, text: &str, order: Order, pace: impl FnMut(&[u8])) -> bool {
        let name = Sha256::of(&Self::record(text).encode().extended.unwrap());
        let round = self.volume.disk().pins.begin_round();
        self.walk(order, pace);
        !round.remove_unseen(&name, || Ok(true)).unwrap()
    }

    fn pointer(&self, path: &str) -> Vec<u8> {
        let file = std::fs::File::open(self.at(path)).unwrap();
        sys::xattr::read_vec(&file, EXTENDED_NAME, 64).unwrap().unwrap()
    }

    fn point(&self, path: &str, attribute: &std::ffi::CStr, pointer: &[u8]) {
        sys::xattr::write(std::fs::File::open(self.at(path)).unwrap(), attribute, pointer).unwrap();
    }
}

#[test]
fn what_no_object_has_any_more_goes_and_all_else_stays() {
    let fixture = Fixture::new();
    assert_eq!(fixture.round(), Ok(None), "there is nothing to walk for");
    for count in 0..20 {
        fixture.put("object", &count.to_string());
    }
    fixture.put("same/record", "19");
    fixture.put("gone", "gone");
    fixture.delete("gone");
    assert_eq!(fixture.spilled(), 21);
    std::fs::write(fixture.at(".sluice/spill/somebody's own"), b"").unwrap();
    assert_eq!(fixture.round(), Ok(Some(20)));
    assert!(fixture.has("object", "19") && fixture.has("same/record", "19"));
    assert_eq!((fixture.spilled(), fixture.round()), (2, Ok(Some(0))));
    fixture.delete("object");
    assert_eq!(fixture.round(), Ok(Some(0)), "another has it still");
    fixture.delete("same/record");
    assert_eq!((fixture.round(), fixture.spilled()), (Ok(Some(1)), 1));
}

/// Whatever may be served one day: a copy by `cp -a`, an object in a directory of its name, an explicit directory by either of its
/// attributes, an upload, what lies outside of the buckets, and records that are void or not understood.
#[test]
fn a_pointer_counts_wherever_it_is() {
    let fixture = Fixture::new();
    let pointer_of = |text: &str| {
        fixture.put("key", text);
        let pointer = fixture.pointer("bucket/key");
        fixture.delete("key");
        pointer
    };
    let places =
        ["bucket/a/b/copy", "bucket/.sluice%odd", "Not A Bucket/file", ".sluice/uploads/bucket/id/data.1", ".sluice/staging/1"];
    for place in places {
        std::fs::create_dir_all(fixture.at(place).parent().unwrap()).unwrap();
        std::fs::write(fixture.at(place), b"").unwrap();
        fixture.point(place, EXTENDED_NAME, &pointer_of(place));
    }
    std::fs::create_dir_all(fixture.at("bucket/own")).unwrap();
    fixture.point("bucket/own", EXTENDED_ALTERNATE_NAME, &pointer_of("alternate"));
    fixture.point("bucket", EXTENDED_NAME, &pointer_of("of a bucket"));
    fixture.point("", EXTENDED_NAME, &pointer_of("of all"));
    fixture.put("directory/", "explicit");
    fixture.put("inside", "inside");
    fixture.put("inside/another", "another");
    fixture.put("edited", "edited");
    std::fs::write(fixture.at("bucket/edited"), b"by hand").unwrap();
    fixture.put("newer", "newer");
    fixture.point("bucket/newer", SUMMARY_NAME, b"version 9");
    let all = fixture.spilled();
    pointer_of("of nothing");
    assert_eq!((fixture.round(), fixture.spilled()), (Ok(Some(1)), all));
    assert!(fixture.has("directory/", "explicit") && fixture.has("inside", "inside") && fixture.has("inside/another", "another"));
}

#[test]
fn what_is_young_is_not_looked_for() {
    let fixture = Fixture::new();
    fixture.put("gone", "gone");
    fixture.delete("gone");
    let grace = Duration::from_secs(3600);
    let of_an_hour = Timing { grace, ..NOW };
    assert_eq!(round(fixture.volume.disk(), of_an_hour, &Stop::default()), Ok(None));
    // A restored backup sets times back, but not that of its own making.
    let name = std::fs::read_dir(fixture.at(".sluice/spill")).unwrap().next().unwrap().unwrap().path();
    std::fs::File::open(name).unwrap().set_modified(std::time::SystemTime::now() - 2 * grace).unwrap();
    assert_eq!(round(fixture.volume.disk(), of_an_hour, &Stop::default()), Ok(None));
}

#[test]
fn an_incomplete_walk_removes_nothing() {
    let fixture = Fixture::new();
    fixture.put("gone", "gone");
    fixture.delete("gone");
    let mut deep = fixture.at("bucket");
    // Relative, as the path of all is longer than the kernel takes.
    let mut directory = sys::path::open_root(deep.as_os_str().as_encoded_bytes()).unwrap();
    for _ in 0..SPILL_WALK_DEPTH_MAX {
        sys::path::mkdir(&directory, b"d", 0o755).unwrap();
        directory = sys::path::open_dir(&directory, b"d", Symlinks::Deny).unwrap();
    }
    let incomplete = fixture.round().unwrap_err();
    assert_eq!(incomplete.errno, Errno::NAMETOOLONG);
    assert!(incomplete.path.starts_with(b"bucket/d/d/") && incomplete.path.ends_with(b"/d/"));
    assert_eq!(fixture.spilled(), 1);
    // And nothing of it is kept.
    deep.push("d");
    std::fs::remove_dir_all(&deep).unwrap();
    assert_eq!(fixture.round(), Ok(Some(1)));
    let stopped = Stop::default();
    stopped.stop();
    fixture.put("gone", "gone");
    fixture.delete("gone");
    std::thread::sleep(Duration::from_millis(12));
    assert_eq!(round(fixture.volume.disk(), NOW, &stopped).unwrap_err().errno, Errno::CANCELED);
    assert_eq!(fixture.spilled(), 1);
}

/// The record is written, the file has no name yet: no walk can see it, however long that lasts.
#[test]
fn a_commit_under_way_keeps_its_record() {
    let fixture = Fixture::new();
    let bytes = Fixture::record("pinned").encode().extended.unwrap();
    let pinned = write(fixture.volume.disk(), &bytes).unwrap();
    let again = write(fixture.volume.disk(), &bytes).unwrap();
    assert_eq!(fixture.round(), Ok(Some(0)));
    drop(pinned);
    assert_eq!(fixture.round(), Ok(Some(0)), "the other commit is under way still");
    // Published, or not, in the middle of a round: its walks may have passed the place.
    let name = *again.pointer();
    let round = fixture.volume.disk().pins.begin_round();
    drop(again);
    assert_eq!(round.remove_unseen(&name, || Ok(true)), Ok(false));
    drop(round);
    assert_eq!(fixture.round(), Ok(Some(1)));
    assert!(fixture.volume.disk().pins.holds_nothing());
}

#[test]
fn a_record_that_is_used_again_or_read_during_a_round_stays() {
    let fixture = Fixture::new();
    fixture.put("key", "text");
    let pointer = fixture.pointer("bucket/key");
    let name = <Name>::try_from(pointer.as_slice()).unwrap();
    let round = fixture.volume.disk().pins.begin_round();
    assert_eq!(round.remove_unseen(&name, || Ok(true)), Ok(true), "without a walk nothing is known of the object");
    assert!(fixture.has("key", "text"));
    assert_eq!(round.remove_unseen(&name, || Ok(true)), Ok(false), "it was read");
    drop(round);
    let round = fixture.volume.disk().pins.begin_round();
    fixture.put("key", "text");
    fixture.delete("key");
    assert_eq!(round.remove_unseen(&name, || Ok(true)), Ok(false), "a commit met it in this round");
}

/// A file is moved to where the walk has been: that walk misses it, and the next does not, although it is moved on in the same
/// direction.
#[test]
fn what_one_walk_misses_for_a_move_the_next_one_finds() {
    let fixture = Fixture::new();
    for name in ["a", "b", "c"] {
        std::fs::create_dir(fixture.at("bucket").join(name)).unwrap();
    }
    let bucket = &fixture.at("bucket");
    let rename = move |from: &str, to: &str| std::fs::rename(bucket.join(from), bucket.join(to)).unwrap();
    fixture.put("c/key", "text");
    let moves = move |from: &'static str, to: &'static str, at: &'static [u8]| {
        move |name: &[u8]| {
            // Once, also where the walk comes by again.
            if name == at && bucket.join(from).exists() {
                rename(from, to);
            }
        }
    };
    assert!(!fixture.sees("text", Order::Forward, moves("c/key", "b/key", b"c")));
    assert!(fixture.sees("text", Order::Backward, moves("b/key", "a/key", b"a")));
    assert!(fixture.sees("text", Order::Forward, |_| ()) && fixture.sees("text", Order::Backward, |_| ()));
    // A directory that the walk is in is walked wherever it goes.
    fixture.delete("a/key");
    fixture.put("c/d/e/key", "text");
    for order in [Order::Forward, Order::Backward] {
        assert!(fixture.sees("text", order, moves("c/d", "a/d", b"e")));
        rename("a/d", "c/d");
    }
}

/// Keys of hundreds of components: more than directories are held open. One of these that is moved meanwhile is not known.
#[test]
fn a_deep_tree_is_walked_with_few_descriptors() {
    let fixture = Fixture::new();
    for depth in [100, 400] {
        fixture.put(&format!("{}key", "d/".repeat(depth)), &depth.to_string());
    }
    // Other tests have some too, on trees of their own.
    let descriptors = || {
        let links = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links.filter(|path| path.starts_with(fixture.at(""))).count()
    };
    for order in [Order::Forward, Order::Backward] {
        let before = descriptors();
        let most = std::cell::Cell::new(0);
        for text in ["100", "400"] {
            assert!(fixture.sees(text, order, |_| most.set(most.get().max(descriptors()))), "{order:?} {text}");
        }
        assert!(most.get() > before && most.get() < before + SPILL_WALK_OPEN_MAX + 10, "{before} {}", most.get());
        let root = sys::path::open_dir(&fixture.volume.disk().root, b"", Symlinks::Deny).unwrap();
        let (mut depth, above, moved) = (0, fixture.at("bucket/d/d"), fixture.at("bucket/d/moved"));
        let mut pace = |name: &[u8]| {
            depth += usize::from(name == b"d");
            if depth == 300 && !moved.exists() {
                std::fs::rename(&above, &moved).unwrap();
            }
            Ok(())
        };
        let incomplete = Walk::new(fixture.volume.disk(), order, &mut pace).run(root).unwrap_err();
        assert!(matches!(incomplete.errno, Errno::NOENT | Errno::STALE), "{incomplete:?}");
        std::fs::rename(&moved, &above).unwrap();
    }
}

/// PUT of `a/b` turns the object `a` into a directory that holds it, at any moment of a walk.
#[test]
fn an_object_that_becomes_a_directory_is_seen() {
    for order in [Order::Forward, Order::Backward] {
        for when in 0..6 {
            let fixture = Fixture::new();
            fixture.put("a", "text");
            std::fs::create_dir_all(fixture.at("bucket/before/and")).unwrap();
            std::fs::create_dir_all(fixture.at("bucket/later/and")).unwrap();
            let mut count = 0;
            assert!(
                fixture.sees("text", order, |name| {
                    // Names of the bucket alone: it is what the walk comes to after our own directory, or before.
                    if [&b"bucket"[..], b"before", b"and", b"later", b"a"].contains(&name) {
                        if count == when {
                            fixture.put("a/b", "other");
                        }
                        count += 1;
                    }
                }),
                "{order:?} {when}"
            );
        }
    }
}

/// Writers, deleters, copies by hand, and rounds without a pause: no object ever lacks what it was made with.
#[test]
fn rounds_beside_everything_else_take_nothing_that_is_in_use() {
    let fixture = Fixture::new();
    let (is_over, removed) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Atomic::Relaxed) {
                let count = round(fixture.volume.disk(), NOW, &Stop::default()).unwrap().unwrap_or(0);
                removed.fetch_add(usize::try_from(count).unwrap(), Atomic::Relaxed);
            }
        });
        let workers: Vec<_> = (0..3)
            .map(|worker: usize| {
                let fixture = &fixture;
                scope.spawn(move || {
                    for count in 0..300_usize {
                        // Few texts, so that one is used again just when nobody had it any more.
                        let (key, text) = (format!("{worker}/key"), ((count * 7 + worker) % 5).to_string());
                        fixture.put(&key, &text);
                        assert!(fixture.has(&key, &text), "{key} {count}");
                        if count % 3 == 0 {
                            std::thread::sleep(Duration::from_millis(1));
                            assert!(fixture.has(&key, &text), "{key} {count} a moment later");
                        }
                        if count % 2 == 0 {
                            fixture.delete(&key);
                        }
                    }
                })
            })
            .collect();
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        is_over.store(true, Atomic::Relaxed);
        assert!(ended.iter().all(|ended| ended.is_ok()));
    });
    assert!(removed.into_inner() > 0, "nothing was ever removed");
}
