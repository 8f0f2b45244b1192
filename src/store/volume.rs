//! The served directory: what its filesystem can do, found out at start and not by a failing request, and the few open
//! directories that everything else starts from.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::barrier::{Barrier, Method};

use super::list::{SnapshotCache, SnapshotUse};
use super::locks::KeyLocks;
use super::multipart::{self, Uploads};
use super::spill::Spills;
use super::unsynced::Unsynced;
use crate::config::Durability;
use crate::limits::LISTING_CACHE_SIZE_DEFAULT;
use crate::sys::filesystem::{self, FileSystemKind};
use crate::sys::mount::Mount;
use crate::sys::path::{OpenFlags, Symlinks};
use crate::sys::stat::DirectAlign;
use crate::sys::{self, Cause, Errno};

/// The name of our own directory, never listed, never served.
pub const OWN_DIRECTORY: &[u8] = b".sluice";

/// The served directory and what goes with it, shared by all cores.
pub struct Volume {
    pub(super) root: OwnedFd,
    /// Named temporaries of this process.
    pub(super) staging: OwnedFd,
    pub(super) uploads: OwnedFd,
    pub(super) spill: Spills,
    pub(super) locks: KeyLocks,
    pub(super) multipart: Uploads,
    /// Held while a bucket appears or disappears.
    buckets: Mutex<()>,
    pub(super) barrier: Barrier,
    pub(super) snapshots: SnapshotCache,
    pub(super) unsynced: Unsynced,

    sync: Sync,
    facts: Facts,
    next_name: AtomicU64,
}

/// What was found out about the filesystem at start.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Name of the filesystem's type.
    pub filesystem: &'static str,
    /// Other machines may change it behind our back.
    pub is_remote: bool,
    /// The kernel tells of every name that changes.
    pub tells_changes: bool,
    /// What O_DIRECT wants; `None` where it is refused.
    pub direct: Option<DirectAlign>,
    /// Files without a name (O_TMPFILE) can be made.
    pub unnamed_files: bool,
    /// Two names can be exchanged in one step.
    pub exchange: bool,
    /// A write that follows a look at the file gives it another mtime than was seen, however soon (multigrain timestamps, since
    /// Linux 6.13; before, a kernel tick).
    pub tells_writes_apart: bool,
    /// One barrier makes all earlier changes durable.
    pub shared_barrier: bool,
    /// The effective way to durability, in words, for the start message.
    pub durability: &'static str,
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
    /// The directory folds case: two keys would be one file.
    FoldsCase,
    /// The barrier's thread could not be started.
    Thread,
}

impl Volume {
    /// Opens `directory` for serving: probes it, sweeps what an earlier process left. The caller holds the directory's lock
    /// (`.sluice/locks/server`): nobody else's temporaries are swept.
    pub fn open(directory: &[u8], durability: Durability) -> Result<Self, VolumeError> {
        let root = sys::path::open_root(directory).map_err(VolumeError::Open)?;
        if sys::stat::folds_case(&root).unwrap_or(false) {
            return Err(VolumeError::FoldsCase);
        }
        let own = ensure_directory(&root, OWN_DIRECTORY)?;
        let staging = ensure_directory(&own, b"staging")?;
        super::sweep::remove_all(&staging);
        let (uploads, spill) = (ensure_directory(&own, b"uploads")?, ensure_directory(&own, b"spill")?);
        let mut facts = probe(&root, &staging)?;
        let sync = match durability {
            Durability::Acked if facts.shared_barrier => Sync::Barrier,
            Durability::Acked | Durability::Strict => Sync::Each,
            Durability::Relaxed => Sync::Never,
        };
        facts.durability = match (durability, sync) {
            (Durability::Acked, Sync::Barrier) => "acked (one barrier shared by all changes before it)",
            (Durability::Acked, _) => "acked (each file and directory synced: this filesystem has no shared journal)",
            (Durability::Strict, _) => "strict (each file and directory synced)",
            (Durability::Relaxed, _) => "RELAXED: an acknowledged change may be lost at a power cut",
        };
        let method = match sync {
            Sync::Barrier => Method::ChangedDirectory,
            // Over a network fsync answers for itself, and a change costs a round trip.
            Sync::Each if !facts.is_remote => Method::Alive,
            Sync::Each | Sync::Never => Method::Nothing,
        };
        let barrier = Barrier::start(own, method).map_err(|_| VolumeError::Thread)?;
        let volume = Self {
            root,
            staging,
            uploads,
            spill: Spills::new(spill),
            locks: KeyLocks::new(),
            multipart: Uploads::default(),
            buckets: Mutex::new(()),
            barrier,
            snapshots: SnapshotCache::new(if facts.is_remote { 0 } else { LISTING_CACHE_SIZE_DEFAULT }, facts.tells_changes),
            unsynced: Unsynced::default(),

            sync,
            facts,
            next_name: AtomicU64::new(0),
        };
        multipart::sweep_completed(&volume);
        Ok(volume)
    }

    /// For one who makes or removes a bucket: the look, the directory and its uploads are one step to every other.
    pub(super) fn lock_buckets(&self) -> MutexGuard<'_, ()> {
        // It guards no data.
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found out at start.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The barrier that every acknowledged change waits for.
    pub fn barrier(&self) -> &Barrier {
        &self.barrier
    }

    /// How the snapshots of directories were used.
    pub fn snapshot_use(&self) -> SnapshotUse {
        self.snapshots.usage()
    }

    /// Whether changes can be acknowledged: false after a failed fsync.
    pub fn takes_changes(&self) -> bool {
        !self.barrier.has_failed()
    }

    /// Whether several commits in one visit of a helper cost less than each by itself: not where each waits for its own fsync.
    pub fn commits_together(&self) -> bool {
        self.sync != Sync::Each
    }

    pub(super) fn sync(&self) -> Sync {
        self.sync
    }

    /// Whether a directory that was just opened may lie below one whose name is not durable yet.
    pub(super) fn has_unsynced(&self) -> bool {
        self.sync == Sync::Each && !self.unsynced.is_empty()
    }

    /// A name that no other temporary of this process has. Fixed in length, so that a key of 255 bytes can be overwritten.
    pub(super) fn temporary_name(&self) -> Vec<u8> {
        format!("{:016x}", self.next_name.fetch_add(1, Ordering::Relaxed)).into_bytes()
    }
}

fn ensure_directory(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, VolumeError> {
    match sys::path::mkdir(parent, name, 0o700) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(VolumeError::OwnDirectory(errno)),
    }
    sys::path::open_dir(parent, name, Symlinks::Deny).map_err(VolumeError::OwnDirectory)
}

/// Tries everything that the server relies on, on a file of its own.
fn probe(root: &OwnedFd, staging: &OwnedFd) -> Result<Facts, VolumeError> {
    let kind = filesystem::of(root).map_err(VolumeError::Open)?.kind;
    let unnamed_files = sys::path::open_unnamed(staging, b"", 0o600, false, Symlinks::Deny).is_ok();
    let name = b"probe".as_slice();
    let file = sys::path::create_new(staging, name, 0o600, false).map_err(VolumeError::OwnDirectory)?;
    let attribute = sys::xattr::write(&file, c"user.sluice.probe", b"1");
    let direct =
        sys::path::open(staging, name, OpenFlags::RDWR | OpenFlags::DIRECT, 0, Symlinks::Deny).ok().map(|_| alignment_of(&file));
    let exchange =
        sys::path::mkdir(staging, b"probe-2", 0o700).is_ok() && sys::path::exchange(staging, name, staging, b"probe-2").is_ok();
    let tells_writes_apart = !kind.is_remote() && tells_writes_apart(&file).unwrap_or(false);
    super::sweep::remove_all(staging);
    attribute.map_err(VolumeError::NoAttributes)?;
    let shared_barrier = has_one_journal(kind, root);
    Ok(Facts {
        filesystem: kind.name(),
        is_remote: kind.is_remote(),
        tells_changes: kind.tells_changes(),
        direct,
        unnamed_files,
        exchange,
        tells_writes_apart,
        shared_barrier,
        durability: "",
    })
}

/// Several times, since a tick may end between two writes, and so fast that it cannot have ended between every two: the shortest is
/// a millisecond. A machine too slow for that is taken for one that does not tell.
fn tells_writes_apart(file: &OwnedFd) -> Result<bool, Errno> {
    const TIMES: usize = 8;
    const TICK_MIN: Duration = Duration::from_millis(1);
    let started = Instant::now();
    let mut seen = sys::stat::of(file)?.mtime_ns;
    for _ in 0..TIMES {
        sys::file::write_all_at(file, b"1", 0)?;
        let now = sys::stat::of(file)?.mtime_ns;
        if now == std::mem::replace(&mut seen, now) {
            return Ok(false);
        }
    }
    Ok(started.elapsed() < TICK_MIN * (TIMES as u32 - 1))
}

/// What O_DIRECT wants on a file that was opened with it. Filesystems that do not say (JuiceFS, older kernels) take 4,096 bytes.
fn alignment_of(file: &OwnedFd) -> DirectAlign {
    sys::stat::direct_align(file).ok().flatten().unwrap_or(DirectAlign { memory: 4096, offset: 4096 })
}

/// What can be said about a directory without serving it: nothing is left in it, and a server that has it is not disturbed.
pub struct Survey {
    pub root: OwnedFd,
    pub shared_barrier: bool,
    /// `None` where the file for this test could not be made: the directory is not ours to write, or has no O_TMPFILE.
    pub direct: Option<Result<DirectAlign, Errno>>,
}

/// Looks at a directory as `Volume::open` would.
pub fn survey(directory: &[u8]) -> Result<Survey, VolumeError> {
    let root = sys::path::open_root(directory).map_err(VolumeError::Open)?;
    let kind = filesystem::of(&root).map_err(VolumeError::Open)?.kind;
    let direct = match sys::path::open_unnamed(&root, b"", 0o600, true, Symlinks::Deny) {
        Ok(file) => Some(Ok(alignment_of(&file))),
        Err(refused) => sys::path::open_unnamed(&root, b"", 0o600, false, Symlinks::Deny).is_ok().then_some(Err(refused)),
    };
    let shared_barrier = has_one_journal(kind, &root);
    Ok(Survey { root, shared_barrier, direct })
}

/// Whether one fsync of a changed directory makes durable everything that was published before it: ext4 with a journal, and
/// XFS without a realtime device (DESIGN §5). Anything that cannot be established counts as no.
fn has_one_journal(kind: FileSystemKind, root: &OwnedFd) -> bool {
    let Some(mount) = Mount::of(root) else { return false };
    match kind {
        FileSystemKind::Ext if mount.filesystem == "ext4" => {
            let device = mount.source.rsplit('/').next().unwrap_or_default();
            // ext4 answers `<none>` where it has no journal.
            let journal = std::fs::read_to_string(format!("/sys/fs/ext4/{device}/journal_task"));
            journal.is_ok_and(|task| task.trim().parse::<u32>().is_ok())
        }
        FileSystemKind::Xfs => !mount.options.contains("rtdev="),
        _ => false,
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
            Self::FoldsCase => {
                "the directory ignores case (chattr +F): two keys would be one file; serve a directory without casefold".into()
            }
            Self::Thread => "a thread could not be started: raise the limit on processes (ulimit -u)".into(),
        }
    }

    /// Whether the filesystem itself is broken or full rather than misconfigured.
    pub fn cause(self) -> Option<Cause> {
        match self {
            Self::Open(errno) | Self::OwnDirectory(errno) | Self::NoAttributes(errno) => Some(sys::errno::cause(errno)),
            Self::FoldsCase | Self::Thread => None,
        }
    }
}
