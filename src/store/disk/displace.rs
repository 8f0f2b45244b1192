//! How is a name taken away from what has it? Between the look at a name and the act a POSIX program may put anything there, and
//! no system call compares. So what has the name is never removed by name: it changes places with a file of ours in staging, or is
//! renamed there, and is looked at once more where nobody else reaches it. What is not what was meant goes back the same way; what
//! cannot go back is kept aside (`staging`) and reported.
//!
//! Where a filesystem cannot exchange two names, a look right before the act has to do.

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::Arc;

#[cfg(test)]
use super::meddle::{self, Point};
use super::root::Disk;
use super::spot::Spot;
use super::stage::{Staged, Temporary};
use super::staging::{Identity, Purpose, Staging};
use super::{home, inherit};
use crate::store::error::{Result, StoreError};
use crate::store::names::key::OBJECT_OF_DIRECTORY;
use crate::store::names::record::{DIRECTORY_MADE_BY_PUT, DIRECTORY_NAME};
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno, FileKind, FileStat};

/// What may be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Takes {
    /// The precondition was decided for a name that was not there: a file that a POSIX program makes in between must be looked
    /// at first.
    Nothing,
    /// The file for which the precondition was decided.
    Only(Identity),
    /// Any file, as the last writer wins: but no directory, no symlink, no special file.
    AnyFile,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Outcome {
    Done,
    /// Something else was there, and is there again: look again.
    Again,
}

impl Takes {
    pub(in crate::store) fn takes(self, stat: &FileStat) -> bool {
        match self {
            Self::Nothing => false,
            Self::Only(identity) => identity.is(stat),
            Self::AnyFile => stat.kind == FileKind::Regular,
        }
    }
}

/// Puts a filled file in the place of the one that was `looked` at. Its owner, rights and label must have been taken over.
pub(in crate::store) fn replace(
    disk: &Disk,
    staged: &mut Staged,
    spot: Spot<'_>,
    looked: &FileStat,
    takes: Takes,
) -> Result<Outcome> {
    home::with(disk, spot, |staging| match disk.facts().exchange {
        true => replace_through(disk, staging, staged, spot, looked, takes),
        false => rename_over(staging, staged, spot, takes),
    })
}

fn replace_through(
    disk: &Disk,
    staging: &Arc<Staging>,
    staged: &mut Staged,
    spot: Spot<'_>,
    looked: &FileStat,
    takes: Takes,
) -> Result<Outcome> {
    let ours = Identity::of(&sys::stat::of(&staged.file)?);
    let name = staging.name(&Purpose::Swap { ours, what: Identity::of(looked), place: spot.path() });
    match sys::path::link(&staged.file, staging.directory(), &name) {
        Ok(()) => {}
        // It has a name, and this filesystem takes no second one.
        Err(Errno::PERM | Errno::OPNOTSUPP) if staged.name.is_some() => return rename_over(staging, staged, spot, takes),
        Err(errno) => return Err(errno.into()),
    }
    #[cfg(test)]
    meddle::at(Point::Replace);
    if let Err(errno) = sys::path::exchange(staging.directory(), &name, spot.directory, spot.name) {
        keep_name(staging, staged, name);
        return if errno == Errno::NOENT { Ok(Outcome::Again) } else { Err(errno.into()) };
    }
    #[cfg(test)]
    meddle::at(Point::Taken);
    let taken = sys::stat::at(staging.directory(), &name)?;
    let settled = match takes.takes(&taken) {
        true => keep_rights(disk, staging.directory(), staged, &name, looked, &taken).map(|()| Outcome::Done),
        false => Ok(Outcome::Again),
    };
    if settled == Ok(Outcome::Done) {
        staging.remove(&name);
    } else if put_back(disk, staging, &name, spot, &|now| now.inode == ours.inode())? == Back::Ours {
        keep_name(staging, staged, name);
    }
    settled
}

/// A file that was made or changed after the look has its own owner and rights, which are then kept instead.
pub(in crate::store) fn keep_rights(
    disk: &Disk,
    directory: &OwnedFd,
    staged: &Staged,
    name: &[u8],
    looked: &FileStat,
    taken: &FileStat,
) -> Result<()> {
    let rights = |stat: &FileStat| (stat.inode, stat.uid, stat.gid, stat.mode);
    if rights(taken) != rights(looked) && inherit::from_file(disk.label, &staged.file, directory, name, taken)? {
        disk.sync_each(&[&staged.file])?;
    }
    Ok(())
}

/// A name in staging that our file has again: without another one it needs this for the next attempt, since what was made without
/// a name cannot be linked twice from nothing (linkat(2) answers ENOENT).
pub(in crate::store) fn keep_name(staging: &Arc<Staging>, staged: &mut Staged, name: Vec<u8>) {
    match staged.name {
        None => staged.name = Some(Temporary::named(staging, name)),
        Some(_) => staging.remove(&name),
    }
}

/// The next best thing where names cannot be exchanged.
fn rename_over(staging: &Arc<Staging>, staged: &mut Staged, spot: Spot<'_>, takes: Takes) -> Result<Outcome> {
    let temporary = match &mut staged.name {
        Some(temporary) => temporary,
        none => {
            let temporary = Temporary::new(staging);
            sys::path::link(&staged.file, temporary.directory(), temporary.name())?;
            none.insert(temporary)
        }
    };
    #[cfg(test)]
    meddle::at(Point::Replace);
    match sys::stat::at(spot.directory, spot.name) {
        Ok(stat) if takes.takes(&stat) => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(Outcome::Again),
        Err(errno) => return Err(errno.into()),
    }
    match sys::path::rename(temporary.directory(), temporary.name(), spot.directory, spot.name) {
        Ok(()) => Ok(Outcome::Done),
        Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(Outcome::Again),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes the file that was `looked` at. `Again`: something else has its name, or nothing.
pub(in crate::store) fn remove(disk: &Disk, spot: Spot<'_>, looked: &FileStat, takes: Takes) -> Result<Outcome> {
    // A DELETE must work on a full filesystem, on which there may be no place for names.
    match home::with(disk, spot, |staging| remove_through(disk, staging, spot, looked, takes)) {
        Err(StoreError::Foreign | StoreError::Kernel(_)) => unlink(spot, takes),
        removed => removed,
    }
}

fn remove_through(disk: &Disk, staging: &Staging, spot: Spot<'_>, looked: &FileStat, takes: Takes) -> Result<Outcome> {
    let name = staging.name(&Purpose::Gone { what: Identity::of(looked), place: spot.path() });
    #[cfg(test)]
    meddle::at(Point::Remove);
    match sys::path::rename(spot.directory, spot.name, staging.directory(), &name) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(Outcome::Again),
        Err(errno) => return Err(errno.into()),
    }
    #[cfg(test)]
    meddle::at(Point::Taken);
    let taken = sys::stat::at(staging.directory(), &name)?;
    if takes.takes(&taken) {
        staging.remove(&name);
        return Ok(Outcome::Done);
    }
    give_back(disk, staging, &name, spot)?;
    Ok(Outcome::Again)
}

fn unlink(spot: Spot<'_>, takes: Takes) -> Result<Outcome> {
    match sys::stat::at(spot.directory, spot.name) {
        Ok(stat) if takes.takes(&stat) => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(Outcome::Again),
        Err(errno) => return Err(errno.into()),
    }
    match sys::path::unlink(spot.directory, spot.name) {
        Ok(()) => Ok(Outcome::Done),
        Err(Errno::NOENT) => Ok(Outcome::Again),
        Err(errno) => Err(errno.into()),
    }
}

/// What was taken from a name, and is not ours to remove, gets it again, unless something new has it.
pub(in crate::store) fn give_back(disk: &Disk, staging: &Staging, name: &[u8], spot: Spot<'_>) -> Result<()> {
    #[cfg(test)]
    meddle::at(Point::PutBack);
    match disk.rename_new(staging.directory(), name, spot.directory, spot.name) {
        Ok(()) => disk.sync_each(&[spot.directory, staging.directory()]),
        Err(_) => staging.keep_aside(name, &spot.path()),
    }
}

/// Where our file or directory is after `put_back`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Back {
    /// In staging, under the name that the other had.
    Ours,
    /// Somebody has taken it from the name in between.
    Gone,
}

/// What changed places with something of ours, and is not what was meant, gets its name back; `is_ours` knows ours by its looks.
/// What a third one has put there meanwhile is newer than both, and keeps the name.
pub(in crate::store) fn put_back(
    disk: &Disk,
    staging: &Staging,
    name: &[u8],
    spot: Spot<'_>,
    is_ours: &dyn Fn(&FileStat) -> bool,
) -> Result<Back> {
    #[cfg(test)]
    meddle::at(Point::PutBack);
    match sys::path::exchange(staging.directory(), name, spot.directory, spot.name) {
        Ok(()) => {}
        // The name is free: somebody has removed ours, or moved it away.
        Err(Errno::NOENT) => return give_back(disk, staging, name, spot).map(|()| Back::Gone),
        Err(_) => return staging.keep_aside(name, &spot.path()).map(|()| Back::Gone),
    }
    let is_back = is_ours(&sys::stat::at(staging.directory(), name)?);
    if !is_back {
        // If this fails the third one is kept aside.
        let _ = sys::path::exchange(staging.directory(), name, spot.directory, spot.name);
        staging.keep_aside(name, &spot.path())?;
    }
    disk.sync_each(&[spot.directory, staging.directory()])?;
    Ok(if is_back { Back::Ours } else { Back::Gone })
}

/// A directory of ours in staging that holds a link to a file, and is to take its place.
pub(in crate::store) struct Turning {
    pub(in crate::store) staging: Arc<Staging>,
    /// In staging.
    pub(in crate::store) name: Vec<u8>,
    pub(in crate::store) directory: OwnedFd,
    /// The inode of the file.
    pub(in crate::store) inode: u64,
}

impl Turning {
    /// Makes one for the file that is at `spot`, as if it were made there.
    pub(in crate::store) fn prepare(
        disk: &Disk,
        staging: &Arc<Staging>,
        spot: Spot<'_>,
        file: &OwnedFd,
        inode: u64,
    ) -> Result<Self> {
        let turning = Self::make(staging, spot, inode)?;
        let linked = sys::path::link(file, &turning.directory, OBJECT_OF_DIRECTORY).map_err(StoreError::from);
        match linked.and_then(|()| disk.sync_each(&[&turning.directory])) {
            Ok(()) => Ok(turning),
            Err(error) => {
                turning.dismantle(staging, 1);
                Err(error)
            }
        }
    }

    /// Makes it empty, under a name that nothing of somebody's ever gets, until it has the mark by which it is known as ours.
    fn make(staging: &Arc<Staging>, spot: Spot<'_>, inode: u64) -> Result<Self> {
        let new = staging.name(&Purpose::New);
        sys::path::mkdir(staging.directory(), &new, inherit::DIRECTORY_MODE)?;
        let name = staging.name(&Purpose::Turn { inode, place: spot.path() });
        let made = Self::mark(staging, spot, &new).and_then(|directory| {
            sys::path::rename(staging.directory(), &new, staging.directory(), &name)?;
            Ok(directory)
        });
        match made {
            Ok(directory) => Ok(Self { staging: staging.clone(), name, directory, inode }),
            Err(error) => {
                let _ = sys::path::rmdir(staging.directory(), &new);
                Err(error)
            }
        }
    }

    fn mark(staging: &Staging, spot: Spot<'_>, new: &[u8]) -> Result<OwnedFd> {
        #[cfg(test)]
        meddle::at(Point::Made);
        let directory = sys::path::open_dir(staging.directory(), new, Symlinks::Deny)?;
        inherit::directory_from_directory(&directory, spot.directory, inherit::DIRECTORY_MODE)?;
        sys::xattr::write(&directory, DIRECTORY_NAME, &DIRECTORY_MADE_BY_PUT)?;
        Ok(directory)
    }

    /// Lets the directory take the place of the file in one step of the name.
    pub(super) fn take_place(&self, disk: &Disk, spot: Spot<'_>) -> Result<()> {
        #[cfg(test)]
        meddle::at(Point::Turn);
        match sys::path::exchange(self.staging.directory(), &self.name, spot.directory, spot.name) {
            Ok(()) => self.settle(disk, spot),
            Err(errno) => {
                self.dismantle(&self.staging, 1);
                // Nothing is in the way any more.
                if errno == Errno::NOENT { Ok(()) } else { Err(errno.into()) }
            }
        }
    }

    /// What changed places with the directory must be the file that it holds. A newer file is the object in its stead; anything
    /// else gets its name back.
    pub(in crate::store) fn settle(&self, disk: &Disk, spot: Spot<'_>) -> Result<()> {
        #[cfg(test)]
        meddle::at(Point::Taken);
        let staging = &self.staging;
        let taken = sys::stat::at(staging.directory(), &self.name)?;
        match taken.kind {
            FileKind::Regular if taken.inode == self.inode => staging.remove(&self.name),
            FileKind::Regular => return self.hold(disk, spot),
            _ => {
                let ours = sys::stat::of(&self.directory)?.inode;
                let back = put_back(disk, staging, &self.name, spot, &|now| now.inode == ours)?;
                if back == Back::Ours && !self.dismantle(staging, 1) {
                    // Somebody has published in it meanwhile, and relies on that.
                    let _ = sys::path::exchange(staging.directory(), &self.name, spot.directory, spot.name);
                    staging.keep_aside(&self.name, &spot.path())?;
                }
            }
        }
        Ok(())
    }

    /// The newer file goes where the older one is, in the directory.
    fn hold(&self, disk: &Disk, spot: Spot<'_>) -> Result<()> {
        let staging = &self.staging;
        let folder = [spot.folder, b"/", spot.name].concat();
        let folder = folder.strip_prefix(b"/").unwrap_or(&folder);
        let inside = Spot { directory: &self.directory, top: spot.top, folder, name: OBJECT_OF_DIRECTORY };
        #[cfg(test)]
        meddle::at(Point::PutBack);
        match sys::path::exchange(staging.directory(), &self.name, &self.directory, OBJECT_OF_DIRECTORY) {
            Ok(()) => match sys::stat::at(staging.directory(), &self.name)? {
                older if older.kind == FileKind::Regular && older.inode == self.inode => staging.remove(&self.name),
                _ => staging.keep_aside(&self.name, &inside.path())?,
            },
            Err(_) => give_back(disk, staging, &self.name, inside)?,
        }
        disk.sync_each(&[&self.directory])
    }

    /// Removes the directory, which is in staging, if there is nothing in it but the file, which must have so many links.
    pub(in crate::store) fn dismantle(&self, staging: &Staging, links_min: u64) -> bool {
        if !self.holds_nothing_else() {
            return false;
        }
        match sys::stat::at(&self.directory, OBJECT_OF_DIRECTORY) {
            Ok(stat) if stat.nlink < links_min => return false,
            Ok(_) if sys::path::unlink(&self.directory, OBJECT_OF_DIRECTORY).is_err() => return false,
            _ => {}
        }
        sys::path::rmdir(staging.directory(), &self.name).is_ok()
    }

    /// There is nothing in the directory, or only the file.
    pub(in crate::store) fn holds_nothing_else(&self) -> bool {
        let Ok(entries) = first_two(&self.directory) else { return false };
        match entries.as_slice() {
            [] => true,
            [name] if name == OBJECT_OF_DIRECTORY => {
                sys::stat::at(&self.directory, name).is_ok_and(|stat| stat.kind == FileKind::Regular && stat.inode == self.inode)
            }
            _ => false,
        }
    }
}

/// The names in a directory, if they are no more than two, or the first two.
fn first_two(directory: &OwnedFd) -> sys::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    let mut buffer = sys::dir::buffer(4096);
    let _ = sys::dir::read(directory, &mut buffer, |entry| {
        names.push(entry.name.to_vec());
        if names.len() < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(names)
}
