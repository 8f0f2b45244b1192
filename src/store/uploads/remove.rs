//! How do an upload's files go? Its directory leaves in one step, by a rename into staging; what is in it is removed there.

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use super::manifest::{self, MANIFEST_NAME, Manifest};
use super::{gaps, id, log};
use crate::store::disk::reading::Reading;
use crate::store::disk::staging::{Purpose, Staging};
use crate::store::disk::{Bucket, Disk};
use crate::store::error::Result;
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno, FileKind};

/// Takes an upload's directory away in one step, then removes what is in it.
pub(super) fn take_away(bucket: Bucket<'_>, id: &str) -> Result<()> {
    let disk = bucket.disk;
    let Some(own) = disk.own_if_any() else { return Ok(()) };
    let temporary = own.staging.name(&Purpose::Upload);
    let home = match sys::path::open_dir(&own.uploads, bucket.name.as_bytes(), Symlinks::Deny) {
        Ok(home) => home,
        // Its bucket was removed meanwhile, and all uploads in it.
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    match sys::path::rename(&home, id.as_bytes(), own.staging.directory(), &temporary) {
        Ok(()) => discard(disk.reading(), &own.staging, &temporary),
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    }
    disk.sync_each(&[&home])
}

/// Removes what a dead process left of uploads that were completed. What cannot be read stays until the next start.
pub(in crate::store) fn sweep_completed(disk: &Disk) {
    let Some(own) = disk.own_if_any() else { return };
    for bucket in disk.reading().directories_in(&own.uploads).unwrap_or_default() {
        let Ok(home) = sys::path::open_dir(&own.uploads, &bucket, Symlinks::Deny) else { continue };
        for id in disk.reading().directories_in(&home).unwrap_or_default() {
            let Ok(directory) = sys::path::open_dir(&home, &id, Symlinks::Deny) else { continue };
            if manifest::is_published(&directory) {
                let temporary = own.staging.name(&Purpose::Upload);
                if sys::path::rename(&home, &id, own.staging.directory(), &temporary).is_ok() {
                    discard(disk.reading(), &own.staging, &temporary);
                }
            }
        }
    }
}

/// Whether an upload's directory has files of this name.
fn is_file_name(name: &[u8]) -> bool {
    matches!(name, MANIFEST_NAME | log::LOG_NAME | gaps::COLLAPSED_NAME) || log::PartFile::of_file_name(name).is_some()
}

/// Whether a directory of uploads has one of this name.
fn is_upload_id(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(id::is_id)
}

/// Whether this is an upload's directory.
pub(in crate::store) fn is_upload(directory: &OwnedFd) -> bool {
    Manifest::read(directory).is_ok()
}

/// Removes an upload in staging, or the uploads of a bucket. What is no file of an upload is not ours, and is kept; what cannot be
/// removed now goes at the next start.
pub(in crate::store) fn discard(reading: Reading<'_>, staging: &Staging, name: &[u8]) {
    // Again where an upload came into the directory of its bucket, or a part into that of its upload, after that was moved here.
    const ATTEMPTS: usize = 8;
    for _ in 0..ATTEMPTS {
        let Ok(directory) = sys::path::open_dir(staging.directory(), name, Symlinks::Deny) else { return };
        match remove_uploads(reading, &directory).and_then(|()| remove_files(&directory)) {
            Ok(()) | Err(Leftover::Ours) => {}
            Err(Leftover::Foreign) => {
                // It has said why not.
                let _ = staging.keep_aside(name, b"");
                return;
            }
        }
        if sys::path::rmdir(staging.directory(), name) != Err(Errno::NOTEMPTY) {
            return;
        }
    }
}

/// Why something stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leftover {
    /// It could not be removed, or something came into it.
    Ours,
    /// There is something in it that no upload has.
    Foreign,
}

impl From<Errno> for Leftover {
    fn from(_: Errno) -> Self {
        Self::Ours
    }
}

/// Removes the uploads in this directory.
fn remove_uploads(reading: Reading<'_>, directory: &OwnedFd) -> std::result::Result<(), Leftover> {
    let mut all = Ok(());
    for id in reading.directories_in(directory)? {
        let upload = sys::path::open_dir(directory, &id, Symlinks::Deny).map_err(Leftover::from);
        let removed = upload.and_then(|upload| if is_upload_id(&id) { remove_files(&upload) } else { Err(Leftover::Foreign) });
        match removed.and_then(|()| Ok(sys::path::rmdir(directory, &id)?)) {
            Ok(()) => {}
            // What is somebody's decides.
            Err(Leftover::Foreign) => all = Err(Leftover::Foreign),
            Err(Leftover::Ours) => all = all.and(Err(Leftover::Ours)),
        }
    }
    all
}

/// Removes the files of an upload.
fn remove_files(directory: &OwnedFd) -> std::result::Result<(), Leftover> {
    let (mut names, mut is_whole) = (Vec::<Vec<u8>>::new(), true);
    let mut buffer = sys::dir::buffer(32 * 1024);
    let _ = sys::dir::read(directory, &mut buffer, |entry| {
        if is_file_name(entry.name) && entry.kind_in(directory).is_ok_and(|kind| kind == FileKind::Regular) {
            names.push(entry.name.to_vec());
        } else {
            is_whole = false;
        }
        ControlFlow::<()>::Continue(())
    })?;
    for name in names {
        match sys::path::unlink(directory, &name) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    if is_whole { Ok(()) } else { Err(Leftover::Foreign) }
}
