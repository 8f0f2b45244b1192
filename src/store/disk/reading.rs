//! How is a directory read so that no name is missed?
//!
//! getdents(2) is no snapshot: it takes several calls, and what others do in between shows or does not. A name that was there all along is
//! met on filesystems that keep it in its place when it is replaced (ext4, XFS). btrfs gives it a place beyond where a reading that
//! has begun will end, tmpfs one in front of where it is: while somebody overwrites, such a reader misses names that never were gone.
//!
//! So a reading is believed when the directory's times show that it was not changed meanwhile. Otherwise it is done again while
//! the kernel tells of changes, and what each name is that it told of is asked of the directory. That ends, also where somebody
//! never stops: one reading, and one look for each name that changed. Only where the kernel tells of nothing (the user's bound on
//! inotify is used up), or too much, it is tried again, and given up as contended on filesystems that do not keep places.

use super::grain::Grain;
use super::watch::{Watch, Watcher};
use crate::limits::READ_ATTEMPTS_MAX;
use crate::sys::dir::DirEntry;
use crate::sys::path::{Symlinks, open_dir};
use crate::sys::{self, Errno, FileKind, FileStat, Result, errno};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// What readings of a volume's directories rest on.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    pub grain: Grain,
    /// The kernel tells of every name that changes.
    pub is_told: bool,
    /// Times come from another machine.
    pub is_remote: bool,
    /// Who tells of changes; also where others make some that it does not hear of.
    pub watcher: Option<&'a Arc<Watcher>>,
}

/// Called for each entry that is passed, by one who reads a directory while it is watched.
pub struct Noting<'a> {
    watch: Option<&'a Watch>,
    passed: usize,
}

/// The directory's times before a reading that they prove, and no name changed since.
pub type Proof = Option<FileStat>;

impl<'a> Noting<'a> {
    /// For one who has this watch.
    pub fn of(watch: &'a Watch) -> Self {
        Self { watch: Some(watch), passed: 0 }
    }

    /// One entry more was passed.
    pub fn pass(&mut self) {
        // About what the kernel's queue holds of changes (`fs.inotify.max_queued_events`, 16,384) when as many are made as names are read.
        const STEP: usize = 4096;
        self.passed += 1;
        if self.passed.is_multiple_of(STEP)
            && let Some(watch) = self.watch
        {
            watch.note();
        }
    }
}

impl Reading<'_> {
    /// Reads a directory by `pass` until no name that was there all along can have been missed. `pass` answers what it read, or breaks
    /// with what needs nothing else: the name that was looked for. `settle` brings what was read up to date with names that changed
    /// meanwhile. EAGAIN: the directory does not hold still, and nobody tells what changes.
    pub fn prove<T>(
        &self,
        directory: BorrowedFd<'_>,
        mut pass: impl FnMut(BorrowedFd<'_>, &mut Noting<'_>) -> Result<ControlFlow<T, T>>,
        mut settle: impl FnMut(T, Vec<Box<[u8]>>) -> Result<T>,
    ) -> Result<(T, Proof)> {
        for attempt in 0..=READ_ATTEMPTS_MAX {
            // Unwatched at first: hardly any directory changes while it is read.
            let watch = self.watcher.filter(|_| attempt > 0).and_then(|watcher| watcher.watch_briefly(directory));
            let begun_ns = sys::clock::realtime_ns();
            let before = self.look(directory)?;
            // FUSE filesystems may answer from what they read through the same descriptor before.
            let again = if self.is_remote && attempt > 0 { Some(open_dir(directory, b"", Symlinks::Deny)?) } else { None };
            let at = again.as_ref().map_or(directory, AsFd::as_fd);
            let read = match pass(at, &mut Noting { watch: watch.as_ref(), passed: 0 })? {
                ControlFlow::Break(read) => return Ok((read, None)),
                ControlFlow::Continue(read) => read,
            };
            let is_unchanged = same_times(&before, &self.look(directory)?);
            if is_unchanged && self.grain.directories.is_settled_since(before.ctime_ns, begun_ns) {
                return Ok((read, Some(before)));
            }
            let Some(watch) = watch else {
                if self.watcher.is_some() && attempt == 0 {
                    continue;
                }
                if self.grain.keeps_places {
                    return Ok((read, None));
                }
                self.rest();
                continue;
            };
            let Some(names) = watch.take() else { continue };
            // What others do behind the kernel's back shows in the times alone.
            let is_explained = self.is_told || !names.is_empty() || is_unchanged || self.grain.keeps_places;
            let read = settle(read, names.into_iter().collect())?;
            if is_explained {
                return Ok((read, None));
            }
        }
        Err(Errno::AGAIN)
    }

    /// Visits every entry that was there all along, in the filesystem's order, until `visit` breaks. One may come twice, the
    /// second time as it then was, and one may come that is gone by now.
    pub fn visit<B>(
        &self,
        directory: impl AsFd,
        buffer: &mut [MaybeUninit<u8>],
        visit: impl FnMut(DirEntry<'_>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        let (visit, directory) = (RefCell::new(visit), directory.as_fd());
        let pass = |directory: BorrowedFd<'_>, noting: &mut Noting<'_>| {
            let read = sys::dir::read(directory, buffer, |entry| {
                noting.pass();
                (visit.borrow_mut())(entry)
            })?;
            Ok(if read.is_break() { ControlFlow::Break(read) } else { ControlFlow::Continue(read) })
        };
        let settle = |_, names: Vec<Box<[u8]>>| {
            for name in names {
                let stat = match sys::stat::at(directory, &name) {
                    Ok(stat) => stat,
                    Err(errno) if errno::is_gone(errno) => continue,
                    Err(errno) => return Err(errno),
                };
                let entry = DirEntry { name: &name, inode: stat.inode, kind: Some(stat.kind) };
                if let ControlFlow::Break(value) = (visit.borrow_mut())(entry) {
                    return Ok(ControlFlow::Break(value));
                }
            }
            Ok(ControlFlow::Continue(()))
        };
        self.prove(directory, pass, settle).map(|(visited, _)| visited)
    }

    /// The directories in a directory, all of them or an error.
    pub fn directories_in(&self, directory: &OwnedFd) -> Result<Vec<Vec<u8>>> {
        let mut names = BTreeSet::new();
        let mut buffer = sys::dir::buffer(64 * 1024);
        // FUSE filesystems (JuiceFS) may answer from what they read through the same descriptor before.
        let directory = &open_dir(directory, b"", Symlinks::Deny)?;
        let listed = self.visit(directory, &mut buffer, |entry| {
            match entry.kind_in(directory) {
                Ok(FileKind::Directory) => {
                    names.insert(entry.name.to_vec());
                }
                Err(errno) if !sys::errno::is_gone(errno) => return ControlFlow::Break(errno),
                Ok(_) | Err(_) => {}
            }
            ControlFlow::Continue(())
        });
        match listed? {
            ControlFlow::Continue(()) => Ok(names.into_iter().collect()),
            ControlFlow::Break(errno) => Err(errno),
        }
    }

    fn look(&self, directory: BorrowedFd<'_>) -> Result<FileStat> {
        if self.is_remote { sys::stat::of_fresh(directory) } else { sys::stat::of(directory) }
    }

    /// Waits a moment, in which the directory may hold still.
    fn rest(&self) {
        const REST_MAX: Duration = Duration::from_millis(20);
        let width = Duration::from_nanos(self.grain.directories.width_ns.unsigned_abs());
        std::thread::sleep(width.min(REST_MAX));
    }
}

fn same_times(one: &FileStat, other: &FileStat) -> bool {
    (one.mtime_ns, one.ctime_ns) == (other.mtime_ns, other.ctime_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::TIMESTAMP_GRAIN_NS;
    use crate::store::disk::grain::Times;
    use std::fs::{File, rename, write};
    use std::path::Path;

    /// A filesystem on which nothing keeps its place, and times tell no more than the kernel's ticks.
    fn reading(watcher: Option<&Arc<Watcher>>) -> Reading<'_> {
        let directories = Times { tell_apart: false, width_ns: TIMESTAMP_GRAIN_NS };
        Reading { grain: Grain { directories, ..Grain::ASSUMED }, is_told: true, is_remote: false, watcher }
    }

    fn aged(top: &Path) -> File {
        std::thread::sleep(Duration::from_nanos(2 * TIMESTAMP_GRAIN_NS as u64));
        File::open(top).unwrap()
    }

    fn replace(top: &Path, name: &str) {
        write(top.join(".new"), b"").unwrap();
        rename(top.join(".new"), top.join(name)).unwrap();
    }

    /// What a reading answers whose passes see nothing, while `change` is made; how many there were, and whether its times prove it.
    fn read(reading: Reading<'_>, directory: &File, mut change: impl FnMut(usize)) -> (Result<Vec<String>>, usize, bool) {
        let mut passes = 0;
        let pass = |_: BorrowedFd<'_>, _: &mut Noting<'_>| {
            passes += 1;
            change(passes);
            Ok(ControlFlow::Continue(Vec::new()))
        };
        let settle = |mut seen: Vec<String>, names: Vec<Box<[u8]>>| {
            seen.extend(names.iter().map(|name| String::from_utf8(name.to_vec()).unwrap()));
            seen.sort_unstable();
            Ok(seen)
        };
        let read = reading.prove(directory.as_fd(), pass, settle);
        let is_proved = read.as_ref().is_ok_and(|(_, proof)| proof.is_some());
        (read.map(|(seen, _)| seen), passes, is_proved)
    }

    #[test]
    fn a_directory_that_holds_still_is_read_once() {
        let top = tempfile::tempdir().unwrap();
        let (watcher, directory) = (Watcher::start(), aged(top.path()));
        for watcher in [watcher.as_ref(), None] {
            assert_eq!(read(reading(watcher), &directory, |_| ()), (Ok(Vec::new()), 1, true));
        }
    }

    /// However often: there is one reading more, and one look for each name.
    #[test]
    fn what_changes_meanwhile_is_asked_for() {
        let top = tempfile::tempdir().unwrap();
        write(top.path().join("a"), b"").unwrap();
        let (watcher, directory) = (Watcher::start(), aged(top.path()));
        let change = |_| (0..3).for_each(|_| replace(top.path(), "a"));
        let (seen, passes, is_proved) = read(reading(watcher.as_ref()), &directory, change);
        assert_eq!((seen, passes, is_proved), (Ok(vec![".new".to_owned(), "a".to_owned()]), 2, false));
    }

    #[test]
    fn a_directory_changed_a_moment_before_is_watched_while_it_is_read() {
        let top = tempfile::tempdir().unwrap();
        write(top.path().join("a"), b"").unwrap();
        let (watcher, directory) = (Watcher::start(), File::open(top.path()).unwrap());
        let minute = Times { tell_apart: false, width_ns: 60_000_000_000 };
        let mut reading = reading(watcher.as_ref());
        reading.grain.directories = minute;
        assert_eq!(read(reading, &directory, |_| ()), (Ok(Vec::new()), 2, false));
        reading.grain.directories = Times { tell_apart: true, ..minute };
        assert_eq!(read(reading, &directory, |_| ()), (Ok(Vec::new()), 1, true));
    }

    #[test]
    fn where_nobody_tells_it_must_hold_still_or_keep_places() {
        let top = tempfile::tempdir().unwrap();
        let directory = aged(top.path());
        let mut untold = reading(None);
        assert_eq!(read(untold, &directory, |_| replace(top.path(), "a")), (Err(Errno::AGAIN), READ_ATTEMPTS_MAX + 1, false));
        let (seen, passes, _) = read(untold, &directory, |pass| {
            if pass < 3 {
                replace(top.path(), "a");
            }
        });
        assert_eq!(seen, Ok(Vec::new()));
        assert!((3..=READ_ATTEMPTS_MAX + 1).contains(&passes), "{passes}");
        untold.grain.keeps_places = true;
        assert_eq!(read(untold, &directory, |_| replace(top.path(), "a")), (Ok(Vec::new()), 1, false));
    }

    /// What another machine does shows in the times and in no event: tried again, and then not believed.
    #[test]
    fn a_change_that_nobody_told_of_is_not_explained() {
        let top = tempfile::tempdir().unwrap();
        let (watcher, directory) = (Watcher::start(), aged(top.path()));
        let told = Reading { is_told: false, ..reading(watcher.as_ref()) };
        // A change of the directory itself, of which no name is told.
        let touch = |pass: usize| {
            directory.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(pass as u64)).unwrap();
        };
        assert_eq!(read(told, &directory, touch).0, Err(Errno::AGAIN));
        assert!(read(told, &directory, |_| replace(top.path(), "a")).0.is_ok());
        let keeping = Reading { grain: Grain { keeps_places: true, ..told.grain }, ..told };
        assert_eq!(read(keeping, &directory, touch).0, Ok(Vec::new()));
    }

    #[test]
    fn more_changes_than_anybody_remembers_are_read_again() {
        let top = tempfile::tempdir().unwrap();
        let (watcher, directory) = (Watcher::start(), aged(top.path()));
        let many = |pass| {
            // More than the kernel's queue holds, in the first reading that is watched.
            for _ in 0..if pass == 2 { 9000 } else { 1 } {
                replace(top.path(), "a");
            }
        };
        let (seen, passes, _) = read(reading(watcher.as_ref()), &directory, many);
        assert_eq!((seen, passes), (Ok(vec![".new".to_owned(), "a".to_owned()]), 3));
    }

    #[test]
    fn one_that_breaks_off_needs_no_proof() {
        let top = tempfile::tempdir().unwrap();
        write(top.path().join("a"), b"").unwrap();
        let mut buffer = sys::dir::buffer(1024);
        let found = reading(None).visit(File::open(top.path()).unwrap(), &mut buffer, |entry| {
            replace(top.path(), "b");
            ControlFlow::Break(entry.name.to_vec())
        });
        assert_eq!(found, Ok(ControlFlow::Break(b"a".to_vec())));
    }
}
