//! Is what we serve still there, at its path? A thread looks once a second, and at once when a change met something odd.
//!
//! The directory was opened at start, and is held: whatever somebody does to its name, no other tree is ever served in its place.
//! While the path leads nowhere or elsewhere, changes are refused, since whoever moved it away means it to be at rest; when the same
//! directory is back, all goes on. One that was removed answers nothing at all any more: its emptiness is not that of a bucket.
//!
//! What is missing in `.sluice` is made again. The same look finds out that a filesystem which was full at start, so that nothing
//! could be tried on it, has room.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::presence::{Bell, Presence};
use super::root::Disk;
use crate::limits::PRESENCE_INTERVAL;
use crate::sys::{self, Errno};

impl Disk {
    /// Asks for a look now: a change met something that only somebody else's hand explains.
    pub(in crate::store) fn suspect(&self) {
        self.looks.bell.ring();
    }

    /// Whether the directory was removed: asked where a bucket is missing, so that an empty answer is never taken for the truth.
    pub(super) fn is_removed(&self) -> bool {
        // Some do not know a removed directory at all (FUSE).
        let is_removed = (self.looks.counts_names && sys::stat::of(&self.root).is_ok_and(|stat| stat.nlink == 0))
            || sys::stat::at(&self.root, b".").is_err_and(sys::errno::is_gone);
        if is_removed {
            self.note(Presence::Gone);
        }
        is_removed
    }

    /// One look. `uploads_lost` is called when the uploads' directory was removed, or replaced, and is made again.
    pub(in crate::store) fn look(&self, uploads_lost: &dyn Fn()) {
        let _alone = self.looks.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let presence = self.find_root();
        self.note(presence);
        if presence == Presence::Here {
            self.restore(uploads_lost);
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
    fn restore(&self, uploads_lost: &dyn Fn()) {
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
        match self.open_own_again() {
            Ok(()) => {
                if missing.uploads || missing.directory {
                    // What is in use is no upload any more: its parts would be acknowledged and lost.
                    uploads_lost();
                }
                tracing::warn!(
                    names,
                    "somebody has removed or replaced what the server keeps in the served directory; it was made again. Uploads and \
                     metadata above 2 KiB that were in there are lost"
                );
            }
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
    /// Starts the thread, which looks at `disk` by calling `look`.
    pub fn start(disk: &Disk, look: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let bell = disk.looks.bell.clone();
        let rung = bell.clone();
        std::thread::Builder::new().name("lookout".into()).spawn(move || {
            loop {
                look();
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
        self.bell.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Durability;
    use crate::store::buckets;
    use crate::store::error::StoreError;
    use crate::store::volume::Volume;

    struct Fixture {
        top: tempfile::TempDir,
        volume: Volume,
    }

    impl Fixture {
        fn new() -> Self {
            let top = tempfile::tempdir().unwrap();
            std::fs::create_dir(top.path().join("data")).unwrap();
            let volume = Volume::open(top.path().join("data").as_os_str().as_encoded_bytes(), Durability::Relaxed).unwrap();
            buckets::create(volume.bucket("bucket"), volume.uploads()).unwrap();
            Self { top, volume }
        }

        fn look(&self) -> (Presence, bool) {
            self.volume.look();
            (self.volume.disk().presence(), self.volume.disk().takes_changes())
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
            buckets::list(fixture.volume.disk(), &buckets::BucketsQuery { prefix: "", after: "", max: 9 }).unwrap().0.len(),
            1,
            "reads go on"
        );
        assert_eq!(
            buckets::create(fixture.volume.bucket("other"), fixture.volume.uploads()).unwrap_err(),
            StoreError::VolumeFailed
        );
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
        assert_eq!(fixture.volume.bucket("bucket").head().unwrap_err(), StoreError::VolumeFailed);
        assert_eq!(fixture.volume.disk().presence(), Presence::Gone);
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
