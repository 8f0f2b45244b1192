use std::os::unix::fs::{MetadataExt, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    name: String,
    number: u32,
}

const NAME: &str = "of/one.json";

fn content(number: u32) -> Content {
    Content { name: "a\n\u{fc}\"b".into(), number }
}

fn fixture() -> (tempfile::TempDir, Documents) {
    let top = tempfile::tempdir().unwrap();
    let documents = Documents::new(&top.path().join("config"));
    (top, documents)
}

/// Does `act`, which dies when it has come to `last`.
fn die_at(last: Step, act: impl FnOnce(&mut dyn FnMut(Step))) {
    let died = catch_unwind(AssertUnwindSafe(|| {
        act(&mut |step| {
            if step == last {
                resume_unwind(Box::new("a crash"));
            }
        });
    }));
    assert!(died.is_err(), "{last:?} is never reached");
}

#[test]
fn what_is_made_is_read_private_and_made_once() {
    let (top, documents) = fixture();
    assert_eq!(documents.read::<Content>(NAME), Ok(None));
    assert_eq!(documents.create(NAME, &content(7)), Ok(true));
    assert_eq!(documents.read(NAME), Ok(Some(content(7))));
    assert_eq!(documents.create(NAME, &content(8)), Ok(false));
    assert_eq!(documents.read(NAME), Ok(Some(content(7))));
    for file in [NAME, "generation", "locks/documents"] {
        assert_eq!(std::fs::metadata(documents.path(file)).unwrap().mode() & 0o777, 0o600, "{file}");
    }
    assert_eq!(std::fs::metadata(top.path().join("config/of")).unwrap().mode() & 0o777, 0o700);
    assert_eq!(std::fs::read_dir(top.path().join("config/of")).unwrap().count(), 1, "no temporary is left");
    assert_eq!(documents.names("of"), Ok(vec![NAME.to_owned()]));
    assert_eq!(documents.names("none"), Ok(Vec::new()));
}

#[test]
fn what_is_no_file_is_no_document() {
    let top = tempfile::tempdir().unwrap();
    let documents = Documents::new(top.path());
    symlink("/dev/zero", documents.path("link")).unwrap();
    assert_eq!(documents.read::<Content>("link"), Err(DocumentError::Io(Errno::LOOP)));
    std::fs::create_dir(documents.path("folder")).unwrap();
    assert!(documents.read::<Content>("folder").is_err());
    std::fs::write(documents.path("large"), vec![b'x'; DOCUMENT_SIZE_MAX as usize + 5]).unwrap();
    assert_eq!(documents.read::<Content>("large"), Err(DocumentError::Damaged));
}

#[test]
fn each_changes_what_it_has_seen() {
    let (_top, documents) = fixture();
    let first = documents.write(NAME, &content(1), None).unwrap();
    assert_eq!(documents.write(NAME, &content(2), None), Err(DocumentError::Changed));
    let second = documents.write(NAME, &content(2), Some(first)).unwrap();
    assert_eq!((second.incarnation, second.number), (first.incarnation, first.number + 1));
    assert_eq!(documents.write(NAME, &content(3), Some(first)), Err(DocumentError::Changed));
    assert_eq!(documents.remove(NAME, first), Err(DocumentError::Changed));
    assert_eq!(documents.find(NAME), Ok(Some((content(2), second))));
    assert_eq!(documents.remove(NAME, second), Ok(()));
    assert_eq!(documents.find::<Content>(NAME), Ok(None));
    assert_eq!(documents.write(NAME, &content(4), Some(second)), Err(DocumentError::Changed));
    let again = documents.write(NAME, &content(5), None).unwrap();
    assert!(again.incarnation != first.incarnation && again.number == 1, "another life of the name");
}

#[test]
fn of_two_writers_one_has_changed_it() {
    let (_top, documents) = fixture();
    let mut expected = documents.write(NAME, &content(0), None).unwrap();
    for round in 1..20 {
        let write = |number| documents.write(NAME, &content(number), Some(expected));
        let results = std::thread::scope(|scope| {
            let writers = [100 * round, 100 * round + 1].map(|number| (number, scope.spawn(move || write(number))));
            writers.map(|(number, writer)| (number, writer.join().unwrap()))
        });
        let (winners, losers): (Vec<_>, Vec<_>) = results.into_iter().partition(|(_, result)| result.is_ok());
        assert_eq!(losers.iter().map(|(_, result)| *result).collect::<Vec<_>>(), [Err(DocumentError::Changed)]);
        let (number, generation) = (winners[0].0, winners[0].1.unwrap());
        assert_eq!(documents.find(NAME), Ok(Some((content(number), generation))));
        expected = generation;
    }
}

#[test]
fn what_is_damaged_is_not_written_over() {
    let (_top, documents) = fixture();
    let generation = documents.write(NAME, &content(1), None).unwrap();
    let bytes = std::fs::read(documents.path(NAME)).unwrap();
    let mut changed = bytes.clone();
    *changed.iter_mut().rev().nth(3).unwrap() ^= 1;
    for (bytes, error) in [
        (changed, DocumentError::Damaged),
        (bytes[..bytes.len() / 2].to_vec(), DocumentError::Damaged),
        (Vec::new(), DocumentError::Damaged),
        (b"{\"format\":2}\n{}\n".to_vec(), DocumentError::Newer),
    ] {
        std::fs::write(documents.path(NAME), &bytes).unwrap();
        assert_eq!(documents.find::<Content>(NAME), Err(error));
        assert_eq!(documents.write(NAME, &content(2), Some(generation)), Err(error));
        assert_eq!(documents.write(NAME, &content(2), None), Err(error));
        assert_eq!(documents.remove(NAME, generation), Err(error));
        assert_eq!(std::fs::read(documents.path(NAME)).unwrap(), bytes);
    }
}

/// After each step the document is the old one or the new one, whoever watches knows of it, and the next writer is not held up.
#[test]
fn a_crash_after_any_step_leaves_the_old_or_the_new() {
    use Step::{Aside, Named, Said, SaidAgain, Synced};
    for (last, is_new) in [(Aside, false), (Said, false), (Named, true), (Synced, true), (SaidAgain, true)] {
        for is_first in [true, false] {
            let (_top, documents) = fixture();
            let before = (!is_first).then(|| documents.write(NAME, &content(1), None).unwrap());
            let mut watch = Watch::default();
            documents.look(&mut watch).unwrap();
            die_at(last, |reached| _ = documents.write_in_steps(NAME, &content(2), before, reached));
            let now = documents.find::<Content>(NAME).unwrap();
            let number = now.as_ref().map(|(content, _)| content.number);
            assert_eq!(number, if is_new { Some(2) } else { before.map(|_| 1) }, "{last:?}");
            let seen = documents.look(&mut watch).unwrap();
            assert!(seen != Seen::Nothing || last == Aside, "{last:?}: somebody who watches does not know");
            documents.sweep("of").unwrap();
            let there = std::fs::read_dir(documents.path("of")).map_or(0, |entries| entries.count());
            assert_eq!(there, usize::from(number.is_some()), "{last:?}: a temporary is left");
            let generation = documents.write(NAME, &content(3), now.map(|(_, generation)| generation)).unwrap();
            assert_eq!(documents.find(NAME), Ok(Some((content(3), generation))));
            assert_ne!(documents.look(&mut watch), Ok(Seen::Nothing));
        }
    }
}

#[test]
fn a_crash_while_one_is_removed_leaves_it_or_not() {
    for (last, is_gone) in [(Step::Said, false), (Step::Named, true), (Step::Synced, true), (Step::SaidAgain, true)] {
        let (_top, documents) = fixture();
        let generation = documents.write(NAME, &content(1), None).unwrap();
        let mut watch = Watch::default();
        documents.look(&mut watch).unwrap();
        die_at(last, |reached| _ = documents.remove_in_steps(NAME, generation, reached));
        assert_eq!(documents.find::<Content>(NAME).unwrap().is_none(), is_gone, "{last:?}");
        assert_eq!(documents.look(&mut watch), Ok(Seen::Names(vec![NAME.to_owned()])), "{last:?}");
    }
}

/// Whoever reads what the log names, when it is told, has the last state in the end: no change is between two looks.
#[test]
fn one_who_watches_misses_no_change() {
    let (_top, documents) = fixture();
    documents.write(NAME, &content(0), None).unwrap();
    let mut watch = Watch::default();
    documents.look(&mut watch).unwrap();
    let mut known = documents.read::<Content>(NAME).unwrap().unwrap().number;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 1..=30 {
                let (_, generation) = documents.find::<Content>(NAME).unwrap().unwrap();
                documents.write(NAME, &content(number), Some(generation)).unwrap();
            }
        });
        let mut is_done = false;
        while !is_done {
            is_done = writer.is_finished();
            if documents.look(&mut watch).unwrap() != Seen::Nothing {
                known = documents.read::<Content>(NAME).unwrap().unwrap().number;
            }
        }
    });
    assert_eq!(known, 30);
}

#[test]
fn nobody_waits_for_ever_behind_another() {
    let (_top, documents) = fixture();
    documents.write(NAME, &content(1), None).unwrap();
    let _locked = documents.lock().unwrap();
    assert_eq!(documents.write(NAME, &content(2), None), Err(DocumentError::Busy));
}
