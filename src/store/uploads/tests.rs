//! Multipart uploads from S3's specification, on the filesystem of TMPDIR.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html> and the pages of its six operations.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use std::os::fd::OwnedFd;

use super::*;
use crate::config::Durability;
use crate::digest::Algorithm;
use crate::digest::checksum::Kind;
use crate::digest::checksum::{Hasher, Value};
use crate::digest::{Checksum, ETag, Md5};
use crate::limits::PART_SIZE_MIN;
use crate::store::buckets;
use crate::store::error::{Result, StoreError, UploadError};
use crate::store::names::record::Record;
use crate::store::objects::open::Object;
use crate::store::objects::write::{Condition, Published};
use crate::store::uploads::log::{Entry, PartFile};
use crate::store::volume::Volume;
use crate::sys;

mod failing;
mod meanwhile;
mod repeated;
mod replacing;

const S: usize = PART_SIZE_MIN as usize;
const KEY: &[u8] = b"dir/key";

struct Fixture {
    top: tempfile::TempDir,
    volume: Volume,
}

impl Fixture {
    fn new() -> Self {
        Self::with(Durability::Acked)
    }

    fn with(durability: Durability) -> Self {
        let top = tempfile::tempdir().unwrap();
        let volume = Volume::open(top.path().as_os_str().as_encoded_bytes(), durability).unwrap();
        buckets::create(volume.bucket("bucket"), volume.uploads()).unwrap();
        Self { top, volume }
    }

    /// As a server that starts after a crash.
    fn restarted(self) -> Self {
        let Self { top, volume } = self;
        drop(volume);
        let volume = Volume::open(top.path().as_os_str().as_encoded_bytes(), Durability::Acked).unwrap();
        Self { top, volume }
    }

    fn name<'a>(&'a self, id: &'a str) -> UploadName<'a> {
        UploadName { bucket: self.volume.bucket("bucket"), key: KEY, id }
    }

    fn begin(&self) -> String {
        self.begin_with(None)
    }

    fn begin_with(&self, checksum: Option<(Algorithm, Kind)>) -> String {
        let mut record = Record::new(0, 0, [0; 16]);
        record.user_metadata = vec![(b"name".to_vec(), b"value".to_vec())];
        create(self.volume.uploads(), self.volume.bucket("bucket"), KEY, NewUpload { record, checksum }).unwrap().0
    }

    fn plan(&self, id: &str, number: u32, size: Option<usize>) -> Result<PartTarget> {
        plan_part(self.volume.uploads(), &self.name(id), number, size.map(|size| size as u64), false)
    }

    fn put(&self, id: &str, number: u32, bytes: &[u8]) -> ChosenPart {
        let target = self.plan(id, number, Some(bytes.len())).unwrap();
        self.fill(target, number, bytes)
    }

    fn fill(&self, target: PartTarget, number: u32, bytes: &[u8]) -> ChosenPart {
        // As the byte loop does it: aligned blocks into the file, the rest as a tail.
        let aligned = bytes.len() / 4096 * 4096;
        let file = std::fs::File::from(target.file.try_clone().unwrap());
        file.write_all_at(&bytes[..aligned], target.offset).unwrap();
        let tail = (aligned < bytes.len()).then(|| (aligned as u64, bytes[aligned..].to_vec()));
        let md5 = Md5::of(bytes);
        let checksum = target.checksum.map(|(algorithm, _)| value_of(algorithm, bytes));
        finish_part(self.volume.disk(), target, bytes.len() as u64, tail, md5, checksum).unwrap();
        ChosenPart { number, md5: Some(md5), checksum: None }
    }

    fn complete(&self, id: &str, parts: &[ChosenPart]) -> Result<(Published, u64)> {
        self.complete_if(id, parts, None)
    }

    fn complete_if(&self, id: &str, parts: &[ChosenPart], condition: Option<Condition>) -> Result<(Published, u64)> {
        let progress = AtomicU64::new(0);
        let mut completion = Completion { condition, ..completion(id, parts) };
        loop {
            match complete(self.volume.uploads(), self.volume.disk(), &mut completion, &progress) {
                Err(StoreError::Upload(UploadError::Written)) => std::thread::sleep(std::time::Duration::from_millis(5)),
                published => return Ok((published?, progress.into_inner())),
            }
        }
    }

    fn object(&self) -> Object {
        self.volume.bucket("bucket").open(KEY).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.top.path().join("bucket/dir/key")).unwrap()
    }

    fn own(&self, path: &str) -> PathBuf {
        self.top.path().join(".sluice").join(path)
    }

    fn upload_files(&self, id: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.own("uploads/bucket").join(id))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Nothing of any upload is left, nor any temporary.
    fn assert_clean(&self) {
        let left = |path: &str| std::fs::read_dir(self.own(path)).map_or(0, Iterator::count);
        assert_eq!((left("uploads/bucket"), left("staging")), (0, 0));
    }
}

fn completion(id: &str, parts: &[ChosenPart]) -> Completion {
    let (bucket, key, id) = ("bucket".to_owned(), KEY.to_vec(), id.to_owned());
    let parts = parts.to_vec();
    let (size, checksum, checksum_type) = (None, None, None);
    Completion { bucket, key, id, parts, condition: None, size, checksum, checksum_type, moves_max: u64::MAX, fence: None }
}

/// Bytes that differ between parts and within one.
fn part(number: u32, size: usize) -> Vec<u8> {
    let mut word = u64::from(number) << 32 | size as u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

fn value_of(algorithm: Algorithm, bytes: &[u8]) -> Value {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

/// Uploads parts in this order of arrival, completes them by number, and checks everything about the object.
fn round_trip(fixture: &Fixture, arrivals: &[(u32, usize)]) -> u64 {
    let id = fixture.begin();
    let mut parts: Vec<_> = arrivals
        .iter()
        .map(|(number, size)| {
            let bytes = part(*number, *size);
            (fixture.put(&id, *number, &bytes), bytes)
        })
        .collect();
    parts.sort_by_key(|(chosen, _)| chosen.number);
    let chosen: Vec<_> = parts.iter().map(|(chosen, _)| *chosen).collect();
    let (published, copied) = fixture.complete(&id, &chosen).unwrap();
    let expected: Vec<u8> = parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    assert!(fixture.bytes() == expected, "the object is its parts, in order");
    let Some(ETag::Multipart { md5, parts: count }) = ETag::multipart(parts.iter().map(|(_, bytes)| Md5::of(bytes))) else {
        panic!("the oracle has an ETag")
    };
    let record = fixture.object().state.record.unwrap();
    assert_eq!((record.etag, record.parts, record.size), (md5, count, expected.len() as u64));
    assert_eq!(record, published.record);
    assert_eq!(record.user_metadata, [(b"name".to_vec(), b"value".to_vec())]);
    let mut offset = 0;
    for (index, (_, bytes)) in parts.iter().enumerate() {
        assert_eq!(record.part(index as u32 + 1), Some((offset, bytes.len() as u64)));
        offset += bytes.len() as u64;
    }
    fixture.assert_clean();
    copied
}

#[test]
fn parts_in_any_order_are_never_moved() {
    let fixture = Fixture::new();
    assert_eq!(round_trip(&fixture, &[(3, S), (1, S), (2, S)]), 0);
    assert_eq!(round_trip(&fixture, &[(1, S), (2, S), (3, 77_777)]), 0);
    // A single small part is how some clients upload every object.
    assert_eq!(round_trip(&fixture, &[(1, 50)]), 0);
    assert_eq!(round_trip(&fixture, &[(1, 0)]), 0);
    assert_eq!(round_trip(&fixture, &[(7, 4096)]), 0);
}

#[test]
fn what_cannot_lie_in_place_is_copied_and_no_more() {
    let fixture = Fixture::new();
    // The last part came first: small, or mistaken for the size of all.
    assert!(round_trip(&fixture, &[(3, 1000), (1, S), (2, S)]) <= 1000);
    assert!(round_trip(&fixture, &[(3, S), (1, S + 8192), (2, S + 8192)]) <= S as u64);
    // Sizes that are not block-aligned: the first part's own file takes the others.
    assert!(round_trip(&fixture, &[(1, S + 1), (2, S + 3), (3, 5)]) <= (S + 8) as u64);
    // Larger than the slots in the middle.
    round_trip(&fixture, &[(1, S), (2, S + 1), (3, S)]);
    // More sizes than slot files.
    let growing: Vec<_> = (1..=6).map(|number| (number, S + 4096 * number as usize)).collect();
    round_trip(&fixture, &growing);
}

#[test]
fn numbers_with_gaps_are_moved_by_the_filesystem_where_it_can() {
    let fixture = Fixture::new();
    let probe = tempfile::tempfile_in(fixture.top.path()).unwrap();
    probe.set_len(8192).unwrap();
    let collapses = sys::space::collapse(&probe, 0, 4096).is_ok();
    assert_eq!(round_trip(&fixture, &[(7, S), (1, S), (3, S)]) == 0, collapses);
    assert_eq!(round_trip(&fixture, &[(2, S), (9, 12_345)]) == 0, collapses);
    assert_eq!(round_trip(&fixture, &[(10_000, 10)]), 0);
}

#[test]
fn a_part_that_comes_again_replaces_the_first() {
    let fixture = Fixture::new();
    let id = fixture.begin();
    let bytes = [part(1, S), part(2, S), part(3, S)];
    fixture.put(&id, 2, &part(8, S));
    let stale = fixture.put(&id, 2, &part(9, S));
    let chosen = [fixture.put(&id, 1, &bytes[0]), fixture.put(&id, 2, &bytes[1]), fixture.put(&id, 3, &bytes[2])];
    assert_eq!(fixture.upload_files(&id).iter().filter(|name| name.starts_with("part.")).count(), 1, "replaced files are gone");
    let listed = list_parts(fixture.volume.uploads(), &fixture.name(&id), 0, 1000).unwrap();
    assert_eq!(listed.parts.iter().map(|part| Some(part.md5)).collect::<Vec<_>>(), chosen.map(|part| part.md5));
    assert_eq!(fixture.complete(&id, &[chosen[0], stale]).unwrap_err(), UploadError::Part { number: 2 }.into());
    let (_, copied) = fixture.complete(&id, &chosen).unwrap();
    assert!(copied <= S as u64);
    assert!(fixture.bytes() == bytes.concat());
    fixture.assert_clean();
}

#[test]
fn lists_that_s3_refuses_leave_the_upload_as_it_was() {
    let fixture = Fixture::new();
    let id = fixture.begin();
    let bytes = [part(1, S), part(2, 100), part(3, S)];
    let [one, two, three] = [1, 2, 3].map(|number| fixture.put(&id, number, &bytes[number as usize - 1]));
    let unknown = ChosenPart { number: 4, ..three };
    let foreign = ChosenPart { md5: None, ..one };
    let crc = Some(value_of(Algorithm::Crc32, &bytes[0]));
    let unchecked = ChosenPart { checksum: crc, ..one };
    let refused = [
        (vec![three, one], UploadError::PartOrder),
        (vec![one, one], UploadError::PartOrder),
        (vec![one, unknown], UploadError::Part { number: 4 }),
        (vec![ChosenPart { md5: three.md5, ..one }], UploadError::Part { number: 1 }),
        (vec![foreign], UploadError::Part { number: 1 }),
        (vec![unchecked], UploadError::PartOtherChecksum { given: Algorithm::Crc32, number: 1 }),
        (vec![one, two, three], UploadError::PartTooSmall { number: 2, size: 100 }),
    ];
    for (list, error) in refused {
        assert_eq!(fixture.complete(&id, &list).unwrap_err(), error.into());
    }
    let mut sized = Completion { size: Some(1), ..completion(&id, &[one, three]) };
    assert_eq!(
        complete(fixture.volume.uploads(), fixture.volume.disk(), &mut sized, &AtomicU64::new(0)).unwrap_err(),
        UploadError::Size.into()
    );
    let never: Condition = Box::new(|_| false);
    let conditional = fixture.complete_if(&id, &[one, three], Some(never));
    assert_eq!(conditional.unwrap_err(), StoreError::PreconditionFailed { was_there: false });
    assert!(matches!(fixture.volume.bucket("bucket").open(KEY), Err(StoreError::NoObject)));
    let mut sized = Completion { size: Some(S as u64 + 100), ..completion(&id, &[one, two]) };
    complete(fixture.volume.uploads(), fixture.volume.disk(), &mut sized, &AtomicU64::new(0)).unwrap();
    assert!(fixture.bytes() == bytes[..2].concat());
    fixture.assert_clean();
}

#[test]
fn the_same_complete_again_is_answered_as_the_first() {
    let fixture = Fixture::new();
    let id = fixture.begin();
    let chosen = [fixture.put(&id, 1, b"first")];
    let (first, _) = fixture.complete(&id, &chosen).unwrap();
    let (again, _) = fixture.complete(&id, &chosen).unwrap();
    assert_eq!(first.record, again.record);
    let fixture = fixture.restarted();
    assert_eq!(fixture.complete(&id, &chosen).unwrap().0.record, first.record);
    // Unknown ids, on a key that exists: never an object's answer.
    let other = "0".repeat(48);
    for unknown in [other.as_str(), "", "../../bucket", &id[1..]] {
        assert_eq!(fixture.complete(unknown, &chosen).unwrap_err(), UploadError::NotFound.into(), "{unknown}");
    }
    assert_eq!(abort(fixture.volume.uploads(), &fixture.name(&id)).unwrap_err(), UploadError::NotFound.into());
    // Another upload's object at the key: the old id is unknown.
    let second = fixture.begin();
    fixture.complete(&second, &[fixture.put(&second, 1, b"second")]).unwrap();
    assert_eq!(fixture.complete(&id, &chosen).unwrap_err(), UploadError::NotFound.into());
    assert_eq!(fixture.bytes(), b"second");
}

#[test]
fn an_id_belongs_to_its_bucket_and_key() {
    let fixture = Fixture::new();
    buckets::create(fixture.volume.bucket("other"), fixture.volume.uploads()).unwrap();
    let id = fixture.begin();
    let wrong = [
        (UploadName { bucket: fixture.volume.bucket("other"), ..fixture.name(&id) }, UploadError::NotFound.into()),
        (UploadName { key: b"dir/key2", ..fixture.name(&id) }, UploadError::NotFound.into()),
        (UploadName { bucket: fixture.volume.bucket("."), ..fixture.name(&id) }, StoreError::NoBucket),
        (UploadName { bucket: fixture.volume.bucket("missing"), ..fixture.name(&id) }, StoreError::NoBucket),
    ];
    for (wrong, error) in wrong {
        assert_eq!(list_parts(fixture.volume.uploads(), &wrong, 0, 1).unwrap_err(), error);
        assert_eq!(plan_part(fixture.volume.uploads(), &wrong, 1, None, false).err(), Some(error));
        assert_eq!(abort(fixture.volume.uploads(), &wrong).unwrap_err(), error);
    }
    assert!(list_parts(fixture.volume.uploads(), &fixture.name(&id), 0, 1).unwrap().parts.is_empty());
    assert_eq!(fixture.plan(&id, 0, None).err(), Some(UploadError::Part { number: 0 }.into()));
    assert_eq!(fixture.plan(&id, 10_001, None).err(), Some(UploadError::Part { number: 10_001 }.into()));
}

#[test]
fn abort_closes_the_parts_that_are_being_written() {
    let fixture = Fixture::new();
    let id = fixture.begin();
    fixture.put(&id, 1, &part(1, S));
    let (slot, stray) = (fixture.plan(&id, 2, Some(S)).unwrap(), fixture.plan(&id, 3, None).unwrap());
    assert!(!slot.is_closed() && !stray.is_closed());
    abort(fixture.volume.uploads(), &fixture.name(&id)).unwrap();
    assert!(slot.is_closed() && stray.is_closed());
    std::fs::File::from(stray.file.try_clone().unwrap()).write_all_at(b"late", 0).unwrap();
    let late = finish_part(fixture.volume.disk(), stray, 4, None, Md5::of(b"late"), None);
    assert_eq!(late.unwrap_err(), UploadError::NotFound.into());
    drop(slot);
    assert_eq!(fixture.plan(&id, 4, None).err(), Some(UploadError::NotFound.into()));
    assert_eq!(fixture.complete(&id, &[]).unwrap_err(), UploadError::NotFound.into());
    fixture.assert_clean();
}

#[test]
fn an_attempt_that_fails_leaves_nothing_and_its_slot_is_not_used_again() {
    let fixture = Fixture::new();
    let id = fixture.begin();
    let bytes = [part(1, S), part(2, S)];
    let one = fixture.put(&id, 1, &bytes[0]);
    drop(fixture.plan(&id, 2, Some(S)).unwrap());
    drop(fixture.plan(&id, 2, Some(S)).unwrap());
    assert_eq!(fixture.upload_files(&id), [format!("data.{S}"), "parts".into(), "upload".into()]);
    let target = fixture.plan(&id, 2, Some(S)).unwrap();
    assert_eq!(target.offset, 0, "a file of its own");
    let two = fixture.fill(target, 2, &bytes[1]);
    fixture.complete(&id, &[one, two]).unwrap();
    assert!(fixture.bytes() == bytes.concat());
}

#[test]
fn complete_waits_for_the_writers_of_slots() {
    let fixture = Arc::new(Fixture::new());
    let id = fixture.begin();
    let bytes = part(1, S);
    let one = fixture.put(&id, 1, &bytes);
    let late = fixture.plan(&id, 2, Some(S)).unwrap();
    let completing = {
        let (fixture, id) = (fixture.clone(), id.clone());
        std::thread::spawn(move || fixture.complete(&id, &[one]).map(|(published, copied)| (published.record, copied)))
    };
    while !late.is_closed() {
        std::thread::yield_now();
    }
    assert!(!completing.is_finished(), "the writer has not left");
    // It may be in the middle of a write; it asks before the next one, and leaves.
    std::fs::File::from(late.file.try_clone().unwrap()).write_all_at(&bytes[..8192], late.offset).unwrap();
    drop(late);
    let (record, copied) = completing.join().unwrap().unwrap();
    assert_eq!((record.size, copied), (S as u64, 0));
    assert!(fixture.bytes() == bytes);
    fixture.assert_clean();
}

#[test]
fn a_crash_before_the_rename_leaves_the_upload_and_after_it_the_object() {
    let fixture = Fixture::new();
    let id = fixture.begin();
    let bytes = [part(1, S), part(2, 99)];
    let chosen = [fixture.put(&id, 1, &bytes[0]), fixture.put(&id, 2, &bytes[1])];
    let torn = std::fs::OpenOptions::new().append(true).open(fixture.own("uploads/bucket").join(&id).join("parts")).unwrap();
    std::io::Write::write_all(&mut &torn, &[1; 50]).unwrap();
    let fixture = fixture.restarted();
    assert_eq!(list_parts(fixture.volume.uploads(), &fixture.name(&id), 0, 10).unwrap().parts.len(), 2);
    // Marked, and then killed before the rename.
    let directory: OwnedFd = std::fs::File::open(fixture.own("uploads/bucket").join(&id)).unwrap().into();
    let slots = PartFile::Slot { slot_size: S as u64 }.file_name();
    manifest::choose(&directory, &slots).unwrap();
    let fixture = fixture.restarted();
    assert_eq!(list_parts(fixture.volume.uploads(), &fixture.name(&id), 0, 10).unwrap().parts.len(), 2);
    // Killed right after the rename: the object is there, the rest is swept, the repeated Complete answered.
    let saved = fixture.own("uploads/saved");
    std::fs::create_dir(&saved).unwrap();
    for file in ["upload", "parts"] {
        std::fs::hard_link(fixture.own("uploads/bucket").join(&id).join(file), saved.join(file)).unwrap();
    }
    let (first, _) = fixture.complete(&id, &chosen).unwrap();
    std::fs::rename(&saved, fixture.own("uploads/bucket").join(&id)).unwrap();
    assert!(
        list_uploads(
            fixture.volume.uploads(),
            fixture.volume.snapshots(),
            fixture.volume.bucket("bucket"),
            &UploadsQuery { max: 9, ..Default::default() }
        )
        .unwrap()
        .uploads
        .is_empty()
    );
    let fixture = fixture.restarted();
    fixture.assert_clean();
    assert_eq!(fixture.complete(&id, &chosen).unwrap().0.record, first.record);
    assert!(fixture.bytes() == bytes.concat());
}

#[test]
fn a_crash_while_gaps_are_taken_out() {
    let fixture = Fixture::new();
    let id = fixture.begin();
    let bytes = [part(1, S), part(3, S), part(5, 4097)];
    let numbers = [1, 3, 5];
    let chosen = [0, 1, 2].map(|index| fixture.put(&id, numbers[index], &bytes[index]));
    let unchosen = fixture.put(&id, 4, &part(4, S));
    let directory: OwnedFd = std::fs::File::open(fixture.own("uploads/bucket").join(&id)).unwrap().into();
    let slots: OwnedFd = std::fs::OpenOptions::new()
        .write(true)
        .open(fixture.own("uploads/bucket").join(&id).join(format!("data.{S}")))
        .unwrap()
        .into();
    let (size, step) = (sys::stat::of(&slots).unwrap().size, S as u64);
    // The second of two steps was not reached.
    let mut plan = gaps::Collapsed::plan(step, size, vec![(3 * step, step)]);
    if plan.carry_out(fixture.volume.disk(), &directory, &slots).is_err() {
        return assert_eq!(fixture.complete(&id, &chosen).unwrap().0.record.size, size - 2 * step);
    }
    let mut whole = gaps::Collapsed::plan(step, size, vec![(step, step), (3 * step, step)]);
    std::fs::remove_file(fixture.own("uploads/bucket").join(&id).join("collapsed")).unwrap();
    let scratch = tempfile::tempfile().unwrap().into();
    assert!(whole.carry_out(fixture.volume.disk(), &directory, &scratch).is_err(), "only the plan is written");
    let fixture = fixture.restarted();
    let listed = list_parts(fixture.volume.uploads(), &fixture.name(&id), 0, 10).unwrap();
    assert_eq!(listed.parts.iter().map(|part| part.number).collect::<Vec<_>>(), numbers);
    assert_eq!(fixture.complete(&id, &[chosen[0], unchosen]).unwrap_err(), UploadError::Part { number: 4 }.into());
    fixture.complete(&id, &chosen).unwrap();
    assert!(fixture.bytes() == bytes.concat());
    fixture.assert_clean();
}

#[test]
fn a_part_torn_while_gaps_were_taken_out_is_refused() {
    let fixture = Fixture::new();
    let id = fixture.begin();
    let chosen = [fixture.put(&id, 1, &part(1, S)), fixture.put(&id, 3, &part(3, S))];
    let directory: OwnedFd = std::fs::File::open(fixture.own("uploads/bucket").join(&id)).unwrap().into();
    let file = fixture.own("uploads/bucket").join(&id).join(format!("data.{S}"));
    let mut plan = gaps::Collapsed::plan(S as u64, 3 * S as u64, vec![(S as u64, S as u64)]);
    assert!(plan.carry_out(fixture.volume.disk(), &directory, &tempfile::tempfile().unwrap().into()).is_err());
    std::fs::OpenOptions::new().write(true).open(file).unwrap().write_all_at(b"torn", 2 * S as u64 + 5).unwrap();
    let fixture = fixture.restarted();
    assert_eq!(fixture.complete(&id, &chosen).unwrap_err(), UploadError::Part { number: 3 }.into());
    let again = fixture.put(&id, 3, &part(3, S));
    fixture.complete(&id, &[chosen[0], again]).unwrap();
    assert!(fixture.bytes() == [part(1, S), part(3, S)].concat());
}

/// A Complete that fails at its last step has chosen a file. When its part comes again, that file goes, and the upload stays.
#[test]
fn a_part_that_replaces_the_chosen_one_does_not_end_the_upload() {
    let fixture = Fixture::new();
    let id = fixture.begin();
    let first = fixture.put(&id, 1, &part(1, 1000));
    let looks = std::sync::atomic::AtomicUsize::new(0);
    let only_at_first: Condition = Box::new(move |_| looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0);
    let refused = fixture.complete_if(&id, &[first], Some(only_at_first));
    assert_eq!(refused.unwrap_err(), StoreError::PreconditionFailed { was_there: false });
    let again = fixture.put(&id, 1, &part(2, 1001));
    let fixture = fixture.restarted();
    fixture.complete(&id, &[again]).unwrap();
    assert_eq!(fixture.bytes(), part(2, 1001));
    fixture.assert_clean();
}

#[test]
fn parts_that_were_not_chosen_survive_a_complete_that_fails() {
    let fixture = Fixture::new();
    let id = fixture.begin();
    let bytes: Vec<_> = (1..=4).map(|number| part(number, S)).collect();
    let parts: Vec<_> = (1..=4).map(|number| fixture.put(&id, number, &bytes[number as usize - 1])).collect();
    // Holds at the first look and no longer under the lock: the race that a conditional writer loses.
    let looks = AtomicU64::new(0);
    let racing: Condition = Box::new(move |_| looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0);
    let lost = fixture.complete_if(&id, &[parts[0], parts[2]], Some(racing));
    assert_eq!(lost.unwrap_err(), StoreError::PreconditionFailed { was_there: false });
    let (_, copied) = fixture.complete(&id, &parts).unwrap();
    assert_eq!(copied, 0);
    assert!(fixture.bytes() == bytes.concat());
    fixture.assert_clean();
}

#[test]
fn checksums_of_objects_are_made_of_those_of_the_parts() {
    for (algorithm, kind) in [
        (Algorithm::Crc32, Kind::Composite),
        (Algorithm::Crc32c, Kind::FullObject),
        (Algorithm::Crc64Nvme, Kind::FullObject),
        (Algorithm::Sha256, Kind::Composite),
    ] {
        let fixture = Fixture::new();
        let id = fixture.begin_with(Some((algorithm, kind)));
        let bytes = [part(1, S), part(2, 10_001)];
        let parts = [1, 2].map(|number| fixture.put(&id, number, &bytes[number as usize - 1]));
        let values = [0, 1].map(|index| value_of(algorithm, &bytes[index]));
        let parts = [0, 1].map(|index| ChosenPart { checksum: Some(values[index]), ..parts[index] });
        let expected = match kind {
            Kind::FullObject => Checksum::from(value_of(algorithm, &bytes.concat())),
            Kind::Composite => {
                let joined = values.map(|value| value.as_bytes().to_vec()).concat();
                Checksum { value: value_of(algorithm, &joined), parts: Some(2) }
            }
        };
        let wrong = Some(Checksum::from(value_of(algorithm, b"wrong")));
        let refused = complete(
            fixture.volume.uploads(),
            fixture.volume.disk(),
            &mut Completion { checksum: wrong, ..completion(&id, &parts) },
            &AtomicU64::new(0),
        );
        assert_eq!(refused.unwrap_err(), UploadError::Checksum.into());
        let mut right = Completion { checksum: Some(expected), ..completion(&id, &parts) };
        let published = complete(fixture.volume.uploads(), fixture.volume.disk(), &mut right, &AtomicU64::new(0)).unwrap();
        assert_eq!(crate::store::names::checksum::of_record(&published.record), Some(expected));
        assert_eq!(fixture.object().state.record.unwrap().checksum, published.record.checksum);
    }
}

/// A composite checksum is made of values that the client knows; a whole object's may be computed here.
#[test]
fn checksums_that_the_upload_did_not_announce() {
    use Algorithm::{Crc32, Crc32c, Sha1};
    let crc32 = value_of(Crc32, b"abc");
    let other = value_of(Sha1, b"abc");
    let wrong = value_of(Crc32, b"abd");
    for (announced, sent, given, refused_part, refused) in [
        (None, None, None, None, None),
        (None, Some(Crc32), Some(crc32), None, None),
        (None, None, Some(crc32), None, Some(UploadError::PartOtherChecksum { given: Crc32, number: 1 })),
        (Some((Crc32, Kind::FullObject)), None, None, None, None),
        (Some((Crc32, Kind::FullObject)), Some(Crc32), Some(crc32), None, None),
        (Some((Crc32, Kind::FullObject)), None, Some(wrong), None, Some(UploadError::Part { number: 1 })),
        (Some((Crc32, Kind::Composite)), Some(Crc32), Some(crc32), None, None),
        (
            Some((Crc32, Kind::Composite)),
            Some(Crc32),
            None,
            None,
            Some(UploadError::PartChecksumMissing { announced: Crc32, number: 1 }),
        ),
        (
            Some((Crc32, Kind::Composite)),
            Some(Crc32),
            Some(other),
            None,
            Some(UploadError::PartOtherChecksum { given: Sha1, number: 1 }),
        ),
        (Some((Crc32, Kind::Composite)), None, None, Some(UploadError::OtherChecksum { announced: Crc32, sent: None }), None),
        (
            Some((Crc32, Kind::FullObject)),
            Some(Crc32c),
            None,
            Some(UploadError::OtherChecksum { announced: Crc32, sent: Some(Crc32c) }),
            None,
        ),
    ] {
        let row = (announced, sent, given);
        let fixture = Fixture::new();
        let id = fixture.begin_with(announced);
        let planned = plan_sent_part(fixture.volume.uploads(), &fixture.name(&id), 1, Some(3), false, sent);
        assert_eq!(planned.as_ref().err(), refused_part.map(StoreError::from).as_ref(), "{row:?}");
        let Ok(target) = planned else { continue };
        std::fs::File::from(target.file.try_clone().unwrap()).write_all_at(b"abc", target.offset).unwrap();
        let stored = sent.or(announced.map(|(algorithm, _)| algorithm)).map(|algorithm| value_of(algorithm, b"abc"));
        finish_part(fixture.volume.disk(), target, 3, None, Md5::of(b"abc"), stored).unwrap();
        let chosen = ChosenPart { number: 1, md5: Some(Md5::of(b"abc")), checksum: given };
        let completed = fixture.complete(&id, &[chosen]).map(drop);
        assert_eq!(completed, refused.map_or(Ok(()), |error| Err(error.into())), "{row:?}");
    }
    for (field, refused) in [
        (
            Completion { checksum_type: Some(Kind::Composite), ..completion("", &[]) },
            UploadError::OtherChecksumType { announced: Kind::FullObject },
        ),
        (
            Completion { checksum: Some(other.into()), ..completion("", &[]) },
            UploadError::OtherChecksum { announced: Crc32, sent: Some(Sha1) },
        ),
    ] {
        let fixture = Fixture::new();
        let id = fixture.begin_with(Some((Crc32, Kind::FullObject)));
        let parts = vec![fixture.put(&id, 1, b"abc")];
        let refusal = complete(
            fixture.volume.uploads(),
            fixture.volume.disk(),
            &mut Completion { id: id.clone(), parts, ..field },
            &AtomicU64::new(0),
        );
        assert_eq!(refusal.unwrap_err(), refused.into());
    }
}

#[test]
fn parts_copied_from_objects() {
    let fixture = Fixture::new();
    std::fs::write(fixture.top.path().join("bucket/source"), part(5, 2 * S + 11)).unwrap();
    let source = fixture.volume.bucket("bucket").open(b"source").unwrap();
    let id = fixture.begin_with(Some((Algorithm::Crc32, Kind::Composite)));
    let (stop, end) = (AtomicBool::new(false), 2 * S as u64 + 11);
    let copy = |number, range| copy_part(fixture.volume.uploads(), &fixture.name(&id), number, &source, range, &stop).unwrap();
    let copied = [copy(1, 11..S as u64 + 11), copy(2, 0..S as u64), copy(3, S as u64..end)];
    let bytes = part(5, 2 * S + 11);
    let expected = [&bytes[11..S + 11], &bytes[..S], &bytes[S..]];
    let mut chosen = Vec::new();
    for (index, copied) in copied.iter().enumerate() {
        assert_eq!(copied.md5, Md5::of(expected[index]));
        assert_eq!(copied.checksum, Some(value_of(Algorithm::Crc32, expected[index])));
        chosen.push(ChosenPart { number: index as u32 + 1, md5: Some(copied.md5), checksum: copied.checksum });
    }
    fixture.complete(&id, &chosen).unwrap();
    assert!(fixture.bytes() == expected.concat());
}

#[test]
fn nine_hundred_parts_beside_full_metadata() {
    const COUNT: u32 = 900;
    let fixture = Fixture::new();
    let mut record = Record::new(0, 0, [0; 16]);
    record.user_metadata = vec![(b"long".to_vec(), vec![b'v'; 2044])];
    let (id, _) = create(
        fixture.volume.uploads(),
        fixture.volume.bucket("bucket"),
        KEY,
        NewUpload { record: record.clone(), checksum: None },
    )
    .unwrap();
    let zeros = Md5::of(&vec![0; S]);
    // Bytes that were never written are zeros: the file has the size of 4.4 GiB and no blocks.
    let upload = fixture.volume.uploads().find(&fixture.name(&id)).unwrap();
    let place = PartFile::Slot { slot_size: S as u64 };
    let file = sys::path::create_new(&upload.directory, &place.file_name(), 0o644, false).unwrap();
    sys::space::truncate(&file, u64::from(COUNT) * S as u64).unwrap();
    for number in 1..=COUNT {
        let part = log::Part { size: S as u64, md5: zeros, checksum: None, is_given: false, modified_ns: 0, place };
        let mut state = upload.state();
        upload.append(&mut state, Entry::Claim { number, slot_size: S as u64 }).unwrap();
        upload.append(&mut state, Entry::Part { number, part }).unwrap();
    }
    drop(upload);
    let fixture = fixture.restarted();
    let chosen: Vec<_> = (1..=COUNT).map(|number| ChosenPart { number, md5: Some(zeros), checksum: None }).collect();
    let (_, copied) = fixture.complete(&id, &chosen).unwrap();
    assert_eq!(copied, 0);
    let found = fixture.object().state.record.unwrap();
    assert_eq!((found.parts, found.size), (COUNT, u64::from(COUNT) * S as u64));
    assert_eq!(found.user_metadata, record.user_metadata);
    fixture.assert_clean();
}

#[test]
fn uploads_are_listed_by_key_then_time() {
    let fixture = Fixture::new();
    let new = || NewUpload { record: Record::new(0, 0, [0; 16]), checksum: None };
    let begin = |key: &[u8]| create(fixture.volume.uploads(), fixture.volume.bucket("bucket"), key, new()).unwrap().0;
    let ids = [b"b".as_slice(), b"a/2", b"a/1", b"b", b"c/x"].map(begin);
    let list = |query: UploadsQuery<'_>| {
        list_uploads(fixture.volume.uploads(), fixture.volume.snapshots(), fixture.volume.bucket("bucket"), &query).unwrap()
    };
    let keys = |page: &UploadsPage| page.uploads.iter().map(|upload| upload.id.clone()).collect::<Vec<_>>();
    let all = UploadsQuery { max: 1000, ..Default::default() };
    assert_eq!(keys(&list(all)), [2, 1, 0, 3, 4].map(|index: usize| ids[index].clone()));
    // Page by page, with both markers.
    let (mut seen, mut next) = (Vec::new(), Some((Vec::new(), String::new())));
    while let Some((key, id)) = next {
        let page = list(UploadsQuery { key_marker: &key, id_marker: &id, max: 1, ..all });
        seen.extend(keys(&page));
        next = page.next;
    }
    assert_eq!(seen, keys(&list(all)));
    assert_eq!(keys(&list(UploadsQuery { prefix: b"a/", ..all })).len(), 2);
    assert_eq!(keys(&list(UploadsQuery { key_marker: b"b", ..all })), [ids[4].clone()]);
    let delimited = UploadsQuery { delimiter: b"/", ..all };
    assert_eq!(list(delimited).common_prefixes, [b"a/".to_vec(), b"c/".to_vec()]);
    let page = list(UploadsQuery { max: 1, ..delimited });
    assert_eq!((page.common_prefixes, page.next), (vec![b"a/".to_vec()], Some((b"a/".to_vec(), String::new()))));
    let page = list(UploadsQuery { key_marker: b"a/", ..delimited });
    assert_eq!((keys(&page).len(), page.common_prefixes), (2, vec![b"c/".to_vec()]));
    abort(fixture.volume.uploads(), &UploadName { bucket: fixture.volume.bucket("bucket"), key: b"b", id: &ids[0] }).unwrap();
    assert_eq!(keys(&list(all)).len(), 4);
    assert_eq!(
        list_uploads(fixture.volume.uploads(), fixture.volume.snapshots(), fixture.volume.bucket("absent"), &all).unwrap_err(),
        StoreError::NoBucket
    );
}

#[test]
fn parts_are_listed_in_pages() {
    let fixture = Fixture::new();
    let id = fixture.begin();
    for number in [9, 2, 5] {
        fixture.put(&id, number, &part(number, 10));
    }
    let page = list_parts(fixture.volume.uploads(), &fixture.name(&id), 0, 2).unwrap();
    assert_eq!((page.parts.iter().map(|part| part.number).collect::<Vec<_>>(), page.is_truncated), (vec![2, 5], true));
    let page = list_parts(fixture.volume.uploads(), &fixture.name(&id), 5, 2).unwrap();
    assert_eq!((page.parts[0].number, page.parts[0].size, page.is_truncated), (9, 10, false));
    assert_eq!(page.parts[0].md5, Md5::of(&part(9, 10)));
}

#[test]
fn a_bucket_takes_its_uploads_along() {
    let fixture = Fixture::new();
    let id = fixture.begin();
    let target = fixture.plan(&id, 1, Some(S)).unwrap();
    buckets::delete(fixture.volume.bucket("bucket"), fixture.volume.uploads(), &AtomicBool::new(false)).unwrap();
    assert!(target.is_closed());
    drop(target);
    fixture.assert_clean();
    buckets::create(fixture.volume.bucket("bucket"), fixture.volume.uploads()).unwrap();
    assert_eq!(fixture.plan(&id, 1, None).err(), Some(UploadError::NotFound.into()));
}

#[test]
fn overwriting_keeps_owner_and_mode_and_every_durability_publishes() {
    use std::os::unix::fs::PermissionsExt;
    for durability in [Durability::Strict, Durability::Relaxed] {
        let fixture = Fixture::with(durability);
        let path = fixture.top.path().join("bucket/dir/key");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        std::fs::write(&path, b"old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        round_trip(&fixture, &[(2, S), (1, S), (3, 3)]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
    }
}

#[test]
fn a_directory_object_can_be_uploaded_in_parts() {
    let fixture = Fixture::new();
    for bytes in [b"".as_slice(), b"body"] {
        let new = NewUpload { record: Record::new(0, 0, [0; 16]), checksum: None };
        let (id, _) = create(fixture.volume.uploads(), fixture.volume.bucket("bucket"), b"d/", new).unwrap();
        let name = UploadName { bucket: fixture.volume.bucket("bucket"), key: b"d/", id: &id };
        let target = plan_part(fixture.volume.uploads(), &name, 1, None, false).unwrap();
        let one = fixture.fill(target, 1, bytes);
        let mut wanted = Completion { key: b"d/".to_vec(), ..completion(&id, &[one]) };
        complete(fixture.volume.uploads(), fixture.volume.disk(), &mut wanted, &AtomicU64::new(0)).unwrap();
        let object = fixture.volume.bucket("bucket").open(b"d/").unwrap();
        assert_eq!((object.state.size, object.state.record.unwrap().parts), (bytes.len() as u64, 1));
        fixture.assert_clean();
    }
}

#[test]
fn direct_writes_end_in_a_buffered_tail() {
    let fixture = Fixture::new();
    let id = fixture.begin();
    let bytes = part(1, S + 4096 + 5);
    let mut room = vec![0; bytes.len() + 4096];
    let start = room.as_ptr().align_offset(4096);
    let aligned = S + 4096;
    room[start..start + aligned].copy_from_slice(&bytes[..aligned]);
    let mut chosen = Vec::new();
    for (number, size) in [(1, aligned), (2, aligned - 4096 + 5)] {
        let target = plan_part(fixture.volume.uploads(), &fixture.name(&id), number, Some(size as u64), true).unwrap();
        assert_eq!(target.offset, (number as u64 - 1) * aligned as u64);
        let front = size / 4096 * 4096;
        let file = std::fs::File::from(target.file.try_clone().unwrap());
        file.write_all_at(&room[start..start + front], target.offset).unwrap();
        let tail = (front < size).then(|| (front as u64, bytes[front..size].to_vec()));
        let md5 = Md5::of(&bytes[..size]);
        finish_part(fixture.volume.disk(), target, size as u64, tail, md5, None).unwrap();
        chosen.push(ChosenPart { number, md5: Some(md5), checksum: None });
    }
    assert_eq!(fixture.complete(&id, &chosen).unwrap().1, 0);
    assert!(fixture.bytes() == [&bytes[..aligned], &bytes[..S + 5]].concat());
}
