//! A Complete that fails at its last step: all parts that were acknowledged are still there.

use super::*;
use crate::sys::Errno;

const FIVE: [u32; 5] = [1, 2, 3, 5, 6];

/// Five parts of which this many are in slots, and a list that fails because a symbolic link is on the way.
fn with_a_failed_complete(in_slots: usize, list: &[u32]) -> (Fixture, String, Vec<ChosenPart>, Vec<Vec<u8>>) {
    let fixture = Fixture::new();
    let id = fixture.begin();
    let bytes: Vec<_> = FIVE.iter().map(|number| part(*number, S)).collect();
    let put = |(index, number): (usize, &u32)| {
        if index >= in_slots {
            drop(fixture.plan(&id, *number, Some(S)).unwrap());
        }
        fixture.put(&id, *number, &bytes[index])
    };
    let parts: Vec<_> = FIVE.iter().enumerate().map(put).collect();
    let chosen: Vec<_> = parts.iter().filter(|part| list.contains(&part.number)).copied().collect();
    let way = fixture.top.path().join("bucket/dir");
    std::os::unix::fs::symlink("elsewhere", &way).unwrap();
    assert_eq!(fixture.complete(&id, &chosen).unwrap_err(), StoreError::Foreign);
    std::fs::remove_file(way).unwrap();
    (fixture, id, parts, bytes)
}

#[test]
fn every_part_survives_whatever_was_listed() {
    for (in_slots, restarts) in [(5, false), (5, true), (3, true)] {
        for list in [&[1, 2][..], &[1, 2, 3, 5], &[1, 3, 5], &[2, 6], &[3, 5, 6]] {
            let (mut fixture, id, parts, bytes) = with_a_failed_complete(in_slots, list);
            if restarts {
                fixture = fixture.restarted();
            }
            let listed = list_parts(fixture.volume.uploads(), &fixture.name(&id), 0, 10).unwrap();
            assert_eq!(listed.parts.iter().map(|part| part.number).collect::<Vec<_>>(), FIVE, "{list:?}");
            // It makes the slot file longer.
            let last = fixture.put(&id, 9, b"last");
            fixture.complete(&id, &[&parts[..], &[last]].concat()).unwrap();
            assert!(fixture.bytes() == [bytes.concat(), b"last".to_vec()].concat(), "{in_slots} in slots, {list:?}");
            fixture.assert_clean();
        }
    }
}

#[test]
fn what_is_set_aside_is_copied_once_and_no_more_than_it_has_to_be() {
    let (fixture, id, parts, bytes) = with_a_failed_complete(5, &[1, 2, 3]);
    let strays = |fixture: &Fixture| fixture.upload_files(&id).iter().filter(|name| name.starts_with("part.")).count();
    assert_eq!(strays(&fixture), 2, "two are cut off");
    let (_, copied) = fixture.complete(&id, &parts[..3]).unwrap();
    assert_eq!(copied, 0, "nothing is left to be set aside");
    assert!(fixture.bytes() == bytes[..3].concat());
    // Where less is chosen than is left out, that is copied, and the parts stay where they are.
    let (fixture, id, parts, bytes) = with_a_failed_complete(5, &[1]);
    assert_eq!(fixture.upload_files(&id), [format!("data.{S}"), "parts".into(), "upload".into()]);
    fixture.complete(&id, &parts).unwrap();
    assert!(fixture.bytes() == bytes.concat());
}

/// A part whose bytes are gone is asked for again, and never made up of zeros.
#[test]
fn a_file_that_somebody_has_cut_is_not_made_longer() {
    let fixture = Fixture::new();
    let id = fixture.begin();
    let bytes = [part(1, S), part(2, S)];
    let [one, two] = [1, 2].map(|number| fixture.put(&id, number, &bytes[number as usize - 1]));
    let slots = fixture.own("uploads/bucket").join(&id).join(format!("data.{S}"));
    std::fs::OpenOptions::new().write(true).open(slots).unwrap().set_len(2 * S as u64 - 1).unwrap();
    for _ in 0..2 {
        assert_eq!(fixture.complete(&id, &[one, two]).unwrap_err(), UploadError::Part { number: 2 }.into());
    }
    assert!(matches!(fixture.volume.bucket("bucket").open(KEY), Err(StoreError::NoObject)));
    let again = fixture.put(&id, 2, &bytes[1]);
    fixture.complete(&id, &[one, again]).unwrap();
    assert!(fixture.bytes() == bytes.concat());
}

/// A part that is no longer what was acknowledged holds no other parts up, and is not passed on.
#[test]
fn a_part_that_was_damaged_is_not_set_aside() {
    let fixture = Fixture::new();
    let id = fixture.begin();
    let parts = [1, 2, 3].map(|number| fixture.put(&id, number, &part(number, S)));
    let slots = fixture.own("uploads/bucket").join(&id).join(format!("data.{S}"));
    std::fs::OpenOptions::new().write(true).open(slots).unwrap().write_all_at(b"damaged", 2 * S as u64).unwrap();
    let way = fixture.top.path().join("bucket/dir");
    std::os::unix::fs::symlink("elsewhere", &way).unwrap();
    assert_eq!(fixture.complete(&id, &parts[..2]).unwrap_err(), StoreError::Foreign);
    std::fs::remove_file(way).unwrap();
    // It makes the file longer, beyond where the damaged part was.
    fixture.put(&id, 9, b"last");
    assert_eq!(fixture.complete(&id, &parts).unwrap_err(), UploadError::Part { number: 3 }.into());
    fixture.complete(&id, &parts[..2]).unwrap();
    assert!(fixture.bytes() == [part(1, S), part(2, S)].concat());
    fixture.assert_clean();
}

/// Only what is gone may be left out of a listing.
#[test]
fn a_directory_that_cannot_be_read_is_an_error() {
    let (fixture, file) = (Fixture::new(), OwnedFd::from(tempfile::tempfile().unwrap()));
    assert_eq!(fixture.volume.disk().reading().directories_in(&file).unwrap_err(), Errno::NOTDIR);
}
