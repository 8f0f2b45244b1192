//! The served directory: the few open directories that everything else starts from, and what all who use it share.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::barrier::{Barrier, Method};
use super::error::VolumeError;
use super::homes::Homes;
use super::inherit;
use super::locks::KeyLocks;
use super::naming;
use super::own::Own;
use super::pins::Pins;
use super::presence::{Looks, Presence};
use super::probe::{self, Facts, Untried};
use super::reading::Reading;
use super::rules::Rules;
use super::staging::Staging;
use super::turns::{KeyTurns, Share, Take};
use super::unsynced::Unsynced;
use super::watch::Watcher;
use crate::config::Durability;
use crate::store::error::{Result, StoreError};
use crate::sys::{self, Errno};

/// The served directory and what goes with it, shared by all cores.
pub struct Disk {
    pub(in crate::store) root: OwnedFd,
    /// As the operator named it.
    pub(super) path: Vec<u8>,
    /// `None` while it is not there and cannot be made: on a full filesystem that never was served.
    own: ArcSwapOption<Own>,
    /// Where names are staged that cannot come from ours.
    pub(super) homes: Homes,
    /// What points to spilled records.
    pub(super) pins: Pins,
    pub(in crate::store) locks: KeyLocks,
    turns: Arc<KeyTurns>,
    /// What changes to buckets must keep.
    pub(super) rules: ArcSwap<Rules>,
    /// Held while a bucket appears or disappears.
    buckets: Mutex<()>,
    barrier: Barrier,
    /// Who tells of changes in its directories, where the kernel does.
    watcher: Option<Arc<Watcher>>,
    pub(super) unsynced: Unsynced,
    pub(super) looks: Looks,

    sync: Sync,
    untried: Facts,
    /// Set once everything could be tried.
    tried: OnceLock<Facts>,
    /// Why nothing could be.
    refused: Mutex<Errno>,
    /// The attribute of this machine's security labels.
    pub(in crate::store) label: Option<&'static CStr>,
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

impl Disk {
    /// Tries what the filesystem of `root` can do, which was reached by `path`. One that is full, or read-only, is served as far as
    /// it goes. What an earlier process left in `.sluice` is still there (`volume`).
    pub(in crate::store) fn open(root: OwnedFd, path: &[u8], durability: Durability) -> std::result::Result<Self, VolumeError> {
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
        Ok(Self {
            path: path.to_vec(),
            own: ArcSwapOption::from(own.map(Arc::new)),
            homes: Homes::default(),
            pins: Pins::default(),
            locks: KeyLocks::new(),
            turns: Arc::default(),
            rules: ArcSwap::default(),
            buckets: Mutex::new(()),
            barrier: Barrier::start(barrier_at, method).map_err(|_| VolumeError::Thread)?,
            watcher: Watcher::start(),
            unsynced: Unsynced::default(),
            looks: Looks::new(&root),

            root,
            sync,
            tried: if is_tried { OnceLock::from(facts.clone()) } else { OnceLock::new() },
            untried: facts,
            refused: Mutex::new(refused),
            label,
        })
    }

    /// From now on these hold, for every change that is answered after this returns: it waits for those that are being made.
    pub fn use_rules(&self, rules: Rules) {
        self.rules.store(Arc::new(rules));
        self.locks.wait_for_each();
    }

    /// For one who makes or removes a bucket: the look, the directory and its uploads are one step to every other.
    pub(in crate::store) fn lock_buckets(&self) -> MutexGuard<'_, ()> {
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
    pub(in crate::store) fn own(&self) -> Result<Arc<Own>> {
        match self.own_if_any() {
            Some(own) if self.is_tried() => Ok(own),
            _ => Err(StoreError::Kernel(*self.lock_refused())),
        }
    }

    /// Our directories, to look into.
    pub(in crate::store) fn own_if_any(&self) -> Option<Arc<Own>> {
        self.own.load_full()
    }

    /// Where names are on their way, for a change.
    pub(in crate::store) fn staging(&self) -> Result<Arc<Staging>> {
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

    /// Opens our directories again, and makes those that are missing.
    pub(super) fn open_own_again(&self) -> sys::Result<()> {
        self.use_own(Own::open(&self.root)?)
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

    /// How its directories are read.
    pub(in crate::store) fn reading(&self) -> Reading<'_> {
        let Facts { grain, tells_changes: is_told, is_remote, .. } = *self.facts();
        Reading { grain, is_told, is_remote, watcher: self.watcher.as_ref() }
    }

    /// Moves a name to where nothing is: EEXIST otherwise, and then nothing has happened.
    pub(in crate::store) fn rename_new(&self, from_dir: &OwnedFd, from: &[u8], to_dir: &OwnedFd, to: &[u8]) -> sys::Result<()> {
        naming::rename_new(self.facts().new_names, from_dir, from, to_dir, to)
    }

    /// Whether several commits in one visit of a helper cost less than each by itself: not where each waits for its own fsync.
    pub fn commits_together(&self) -> bool {
        self.sync != Sync::Each
    }

    /// See `Bucket::turn`.
    pub(super) fn take_turn(&self, bucket: &str, key: &[u8], is_shared: bool) -> Take {
        let share = if is_shared && self.commits_together() { Share::With(std::thread::current().id()) } else { Share::Alone };
        self.turns.take(bucket, key, share)
    }

    /// Whether each change is synced by itself.
    pub(super) fn syncs_each(&self) -> bool {
        self.sync == Sync::Each
    }

    /// Whether a directory that was just opened may lie below one whose name is not durable yet.
    pub(in crate::store) fn has_unsynced(&self) -> bool {
        self.syncs_each() && !self.unsynced.is_empty()
    }

    /// Where no shared barrier does it: these, one after the other. No change is acknowledged after one that fails.
    pub(in crate::store) fn sync_each(&self, files: &[&OwnedFd]) -> Result<()> {
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

    /// Before a file's bytes are relied on: no dirty page left, or synced where no shared barrier does it.
    pub(in crate::store) fn push(&self, file: &OwnedFd) -> Result<()> {
        match self.sync {
            Sync::Barrier => Ok(sys::file::write_back(file)?),
            Sync::Each => self.sync_each(&[file]),
            Sync::Never => Ok(()),
        }
    }

    /// Waits until no page of a file is dirty, where its name needs that; where each is synced, `sync_each` comes after this.
    pub(in crate::store) fn clean(&self, file: &OwnedFd) -> Result<()> {
        #[cfg(feature = "seams")]
        if super::seams::mutant() == super::seams::Mutant::Dirty {
            return Ok(());
        }
        match self.sync {
            Sync::Barrier => Ok(sys::file::write_back(file)?),
            Sync::Each | Sync::Never => Ok(()),
        }
    }

    /// Begins what `clean` waits for.
    pub(in crate::store) fn start_cleaning(&self, file: &OwnedFd) -> Result<()> {
        #[cfg(feature = "seams")]
        if super::seams::mutant() == super::seams::Mutant::Dirty {
            return Ok(());
        }
        match self.sync {
            Sync::Barrier => Ok(sys::file::start_write_back(file)?),
            Sync::Each | Sync::Never => Ok(()),
        }
    }
}

/// Opens our directories, and tries what the filesystem can do.
fn open_and_try(root: &OwnedFd) -> std::result::Result<(Own, Facts), Untried> {
    let refused = |errno| match sys::errno::is_no_room(errno) {
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
