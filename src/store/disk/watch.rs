//! What changed in a directory since? The kernel queues each change of a name before the call that made it returns, and before it
//! lets anybody else read the directory. Emptying the queue after a reading therefore finds every change that the reading may have
//! missed, and emptying it before a snapshot is used every change that was answered before. What a name is now is asked of the directory
//! itself: the queue only says which to ask for, so neither its order nor a change that comes twice matters.
//!
//! A queue that overflows, a directory with too many changes, one that is removed: who relied on it is told, and reads again. A thread
//! empties the queue a few times a second while large directories are watched for long (`listing::cache`), so that it does not overflow between two
//! listings; who watches while it reads (`reading`) empties it as it goes.

use crate::limits::{LISTING_CHANGES_MAX, LISTING_CHANGES_SIZE_MAX, LISTING_WATCHES_MAX, SWEEP_INTERVAL};
use crate::sys::inotify::{self, Event};
use crate::sys::{Result, dir};
use rustix::fd::{BorrowedFd, OwnedFd};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The watched directories of a volume.
#[derive(Debug)]
pub struct Watcher {
    queue: OwnedFd,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the kernel's number, which is one for all who watch a directory.
    directories: HashMap<i32, Vec<Pending>>,
    generations: u64,
    /// Bytes of all noted names.
    size: usize,
    /// Watches that are to last.
    lasting: usize,
    is_swept: bool,
}

/// Names that changed in one directory and were not asked for yet, for one who watches it.
#[derive(Debug)]
struct Pending {
    generation: u64,
    is_lasting: bool,
    names: HashSet<Box<[u8]>>,
    size: usize,
}

/// A directory being watched, until this is dropped.
#[derive(Debug)]
pub struct Watch {
    watcher: Arc<Watcher>,
    number: i32,
    generation: u64,
}

impl Watcher {
    /// `None`: the user's bound on such queues is reached.
    pub fn start() -> Option<Arc<Self>> {
        let queue = inotify::init().ok()?;
        Some(Arc::new(Self { queue, state: Mutex::default() }))
    }

    /// Watches a directory for as long as its snapshot is kept. `None`: there are too many already, or the kernel refuses.
    pub fn watch(self: &Arc<Self>, directory: BorrowedFd<'_>) -> Option<Watch> {
        let mut state = self.lock();
        if state.lasting >= LISTING_WATCHES_MAX {
            return None;
        }
        let watch = self.add(&mut state, directory, true)?;
        if !std::mem::replace(&mut state.is_swept, true) {
            let watcher = Arc::downgrade(self);
            let sweep = std::thread::Builder::new().name("listings".into()).spawn(move || sweep(&watcher));
            state.is_swept = sweep.is_ok();
        }
        Some(watch)
    }

    /// Watches a directory while it is read. There are no more of these than readers.
    pub fn watch_briefly(self: &Arc<Self>, directory: BorrowedFd<'_>) -> Option<Watch> {
        let mut state = self.lock();
        self.add(&mut state, directory, false)
    }

    fn add(self: &Arc<Self>, state: &mut State, directory: BorrowedFd<'_>, is_lasting: bool) -> Option<Watch> {
        let number = inotify::watch(&self.queue, directory).ok()?;
        state.generations += 1;
        state.lasting += usize::from(is_lasting);
        let generation = state.generations;
        let pending = Pending { generation, is_lasting, names: HashSet::new(), size: 0 };
        state.directories.entry(number).or_default().push(pending);
        Some(Watch { watcher: Arc::clone(self), number, generation })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The maps are whole wherever a panic is possible.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what is queued.
    fn drain(&self, state: &mut State) -> Result<()> {
        let mut buffer = dir::buffer(16 * 1024);
        let mut lost = Vec::new();
        inotify::drain(&self.queue, &mut buffer, |event| match event {
            Event::Changed { watch, name } => {
                if !state.note(watch, name) {
                    lost.push(watch);
                }
            }
            Event::Gone { watch } => {
                state.forget_directory(watch);
            }
            Event::Overflow => lost.extend(state.directories.keys()),
        })?;
        for number in lost {
            if state.forget_directory(number) {
                let _ = inotify::unwatch(&self.queue, number);
            }
        }
        Ok(())
    }
}

impl State {
    /// Notes a changed name; false when that is one too many for anybody.
    fn note(&mut self, number: i32, name: &[u8]) -> bool {
        let Some(watching) = self.directories.get_mut(&number) else { return true };
        // About what the set and the allocator take for each.
        let size = name.len() + 48;
        for pending in watching {
            if pending.names.contains(name) {
                continue;
            }
            if pending.names.len() >= LISTING_CHANGES_MAX || self.size + size > LISTING_CHANGES_SIZE_MAX {
                return false;
            }
            pending.names.insert(name.into());
            pending.size += size;
            self.size += size;
        }
        true
    }

    /// The names of one who watches a directory.
    fn pending(&mut self, number: i32, generation: u64) -> Option<&mut Pending> {
        self.directories.get_mut(&number)?.iter_mut().find(|pending| pending.generation == generation)
    }

    /// Forgets one who watches a directory: whether it was the last.
    fn forget(&mut self, number: i32, generation: u64) -> bool {
        let Some(watching) = self.directories.get_mut(&number) else { return false };
        let Some(at) = watching.iter().position(|pending| pending.generation == generation) else { return false };
        let pending = watching.swap_remove(at);
        let is_last = watching.is_empty();
        self.count_out(&pending);
        if is_last {
            self.directories.remove(&number);
        }
        is_last
    }

    /// Forgets all who watch a directory: whether there was one. Whoever relied on it asks in vain.
    fn forget_directory(&mut self, number: i32) -> bool {
        let watching = self.directories.remove(&number);
        for pending in watching.iter().flatten() {
            self.count_out(pending);
        }
        watching.is_some()
    }

    fn count_out(&mut self, pending: &Pending) {
        self.size -= pending.size;
        self.lasting -= usize::from(pending.is_lasting);
    }
}

impl Watch {
    /// The names that changed since the last call, or since the watch began. `None`: not all of them are known.
    pub fn take(&self) -> Option<HashSet<Box<[u8]>>> {
        let mut state = self.watcher.lock();
        self.watcher.drain(&mut state).ok()?;
        let pending = state.pending(self.number, self.generation)?;
        let names = std::mem::take(&mut pending.names);
        let size = std::mem::take(&mut pending.size);
        state.size -= size;
        Some(names)
    }

    /// Notes what is queued, so that the kernel's queue does not overflow while a large directory is read.
    pub fn note(&self) {
        // Who takes the names sees the same error.
        let _ = self.watcher.drain(&mut self.watcher.lock());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.watcher.lock();
        if state.forget(self.number, self.generation) {
            let _ = inotify::unwatch(&self.watcher.queue, self.number);
        }
    }
}

/// Empties the queue while anything is watched for long.
fn sweep(watcher: &Weak<Watcher>) {
    loop {
        std::thread::sleep(SWEEP_INTERVAL);
        let Some(watcher) = watcher.upgrade() else { return };
        let mut state = watcher.lock();
        if watcher.drain(&mut state).is_err() {
            // Whoever asks next will see the same error, or what it left.
            tracing::warn!("the queue of directory changes cannot be read; large directories are read again for each page");
            state.is_swept = false;
            return;
        }
        if state.lasting == 0 {
            state.is_swept = false;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;
    use std::fs::{File, write};

    fn told(watch: &Watch) -> Option<Vec<String>> {
        let mut names: Vec<_> = watch.take()?.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        names.sort_unstable();
        Some(names)
    }

    #[test]
    fn each_who_watches_a_directory_is_told_of_every_change() {
        let top = tempfile::tempdir().unwrap();
        let (watcher, directory) = (Watcher::start().unwrap(), File::open(top.path()).unwrap());
        let change = |name: &str| write(top.path().join(name), b"").unwrap();
        let lasting = watcher.watch(directory.as_fd()).unwrap();
        change("a");
        let brief = watcher.watch_briefly(directory.as_fd()).unwrap();
        change("b");
        assert!(told(&brief).unwrap().contains(&"b".to_owned()));
        assert_eq!(told(&lasting).unwrap(), ["a", "b"]);
        change("c");
        drop(brief);
        change("d");
        assert_eq!(told(&lasting).unwrap(), ["c", "d"], "the other one goes on");
        let brief = watcher.watch_briefly(directory.as_fd()).unwrap();
        drop(lasting);
        change("e");
        assert_eq!(told(&brief).unwrap(), ["e"]);
        drop(brief);
        assert!(watcher.lock().directories.is_empty() && watcher.lock().size == 0 && watcher.lock().lasting == 0);
    }

    #[test]
    fn what_is_lost_is_lost_to_all_and_said() {
        let top = tempfile::tempdir().unwrap();
        let (watcher, directory) = (Watcher::start().unwrap(), File::open(top.path()).unwrap());
        // Brief ones: nobody empties the queue meanwhile.
        let watches = [(); 2].map(|()| watcher.watch_briefly(directory.as_fd()).unwrap());
        for number in 0..20_000 {
            let name = top.path().join((number % 2).to_string());
            if number % 4 < 2 { write(name, b"").unwrap() } else { std::fs::remove_file(name).unwrap() }
        }
        assert!(watches.iter().all(|watch| told(watch).is_none()));
        drop(watches);
        let again = watcher.watch(directory.as_fd()).unwrap();
        write(top.path().join("new"), b"").unwrap();
        assert_eq!(told(&again).unwrap(), ["new"]);
        drop(directory);
        std::fs::remove_dir_all(top.path()).unwrap();
        assert_eq!(told(&again), None, "gone");
    }
}
