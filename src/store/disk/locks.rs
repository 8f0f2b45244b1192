//! Who may change this key now? Locks by the hash of bucket and key, held by helper threads around a publication: the look
//! at what is there, the precondition, and the change are one step to every other writer of this process. Held for moments, and seldom
//! waited for: requests that would wait long for each other do so on their cores (`turns`).

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::limits::KEY_LOCKS;

/// The key locks of one volume.
pub struct KeyLocks {
    locks: Vec<Mutex<()>>,
    hasher: RandomState,
}

/// One key's lock, or two keys', held.
pub struct KeyGuard<'a> {
    _first: MutexGuard<'a, ()>,
    _second: Option<MutexGuard<'a, ()>>,
}

impl KeyLocks {
    /// All locks free. Keys share locks by hash; the hash is keyed, so that nobody can aim at one lock.
    pub fn new() -> Self {
        Self { locks: (0..KEY_LOCKS).map(|_| Mutex::new(())).collect(), hasher: RandomState::new() }
    }

    /// Waits for the lock of one key.
    pub fn lock(&self, bucket: &str, key: &[u8]) -> KeyGuard<'_> {
        KeyGuard { _first: self.take(self.slot(bucket, key)), _second: None }
    }

    /// Waits for the locks of two keys, in an order that all threads share.
    pub fn lock_both(&self, bucket: &str, one: &[u8], other: &[u8]) -> KeyGuard<'_> {
        let (one, other) = (self.slot(bucket, one), self.slot(bucket, other));
        let first = self.take(one.min(other));
        let second = (one != other).then(|| self.take(one.max(other)));
        KeyGuard { _first: first, _second: second }
    }

    /// Waits until whoever holds a lock now has let go of it.
    pub fn wait_for_each(&self) {
        (0..self.locks.len()).for_each(|slot| drop(self.take(slot)));
    }

    fn slot(&self, bucket: &str, key: &[u8]) -> usize {
        self.hasher.hash_one((bucket, key)) as usize % self.locks.len()
    }

    /// The lock guards no data, so a panic while it was held leaves nothing inconsistent in memory.
    fn take(&self, slot: usize) -> MutexGuard<'_, ()> {
        self.locks[slot].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for KeyLocks {
    fn default() -> Self {
        Self::new()
    }
}
