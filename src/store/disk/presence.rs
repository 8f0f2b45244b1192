//! Where is the served directory: at its path, away, or gone? What the looks (`look`) found, read by every request.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::PRESENCE_AGE_MAX;
use crate::sys;

/// Where the served directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Presence {
    /// At its path.
    Here,
    /// Not at its path: nothing is there, or another directory.
    Away,
    /// Its filesystem does not answer.
    Unreachable,
    /// Removed.
    Gone,
}

impl Presence {
    fn of(code: u8) -> Self {
        [Self::Here, Self::Away, Self::Unreachable].get(usize::from(code)).copied().unwrap_or(Self::Gone)
    }

    /// What keeps changes from being taken.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Here => None,
            Self::Away => Some("the served directory is not at its path any more"),
            Self::Unreachable => Some("the filesystem of the served directory does not answer"),
            Self::Gone => Some("the served directory was removed"),
        }
    }
}

/// What the looks found, read by every request.
pub(super) struct Looks {
    presence: AtomicU8,
    /// Milliseconds from `began` to the end of the last look.
    pub(super) last_ms: AtomicU64,
    pub(super) began: Instant,
    /// The directory has names to count: some FUSE filesystems say that it has none from the start.
    pub(super) counts_names: bool,
    /// `.sluice` was missing at the last look.
    pub(super) is_own_missing: AtomicBool,
    /// One look at a time.
    pub(super) looking: Mutex<()>,
    pub(super) bell: Arc<Bell>,
}

/// Rung for a look at once, or for the end.
#[derive(Default)]
pub(super) struct Bell {
    state: Mutex<Ring>,
    rung: Condvar,
}

#[derive(Default)]
struct Ring {
    is_wanted: bool,
    is_stopped: bool,
}

impl Looks {
    pub(super) fn new(root: &OwnedFd) -> Self {
        Self {
            counts_names: sys::stat::of(root).is_ok_and(|stat| stat.nlink > 0),
            presence: AtomicU8::new(Presence::Here as u8),
            last_ms: AtomicU64::new(0),
            began: Instant::now(),
            is_own_missing: AtomicBool::new(false),
            looking: Mutex::default(),
            bell: Arc::default(),
        }
    }

    pub(super) fn presence(&self) -> Presence {
        Presence::of(self.presence.load(Ordering::Relaxed))
    }

    pub(super) fn set(&self, now: Presence) -> Presence {
        Presence::of(self.presence.swap(now as u8, Ordering::Relaxed))
    }

    /// Whether the last look is so long ago that it must hang in the filesystem.
    pub(super) fn hangs(&self) -> bool {
        let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
        // Before the thread was started nobody looks.
        !last.is_zero() && self.began.elapsed().saturating_sub(last) > PRESENCE_AGE_MAX
    }
}

impl Bell {
    /// Asks for a look now.
    pub(super) fn ring(&self) {
        self.lock().is_wanted = true;
        self.rung.notify_one();
    }

    /// Ends it.
    pub(super) fn stop(&self) {
        self.lock().is_stopped = true;
        self.rung.notify_one();
    }

    /// Waits so long, or until it rings: whether to stop.
    pub(super) fn wait(&self, duration: Duration) -> bool {
        let state = self.lock();
        let waited = self.rung.wait_timeout_while(state, duration, |state| !state.is_wanted && !state.is_stopped);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_wanted = false;
        state.is_stopped
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
