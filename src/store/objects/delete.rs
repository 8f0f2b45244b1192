//! Removing an object.

use std::os::fd::OwnedFd;

use super::versions::Change;
use super::write::{Condition, current, decided_for};
use crate::base::version_id::Version;
use crate::limits::PUBLISH_ATTEMPTS_MAX;
use crate::store::disk::barrier::Ticket;
use crate::store::disk::displace::{self, Outcome, Takes};
use crate::store::disk::spot::Spot;
use crate::store::disk::{Bucket, Disk, tree};
use crate::store::error::{Result, StoreError};
use crate::store::names::key::{self, BODY_OF_DIRECTORY, Location, OBJECT_OF_DIRECTORY};
use crate::store::names::record::{EXTENDED_ALTERNATE_NAME, EXTENDED_NAME, SUMMARY_NAME};
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
    fn plainly(ticket: Ticket) -> Self {
        Self { ticket, version: None, is_marker: false }
    }
}

impl Bucket<'_> {
    /// Removes the object of `key`. A key that is not there is fine, as in S3; the ticket then stands for what was seen.
    pub fn delete(&self, key: &[u8], condition: Option<&Condition>) -> Result<Deleted> {
        let disk = self.disk;
        if !disk.takes_changes() {
            return Err(StoreError::VolumeFailed);
        }
        let location = key::locate(key)?;
        for _ in 0..PUBLISH_ATTEMPTS_MAX {
            let guard = self.lock(key);
            let takes = takes(*self, key, condition)?;
            if let Some(change) = Change::begin(*self, key, &location)? {
                let below = if self.exists()? { change.delete(takes)? } else { return Err(disk.missing_bucket()) };
                drop(guard);
                let Some(below) = below else { continue };
                tree::prune(*self, &below)?;
                return Ok(Deleted { ticket: disk.barrier().published(), version: Some(change.version()), is_marker: true });
            }
            let removed = match takes {
                None => Removed::Nothing,
                Some(takes) if location.is_directory_object => remove_directory_object(*self, &location, takes)?,
                Some(takes) => remove_file(*self, &location, takes)?,
            };
            drop(guard);
            match removed {
                Removed::Nothing if self.exists()? => return Ok(Deleted::plainly(disk.barrier().observed())),
                Removed::Nothing => return Err(StoreError::NoBucket),
                Removed::Below(path) => {
                    tree::prune(*self, &path)?;
                    return Ok(Deleted::plainly(disk.barrier().published()));
                }
                Removed::Other => {}
            }
        }
        Err(StoreError::Contended)
    }
}

/// What the condition lets be removed; `None` where it holds for a key that is not there.
fn takes(bucket: Bucket<'_>, key: &[u8], condition: Option<&Condition>) -> Result<Option<Takes>> {
    let Some(condition) = condition else { return Ok(Some(Takes::AnyFile)) };
    let now = current(bucket, key)?;
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

fn remove_file(bucket: Bucket<'_>, location: &Location, takes: Takes) -> Result<Removed> {
    let Some(parent) = open(bucket, location.parent())? else { return Ok(Removed::Nothing) };
    let spot = Spot { directory: &parent, top: bucket.name, folder: location.parent(), name: location.name() };
    match sys::stat::at(&parent, location.name()) {
        Ok(stat) if stat.kind == FileKind::Directory => remove_inside(bucket, location, OBJECT_OF_DIRECTORY, takes),
        stat => remove_at(bucket.disk, spot, stat, takes),
    }
}

fn remove_inside(bucket: Bucket<'_>, location: &Location, name: &[u8], takes: Takes) -> Result<Removed> {
    let Some(directory) = open(bucket, &location.path)? else { return Ok(Removed::Nothing) };
    let spot = Spot { directory: &directory, top: bucket.name, folder: &location.path, name };
    remove_at(bucket.disk, spot, sys::stat::at(&directory, name), takes)
}

/// Removes the file that was looked at.
fn remove_at(disk: &Disk, spot: Spot<'_>, looked: sys::Result<FileStat>, takes: Takes) -> Result<Removed> {
    match looked {
        Ok(stat) if takes.takes(&stat) => match displace::remove(disk, spot, &stat, takes)? {
            Outcome::Again => Ok(Removed::Other),
            Outcome::Done => {
                disk.sync_each(&[spot.directory])?;
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

fn remove_directory_object(bucket: Bucket<'_>, location: &Location, takes: Takes) -> Result<Removed> {
    let body = remove_inside(bucket, location, BODY_OF_DIRECTORY, takes)?;
    if matches!(body, Removed::Other) {
        return Ok(body);
    }
    let Some(directory) = open(bucket, &location.path)? else { return Ok(body) };
    let had_record = sys::xattr::remove(&directory, SUMMARY_NAME)?;
    if !had_record {
        return Ok(body);
    }
    sys::xattr::remove(&directory, EXTENDED_NAME)?;
    sys::xattr::remove(&directory, EXTENDED_ALTERNATE_NAME)?;
    bucket.disk.sync_each(&[&directory])?;
    Ok(Removed::Below(location.path.clone()))
}

fn open(bucket: Bucket<'_>, path: &[u8]) -> Result<Option<OwnedFd>> {
    match bucket.open_below(path) {
        Ok(directory) => Ok(Some(directory)),
        Err(errno) if sys::errno::is_gone(errno) || errno == Errno::NAMETOOLONG => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Durability;
    use crate::store::buckets;
    use crate::store::error::StoreError;
    use crate::store::names::key;
    use crate::store::names::record::Record;
    use crate::store::objects::commit::{FilledFile, commit};
    use crate::store::objects::write::Write;
    use crate::store::volume::Volume;

    fn put(volume: &Volume, key: &str) {
        let path = key::locate(key.as_bytes()).unwrap().path;
        let staged = volume.bucket("bucket").stage(&path, None, false).unwrap();
        let (bucket, key, record) = ("bucket".to_owned(), key.as_bytes().to_vec(), Record::new(0, 0, [0; 16]));
        commit(volume.disk(), Write { bucket, key, record, condition: None }, FilledFile { staged, size: 0, tail: None })
            .unwrap();
    }

    /// DELETE of `d/x` removes the directory that it leaves empty; PUT of `d/` writes its record onto that directory.
    #[test]
    fn a_directory_object_survives_the_removal_of_its_last_neighbour() {
        let top = tempfile::tempdir().unwrap();
        let volume = Volume::open(top.path().as_os_str().as_encoded_bytes(), Durability::Relaxed).unwrap();
        buckets::create(volume.bucket("bucket"), volume.uploads()).unwrap();
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for name in ["d/x", "d/y"] {
                let (volume, is_over) = (&volume, &is_over);
                scope.spawn(move || {
                    while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                        put(volume, name);
                        volume.bucket("bucket").delete(name.as_bytes(), None).unwrap();
                    }
                });
            }
            let lost = (0..3000).find(|_| {
                put(&volume, "d/");
                let is_lost = volume.bucket("bucket").open(b"d/").err() == Some(StoreError::NoObject);
                volume.bucket("bucket").delete(b"d/", None).unwrap();
                is_lost
            });
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(lost, None, "an acknowledged object was gone");
        });
    }
}
