//! Numbers that one thread writes and any thread may read.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts up. Written by one thread only: two would lose each other's counts.
#[derive(Default)]
pub struct Counter(AtomicU64);

/// A value of now. Written by one thread at a time.
#[derive(Default)]
pub struct Level(AtomicU64);

impl Counter {
    /// Adds `count`. A load and a store, not a locked addition, which costs some twenty times as much.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Level {
    /// It is `value` now.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Its last value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
