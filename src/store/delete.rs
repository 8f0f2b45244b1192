//! Removing an object.

use super::commit::{Condition, current, decided_for};
use super::displace::{self, Outcome, Spot, Takes};
use super::key::{self, BODY_OF_DIRECTORY, Location, OBJECT_OF_DIRECTORY};
use super::record::{EXTENDED_ALTERNATE_NAME, EXTENDED_NAME, SUMMARY_NAME};
use super::bucket::missing;
use super::versions::{Change, Deleted};
use super::volume::Volume;
use super::{Result, StoreError, tree};
use crate::limits::PUBLISH_ATTEMPTS_MAX;
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno, FileKind, FileStat};

/// Removes the object of `key`. A key that is not there is fine, as in S3; the ticket then stands for what was seen.
pub fn delete(volume: &Volume, bucket: &str, key: &[u8], condition: Option<&Condition>) -> Result<Deleted> {
    if !volume.takes_changes() {
        return Err(StoreError::VolumeFailed);
    }
    let location = key::locate(key)?;
    for _ in 0..PUBLISH_ATTEMPTS_MAX {
        let guard = volume.locks.lock(bucket, key);
        let takes = takes(volume, bucket, key, condition)?;
        if let Some(change) = Change::begin(volume, bucket, key, &location)? {
            let below = if super::bucket::exists(volume, bucket)? { change.delete(takes)? } else { return Err(missing(volume)) };
            drop(guard);
            let Some(below) = below else { continue };
            tree::prune(volume, bucket, &below)?;
            return Ok(Deleted { ticket: volume.barrier.published(), version: Some(change.version()), is_marker: true });
        }
        let removed = match takes {
            None => Removed::Nothing,
            Some(takes) if location.is_directory_object => remove_directory_object(volume, bucket, &location, takes)?,
            Some(takes) => remove_file(volume, bucket, &location, takes)?,
        };
        drop(guard);
        match removed {
            Removed::Nothing if super::bucket::exists(volume, bucket)? => return Ok(Deleted::plainly(volume.barrier.observed())),
            Removed::Nothing => return Err(StoreError::NoBucket),
            Removed::Below(path) => {
                tree::prune(volume, bucket, &path)?;
                return Ok(Deleted::plainly(volume.barrier.published()));
            }
            Removed::Other => {}
        }
    }
    Err(StoreError::Contended)
}

/// What the condition lets be removed; `None` where it holds for a key that is not there.
fn takes(volume: &Volume, bucket: &str, key: &[u8], condition: Option<&Condition>) -> Result<Option<Takes>> {
    let Some(condition) = condition else { return Ok(Some(Takes::AnyFile)) };
    let now = current(volume, bucket, key)?;
    match condition(now.as_ref()) {
        true => Ok(now.map(|state| decided_for(Some(&state)))),
        false => Err(if now.is_none() { StoreError::NoObject } else { StoreError::PreconditionFailed { was_there: true } }),
    }
}

enum Removed {
    Nothing,
    /// Something in this directory, which may be empty now.
    Below(Vec<u8>),
    /// Not this time: it was something else than a moment before.
    Other,
}

fn remove_file(volume: &Volume, bucket: &str, location: &Location, takes: Takes) -> Result<Removed> {
    let Some(parent) = open(volume, bucket, location.parent())? else { return Ok(Removed::Nothing) };
    let spot = Spot { directory: &parent, bucket, folder: location.parent(), name: location.name() };
    match sys::stat::at(&parent, location.name()) {
        Ok(stat) if stat.kind == FileKind::Directory => remove_inside(volume, bucket, location, OBJECT_OF_DIRECTORY, takes),
        stat => remove_at(volume, spot, stat, takes),
    }
}

fn remove_inside(volume: &Volume, bucket: &str, location: &Location, name: &[u8], takes: Takes) -> Result<Removed> {
    let Some(directory) = open(volume, bucket, &location.path)? else { return Ok(Removed::Nothing) };
    let spot = Spot { directory: &directory, bucket, folder: &location.path, name };
    remove_at(volume, spot, sys::stat::at(&directory, name), takes)
}

/// Removes the file that was looked at.
fn remove_at(volume: &Volume, spot: Spot<'_>, looked: sys::Result<FileStat>, takes: Takes) -> Result<Removed> {
    match looked {
        Ok(stat) if takes.takes(&stat) => match displace::remove(volume, spot, &stat, takes)? {
            Outcome::Again => Ok(Removed::Other),
            Outcome::Done => {
                volume.sync_each(&[spot.directory])?;
                Ok(Removed::Below(spot.folder.to_vec()))
            }
        },
        Ok(stat) if stat.kind == FileKind::Regular => Ok(Removed::Other),
        // A symlink, a FIFO, a device: no object, and not ours to remove.
        Ok(_) => Ok(Removed::Nothing),
        Err(errno) if sys::errno::is_gone(errno) || errno == Errno::NAMETOOLONG => Ok(Removed::Nothing),
        Err(errno) => Err(errno.into()),
    }
}

fn remove_directory_object(volume: &Volume, bucket: &str, location: &Location, takes: Takes) -> Result<Removed> {
    let body = remove_inside(volume, bucket, location, BODY_OF_DIRECTORY, takes)?;
    if matches!(body, Removed::Other) {
        return Ok(body);
    }
    let Some(directory) = open(volume, bucket, &location.path)? else { return Ok(body) };
    let had_record = sys::xattr::remove(&directory, SUMMARY_NAME)?;
    if !had_record {
        return Ok(body);
    }
    sys::xattr::remove(&directory, EXTENDED_NAME)?;
    sys::xattr::remove(&directory, EXTENDED_ALTERNATE_NAME)?;
    volume.sync_each(&[&directory])?;
    Ok(Removed::Below(location.path.clone()))
}

fn open(volume: &Volume, bucket: &str, path: &[u8]) -> Result<Option<std::os::fd::OwnedFd>> {
    match sys::path::open_dir(&volume.root, &tree::path_of(bucket, path), Symlinks::Deny) {
        Ok(directory) => Ok(Some(directory)),
        Err(errno) if sys::errno::is_gone(errno) || errno == Errno::NAMETOOLONG => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Durability;
    use crate::store::commit::{self, Upload};
    use crate::store::record::Record;
    use crate::store::{StoreError, Volume, bucket, key, object, stage};

    fn put(volume: &Volume, key: &str) {
        let path = key::locate(key.as_bytes()).unwrap().path;
        let staged = stage::stage(volume, "bucket", &path, None, false).unwrap();
        let (bucket, key, record) = ("bucket".to_owned(), key.as_bytes().to_vec(), Record::new(0, 0, [0; 16]));
        commit::commit(volume, Upload { bucket, key, staged, size: 0, tail: None, record, condition: None }).unwrap();
    }

    /// DELETE of `d/x` removes the directory that it leaves empty; PUT of `d/` writes its record onto that directory.
    #[test]
    fn a_directory_object_survives_the_removal_of_its_last_neighbour() {
        let top = tempfile::tempdir().unwrap();
        let volume = Volume::open(top.path().as_os_str().as_encoded_bytes(), Durability::Relaxed).unwrap();
        bucket::create(&volume, "bucket").unwrap();
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for name in ["d/x", "d/y"] {
                let (volume, is_over) = (&volume, &is_over);
                scope.spawn(move || {
                    while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                        put(volume, name);
                        super::delete(volume, "bucket", name.as_bytes(), None).unwrap();
                    }
                });
            }
            let lost = (0..3000).find(|_| {
                put(&volume, "d/");
                let is_lost = object::open(&volume, "bucket", b"d/").err() == Some(StoreError::NoObject);
                super::delete(&volume, "bucket", b"d/", None).unwrap();
                is_lost
            });
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(lost, None, "an acknowledged object was gone");
        });
    }
}
