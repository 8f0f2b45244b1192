//! A file to be filled that nobody can see yet.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::bucket::Bucket;
use super::inherit::FILE_MODE;
use super::staging::{Purpose, Staging};
use crate::limits::RESERVE_SIZE_MIN;
use crate::store::error::{Result, StoreError};
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno};

/// A staged file. It vanishes when dropped, unless it was published.
#[derive(Debug)]
pub struct Staged {
    /// The file, opened for reading and writing.
    pub file: OwnedFd,
    /// Whether the file is opened with O_DIRECT.
    pub is_direct: bool,
    /// A name of its own, where the filesystem has no files without one, or after an attempt to publish it that failed.
    pub(in crate::store) name: Option<Temporary>,
}

/// A name of a file that is to get another one: in staging, removed when dropped, or that of an upload's file, which stays when the
/// publication fails.
#[derive(Debug)]
pub(in crate::store) struct Temporary {
    folder: Folder,
    name: Vec<u8>,
}

/// In what directory a temporary name is.
#[derive(Debug)]
enum Folder {
    Staging(Arc<Staging>),
    Upload(OwnedFd),
    History(OwnedFd),
}

impl Staged {
    /// A file without a name, for buffered writing.
    pub(in crate::store) fn unnamed(file: OwnedFd) -> Self {
        Self { file, is_direct: false, name: None }
    }

    /// It is a version that was published before.
    pub(in crate::store) fn is_restored(&self) -> bool {
        matches!(self.name, Some(Temporary { folder: Folder::History(_), .. }))
    }
}

impl Temporary {
    /// A name for a file to be made.
    pub(in crate::store) fn new(staging: &Arc<Staging>) -> Self {
        Self::named(staging, staging.name(&Purpose::New))
    }

    /// A name in staging that is ours.
    pub(super) fn named(staging: &Arc<Staging>, name: Vec<u8>) -> Self {
        Self { folder: Folder::Staging(staging.clone()), name }
    }

    /// A name that is there already and is somebody's own until it is moved.
    pub(in crate::store) fn of_upload(directory: OwnedFd, name: Vec<u8>) -> Self {
        Self { folder: Folder::Upload(directory), name }
    }

    /// That of a version, which stays when the publication fails.
    pub(in crate::store) fn of_history(directory: OwnedFd, name: Vec<u8>) -> Self {
        Self { folder: Folder::History(directory), name }
    }

    pub(in crate::store) fn is_of_upload(&self) -> bool {
        matches!(self.folder, Folder::Upload(_))
    }

    pub(in crate::store) fn directory(&self) -> &OwnedFd {
        match &self.folder {
            Folder::Staging(staging) => staging.directory(),
            Folder::Upload(directory) | Folder::History(directory) => directory,
        }
    }

    pub(in crate::store) fn name(&self) -> &[u8] {
        &self.name
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // ENOENT after a publication by rename. Anything else is swept at the next start.
        if let Folder::Staging(_) = self.folder {
            let _ = sys::path::unlink(self.directory(), &self.name);
        }
    }
}

impl Bucket<'_> {
    /// Makes a file for an object that will live at `path`: without a name, in the deepest directory on the way that exists
    /// (elsewhere, project quotas of XFS and fscrypt make the later link fail with EXDEV). With a known `size`, its space is
    /// reserved now: a full disk is found out before the body is received.
    pub fn stage(&self, path: &[u8], size: Option<u64>, direct: bool) -> Result<Staged> {
        let disk = self.disk;
        if !disk.takes_changes() {
            return Err(StoreError::VolumeFailed);
        }
        let direct = direct && disk.facts().direct.is_some();
        let staged = if disk.facts().unnamed_files {
            Staged { file: self.open_unnamed(path, direct)?, is_direct: direct, name: None }
        } else {
            // Found out before the body is received, as above.
            if !self.exists()? {
                return Err(disk.missing_bucket());
            }
            let name = Temporary::new(&disk.staging()?);
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

    fn open_unnamed(&self, path: &[u8], direct: bool) -> Result<OwnedFd> {
        const ATTEMPTS: usize = 8;
        for _ in 0..ATTEMPTS {
            match self.open_unnamed_once(path, direct) {
                // A bucket that was removed at this moment may have been made again since.
                Err(StoreError::Kernel(Errno::PERM)) if self.exists()? => {}
                Err(StoreError::Kernel(Errno::PERM)) => return Err(StoreError::NoBucket),
                opened => return opened,
            }
        }
        Err(Errno::PERM.into())
    }

    fn open_unnamed_once(&self, path: &[u8], direct: bool) -> Result<OwnedFd> {
        let root = &self.disk.root;
        let mut directory = self.path_of(path);
        let mut is_denied = false;
        while let Some(slash) = directory.iter().rposition(|byte| *byte == b'/') {
            directory.truncate(slash);
            match sys::path::open_unnamed(root, &directory, FILE_MODE, direct, Symlinks::Deny) {
                Ok(file) => return Ok(file),
                // ENOTDIR: a file stands there, which the publication will turn into a directory.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                // What ext4 answers in a directory that is being removed, which has no links any more and a name for a moment yet; and
                // any filesystem in an immutable one.
                Err(Errno::PERM) => is_denied |= sys::stat::at(root, &directory).is_ok_and(|stat| stat.nlink > 0),
                // A link or a mount: on the way, or in the bucket's place.
                Err(Errno::LOOP | Errno::XDEV) if !self.exists()? => return Err(StoreError::NoBucket),
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(if is_denied { Errno::PERM.into() } else { self.disk.missing_bucket() })
    }
}
