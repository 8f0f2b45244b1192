//! What else comes to an upload that is being completed, and to a bucket that is being made or removed.

use std::sync::Barrier;

use super::*;

#[test]
fn nobody_waits_for_a_complete_that_is_under_way() {
    let fixture = Arc::new(Fixture::new());
    let id = fixture.begin();
    let one = fixture.put(&id, 1, &part(1, S));
    let late = fixture.plan(&id, 2, Some(S)).unwrap();
    let completing = {
        let (fixture, id) = (fixture.clone(), id.clone());
        std::thread::spawn(move || fixture.complete(&id, &[one]).map(|(published, _)| published.record))
    };
    while !late.is_closed() {
        std::thread::yield_now();
    }
    assert_eq!(abort(fixture.volume.uploads(), &fixture.name(&id)).unwrap_err(), UploadError::Busy.into());
    assert_eq!(fixture.complete(&id, &[one]).unwrap_err(), UploadError::Busy.into());
    assert!(!completing.is_finished(), "the writer has not left");
    drop(late);
    let record = completing.join().unwrap().unwrap();
    assert_eq!(fixture.complete(&id, &[one]).unwrap().0.record, record);
    assert_eq!(abort(fixture.volume.uploads(), &fixture.name(&id)).unwrap_err(), UploadError::NotFound.into());
}

type Act = fn(&Volume) -> Option<String>;

/// Threads that start at the same moment, again and again; how many uploads that they began are not there afterwards.
fn race<const THREADS: usize>(acts: [Act; THREADS], exists_before: bool) -> usize {
    const ROUNDS: usize = 150;
    let fixture = Fixture::new();
    let start = Barrier::new(THREADS);
    let mut lost = 0;
    for _ in 0..ROUNDS {
        if exists_before {
            buckets::create(fixture.volume.bucket("raced"), fixture.volume.uploads()).unwrap();
        }
        let begun: Vec<String> = std::thread::scope(|scope| {
            let run = |act: Act| {
                let (volume, start) = (&fixture.volume, &start);
                scope.spawn(move || {
                    start.wait();
                    act(volume)
                })
            };
            let threads = acts.map(run);
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        let page = list_uploads(
            fixture.volume.uploads(),
            fixture.volume.snapshots(),
            fixture.volume.bucket("raced"),
            &UploadsQuery { max: 9, ..Default::default() },
        )
        .unwrap();
        let listed: Vec<_> = page.uploads.iter().map(|upload| &upload.id).collect();
        lost += begun.iter().filter(|id| !listed.contains(id)).count();
        buckets::delete(fixture.volume.bucket("raced"), fixture.volume.uploads(), &AtomicBool::new(false)).unwrap();
    }
    lost
}

fn make_and_begin(volume: &Volume) -> Option<String> {
    buckets::create(volume.bucket("raced"), volume.uploads()).ok()?;
    let new = NewUpload { record: Record::new(0, 0, [0; 16]), checksum: None };
    Some(create(volume.uploads(), volume.bucket("raced"), KEY, new).unwrap().0)
}

#[test]
fn a_bucket_that_many_make_keeps_the_uploads_begun_in_it() {
    assert_eq!(race([make_and_begin as Act; 3], false), 0);
}

#[test]
fn a_bucket_made_again_while_the_old_one_goes_keeps_the_uploads_begun_in_it() {
    let remove: Act = |volume| {
        buckets::delete(volume.bucket("raced"), volume.uploads(), &AtomicBool::new(false)).unwrap();
        None
    };
    let make_when_it_is_gone: Act = |volume| {
        loop {
            if let Some(id) = make_and_begin(volume) {
                return Some(id);
            }
        }
    };
    assert_eq!(race([remove, make_when_it_is_gone], true), 0);
}
