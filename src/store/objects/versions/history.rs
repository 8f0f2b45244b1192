//! Where does the history of a key lie, and what do the names in it say?
//!
//! `.sluice/versions/<bucket id>/<place of the key>/` has, for the key of that place:
//!
//! | name | what it is |
//! |---|---|
//! | `.sluice%o` | an empty file: there is a history. Its attribute has the greatest id that came into it |
//! | `.sluice%ov<inverted id>` | the version of that id, or its delete marker |
//! | `.sluice%on` | the version called `null`, or its delete marker |
//! | `.sluice%om` | the newest delete marker: what the key is while nothing has its name in the bucket |
//!
//! and the same with `%b` for the key that is the place and a slash. `.sluice%o` and `.sluice%b` are where a bucket's tree has an object
//! beside a directory of its name, so that the walk that lists a bucket lists the keys that have a history as well.
//!
//! A file is what its name says if its record says so too. A version changes places with the one that replaces it: for that moment, and
//! after a crash in it, a name has a file that was never acknowledged, or somebody's own.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use super::Marker;
use crate::base::version_id::{Version, VersionId};
use crate::limits::PUBLISH_ATTEMPTS_MAX;
use crate::store::disk::Disk;
use crate::store::disk::rules::BucketRules;
use crate::store::disk::summary::{claimed, fetch};
use crate::store::error::{Result, StoreError};
use crate::store::names::key::{BODY_OF_DIRECTORY, Location, OBJECT_OF_DIRECTORY};
use crate::store::names::record::Summary;
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno, FileKind, FileStat};

/// The directory of all histories, in `.sluice`.
pub(in crate::store) const VERSIONS: &[u8] = b"versions";
const TOP_NAME: &CStr = c"user.sluice.top";
const PRIVATE: u32 = 0o700;

/// The history of one key, open.
pub(in crate::store) struct History {
    pub(in crate::store) directory: OwnedFd,
    base: &'static [u8],
}

/// A place in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Slot {
    Numbered(VersionId),
    Null,
    Marker,
}

/// What lies in a slot, and says so itself.
#[derive(Clone, Debug)]
pub(in crate::store) struct Kept {
    pub(in crate::store) slot: Slot,
    pub(in crate::store) version: Version,
    /// Where it stands among the others.
    pub(in crate::store) place: VersionId,
    pub(in crate::store) is_marker: bool,
    pub(in crate::store) stat: FileStat,
    pub(in crate::store) summary: Option<Summary>,
}

impl Kept {
    pub(in crate::store) fn marker(&self, is_current: bool) -> Marker {
        Marker { version: self.version, mtime_ns: self.stat.mtime_ns, is_current }
    }
}

/// The directory of the histories of a bucket; `None` where there is none yet.
pub(in crate::store) fn of_bucket(disk: &Disk, rules: &BucketRules) -> Result<Option<OwnedFd>> {
    let Some(own) = disk.own_if_any() else { return Ok(None) };
    some_if_there(sys::path::open_dir(&own.directory, &path_of(rules, b""), Symlinks::Deny))
}

fn path_of(rules: &BucketRules, place: &[u8]) -> Vec<u8> {
    let mut path = [VERSIONS, b"/", rules.bucket_id.as_bytes()].concat();
    if !place.is_empty() {
        path.push(b'/');
        path.extend_from_slice(place);
    }
    path
}

fn some_if_there<T>(opened: sys::Result<T>) -> Result<Option<T>> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(errno) if sys::errno::is_gone(errno) || errno == Errno::NAMETOOLONG => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

impl History {
    /// The one of the key at `location`, if it has any.
    pub(in crate::store) fn open(disk: &Disk, rules: &BucketRules, location: &Location) -> Result<Option<Self>> {
        let Some(own) = disk.own_if_any() else { return Ok(None) };
        let directory = some_if_there(sys::path::open_dir(&own.directory, &path_of(rules, &location.path), Symlinks::Deny))?;
        let Some(directory) = directory else { return Ok(None) };
        let history = Self { directory, base: base_of(location) };
        // It may be another key's alone.
        let is_there = some_if_there(sys::stat::at(&history.directory, history.base))?.is_some();
        Ok(is_there.then_some(history))
    }

    /// The same, made if need be. Nobody else makes or removes this key's, whose lock the caller holds.
    pub(in crate::store) fn ensure(disk: &Disk, rules: &BucketRules, location: &Location) -> Result<Self> {
        for _ in 0..PUBLISH_ATTEMPTS_MAX {
            match Self::make(disk, rules, location) {
                // The history of another key was removed, with the directories that had both.
                Err(StoreError::Kernel(Errno::NOENT)) => {}
                made => return made,
            }
        }
        Err(StoreError::Contended)
    }

    fn make(disk: &Disk, rules: &BucketRules, location: &Location) -> Result<Self> {
        let own = disk.own()?;
        let mut directory = own.directory.try_clone().map_err(|_| Errno::MFILE)?;
        for name in path_of(rules, &location.path).split(|byte| *byte == b'/') {
            directory = ensure_directory(disk, &directory, name)?;
        }
        let history = Self { directory, base: base_of(location) };
        match sys::path::create_new(&history.directory, history.base, 0o600, false) {
            Ok(_) => disk.sync_each(&[&history.directory])?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(history)
    }

    pub(in crate::store) fn name_of(&self, slot: Slot) -> Vec<u8> {
        match slot {
            Slot::Numbered(id) => [self.base, b"v", id.inverted().as_bytes()].concat(),
            Slot::Null => [self.base, b"n"].concat(),
            Slot::Marker => [self.base, b"m"].concat(),
        }
    }

    fn slot_of(&self, name: &[u8]) -> Option<Slot> {
        match name.strip_prefix(self.base)? {
            b"n" => Some(Slot::Null),
            b"m" => Some(Slot::Marker),
            rest => VersionId::from_inverted(rest.strip_prefix(b"v")?).map(Slot::Numbered),
        }
    }

    /// The greatest id that is, or was, in here.
    pub(in crate::store) fn top(&self) -> Result<Option<VersionId>> {
        let mut top = [0; VersionId::SIZE];
        match sys::xattr::read_at(&self.directory, self.base, TOP_NAME, &mut top) {
            Ok(Some(VersionId::SIZE)) => Ok(VersionId::from_bytes(top)),
            // Made a moment ago, or damaged.
            Ok(_) | Err(Errno::RANGE) => Ok(self.newest(1)?.first().map(|newest| newest.place)),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Notes that this id is in here.
    pub(in crate::store) fn raise(&self, disk: &Disk, id: VersionId) -> Result<()> {
        if self.top()? < Some(id) { self.set_top(disk, Some(id)) } else { Ok(()) }
    }

    /// The same after a crash.
    pub(in crate::store) fn recount(&self, disk: &Disk) -> Result<()> {
        self.set_top(disk, self.newest(1)?.first().map(|newest| newest.place))
    }

    pub(in crate::store) fn set_top(&self, disk: &Disk, top: Option<VersionId>) -> Result<()> {
        let head = sys::path::open_read(&self.directory, self.base, Symlinks::Deny)?;
        let bytes = top.map_or([0; VersionId::SIZE], VersionId::to_bytes);
        sys::xattr::write(&head, TOP_NAME, &bytes)?;
        disk.sync_each(&[&head])
    }

    /// What lies in a slot; `None`: nothing that says so itself.
    pub(in crate::store) fn look(&self, slot: Slot) -> Result<Option<Kept>> {
        let name = self.name_of(slot);
        let Some((stat, summary)) = some_if_there(fetch(&self.directory, &name))?.flatten() else { return Ok(None) };
        // One that was written to, through a descriptor from before, is that version still, though nothing else of its record holds.
        let claimed = match summary {
            Some(summary) => Some(summary),
            None => some_if_there(claimed(&self.directory, &name))?.flatten(),
        };
        Ok(Self::understand(slot, stat, summary, claimed))
    }

    fn understand(slot: Slot, stat: FileStat, summary: Option<Summary>, claimed: Option<Summary>) -> Option<Kept> {
        let id = claimed.and_then(|claimed| claimed.version_id);
        let is_marker = claimed.is_some_and(|claimed| claimed.is_delete_marker);
        let version = match (slot, id) {
            (Slot::Numbered(meant), Some(id)) if meant == id => Version::Id(id),
            (Slot::Null, None) => Version::Null,
            (Slot::Null | Slot::Marker, Some(id)) if id.is_place() => Version::Null,
            (Slot::Marker, Some(id)) => Version::Id(id),
            _ => return None,
        };
        if slot == Slot::Marker && !is_marker {
            return None;
        }
        // A file without a record: somebody's, and as old as it says.
        let place = id.unwrap_or_else(|| VersionId::place_after(None, stat.mtime_ns));
        Some(Kept { slot, version, place, is_marker, stat, summary })
    }

    /// The delete marker that is what the key is while nothing has its name.
    pub(in crate::store) fn current_marker(&self) -> Result<Option<Kept>> {
        match self.look(Slot::Marker)? {
            // Nothing has come after it.
            Some(marker) if Some(marker.place) >= self.top()? => Ok(Some(marker)),
            // A POSIX program has removed what was put after it; or a crash came before it got a number.
            _ => Ok(self.newest(1)?.into_iter().next().filter(|newest| newest.is_marker)),
        }
    }

    /// Whether a version called `null` has come in here since.
    pub(in crate::store) fn has_null_after(&self, place: VersionId) -> Result<bool> {
        Ok(self.look(Slot::Null)?.is_some_and(|null| null.place > place))
    }

    /// Whether the newest delete marker is one called `null`.
    pub(in crate::store) fn has_null_marker(&self) -> Result<bool> {
        Ok(self.look(Slot::Marker)?.is_some_and(|marker| marker.version == Version::Null))
    }

    /// The newest that lie in here.
    pub(in crate::store) fn newest(&self, count: usize) -> Result<Vec<Kept>> {
        self.newest_beside(None, None, None, count)
    }

    /// So many of those that stand below a place, the newest first, as they are beside what has the key's name: another `null` version is
    /// none where that is `null`, and a delete marker that is newer than it belongs to a DELETE that has not happened.
    pub(in crate::store) fn newest_beside(
        &self,
        below: Option<VersionId>,
        live: Option<Version>,
        live_place: Option<VersionId>,
        count: usize,
    ) -> Result<Vec<Kept>> {
        let (mut numbered, mut kept) = (Vec::new(), Vec::new());
        for slot in self.slots()? {
            match slot {
                Slot::Numbered(id) => numbered.push(id),
                Slot::Null | Slot::Marker => kept.extend(self.look(slot)?),
            }
        }
        let is_hidden = |kept: &Kept| {
            let is_undone = kept.slot == Slot::Marker && live.is_some() && Some(kept.place) > live_place && live_place.is_some();
            is_undone || (kept.version == Version::Null && live == Some(Version::Null))
        };
        kept.retain(|kept| !is_hidden(kept));
        let has_null_marker = kept.iter().any(|kept| kept.slot == Slot::Marker && kept.version == Version::Null);
        kept.retain(|kept| kept.slot != Slot::Null || !has_null_marker);
        kept.retain(|kept| below.is_none_or(|below| kept.place < below));
        numbered.sort_unstable_by(|one, other| other.cmp(one));
        for id in numbered.into_iter().filter(|id| below.is_none_or(|below| *id < below)) {
            if kept.len() >= count + 2 {
                break;
            }
            kept.extend(self.look(Slot::Numbered(id))?);
        }
        kept.sort_by_key(|kept| std::cmp::Reverse(kept.place));
        kept.truncate(count);
        Ok(kept)
    }

    /// The names that are there.
    pub(in crate::store) fn slots(&self) -> Result<Vec<Slot>> {
        let mut slots = Vec::new();
        let mut buffer = sys::dir::buffer(64 * 1024);
        // The offset of our own descriptor is not moved: others read through it.
        let directory = sys::path::open_dir(&self.directory, b"", Symlinks::Deny)?;
        let _ = sys::dir::read(&directory, &mut buffer, |entry| {
            slots.extend(self.slot_of(entry.name));
            std::ops::ControlFlow::<()>::Continue(())
        })?;
        Ok(slots)
    }

    /// The name of a slot that is about to be given. What has it and is not what it says was never acknowledged; a `null` version is
    /// replaced by a newer one.
    pub(in crate::store) fn free(&self, slot: Slot) -> Result<Vec<u8>> {
        if slot != Slot::Null && self.look(slot)?.is_some() {
            return Err(StoreError::Contended);
        }
        let name = self.name_of(slot);
        self.free_name(&name)?;
        Ok(name)
    }

    pub(in crate::store) fn remove(&self, slot: Slot) -> Result<()> {
        self.free_name(&self.name_of(slot))
    }

    pub(in crate::store) fn free_name(&self, name: &[u8]) -> Result<()> {
        match sys::path::unlink(&self.directory, name) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// What has the file of this name in the history, if it is a file.
    pub(in crate::store) fn stat(&self, name: &[u8]) -> Result<Option<FileStat>> {
        Ok(some_if_there(sys::stat::at(&self.directory, name))?.filter(|stat| stat.kind == FileKind::Regular))
    }

    /// Removes what is left of a history in which nothing is any more, with the directories that have nothing else.
    pub(in crate::store) fn prune(self, disk: &Disk, rules: &BucketRules, location: &Location) -> Result<()> {
        if !self.slots()?.is_empty() {
            return Ok(());
        }
        sys::path::unlink(&self.directory, self.base)?;
        let own = disk.own()?;
        let path = path_of(rules, &location.path);
        // Not the bucket's own, nor what is above that.
        let bucket = path_of(rules, b"").len();
        let mut end = path.len();
        while end > bucket {
            let slash = path[..end].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            let parent = sys::path::open_dir(&own.directory, &path[..slash], Symlinks::Deny)?;
            if sys::path::rmdir(&parent, &path[slash + 1..end]).is_err() {
                break;
            }
            end = slash;
        }
        Ok(())
    }
}

/// A version in the history. Where the live file is `null`, no other one is.
pub(in crate::store) fn find(history: &History, version: Version, live: Option<Version>) -> Result<Option<Kept>> {
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
pub(in crate::store) fn implied_marker(top: Option<VersionId>) -> Option<Version> {
    top.map(|top| Version::Id(VersionId::after(Some(top), 0, 1)))
}

fn base_of(location: &Location) -> &'static [u8] {
    if location.is_directory_object { BODY_OF_DIRECTORY } else { OBJECT_OF_DIRECTORY }
}

fn ensure_directory(disk: &Disk, parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    match sys::path::open_dir(parent, name, Symlinks::Deny) {
        Err(Errno::NOENT) => {}
        opened => return Ok(opened?),
    }
    match sys::path::mkdir(parent, name, PRIVATE) {
        Ok(()) => disk.sync_each(&[parent])?,
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(sys::path::open_dir(parent, name, Symlinks::Deny)?)
}
