//! What a POSIX program puts under a name between our look and our act is never removed: not by an overwrite, not by a DELETE, not
//! by the directory that a file becomes, and not by the start after a crash in the middle of any of them.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::config::Durability;
use crate::store::buckets;
use crate::store::disk::meddle::{self, Point};
use crate::store::error::{Result, StoreError};
use crate::store::names::key;
use crate::store::names::record::Record;
use crate::store::objects::commit::{FilledFile, commit};
use crate::store::objects::write::{Condition, Write};
use crate::store::volume::Volume;
use crate::sys;

struct Fixture {
    top: tempfile::TempDir,
    volume: Volume,
}

fn open(top: &Path) -> Volume {
    Volume::open(top.as_os_str().as_encoded_bytes(), Durability::Acked).unwrap()
}

impl Fixture {
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        let volume = open(top.path());
        buckets::create(volume.bucket("bucket"), volume.uploads()).unwrap();
        Self { top, volume }
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.put_if(key, bytes, None)
    }

    fn put_if(&self, key: &str, bytes: &[u8], condition: Option<Condition>) -> Result<()> {
        let path = key::locate(key.as_bytes())?.path;
        let staged = self.volume.bucket("bucket").stage(&path, None, false)?;
        let (bucket, key, tail) = ("bucket".to_owned(), key.as_bytes().to_vec(), Some((0, bytes.to_vec())));
        let (size, record) = (bytes.len() as u64, Record::new(0, 0, [0; 16]));
        commit(self.volume.disk(), Write { bucket, key, record, condition }, FilledFile { staged, size, tail }).map(drop)
    }

    fn get(&self, key: &str) -> Result<Vec<u8>> {
        let object = self.volume.bucket("bucket").open(key.as_bytes())?;
        let mut bytes = vec![0; object.state.size as usize];
        sys::file::read_full_at(&object.file, &mut bytes, 0)?;
        Ok(bytes)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.path().join("bucket").join(name)
    }

    /// What is in our own directory and no business of any upload's.
    fn staged(&self) -> Vec<String> {
        names_in(&self.top.path().join(".sluice/staging"))
    }

    fn aside(&self) -> Vec<String> {
        names_in(&self.top.path().join(".sluice/aside"))
    }

    /// The server is gone and another one is started.
    fn restart(mut self) -> Self {
        self.volume = open(self.top.path());
        self
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What a POSIX program puts in the place of a file, and how one sees that it is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Theirs {
    /// `unlink a; rename dir a`, with files in `dir`.
    Directory,
    /// The same by RENAME_EXCHANGE.
    Exchanged,
    EmptyDirectory,
    Symlink,
    Fifo,
    /// A newer file, by rename.
    File,
}

impl Theirs {
    const NO_FILES: [Self; 5] = [Self::Directory, Self::Exchanged, Self::EmptyDirectory, Self::Symlink, Self::Fifo];

    fn is_directory(self) -> bool {
        matches!(self, Self::Directory | Self::Exchanged | Self::EmptyDirectory)
    }

    fn put_at(self, path: &Path) {
        let beside = path.with_file_name("beside");
        let replace = || {
            std::fs::remove_file(path).unwrap();
            std::fs::rename(&beside, path).unwrap();
        };
        match self {
            Self::Directory | Self::Exchanged | Self::EmptyDirectory => {
                std::fs::create_dir(&beside).unwrap();
                if self != Self::EmptyDirectory {
                    std::fs::write(beside.join("theirs"), b"in their directory").unwrap();
                }
                std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o750)).unwrap();
                match self {
                    Self::Exchanged => {
                        let top = std::fs::File::open(path.parent().unwrap()).unwrap();
                        let name = path.file_name().unwrap().as_encoded_bytes();
                        sys::path::exchange(&top, name, &top, b"beside").unwrap();
                    }
                    _ => replace(),
                }
            }
            Self::Symlink => {
                symlink("where/it/leads", &beside).unwrap();
                replace();
            }
            Self::Fifo => {
                rustix::fs::mknodat(rustix::fs::CWD, &beside, rustix::fs::FileType::Fifo, 0o640.into(), 0).unwrap();
                replace();
            }
            Self::File => {
                std::fs::write(&beside, b"their newer file").unwrap();
                std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600)).unwrap();
                std::fs::rename(&beside, path).unwrap();
            }
        }
    }

    fn is_at(self, path: &Path) -> bool {
        let Ok(found) = std::fs::symlink_metadata(path) else { return false };
        match self {
            Self::Directory | Self::Exchanged => {
                std::fs::read(path.join("theirs")).is_ok_and(|bytes| bytes == b"in their directory")
                    && found.mode() & 0o777 == 0o750
            }
            Self::EmptyDirectory => found.is_dir() && found.mode() & 0o777 == 0o750,
            Self::Symlink => std::fs::read_link(path).is_ok_and(|target| target == Path::new("where/it/leads")),
            Self::Fifo => !found.is_file() && !found.is_dir() && found.mode() & 0o777 == 0o640,
            Self::File => std::fs::read(path).is_ok_and(|bytes| bytes == b"their newer file"),
        }
    }
}

/// Puts `theirs` at `path` the first time that the server is at `point`.
fn once(point: Point, theirs: Theirs, path: PathBuf) -> impl FnMut(Point) + 'static {
    let mut is_done = false;
    move |now| {
        if now == point && !std::mem::replace(&mut is_done, true) {
            theirs.put_at(&path);
        }
    }
}

#[test]
fn what_takes_the_name_of_a_file_that_becomes_a_directory_stays() {
    for theirs in Theirs::NO_FILES {
        let fixture = Fixture::new();
        fixture.put("a", b"the object a").unwrap();
        let put = meddle::beside(once(Point::Turn, theirs, fixture.path("a")), || fixture.put("a/b", b"the object a/b"));
        assert!(theirs.is_at(&fixture.path("a")), "{theirs:?}: {:?}", fixture.staged());
        match theirs.is_directory() {
            true => assert_eq!((put, fixture.get("a/b").unwrap()), (Ok(()), b"the object a/b".to_vec()), "{theirs:?}"),
            false => assert_eq!(put, Err(StoreError::Foreign), "{theirs:?}"),
        }
        if theirs == Theirs::Exchanged {
            assert_eq!(fixture.get("beside").unwrap(), b"the object a");
        }
        assert_eq!((fixture.staged(), fixture.aside()), (vec![], vec![]), "{theirs:?}");
        assert!(theirs.is_at(&fixture.restart().path("a")), "{theirs:?}");
    }
}

#[test]
fn a_newer_file_that_becomes_a_directory_is_the_object_inside() {
    let fixture = Fixture::new();
    fixture.put("a", b"the object a").unwrap();
    meddle::beside(once(Point::Turn, Theirs::File, fixture.path("a")), || fixture.put("a/b", b"the object a/b")).unwrap();
    assert_eq!(fixture.get("a").unwrap(), b"their newer file");
    assert_eq!(fixture.get("a/b").unwrap(), b"the object a/b");
    assert_eq!((fixture.staged(), fixture.aside()), (vec![], vec![]));
}

#[test]
fn an_overwrite_takes_nothing_but_a_file() {
    for theirs in Theirs::NO_FILES {
        let fixture = Fixture::new();
        fixture.put("a", b"old").unwrap();
        let put = meddle::beside(once(Point::Replace, theirs, fixture.path("a")), || fixture.put("a", b"new"));
        assert!(theirs.is_at(&fixture.path("a")), "{theirs:?}: {:?}", fixture.staged());
        match theirs.is_directory() {
            // `a` beside `a/theirs`: the object lives inside.
            true => assert_eq!((put, fixture.get("a").unwrap()), (Ok(()), b"new".to_vec()), "{theirs:?}"),
            false => assert_eq!(put, Err(StoreError::Foreign), "{theirs:?}"),
        }
        assert_eq!((fixture.staged(), fixture.aside()), (vec![], vec![]), "{theirs:?}");
    }
}

/// The last writer wins, and keeps owner and rights of the file that it really replaces.
#[test]
fn an_overwrite_takes_a_newer_file_with_its_rights() {
    let fixture = Fixture::new();
    fixture.put("a", b"old").unwrap();
    meddle::beside(once(Point::Replace, Theirs::File, fixture.path("a")), || fixture.put("a", b"new")).unwrap();
    assert_eq!(fixture.get("a").unwrap(), b"new");
    assert_eq!(std::fs::metadata(fixture.path("a")).unwrap().mode() & 0o7777, 0o600);
    assert_eq!((fixture.staged(), fixture.aside()), (vec![], vec![]));
}

fn is_there(size: u64) -> Option<Condition> {
    Some(Box::new(move |now| now.is_some_and(|state| state.size == size)))
}

/// A precondition that held for one file takes away no other: it is decided again.
#[test]
fn a_condition_takes_only_the_file_for_which_it_held() {
    for theirs in [Theirs::File, Theirs::Symlink, Theirs::Directory] {
        let fixture = Fixture::new();
        fixture.put("a", b"old").unwrap();
        let meddling = once(Point::Replace, theirs, fixture.path("a"));
        let put = meddle::beside(meddling, || fixture.put_if("a", b"new", is_there(3)));
        let was_there = matches!(theirs, Theirs::File);
        assert_eq!(put, Err(StoreError::PreconditionFailed { was_there }), "{theirs:?}");
        assert!(theirs.is_at(&fixture.path("a")), "{theirs:?}");
        fixture.put("b", b"old").unwrap();
        let meddling = once(Point::Remove, theirs, fixture.path("b"));
        let deleted = meddle::beside(meddling, || fixture.volume.bucket("bucket").delete(b"b", is_there(3).as_ref()));
        match theirs {
            Theirs::File => assert_eq!(deleted.unwrap_err(), StoreError::PreconditionFailed { was_there: true }),
            _ => assert_eq!(deleted.unwrap_err(), StoreError::NoObject),
        }
        assert!(theirs.is_at(&fixture.path("b")), "{theirs:?}");
        assert_eq!((fixture.staged(), fixture.aside()), (vec![], vec![]), "{theirs:?}");
    }
}

/// What has gone meanwhile is no longer what the condition was decided for.
#[test]
fn a_condition_makes_no_object_where_there_is_none_any_more() {
    let fixture = Fixture::new();
    fixture.put("a", b"old").unwrap();
    let path = fixture.path("a");
    let gone: Condition = Box::new(move |now| {
        let _ = std::fs::remove_file(&path);
        now.is_some()
    });
    assert_eq!(fixture.put_if("a", b"new", Some(gone)), Err(StoreError::PreconditionFailed { was_there: false }));
    assert_eq!(fixture.get("a").unwrap_err(), StoreError::NoObject);
}

#[test]
fn a_delete_takes_nothing_but_a_file() {
    for theirs in Theirs::NO_FILES {
        let fixture = Fixture::new();
        fixture.put("a", b"old").unwrap();
        let meddling = once(Point::Remove, theirs, fixture.path("a"));
        let deleted = meddle::beside(meddling, || fixture.volume.bucket("bucket").delete(b"a", None));
        assert!(deleted.is_ok(), "{theirs:?}");
        assert!(theirs.is_at(&fixture.path("a")), "{theirs:?}: {:?}", fixture.staged());
        assert_eq!((fixture.staged(), fixture.aside()), (vec![], vec![]), "{theirs:?}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Verb {
    /// PUT `a/b`, for which `a` becomes a directory.
    Beside,
    Overwrite,
    Delete,
}

impl Verb {
    const ALL: [(Self, Point); 3] =
        [(Self::Beside, Point::Turn), (Self::Overwrite, Point::Replace), (Self::Delete, Point::Remove)];

    fn run(self, fixture: &Fixture, key: &str) {
        let ended = match self {
            Self::Beside => fixture.put(&format!("{key}/b"), b"beside"),
            Self::Overwrite => fixture.put(key, b"new"),
            Self::Delete => fixture.volume.bucket("bucket").delete(key.as_bytes(), None).map(drop),
        };
        assert_eq!(ended, Ok(()));
    }
}

/// Between the moment at which something was taken from its name and the look at it.
#[test]
fn a_crash_loses_nothing_that_was_taken() {
    for (verb, before) in Verb::ALL {
        for theirs in Theirs::NO_FILES.into_iter().chain([Theirs::File]) {
            let fixture = Fixture::new();
            fixture.put("a", b"old").unwrap();
            meddle::die_at(Point::Taken, once(before, theirs, fixture.path("a")), || verb.run(&fixture, "a"));
            assert!(!theirs.is_at(&fixture.path("a")), "{verb:?} {theirs:?}: it was taken");
            let fixture = fixture.restart();
            match (verb, theirs) {
                (Verb::Beside, Theirs::File) => assert_eq!(fixture.get("a").unwrap(), b"their newer file"),
                _ => assert!(theirs.is_at(&fixture.path("a")), "{verb:?} {theirs:?}: {:?}", fixture.aside()),
            }
            assert_eq!((fixture.staged(), fixture.aside()), (vec![], vec![]), "{verb:?} {theirs:?}");
        }
    }
}

/// The same where nobody meddles: the old object or the new one, and nothing else.
#[test]
fn a_crash_leaves_the_old_object_or_the_new_one() {
    for (verb, before) in Verb::ALL {
        let made = matches!(verb, Verb::Beside).then_some(Point::Made);
        for point in made.into_iter().chain([before, Point::Taken]) {
            let fixture = Fixture::new();
            fixture.put("a", b"old").unwrap();
            meddle::die_at(point, |_| {}, || verb.run(&fixture, "a"));
            let fixture = fixture.restart();
            let expected: Result<&[u8]> = match (verb, point) {
                (Verb::Overwrite, Point::Taken) => Ok(b"new"),
                (Verb::Delete, Point::Taken) => Err(StoreError::NoObject),
                _ => Ok(b"old"),
            };
            assert_eq!(fixture.get("a").as_deref(), expected.as_deref(), "{verb:?} {point:?}");
            assert_eq!((fixture.staged(), fixture.aside()), (vec![], vec![]), "{verb:?} {point:?}");
            verb.run(&fixture, "a");
        }
    }
}

/// A path that does not fit into a name in staging: what has no place to go back to is kept, as it is.
#[test]
fn what_has_no_known_place_after_a_crash_is_kept_aside() {
    let key = format!("{}/{}", "d".repeat(120), "n".repeat(120));
    for (verb, before) in Verb::ALL {
        for theirs in Theirs::NO_FILES.into_iter().chain([Theirs::File]) {
            let fixture = Fixture::new();
            fixture.put(&key, b"old").unwrap();
            meddle::die_at(Point::Taken, once(before, theirs, fixture.path(&key)), || verb.run(&fixture, &key));
            let fixture = fixture.restart();
            let aside = fixture.aside();
            assert_eq!((aside.len(), fixture.staged()), (1, vec![]), "{verb:?} {theirs:?}");
            let directory = fixture.top.path().join(".sluice/aside");
            assert!(theirs.is_at(&directory.join(&aside[0])), "{verb:?} {theirs:?}");
            assert_eq!(std::fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
            assert_eq!(fixture.volume.kept_aside(), 1);
            // It is not touched again.
            let fixture = fixture.restart();
            assert_eq!((fixture.aside(), fixture.volume.kept_aside()), (aside, 1));
        }
    }
}

/// What comes while something is put back is newer, and keeps the name; the other is not lost.
#[test]
fn what_comes_while_something_is_put_back_keeps_the_name() {
    for (verb, before) in [(Verb::Overwrite, Point::Replace), (Verb::Delete, Point::Remove)] {
        let fixture = Fixture::new();
        fixture.put("a", b"old").unwrap();
        let (first, mut is_done, path) = (once(before, Theirs::Symlink, fixture.path("a")), false, fixture.path("a"));
        let mut first = first;
        let program = move |now| {
            first(now);
            if now == Point::PutBack && !std::mem::replace(&mut is_done, true) {
                let _ = std::fs::remove_file(&path);
                rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o640.into(), 0).unwrap();
            }
        };
        let ended = meddle::beside(program, || match verb {
            Verb::Delete => fixture.volume.bucket("bucket").delete(b"a", None).map(drop),
            _ => fixture.put("a", b"new"),
        });
        assert!(matches!(ended, Ok(()) | Err(StoreError::Foreign)), "{verb:?}: {ended:?}");
        assert!(Theirs::Fifo.is_at(&fixture.path("a")), "{verb:?}");
        assert_eq!((fixture.staged(), fixture.aside().len()), (vec![], 1), "{verb:?}");
        assert!(Theirs::Symlink.is_at(&fixture.top.path().join(".sluice/aside").join(&fixture.aside()[0])), "{verb:?}");
    }
}

/// Somebody has published in the directory before it was found to have displaced the wrong thing: he relies on it.
#[test]
fn what_was_published_in_a_directory_that_is_to_go_again_stays() {
    let fixture = Fixture::new();
    fixture.put("a", b"old").unwrap();
    let (mut theirs, inside) = (once(Point::Turn, Theirs::Directory, fixture.path("a")), fixture.path("a/c"));
    let program = move |now| {
        theirs(now);
        if now == Point::PutBack && !inside.exists() {
            std::fs::write(&inside, b"published meanwhile").unwrap();
        }
    };
    meddle::beside(program, || fixture.put("a/b", b"beside")).unwrap();
    assert_eq!(fixture.get("a/c").unwrap(), b"published meanwhile");
    assert_eq!(fixture.get("a/b").unwrap(), b"beside");
    assert_eq!(fixture.aside().len(), 1);
    assert!(Theirs::Directory.is_at(&fixture.top.path().join(".sluice/aside").join(&fixture.aside()[0])));
}

/// DELETE takes its own empty directories along, and nobody else's that has the name by then.
#[test]
fn a_directory_in_the_place_of_one_that_is_pruned_stays() {
    let fixture = Fixture::new();
    fixture.put("d/a", b"bytes").unwrap();
    let (path, mut is_done) = (fixture.path("d"), false);
    let program = move |now| {
        if now == Point::Taken && !std::mem::replace(&mut is_done, true) {
            std::fs::rename(&path, path.with_file_name("moved")).unwrap();
            Theirs::Directory.put_at(&{
                std::fs::write(&path, b"").unwrap();
                path.clone()
            });
        }
    };
    meddle::beside(program, || fixture.volume.bucket("bucket").delete(b"d/a", None)).unwrap();
    assert!(Theirs::Directory.is_at(&fixture.path("d")));
}

/// Only what can be proved ours goes.
#[test]
fn the_start_removes_what_is_ours_and_keeps_the_rest() {
    let fixture = Fixture::new();
    let staging = fixture.top.path().join(".sluice/staging");
    let at = |name: &str| staging.join(name);
    let ours = ["new.0000000000000001", "00000000000000aa", "00000000000000ab", "probe", "new.0000000000000003"];
    std::fs::write(at(ours[0]), b"an upload that was cut off").unwrap();
    std::fs::write(fixture.path("elsewhere"), b"has another name").unwrap();
    std::fs::hard_link(fixture.path("elsewhere"), at(ours[1])).unwrap();
    std::fs::create_dir(at(ours[2])).unwrap();
    std::fs::hard_link(fixture.path("elsewhere"), at(ours[2]).join(".sluice%o")).unwrap();
    let directory = std::fs::File::open(at(ours[2])).unwrap();
    sys::xattr::write(
        &directory,
        crate::store::names::record::DIRECTORY_NAME,
        &crate::store::names::record::DIRECTORY_MADE_BY_PUT,
    )
    .unwrap();
    std::fs::write(at(ours[3]), b"1").unwrap();
    std::fs::create_dir(at(ours[4])).unwrap();
    let theirs = ["00000000000000ac", "00000000000000ad", "mine", "new.0000000000000002", "upload.0000000000000001", "symlink"];
    std::fs::write(at(theirs[0]), b"its only name").unwrap();
    std::fs::create_dir_all(at(theirs[1]).join("deep/deeper")).unwrap();
    std::fs::write(at(theirs[1]).join("deep/deeper/file"), b"theirs").unwrap();
    std::fs::write(at(theirs[2]), b"theirs").unwrap();
    std::fs::create_dir_all(at(theirs[3]).join("theirs")).unwrap();
    std::fs::create_dir(at(theirs[4])).unwrap();
    std::fs::write(at(theirs[4]).join("parts"), b"a part of an upload").unwrap();
    std::fs::write(at(theirs[4]).join("theirs"), b"theirs").unwrap();
    symlink("nowhere", at(theirs[5])).unwrap();
    let fixture = fixture.restart();
    let mut expected: Vec<_> = theirs.map(str::to_owned).into();
    expected.sort();
    assert_eq!((fixture.staged(), fixture.aside()), (vec![], expected));
    let aside = fixture.top.path().join(".sluice/aside");
    assert_eq!(std::fs::read(aside.join(theirs[0])).unwrap(), b"its only name");
    assert_eq!(std::fs::read(aside.join(theirs[1]).join("deep/deeper/file")).unwrap(), b"theirs");
    assert_eq!(names_in(&aside.join(theirs[4])), ["theirs"]);
    assert_eq!(fixture.get("elsewhere").unwrap(), b"has another name");
    assert_eq!(fixture.volume.kept_aside(), theirs.len());
}
