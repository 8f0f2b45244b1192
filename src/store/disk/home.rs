//! Where are names staged for a directory? In `.sluice/staging`, unless nothing can be linked or renamed from there: into another
//! subvolume of Btrfs, a directory with another project id (ext4, XFS, Lustre), another quota realm of CephFS. Then in a hidden
//! directory, `.sluice%h`, of the topmost directory on the way that is no more apart: the bucket's own, or one in it.
//!
//! Nothing is asked beforehand, for nearly everybody has one filesystem without such borders: EXDEV tells. What was found is
//! remembered by device and inode, and asked anew when that answers EXDEV, or is gone. The paths of hidden directories stand in
//! `.sluice/homes`, so that the next start sweeps them too.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::displace::Spot;
use super::staging::Staging;
use super::tree::{self, directories_in};
use crate::base::hex;
use crate::digest::Sha256;
use crate::limits::HOMES_KNOWN_MAX;
use crate::store::error::{Result, StoreError};
use crate::store::volume::{Volume, sweep};
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno};

/// A hidden directory of ours in a bucket. No key is there (`key`).
pub(in crate::store) const HOME: &[u8] = b".sluice%h";
const STAGING: &[u8] = b"staging";
const PRIVATE: u32 = 0o700;

/// The hidden directories that this process has met.
#[derive(Default)]
pub(in crate::store) struct Homes {
    /// Whether there is any: without one nobody asks further.
    are_any: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// By device and inode of a directory in which names are given.
    by_directory: HashMap<Identity, Arc<Staging>>,
    /// By its own, each once: it counts its names.
    all: HashMap<Identity, Arc<Staging>>,
}

type Identity = (u64, u64);

fn identity(directory: &OwnedFd) -> sys::Result<Identity> {
    sys::stat::of(directory).map(|stat| (stat.device, stat.inode))
}

impl Homes {
    fn lock(&self) -> MutexGuard<'_, Known> {
        // What is in there is whole between any two statements.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::store) fn are_any(&self) -> bool {
        self.are_any.load(Ordering::Relaxed)
    }

    fn of(&self, directory: &OwnedFd) -> Option<Arc<Staging>> {
        if !self.are_any() {
            return None;
        }
        let identity = identity(directory).ok()?;
        self.lock().by_directory.get(&identity).cloned()
    }

    fn remember(&self, directory: &OwnedFd, staging: &Arc<Staging>) {
        let Ok(identity) = identity(directory) else { return };
        let mut known = self.lock();
        if known.by_directory.len() >= HOMES_KNOWN_MAX {
            known.by_directory.clear();
        }
        known.by_directory.insert(identity, staging.clone());
    }

    fn forget(&self, directory: &OwnedFd) {
        if let Ok(identity) = identity(directory) {
            self.lock().by_directory.remove(&identity);
        }
    }

    /// The one of `home`, which is open.
    fn staging(&self, directory: OwnedFd, home: OwnedFd, path: &[u8]) -> sys::Result<Arc<Staging>> {
        let identity = identity(&directory)?;
        let mut known = self.lock();
        self.are_any.store(true, Ordering::Relaxed);
        let made = || Arc::new(Staging::new(directory, home, format!("{}/", String::from_utf8_lossy(path))));
        Ok(known.all.entry(identity).or_insert_with(made).clone())
    }
}

/// Does `act` with the place for names on their way to `spot`. It must answer `Foreign` for EXDEV, and then have done nothing.
pub(in crate::store) fn with<T>(volume: &Volume, spot: Spot<'_>, mut act: impl FnMut(&Arc<Staging>) -> Result<T>) -> Result<T> {
    let known = volume.homes.of(spot.directory);
    let is_known = known.is_some();
    let staging = known.map_or_else(|| volume.staging(), Ok)?;
    match act(&staging) {
        // A name on the way is gone too if somebody has removed the hidden directory.
        Err(StoreError::Kernel(Errno::NOENT)) if is_known => {}
        Err(StoreError::Foreign) => {}
        answer => return answer,
    }
    volume.homes.forget(spot.directory);
    let apart = Apart::of(spot.directory)?;
    for path in ways(&tree::path_of(spot.bucket, spot.folder)) {
        let top = match sys::path::open_dir(&volume.root, path, Symlinks::Deny) {
            Ok(top) => top,
            Err(errno) if sys::errno::is_gone(errno) => break,
            Err(errno) => return Err(errno.into()),
        };
        if Apart::of(&top)? != apart {
            continue;
        }
        let staging = open(volume, &top, path)?;
        match act(&staging) {
            Err(StoreError::Foreign) => {}
            answer => {
                volume.homes.remember(spot.directory, &staging);
                return answer;
            }
        }
    }
    Err(StoreError::Foreign)
}

/// `a`, `a/b`, `a/b/c`.
fn ways(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end).chain([path.len()]);
    ends.map(|end| &path[..end])
}

/// What tells a directory from one that it cannot be linked or renamed to, as far as the kernel says.
#[derive(PartialEq, Eq)]
struct Apart {
    /// Of a subvolume.
    device: u64,
    project: Option<u32>,
}

impl Apart {
    fn of(directory: &OwnedFd) -> Result<Self> {
        Ok(Self { device: sys::stat::of(directory)?.device, project: sys::stat::project_of(directory) })
    }
}

/// Opens the hidden directory in `top`, made if need be. Its path is written down first.
fn open(volume: &Volume, top: &OwnedFd, path: &[u8]) -> Result<Arc<Staging>> {
    let path = [path, b"/", HOME].concat();
    if sys::stat::at(top, HOME).is_err() {
        // Without room for that it is swept when it is known again.
        let _ = write_down(volume, &path);
    }
    let home = ensure(top, HOME)?;
    let directory = ensure(&home, STAGING)?;
    Ok(volume.homes.staging(directory, home, &path)?)
}

fn ensure(parent: &OwnedFd, name: &[u8]) -> sys::Result<OwnedFd> {
    match sys::path::mkdir(parent, name, PRIVATE) {
        Ok(()) | Err(Errno::EXIST) => sys::path::open_dir(parent, name, Symlinks::Deny),
        Err(errno) => Err(errno),
    }
}

fn write_down(volume: &Volume, path: &[u8]) -> Result<()> {
    let own = volume.own()?;
    let homes = ensure(&own.directory, b"homes")?;
    match sys::path::create_new(&homes, hex::encode(&Sha256::of(path)).as_bytes(), 0o600, false) {
        Ok(file) => Ok(sys::file::write_all_at(&file, path, 0)?),
        Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// At start: sweeps all that were written down, and forgets those that are gone.
pub(in crate::store) fn sweep_all(volume: &Volume) {
    let Some(own) = volume.own_if_any() else { return };
    let Ok(homes) = sys::path::open_dir(&own.directory, b"homes", Symlinks::Deny) else { return };
    for name in sweep::names_in(&homes) {
        let Some(path) = read_path(&homes, &name) else { continue };
        let opened = sys::path::open_dir(&volume.root, &path, Symlinks::Deny)
            .and_then(|home| Ok((sys::path::open_dir(&home, STAGING, Symlinks::Deny)?, home)));
        match opened {
            Ok((directory, home)) => {
                if let Ok(staging) = volume.homes.staging(directory, home, &path) {
                    sweep::staging(volume, &staging);
                }
            }
            Err(Errno::NOENT | Errno::NOTDIR) => drop(sys::path::unlink(&homes, &name)),
            Err(errno) => {
                tracing::warn!(%errno, path = %String::from_utf8_lossy(&path), "what an earlier process left there stays");
            }
        }
    }
}

/// One that ends as a hidden directory does, and is none of ours to follow otherwise.
fn read_path(homes: &OwnedFd, name: &[u8]) -> Option<Vec<u8>> {
    let file = sys::path::open_read(homes, name, Symlinks::Deny).ok()?;
    let mut path = vec![0; 64 * 1024];
    let size = sys::file::read_full_at(&file, &mut path, 0).ok()?;
    path.truncate(size);
    path.ends_with(&[b"/", HOME].concat()).then_some(path)
}

/// Removes the hidden directory in `top`, if nothing is on its way there and nothing was kept aside: for one who removes `top`.
pub(in crate::store) fn remove(volume: &Volume, top: &OwnedFd) {
    if !volume.homes.are_any() {
        return;
    }
    let Ok(home) = sys::path::open_dir(top, HOME, Symlinks::Deny) else { return };
    let identity = sys::path::open_dir(&home, STAGING, Symlinks::Deny).and_then(|directory| identity(&directory));
    for name in directories_in(volume.reading(), &home).unwrap_or_default() {
        let _ = sys::path::rmdir(&home, &name);
    }
    if sys::path::rmdir(top, HOME).is_ok()
        && let Ok(identity) = identity
    {
        let mut known = volume.homes.lock();
        known.all.remove(&identity);
        known.by_directory.retain(|_, staging| !staging.is(identity));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_begin_at_the_bucket() {
        let all = |path: &'static [u8]| ways(path).map(|way| String::from_utf8_lossy(way).into_owned()).collect::<Vec<_>>();
        assert_eq!(all(b"bucket"), ["bucket"]);
        assert_eq!(all(b"bucket/a/b"), ["bucket", "bucket/a", "bucket/a/b"]);
    }
}
