//! What did an earlier process leave? At start, when the instance lock proves that nobody else is at it, staging is cleared of what
//! can be proved ours: by a name of a shape that only we give (`staging`), and by what lies there. What was somebody else's goes
//! back to its place, or is kept aside. Unnamed files have vanished by themselves.

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::displace::{self, Back, Spot, Turning};
use super::key::OBJECT_OF_DIRECTORY;
use super::multipart::{self, is_file_name, is_upload_id};
use super::reading::Reading;
use super::staging::{Identity, Purpose, Staging};
use super::tree::{self, directories_in};
use super::versions;
use super::volume::Volume;
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno, FileKind, FileStat};

/// Settles everything in staging, as far as it goes; what cannot be settled stays for the next start.
pub(super) fn staging(volume: &Volume, staging: &Arc<Staging>) {
    for name in names_in(staging.directory()) {
        let Ok(stat) = sys::stat::at(staging.directory(), &name) else { continue };
        let left = Left { volume, staging, name: &name, stat };
        if left.settle().is_none() {
            let place = Purpose::decode(&name).map(|purpose| purpose.place().to_vec()).unwrap_or_default();
            // It has said why not.
            let _ = staging.keep_aside(&name, &place);
        }
    }
}

/// The names in a directory of ours.
pub(super) fn names_in(directory: &OwnedFd) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut buffer = sys::dir::buffer(32 * 1024);
    let listed = sys::path::open_dir(directory, b"", Symlinks::Deny).and_then(|directory| {
        sys::dir::read(&directory, &mut buffer, |entry| {
            names.push(entry.name.to_vec());
            ControlFlow::<()>::Continue(())
        })
    });
    if let Err(errno) = listed {
        tracing::warn!(%errno, "what an earlier process left in .sluice stays there");
    }
    names
}

/// Removes an upload in staging, or the uploads of a bucket. What is no file of an upload is not ours, and is kept; what cannot be
/// removed now goes at the next start.
pub(super) fn upload(reading: Reading<'_>, staging: &Staging, name: &[u8]) {
    // Again where an upload came into the directory of its bucket, or a part into that of its upload, after that was moved here.
    const ATTEMPTS: usize = 8;
    for _ in 0..ATTEMPTS {
        let Ok(directory) = sys::path::open_dir(staging.directory(), name, Symlinks::Deny) else { return };
        match remove_uploads(reading, &directory).and_then(|()| remove_upload(&directory)) {
            Ok(()) | Err(Leftover::Ours) => {}
            Err(Leftover::Foreign) => {
                // It has said why not.
                let _ = staging.keep_aside(name, b"");
                return;
            }
        }
        if sys::path::rmdir(staging.directory(), name) != Err(Errno::NOTEMPTY) {
            return;
        }
    }
}

/// Why something stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leftover {
    /// It could not be removed, or something came into it.
    Ours,
    /// There is something in it that no upload has.
    Foreign,
}

impl From<Errno> for Leftover {
    fn from(_: Errno) -> Self {
        Self::Ours
    }
}

/// Removes the uploads in this directory.
fn remove_uploads(reading: Reading<'_>, directory: &OwnedFd) -> Result<(), Leftover> {
    let mut all = Ok(());
    for id in directories_in(reading, directory)? {
        let upload = sys::path::open_dir(directory, &id, Symlinks::Deny).map_err(Leftover::from);
        let removed = upload.and_then(|upload| if is_upload_id(&id) { remove_upload(&upload) } else { Err(Leftover::Foreign) });
        match removed.and_then(|()| Ok(sys::path::rmdir(directory, &id)?)) {
            Ok(()) => {}
            // What is somebody's decides.
            Err(Leftover::Foreign) => all = Err(Leftover::Foreign),
            Err(Leftover::Ours) => all = all.and(Err(Leftover::Ours)),
        }
    }
    all
}

/// Removes the files of an upload.
fn remove_upload(directory: &OwnedFd) -> Result<(), Leftover> {
    let (mut names, mut is_whole) = (Vec::<Vec<u8>>::new(), true);
    let mut buffer = sys::dir::buffer(32 * 1024);
    let _ = sys::dir::read(directory, &mut buffer, |entry| {
        if is_file_name(entry.name) && entry.kind_in(directory).is_ok_and(|kind| kind == FileKind::Regular) {
            names.push(entry.name.to_vec());
        } else {
            is_whole = false;
        }
        ControlFlow::<()>::Continue(())
    })?;
    for name in names {
        match sys::path::unlink(directory, &name) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    if is_whole { Ok(()) } else { Err(Leftover::Foreign) }
}

/// Something in staging.
struct Left<'a> {
    volume: &'a Volume,
    staging: &'a Arc<Staging>,
    name: &'a [u8],
    stat: FileStat,
}

/// The place that something has, or is to get again.
struct Found<'a> {
    directory: OwnedFd,
    bucket: &'a str,
    folder: &'a [u8],
    name: &'a [u8],
}

impl Found<'_> {
    fn spot(&self) -> Spot<'_> {
        Spot { directory: &self.directory, bucket: self.bucket, folder: self.folder, name: self.name }
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
            Some(Purpose::Keep) if self.is_file() => versions::settle(self.volume, self.staging, self.name),
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
        upload(self.volume.reading(), self.staging, self.name);
        Some(())
    }

    /// Something else than the file that was to be replaced: it changes places with ours again, which nobody was told of yet.
    fn undo(&self, ours: &Identity, place: &[u8]) -> Option<()> {
        let found = self.find(place)?;
        match found.stat() {
            Some(there) if ours.is(&there) => {
                let back = displace::put_back(self.volume, self.staging, self.name, found.spot(), &|now| ours.is(now));
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
        let _ = displace::give_back(self.volume, self.staging, self.name, found.spot());
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
        let _ = turning.settle(self.volume, found.spot());
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
                if multipart::is_upload(&directory) {
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
        let directory = sys::path::open_dir(&self.volume.root, path, Symlinks::Deny).ok()?;
        let (bucket, folder) = match path.iter().position(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (path, &path[..0]),
        };
        Some(Found { directory, bucket: std::str::from_utf8(bucket).ok()?, folder, name: name.get(1..)? })
    }
}
