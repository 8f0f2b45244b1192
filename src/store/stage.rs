//! A file to be filled that nobody can see yet.

use std::os::fd::OwnedFd;

use super::volume::Volume;
use super::{Result, StoreError};
use crate::limits::RESERVE_SIZE_MIN;
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno};

/// Mode of objects' files, before the umask and a default ACL.
pub(super) const FILE_MODE: u32 = 0o644;

/// A staged file. It vanishes when dropped, unless it was published.
#[derive(Debug)]
pub struct Staged {
    /// The file, opened for reading and writing.
    pub file: OwnedFd,
    /// Whether the file is opened with O_DIRECT.
    pub is_direct: bool,
    /// The temporary name, where the filesystem has no files without one. In `.sluice/staging`.
    pub(super) name: Option<Temporary>,
}

/// A name that a publication moves away: in the staging directory, removed when dropped, or that of an upload's file, which
/// stays when the publication fails.
#[derive(Debug)]
pub(super) struct Temporary {
    directory: OwnedFd,
    name: Vec<u8>,
    stays: bool,
}

impl Staged {
    /// A file without a name, for buffered writing.
    pub(super) fn unnamed(file: OwnedFd) -> Self {
        Self { file, is_direct: false, name: None }
    }
}

impl Temporary {
    pub(super) fn new(volume: &Volume) -> Result<Self> {
        let staging = volume.staging.try_clone().map_err(|_| StoreError::Kernel(Errno::MFILE))?;
        Ok(Self { directory: staging, name: volume.temporary_name(), stays: false })
    }

    /// A name that is there already and is somebody's own until it is moved.
    pub(super) fn of_upload(directory: OwnedFd, name: Vec<u8>) -> Self {
        Self { directory, name, stays: true }
    }

    pub(super) fn is_of_upload(&self) -> bool {
        self.stays
    }

    pub(super) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // ENOENT after a publication by rename. Anything else is swept at the next start.
        if !self.stays {
            let _ = sys::path::unlink(&self.directory, &self.name);
        }
    }
}

/// Makes a file for an object of `bucket` that will live at `path`: without a name, in the deepest directory on the way that
/// exists (elsewhere, project quotas of XFS and fscrypt make the later link fail with EXDEV). With a known `size`, its
/// space is reserved now: a full disk is found out before the body is received.
pub fn stage(volume: &Volume, bucket: &str, path: &[u8], size: Option<u64>, direct: bool) -> Result<Staged> {
    if !volume.takes_changes() {
        return Err(StoreError::VolumeFailed);
    }
    let direct = direct && volume.facts().direct.is_some();
    let staged = if volume.facts().unnamed_files {
        Staged { file: open_unnamed(volume, bucket, path, direct)?, is_direct: direct, name: None }
    } else {
        let name = Temporary::new(volume)?;
        let file = sys::path::create_new(name.directory(), name.name(), FILE_MODE, direct)?;
        Staged { file, is_direct: direct, name: Some(name) }
    };
    if let Some(size) = size.filter(|size| *size >= RESERVE_SIZE_MIN) {
        // With its length: writes that change a file's size wait for each other on ext4 and XFS, one in flight at a time.
        match sys::space::extend(&staged.file, 0, size) {
            // Not every filesystem reserves; then a full disk shows at the write.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(staged)
}

fn open_unnamed(volume: &Volume, bucket: &str, path: &[u8], direct: bool) -> Result<OwnedFd> {
    let mut directory = [bucket.as_bytes(), b"/", path].concat();
    let mut is_denied = false;
    while let Some(slash) = directory.iter().rposition(|byte| *byte == b'/') {
        directory.truncate(slash);
        match sys::path::open_unnamed(&volume.root, &directory, FILE_MODE, direct, Symlinks::Deny) {
            Ok(file) => return Ok(file),
            // ENOTDIR: a file stands there, which the publication will turn into a directory.
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            // What ext4 answers in a directory that is removed at this moment, and any filesystem in an immutable one.
            Err(Errno::PERM) => is_denied = true,
            // A link or a mount: on the way, or in the bucket's place.
            Err(Errno::LOOP | Errno::XDEV) if !super::bucket::exists(volume, bucket)? => return Err(StoreError::NoBucket),
            Err(errno) => return Err(errno.into()),
        }
    }
    if is_denied && super::bucket::exists(volume, bucket)? {
        return Err(Errno::PERM.into());
    }
    Err(StoreError::NoBucket)
}
