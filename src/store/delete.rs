//! Removing an object.

use super::barrier::Ticket;
use super::commit::{Condition, current};
use super::key::{self, BODY_OF_DIRECTORY, Location, OBJECT_OF_DIRECTORY};
use super::record::{EXTENDED_ALTERNATE_NAME, EXTENDED_NAME, SUMMARY_NAME};
use super::volume::{Sync, Volume};
use super::{Result, StoreError, tree};
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno, FileKind};

/// Removes the object of `key`. A key that is not there is fine, as in S3; the ticket then stands for what was seen.
pub fn delete(volume: &Volume, bucket: &str, key: &[u8], condition: Option<&Condition>) -> Result<Ticket> {
    if !volume.takes_changes() {
        return Err(StoreError::VolumeFailed);
    }
    let location = key::locate(key)?;
    let guard = volume.locks.lock(bucket, key);
    if let Some(condition) = condition {
        let now = current(volume, bucket, key)?;
        if !condition(now.as_ref()) {
            return Err(if now.is_none() { StoreError::NoObject } else { StoreError::PreconditionFailed });
        }
    }
    let removed = match location.is_directory_object {
        true => remove_directory_object(volume, bucket, &location)?,
        false => remove_file(volume, bucket, &location)?,
    };
    drop(guard);
    match removed {
        Removed::Nothing => {
            if !super::bucket::exists(volume, bucket)? {
                return Err(StoreError::NoBucket);
            }
            Ok(volume.barrier.observed())
        }
        Removed::Below(path) => {
            tree::prune(volume, bucket, &path)?;
            Ok(volume.barrier.published())
        }
    }
}

enum Removed {
    Nothing,
    /// Something in this directory, which may be empty now.
    Below(Vec<u8>),
}

fn remove_file(volume: &Volume, bucket: &str, location: &Location) -> Result<Removed> {
    let Some(parent) = open(volume, bucket, location.parent())? else { return Ok(Removed::Nothing) };
    match sys::stat::at(&parent, location.name()) {
        Ok(stat) if stat.kind == FileKind::Regular => match sys::path::unlink(&parent, location.name()) {
            Ok(()) => {
                sync(volume, &parent)?;
                Ok(Removed::Below(location.parent().to_vec()))
            }
            Err(Errno::NOENT) => Ok(Removed::Nothing),
            Err(errno) => Err(errno.into()),
        },
        Ok(stat) if stat.kind == FileKind::Directory => remove_inside(volume, bucket, &location.path, OBJECT_OF_DIRECTORY),
        // A symlink, a FIFO, a device: no object, and not ours to remove.
        Ok(_) => Ok(Removed::Nothing),
        Err(errno) if sys::errno::is_gone(errno) || errno == Errno::NAMETOOLONG => Ok(Removed::Nothing),
        Err(errno) => Err(errno.into()),
    }
}

fn remove_inside(volume: &Volume, bucket: &str, path: &[u8], name: &[u8]) -> Result<Removed> {
    let Some(directory) = open(volume, bucket, path)? else { return Ok(Removed::Nothing) };
    match sys::path::unlink(&directory, name) {
        Ok(()) => {
            sync(volume, &directory)?;
            Ok(Removed::Below(path.to_vec()))
        }
        Err(Errno::NOENT) => Ok(Removed::Nothing),
        Err(errno) => Err(errno.into()),
    }
}

fn remove_directory_object(volume: &Volume, bucket: &str, location: &Location) -> Result<Removed> {
    let body = remove_inside(volume, bucket, &location.path, BODY_OF_DIRECTORY)?;
    let Some(directory) = open(volume, bucket, &location.path)? else { return Ok(body) };
    let had_record = sys::xattr::remove(&directory, SUMMARY_NAME)?;
    if !had_record {
        return Ok(body);
    }
    sys::xattr::remove(&directory, EXTENDED_NAME)?;
    sys::xattr::remove(&directory, EXTENDED_ALTERNATE_NAME)?;
    sync(volume, &directory)?;
    Ok(Removed::Below(location.path.clone()))
}

fn open(volume: &Volume, bucket: &str, path: &[u8]) -> Result<Option<std::os::fd::OwnedFd>> {
    let full = if path.is_empty() { bucket.as_bytes().to_vec() } else { [bucket.as_bytes(), b"/", path].concat() };
    match sys::path::open_dir(&volume.root, &full, Symlinks::Deny) {
        Ok(directory) => Ok(Some(directory)),
        Err(errno) if sys::errno::is_gone(errno) || errno == Errno::NAMETOOLONG => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn sync(volume: &Volume, directory: &std::os::fd::OwnedFd) -> Result<()> {
    if volume.sync() == Sync::Each && sys::file::sync(directory).is_err() {
        volume.barrier.fail();
        return Err(StoreError::VolumeFailed);
    }
    Ok(())
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
