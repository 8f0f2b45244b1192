//! A DELETE where versions are kept: the marker is put there first and the file moved second. The move is its moment: a marker counts as
//! what the key is only while nothing has its name in the bucket.

use super::change::Change;
use super::history::{History, Slot};
use super::intent::{Intent, Meant};
use super::live::{Live, live_at};
use super::mark::{apart, slot_of};
use crate::base::version_id::Version;
use crate::digest::Md5;
use crate::store::disk::displace::{self, Outcome, Takes};
#[cfg(test)]
use crate::store::disk::meddle::{self, Point};
use crate::store::disk::rules::Keeps;
use crate::store::disk::stage::{Staged, Temporary};
use crate::store::disk::staging::{Identity, Purpose};
use crate::store::error::Result;
use crate::store::names::record::{Record, SUMMARY_NAME};
use crate::sys::{self, Errno};

impl Change<'_> {
    /// Puts a delete marker there and moves what has the name into the history, if `takes` lets it (`None`: nothing has it). Answers the
    /// directory in which a name is gone; `None`: something else was there than what was looked at.
    pub(in crate::store) fn delete(&self, takes: Option<Takes>) -> Result<Option<Vec<u8>>> {
        if self.location.is_directory_object {
            self.embody_if_there()?;
        }
        let live = live_at(self.bucket, self.location)?;
        match (&live, takes) {
            (Some(live), Some(takes)) if takes.takes(&live.stat) => {}
            (None, None | Some(Takes::AnyFile | Takes::Nothing)) => {}
            _ => return Ok(None),
        }
        let history = History::ensure(self.bucket.disk, &self.rules, self.location)?;
        let was = live.as_ref().map(|live| self.version_at(live.spot(self.bucket), &live.stat)).transpose()?;
        // There is one `null`, and none in between: a marker of that name is replaced by the new one at once.
        if was.is_some() || self.keeps_ids() || !history.has_null_marker()? {
            self.number_marker(&history, was)?;
        }
        #[cfg(test)]
        meddle::at(Point::Marker);
        let is_moved = match (&live, was, takes) {
            (Some(live), Some(was), Some(takes)) => self.mark_and_move(&history, live, was, takes)?,
            _ => {
                self.put_marker(&history)?;
                true
            }
        };
        if !is_moved {
            history.prune(self.bucket.disk, &self.rules, self.location)?;
            return Ok(None);
        }
        #[cfg(test)]
        meddle::at(Point::Changed);
        // Not before: as long as the file is there, its id is the greatest.
        history.raise(self.bucket.disk, self.id)?;
        if self.rules.keeps == Keeps::Versions {
            // The marker is the one `null`.
            history.remove(Slot::Null)?;
        }
        self.bucket.disk.sync_each(&[&history.directory])?;
        Ok(Some(live.map(|live| live.folder).unwrap_or_default()))
    }

    pub(super) fn embody_if_there(&self) -> Result<()> {
        match self.bucket.open_below(&self.location.path) {
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
        let name = history.free(slot_of(was))?;
        let marker = self.make_marker()?;
        let intent =
            Intent::note(self.bucket, &self.rules, self.location, Meant::Delete { ours: marker.1, old: live.stat.inode }, &name)?;
        self.place_marker(history, &marker.0)?;
        #[cfg(test)]
        meddle::at(Point::Remove);
        let moved = match was {
            // There is one `null`, and that is the marker.
            Version::Null if self.rules.keeps == Keeps::Versions => {
                displace::remove(self.bucket.disk, live.spot(self.bucket), &live.stat, takes)
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
        let (disk, spot) = (self.bucket.disk, live.spot(self.bucket));
        match disk.rename_new(spot.directory, spot.name, &history.directory, name) {
            Ok(()) => {}
            // A POSIX program was quicker.
            Err(Errno::NOENT) => return Ok(Outcome::Done),
            Err(errno) => return Err(apart(errno)),
        }
        #[cfg(test)]
        meddle::at(Point::Taken);
        let taken = sys::stat::at(&history.directory, name)?;
        if !takes.takes(&taken) {
            let staging = disk.staging()?;
            let gone = staging.name(&Purpose::Gone { what: Identity::of(&live.stat), place: spot.path() });
            sys::path::rename(&history.directory, name, staging.directory(), &gone)?;
            displace::give_back(disk, &staging, &gone, spot)?;
            return Ok(Outcome::Again);
        }
        self.settle(history, name, was, &live.stat, &taken)?;
        disk.sync_each(&[spot.directory])?;
        Ok(Outcome::Done)
    }

    fn put_marker(&self, history: &History) -> Result<()> {
        let (staged, _) = self.make_marker()?;
        self.place_marker(history, &staged)
    }

    /// An empty file that says that it is one, in staging, and its inode.
    fn make_marker(&self) -> Result<(Staged, u64)> {
        let name = Temporary::new(&self.bucket.disk.staging()?);
        let file = sys::path::create_new(name.directory(), name.name(), 0o600, false)?;
        sys::path::set_mtime(&file, sys::clock::realtime_ns())?;
        let stat = sys::stat::of(&file)?;
        let mut record = Record::new(0, stat.mtime_ns, Md5::new().finish());
        (record.version_id, record.is_delete_marker) = (Some(self.id), true);
        sys::xattr::write(&file, SUMMARY_NAME, record.encode().summary())?;
        self.bucket.disk.sync_each(&[&file])?;
        Ok((Staged { file, is_direct: false, name: Some(name) }, stat.inode))
    }

    fn place_marker(&self, history: &History, staged: &Staged) -> Result<()> {
        let Some(name) = &staged.name else { return Ok(()) };
        let marker = history.name_of(Slot::Marker);
        if history.has_null_marker()? {
            sys::path::rename(name.directory(), name.name(), &history.directory, &marker)?;
        } else {
            self.bucket.disk.rename_new(name.directory(), name.name(), &history.directory, &marker)?;
        }
        self.bucket.disk.sync_each(&[&history.directory])
    }
}
