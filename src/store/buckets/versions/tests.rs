//! What S3 says of versions, held against a model of it; and a POSIX program, or a crash, at each step over it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::{Entry, Query, list_versions};
use crate::base::time::Timestamp;
use crate::base::version_id::Version;
use crate::config::Durability;
use crate::digest::ETag;
use crate::digest::etag::FileState;
use crate::store::buckets;
use crate::store::disk::meddle::{self, Point};
use crate::store::disk::rules::{BucketRules, Keeps};
use crate::store::error::{Result, StoreError};
use crate::store::names::key;
use crate::store::names::record::{Record, SYNTHETIC};
use crate::store::objects::Deleted;
use crate::store::objects::batch::{Small, commit_each};
use crate::store::objects::versions::Found;
use crate::store::objects::write::{Published, Write};
use crate::store::volume::Volume;
use crate::sys;

struct Fixture {
    top: tempfile::TempDir,
    volume: Volume,
    keeps: Option<Keeps>,
}

impl Fixture {
    fn new(keeps: Option<Keeps>) -> Self {
        let top = tempfile::tempdir().unwrap();
        let volume = Volume::open(top.path().as_os_str().as_encoded_bytes(), Durability::Acked).unwrap();
        buckets::create(volume.bucket("bucket"), volume.uploads()).unwrap();
        let mut fixture = Self { top, volume, keeps: None };
        fixture.keep(keeps);
        fixture
    }

    fn keep(&mut self, keeps: Option<Keeps>) {
        self.keeps = keeps;
        let rules = keeps.map(|keeps| ("bucket".into(), Arc::new(BucketRules { bucket_id: "0a".repeat(16), keeps })));
        self.volume.disk().use_rules(rules.into_iter().collect());
    }

    /// The server is gone and another one is started.
    fn restart(&mut self) {
        self.volume = Volume::open(self.top.path().as_os_str().as_encoded_bytes(), Durability::Acked).unwrap();
        self.keep(self.keeps);
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<Published> {
        let (bucket, key, record) = ("bucket".to_owned(), key.as_bytes().to_vec(), Record::new(0, 0, [0; 16]));
        let small = Small { write: Write { bucket, key, record, condition: None }, bytes: bytes.to_vec(), md5: None };
        commit_each(self.volume.disk(), vec![small]).remove(0)
    }

    fn delete(&self, key: &str) -> Result<Deleted> {
        self.volume.bucket("bucket").delete(key.as_bytes(), None)
    }

    fn delete_version(&self, key: &str, version: Version) -> Result<Deleted> {
        self.volume.bucket("bucket").delete_version(key.as_bytes(), version, None)
    }

    fn open(&self, key: &str, version: Option<Version>) -> Result<Found> {
        self.volume.bucket("bucket").open_version(key.as_bytes(), version)
    }

    fn bytes(&self, key: &str, version: Option<Version>) -> Result<Vec<u8>> {
        let object = self.open(key, version)?.object;
        let mut bytes = vec![0; object.state.size as usize];
        sys::file::read_full_at(&object.file, &mut bytes, 0)?;
        Ok(bytes)
    }

    /// All versions by pages of so many: key, version, whether it is a marker, whether the latest.
    fn list(&self, max: usize) -> Vec<(String, Version, bool, bool)> {
        let (mut all, mut after, mut after_version) = (Vec::new(), Vec::new(), None);
        loop {
            let query = Query { after: &after, after_version, max, ..Query::default() };
            let page =
                list_versions(self.volume.bucket("bucket"), self.volume.snapshots(), &query, &AtomicBool::new(false)).unwrap();
            assert!(page.entries.len() == max || !page.is_truncated, "{page:?}");
            for entry in page.entries {
                let (key, version, is_marker, is_latest) = match entry {
                    Entry::Version { object, version, is_latest } => (object.key, version, false, is_latest),
                    Entry::DeleteMarker { key, marker } => (key, marker.version, true, marker.is_current),
                    Entry::CommonPrefix(prefix) => panic!("{prefix:?} without a delimiter"),
                };
                (after, after_version) = (key.clone(), Some(version));
                all.push((String::from_utf8(key).unwrap(), version, is_marker, is_latest));
            }
            if !page.is_truncated {
                return all;
            }
        }
    }

    /// Where a POSIX program finds, or may put, the file of a key; `None` where a file is on the way.
    fn path(&self, key: &str) -> Option<PathBuf> {
        let location = key::locate(key.as_bytes()).unwrap();
        let path = self.top.path().join("bucket").join(std::str::from_utf8(&location.path).unwrap());
        let path = match location.is_directory_object {
            true => path.join(".sluice%b"),
            false if path.is_dir() => path.join(".sluice%o"),
            false => path,
        };
        std::fs::create_dir_all(path.parent().unwrap()).ok().map(|()| path)
    }

    fn left_in_staging(&self) -> usize {
        std::fs::read_dir(self.top.path().join(".sluice/staging")).unwrap().count()
    }

    fn has_history(&self) -> bool {
        std::fs::read_dir(self.top.path().join(".sluice/versions").join("0a".repeat(16)))
            .is_ok_and(|mut names| names.next().is_some())
    }
}

/// What a key is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Current {
    /// The newest version, of whatever kind.
    Newest,
    /// A POSIX program has removed the file.
    Implied,
}

/// Versions of a key as S3 has them, the newest first; `None` for a delete marker.
#[derive(Clone, Debug)]
struct Model {
    versions: Vec<(Version, Option<Vec<u8>>)>,
    current: Current,
}

impl Model {
    fn is_live(&self) -> bool {
        self.current == Current::Newest && self.versions.first().is_some_and(|(_, bytes)| bytes.is_some())
    }

    fn write(&mut self, version: Version, bytes: Option<Vec<u8>>) {
        if version == Version::Null {
            self.versions.retain(|(version, _)| *version != Version::Null);
        }
        self.versions.insert(0, (version, bytes));
        self.current = Current::Newest;
    }

    /// What a POSIX program writes takes the place of the current version.
    fn write_by_posix(&mut self, bytes: Vec<u8>) {
        if self.is_live() {
            self.versions.remove(0);
        }
        self.write(Version::Null, Some(bytes));
    }

    fn has_older_null(&self) -> bool {
        self.versions.iter().skip(usize::from(self.is_live())).any(|(version, _)| *version == Version::Null)
    }

    fn remove(&mut self, at: usize) {
        self.versions.remove(at);
        if self.versions.first().is_none_or(|(_, bytes)| bytes.is_none()) {
            self.current = Current::Newest;
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Put(u8),
    Delete,
    DeleteVersion(usize),
    Keep(Keeps),
    Restart,
    PosixReplaces(u8),
    PosixEdits(u8),
    PosixRemoves,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..4u8).prop_map(Act::Put),
        3 => Just(Act::Delete),
        4 => (0..6usize).prop_map(Act::DeleteVersion),
        1 => Just(Act::Keep(Keeps::Everything)),
        1 => Just(Act::Keep(Keeps::Versions)),
        1 => Just(Act::Restart),
        1 => (1..4u8).prop_map(Act::PosixReplaces),
        1 => (1..4u8).prop_map(Act::PosixEdits),
        1 => Just(Act::PosixRemoves),
    ]
}

const KEYS: [&str; 5] = ["a", "a/b", "a-", "d/", "d/x"];

struct Run {
    fixture: Fixture,
    models: BTreeMap<&'static str, Model>,
    count: usize,
}

impl Run {
    fn bytes(&mut self, size: u8) -> Vec<u8> {
        self.count += 1;
        // Never of the size of another one, so that what was edited has no record that fits.
        if size == 0 {
            Vec::new()
        } else {
            format!("{:0>width$}", self.count, width = usize::from(size) + self.count).into_bytes()
        }
    }

    fn take(&mut self, key: &'static str, act: Act) {
        let mut model = self.models.remove(key).unwrap_or(Model { versions: Vec::new(), current: Current::Newest });
        match act {
            Act::Put(size) => {
                let bytes = self.bytes(size);
                let published = self.fixture.put(key, &bytes).unwrap();
                let version = published.version.unwrap_or(Version::Null);
                assert_eq!(version == Version::Null, self.fixture.keeps != Some(Keeps::Everything));
                model.write(version, Some(bytes));
            }
            Act::Delete => self.delete(key, &mut model),
            Act::DeleteVersion(at) => self.delete_version(key, at, &mut model),
            // Once versions are kept they are never not.
            Act::Keep(keeps) => self.fixture.keep(Some(keeps)),
            Act::Restart => self.fixture.restart(),
            Act::PosixReplaces(_) | Act::PosixEdits(_) | Act::PosixRemoves => self.by_posix(key, act, &mut model),
        }
        self.models.insert(key, model);
    }

    fn delete(&mut self, key: &str, model: &mut Model) {
        let deleted = self.fixture.delete(key).unwrap();
        match self.fixture.keeps {
            None => model.versions.clear(),
            Some(_) => {
                assert!(deleted.is_marker);
                model.write(deleted.version.unwrap(), None);
            }
        }
    }

    fn delete_version(&mut self, key: &str, at: usize, model: &mut Model) {
        if model.current == Current::Implied && at == 0 {
            let implied = self.fixture.list(100).into_iter().find(|(found, .., is_latest)| found == key && *is_latest).unwrap();
            assert!(implied.2, "{implied:?}");
            self.fixture.delete_version(key, implied.1).unwrap();
            model.current = Current::Newest;
            return;
        }
        let Some((version, bytes)) = model.versions.get(at).cloned() else { return };
        let deleted = self.fixture.delete_version(key, version).unwrap();
        if self.fixture.keeps.is_some() {
            assert_eq!((deleted.version, deleted.is_marker), (Some(version), bytes.is_none()), "{key}");
        }
        model.remove(at);
    }

    fn by_posix(&mut self, key: &str, act: Act, model: &mut Model) {
        let Some(path) = self.fixture.path(key) else { return };
        match act {
            // Below a name that is a file there is nothing.
            _ if path.exists() != model.is_live() => {}
            // Over an older `null` a file hides that only while it is there: S3 knows nothing alike.
            Act::PosixReplaces(_) | Act::PosixEdits(_) if model.has_older_null() => {}
            Act::PosixReplaces(size) => {
                let bytes = self.bytes(size);
                let beside = self.fixture.top.path().join("beside");
                std::fs::write(&beside, &bytes).unwrap();
                std::fs::rename(&beside, &path).unwrap();
                model.write_by_posix(bytes);
            }
            Act::PosixEdits(size) if model.is_live() => {
                let bytes = self.bytes(size);
                std::fs::write(&path, &bytes).unwrap();
                model.write_by_posix(bytes);
            }
            Act::PosixRemoves if model.is_live() => {
                std::fs::remove_file(&path).unwrap();
                model.versions.remove(0);
                let is_object = model.versions.first().is_some_and(|(_, bytes)| bytes.is_some());
                model.current = if is_object { Current::Implied } else { Current::Newest };
            }
            _ => {}
        }
    }

    fn check(&self) {
        let (mut expected, mut implied) = (Vec::new(), Vec::new());
        for (key, model) in &self.models {
            let mut is_latest = model.current == Current::Newest;
            if !is_latest {
                implied.push(key.to_string());
            }
            for (version, bytes) in &model.versions {
                expected.push((key.to_string(), *version, bytes.is_none(), is_latest));
                is_latest = false;
            }
            for (version, bytes) in &model.versions {
                match (self.fixture.bytes(key, Some(*version)), bytes) {
                    (Ok(found), Some(bytes)) => assert_eq!(&found, bytes, "{key} {version}"),
                    (Err(StoreError::DeleteMarker(marker)), None) => assert_eq!(marker.version, *version, "{key}"),
                    (found, bytes) => panic!("{key} {version}: {found:?} and not {bytes:?}"),
                }
            }
            match (self.fixture.bytes(key, None), model.versions.first()) {
                (Ok(found), Some((_, Some(bytes)))) if model.is_live() => assert_eq!(&found, bytes, "{key}"),
                (Err(StoreError::DeleteMarker(marker)), Some(_)) if !model.is_live() => assert!(marker.is_current, "{key}"),
                (Err(StoreError::NoObject), None) => {}
                (found, newest) => panic!("{key}: {found:?} and not {newest:?}"),
            }
        }
        for max in [1, 3, 100] {
            let (latest, others): (Vec<_>, Vec<_>) = self
                .fixture
                .list(max)
                .into_iter()
                .partition(|(key, _, is_marker, is_latest)| *is_marker && *is_latest && implied.contains(key));
            assert_eq!(others, expected, "by {max}");
            assert_eq!(latest.into_iter().map(|(key, ..)| key).collect::<Vec<_>>(), implied, "by {max}");
        }
        assert_eq!(self.fixture.left_in_staging(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn versions_are_those_of_s3(
        before in proptest::collection::vec((0..KEYS.len(), act()), 0..4),
        acts in proptest::collection::vec((0..KEYS.len(), act()), 1..30),
    ) {
        let mut run = Run { fixture: Fixture::new(None), models: BTreeMap::new(), count: 0 };
        for (key, act) in before.into_iter().filter(|(_, act)| !matches!(act, Act::Keep(_))) {
            run.take(KEYS[key], act);
        }
        run.fixture.keep(Some(Keeps::Everything));
        run.check();
        for (key, act) in acts {
            run.take(KEYS[key], act);
            run.check();
        }
        // All of them one by one, as a program does that empties a bucket.
        for max in [100, 100] {
            for (key, version, ..) in run.fixture.list(max) {
                run.fixture.delete_version(&key, version).unwrap();
            }
        }
        prop_assert_eq!(run.fixture.list(100), vec![]);
        prop_assert!(!run.fixture.has_history());
    }
}

#[test]
fn a_bucket_with_a_history_is_not_empty() {
    let fixture = Fixture::new(Some(Keeps::Everything));
    fixture.put("a/b", b"one").unwrap();
    let marker = fixture.delete("a/b").unwrap().version.unwrap();
    let stop = AtomicBool::new(false);
    assert_eq!(
        buckets::delete(fixture.volume.bucket("bucket"), fixture.volume.uploads(), &stop).unwrap_err(),
        StoreError::BucketNotEmpty
    );
    for (key, version, ..) in fixture.list(10) {
        fixture.delete_version(&key, version).unwrap();
    }
    assert_eq!(fixture.delete_version("a/b", marker).unwrap().version, Some(marker));
    buckets::delete(fixture.volume.bucket("bucket"), fixture.volume.uploads(), &stop).unwrap();
    assert!(!fixture.top.path().join(".sluice/versions").join("0a".repeat(16)).exists());
}

/// Ids are the newest whatever the clock says, and what claims one that is in the history, or less, is `null`.
#[test]
fn an_id_that_is_copied_along_is_not_believed() {
    let fixture = Fixture::new(Some(Keeps::Everything));
    let first = fixture.put("a", b"one").unwrap().version.unwrap();
    let live = fixture.top.path().join("bucket/a");
    let copy = fixture.top.path().join("bucket/copy");
    assert!(std::process::Command::new("cp").args(["-a"]).args([&live, &copy]).status().unwrap().success());
    fixture.put("a", b"two").unwrap();
    std::fs::rename(&copy, &live).unwrap();
    let versions: Vec<_> = fixture.list(10).into_iter().map(|(_, version, ..)| version).collect();
    assert_eq!(versions, [Version::Null, first]);
    assert_eq!(fixture.bytes("a", Some(first)).unwrap(), b"one");
    fixture.put("a", b"three").unwrap();
    assert_eq!(fixture.bytes("a", Some(Version::Null)).unwrap(), b"one");
    assert_eq!(fixture.list(10).len(), 3);
}

/// Through a descriptor from before a version can still be written to. It is that version, and no record of its bytes holds.
#[test]
fn a_version_that_is_written_to_is_still_there() {
    use std::io::Write as _;
    let fixture = Fixture::new(Some(Keeps::Everything));
    let first = fixture.put("a", b"one").unwrap().version.unwrap();
    let mut open = std::fs::OpenOptions::new().append(true).open(fixture.path("a").unwrap()).unwrap();
    let second = fixture.put("a", b"two").unwrap().version.unwrap();
    open.write_all(b" and more").unwrap();
    assert_eq!(fixture.bytes("a", Some(first)).unwrap(), b"one and more");
    assert!(fixture.open("a", Some(first)).unwrap().object.state.record.is_none());
    let listed = fixture.list(10);
    assert_eq!(listed.iter().map(|(_, version, ..)| *version).collect::<Vec<_>>(), [second, first]);
    fixture.delete_version("a", second).unwrap();
    fixture.delete_version("a", Version::Null).unwrap();
    assert_eq!(fixture.list(10), []);
}

/// What a client knew a file by, it is known by in the history.
#[test]
fn a_posix_file_keeps_its_etag() {
    let fixture = Fixture::new(Some(Keeps::Everything));
    std::fs::write(fixture.path("a").unwrap(), b"theirs").unwrap();
    let before = fixture.open("a", None).unwrap().object.state.stat;
    fixture.put("a", b"ours").unwrap();
    let record = fixture.open("a", Some(Version::Null)).unwrap().object.state.record.unwrap();
    let time = Timestamp::from_nanoseconds;
    let state = FileState { inode: before.inode, size: 6, mtime: time(before.mtime_ns), ctime: time(before.ctime_ns) };
    assert_eq!((ETag::Synthetic(record.etag), record.parts), (ETag::synthetic(&state, None), SYNTHETIC));
    let null = fixture.list(10).pop().unwrap();
    assert_eq!((null.1, null.3), (Version::Null, false));
}

/// A crash can come between a PUT and the number that the delete marker before it gets.
#[test]
fn a_marker_that_has_no_number_yet_is_what_its_id_says() {
    let fixture = Fixture::new(Some(Keeps::Everything));
    let marker = fixture.delete("a").unwrap().version.unwrap();
    let first = fixture.put("a", b"one").unwrap().version.unwrap();
    fixture.put("a", b"two").unwrap();
    let history = fixture.top.path().join(".sluice/versions").join("0a".repeat(16)).join("a");
    let Version::Id(id) = marker else { panic!("{marker}") };
    std::fs::rename(history.join(format!(".sluice%ov{}", id.inverted())), history.join(".sluice%om")).unwrap();
    std::fs::remove_file(fixture.path("a").unwrap()).unwrap();
    let listed = fixture.list(10);
    let shown: Vec<_> = listed.iter().map(|(_, version, is_marker, is_latest)| (*version, *is_marker, *is_latest)).collect();
    assert_eq!(shown[1..], [(first, false, false), (marker, true, false)]);
    assert_eq!((shown[0].1, shown[0].2), (true, true), "the file was removed by a POSIX program");
    fixture.delete_version("a", shown[0].0).unwrap();
    assert_eq!(fixture.bytes("a", None).unwrap(), b"one");
}

/// A POSIX program puts its own file at the key, or removes what is there, at each step. Nothing that S3 has acknowledged is lost but what the
/// program itself took away, and its own file is a version.
#[test]
fn a_posix_program_at_each_step_of_an_overwrite_and_a_delete() {
    for point in [Point::Replace, Point::Remove, Point::Taken] {
        for is_removal in [false, true] {
            for is_delete in [false, true] {
                let (latest, left) = meddled(point, is_removal, is_delete);
                assert_eq!((latest, left), (1, 0), "{point:?} {is_removal} {is_delete}");
            }
        }
    }
}

/// How many versions are the latest then, and what is left in staging.
fn meddled(point: Point, is_removal: bool, is_delete: bool) -> (usize, usize) {
    let case = format!("{point:?} {is_removal} {is_delete}");
    let fixture = Fixture::new(Some(Keeps::Everything));
    let first = fixture.put("a", b"one").unwrap().version.unwrap();
    let second = fixture.put("a", b"two").unwrap().version.unwrap();
    let live = fixture.path("a").unwrap();
    let (beside, mut is_done) = (fixture.top.path().join("beside"), false);
    let program = move |now: Point| {
        if now == point && !std::mem::replace(&mut is_done, true) {
            if is_removal {
                let _ = std::fs::remove_file(&live);
            } else {
                std::fs::write(&beside, b"theirs").unwrap();
                std::fs::rename(&beside, &live).unwrap();
            }
        }
    };
    let third = meddle::beside(program, || match is_delete {
        true => fixture.delete("a").unwrap().version,
        false => fixture.put("a", b"three").unwrap().version,
    });
    let (second_is, third_is) = (fixture.bytes("a", Some(second)), fixture.bytes("a", third));
    assert_eq!(fixture.bytes("a", Some(first)).unwrap(), b"one", "{case}");
    // Between our look and our act it takes away the second version, and behind it what we had put there.
    let is_before = match point {
        Point::Replace => !is_delete,
        Point::Remove => is_delete,
        _ => false,
    };
    let is_behind = point == Point::Taken;
    match is_before {
        true => assert_eq!(second_is, Err(StoreError::NoVersion), "{case}"),
        false => assert_eq!(second_is.unwrap(), b"two", "{case}"),
    }
    match third_is {
        Err(StoreError::DeleteMarker(marker)) if is_delete => assert_eq!(Some(marker.version), third, "{case}"),
        Err(StoreError::NoVersion) if is_behind && !is_delete => {}
        found => assert_eq!((found.unwrap(), is_delete), (b"three".to_vec(), false), "{case}"),
    }
    let theirs = fixture.bytes("a", Some(Version::Null));
    let has_put = !is_removal && (is_before || is_behind);
    match has_put {
        true => assert_eq!(theirs.unwrap(), b"theirs", "{case}"),
        false => assert_eq!(theirs, Err(StoreError::NoVersion), "{case}"),
    }
    (fixture.list(10).iter().filter(|(.., is_latest)| *is_latest).count(), fixture.left_in_staging())
}

/// The server dies at each step. What was acknowledged is there, the change has happened or not, and nothing else is.
#[test]
fn a_death_at_each_step_loses_nothing() {
    for (point, is_delete) in [(Point::Replace, false), (Point::Taken, false), (Point::Remove, true), (Point::Taken, true)] {
        for with_theirs in [false, true] {
            let before = died(point, is_delete, with_theirs);
            // The change has happened, or has not: two versions, or these and the new one.
            assert_eq!(before, 2 + usize::from(point == Point::Taken), "{point:?} {is_delete} {with_theirs}");
        }
    }
}

/// How many versions there are after the restart.
fn died(point: Point, is_delete: bool, with_theirs: bool) -> usize {
    let case = format!("{point:?} {is_delete} {with_theirs}");
    let mut fixture = Fixture::new(Some(Keeps::Everything));
    let first = fixture.put("a", b"one").unwrap().version.unwrap();
    let second = fixture.put("a", b"two").unwrap().version.unwrap();
    let (live, beside) = (fixture.path("a").unwrap(), fixture.top.path().join("beside"));
    // Between the look and the act.
    let before = if is_delete { Point::Remove } else { Point::Replace };
    let program = move |now: Point| {
        if with_theirs && now == before {
            std::fs::write(&beside, b"theirs").unwrap();
            std::fs::rename(&beside, &live).unwrap();
        }
    };
    meddle::die_at(point, program, || match is_delete {
        true => drop(fixture.delete("a")),
        false => drop(fixture.put("a", b"three")),
    });
    fixture.restart();
    assert_eq!(fixture.bytes("a", Some(first)).unwrap(), b"one", "{case}");
    match with_theirs {
        true => assert_eq!(fixture.bytes("a", Some(Version::Null)).unwrap(), b"theirs", "{case}"),
        false => assert_eq!(fixture.bytes("a", Some(second)).unwrap(), b"two", "{case}"),
    }
    let listed = fixture.list(10);
    assert_eq!(listed.iter().filter(|(.., is_latest)| *is_latest).count(), 1, "{case}: {listed:?}");
    assert_eq!(fixture.left_in_staging(), 0, "{case}");
    // And it goes on.
    let next = fixture.put("a", b"next").unwrap().version;
    assert_eq!(fixture.bytes("a", next).unwrap(), b"next", "{case}");
    assert_eq!(fixture.list(10).len(), listed.len() + 1, "{case}");
    listed.len()
}

/// The server dies when the version before a delete marker has its name again, and the marker that was removed is still there: it does not
/// come back as a version when the key is written next.
#[test]
fn a_marker_whose_removal_a_death_cut_short_does_not_come_back() {
    let mut fixture = Fixture::new(Some(Keeps::Everything));
    let first = fixture.put("a", b"one").unwrap().version.unwrap();
    let marker = fixture.delete("a").unwrap().version.unwrap();
    meddle::die_at(Point::Changed, |_| {}, || drop(fixture.delete_version("a", marker)));
    fixture.restart();
    assert_eq!(fixture.list(10), [("a".to_owned(), first, false, true)]);
    assert_eq!(fixture.bytes("a", Some(marker)), Err(StoreError::NoVersion));
    let second = fixture.put("a", b"two").unwrap().version.unwrap();
    let versions: Vec<_> = fixture.list(10).into_iter().map(|(_, version, ..)| version).collect();
    assert_eq!(versions, [second, first]);
    assert_eq!(fixture.left_in_staging(), 0);
}

/// Between two DELETEs of a suspended bucket there is always a delete marker.
#[test]
fn a_null_marker_gives_way_to_the_next_one_at_once() {
    let mut fixture = Fixture::new(Some(Keeps::Everything));
    let first = fixture.put("a", b"one").unwrap().version.unwrap();
    fixture.keep(Some(Keeps::Versions));
    fixture.delete("a").unwrap();
    meddle::die_at(Point::Marker, |_| {}, || drop(fixture.delete("a")));
    fixture.restart();
    let expected = [("a".to_owned(), Version::Null, true, true), ("a".to_owned(), first, false, false)];
    assert_eq!(fixture.list(10), expected);
    fixture.delete("a").unwrap();
    assert_eq!(fixture.list(10), expected);
    assert_eq!(fixture.left_in_staging(), 0);
}

/// The server dies when a `null` version was put over a `null` marker, which is still there: it does not take the version's place when that
/// goes into the history.
#[test]
fn a_null_version_is_not_lost_to_an_older_null_marker() {
    let mut fixture = Fixture::new(Some(Keeps::Versions));
    fixture.delete("a").unwrap();
    meddle::die_at(Point::Changed, |_| {}, || drop(fixture.put("a", b"null")));
    fixture.restart();
    assert_eq!(fixture.list(10), [("a".to_owned(), Version::Null, false, true)]);
    fixture.keep(Some(Keeps::Everything));
    let next = fixture.put("a", b"next").unwrap().version.unwrap();
    assert_eq!(fixture.bytes("a", Some(Version::Null)).unwrap(), b"null");
    assert_eq!(fixture.list(10), [("a".to_owned(), next, false, true), ("a".to_owned(), Version::Null, false, false)]);
}

/// The server dies when a `null` marker has replaced a `null` version in the history that is still there: it does not come back when the
/// marker goes.
#[test]
fn a_null_version_that_a_marker_has_replaced_does_not_come_back() {
    let mut fixture = Fixture::new(Some(Keeps::Versions));
    fixture.put("a", b"null").unwrap();
    fixture.keep(Some(Keeps::Everything));
    let second = fixture.put("a", b"two").unwrap().version.unwrap();
    fixture.keep(Some(Keeps::Versions));
    meddle::die_at(Point::Changed, |_| {}, || drop(fixture.delete("a")));
    fixture.restart();
    let expected = [("a".to_owned(), Version::Null, true, true), ("a".to_owned(), second, false, false)];
    assert_eq!(fixture.list(10), expected);
    fixture.delete_version("a", Version::Null).unwrap();
    assert_eq!(fixture.list(10), [("a".to_owned(), second, false, true)]);
    assert_eq!(fixture.bytes("a", Some(Version::Null)), Err(StoreError::NoVersion));
}
