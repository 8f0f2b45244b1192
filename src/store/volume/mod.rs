//! What is being served? The disk, with what all who use it share above it: the table of uploads, the snapshots of directories. At its
//! opening what an earlier process left is settled (`sweep`).
//!
//! Imports `uploads`, `listing`, `disk`, `names`; no room of `store` imports it.

#[cfg(test)]
mod race_tests;
mod sweep;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::disk::{Bucket, Disk};
use super::listing::cache::{SnapshotCache, SnapshotUse};
use super::uploads::Uploads;
use crate::config::Durability;
use crate::limits::{REQUEST_MEMORY_DEFAULT, SNAPSHOTS_SHARE};
use crate::mem::RequestMemory;
use crate::store::disk::error::VolumeError;
use crate::sys;

/// The served directory and what goes with it, shared by all cores.
pub struct Volume {
    disk: Arc<Disk>,
    uploads: Uploads,
    snapshots: SnapshotCache,
    kept_aside: usize,
}

impl Volume {
    /// Opens `directory` for serving: tries what its filesystem can do, sweeps what an earlier process left. The caller holds the
    /// directory's lock: nobody else's temporaries are swept. A filesystem that is full, or read-only, is served as far as it goes.
    pub fn open(directory: &[u8], durability: Durability) -> Result<Self, VolumeError> {
        let root = sys::path::open_root(directory).map_err(VolumeError::Open)?;
        Self::serve(root, directory, durability, RequestMemory::new(REQUEST_MEMORY_DEFAULT as usize))
    }

    /// The same for a directory that is open, and was reached by `path`. Snapshots of directories have part of `memory`.
    pub fn serve(root: OwnedFd, path: &[u8], durability: Durability, memory: Arc<RequestMemory>) -> Result<Self, VolumeError> {
        let disk = Arc::new(Disk::open(root, path, durability)?);
        let snapshots_size_max = if disk.facts().is_remote { 0 } else { memory.size() / SNAPSHOTS_SHARE };
        let kept_aside = sweep::all(&disk);
        Ok(Self { disk, uploads: Uploads::default(), snapshots: SnapshotCache::new(memory, snapshots_size_max), kept_aside })
    }

    /// The directory itself.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// The bucket of this name, whether or not it is there.
    pub fn bucket<'a>(&'a self, name: &'a str) -> Bucket<'a> {
        self.disk.bucket(name)
    }

    /// The multipart uploads in use.
    pub fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    /// The snapshots of directories.
    pub fn snapshots(&self) -> &SnapshotCache {
        &self.snapshots
    }

    /// How the snapshots of directories were used.
    pub fn snapshot_use(&self) -> SnapshotUse {
        self.snapshots.usage()
    }

    /// Lets snapshots of directories go for requests that want so many bytes.
    pub fn give_way(&self, size: usize) {
        self.snapshots.give_way(size);
    }

    /// One look at whether the directory is still there (`Lookout`).
    pub fn look(&self) {
        self.disk.look(&|| self.uploads.end_everything());
    }

    /// What was found at start in `.sluice/aside`: somebody's, and to be looked after by the operator.
    pub fn kept_aside(&self) -> usize {
        self.kept_aside
    }
}
