//! What was about to happen to a history? Noted in staging before the first name of it changes, so that the next start tells what a crash
//! has left: our file that nobody was told of, the version that changed places with it, or somebody's own.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::history::{History, Slot};
use super::live::live_at;
use super::mark::{mark_null, settle_stranger, slot_of};
use crate::base::version_id::{Version, VersionId};
use crate::limits::KEY_SIZE_MAX;
use crate::store::disk::rules::{BucketRules, Keeps};
use crate::store::disk::staging::{Purpose, Staging};
use crate::store::disk::summary::fetch;
use crate::store::disk::{Bucket, Disk};
use crate::store::error::{Result, StoreError};
use crate::store::names::key::Location;
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno};

const INTENT_NAME: &CStr = c"user.sluice.intent";
/// Bucket, its id, a place of which each byte may be a component, and numbers.
const INTENT_SIZE_MAX: usize = 512 + 16 * KEY_SIZE_MAX;

/// A note of what is meant, while it lies there.
pub(in crate::store) struct Intent {
    staging: Arc<Staging>,
    name: Vec<u8>,
}

/// What is meant. Files by their inodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meant {
    /// Our file is linked into the history and changes places with the live one.
    Replace { ours: u64, old: u64 },
    /// A delete marker of ours is put there, then the live file is moved into the history.
    Delete { ours: u64, old: u64 },
    /// A version in the history changes places with the live file, which is then removed there.
    Remove { old: u64 },
    /// A version in the history gets the key's name, then the delete marker is removed that was what the key is.
    Restore { old: u64 },
}

impl Intent {
    pub(super) fn note(bucket: Bucket<'_>, rules: &BucketRules, location: &Location, meant: Meant, name: &[u8]) -> Result<Self> {
        let text = Text {
            bucket: bucket.name.to_owned(),
            bucket_id: rules.bucket_id.clone(),
            location: location.clone(),
            meant,
            name: name.to_vec(),
        };
        let (disk, staging) = (bucket.disk, bucket.disk.staging()?);
        let note = staging.name(&Purpose::Keep);
        let file = sys::path::create_new(staging.directory(), &note, 0o600, false)?;
        let intent = Self { staging, name: note };
        match intent.write(disk, &file, &text.encode()) {
            Ok(()) => Ok(intent),
            Err(error) => {
                intent.is_settled();
                Err(error)
            }
        }
    }

    /// An attribute is as durable as the name; bytes of a file are not.
    fn write(&self, disk: &Disk, file: &OwnedFd, text: &[u8]) -> Result<()> {
        match sys::xattr::write(file, INTENT_NAME, text) {
            Ok(()) => {}
            // No room beside the inode for a key that long.
            Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE) => {
                sys::file::write_all_at(file, text, 0)?;
                if sys::file::sync(file).is_err() {
                    disk.barrier().fail();
                    return Err(StoreError::VolumeFailed);
                }
            }
            Err(errno) => return Err(errno.into()),
        }
        disk.sync_each(&[file, self.staging.directory()])
    }

    /// It has happened, or not at all.
    pub(in crate::store) fn is_settled(&self) {
        self.staging.remove(&self.name);
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Text {
    bucket: String,
    bucket_id: String,
    location: Location,
    meant: Meant,
    /// In the history.
    name: Vec<u8>,
}

impl Text {
    fn encode(&self) -> Vec<u8> {
        let (verb, ours, old) = match self.meant {
            Meant::Replace { ours, old } => ("replace", ours, old),
            Meant::Delete { ours, old } => ("delete", ours, old),
            Meant::Remove { old } => ("remove", 0, old),
            Meant::Restore { old } => ("restore", 0, old),
        };
        let kind = if self.location.is_directory_object { "directory" } else { "file" };
        let mut text = format!("1\0{verb}\0{ours:x}\0{old:x}\0{}\0{}\0{kind}\0", self.bucket, self.bucket_id).into_bytes();
        text.extend_from_slice(&self.name);
        text.push(0);
        text.extend_from_slice(&self.location.path);
        text
    }

    fn decode(text: &[u8]) -> Option<Self> {
        let fields: Vec<&[u8]> = text.split(|byte| *byte == 0).collect();
        let &[b"1", verb, ours, old, bucket, bucket_id, kind, name, path] = fields.as_slice() else { return None };
        let word = |field: &[u8]| std::str::from_utf8(field).ok().map(str::to_owned);
        let number = |field: &[u8]| u64::from_str_radix(std::str::from_utf8(field).ok()?, 16).ok();
        let (ours, old) = (number(ours)?, number(old)?);
        let meant = match verb {
            b"replace" => Meant::Replace { ours, old },
            b"delete" => Meant::Delete { ours, old },
            b"remove" => Meant::Remove { old },
            b"restore" => Meant::Restore { old },
            _ => return None,
        };
        let location = Location { path: path.to_vec(), is_directory_object: kind == b"directory" };
        let decoded = Self { bucket: word(bucket)?, bucket_id: word(bucket_id)?, location, meant, name: name.to_vec() };
        // Only what `encode` writes.
        (decoded.encode() == text).then_some(decoded)
    }
}

/// At start: finishes, or takes back, what a note in staging says. `None`: it cannot be told.
pub(in crate::store) fn settle(disk: &Disk, staging: &Staging, note: &[u8]) -> Option<()> {
    let file = sys::path::open_read(staging.directory(), note, Symlinks::Deny).ok()?;
    let text = read(&file).ok()?;
    // One without a text was never used.
    if !text.is_empty() {
        Text::decode(&text)?.settle(disk).ok()?;
    }
    staging.remove(note);
    Some(())
}

fn read(file: &OwnedFd) -> sys::Result<Vec<u8>> {
    if let Some(text) = sys::xattr::read_vec(file, INTENT_NAME, INTENT_SIZE_MAX)? {
        return Ok(text);
    }
    let mut text = vec![0; INTENT_SIZE_MAX];
    let size = sys::file::read_full_at(file, &mut text, 0)?;
    text.truncate(size);
    Ok(text)
}

impl Text {
    fn settle(&self, disk: &Disk) -> Result<()> {
        // What is kept is no matter: nothing new is written.
        let rules = BucketRules { bucket_id: self.bucket_id.clone(), keeps: Keeps::Everything };
        let Some(history) = History::open(disk, &rules, &self.location)? else { return Ok(()) };
        let inode = history.stat(&self.name)?.map(|stat| stat.inode);
        match self.meant {
            // Nobody was told of it.
            Meant::Replace { ours, .. } if inode == Some(ours) => history.free_name(&self.name)?,
            Meant::Remove { old } if inode == Some(old) => history.free_name(&self.name)?,
            Meant::Delete { ours, .. } => self.undo_marker(disk, &history, ours)?,
            Meant::Restore { old } if inode == Some(old) => self.finish_restored(disk, &history)?,
            Meant::Replace { .. } | Meant::Remove { .. } | Meant::Restore { .. } => {}
        }
        if let Meant::Replace { old, .. } | Meant::Delete { old, .. } = self.meant {
            self.settle_moved(disk, &history, old)?;
        }
        history.recount(disk)?;
        history.prune(disk, &rules, &self.location)
    }

    /// The move is the moment of a DELETE: before it, a marker beside a file was never acknowledged.
    fn undo_marker(&self, disk: &Disk, history: &History, ours: u64) -> Result<()> {
        let marker = history.name_of(Slot::Marker);
        let is_ours = history.stat(&marker)?.is_some_and(|stat| stat.inode == ours);
        let is_moved = history.stat(&self.name)?.is_some();
        if is_ours && !is_moved && live_at(disk.bucket(&self.bucket), &self.location)?.is_some() {
            history.free_name(&marker)
        } else {
            Ok(())
        }
    }

    /// What has the key's name is newer than the marker, or was restored.
    fn finish_restored(&self, disk: &Disk, history: &History) -> Result<()> {
        match live_at(disk.bucket(&self.bucket), &self.location)? {
            Some(_) => history.free_name(&self.name),
            None => Ok(()),
        }
    }

    /// Where what was live stands: just below what is, the delete marker or the new file.
    fn place_of_null(&self, disk: &Disk, history: &History) -> Result<VersionId> {
        let top = history.top()?;
        let now = match self.meant {
            Meant::Delete { ours, .. } => {
                history.look(Slot::Marker)?.filter(|kept| kept.stat.inode == ours).map(|kept| kept.place)
            }
            _ => self.claimed_by_live(disk)?.filter(|id| Some(*id) > top),
        };
        Ok(now.map_or_else(|| VersionId::place_after(top, sys::clock::realtime_ns()), VersionId::place_before))
    }

    fn claimed_by_live(&self, disk: &Disk) -> Result<Option<VersionId>> {
        let live = live_at(disk.bucket(&self.bucket), &self.location)?;
        let fetched = live.and_then(|live| fetch(live.directory(), live.name()).ok().flatten());
        Ok(fetched.and_then(|(_, summary)| summary?.version_id))
    }

    /// What came into the history has to say which version it is.
    fn settle_moved(&self, disk: &Disk, history: &History, old: u64) -> Result<()> {
        let Some(stat) = history.stat(&self.name)? else { return Ok(()) };
        let place = self.place_of_null(disk, history)?;
        if stat.inode != old {
            settle_stranger(disk, history, &self.name, place)
        } else if self.name == history.name_of(slot_of(Version::Null)) {
            mark_null(disk, history, &self.name, place, &stat)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_noted_is_read(path in "[^\0]{1,300}", name in "[^\0/]{1,60}", is_directory_object: bool, ours: u64, old: u64, verb in 0..4) {
            let meant = match verb {
                0 => Meant::Replace { ours, old },
                1 => Meant::Delete { ours, old },
                2 => Meant::Remove { old },
                _ => Meant::Restore { old },
            };
            let location = Location { path: path.into_bytes(), is_directory_object };
            let text = Text { bucket: "bucket".into(), bucket_id: "0f".repeat(16), location, meant, name: name.into_bytes() };
            prop_assert!(text.encode().len() < INTENT_SIZE_MAX);
            prop_assert_eq!(Text::decode(&text.encode()), Some(text));
        }

        #[test]
        fn anything_else_is_refused_and_does_no_harm(bytes: Vec<u8>) {
            prop_assert!(Text::decode(&bytes).is_none_or(|text| text.encode() == bytes));
        }
    }
}
