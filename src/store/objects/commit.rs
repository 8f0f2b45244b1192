//! From a filled file to an object (DESIGN §5): everything about it goes onto the file first, then the name, under the
//! key's lock, with the precondition decided there; then, outside, the barrier.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::open;
use super::write::{Published, Target, Write};
use crate::limits::{EXTENDED_RECORD_INLINE_SIZE_MAX, PUBLISH_ATTEMPTS_MAX};
use crate::store::disk::Disk;
use crate::store::disk::displace::{self, Outcome, Takes};
use crate::store::disk::inherit;
use crate::store::disk::spill::{self, Pinned};
use crate::store::disk::spot::Spot;
use crate::store::disk::stage::Staged;
use crate::store::disk::tree::{self, Obstacle, Parents};
use crate::store::error::{Result, StoreError};
use crate::store::names::key;
use crate::store::names::record::{EXTENDED_ALTERNATE_NAME, EXTENDED_NAME, Encoded, Record, SUMMARY_NAME};
use crate::sys::{self, Errno, FileKind};

/// The spilled part of a record, if it has one: held until the file that points there has a name.
pub(super) type Spilled = Option<Pinned>;

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
    publish(target, &mut staged, None, &mut |_| Ok(spilled.take()))?;
    Ok(Published { ticket: disk.barrier().published(), record })
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

/// The record onto the file. mtime is set first, to one that no later change has, and read back, since the filesystem may keep less than
/// nanoseconds; writing an attribute does not change it.
pub(in crate::store) fn seal(disk: &Disk, file: &OwnedFd, size: u64, record: &mut Record) -> Result<Spilled> {
    sys::path::set_mtime(file, disk.facts().grain.mtime_of_record(sys::clock::realtime_ns()))?;
    seal_as_written(disk, file, size, record)
}

/// The same for a file that was written a moment ago, where its mtime is as good (`Times::tell_apart`).
pub(super) fn seal_as_written(disk: &Disk, file: &OwnedFd, size: u64, record: &mut Record) -> Result<Spilled> {
    let stat = sys::stat::of(file)?;
    assert_eq!(stat.size, size, "a file of another length than its object is never published");
    (record.size, record.mtime_ns) = (size, stat.mtime_ns);
    let spilled = write_record(disk, file, &record.encode())?;
    disk.sync_each(&[file])?;
    Ok(spilled)
}

/// Both attributes onto a file that has neither.
fn write_record(disk: &Disk, file: &OwnedFd, encoded: &Encoded) -> Result<Spilled> {
    let spilled = write_extended(disk, file, encoded, EXTENDED_NAME)?;
    sys::xattr::write(file, SUMMARY_NAME, &encoded.summary_of(spilled.is_some(), false))?;
    Ok(spilled)
}

/// Replaces the record of a directory. Its extended part goes where the old one is not, and counts from the moment in which the
/// summary names it: whatever comes between, the object is the old one or the new one.
fn replace_record(disk: &Disk, directory: &OwnedFd, encoded: &Encoded) -> Result<()> {
    let (spilled, is_alternate) = write_beside(disk, directory, encoded)?;
    sys::xattr::write(directory, SUMMARY_NAME, &encoded.summary_of(spilled.is_some(), is_alternate))?;
    for (name, is_meant) in [(EXTENDED_NAME, !is_alternate), (EXTENDED_ALTERNATE_NAME, is_alternate)] {
        if encoded.extended.is_none() || !is_meant {
            sys::xattr::remove(directory, name)?;
        }
    }
    Ok(())
}

/// Writes the extended record where the summary of now does not look, and answers whether that is the other place.
fn write_beside(disk: &Disk, directory: &OwnedFd, encoded: &Encoded) -> Result<(Spilled, bool)> {
    let before = open::read_summary(directory)?.filter(|before| before.has_extended);
    let is_alternate = before.is_some_and(|before| !before.is_alternate);
    let name = if is_alternate { EXTENDED_ALTERNATE_NAME } else { EXTENDED_NAME };
    Ok((write_extended(disk, directory, encoded, name)?, is_alternate))
}

/// The extended record, if there is one, into the attribute `name`, or into a spill file when it does not fit beside the inode.
fn write_extended(disk: &Disk, file: &OwnedFd, encoded: &Encoded, name: &CStr) -> Result<Spilled> {
    let Some(extended) = &encoded.extended else { return Ok(None) };
    if extended.len() <= EXTENDED_RECORD_INLINE_SIZE_MAX {
        match sys::xattr::write(file, name, extended) {
            Ok(()) => return Ok(None),
            // ext4 has one block for all attributes of a file: of 1 KiB on small images.
            Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let pinned = spill::write(disk, extended)?;
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
/// steps of a multipart upload, which cannot be taken back. It answers what the file's record holds on to. `parent` is the directory of
/// its name, when that was opened a moment ago.
pub(in crate::store) fn publish(
    target: Target<'_>,
    staged: &mut Staged,
    parent: Option<Rc<OwnedFd>>,
    prepare: &mut dyn FnMut(&OwnedFd) -> Result<Spilled>,
) -> Result<()> {
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
) -> Result<()> {
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
        let attempt = match target.location.is_directory_object {
            true => publish_body(target, staged, takes)?,
            false => publish_name(target, staged, takes, parent.take())?,
        };
        match attempt {
            Attempt::Done => {
                #[cfg(feature = "seams")]
                crate::store::disk::seams::note_published(&staged.file);
                return Ok(());
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

fn publish_name(target: Target<'_>, staged: &mut Staged, takes: Takes, parent: Option<Rc<OwnedFd>>) -> Result<Attempt> {
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
    let attempt = name_file(bucket.disk, staged, spot, takes)?;
    if let Attempt::Convert(_) = attempt {
        // The name is a directory: the object lives inside it.
        let inside = match tree::parents(bucket, &location.path) {
            Ok(inside) => inside,
            Err(_) => return Ok(Attempt::Again),
        };
        return match name_file(bucket.disk, staged, target.inside(&inside, key::OBJECT_OF_DIRECTORY), takes)? {
            Attempt::Convert(_) => Err(StoreError::Foreign),
            attempt => Ok(attempt),
        };
    }
    Ok(attempt)
}

fn publish_body(target: Target<'_>, staged: &mut Staged, takes: Takes) -> Result<Attempt> {
    let inside = match tree::parents(target.bucket, &target.location.path) {
        Ok(inside) => inside,
        Err(Obstacle::File { path }) => return Ok(Attempt::Convert(path)),
        Err(Obstacle::Error(StoreError::Kernel(Errno::NOENT) | StoreError::Contended)) => return Ok(Attempt::Again),
        Err(Obstacle::Error(error)) => return Err(error),
    };
    let attempt = name_file(target.bucket.disk, staged, target.inside(&inside, key::BODY_OF_DIRECTORY), takes)?;
    if matches!(attempt, Attempt::Done) {
        // The body carries the record now.
        sys::xattr::remove(&inside.directory, SUMMARY_NAME)?;
    }
    Ok(attempt)
}

/// Gives the file its name. `Convert` here says only that a directory has that name.
fn name_file(disk: &Disk, staged: &mut Staged, spot: Spot<'_>, takes: Takes) -> Result<Attempt> {
    if staged.name.is_some() {
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
                if displace::replace(disk, staged, spot, &stat, takes)? == Outcome::Again {
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

/// `dir/` without a body: a record on the directory, and no file.
pub(in crate::store) fn publish_directory_object(target: Target<'_>, mut record: Record) -> Result<Published> {
    let disk = target.bucket.disk;
    for _ in 0..PUBLISH_ATTEMPTS_MAX {
        let guard = target.bucket.lock(target.key);
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
        replace_record(disk, &parents.directory, &record.encode())?;
        if let Some(stat) = old_body {
            // A newer one stays.
            displace::remove(disk, body, &stat, takes)?;
        }
        disk.sync_each(&[&parents.directory])?;
        return Ok(Published { ticket: disk.barrier().published(), record });
    }
    Err(StoreError::Contended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Durability;
    use crate::store::buckets;
    use crate::store::objects::write::Condition;
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
