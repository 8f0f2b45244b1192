//! A Complete that comes again: only the list that made the object is answered as then.

use super::*;

const GONE: StoreError = StoreError::Upload(UploadError::NotFound);

#[test]
fn only_the_list_that_made_the_object_is_answered_again() {
    let fixture = Fixture::new();
    let id = fixture.begin();
    let bytes = [part(1, S), part(2, S), part(3, 9)];
    let [one, two, three] = [1, 2, 3].map(|number| fixture.put(&id, number, &bytes[number as usize - 1]));
    // A part of the same bytes under another number.
    let twin = fixture.put(&id, 4, &bytes[1]);
    let (first, _) = fixture.complete(&id, &[one, two]).unwrap();
    let fixture = fixture.restarted();
    for other in [
        vec![one],
        vec![two],
        vec![one, two, three],
        vec![one, three],
        vec![one, twin],
        vec![two, one],
        vec![one, one],
        vec![one, ChosenPart { md5: None, ..two }],
        vec![one, ChosenPart { md5: Some([0; 16]), ..two }],
        vec![],
    ] {
        assert_eq!(fixture.complete(&id, &other).unwrap_err(), GONE, "{other:?}");
    }
    assert_eq!(fixture.complete(&id, &[one, two]).unwrap().0.record, first.record);
    assert!(fixture.bytes() == bytes[..2].concat());
    fixture.assert_clean();
}

#[test]
fn what_the_request_says_of_the_whole_is_checked_again() {
    let fixture = Fixture::new();
    let id = fixture.begin_with(Some((Algorithm::Crc32, Kind::FullObject)));
    let bytes = part(1, 100);
    let value = value_of(Algorithm::Crc32, &bytes);
    let other = value_of(Algorithm::Crc32, b"other");
    let chosen = ChosenPart { checksum: Some(value), ..fixture.put(&id, 1, &bytes) };
    fixture.complete(&id, &[chosen]).unwrap();
    let again = |chosen: ChosenPart, size, value: Option<Value>| {
        let mut completion = Completion { size, checksum: value.map(Checksum::from), ..completion(&id, &[chosen]) };
        complete(fixture.volume.uploads(), fixture.volume.disk(), &mut completion, &AtomicU64::new(0)).map(drop)
    };
    let silent = ChosenPart { checksum: None, ..chosen };
    assert_eq!(again(chosen, Some(100), Some(value)), Ok(()));
    assert_eq!(again(silent, None, None), Ok(()));
    assert_eq!(again(chosen, Some(101), None), Err(UploadError::Size.into()));
    assert_eq!(again(chosen, None, Some(other)), Err(UploadError::Checksum.into()));
    assert_eq!(again(ChosenPart { checksum: Some(other), ..chosen }, None, None), Err(GONE));
}

#[test]
fn what_was_made_of_the_object_since_is_not_what_the_upload_made() {
    let fixture = Fixture::new();
    let id = fixture.begin();
    let chosen = [fixture.put(&id, 1, b"by the upload")];
    fixture.complete(&id, &chosen).unwrap();
    // The same bytes by somebody else.
    std::fs::write(fixture.top.path().join("bucket/dir/key"), b"by the upload").unwrap();
    assert_eq!(fixture.complete(&id, &chosen).unwrap_err(), GONE);
    std::fs::remove_file(fixture.top.path().join("bucket/dir/key")).unwrap();
    assert_eq!(fixture.complete(&id, &chosen).unwrap_err(), GONE);
}

/// Published as a file of its own, and killed before the upload was taken away: completed is completed, whoever asks next.
#[test]
fn after_a_crash_another_list_does_not_make_another_object() {
    for repeats_first_list in [false, true] {
        let fixture = Fixture::new();
        let id = fixture.begin();
        let bytes = [part(1, S + 1), part(2, 9)];
        let [one, two] = [1, 2].map(|number| fixture.put(&id, number, &bytes[number as usize - 1]));
        let saved = fixture.own("uploads/saved");
        std::fs::create_dir(&saved).unwrap();
        for file in fixture.upload_files(&id) {
            std::fs::copy(fixture.own("uploads/bucket").join(&id).join(&file), saved.join(&file)).unwrap();
        }
        fixture.complete(&id, &[one, two]).unwrap();
        std::fs::rename(&saved, fixture.own("uploads/bucket").join(&id)).unwrap();
        let fixture = fixture.restarted();
        let list = if repeats_first_list { vec![one, two] } else { vec![two] };
        assert_eq!(fixture.complete(&id, &list).map(drop), if repeats_first_list { Ok(()) } else { Err(GONE) });
        assert!(fixture.bytes() == bytes.concat());
        fixture.assert_clean();
    }
}

#[test]
fn of_two_lists_at_once_one_makes_the_object() {
    let fixture = Fixture::new();
    for _ in 0..20 {
        let id = fixture.begin();
        let [one, two] = [1, 2].map(|number| fixture.put(&id, number, &part(number, S)));
        let lists = [vec![one], vec![one, two], vec![two], vec![one]];
        let until_done = |list: &[ChosenPart]| loop {
            match fixture.complete(&id, list) {
                Err(StoreError::Upload(UploadError::Busy)) => std::thread::yield_now(),
                done => break done.map(|(published, _)| published.record),
            }
        };
        let done: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = lists.iter().map(|list| scope.spawn(|| until_done(list))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let made = fixture.object().state.record.unwrap();
        for (list, done) in lists.iter().zip(done) {
            let md5s = ETag::multipart(list.iter().map(|part| part.md5.unwrap()));
            let is_made = matches!(md5s, Some(ETag::Multipart { md5, parts }) if (md5, parts) == (made.etag, made.parts));
            assert_eq!(done, if is_made { Ok(made.clone()) } else { Err(GONE) }, "{list:?}");
        }
    }
    fixture.assert_clean();
}

#[test]
fn without_the_bucket_there_is_no_upload() {
    let fixture = Fixture::new();
    let id = fixture.begin();
    let one = fixture.put(&id, 1, b"x");
    // By a POSIX program, which leaves the upload.
    std::fs::remove_dir(fixture.top.path().join("bucket")).unwrap();
    let no_bucket = StoreError::NoBucket;
    assert_eq!(fixture.plan(&id, 2, Some(1)).err(), Some(no_bucket));
    assert_eq!(list_parts(fixture.volume.uploads(), &fixture.name(&id), 0, 9).unwrap_err(), no_bucket);
    assert_eq!(fixture.complete(&id, &[one]).unwrap_err(), no_bucket);
    assert_eq!(abort(fixture.volume.uploads(), &fixture.name(&id)).unwrap_err(), no_bucket);
    assert_eq!(
        list_uploads(
            fixture.volume.uploads(),
            fixture.volume.snapshots(),
            fixture.volume.bucket("bucket"),
            &UploadsQuery::default()
        )
        .unwrap_err(),
        no_bucket
    );
    // A new one of the name has none of its uploads.
    buckets::create(fixture.volume.bucket("bucket"), fixture.volume.uploads()).unwrap();
    assert_eq!(fixture.plan(&id, 2, Some(1)).err(), Some(GONE));
    fixture.assert_clean();
}
