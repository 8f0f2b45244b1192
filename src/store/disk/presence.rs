//! Is what we serve still there, at its path? A thread looks once a second, and at once when a change met something odd.
//!
//! The directory was opened at start, and is held: whatever somebody does to its name, no other tree is ever served in its place.
//! While the path leads nowhere or elsewhere, changes are refused, since whoever moved it away means it to be at rest; when the same
//! directory is back, all goes on. One that was removed answers nothing at all any more: its emptiness is not that of a bucket.
//!
//! What is missing in `.sluice` is made again. The same look finds out that a filesystem which was full at start, so that nothing
//! could be tried on it, has room.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::{PRESENCE_AGE_MAX, PRESENCE_INTERVAL};
use crate::store::volume::Volume;
use crate::sys::{self, Errno};

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
pub(in crate::store) struct Looks {
    presence: AtomicU8,
    /// Milliseconds from `began` to the end of the last look.
    last_ms: AtomicU64,
    began: Instant,
    /// The directory has names to count: some FUSE filesystems say that it has none from the start.
    counts_names: bool,
    /// `.sluice` was missing at the last look.
    is_own_missing: AtomicBool,
    /// One look at a time.
    looking: Mutex<()>,
    bell: Arc<Bell>,
}

#[derive(Default)]
struct Bell {
    state: Mutex<Ring>,
    rung: Condvar,
}

#[derive(Default)]
struct Ring {
    is_wanted: bool,
    is_stopped: bool,
}

impl Looks {
    pub(in crate::store) fn new(root: &OwnedFd) -> Self {
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

    pub(in crate::store) fn presence(&self) -> Presence {
        Presence::of(self.presence.load(Ordering::Relaxed))
    }

    fn set(&self, now: Presence) -> Presence {
        Presence::of(self.presence.swap(now as u8, Ordering::Relaxed))
    }

    /// Whether the last look is so long ago that it must hang in the filesystem.
    pub(in crate::store) fn hangs(&self) -> bool {
        let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
        // Before the thread was started nobody looks.
        !last.is_zero() && self.began.elapsed().saturating_sub(last) > PRESENCE_AGE_MAX
    }
}

impl Volume {
    /// Asks for a look now: a change met something that only somebody else's hand explains.
    pub(in crate::store) fn suspect(&self) {
        let bell = &self.looks.bell;
        bell.state.lock().unwrap_or_else(PoisonError::into_inner).is_wanted = true;
        bell.rung.notify_one();
    }

    /// Whether the directory was removed: asked where a bucket is missing, so that an empty answer is never taken for the truth.
    pub(in crate::store) fn is_removed(&self) -> bool {
        // Some do not know a removed directory at all (FUSE).
        let is_removed = (self.looks.counts_names && sys::stat::of(&self.root).is_ok_and(|stat| stat.nlink == 0))
            || sys::stat::at(&self.root, b".").is_err_and(sys::errno::is_gone);
        if is_removed {
            self.note(Presence::Gone);
        }
        is_removed
    }

    /// One look.
    pub(in crate::store) fn look(&self) {
        let _alone = self.looks.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let presence = self.find_root();
        self.note(presence);
        if presence == Presence::Here {
            self.restore();
            self.try_again();
        }
        let now_ms = u64::try_from(self.looks.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.looks.last_ms.store(now_ms.max(1), Ordering::Relaxed);
    }

    fn find_root(&self) -> Presence {
        match (sys::stat::of_path(&self.path), sys::stat::of(&self.root)) {
            (Ok(found), Ok(root)) if (found.device, found.inode) == (root.device, root.inode) => Presence::Here,
            // This user may not look from above any more, and still has what it opened.
            (Err(Errno::ACCESS | Errno::PERM), Ok(_)) if !self.is_removed() => Presence::Here,
            (Err(errno), _) if !sys::errno::is_gone(errno) => Presence::Unreachable,
            _ if self.is_removed() => Presence::Gone,
            _ => Presence::Away,
        }
    }

    fn note(&self, now: Presence) {
        let before = self.looks.set(now);
        let path = String::from_utf8_lossy(&self.path);
        match now {
            _ if now == before => {}
            Presence::Here => tracing::info!(%path, "the served directory is at its path again: changes are taken"),
            Presence::Away => tracing::error!(
                %path,
                "the served directory was moved away, or something is mounted over it: reads go on from where it is now, changes are \
                 refused. Bring it back, or restart to serve what is at the path now"
            ),
            Presence::Unreachable => tracing::error!(
                %path,
                "the filesystem of the served directory does not answer: changes are refused. If it was mounted anew, restart"
            ),
            Presence::Gone => tracing::error!(
                %path,
                "the served directory was removed: every request is refused. Restart to serve what is at the path now"
            ),
        }
    }

    /// Makes again what is missing in `.sluice`.
    fn restore(&self) {
        let Some(own) = self.own_if_any() else { return };
        let Ok(missing) = own.missing(&self.root) else { return };
        // Whoever removes everything removes this first: a new one would keep him from removing the rest.
        if missing.directory && !self.looks.is_own_missing.swap(true, Ordering::Relaxed) {
            return;
        }
        self.looks.is_own_missing.store(false, Ordering::Relaxed);
        if missing.is_nothing() {
            return;
        }
        let names = missing.names();
        match self.open_own_again(missing) {
            Ok(()) => tracing::warn!(
                names,
                "somebody has removed or replaced what the server keeps in the served directory; it was made again. Uploads and \
                 metadata above 2 KiB that were in there are lost"
            ),
            Err(errno) => {
                tracing::error!(names, %errno, "what the server keeps in the served directory is gone, and cannot be made again")
            }
        }
    }

    /// Tries on the filesystem what could not be tried at start.
    fn try_again(&self) {
        if !self.is_tried() && self.open_and_try().is_ok() {
            tracing::info!(filesystem = self.facts().filesystem, "the filesystem can be written to again: changes are taken");
            for cost in self.facts().costs() {
                tracing::info!("{cost}");
            }
        }
    }
}

/// The thread that looks, until this is dropped.
pub struct Lookout {
    bell: Arc<Bell>,
}

impl Lookout {
    /// Starts the thread; `owner` keeps the volume alive.
    pub fn start<V: Send + 'static>(owner: V, volume: fn(&V) -> &Volume) -> std::io::Result<Self> {
        let bell = volume(&owner).looks.bell.clone();
        let rung = bell.clone();
        std::thread::Builder::new().name("lookout".into()).spawn(move || {
            loop {
                volume(&owner).look();
                if rung.wait(PRESENCE_INTERVAL) {
                    return;
                }
            }
        })?;
        Ok(Self { bell })
    }
}

impl Drop for Lookout {
    /// The thread is not waited for: it may hang in the filesystem.
    fn drop(&mut self) {
        self.bell.state.lock().unwrap_or_else(PoisonError::into_inner).is_stopped = true;
        self.bell.rung.notify_one();
    }
}

impl Bell {
    /// Waits so long, or until it rings: whether to stop.
    fn wait(&self, duration: Duration) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.rung.wait_timeout_while(state, duration, |state| !state.is_wanted && !state.is_stopped);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_wanted = false;
        state.is_stopped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Durability;
    use crate::store::buckets::bucket;
    use crate::store::error::StoreError;

    struct Fixture {
        top: tempfile::TempDir,
        volume: Volume,
    }

    impl Fixture {
        fn new() -> Self {
            let top = tempfile::tempdir().unwrap();
            std::fs::create_dir(top.path().join("data")).unwrap();
            let volume = Volume::open(top.path().join("data").as_os_str().as_encoded_bytes(), Durability::Relaxed).unwrap();
            bucket::create(&volume, "bucket").unwrap();
            Self { top, volume }
        }

        fn look(&self) -> (Presence, bool) {
            self.volume.look();
            (self.volume.presence(), self.volume.takes_changes())
        }

        fn rename(&self, from: &str, to: &str) {
            std::fs::rename(self.top.path().join(from), self.top.path().join(to)).unwrap();
        }
    }

    #[test]
    fn a_directory_that_is_moved_away_comes_back() {
        let fixture = Fixture::new();
        assert_eq!(fixture.look(), (Presence::Here, true));
        fixture.rename("data", "elsewhere");
        assert_eq!(fixture.look(), (Presence::Away, false));
        assert_eq!(
            bucket::list(&fixture.volume, &bucket::BucketsQuery { prefix: "", after: "", max: 9 }).unwrap().0.len(),
            1,
            "reads go on"
        );
        assert_eq!(bucket::create(&fixture.volume, "other").unwrap_err(), StoreError::VolumeFailed);
        std::fs::create_dir_all(fixture.top.path().join("data/another")).unwrap();
        assert_eq!(fixture.look(), (Presence::Away, false), "another directory is not served");
        std::fs::remove_dir_all(fixture.top.path().join("data")).unwrap();
        fixture.rename("elsewhere", "data");
        assert_eq!(fixture.look(), (Presence::Here, true));
    }

    #[test]
    fn a_directory_that_is_removed_answers_nothing() {
        let fixture = Fixture::new();
        std::fs::remove_dir_all(fixture.top.path().join("data")).unwrap();
        // Before any look.
        assert_eq!(bucket::head(&fixture.volume, "bucket").unwrap_err(), StoreError::VolumeFailed);
        assert_eq!(fixture.volume.presence(), Presence::Gone);
        std::fs::create_dir_all(fixture.top.path().join("data/bucket")).unwrap();
        assert_eq!(fixture.look(), (Presence::Gone, false));
        assert!(!fixture.top.path().join("data/.sluice").exists());
    }

    #[test]
    fn what_we_keep_is_made_again() {
        let fixture = Fixture::new();
        let own = fixture.top.path().join("data/.sluice");
        for name in ["staging", "uploads", "spill"] {
            std::fs::remove_dir_all(own.join(name)).unwrap();
        }
        fixture.look();
        assert!(["staging", "uploads", "spill"].iter().all(|name| own.join(name).is_dir()));
        std::fs::remove_dir_all(&own).unwrap();
        fixture.look();
        assert!(!own.exists(), "somebody may be about to remove it all");
        fixture.look();
        assert!(own.join("staging").is_dir());
        assert_eq!(fixture.look(), (Presence::Here, true));
    }
}
