//! The served directory: the few open directories that everything else starts from, and what all who use it share.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::barrier::{Barrier, Method};
use super::home::{self, Homes};
use super::list::{SnapshotCache, SnapshotUse};
use super::locks::KeyLocks;
use super::multipart::{self, Uploads};
use super::own::{Missing, Own};
use super::presence::{Looks, Presence};
use super::probe::{self, Untried};
use super::rules::Rules;
use super::spill::Spills;
use super::staging::Staging;
use super::turns::{KeyTurns, Share, Take};
use super::unsynced::Unsynced;
use super::{Result, StoreError, inherit, sweep};
use crate::config::Durability;
use crate::limits::{REQUEST_MEMORY_DEFAULT, SNAPSHOTS_SHARE};
use crate::mem::RequestMemory;
use crate::sys::{self, Cause, Errno};

pub use super::own::OWN_DIRECTORY;
pub use super::probe::{Facts, Survey, survey};

/// The served directory and what goes with it, shared by all cores.
pub struct Volume {
    pub(super) root: OwnedFd,
    /// As the operator named it.
    pub(super) path: Vec<u8>,
    /// `None` while it is not there and cannot be made: on a full filesystem that never was served.
    own: ArcSwapOption<Own>,
    /// Where names are staged that cannot come from ours.
    pub(super) homes: Homes,
    pub(super) spill: Spills,
    pub(super) locks: KeyLocks,
    turns: Arc<KeyTurns>,
    pub(super) multipart: Uploads,
    /// Held while a bucket appears or disappears.
    buckets: Mutex<()>,
    pub(super) barrier: Barrier,
    pub(super) snapshots: SnapshotCache,
    pub(super) rules: ArcSwap<Rules>,
    pub(super) unsynced: Unsynced,
    pub(super) looks: Looks,

    sync: Sync,
    untried: Facts,
    /// Set once everything could be tried.
    tried: OnceLock<Facts>,
    /// Why nothing could be.
    refused: Mutex<Errno>,
    /// The attribute of this machine's security labels.
    pub(super) label: Option<&'static CStr>,
    kept_aside: usize,
}

/// What a publication does for durability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    /// Nothing of its own: data is pushed, the shared barrier does the rest.
    Barrier,
    /// The file before it is named, then its directory and every ancestor that was made, deepest first.
    Each,
    /// Nothing at all (`durability = relaxed`).
    Never,
}

/// Why a directory cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeError {
    /// The directory itself cannot be opened.
    Open(Errno),
    /// Our own directory in it cannot be made or written.
    OwnDirectory(Errno),
    /// The filesystem has no user extended attributes, where an object's metadata lives.
    NoAttributes(Errno),
    /// No way to give a name that must be new.
    NoNewNames,
    /// A file cannot be synced.
    NoSync(Errno),
    /// A directory cannot be synced, so that no name is known to last.
    NoDirectorySync,
    /// The directory folds case: two keys would be one file.
    FoldsCase,
    /// The barrier's thread could not be started.
    Thread,
}

impl Volume {
    /// Opens `directory` for serving: tries what its filesystem can do, sweeps what an earlier process left. The caller holds the
    /// directory's lock: nobody else's temporaries are swept. A filesystem that is full, or read-only, is served as far as it goes.
    pub fn open(directory: &[u8], durability: Durability) -> std::result::Result<Self, VolumeError> {
        let root = sys::path::open_root(directory).map_err(VolumeError::Open)?;
        Self::serve(root, directory, durability, RequestMemory::new(REQUEST_MEMORY_DEFAULT as usize))
    }

    /// The same for a directory that is open, and was reached by `path`. Snapshots of directories have part of `memory`.
    pub fn serve(
        root: OwnedFd,
        path: &[u8],
        durability: Durability,
        memory: Arc<RequestMemory>,
    ) -> std::result::Result<Self, VolumeError> {
        if sys::stat::folds_case(&root).unwrap_or(false) {
            return Err(VolumeError::FoldsCase);
        }
        let untried = Facts::untried(&root)?;
        let (own, tried, refused) = match open_and_try(&root) {
            Ok((_, facts)) if !facts.syncs_directories && durability != Durability::Relaxed => {
                return Err(VolumeError::NoDirectorySync);
            }
            Ok((own, facts)) => (Some(own), Some(facts), Errno::NOSPC),
            Err(Untried::Refused(error)) => return Err(error),
            // What is there is used; the rest comes when there is room.
            Err(Untried::NoRoom(errno)) => (Own::open(&root).ok(), None, errno),
        };
        let is_tried = tried.is_some();
        let mut facts = tried.unwrap_or(untried);
        let sync = match durability {
            Durability::Acked if facts.shared_barrier => Sync::Barrier,
            Durability::Acked | Durability::Strict => Sync::Each,
            Durability::Relaxed => Sync::Never,
        };
        facts.durability = in_words(durability, sync);
        let method = match sync {
            Sync::Barrier => Method::ChangedDirectory,
            // Over a network fsync answers for itself, and a change costs a round trip.
            Sync::Each if !facts.is_remote => Method::Alive,
            Sync::Each | Sync::Never => Method::Nothing,
        };
        // The served directory itself will do until ours is there.
        let barrier_at = own.as_ref().map_or(&root, |own| &own.directory).try_clone().map_err(|_| VolumeError::Thread)?;
        let label = inherit::label_of(&root);
        let snapshots_size_max = if facts.is_remote { 0 } else { memory.size() / SNAPSHOTS_SHARE };
        let mut volume = Self {
            path: path.to_vec(),
            own: ArcSwapOption::from(own.map(Arc::new)),
            homes: Homes::default(),
            spill: Spills::default(),
            locks: KeyLocks::new(),
            turns: Arc::default(),
            multipart: Uploads::default(),
            buckets: Mutex::new(()),
            barrier: Barrier::start(barrier_at, method).map_err(|_| VolumeError::Thread)?,
            snapshots: SnapshotCache::new(memory, snapshots_size_max, facts.tells_changes),
            rules: ArcSwap::default(),
            unsynced: Unsynced::default(),
            looks: Looks::new(&root),

            root,
            sync,
            tried: if is_tried { OnceLock::from(facts.clone()) } else { OnceLock::new() },
            untried: facts,
            refused: Mutex::new(refused),
            label,
            kept_aside: 0,
        };
        if let Some(own) = volume.own_if_any() {
            sweep::staging(&volume, &own.staging);
            home::sweep_all(&volume);
            multipart::sweep_completed(&volume);
            volume.kept_aside = own.staging.count_aside();
        }
        Ok(volume)
    }

    /// For one who makes or removes a bucket: the look, the directory and its uploads are one step to every other.
    pub(super) fn lock_buckets(&self) -> MutexGuard<'_, ()> {
        // It guards no data.
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found out at start, or since.
    pub fn facts(&self) -> &Facts {
        self.tried.get().unwrap_or(&self.untried)
    }

    /// Why nothing could be tried, while that is so: no room, or a filesystem that is read-only.
    pub fn untried(&self) -> Option<Errno> {
        (!self.is_tried()).then(|| *self.lock_refused())
    }

    pub(super) fn is_tried(&self) -> bool {
        self.tried.get().is_some()
    }

    /// Our directories, for a change: everything was tried.
    pub(super) fn own(&self) -> Result<Arc<Own>> {
        match self.own_if_any() {
            Some(own) if self.is_tried() => Ok(own),
            _ => Err(StoreError::Kernel(*self.lock_refused())),
        }
    }

    /// Our directories, to look into.
    pub(super) fn own_if_any(&self) -> Option<Arc<Own>> {
        self.own.load_full()
    }

    /// Where names are on their way, for a change.
    pub(super) fn staging(&self) -> Result<Arc<Staging>> {
        self.own().map(|own| own.staging.clone())
    }

    fn lock_refused(&self) -> MutexGuard<'_, Errno> {
        // A number is whole at any instant.
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries once more what could not be tried at start.
    pub(super) fn open_and_try(&self) -> std::result::Result<(), Errno> {
        let tried = open_and_try(&self.root).and_then(|(own, facts)| match self.sync {
            // All that was acknowledged so far relied on it.
            Sync::Barrier if !facts.shared_barrier => Err(VolumeError::NoSync(Errno::OPNOTSUPP).into()),
            _ => Ok((own, facts)),
        });
        match tried {
            Ok((own, facts)) => {
                self.use_own(own)?;
                // Only looks come here, one at a time.
                let _ = self.tried.set(Facts { durability: self.untried.durability, ..facts });
                Ok(())
            }
            Err(untried) => {
                let errno = match untried {
                    Untried::NoRoom(errno) => errno,
                    Untried::Refused(error) => {
                        tracing::error!("changes are refused: {}", error.advice());
                        error.errno().unwrap_or(Errno::OPNOTSUPP)
                    }
                };
                *self.lock_refused() = errno;
                Err(errno)
            }
        }
    }

    /// Opens our directories again, of which some are `missing`, and makes those.
    pub(super) fn open_own_again(&self, missing: Missing) -> sys::Result<()> {
        self.use_own(Own::open(&self.root)?)?;
        if missing.uploads || missing.directory {
            // What is in use is no upload any more: its parts would be acknowledged and lost.
            self.multipart.end_everything();
        }
        Ok(())
    }

    fn use_own(&self, own: Own) -> sys::Result<()> {
        self.barrier.use_directory(own.directory.try_clone().map_err(|_| Errno::MFILE)?);
        self.own.store(Some(Arc::new(own)));
        Ok(())
    }

    /// The barrier that every acknowledged change waits for.
    pub fn barrier(&self) -> &Barrier {
        &self.barrier
    }

    /// How the snapshots of directories were used.
    pub fn snapshot_use(&self) -> SnapshotUse {
        self.snapshots.usage()
    }

    /// Lets snapshots of directories go for requests that want so many bytes.
    pub fn give_way(&self, size: usize) {
        self.snapshots.give_way(size);
    }

    /// Whether changes can be acknowledged: not after a failed fsync, nor while the directory is not at its path.
    pub fn takes_changes(&self) -> bool {
        !self.barrier.has_failed() && self.presence() == Presence::Here
    }

    /// Where the directory is.
    pub fn presence(&self) -> Presence {
        self.looks.presence()
    }

    /// Why no new work should come, if it should not.
    pub fn trouble(&self) -> Option<&'static str> {
        if self.barrier.has_failed() {
            return Some("an fsync failed: no change is acknowledged any more");
        }
        let hangs = self.looks.hangs().then_some("the filesystem of the served directory hangs");
        self.presence().reason().or(hangs)
    }

    /// Whether several commits in one visit of a helper cost less than each by itself: not where each waits for its own fsync.
    pub fn commits_together(&self) -> bool {
        self.sync != Sync::Each
    }

    /// Waits, on a core, until it is this request's turn to change a key.
    pub fn turn(&self, bucket: &str, key: &[u8]) -> Take {
        self.turns.take(bucket, key, Share::Alone)
    }

    /// The same for a request whose change is made in company (`commits_together`): those of one core go together.
    pub fn turn_in_company(&self, bucket: &str, key: &[u8]) -> Take {
        let share = if self.commits_together() { Share::With(std::thread::current().id()) } else { Share::Alone };
        self.turns.take(bucket, key, share)
    }

    pub(super) fn sync(&self) -> Sync {
        self.sync
    }

    /// Whether a directory that was just opened may lie below one whose name is not durable yet.
    pub(super) fn has_unsynced(&self) -> bool {
        self.sync == Sync::Each && !self.unsynced.is_empty()
    }

    /// What was found at start in `.sluice/aside`: somebody's, and to be looked after by the operator.
    pub fn kept_aside(&self) -> usize {
        self.kept_aside
    }

    /// Where no shared barrier does it: these, one after the other.
    pub(super) fn sync_each(&self, files: &[&OwnedFd]) -> Result<()> {
        if self.sync != Sync::Each {
            return Ok(());
        }
        for file in files {
            if sys::file::sync(file).is_err() {
                self.barrier.fail();
                return Err(StoreError::VolumeFailed);
            }
        }
        Ok(())
    }
}

/// Opens our directories, and tries what the filesystem can do.
fn open_and_try(root: &OwnedFd) -> std::result::Result<(Own, Facts), Untried> {
    let refused = |errno| match probe::is_no_room(errno) {
        true => Untried::NoRoom(errno),
        false => VolumeError::OwnDirectory(errno).into(),
    };
    let own = Own::open(root).map_err(refused)?;
    let facts = probe::probe(root, own.staging.directory())?;
    Ok((own, facts))
}

fn in_words(durability: Durability, sync: Sync) -> &'static str {
    match (durability, sync) {
        (Durability::Acked, Sync::Barrier) => "acked (one barrier shared by all changes before it)",
        (Durability::Acked, _) => "acked (each file and directory synced: this filesystem has no shared journal)",
        (Durability::Strict, _) => "strict (each file and directory synced)",
        (Durability::Relaxed, _) => "RELAXED: an acknowledged change may be lost at a power cut",
    }
}

impl VolumeError {
    /// Cause and remedy, for the operator.
    pub fn advice(self) -> String {
        match self {
            Self::Open(errno) => {
                format!("the directory cannot be opened ({errno}): name an existing directory that this user may read")
            }
            Self::OwnDirectory(errno) => {
                format!(
                    "`.sluice` in the served directory cannot be made or written ({errno}): the server's user needs write permission there"
                )
            }
            Self::NoAttributes(errno) => format!(
                "the filesystem has no user extended attributes ({errno}), where an object's metadata is kept: mount it with user_xattr, or use ext4 or XFS"
            ),
            Self::NoNewNames => "the filesystem has neither RENAME_NOREPLACE nor hard links: a new object could replace a file that appears \
                                 at the same moment; serve a directory of ext4, XFS, Btrfs or another filesystem that has one of them"
                .into(),
            Self::NoSync(errno) => {
                format!("a file cannot be synced ({errno}), so that nothing could be acknowledged; serve a directory of another filesystem")
            }
            Self::NoDirectorySync => "a directory cannot be synced, so that the name of no object is known to survive a power cut; serve a \
                                      directory of another filesystem, or give --durability relaxed"
                .into(),
            Self::FoldsCase => {
                "the directory ignores case (chattr +F): two keys would be one file; serve a directory without casefold".into()
            }
            Self::Thread => "a thread could not be started: raise the limit on processes (ulimit -u)".into(),
        }
    }

    /// Whether the filesystem itself is broken or full rather than misconfigured.
    pub fn cause(self) -> Option<Cause> {
        self.errno().map(sys::errno::cause)
    }

    fn errno(self) -> Option<Errno> {
        match self {
            Self::Open(errno) | Self::OwnDirectory(errno) | Self::NoAttributes(errno) | Self::NoSync(errno) => Some(errno),
            Self::NoNewNames | Self::NoDirectorySync | Self::FoldsCase | Self::Thread => None,
        }
    }
}
