//! Where are names staged for a directory? In `.sluice/staging`, unless nothing can be linked or renamed from there: into another
//! subvolume of Btrfs, a directory with another project id (ext4, XFS, Lustre), another quota realm of CephFS. Then in a hidden
//! directory, `.sluice%h`, of the topmost directory on the way that is no more apart: the bucket's own, or one in it.
//!
//! Nothing is asked beforehand, for nearly everybody has one filesystem without such borders: EXDEV tells. What was found is
//! remembered by device and inode, and asked anew when that answers EXDEV, or is gone. The paths of hidden directories stand in
//! `.sluice/homes`, so that the next start sweeps them too.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::homes::identity;
use super::own::names_in;
use super::root::Disk;
use super::spot::Spot;
use super::staging::Staging;
use crate::base::hex;
use crate::digest::Sha256;
use crate::store::error::{Result, StoreError};
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno};

/// A hidden directory of ours in a bucket. No key is there (`key`).
const HOME: &[u8] = b".sluice%h";
const STAGING: &[u8] = b"staging";
const PRIVATE: u32 = 0o700;

/// Does `act` with the place for names on their way to `spot`. It must answer `Foreign` for EXDEV, and then have done nothing.
pub(super) fn with<T>(disk: &Disk, spot: Spot<'_>, mut act: impl FnMut(&Arc<Staging>) -> Result<T>) -> Result<T> {
    let known = disk.homes.of(spot.directory);
    let is_known = known.is_some();
    let staging = known.map_or_else(|| disk.staging(), Ok)?;
    match act(&staging) {
        // A name on the way is gone too if somebody has removed the hidden directory.
        Err(StoreError::Kernel(Errno::NOENT)) if is_known => {}
        Err(StoreError::Foreign) => {}
        answer => return answer,
    }
    disk.homes.forget(spot.directory);
    let apart = Apart::of(spot.directory)?;
    for path in ways(&spot.folder_path()) {
        let top = match sys::path::open_dir(&disk.root, path, Symlinks::Deny) {
            Ok(top) => top,
            Err(errno) if sys::errno::is_gone(errno) => break,
            Err(errno) => return Err(errno.into()),
        };
        if Apart::of(&top)? != apart {
            continue;
        }
        let staging = open(disk, &top, path)?;
        match act(&staging) {
            Err(StoreError::Foreign) => {}
            answer => {
                disk.homes.remember(spot.directory, &staging);
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
fn open(disk: &Disk, top: &OwnedFd, path: &[u8]) -> Result<Arc<Staging>> {
    let path = [path, b"/", HOME].concat();
    if sys::stat::at(top, HOME).is_err() {
        // Without room for that it is swept when it is known again.
        let _ = write_down(disk, &path);
    }
    let home = ensure(top, HOME)?;
    let directory = ensure(&home, STAGING)?;
    Ok(disk.homes.staging(directory, home, &path)?)
}

fn ensure(parent: &OwnedFd, name: &[u8]) -> sys::Result<OwnedFd> {
    match sys::path::mkdir(parent, name, PRIVATE) {
        Ok(()) | Err(Errno::EXIST) => sys::path::open_dir(parent, name, Symlinks::Deny),
        Err(errno) => Err(errno),
    }
}

fn write_down(disk: &Disk, path: &[u8]) -> Result<()> {
    let own = disk.own()?;
    let homes = ensure(&own.directory, b"homes")?;
    match sys::path::create_new(&homes, hex::encode(&Sha256::of(path)).as_bytes(), 0o600, false) {
        Ok(file) => Ok(sys::file::write_all_at(&file, path, 0)?),
        Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// At start: has `sweep` settle what lies in each that was written down, and forgets those that are gone.
pub(in crate::store) fn sweep_all(disk: &Disk, mut sweep: impl FnMut(&Arc<Staging>)) {
    let Some(own) = disk.own_if_any() else { return };
    let Ok(homes) = sys::path::open_dir(&own.directory, b"homes", Symlinks::Deny) else { return };
    for name in names_in(&homes) {
        let Some(path) = read_path(&homes, &name) else { continue };
        let opened = sys::path::open_dir(&disk.root, &path, Symlinks::Deny)
            .and_then(|home| Ok((sys::path::open_dir(&home, STAGING, Symlinks::Deny)?, home)));
        match opened {
            Ok((directory, home)) => {
                if let Ok(staging) = disk.homes.staging(directory, home, &path) {
                    sweep(&staging);
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
pub(in crate::store) fn remove(disk: &Disk, top: &OwnedFd) {
    if !disk.homes.are_any() {
        return;
    }
    let Ok(home) = sys::path::open_dir(top, HOME, Symlinks::Deny) else { return };
    let identity = sys::path::open_dir(&home, STAGING, Symlinks::Deny).and_then(|directory| identity(&directory));
    for name in disk.reading().directories_in(&home).unwrap_or_default() {
        let _ = sys::path::rmdir(&home, &name);
    }
    if sys::path::rmdir(top, HOME).is_ok()
        && let Ok(identity) = identity
    {
        disk.homes.forget_removed(identity);
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
