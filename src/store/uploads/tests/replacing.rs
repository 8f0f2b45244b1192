//! A Complete that replaces an object: in the place of that, at the wrong moment, is something else; or the server dies there.

use super::*;
use crate::store::disk::meddle::{self, Point};
use std::path::Path;

/// An upload of two parts whose key has an object already.
fn over_an_object() -> (Fixture, String, Vec<ChosenPart>, PathBuf) {
    let fixture = Fixture::new();
    let id = fixture.begin();
    let parts = vec![fixture.put(&id, 1, &part(1, S)), fixture.put(&id, 2, &part(2, 77))];
    let path = fixture.top.path().join("bucket/dir/key");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    std::fs::write(&path, b"old").unwrap();
    (fixture, id, parts, path)
}

fn new() -> Vec<u8> {
    [part(1, S), part(2, 77)].concat()
}

/// In the place of the old object there is a symbolic link when the new one is about to take it.
fn link_at(path: &Path) -> impl FnMut(Point) + use<> {
    let path = path.to_owned();
    move |now| {
        if now == Point::Replace {
            std::fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink("where/it/leads", &path).unwrap();
        }
    }
}

fn is_link(path: &Path) -> bool {
    std::fs::read_link(path).is_ok_and(|target| target == Path::new("where/it/leads"))
}

fn completes(fixture: &Fixture, id: &str, parts: &[ChosenPart]) {
    fixture.complete(id, parts).unwrap();
    assert!(fixture.bytes() == new());
    fixture.assert_clean();
}

#[test]
fn it_takes_nothing_but_a_file_and_loses_no_part() {
    let (fixture, id, parts, path) = over_an_object();
    let refused = meddle::beside(link_at(&path), || fixture.complete(&id, &parts));
    assert_eq!(refused.unwrap_err(), StoreError::Foreign);
    assert!(is_link(&path));
    std::fs::remove_file(&path).unwrap();
    completes(&fixture, &id, &parts);
}

#[test]
fn its_condition_takes_only_the_file_for_which_it_held() {
    let (fixture, id, parts, path) = over_an_object();
    let newer = path.clone();
    let write = move |now| {
        if now == Point::Replace {
            std::fs::write(newer.with_file_name("beside"), b"newer").unwrap();
            std::fs::rename(newer.with_file_name("beside"), &newer).unwrap();
        }
    };
    let is_old: Condition = Box::new(|now| now.is_some_and(|state| state.size == 3));
    let refused = meddle::beside(write, || fixture.complete_if(&id, &parts, Some(is_old)));
    assert_eq!(refused.unwrap_err(), StoreError::PreconditionFailed { was_there: true });
    assert_eq!(std::fs::read(&path).unwrap(), b"newer");
    completes(&fixture, &id, &parts);
}

#[test]
fn a_crash_leaves_it_done_or_to_be_done() {
    for point in [Point::Replace, Point::Taken] {
        let (fixture, id, parts, path) = over_an_object();
        meddle::die_at(point, |_| {}, || drop(fixture.complete(&id, &parts)));
        let fixture = fixture.restarted();
        let is_done = point == Point::Taken;
        assert_eq!(std::fs::read(&path).unwrap() == b"old", !is_done, "{point:?}");
        assert_eq!(list_parts(fixture.volume.uploads(), &fixture.name(&id), 0, 10).is_err(), is_done, "{point:?}");
        // A client that was not answered asks again.
        completes(&fixture, &id, &parts);
    }
}

#[test]
fn a_crash_loses_neither_what_was_taken_nor_the_parts() {
    let (fixture, id, parts, path) = over_an_object();
    meddle::die_at(Point::Taken, link_at(&path), || drop(fixture.complete(&id, &parts)));
    let fixture = fixture.restarted();
    assert!(is_link(&path));
    assert_eq!(list_parts(fixture.volume.uploads(), &fixture.name(&id), 0, 10).unwrap().parts.len(), 2);
    std::fs::remove_file(&path).unwrap();
    completes(&fixture, &id, &parts);
}

/// DeleteBucket ends what is in use, also an upload that is about to be completed.
#[test]
fn what_has_ended_is_not_closed_any_more() {
    let (fixture, id, ..) = over_an_object();
    let upload = fixture.volume.uploads().find(&fixture.name(&id)).unwrap();
    let mut state = upload.state();
    let _ = upload.close(&mut state).map(std::mem::forget);
    drop(state);
    assert!(upload.end());
    let mut state = upload.state();
    assert_eq!(upload.close(&mut state).err(), Some(UploadError::NotFound.into()));
    assert!(upload.has_ended());
}
