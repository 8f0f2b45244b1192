//! What did an earlier process leave? At start, when the instance lock proves that nobody else is at it, staging is cleared of what
//! can be proved ours: by a name of a shape that only we give (`staging`), and by what lies there. What was somebody else's goes
//! back to its place, or is kept aside. Unnamed files have vanished by themselves.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::store::disk::displace::{self, Back, Turning};
use crate::store::disk::own::names_in;
use crate::store::disk::spot::Spot;
use crate::store::disk::staging::{Identity, Purpose, Staging};
use crate::store::disk::{Disk, home, tree};
use crate::store::names::key::OBJECT_OF_DIRECTORY;
use crate::store::objects::versions;
use crate::store::uploads;
use crate::sys::path::Symlinks;
use crate::sys::{self, FileKind, FileStat};

/// Settles what is left everywhere; how many things lie in `.sluice/aside` then.
pub(super) fn all(disk: &Disk) -> usize {
    let Some(own) = disk.own_if_any() else { return 0 };
    staging(disk, &own.staging);
    home::sweep_all(disk, |hidden| staging(disk, hidden));
    uploads::sweep_completed(disk);
    own.staging.count_aside()
}

/// Settles everything in one staging directory, as far as it goes; what cannot be settled stays for the next start.
fn staging(disk: &Disk, staging: &Arc<Staging>) {
    for name in names_in(staging.directory()) {
        let Ok(stat) = sys::stat::at(staging.directory(), &name) else { continue };
        let left = Left { disk, staging, name: &name, stat };
        if left.settle().is_none() {
            let place = Purpose::decode(&name).map(|purpose| purpose.place().to_vec()).unwrap_or_default();
            // It has said why not.
            let _ = staging.keep_aside(&name, &place);
        }
    }
}

/// Something in staging.
struct Left<'a> {
    disk: &'a Disk,
    staging: &'a Arc<Staging>,
    name: &'a [u8],
    stat: FileStat,
}

/// The place that something has, or is to get again.
struct Found<'a> {
    directory: OwnedFd,
    top: &'a str,
    folder: &'a [u8],
    name: &'a [u8],
}

impl Found<'_> {
    fn spot(&self) -> Spot<'_> {
        Spot { directory: &self.directory, top: self.top, folder: self.folder, name: self.name }
    }

    /// What has the name now.
    fn stat(&self) -> Option<FileStat> {
        sys::stat::at(&self.directory, self.name).ok()
    }
}

impl Left<'_> {
    /// `None`: it is somebody's, and has no place that it could get again.
    fn settle(&self) -> Option<()> {
        match Purpose::decode(self.name) {
            Some(Purpose::New) if self.is_file() => self.remove(),
            // On its way to become one for `turn`, and empty.
            Some(Purpose::New) if self.stat.kind == FileKind::Directory => {
                sys::path::rmdir(self.staging.directory(), self.name).ok()
            }
            Some(Purpose::Upload | Purpose::Uploads) if self.stat.kind == FileKind::Directory => self.remove_upload(),
            // Ours: not published, or put back. Or what it was to replace.
            Some(Purpose::Swap { ours, what, .. }) if ours.is(&self.stat) || what.is(&self.stat) => self.remove(),
            Some(Purpose::Swap { ours, place, .. }) => self.undo(&ours, &place),
            Some(Purpose::Gone { what, .. }) if what.is(&self.stat) => self.remove(),
            Some(Purpose::Gone { place, .. }) => self.give_back(&place),
            // The same file is in the directory that has taken its place.
            Some(Purpose::Turn { inode, .. }) if self.is_file() && self.stat.inode == inode && self.stat.nlink > 1 => {
                self.remove()
            }
            Some(Purpose::Turn { inode, place }) => self.turn_back(inode, &place),
            Some(Purpose::Keep) if self.is_file() => versions::settle(self.disk, self.staging, self.name),
            Some(Purpose::New | Purpose::Keep | Purpose::Upload | Purpose::Uploads) => None,
            None => self.settle_unmarked(),
        }
    }

    fn is_file(&self) -> bool {
        self.stat.kind == FileKind::Regular
    }

    fn remove(&self) -> Option<()> {
        self.staging.remove(self.name);
        Some(())
    }

    fn remove_upload(&self) -> Option<()> {
        uploads::discard(self.disk.reading(), self.staging, self.name);
        Some(())
    }

    /// Something else than the file that was to be replaced: it changes places with ours again, which nobody was told of yet.
    fn undo(&self, ours: &Identity, place: &[u8]) -> Option<()> {
        let found = self.find(place)?;
        match found.stat() {
            Some(there) if ours.is(&there) => {
                let back = displace::put_back(self.disk, self.staging, self.name, found.spot(), &|now| ours.is(now));
                if back == Ok(Back::Ours) {
                    self.staging.remove(self.name);
                }
                // Otherwise it is kept aside already, or has its name.
                Some(())
            }
            Some(_) => None,
            None => self.give_back(place),
        }
    }

    /// It gets its name again, if nothing else has that.
    fn give_back(&self, place: &[u8]) -> Option<()> {
        let found = self.find(place)?;
        // It is kept aside otherwise.
        let _ = displace::give_back(self.disk, self.staging, self.name, found.spot());
        Some(())
    }

    /// A directory that was to take a file's place; or what had that place instead of the file.
    fn turn_back(&self, inode: u64, place: &[u8]) -> Option<()> {
        if let Some(turning) = self.turning(inode) {
            if turning.dismantle(self.staging, 2) {
                return Some(());
            }
            if turning.holds_nothing_else() {
                // The last name of a file that somebody has removed since.
                return None;
            }
        }
        let found = self.find(place)?;
        if found.stat().is_none() {
            return self.give_back(place);
        }
        let directory = sys::path::open_dir(&found.directory, found.name, Symlinks::Deny).ok()?;
        let is_ours = tree::is_prunable(&directory)
            && sys::stat::at(&directory, OBJECT_OF_DIRECTORY).is_ok_and(|inner| inner.inode == inode);
        let turning = Turning { staging: self.staging.clone(), name: self.name.to_vec(), directory, inode };
        if !is_ours {
            return None;
        }
        // What cannot be settled stays for the next start.
        let _ = turning.settle(self.disk, found.spot());
        Some(())
    }

    /// A directory that we have made and nobody has got yet.
    fn turning(&self, inode: u64) -> Option<Turning> {
        if self.stat.kind != FileKind::Directory {
            return None;
        }
        let directory = sys::path::open_dir(self.staging.directory(), self.name, Symlinks::Deny).ok()?;
        let turning = Turning { staging: self.staging.clone(), name: self.name.to_vec(), directory, inode };
        tree::is_prunable(&turning.directory).then_some(turning)
    }

    /// Earlier builds counted in 16 digits, whatever it was for. A file that has another name is not lost with this one; a
    /// directory of ours with such a file, or an upload, can be told.
    fn settle_unmarked(&self) -> Option<()> {
        let is_number = self.name.len() == 16 && self.name.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match self.stat.kind {
            FileKind::Regular if is_number && self.stat.nlink > 1 => self.remove(),
            FileKind::Directory if is_number => {
                let directory = sys::path::open_dir(self.staging.directory(), self.name, Symlinks::Deny).ok()?;
                if uploads::is_upload(&directory) {
                    return self.remove_upload();
                }
                let inode = sys::stat::at(&directory, OBJECT_OF_DIRECTORY).map_or(0, |inner| inner.inode);
                self.turning(inode)?.dismantle(self.staging, 2).then_some(())
            }
            _ => None,
        }
    }

    /// Where a path leads that stands in a name.
    fn find<'a>(&self, place: &'a [u8]) -> Option<Found<'a>> {
        let (path, name) = place.split_at(place.iter().rposition(|byte| *byte == b'/')?);
        let directory = sys::path::open_dir(&self.disk.root, path, Symlinks::Deny).ok()?;
        let (top, folder) = match path.iter().position(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (path, &path[..0]),
        };
        Some(Found { directory, top: std::str::from_utf8(top).ok()?, folder, name: name.get(1..)? })
    }
}
