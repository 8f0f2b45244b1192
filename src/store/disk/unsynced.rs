//! Which directories have a name that may not be durable yet? Only where each change is synced by itself: a PUT that finds a
//! directory which another one has just made must not be acknowledged before that directory's own name survives a power cut,
//! whether or not its maker gets that far.
//!
//! A maker notes the name before it makes the directory and takes it off after its parent was synced. So whoever has opened the
//! directory and finds no note knows that the parent was synced in between. Bounded by the helper threads: each makes one at a time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The notes of one volume.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    names: Mutex<HashMap<Name, usize>>,
}

/// Inode of the parent, and the name there.
type Name = (u64, Box<[u8]>);

/// One note, until it is dropped.
pub(super) struct Making<'a> {
    unsynced: &'a Unsynced,
    name: Name,
}

impl Unsynced {
    /// Notes a directory that is about to be made.
    pub(super) fn making(&self, parent_inode: u64, name: &[u8]) -> Making<'_> {
        let name: Name = (parent_inode, name.into());
        *self.lock().entry(name.clone()).or_default() += 1;
        Making { unsynced: self, name }
    }

    /// Whether there is no note at all.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Whether a directory, already opened, may lose its name.
    pub(super) fn contains(&self, parent_inode: u64, name: &[u8]) -> bool {
        let names = self.lock();
        !names.is_empty() && names.contains_key(&(parent_inode, name.into()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, usize>> {
        // No panic is possible while it is held.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let mut names = self.unsynced.lock();
        if let Some(count) = names.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                names.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_noted_until_its_last_maker_is_done() {
        let unsynced = Unsynced::default();
        let first = unsynced.making(7, b"d");
        let second = unsynced.making(7, b"d");
        assert!(unsynced.contains(7, b"d") && !unsynced.contains(7, b"e") && !unsynced.contains(8, b"d"));
        drop(first);
        assert!(unsynced.contains(7, b"d"));
        drop(second);
        assert!(!unsynced.contains(7, b"d") && unsynced.is_empty());
    }
}
