//! How does a version come to be, and what becomes of the one before? The new file gets the name that the old one will have in the
//! history, and changes places with it: the key's name is never absent, and a crash leaves the one or the other. What came into the
//! history must be what was looked at; a file of a POSIX program that was quicker is a version of its own.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::super::open::read_directory_object;
use super::super::seal;
use super::super::write::current;
use super::history::{History, Kept, Slot};
use super::intent::{Intent, Meant};
use super::mark::{apart, mark, mark_null, settle_stranger, slot_of, version_of};
use crate::base::version_id::{Version, VersionId};
use crate::limits::RECORD_SIZE_MAX;
use crate::store::disk::displace::{self, Back, Outcome, Takes};
#[cfg(test)]
use crate::store::disk::meddle::{self, Point};
use crate::store::disk::rules::{BucketRules, Keeps};
use crate::store::disk::spot::Spot;
use crate::store::disk::stage::Staged;
use crate::store::disk::staging::{Identity, Purpose};
use crate::store::disk::{Bucket, inherit};
use crate::store::error::Result;
use crate::store::names::key::{BODY_OF_DIRECTORY, Location};
use crate::store::names::record::{SUMMARY_NAME, Summary};
use crate::sys::{self, Errno, FileStat};

/// A change to a key of a bucket that keeps versions, under the key's lock.
pub(in crate::store) struct Change<'a> {
    pub(in crate::store) rules: Arc<BucketRules>,
    pub(in crate::store) bucket: Bucket<'a>,
    pub(in crate::store) location: &'a Location,
    /// The greatest id of the key's history.
    pub(in crate::store) top: Option<VersionId>,
    /// The id of what is written now, or its place if it is `null`.
    pub(in crate::store) id: VersionId,
}

impl<'a> Change<'a> {
    /// `None` in a bucket that never kept versions.
    pub(in crate::store) fn begin(bucket: Bucket<'a>, key: &[u8], location: &'a Location) -> Result<Option<Self>> {
        let Some(rules) = bucket.rules() else { return Ok(None) };
        let top = match History::open(bucket.disk, &rules, location)? {
            Some(history) => history.top()?,
            None => None,
        };
        let live = current(bucket, key)?.and_then(|state| state.record?.version_id);
        let (newest, now_ns) = (top.max(live), sys::clock::realtime_ns());
        let id = match rules.keeps {
            Keeps::Everything => VersionId::after(newest, now_ns, getrandom::u64().map_err(|_| Errno::IO)?),
            Keeps::Versions => VersionId::place_after(newest, now_ns),
        };
        Ok(Some(Self { rules, bucket, location, top, id }))
    }

    /// What is written now.
    pub(in crate::store) fn version(&self) -> Version {
        match self.rules.keeps {
            Keeps::Everything => Version::Id(self.id),
            Keeps::Versions => Version::Null,
        }
    }

    /// Whether what is written now has an id, beside what is `null`.
    pub(super) fn keeps_ids(&self) -> bool {
        self.rules.keeps == Keeps::Everything
    }

    /// Writes the id onto a file that has its record already.
    pub(in crate::store) fn mark(&self, file: &OwnedFd) -> Result<()> {
        mark(self.bucket.disk, file, self.id)
    }

    /// Which version the file at `spot` is.
    pub(in crate::store) fn version_at(&self, spot: Spot<'_>, stat: &FileStat) -> Result<Version> {
        let mut bytes = [0; RECORD_SIZE_MAX];
        let summary = match sys::xattr::read_at(spot.directory, spot.name, SUMMARY_NAME, &mut bytes) {
            Ok(size) => size.and_then(|size| Summary::decode(bytes.get(..size)?).ok()),
            Err(Errno::RANGE | Errno::OPNOTSUPP) => None,
            Err(errno) => return Err(errno.into()),
        };
        Ok(version_of(summary.filter(|summary| summary.is_truthful(stat)).and_then(|summary| summary.version_id), self.top))
    }

    /// Puts a filled file in the place of the one that was `looked` at, which goes into the history. Its owner, rights and label must
    /// have been taken over.
    pub(in crate::store) fn replace(
        &self,
        staged: &mut Staged,
        spot: Spot<'_>,
        looked: &FileStat,
        takes: Takes,
    ) -> Result<Outcome> {
        let was = self.version_at(spot, looked)?;
        if was == Version::Null && self.rules.keeps == Keeps::Versions {
            // There is one `null`.
            return displace::replace(self.bucket.disk, staged, spot, looked, takes);
        }
        let history = History::ensure(self.bucket.disk, &self.rules, self.location)?;
        let name = history.free(slot_of(was))?;
        let ours = Identity::of(&sys::stat::of(&staged.file)?);
        let intent = Intent::note(
            self.bucket,
            &self.rules,
            self.location,
            Meant::Replace { ours: ours.inode(), old: looked.inode },
            &name,
        )?;
        let linked = sys::path::link(&staged.file, &history.directory, &name).map_err(apart);
        let replaced = linked.and_then(|()| self.exchange(&history, &name, staged, spot, looked, takes, was));
        // Otherwise the next start finds out what has become of it.
        if replaced.is_ok() || history.stat(&name) == Ok(None) {
            intent.is_settled();
        }
        replaced
    }

    #[expect(clippy::too_many_arguments, reason = "one exchange: two names, what is at each, and what may be taken")]
    fn exchange(
        &self,
        history: &History,
        name: &[u8],
        staged: &mut Staged,
        spot: Spot<'_>,
        looked: &FileStat,
        takes: Takes,
        was: Version,
    ) -> Result<Outcome> {
        let ours = sys::stat::of(&staged.file)?;
        #[cfg(test)]
        meddle::at(Point::Replace);
        if let Err(errno) = sys::path::exchange(&history.directory, name, spot.directory, spot.name) {
            self.take_back(history, name, staged)?;
            return if errno == Errno::NOENT { Ok(Outcome::Again) } else { Err(apart(errno)) };
        }
        #[cfg(test)]
        meddle::at(Point::Taken);
        let taken = sys::stat::at(&history.directory, name)?;
        if !takes.takes(&taken) {
            self.put_back(history, name, staged, spot, looked, &ours)?;
            return Ok(Outcome::Again);
        }
        displace::keep_rights(self.bucket.disk, &history.directory, staged, name, looked, &taken)?;
        self.settle(history, name, was, looked, &taken)?;
        self.bucket.disk.sync_each(&[&history.directory, spot.directory])?;
        Ok(Outcome::Done)
    }

    /// What came into the history under `name` says which version it is.
    pub(in crate::store) fn settle(
        &self,
        history: &History,
        name: &[u8],
        was: Version,
        looked: &FileStat,
        taken: &FileStat,
    ) -> Result<()> {
        match was {
            _ if taken.inode != looked.inode => settle_stranger(self.bucket.disk, history, name, self.id.place_before()),
            // By its times from before: the move changes its ctime, and would change the ETag of a file without a record.
            Version::Null => {
                let stat = if (taken.size, taken.mtime_ns) == (looked.size, looked.mtime_ns) { looked } else { taken };
                mark_null(self.bucket.disk, history, name, self.id.place_before(), stat)
            }
            Version::Id(id) => history.raise(self.bucket.disk, id),
        }
    }

    /// Our file, which did not change places, has no name in the history any more. It needs one for the next attempt: what was made
    /// without a name cannot be linked twice from nothing (linkat(2) answers ENOENT).
    fn take_back(&self, history: &History, name: &[u8], staged: &mut Staged) -> Result<()> {
        let staging = self.bucket.disk.staging()?;
        let new = staging.name(&Purpose::New);
        sys::path::rename(&history.directory, name, staging.directory(), &new)?;
        displace::keep_name(&staging, staged, new);
        Ok(())
    }

    /// What changed places with ours, and may not be taken, gets its name again.
    fn put_back(
        &self,
        history: &History,
        name: &[u8],
        staged: &mut Staged,
        spot: Spot<'_>,
        looked: &FileStat,
        ours: &FileStat,
    ) -> Result<()> {
        let staging = self.bucket.disk.staging()?;
        let (ours, what) = (Identity::of(ours), Identity::of(looked));
        let swap = staging.name(&Purpose::Swap { ours, what, place: spot.path() });
        sys::path::rename(&history.directory, name, staging.directory(), &swap)?;
        if displace::put_back(self.bucket.disk, &staging, &swap, spot, &|now| now.inode == ours.inode())? == Back::Ours {
            displace::keep_name(&staging, staged, swap);
        }
        Ok(())
    }

    /// After something was published: a delete marker is not what the key is any more, and beside a `null` version there is no other one.
    pub(in crate::store) fn finish(&self) -> Result<()> {
        let Some(history) = History::open(self.bucket.disk, &self.rules, self.location)? else { return Ok(()) };
        if self.rules.keeps == Keeps::Versions {
            history.remove(Slot::Null)?;
        }
        if history.stat(&history.name_of(Slot::Marker))?.is_some() {
            self.number_marker(&history, Some(self.version()))?;
        }
        history.prune(self.bucket.disk, &self.rules, self.location)
    }

    /// The marker of an earlier DELETE becomes one of many.
    pub(in crate::store) fn number_marker(&self, history: &History, live: Option<Version>) -> Result<()> {
        let marker = history.name_of(Slot::Marker);
        let slot = match history.look(Slot::Marker)? {
            Some(Kept { version: Version::Id(id), .. }) => Slot::Numbered(id),
            Some(Kept { place, .. }) if self.keeps_ids() && live != Some(Version::Null) && !history.has_null_after(place)? => {
                history.remove(Slot::Null)?;
                Slot::Null
            }
            // There is a newer `null`; or it is nothing at all.
            _ => return history.free_name(&marker),
        };
        match self.bucket.disk.rename_new(&history.directory, &marker, &history.directory, &history.name_of(slot)) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => history.free_name(&marker),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A record on a directory cannot be moved: the object `dir/` gets a file for a body, which has that record.
    pub(in crate::store) fn embody(&self, directory: &OwnedFd) -> Result<()> {
        let Some(record) = read_directory_object(self.bucket.disk, directory)? else { return Ok(()) };
        if sys::stat::at(directory, BODY_OF_DIRECTORY) != Err(Errno::NOENT) {
            return Ok(());
        }
        let staged = self.bucket.stage(&self.location.path, None, false)?;
        seal::seal_as_of(self.bucket.disk, &staged.file, record)?;
        let named = match &staged.name {
            None => sys::path::link(&staged.file, directory, BODY_OF_DIRECTORY),
            Some(temporary) => {
                inherit::from_directory(&staged.file, directory)?;
                self.bucket.disk.rename_new(temporary.directory(), temporary.name(), directory, BODY_OF_DIRECTORY)
            }
        };
        match named {
            Ok(()) | Err(Errno::EXIST) => self.bucket.disk.sync_each(&[directory]),
            Err(errno) => Err(errno.into()),
        }
    }
}
