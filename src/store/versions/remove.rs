//! Removing an object where versions are kept, and removing a version for good.
//!
//! A DELETE puts the marker there first and moves the file second: the move is its moment. A marker counts as what the key is only
//! while nothing has its name in the bucket.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::super::barrier::Ticket;
use super::super::commit::{self, Condition};
use super::super::displace::{self, Outcome, Spot, Takes};
use super::super::key::{self, BODY_OF_DIRECTORY, Location, OBJECT_OF_DIRECTORY};
#[cfg(test)]
use super::super::meddle::{self, Point};
use super::super::record::{Record, SUMMARY_NAME};
use super::super::rules::{BucketRules, Keeps};
use super::super::stage::{Staged, Temporary};
use super::super::staging::{Identity, Purpose};
use super::super::tree;
use super::super::volume::Volume;
use super::super::{Result, StoreError, bucket, delete};
use super::change::{Change, apart, version_of};
use super::history::{History, Kept, Slot};
use super::intent::{Intent, Meant};
use crate::base::version_id::{Version, VersionId};
use crate::digest::Md5;
use crate::limits::PUBLISH_ATTEMPTS_MAX;
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno, FileKind, FileStat};

/// What a DELETE did.
#[derive(Debug, Clone)]
pub struct Deleted {
    /// What to wait for before it is acknowledged.
    pub ticket: Ticket,
    /// The version that was removed, or the marker that was put there; `None` in a bucket that never kept versions.
    pub version: Option<Version>,
    /// `version` is a delete marker.
    pub is_marker: bool,
}

impl Deleted {
    /// Where no versions are kept.
    pub(in crate::store) fn plainly(ticket: Ticket) -> Self {
        Self { ticket, version: None, is_marker: false }
    }
}

/// The file that has a key's name.
pub(super) struct Live {
    directory: OwnedFd,
    /// The directory's path in the bucket.
    folder: Vec<u8>,
    name: Vec<u8>,
    pub(super) stat: FileStat,
}

impl Live {
    pub(super) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    fn spot<'a>(&'a self, bucket: &'a str) -> Spot<'a> {
        Spot { directory: &self.directory, bucket, folder: &self.folder, name: &self.name }
    }
}

/// The file of the key at `location`, if there is one.
pub(super) fn live_at(volume: &Volume, bucket: &str, location: &Location) -> Result<Option<Live>> {
    if location.is_directory_object {
        return file_at(volume, bucket, &location.path, BODY_OF_DIRECTORY).map(|found| found.ok());
    }
    match file_at(volume, bucket, location.parent(), location.name())? {
        Err(Some(FileKind::Directory)) => file_at(volume, bucket, &location.path, OBJECT_OF_DIRECTORY).map(|found| found.ok()),
        found => Ok(found.ok()),
    }
}

/// The file of this name, or what else has it.
fn file_at(volume: &Volume, bucket: &str, folder: &[u8], name: &[u8]) -> Result<std::result::Result<Live, Option<FileKind>>> {
    let opened = sys::path::open_dir(&volume.root, &tree::path_of(bucket, folder), Symlinks::Deny);
    let looked = opened.and_then(|directory| sys::stat::at(&directory, name).map(|stat| (directory, stat)));
    match looked {
        Ok((directory, stat)) if stat.kind == FileKind::Regular => {
            Ok(Ok(Live { directory, folder: folder.to_vec(), name: name.to_vec(), stat }))
        }
        Ok((_, stat)) => Ok(Err(Some(stat.kind))),
        Err(errno) if sys::errno::is_gone(errno) || errno == Errno::NAMETOOLONG => Ok(Err(None)),
        Err(errno) => Err(errno.into()),
    }
}

impl Change<'_> {
    /// Puts a delete marker there and moves what has the name into the history, if `takes` lets it (`None`: nothing has it). Answers the
    /// directory in which a name is gone; `None`: something else was there than what was looked at.
    pub(in crate::store) fn delete(&self, takes: Option<Takes>) -> Result<Option<Vec<u8>>> {
        if self.location.is_directory_object {
            self.embody_if_there()?;
        }
        let live = live_at(self.volume, self.bucket, self.location)?;
        match (&live, takes) {
            (Some(live), Some(takes)) if takes.takes(&live.stat) => {}
            (None, None | Some(Takes::AnyFile | Takes::Nothing)) => {}
            _ => return Ok(None),
        }
        let history = History::ensure(self.volume, &self.rules, self.location)?;
        let was = live.as_ref().map(|live| self.version_at(live.spot(self.bucket), &live.stat)).transpose()?;
        self.number_marker(&history, was)?;
        history.raise(self.volume, self.id)?;
        let is_moved = match (&live, was, takes) {
            (Some(live), Some(was), Some(takes)) => self.mark_and_move(&history, live, was, takes)?,
            _ => {
                self.put_marker(&history)?;
                true
            }
        };
        if !is_moved {
            history.prune(self.volume, &self.rules, self.location)?;
            return Ok(None);
        }
        if self.rules.keeps == Keeps::Versions {
            // The marker is the one `null`.
            history.remove(Slot::Null)?;
        }
        self.volume.sync_each(&[&history.directory])?;
        Ok(Some(live.map(|live| live.folder).unwrap_or_default()))
    }

    fn embody_if_there(&self) -> Result<()> {
        let path = tree::path_of(self.bucket, &self.location.path);
        match sys::path::open_dir(&self.volume.root, &path, Symlinks::Deny) {
            Ok(directory) => {
                self.embody(&directory)?;
                // The body has the record now.
                Ok(sys::xattr::remove(&directory, SUMMARY_NAME).map(drop)?)
            }
            Err(errno) if sys::errno::is_gone(errno) || errno == Errno::NAMETOOLONG => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// `false`: something else came between, and has its name.
    fn mark_and_move(&self, history: &History, live: &Live, was: Version, takes: Takes) -> Result<bool> {
        let name = self.make_room(history, was)?;
        let marker = self.make_marker()?;
        let intent = Intent::note(self, &Meant::Delete { ours: marker.1, old: live.stat.inode }, &name)?;
        self.place_marker(history, &marker.0)?;
        #[cfg(test)]
        meddle::at(Point::Remove);
        let moved = match was {
            // There is one `null`, and that is the marker.
            Version::Null if self.rules.keeps == Keeps::Versions => {
                displace::remove(self.volume, live.spot(self.bucket), &live.stat, takes)
            }
            _ => self.move_away(history, &name, live, was, takes),
        };
        let is_there = || sys::stat::at(&live.directory, &live.name).is_ok_and(|stat| stat.inode == live.stat.inode);
        if moved == Ok(Outcome::Again) || (moved.is_err() && is_there()) {
            history.remove(Slot::Marker)?;
            intent.is_settled();
        } else if moved.is_ok() {
            intent.is_settled();
        }
        moved.map(|outcome| outcome == Outcome::Done)
    }

    fn move_away(&self, history: &History, name: &[u8], live: &Live, was: Version, takes: Takes) -> Result<Outcome> {
        let (volume, spot) = (self.volume, live.spot(self.bucket));
        match volume.rename_new(spot.directory, spot.name, &history.directory, name) {
            Ok(()) => {}
            // A POSIX program was quicker.
            Err(Errno::NOENT) => return Ok(Outcome::Done),
            Err(errno) => return Err(apart(errno)),
        }
        #[cfg(test)]
        meddle::at(Point::Taken);
        let taken = sys::stat::at(&history.directory, name)?;
        if !takes.takes(&taken) {
            let staging = volume.staging()?;
            let gone = staging.name(&Purpose::Gone { what: Identity::of(&live.stat), place: spot.path() });
            sys::path::rename(&history.directory, name, staging.directory(), &gone)?;
            displace::give_back(volume, &staging, &gone, spot)?;
            return Ok(Outcome::Again);
        }
        self.settle(history, name, was, live.stat.inode, &taken)?;
        volume.sync_each(&[spot.directory])?;
        Ok(Outcome::Done)
    }

    /// The marker of an earlier DELETE becomes one of many.
    pub(super) fn number_marker(&self, history: &History, live: Option<Version>) -> Result<()> {
        let marker = history.name_of(Slot::Marker);
        let slot = match history.look(Slot::Marker)?.map(|kept| kept.version) {
            Some(Version::Id(id)) => Slot::Numbered(id),
            Some(Version::Null) if live != Some(Version::Null) && self.rules.keeps == Keeps::Everything => Slot::Null,
            // There is a newer `null`; or it is nothing at all.
            _ => return history.free_name(&marker),
        };
        if slot == Slot::Null {
            history.remove(Slot::Null)?;
        }
        match self.volume.rename_new(&history.directory, &marker, &history.directory, &history.name_of(slot)) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => history.free_name(&marker),
            Err(errno) => Err(errno.into()),
        }
    }

    fn put_marker(&self, history: &History) -> Result<()> {
        let (staged, _) = self.make_marker()?;
        self.place_marker(history, &staged)
    }

    /// An empty file that says that it is one, in staging, and its inode.
    fn make_marker(&self) -> Result<(Staged, u64)> {
        let name = Temporary::new(&self.volume.staging()?);
        let file = sys::path::create_new(name.directory(), name.name(), 0o600, false)?;
        sys::path::set_mtime(&file, sys::clock::realtime_ns())?;
        let stat = sys::stat::of(&file)?;
        let mut record = Record::new(0, stat.mtime_ns, Md5::new().finish());
        (record.version_id, record.is_delete_marker) = (Some(self.id), true);
        sys::xattr::write(&file, SUMMARY_NAME, record.encode().summary())?;
        self.volume.sync_each(&[&file])?;
        Ok((Staged { file, is_direct: false, name: Some(name) }, stat.inode))
    }

    fn place_marker(&self, history: &History, staged: &Staged) -> Result<()> {
        let Some(name) = &staged.name else { return Ok(()) };
        let marker = history.name_of(Slot::Marker);
        self.volume.rename_new(name.directory(), name.name(), &history.directory, &marker)?;
        self.volume.sync_each(&[&history.directory])
    }
}

/// Removes one version for good, and restores the one before it if it was the current one. One that is not there is fine, as in S3.
pub fn delete_version(volume: &Volume, bucket: &str, key: &[u8], version: Version, condition: Option<&Condition>) -> Result<Deleted> {
    if !volume.takes_changes() {
        return Err(StoreError::VolumeFailed);
    }
    let location = key::locate(key)?;
    let mut restored_from = None;
    for _ in 0..PUBLISH_ATTEMPTS_MAX {
        let guard = volume.locks.lock(bucket, key);
        let Some(rules) = volume.rules_of(bucket) else {
            drop(guard);
            return without_history(volume, bucket, key, version, condition);
        };
        let removal = Removal::begin(volume, rules, bucket, &location)?;
        if restored_from.is_none() {
            check(volume, bucket, key, version, condition)?;
        }
        let step = removal.step(version)?;
        drop(guard);
        match step {
            Step::Again => {}
            Step::Restore(staged, slot) => {
                commit::restore(volume, bucket, key, staged)?;
                restored_from = Some(slot);
            }
            Step::Nothing if restored_from.is_none() => {
                if !bucket::exists(volume, bucket)? {
                    return Err(bucket::missing(volume));
                }
                return Ok(Deleted { ticket: volume.barrier().observed(), version: Some(version), is_marker: false });
            }
            // The implied marker is gone with what was restored.
            Step::Nothing => return Ok(Deleted { ticket: volume.barrier().published(), version: Some(version), is_marker: true }),
            Step::Done { is_marker, below } => {
                tree::prune(volume, bucket, &below)?;
                return Ok(Deleted { ticket: volume.barrier().published(), version: Some(version), is_marker });
            }
        }
    }
    Err(StoreError::Contended)
}

/// In a bucket that never kept versions there is `null` alone.
fn without_history(volume: &Volume, bucket: &str, key: &[u8], version: Version, condition: Option<&Condition>) -> Result<Deleted> {
    match version {
        Version::Null => delete::delete(volume, bucket, key, condition),
        Version::Id(_) if !bucket::exists(volume, bucket)? => Err(bucket::missing(volume)),
        Version::Id(_) => Ok(Deleted { ticket: volume.barrier().observed(), version: Some(version), is_marker: false }),
    }
}

/// The precondition is about the version that is to be removed.
fn check(volume: &Volume, bucket: &str, key: &[u8], version: Version, condition: Option<&Condition>) -> Result<()> {
    let Some(condition) = condition else { return Ok(()) };
    match super::open(volume, bucket, key, Some(version)) {
        Ok(found) if condition(Some(&found.object.state)) => Ok(()),
        Ok(_) | Err(StoreError::DeleteMarker(_)) => Err(StoreError::PreconditionFailed { was_there: true }),
        Err(error) => Err(error),
    }
}

/// How far one visit under the key's lock came.
enum Step {
    Nothing,
    Again,
    /// This version has to get the key's name first.
    Restore(Staged, Slot),
    Done { is_marker: bool, below: Vec<u8> },
}

/// The removal of a version.
struct Removal<'a> {
    volume: &'a Volume,
    rules: Arc<BucketRules>,
    bucket: &'a str,
    location: &'a Location,
    history: Option<History>,
    top: Option<VersionId>,
    live: Option<(Live, Version)>,
}

impl<'a> Removal<'a> {
    fn begin(volume: &'a Volume, rules: Arc<BucketRules>, bucket: &'a str, location: &'a Location) -> Result<Self> {
        let history = History::open(volume, &rules, location)?;
        let top = history.as_ref().map_or(Ok(None), History::top)?;
        let change = Change { volume, rules: rules.clone(), bucket, location, top, id: VersionId::place_after(top, 0) };
        if location.is_directory_object {
            change.embody_if_there()?;
        }
        let live = match live_at(volume, bucket, location)? {
            Some(live) => {
                let version = change.version_at(live.spot(bucket), &live.stat)?;
                Some((live, version))
            }
            None => None,
        };
        Ok(Self { volume, rules, bucket, location, history, top, live })
    }

    fn step(mut self, version: Version) -> Result<Step> {
        let history = self.history.take();
        let step = match (&self.live, &history) {
            (Some((live, is)), _) if *is == version => self.remove_live(live, history.as_ref(), version),
            (_, Some(history)) => self.remove_kept(history, version),
            (_, None) => Ok(Step::Nothing),
        }?;
        if let (Step::Done { .. }, Some(history)) = (&step, history) {
            self.volume.sync_each(&[&history.directory])?;
            history.prune(self.volume, &self.rules, self.location)?;
        }
        Ok(step)
    }

    fn remove_live(&self, live: &Live, history: Option<&History>, version: Version) -> Result<Step> {
        let (spot, takes) = (live.spot(self.bucket), Takes::Only(Identity::of(&live.stat)));
        let before = match history {
            Some(history) => {
                if version == Version::Null {
                    self.remove_older_nulls(history)?;
                }
                let mut kept = history.kept()?.into_iter();
                kept.next().map(|newest| (history, newest, kept.next()))
            }
            None => None,
        };
        let outcome = match before {
            Some((history, newest, next)) if !newest.is_marker => self.restore_over(history, &newest, next, live)?,
            Some((history, newest, _)) => {
                if newest.slot != Slot::Marker {
                    let name = history.free(Slot::Marker)?;
                    self.volume.rename_new(&history.directory, &history.name_of(newest.slot), &history.directory, &name)?;
                }
                displace::remove(self.volume, spot, &live.stat, takes)?
            }
            None => displace::remove(self.volume, spot, &live.stat, takes)?,
        };
        self.volume.sync_each(&[spot.directory])?;
        Ok(match outcome {
            Outcome::Done => Step::Done { is_marker: false, below: live.folder.clone() },
            Outcome::Again => Step::Again,
        })
    }

    /// A file that is `null` now is the only one.
    fn remove_older_nulls(&self, history: &History) -> Result<()> {
        history.remove(Slot::Null)?;
        match history.look(Slot::Marker)? {
            Some(kept) if kept.version == Version::Null => history.remove(Slot::Marker),
            _ => Ok(()),
        }
    }

    /// The version before changes places with the current one.
    fn restore_over(&self, history: &History, newest: &Kept, next: Option<Kept>, live: &Live) -> Result<Outcome> {
        let (spot, name) = (live.spot(self.bucket), history.name_of(newest.slot));
        history.set_top(self.volume, next.map(|next| next.place))?;
        let (volume, rules) = (self.volume, self.rules.clone());
        let change = Change { volume, rules, bucket: self.bucket, location: self.location, top: self.top, id: newest.place };
        let intent = Intent::note(&change, &Meant::Remove { old: live.stat.inode }, &name)?;
        match sys::path::exchange(&history.directory, &name, spot.directory, spot.name) {
            Ok(()) => {}
            Err(Errno::NOENT) => {
                intent.is_settled();
                return Ok(Outcome::Again);
            }
            Err(errno) => return Err(apart(errno)),
        }
        let taken = sys::stat::at(&history.directory, &name)?;
        let outcome = if Identity::of(&live.stat).is(&taken) {
            history.free_name(&name)?;
            Outcome::Done
        } else {
            // Somebody's newer one. If its name is taken once more it stays here, under a name that does not fit it, until the next start.
            sys::path::exchange(&history.directory, &name, spot.directory, spot.name)?;
            Outcome::Again
        };
        intent.is_settled();
        Ok(outcome)
    }

    fn remove_kept(&self, history: &History, version: Version) -> Result<Step> {
        let live = self.live.as_ref().map(|(_, version)| *version);
        let marker = history.look(Slot::Marker)?;
        let Some(kept) = find(history, version, live)? else {
            let is_implied = live.is_none() && marker.is_none() && implied_marker(self.top) == Some(version);
            return if is_implied { self.restore(history, None) } else { Ok(Step::Nothing) };
        };
        if kept.slot == Slot::Marker && live.is_none() {
            return self.restore(history, Some(&kept));
        }
        history.remove(kept.slot)?;
        Ok(Step::Done { is_marker: kept.is_marker, below: Vec::new() })
    }

    /// What was before the delete marker is what the key is again.
    fn restore(&self, history: &History, marker: Option<&Kept>) -> Result<Step> {
        let mut others = history.kept()?.into_iter().filter(|kept| kept.slot != Slot::Marker);
        let Some(newest) = others.next() else {
            history.remove(Slot::Marker)?;
            return Ok(Step::Done { is_marker: true, below: Vec::new() });
        };
        let name = history.name_of(newest.slot);
        if !newest.is_marker {
            history.set_top(self.volume, others.next().map(|next| next.place))?;
            let file = sys::path::open_read(&history.directory, &name, Symlinks::Deny)?;
            let directory = history.directory.try_clone().map_err(|_| Errno::MFILE)?;
            let staged = Staged { file, is_direct: false, name: Some(Temporary::of_history(directory, name)) };
            return Ok(Step::Restore(staged, newest.slot));
        }
        // Two DELETEs, one after the other.
        if marker.is_some() {
            sys::path::exchange(&history.directory, &history.name_of(Slot::Marker), &history.directory, &name)?;
            history.free_name(&name)?;
        } else {
            self.volume.rename_new(&history.directory, &name, &history.directory, &history.name_of(Slot::Marker))?;
        }
        Ok(Step::Done { is_marker: true, below: Vec::new() })
    }
}

/// A version in the history. Where the live file is `null`, no other one is.
pub(super) fn find(history: &History, version: Version, live: Option<Version>) -> Result<Option<Kept>> {
    let slot = match version {
        Version::Id(id) => Slot::Numbered(id),
        Version::Null if live == Some(Version::Null) => return Ok(None),
        Version::Null => Slot::Null,
    };
    let marker = history.look(Slot::Marker)?.filter(|kept| kept.version == version);
    match version {
        // A `null` marker is newer than what is in the other slot.
        Version::Null if marker.is_some() => Ok(marker),
        _ => Ok(history.look(slot)?.or(marker)),
    }
}

/// What a key with a history is that a POSIX program has removed: it has to have a current version, which is a delete marker.
pub(super) fn implied_marker(top: Option<VersionId>) -> Option<Version> {
    top.map(|top| Version::Id(VersionId::after(Some(top), 0, 1)))
}

/// Which version a file is by what it claims.
pub(super) fn version_of_record(record: Option<&Record>, top: Option<VersionId>) -> Version {
    version_of(record.and_then(|record| record.version_id), top)
}
