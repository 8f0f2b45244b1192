//! What do all threads do together? A phase begins on all of them at once and ends when the last of them has its last
//! answer: what was measured around it is then of these requests and of no others.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::tally::Tally;
use super::workload::Work;

/// What every thread is told.
#[derive(Clone, Debug)]
pub struct Phase {
    pub name: &'static str,
    pub work: Work,
    /// `None` ends with the work.
    pub duration: Option<Duration>,
    /// Requests a second of an open loop.
    pub rate: Option<u64>,
    /// Whether a request to stop ends it; clearing up goes on.
    pub is_interruptible: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    pub tally: Tally,
    /// Why the phase could not go on.
    pub lost: Option<String>,
}

/// Counters of one thread that the others may look at while it runs; a cache line of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    pub requests: AtomicU64,
    pub bytes: AtomicU64,
    pub errors: AtomicU64,
}

impl Counters {
    /// Only their own thread writes them, so that no locked instruction is needed.
    pub fn count(&self, bytes: u64, is_good: bool) {
        let add = |counter: &AtomicU64, more: u64| counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
        add(if is_good { &self.requests } else { &self.errors }, 1);
        add(&self.bytes, bytes);
    }
}
