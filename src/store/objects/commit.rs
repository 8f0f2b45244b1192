//! From a filled file to an object (DESIGN §5): everything about it goes onto the file first, then the name, under the
//! key's lock, with the precondition decided there; then, outside, the barrier.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::seal::{Spilled, replace_record, seal};
use super::versions::Change;
use super::write::{Condition, Published, Target, Write};
use crate::base::version_id::Version;
use crate::limits::PUBLISH_ATTEMPTS_MAX;
use crate::store::disk::displace::{self, Outcome, Takes};
use crate::store::disk::inherit;
#[cfg(test)]
use crate::store::disk::meddle::{self, Point};
use crate::store::disk::spot::Spot;
use crate::store::disk::stage::Staged;
use crate::store::disk::tree::{self, Obstacle, Parents};
use crate::store::disk::{Bucket, Disk};
use crate::store::error::{Result, StoreError};
use crate::store::names::key;
use crate::store::names::record::{Record, SUMMARY_NAME};
use crate::sys::{self, Errno, FileKind};

/// A file that holds an object's bytes.
pub struct FilledFile {
    /// The file.
    pub staged: Staged,
    /// Bytes of the object. The file may be longer by padding.
    pub size: u64,
    /// The end of the object that has no aligned length, and its offset: written through the page cache.
    pub tail: Option<(u64, Vec<u8>)>,
}

/// Publishes an object, or replaces the one that is there.
pub fn commit(disk: &Disk, write: Write, filled: FilledFile) -> Result<Published> {
    if !disk.takes_changes() {
        return Err(StoreError::VolumeFailed);
    }
    let Write { bucket, key, mut record, condition } = write;
    let FilledFile { mut staged, size, tail } = filled;
    let location = key::locate(&key)?;
    let target = Target { bucket: disk.bucket(&bucket), key: &key, location: &location, condition: condition.as_ref() };
    if target.is_bare_directory(size) {
        return publish_directory_object(target, record);
    }
    finish_data(disk, &staged, size, tail)?;
    let mut spilled = seal(disk, &staged.file, size, &mut record)?;
    let version = publish(target, &mut staged, None, &mut |_| Ok(spilled.take()))?;
    Ok(Published { ticket: disk.barrier().published(), record, version })
}

/// The last bytes, the exact length, and no dirty page left: a name given to a file with dirty pages could survive a power
/// cut that its bytes do not.
fn finish_data(disk: &Disk, staged: &Staged, size: u64, tail: Option<(u64, Vec<u8>)>) -> Result<()> {
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
    disk.clean(&staged.file)
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
/// steps of a multipart upload, which cannot be taken back. It answers what the file's record holds on to. `parent` is the directory of
/// its name, when that was opened a moment ago.
pub(in crate::store) fn publish(
    target: Target<'_>,
    staged: &mut Staged,
    parent: Option<Rc<OwnedFd>>,
    prepare: &mut dyn FnMut(&OwnedFd) -> Result<Spilled>,
) -> Result<Option<Version>> {
    let published = try_to_publish(target, staged, parent, prepare);
    match published {
        // Other writers; or somebody who has removed what we stage in.
        Err(StoreError::Contended) => target.bucket.disk.suspect(),
        // Directories that were made on the way, of which the last may be one too deep for this filesystem.
        Err(StoreError::Kernel(_)) => tree::prune_unused(target.bucket, &target.location.path),
        _ => {}
    }
    published
}

fn try_to_publish(
    target: Target<'_>,
    staged: &mut Staged,
    mut parent: Option<Rc<OwnedFd>>,
    prepare: &mut dyn FnMut(&OwnedFd) -> Result<Spilled>,
) -> Result<Option<Version>> {
    let mut is_prepared = false;
    // Held until the file has its name.
    let mut _spilled = None;
    for _ in 0..PUBLISH_ATTEMPTS_MAX {
        let guard = target.bucket.lock(target.key);
        let takes = target.check()?;
        if !is_prepared {
            _spilled = prepare(&staged.file)?;
            is_prepared = true;
        }
        // What is restored is what it was.
        let change = if staged.is_restored() { None } else { Change::begin(target.bucket, target.key, target.location)? };
        if let Some(change) = &change {
            change.mark(&staged.file)?;
        }
        let change = change.as_ref();
        let attempt = match target.location.is_directory_object {
            true => publish_body(target, staged, takes, change)?,
            false => publish_name(target, staged, takes, parent.take(), change)?,
        };
        match attempt {
            Attempt::Done => {
                #[cfg(test)]
                meddle::at(Point::Changed);
                #[cfg(feature = "seams")]
                crate::store::disk::seams::note_published(&staged.file);
                return change.map_or(Ok(None), |change| change.finish().map(|()| Some(change.version())));
            }
            Attempt::Again => {}
            Attempt::Convert(path) => {
                // Both keys' locks, in their common order, so ours is let go of first.
                drop(guard);
                convert(target, &path)?;
            }
        }
    }
    Err(StoreError::Contended)
}

fn convert(target: Target<'_>, path: &[u8]) -> Result<()> {
    let other = key::key_of(path, false).ok_or(StoreError::Foreign)?;
    let _guard = target.bucket.lock_both(target.key, &other);
    tree::convert_to_directory(target.bucket, path)
}

fn publish_name(
    target: Target<'_>,
    staged: &mut Staged,
    takes: Takes,
    parent: Option<Rc<OwnedFd>>,
    change: Option<&Change<'_>>,
) -> Result<Attempt> {
    let (bucket, location) = (target.bucket, target.location);
    // One that was opened before the names on its way are durable is reached again, step by step.
    let parent = parent.filter(|_| !bucket.disk.has_unsynced());
    let parents = match parent.map_or_else(|| tree::parents(bucket, location.parent()), |at| Ok(Parents::at(at))) {
        Ok(parents) => parents,
        Err(Obstacle::File { path }) => return Ok(Attempt::Convert(path)),
        // A directory on the way was pruned between two steps.
        Err(Obstacle::Error(StoreError::Kernel(Errno::NOENT) | StoreError::Contended)) => return Ok(Attempt::Again),
        Err(Obstacle::Error(error)) => return Err(error),
    };
    let spot = Spot { directory: &parents.directory, top: bucket.name, folder: location.parent(), name: location.name() };
    let attempt = name_file(bucket.disk, staged, spot, takes, change)?;
    if let Attempt::Convert(_) = attempt {
        // The name is a directory: the object lives inside it.
        let inside = match tree::parents(bucket, &location.path) {
            Ok(inside) => inside,
            Err(_) => return Ok(Attempt::Again),
        };
        return match name_file(bucket.disk, staged, target.inside(&inside, key::OBJECT_OF_DIRECTORY), takes, change)? {
            Attempt::Convert(_) => Err(StoreError::Foreign),
            attempt => Ok(attempt),
        };
    }
    Ok(attempt)
}

fn publish_body(target: Target<'_>, staged: &mut Staged, takes: Takes, change: Option<&Change<'_>>) -> Result<Attempt> {
    let inside = match tree::parents(target.bucket, &target.location.path) {
        Ok(inside) => inside,
        Err(Obstacle::File { path }) => return Ok(Attempt::Convert(path)),
        Err(Obstacle::Error(StoreError::Kernel(Errno::NOENT) | StoreError::Contended)) => return Ok(Attempt::Again),
        Err(Obstacle::Error(error)) => return Err(error),
    };
    if let Some(change) = change {
        change.embody(&inside.directory)?;
    }
    let attempt = name_file(target.bucket.disk, staged, target.inside(&inside, key::BODY_OF_DIRECTORY), takes, change)?;
    if matches!(attempt, Attempt::Done) {
        // The body carries the record now.
        sys::xattr::remove(&inside.directory, SUMMARY_NAME)?;
    }
    Ok(attempt)
}

/// Gives the file its name. `Convert` here says only that a directory has that name.
fn name_file(disk: &Disk, staged: &mut Staged, spot: Spot<'_>, takes: Takes, change: Option<&Change<'_>>) -> Result<Attempt> {
    if staged.name.is_some() && !staged.is_restored() {
        inherit::from_directory(&staged.file, spot.directory)?;
        disk.sync_each(&[&staged.file])?;
    }
    let linked = match (takes, &staged.name) {
        // What the precondition was decided for has the name, or had it.
        (Takes::Only(_), _) => Err(Errno::EXIST),
        (_, None) => sys::path::link(&staged.file, spot.directory, spot.name),
        (_, Some(temporary)) => disk.rename_new(temporary.directory(), temporary.name(), spot.directory, spot.name),
    };
    match linked {
        Ok(()) => {}
        Err(Errno::EXIST) => match sys::stat::at(spot.directory, spot.name) {
            Ok(stat) if stat.kind == FileKind::Directory => return Ok(Attempt::Convert(Vec::new())),
            // EEXIST decides: nobody who uses the lock made this file.
            Ok(stat) if stat.kind == FileKind::Regular && !takes.takes(&stat) => return Ok(Attempt::Again),
            Ok(stat) if stat.kind == FileKind::Regular => {
                if inherit::from_file(disk.label, &staged.file, spot.directory, spot.name, &stat)? {
                    disk.sync_each(&[&staged.file])?;
                }
                let replaced = match change {
                    Some(change) => change.replace(staged, spot, &stat, takes)?,
                    None => displace::replace(disk, staged, spot, &stat, takes)?,
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
    disk.sync_each(&[spot.directory])?;
    Ok(Attempt::Done)
}

/// Gives a version that was in the history the name of its key, if nothing has that. What it was there it is not any more.
pub(super) fn restore(bucket: Bucket<'_>, key: &[u8], mut staged: Staged) -> Result<()> {
    let (location, is_free): (_, Condition) = (key::locate(key)?, Box::new(|now| now.is_none()));
    let target = Target { bucket, key, location: &location, condition: Some(&is_free) };
    match publish(target, &mut staged, None, &mut |_| Ok(None)) {
        // Somebody has published something newer.
        Ok(_) | Err(StoreError::PreconditionFailed { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Where versions are kept `dir/` always has a body: a record on a directory cannot be moved.
fn publish_empty_body(target: Target<'_>, mut record: Record) -> Result<Published> {
    let disk = target.bucket.disk;
    let mut staged = target.bucket.stage(&target.location.path, None, false)?;
    let mut spilled = seal(disk, &staged.file, 0, &mut record)?;
    let version = publish(target, &mut staged, None, &mut |_| Ok(spilled.take()))?;
    Ok(Published { ticket: disk.barrier().published(), record, version })
}

/// `dir/` without a body: a record on the directory, and no file.
pub(in crate::store) fn publish_directory_object(target: Target<'_>, mut record: Record) -> Result<Published> {
    let disk = target.bucket.disk;
    for _ in 0..PUBLISH_ATTEMPTS_MAX {
        let guard = target.bucket.lock(target.key);
        if target.bucket.rules().is_some() {
            drop(guard);
            return publish_empty_body(target, record);
        }
        let takes = target.check()?;
        let parents = match tree::parents(target.bucket, &target.location.path) {
            Ok(parents) => parents,
            Err(Obstacle::File { path }) => {
                drop(guard);
                convert(target, &path)?;
                continue;
            }
            Err(Obstacle::Error(StoreError::Kernel(Errno::NOENT) | StoreError::Contended)) => continue,
            Err(Obstacle::Error(error)) => return Err(error),
        };
        let body = target.inside(&parents, key::BODY_OF_DIRECTORY);
        let old_body = match sys::stat::at(body.directory, body.name) {
            Ok(stat) if stat.kind == FileKind::Regular && !takes.takes(&stat) => continue,
            Ok(stat) => Some(stat).filter(|stat| stat.kind == FileKind::Regular),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno.into()),
        };
        (record.size, record.mtime_ns) = (0, sys::clock::realtime_ns());
        (record.version_id, record.is_delete_marker) = (None, false);
        replace_record(disk, &parents.directory, &record.encode())?;
        if let Some(stat) = old_body {
            // A newer one stays.
            displace::remove(disk, body, &stat, takes)?;
        }
        disk.sync_each(&[&parents.directory])?;
        return Ok(Published { ticket: disk.barrier().published(), record, version: None });
    }
    Err(StoreError::Contended)
}

#[cfg(test)]
mod tests {
    use super::super::seal::write_beside;
    use super::*;
    use crate::config::Durability;
    use crate::store::buckets;
    use crate::store::volume::Volume;
    use crate::sys::path::Symlinks;

    struct Fixture {
        top: tempfile::TempDir,
        volume: Volume,
    }

    impl Fixture {
        fn new() -> Self {
            let top = tempfile::tempdir().unwrap();
            let volume = Volume::open(top.path().as_os_str().as_encoded_bytes(), Durability::Acked).unwrap();
            buckets::create(volume.bucket("bucket"), volume.uploads()).unwrap();
            Self { top, volume }
        }

        fn put(&self, key: &str, bytes: &[u8], condition: Option<Condition>) -> Result<Published> {
            let path = key::locate(key.as_bytes())?.path;
            let staged = self.volume.bucket("bucket").stage(&path, None, false)?;
            let (bucket, key, tail) = ("bucket".to_owned(), key.as_bytes().to_vec(), Some((0, bytes.to_vec())));
            let record = Record::new(0, 0, [0; 16]);
            commit(
                self.volume.disk(),
                Write { bucket, key, record, condition },
                FilledFile { staged, size: bytes.len() as u64, tail },
            )
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
            let record = fixture.volume.bucket("bucket").open(b"dir/").unwrap().state.record.unwrap();
            let text = record.user_metadata.first().map(|(_, text)| String::from_utf8(text.clone()).unwrap());
            (record.etag, text)
        };
        let directory_of = || sys::path::open_dir(&fixture.volume.disk().root, b"bucket/dir", Symlinks::Deny).unwrap();
        std::fs::create_dir(fixture.top.path().join("bucket/dir")).unwrap();
        let mut before = None;
        for text in ["a", "bb", "ccc", "dddd"] {
            let (directory, encoded) = (directory_of(), record_of(text).encode());
            write_beside(fixture.volume.disk(), &directory, &encoded).unwrap();
            if let Some(before) = &before {
                assert_eq!(&seen(), before);
            }
            replace_record(fixture.volume.disk(), &directory, &encoded).unwrap();
            assert_eq!(seen(), ([text.len() as u8; 16], Some(text.to_owned())));
            before = Some(seen());
        }
        replace_record(fixture.volume.disk(), &directory_of(), &Record::new(0, 0, [9; 16]).encode()).unwrap();
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
