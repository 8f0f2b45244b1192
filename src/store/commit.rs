//! From a filled file to an object (DESIGN §5): everything about it goes onto the file first, then the name, under the
//! key's lock, with the precondition decided there; then, outside, the barrier.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::barrier::Ticket;
use super::displace::{self, Outcome, Spot, Takes};
use super::key::{self, Location};
use super::object::{self, State};
use super::record::{EXTENDED_ALTERNATE_NAME, EXTENDED_NAME, Encoded, Record, SUMMARY_NAME};
use super::spill::{self, Pinned};
use super::stage::{self, Staged};
use super::staging::Identity;
use super::tree::{self, Obstacle, Parents};
use super::versions::Change;
use super::volume::{Sync, Volume};
use super::{Result, StoreError, inherit};
use crate::base::version_id::Version;
use crate::limits::{EXTENDED_RECORD_INLINE_SIZE_MAX, PUBLISH_ATTEMPTS_MAX};
use crate::sys::{self, Errno, FileKind};

/// Decides, under the key's lock, whether a change may happen, by what is there now (`None`: nothing).
pub type Condition = Box<dyn Fn(Option<&State>) -> bool + Send>;

/// A filled file on its way to becoming an object.
pub struct Upload {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: Vec<u8>,
    /// The file.
    pub staged: Staged,
    /// Bytes of the object. The file may be longer by padding.
    pub size: u64,
    /// The end of the object that has no aligned length, and its offset: written through the page cache.
    pub tail: Option<(u64, Vec<u8>)>,
    /// Everything to be remembered; size and mtime are filled in here.
    pub record: Record,
    /// The precondition, if there is one.
    pub condition: Option<Condition>,
}

/// The spilled part of a record, if it has one: held until the file that points there has a name.
pub(super) type Spilled = Option<Pinned>;

/// A published object.
#[derive(Debug, Clone)]
pub struct Published {
    /// What to wait for before it is acknowledged.
    pub ticket: Ticket,
    /// Its record, complete.
    pub record: Record,
    /// Which version it is; `None` in a bucket that never kept any.
    pub version: Option<Version>,
}

/// Publishes an object, or replaces the one that is there.
pub fn commit(volume: &Volume, upload: Upload) -> Result<Published> {
    if !volume.takes_changes() {
        return Err(StoreError::VolumeFailed);
    }
    let Upload { bucket, key, mut staged, size, tail, mut record, condition } = upload;
    let location = key::locate(&key)?;
    let place = Place { bucket: &bucket, key: &key, location: &location, condition: condition.as_ref(), parent: None };
    if place.is_bare_directory(size) {
        return publish_directory_object(volume, &place, record);
    }
    finish_data(volume, &staged, size, tail)?;
    let mut spilled = seal(volume, &staged.file, size, &mut record)?;
    let version = publish(volume, &place, &mut staged, &mut |_| Ok(spilled.take()))?;
    Ok(Published { ticket: volume.barrier.published(), record, version })
}

/// Where a file is published, and on which condition.
pub(super) struct Place<'a> {
    pub(super) bucket: &'a str,
    pub(super) key: &'a [u8],
    pub(super) location: &'a Location,
    pub(super) condition: Option<&'a Condition>,
    /// The directory of its name, when that was opened a moment ago.
    pub(super) parent: Option<Rc<OwnedFd>>,
}

impl Place<'_> {
    /// Whether an object of this size is a record on a directory and no file.
    pub(super) fn is_bare_directory(&self, size: u64) -> bool {
        self.location.is_directory_object && size == 0
    }

    /// What is there now meets the precondition. Answers what the name may then be taken from.
    pub(super) fn check(&self, volume: &Volume) -> Result<Takes> {
        let Some(condition) = self.condition else { return Ok(Takes::AnyFile) };
        let now = current(volume, self.bucket, self.key)?;
        if condition(now.as_ref()) {
            Ok(decided_for(now.as_ref()))
        } else {
            Err(StoreError::PreconditionFailed { was_there: now.is_some() })
        }
    }

    /// The directory of its name, where the key itself is one.
    fn inside<'a>(&'a self, parents: &'a Parents, name: &'a [u8]) -> Spot<'a> {
        Spot { directory: &parents.directory, bucket: self.bucket, folder: &self.location.path, name }
    }
}

/// What may be taken away on a precondition that was decided for this.
pub(super) fn decided_for(now: Option<&State>) -> Takes {
    match now {
        Some(state) if state.stat.kind == FileKind::Regular => Takes::Only(Identity::of(&state.stat)),
        // An object that is a record on a directory has no file.
        _ => Takes::Nothing,
    }
}

/// The last bytes, the exact length, and no dirty page left: a name given to a file with dirty pages could survive a power
/// cut that its bytes do not.
fn finish_data(volume: &Volume, staged: &Staged, size: u64, tail: Option<(u64, Vec<u8>)>) -> Result<()> {
    if let Some((offset, bytes)) = tail {
        if staged.is_direct {
            sys::file::set_direct(&staged.file, false)?;
        }
        sys::file::write_all_at(&staged.file, &bytes, offset)?;
    }
    let stat = sys::stat::of(&staged.file)?;
    if stat.size != size {
        sys::space::truncate(&staged.file, size)?;
    }
    clean(volume, &staged.file)
}

/// Begins what `clean` waits for.
pub(super) fn start_cleaning(volume: &Volume, file: &OwnedFd) -> Result<()> {
    #[cfg(feature = "seams")]
    if super::seams::mutant() == super::seams::Mutant::Dirty {
        return Ok(());
    }
    match volume.sync() {
        Sync::Barrier => Ok(sys::file::start_write_back(file)?),
        Sync::Each | Sync::Never => Ok(()),
    }
}

/// Waits until no page of a file is dirty, where its name needs that.
pub(super) fn clean(volume: &Volume, file: &OwnedFd) -> Result<()> {
    #[cfg(feature = "seams")]
    if super::seams::mutant() == super::seams::Mutant::Dirty {
        return Ok(());
    }
    match volume.sync() {
        Sync::Barrier => sys::file::write_back(file)?,
        Sync::Each | Sync::Never => {}
    }
    Ok(())
}

/// The record onto the file. mtime is set first, to one that no later change has, and read back, since the filesystem may keep less than
/// nanoseconds; writing an attribute does not change it.
pub(super) fn seal(volume: &Volume, file: &OwnedFd, size: u64, record: &mut Record) -> Result<Spilled> {
    sys::path::set_mtime(file, volume.facts().grain.mtime_of_record(sys::clock::realtime_ns()))?;
    seal_as_written(volume, file, size, record)
}

/// The same for a file that was written a moment ago, where its mtime is as good (`Times::tell_apart`).
pub(super) fn seal_as_written(volume: &Volume, file: &OwnedFd, size: u64, record: &mut Record) -> Result<Spilled> {
    let stat = sys::stat::of(file)?;
    assert_eq!(stat.size, size, "a file of another length than its object is never published");
    (record.size, record.mtime_ns) = (size, stat.mtime_ns);
    // Given under the key's lock; that of a copy's source is not the copy's.
    (record.version_id, record.is_delete_marker) = (None, false);
    let spilled = write_record(volume, file, &record.encode())?;
    volume.sync_each(&[file])?;
    Ok(spilled)
}

/// A record as it was onto another file.
pub(super) fn seal_as_of(volume: &Volume, file: &OwnedFd, mut record: Record) -> Result<Spilled> {
    sys::path::set_mtime(file, record.mtime_ns)?;
    seal_as_written(volume, file, 0, &mut record)
}

/// Both attributes onto a file that has neither.
fn write_record(volume: &Volume, file: &OwnedFd, encoded: &Encoded) -> Result<Spilled> {
    let spilled = write_extended(volume, file, encoded, EXTENDED_NAME)?;
    sys::xattr::write(file, SUMMARY_NAME, &encoded.summary_of(spilled.is_some(), false))?;
    Ok(spilled)
}

/// Replaces the record of a directory. Its extended part goes where the old one is not, and counts from the moment in which the
/// summary names it: whatever comes between, the object is the old one or the new one.
fn replace_record(volume: &Volume, directory: &OwnedFd, encoded: &Encoded) -> Result<()> {
    let (spilled, is_alternate) = write_beside(volume, directory, encoded)?;
    sys::xattr::write(directory, SUMMARY_NAME, &encoded.summary_of(spilled.is_some(), is_alternate))?;
    for (name, is_meant) in [(EXTENDED_NAME, !is_alternate), (EXTENDED_ALTERNATE_NAME, is_alternate)] {
        if encoded.extended.is_none() || !is_meant {
            sys::xattr::remove(directory, name)?;
        }
    }
    Ok(())
}

/// Writes the extended record where the summary of now does not look, and answers whether that is the other place.
fn write_beside(volume: &Volume, directory: &OwnedFd, encoded: &Encoded) -> Result<(Spilled, bool)> {
    let before = object::read_summary(directory)?.filter(|before| before.has_extended);
    let is_alternate = before.is_some_and(|before| !before.is_alternate);
    let name = if is_alternate { EXTENDED_ALTERNATE_NAME } else { EXTENDED_NAME };
    Ok((write_extended(volume, directory, encoded, name)?, is_alternate))
}

/// The extended record, if there is one, into the attribute `name`, or into a spill file when it does not fit beside the inode.
fn write_extended(volume: &Volume, file: &OwnedFd, encoded: &Encoded, name: &CStr) -> Result<Spilled> {
    let Some(extended) = &encoded.extended else { return Ok(None) };
    if extended.len() <= EXTENDED_RECORD_INLINE_SIZE_MAX {
        match sys::xattr::write(file, name, extended) {
            Ok(()) => return Ok(None),
            // ext4 has one block for all attributes of a file: of 1 KiB on small images.
            Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let pinned = spill::write(volume, extended)?;
    sys::xattr::write(file, name, pinned.pointer())?;
    Ok(Some(pinned))
}

/// How one attempt to publish ended.
enum Attempt {
    Done,
    /// Other names changed meanwhile: start again.
    Again,
    /// This object, at a path relative to the bucket, has to become a directory first.
    Convert(Vec<u8>),
}

/// Gives a file its name, under the key's lock. `prepare` runs there once, after the precondition and before the name: the last
/// steps of a multipart upload, which cannot be taken back. It answers what the file's record holds on to.
pub(super) fn publish(
    volume: &Volume,
    place: &Place<'_>,
    staged: &mut Staged,
    prepare: &mut dyn FnMut(&OwnedFd) -> Result<Spilled>,
) -> Result<Option<Version>> {
    let published = try_to_publish(volume, place, staged, prepare);
    match published {
        // Other writers; or somebody who has removed what we stage in.
        Err(StoreError::Contended) => volume.suspect(),
        // Directories that were made on the way, of which the last may be one too deep for this filesystem.
        Err(StoreError::Kernel(_)) => tree::prune_unused(volume, place.bucket, &place.location.path),
        _ => {}
    }
    published
}

fn try_to_publish(
    volume: &Volume,
    place: &Place<'_>,
    staged: &mut Staged,
    prepare: &mut dyn FnMut(&OwnedFd) -> Result<Spilled>,
) -> Result<Option<Version>> {
    let mut is_prepared = false;
    // Held until the file has its name.
    let mut _spilled = None;
    let mut parent = place.parent.clone();
    for _ in 0..PUBLISH_ATTEMPTS_MAX {
        let guard = volume.locks.lock(place.bucket, place.key);
        let takes = place.check(volume)?;
        if !is_prepared {
            _spilled = prepare(&staged.file)?;
            is_prepared = true;
        }
        // What is restored is what it was.
        let is_new = !staged.is_restored();
        let change = is_new.then(|| Change::begin(volume, place.bucket, place.key, place.location)).transpose()?.flatten();
        if let Some(change) = &change {
            change.mark(&staged.file)?;
        }
        let change = change.as_ref();
        let attempt = match place.location.is_directory_object {
            true => publish_body(volume, place, staged, takes, change)?,
            false => publish_name(volume, place, staged, takes, parent.take(), change)?,
        };
        match attempt {
            Attempt::Done => {
                #[cfg(feature = "seams")]
                super::seams::note_published(&staged.file);
                return change.map_or(Ok(None), |change| change.finish().map(|()| Some(change.version())));
            }
            Attempt::Again => {}
            Attempt::Convert(path) => {
                // Both keys' locks, in their common order, so ours is let go of first.
                drop(guard);
                convert(volume, place, &path)?;
            }
        }
    }
    Err(StoreError::Contended)
}

fn convert(volume: &Volume, place: &Place<'_>, path: &[u8]) -> Result<()> {
    let other = key::key_of(path, false).ok_or(StoreError::Foreign)?;
    let _guard = volume.locks.lock_both(place.bucket, place.key, &other);
    tree::convert_to_directory(volume, place.bucket, path)
}

/// What is at a key now, for a precondition.
pub(super) fn current(volume: &Volume, bucket: &str, key: &[u8]) -> Result<Option<State>> {
    match object::open(volume, bucket, key) {
        Ok(object) => Ok(Some(object.state)),
        Err(StoreError::NoObject) => Ok(None),
        Err(error) => Err(error),
    }
}

fn publish_name(
    volume: &Volume,
    place: &Place<'_>,
    staged: &mut Staged,
    takes: Takes,
    parent: Option<Rc<OwnedFd>>,
    change: Option<&Change<'_>>,
) -> Result<Attempt> {
    let (bucket, location) = (place.bucket, place.location);
    // One that was opened before the names on its way are durable is reached again, step by step.
    let parent = parent.filter(|_| !volume.has_unsynced());
    let parents = match parent.map_or_else(|| tree::parents(volume, bucket, location.parent()), |at| Ok(Parents::at(at))) {
        Ok(parents) => parents,
        Err(Obstacle::File { path }) => return Ok(Attempt::Convert(path)),
        // A directory on the way was pruned between two steps.
        Err(Obstacle::Error(StoreError::Kernel(Errno::NOENT) | StoreError::Contended)) => return Ok(Attempt::Again),
        Err(Obstacle::Error(error)) => return Err(error),
    };
    let spot = Spot { directory: &parents.directory, bucket, folder: location.parent(), name: location.name() };
    let attempt = name_file(volume, staged, spot, takes, change)?;
    if let Attempt::Convert(_) = attempt {
        // The name is a directory: the object lives inside it.
        let inside = match tree::parents(volume, bucket, &location.path) {
            Ok(inside) => inside,
            Err(_) => return Ok(Attempt::Again),
        };
        return match name_file(volume, staged, place.inside(&inside, key::OBJECT_OF_DIRECTORY), takes, change)? {
            Attempt::Convert(_) => Err(StoreError::Foreign),
            attempt => Ok(attempt),
        };
    }
    Ok(attempt)
}

fn publish_body(
    volume: &Volume,
    place: &Place<'_>,
    staged: &mut Staged,
    takes: Takes,
    change: Option<&Change<'_>>,
) -> Result<Attempt> {
    let inside = match tree::parents(volume, place.bucket, &place.location.path) {
        Ok(inside) => inside,
        Err(Obstacle::File { path }) => return Ok(Attempt::Convert(path)),
        Err(Obstacle::Error(StoreError::Kernel(Errno::NOENT) | StoreError::Contended)) => return Ok(Attempt::Again),
        Err(Obstacle::Error(error)) => return Err(error),
    };
    if let Some(change) = change {
        change.embody(&inside.directory)?;
    }
    let attempt = name_file(volume, staged, place.inside(&inside, key::BODY_OF_DIRECTORY), takes, change)?;
    if matches!(attempt, Attempt::Done) {
        // The body carries the record now.
        sys::xattr::remove(&inside.directory, SUMMARY_NAME)?;
    }
    Ok(attempt)
}

/// Gives the file its name. `Convert` here says only that a directory has that name.
fn name_file(
    volume: &Volume,
    staged: &mut Staged,
    spot: Spot<'_>,
    takes: Takes,
    change: Option<&Change<'_>>,
) -> Result<Attempt> {
    if staged.name.is_some() && !staged.is_restored() {
        inherit::from_directory(&staged.file, spot.directory)?;
        volume.sync_each(&[&staged.file])?;
    }
    let linked = match (takes, &staged.name) {
        // What the precondition was decided for has the name, or had it.
        (Takes::Only(_), _) => Err(Errno::EXIST),
        (_, None) => sys::path::link(&staged.file, spot.directory, spot.name),
        (_, Some(temporary)) => volume.rename_new(temporary.directory(), temporary.name(), spot.directory, spot.name),
    };
    match linked {
        Ok(()) => {}
        Err(Errno::EXIST) => match sys::stat::at(spot.directory, spot.name) {
            Ok(stat) if stat.kind == FileKind::Directory => return Ok(Attempt::Convert(Vec::new())),
            // EEXIST decides: nobody who uses the lock made this file.
            Ok(stat) if stat.kind == FileKind::Regular && !takes.takes(&stat) => return Ok(Attempt::Again),
            Ok(stat) if stat.kind == FileKind::Regular => {
                if inherit::from_file(volume, &staged.file, spot.directory, spot.name, &stat)? {
                    volume.sync_each(&[&staged.file])?;
                }
                let replaced = match change {
                    Some(change) => change.replace(staged, spot, &stat, takes)?,
                    None => displace::replace(volume, staged, spot, &stat, takes)?,
                };
                if replaced == Outcome::Again {
                    return Ok(Attempt::Again);
                }
            }
            Ok(_) => return Err(StoreError::Foreign),
            Err(Errno::NOENT) => return Ok(Attempt::Again),
            Err(errno) => return Err(errno.into()),
        },
        Err(Errno::NOENT) => return Ok(Attempt::Again),
        Err(errno) => return Err(errno.into()),
    }
    volume.sync_each(&[spot.directory])?;
    Ok(Attempt::Done)
}

/// Gives a version that was in the history the name of its key, if nothing has that. What it was there it is not any more.
pub(super) fn restore(volume: &Volume, bucket: &str, key: &[u8], mut staged: Staged) -> Result<()> {
    let (location, is_free): (_, Condition) = (key::locate(key)?, Box::new(|now| now.is_none()));
    let place = Place { bucket, key, location: &location, condition: Some(&is_free), parent: None };
    match publish(volume, &place, &mut staged, &mut |_| Ok(None)) {
        // Somebody has published something newer.
        Ok(_) | Err(StoreError::PreconditionFailed { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Where versions are kept `dir/` always has a body: a record on a directory cannot be moved.
fn publish_empty_body(volume: &Volume, place: &Place<'_>, mut record: Record) -> Result<Published> {
    let mut staged = stage::stage(volume, place.bucket, &place.location.path, None, false)?;
    let mut spilled = seal(volume, &staged.file, 0, &mut record)?;
    let version = publish(volume, place, &mut staged, &mut |_| Ok(spilled.take()))?;
    Ok(Published { ticket: volume.barrier.published(), record, version })
}

/// `dir/` without a body: a record on the directory, and no file.
pub(super) fn publish_directory_object(volume: &Volume, place: &Place<'_>, mut record: Record) -> Result<Published> {
    for _ in 0..PUBLISH_ATTEMPTS_MAX {
        let guard = volume.locks.lock(place.bucket, place.key);
        if volume.rules_of(place.bucket).is_some() {
            drop(guard);
            return publish_empty_body(volume, place, record);
        }
        let takes = place.check(volume)?;
        let parents = match tree::parents(volume, place.bucket, &place.location.path) {
            Ok(parents) => parents,
            Err(Obstacle::File { path }) => {
                drop(guard);
                convert(volume, place, &path)?;
                continue;
            }
            Err(Obstacle::Error(StoreError::Kernel(Errno::NOENT) | StoreError::Contended)) => continue,
            Err(Obstacle::Error(error)) => return Err(error),
        };
        let body = place.inside(&parents, key::BODY_OF_DIRECTORY);
        let old_body = match sys::stat::at(body.directory, body.name) {
            Ok(stat) if stat.kind == FileKind::Regular && !takes.takes(&stat) => continue,
            Ok(stat) => Some(stat).filter(|stat| stat.kind == FileKind::Regular),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno.into()),
        };
        (record.size, record.mtime_ns) = (0, sys::clock::realtime_ns());
        (record.version_id, record.is_delete_marker) = (None, false);
        replace_record(volume, &parents.directory, &record.encode())?;
        if let Some(stat) = old_body {
            // A newer one stays.
            displace::remove(volume, body, &stat, takes)?;
        }
        volume.sync_each(&[&parents.directory])?;
        return Ok(Published { ticket: volume.barrier.published(), record, version: None });
    }
    Err(StoreError::Contended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Durability;
    use crate::store::{bucket, stage};
    use crate::sys::path::Symlinks;

    struct Fixture {
        top: tempfile::TempDir,
        volume: Volume,
    }

    impl Fixture {
        fn new() -> Self {
            let top = tempfile::tempdir().unwrap();
            let volume = Volume::open(top.path().as_os_str().as_encoded_bytes(), Durability::Acked).unwrap();
            bucket::create(&volume, "bucket").unwrap();
            Self { top, volume }
        }

        fn put(&self, key: &str, bytes: &[u8], condition: Option<Condition>) -> Result<Published> {
            let path = key::locate(key.as_bytes())?.path;
            let staged = stage::stage(&self.volume, "bucket", &path, None, false)?;
            let (bucket, key, tail) = ("bucket".to_owned(), key.as_bytes().to_vec(), Some((0, bytes.to_vec())));
            let record = Record::new(0, 0, [0; 16]);
            commit(&self.volume, Upload { bucket, key, staged, size: bytes.len() as u64, tail, record, condition })
        }
    }

    /// A crash between the two attributes of a directory's record leaves the old object whole.
    #[test]
    fn the_record_of_a_directory_changes_in_one_step() {
        let fixture = Fixture::new();
        let record_of = |text: &str| {
            let mut record = Record::new(0, 0, [text.len() as u8; 16]);
            record.user_metadata = vec![(b"text".to_vec(), text.as_bytes().to_vec())];
            record
        };
        let seen = || {
            let record = object::open(&fixture.volume, "bucket", b"dir/").unwrap().state.record.unwrap();
            let text = record.user_metadata.first().map(|(_, text)| String::from_utf8(text.clone()).unwrap());
            (record.etag, text)
        };
        let directory_of = || sys::path::open_dir(&fixture.volume.root, b"bucket/dir", Symlinks::Deny).unwrap();
        std::fs::create_dir(fixture.top.path().join("bucket/dir")).unwrap();
        let mut before = None;
        for text in ["a", "bb", "ccc", "dddd"] {
            let (directory, encoded) = (directory_of(), record_of(text).encode());
            write_beside(&fixture.volume, &directory, &encoded).unwrap();
            if let Some(before) = &before {
                assert_eq!(&seen(), before);
            }
            replace_record(&fixture.volume, &directory, &encoded).unwrap();
            assert_eq!(seen(), ([text.len() as u8; 16], Some(text.to_owned())));
            before = Some(seen());
        }
        replace_record(&fixture.volume, &directory_of(), &Record::new(0, 0, [9; 16]).encode()).unwrap();
        assert_eq!(seen(), ([9; 16], None));
        let mut names = [0; 256];
        let size = sys::xattr::names(directory_of(), &mut names).unwrap();
        assert!(
            !names[..size].split(|byte| *byte == 0).any(|name| name.starts_with(b"user.sluice.")),
            "what was replaced is gone"
        );
    }

    /// `If-None-Match: *` counts a file made through POSIX, also one that is made behind the look.
    #[test]
    fn a_file_that_appears_behind_the_precondition_is_not_replaced() {
        let fixture = Fixture::new();
        let path = fixture.top.path().join("bucket/key");
        let made = path.clone();
        let condition: Condition = Box::new(move |now| {
            if now.is_none() {
                std::fs::write(&made, b"made through POSIX").unwrap();
            }
            now.is_none()
        });
        assert_eq!(fixture.put("key", b"put", Some(condition)).unwrap_err(), StoreError::PreconditionFailed { was_there: true });
        assert_eq!(std::fs::read(&path).unwrap(), b"made through POSIX");
        fixture.put("key", b"put", None).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"put");
        fixture.put("key", b"put again", Some(Box::new(|now| now.is_some()))).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"put again");
    }
}
