//! Reading a directory: all of its names, or a window onto one that has too many.

use super::super::key::{self, Entry};
use super::super::walk::{self, EntryKind};
use super::snapshot::{Change, Names, Snapshot};
use crate::sys::{FileKind, Result, dir, errno, stat};
use rustix::fd::BorrowedFd;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;

/// All names. `None`: there are more than `count_max`, or they take more than `size_max` bytes.
pub fn whole(directory: BorrowedFd<'_>, count_max: usize, size_max: usize) -> Result<Option<Snapshot>> {
    let mut names = Names::default();
    let end = visit(directory, |entry| {
        match entry {
            Visited::Body => names.has_body = true,
            Visited::Entry(name, kind) => names.push(name, kind),
        }
        let is_too_large = names.len() > count_max || names.size() > size_max;
        if is_too_large { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(end.is_continue().then(|| names.finish()))
}

/// A window onto a directory: the first `count_max` entries or somewhat fewer that are not less than `from`, and those that
/// `from` begins with and that may have keys after it (a directory `a` for `a-x`). One pass over the directory in bounded memory.
pub fn window(directory: BorrowedFd<'_>, from: &[u8], count_max: usize) -> Result<Snapshot> {
    let mut first: BinaryHeap<(Box<[u8]>, EntryKind)> = BinaryHeap::new();
    let mut is_window = false;
    let mut names = Names::default();
    let _: ControlFlow<()> = visit(directory, |entry| {
        match entry {
            Visited::Body => names.has_body = true,
            Visited::Entry(name, kind) if name >= from => {
                first.push((name.into(), kind));
                if first.len() > count_max {
                    first.pop();
                    is_window = true;
                }
            }
            Visited::Entry(name, kind) if from.starts_with(name) => names.push(name, kind),
            Visited::Entry(..) => {}
        }
        ControlFlow::Continue(())
    })?;
    let mut first = first.into_sorted_vec();
    let mut next = None;
    if is_window {
        // A name may stand twice, as a component and as a piece: the next window begins with all of the last name.
        next = first.last().map(|(name, _)| name.clone());
        first.retain(|(name, _)| Some(name) != next.as_ref());
    }
    for (name, kind) in first {
        names.push(&name, kind);
    }
    let mut window = names.finish();
    window.next = next;
    Ok(window)
}

/// What a name is now that changed after `snapshot`; `None` for one that is no entry's. Sets whether the directory has a body.
pub fn change_of(directory: BorrowedFd<'_>, name: &[u8], has_body: &mut bool) -> Result<Option<Change>> {
    let decoded = key::decode_name(name);
    let kind = match decoded {
        Entry::NotOurs | Entry::ObjectOfDirectory => return Ok(None),
        _ => match stat::at(directory, name) {
            Ok(stat) => Some(stat.kind),
            Err(errno) if errno::is_gone(errno) => None,
            Err(errno) => return Err(errno),
        },
    };
    let (name, family) = match decoded {
        Entry::Component(name) => (name, EntryKind::File),
        Entry::PiecePrefix(name) => (name, EntryKind::Piece),
        Entry::PieceLast(name) => (name, EntryKind::LastFile),
        Entry::BodyOfDirectory => {
            *has_body = kind == Some(FileKind::Regular);
            return Ok(None);
        }
        Entry::NotOurs | Entry::ObjectOfDirectory => return Ok(None),
    };
    let now = kind.and_then(|kind| walk::classify(decoded, kind)).map(|(_, kind)| kind);
    Ok(Some(Change { name: name.into(), family, now }))
}

enum Visited<'a> {
    Body,
    Entry(&'a [u8], EntryKind),
}

fn visit<B>(directory: BorrowedFd<'_>, mut take: impl FnMut(Visited<'_>) -> ControlFlow<B>) -> Result<ControlFlow<B>> {
    // The kernel fills as much as there is; the first call of a small directory takes all of it.
    let mut buffer = dir::buffer(64 * 1024);
    let end = dir::read(directory, &mut buffer, |entry| {
        let decoded = key::decode_name(entry.name);
        if matches!(decoded, Entry::NotOurs | Entry::ObjectOfDirectory) {
            return ControlFlow::Continue(());
        }
        let kind = match entry.kind_in(directory) {
            Ok(kind) => kind,
            Err(errno) if errno::is_gone(errno) => return ControlFlow::Continue(()),
            Err(errno) => return ControlFlow::Break(Err(errno)),
        };
        let visited = match (decoded, kind) {
            (Entry::BodyOfDirectory, FileKind::Regular) => Some(Visited::Body),
            _ => walk::classify(decoded, kind).map(|(name, kind)| Visited::Entry(name, kind)),
        };
        match visited.map(&mut take) {
            Some(ControlFlow::Break(value)) => ControlFlow::Break(Ok(value)),
            _ => ControlFlow::Continue(()),
        }
    })?;
    match end {
        ControlFlow::Break(value) => value.map(ControlFlow::Break),
        ControlFlow::Continue(()) => Ok(ControlFlow::Continue(())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;
    use std::fs::{File, write};

    fn names(snapshot: &Snapshot) -> Vec<String> {
        (0..snapshot.len()).map(|index| String::from_utf8(snapshot.entry(index).unwrap().0.to_vec()).unwrap()).collect()
    }

    #[test]
    fn sorted_by_what_stands_in_the_key() {
        let top = tempfile::tempdir().unwrap();
        for name in ["b", "a-", ".sluice%r.sluicex", ".sluice%d", ".sluice", ".sluice%e", ".sluice%b", "a"] {
            write(top.path().join(name), b"").unwrap();
        }
        let directory = File::open(top.path()).unwrap();
        let snapshot = whole(directory.as_fd(), 5, 1 << 20).unwrap().unwrap();
        assert_eq!(names(&snapshot), [".", ".sluicex", "a", "a-", "b"]);
        assert!(snapshot.has_body && snapshot.next.is_none());
        assert_eq!(snapshot.lower_bound(b"a,"), 3);
        assert!(whole(directory.as_fd(), 4, 1 << 20).unwrap().is_none());
        assert!(whole(directory.as_fd(), 5, 20).unwrap().is_none());
    }

    #[test]
    fn a_window_is_a_part_of_the_whole() {
        let top = tempfile::tempdir().unwrap();
        for index in 0..50 {
            write(top.path().join(format!("n{index:02}")), b"").unwrap();
        }
        std::fs::create_dir(top.path().join("n")).unwrap();
        let directory = File::open(top.path()).unwrap();
        let first = window(directory.as_fd(), b"n07", 3).unwrap();
        assert_eq!(names(&first), ["n", "n07", "n08"]);
        assert_eq!(first.next.as_deref(), Some(&b"n09"[..]));
        let rest = window(directory.as_fd(), b"n48", 3).unwrap();
        assert_eq!(names(&rest), ["n", "n48", "n49"]);
        assert_eq!(rest.next, None);
    }
}
