//! Which hidden directories for names on their way (`home`) has this process met?

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::staging::Staging;
use crate::limits::HOMES_KNOWN_MAX;
use crate::sys;

/// The hidden directories that this process has met.
#[derive(Default)]
pub(super) struct Homes {
    /// Whether there is any: without one nobody asks further.
    are_any: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// By device and inode of a directory in which names are given.
    by_directory: HashMap<Identity, Arc<Staging>>,
    /// By its own, each once: it counts its names.
    all: HashMap<Identity, Arc<Staging>>,
}

/// Device and inode.
pub(super) type Identity = (u64, u64);

pub(super) fn identity(directory: &OwnedFd) -> sys::Result<Identity> {
    sys::stat::of(directory).map(|stat| (stat.device, stat.inode))
}

impl Homes {
    fn lock(&self) -> MutexGuard<'_, Known> {
        // What is in there is whole between any two statements.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn are_any(&self) -> bool {
        self.are_any.load(Ordering::Relaxed)
    }

    pub(super) fn of(&self, directory: &OwnedFd) -> Option<Arc<Staging>> {
        if !self.are_any() {
            return None;
        }
        let identity = identity(directory).ok()?;
        self.lock().by_directory.get(&identity).cloned()
    }

    pub(super) fn remember(&self, directory: &OwnedFd, staging: &Arc<Staging>) {
        let Ok(identity) = identity(directory) else { return };
        let mut known = self.lock();
        if known.by_directory.len() >= HOMES_KNOWN_MAX {
            known.by_directory.clear();
        }
        known.by_directory.insert(identity, staging.clone());
    }

    pub(super) fn forget(&self, directory: &OwnedFd) {
        if let Ok(identity) = identity(directory) {
            self.lock().by_directory.remove(&identity);
        }
    }

    /// The one of `home`, which is open.
    pub(super) fn staging(&self, directory: OwnedFd, home: OwnedFd, path: &[u8]) -> sys::Result<Arc<Staging>> {
        let identity = identity(&directory)?;
        let mut known = self.lock();
        self.are_any.store(true, Ordering::Relaxed);
        let made = || Arc::new(Staging::new(directory, home, format!("{}/", String::from_utf8_lossy(path))));
        Ok(known.all.entry(identity).or_insert_with(made).clone())
    }

    /// The one of this identity was removed.
    pub(super) fn forget_removed(&self, home: Identity) {
        let mut known = self.lock();
        known.all.remove(&home);
        known.by_directory.retain(|_, staging| !staging.is(home));
    }
}
