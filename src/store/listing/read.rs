//! Reading a directory: all of its names, or a window onto one that has too many.

use super::snapshot::{Change, Names, Snapshot};
use crate::store::disk::reading::{Noting, Proof, Reading};
use crate::store::names::key::{self, Entry};
use crate::store::names::subtree::{EntryKind, classify};
use crate::sys::{Errno, FileKind, Result, dir, errno, stat};
use rustix::fd::BorrowedFd;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

/// All names, as they were at one moment, and what proves it for later. `None`: there are more than `count_max`, or they take more than
/// `size_max` bytes.
pub fn whole(
    reading: Reading<'_>,
    directory: BorrowedFd<'_>,
    count_max: usize,
    size_max: usize,
) -> Result<(Option<Snapshot>, Proof)> {
    let pass = |directory: BorrowedFd<'_>, noting: &mut Noting<'_>| match pass(directory, noting, count_max, size_max)? {
        Some(snapshot) => Ok(ControlFlow::Continue(Some(snapshot))),
        None => Ok(ControlFlow::Break(None)),
    };
    let settle = |snapshot: Option<Snapshot>, names: Vec<Box<[u8]>>| {
        snapshot.map(|snapshot| brought_up(&snapshot, directory, names, |_| true)).transpose()
    };
    reading.prove(directory, pass, settle)
}

/// All names, for one who is told of what changes meanwhile and passes each to `noting`.
pub fn pass(directory: BorrowedFd<'_>, noting: &mut Noting<'_>, count_max: usize, size_max: usize) -> Result<Option<Snapshot>> {
    let mut names = Names::default();
    let end = visit(directory, noting, |entry| {
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
/// `from` begins with and that may have keys after it (a directory `a` for `a-x`). Bounded memory. `stop` ends it with ECANCELED.
pub fn window(
    reading: Reading<'_>,
    directory: BorrowedFd<'_>,
    from: &[u8],
    count_max: usize,
    stop: &AtomicBool,
) -> Result<Snapshot> {
    let pass = |directory: BorrowedFd<'_>, noting: &mut Noting<'_>| {
        pass_window(directory, noting, from, count_max, stop).map(ControlFlow::Continue)
    };
    let settle = |window: Snapshot, names: Vec<Box<[u8]>>| {
        // What lies behind is the next window's.
        let next = window.next.clone();
        let is_in = |name: &[u8]| (name >= from || from.starts_with(name)) && next.as_deref().is_none_or(|next| name < next);
        brought_up(&window, directory, names, is_in)
    };
    reading.prove(directory, pass, settle).map(|(window, _)| window)
}

fn pass_window(
    directory: BorrowedFd<'_>,
    noting: &mut Noting<'_>,
    from: &[u8],
    count_max: usize,
    stop: &AtomicBool,
) -> Result<Snapshot> {
    let mut first: BinaryHeap<(Box<[u8]>, EntryKind)> = BinaryHeap::new();
    let mut is_window = false;
    let mut names = Names::default();
    let end = visit(directory, noting, |entry| {
        if stop.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
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
    if end.is_break() {
        return Err(Errno::CANCELED);
    }
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

/// The snapshot with what these names are now, of those that belong in it.
pub fn brought_up(
    snapshot: &Snapshot,
    directory: BorrowedFd<'_>,
    names: impl IntoIterator<Item = Box<[u8]>>,
    is_in: impl Fn(&[u8]) -> bool,
) -> Result<Snapshot> {
    let mut has_body = snapshot.has_body;
    let mut changes = Vec::new();
    for name in names {
        changes.extend(change_of(directory, &name, &mut has_body)?.filter(|change| is_in(&change.name)));
    }
    let mut changed = snapshot.changed(changes);
    changed.has_body = has_body;
    Ok(changed)
}

/// What a name is now that changed; `None` for one that is no entry's. Sets whether the directory has a body.
fn change_of(directory: BorrowedFd<'_>, name: &[u8], has_body: &mut bool) -> Result<Option<Change>> {
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
    let now = kind.and_then(|kind| classify(decoded, kind)).map(|(_, kind)| kind);
    Ok(Some(Change { name: name.into(), family, now }))
}

enum Visited<'a> {
    Body,
    Entry(&'a [u8], EntryKind),
}

fn visit<B>(
    directory: BorrowedFd<'_>,
    noting: &mut Noting<'_>,
    mut take: impl FnMut(Visited<'_>) -> ControlFlow<B>,
) -> Result<ControlFlow<B>> {
    // What one call brings is what the directory had at one moment: of a small one, all. The kernel fills no more than there is.
    let mut buffer = dir::buffer(256 * 1024);
    let end = dir::read(directory, &mut buffer, |entry| {
        noting.pass();
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
            _ => classify(decoded, kind).map(|(name, kind)| Visited::Entry(name, kind)),
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
    use crate::store::disk::grain::Grain;
    use rustix::fd::AsFd;
    use std::fs::{File, write};

    /// Nobody tells of changes, of which there are none.
    const UNTOLD: Reading<'_> =
        Reading { grain: Grain { keeps_places: true, ..Grain::ASSUMED }, is_told: false, is_remote: false, watcher: None };

    fn whole(directory: BorrowedFd<'_>, count_max: usize, size_max: usize) -> Option<Snapshot> {
        super::whole(UNTOLD, directory, count_max, size_max).unwrap().0
    }

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
        let snapshot = whole(directory.as_fd(), 5, 1 << 20).unwrap();
        assert_eq!(names(&snapshot), [".", ".sluicex", "a", "a-", "b"]);
        assert!(snapshot.has_body && snapshot.next.is_none());
        assert_eq!(snapshot.lower_bound(b"a,"), 3);
        assert!(whole(directory.as_fd(), 4, 1 << 20).is_none());
        assert!(whole(directory.as_fd(), 5, 20).is_none());
    }

    #[test]
    fn a_window_is_a_part_of_the_whole() {
        let top = tempfile::tempdir().unwrap();
        for index in 0..50 {
            write(top.path().join(format!("n{index:02}")), b"").unwrap();
        }
        std::fs::create_dir(top.path().join("n")).unwrap();
        let directory = File::open(top.path()).unwrap();
        let window = |from: &[u8]| super::window(UNTOLD, directory.as_fd(), from, 3, &AtomicBool::new(false)).unwrap();
        let first = window(b"n07");
        assert_eq!(names(&first), ["n", "n07", "n08"]);
        assert_eq!(first.next.as_deref(), Some(&b"n09"[..]));
        let rest = window(b"n48");
        assert_eq!(names(&rest), ["n", "n48", "n49"]);
        assert_eq!(rest.next, None);
    }
}
