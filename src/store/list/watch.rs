//! What changed in a large directory since its snapshot was taken? The kernel queues each change of a name before the call that
//! made it returns, ours and everybody's. Emptying the queue before a snapshot is used therefore finds every change that was
//! answered before. What a name is now is asked of the directory itself: the queue only says which to ask for, so neither its
//! order nor a change that comes twice matters.
//!
//! A queue that overflows, a directory with too many changes, one that is removed: that snapshot is lost and read again. A thread
//! empties the queue a few times a second while directories are watched, so that it does not overflow between two listings.

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
    directories: HashMap<i32, Pending>,
    generations: u64,
    /// Bytes of all noted names.
    size: usize,
    is_swept: bool,
}

/// Names that changed in one directory and were not asked for yet.
#[derive(Debug)]
struct Pending {
    generation: u64,
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

    /// Watches a directory. `None`: there are too many already, or the kernel refuses.
    pub fn watch(self: &Arc<Self>, directory: BorrowedFd<'_>) -> Option<Watch> {
        let mut state = self.lock();
        if state.directories.len() >= LISTING_WATCHES_MAX {
            return None;
        }
        let number = inotify::watch(&self.queue, directory).ok()?;
        // One that was watched already begins anew, and whoever relied on it asks in vain.
        state.forget(number);
        state.generations += 1;
        let generation = state.generations;
        state.directories.insert(number, Pending { generation, names: HashSet::new(), size: 0 });
        if !std::mem::replace(&mut state.is_swept, true) {
            let watcher = Arc::downgrade(self);
            let sweep = std::thread::Builder::new().name("listings".into()).spawn(move || sweep(&watcher));
            state.is_swept = sweep.is_ok();
        }
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
                state.forget(watch);
            }
            Event::Overflow => lost.extend(state.directories.keys()),
        })?;
        for number in lost {
            if state.forget(number) {
                let _ = inotify::unwatch(&self.queue, number);
            }
        }
        Ok(())
    }
}

impl State {
    /// Notes a changed name; false when that is one too many.
    fn note(&mut self, number: i32, name: &[u8]) -> bool {
        let Some(pending) = self.directories.get_mut(&number) else { return true };
        if pending.names.contains(name) {
            return true;
        }
        // About what the set and the allocator take for each.
        let size = name.len() + 48;
        if pending.names.len() >= LISTING_CHANGES_MAX || self.size + size > LISTING_CHANGES_SIZE_MAX {
            return false;
        }
        pending.names.insert(name.into());
        pending.size += size;
        self.size += size;
        true
    }

    fn forget(&mut self, number: i32) -> bool {
        let pending = self.directories.remove(&number);
        self.size -= pending.as_ref().map_or(0, |pending| pending.size);
        pending.is_some()
    }
}

impl Watch {
    /// The names that changed since the last call, or since the watch began. `None`: not all of them are known.
    pub fn take(&self) -> Option<HashSet<Box<[u8]>>> {
        let mut state = self.watcher.lock();
        self.watcher.drain(&mut state).ok()?;
        let pending = state.directories.get_mut(&self.number).filter(|pending| pending.generation == self.generation)?;
        let names = std::mem::take(&mut pending.names);
        let size = std::mem::take(&mut pending.size);
        state.size -= size;
        Some(names)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.watcher.lock();
        let is_ours = state.directories.get(&self.number).is_some_and(|pending| pending.generation == self.generation);
        if is_ours {
            state.forget(self.number);
            let _ = inotify::unwatch(&self.watcher.queue, self.number);
        }
    }
}

/// Empties the queue while anything is watched.
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
        if state.directories.is_empty() {
            state.is_swept = false;
            return;
        }
    }
}
