//! Which file has a key's name in the bucket?

use std::os::fd::OwnedFd;

use crate::store::disk::Bucket;
use crate::store::disk::spot::Spot;
use crate::store::error::Result;
use crate::store::names::key::{BODY_OF_DIRECTORY, Location, OBJECT_OF_DIRECTORY};
use crate::sys::{self, Errno, FileKind, FileStat};

/// The file that has a key's name.
pub(in crate::store) struct Live {
    pub(super) directory: OwnedFd,
    /// The directory's path in the bucket.
    pub(super) folder: Vec<u8>,
    pub(super) name: Vec<u8>,
    pub(in crate::store) stat: FileStat,
}

impl Live {
    pub(in crate::store) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    pub(in crate::store) fn name(&self) -> &[u8] {
        &self.name
    }

    pub(super) fn spot<'a>(&'a self, bucket: Bucket<'a>) -> Spot<'a> {
        Spot { directory: &self.directory, top: bucket.name, folder: &self.folder, name: &self.name }
    }
}

/// The file of the key at `location`, if there is one.
pub(in crate::store) fn live_at(bucket: Bucket<'_>, location: &Location) -> Result<Option<Live>> {
    if location.is_directory_object {
        return file_at(bucket, &location.path, BODY_OF_DIRECTORY).map(|found| found.ok());
    }
    match file_at(bucket, location.parent(), location.name())? {
        Err(Some(FileKind::Directory)) => file_at(bucket, &location.path, OBJECT_OF_DIRECTORY).map(|found| found.ok()),
        found => Ok(found.ok()),
    }
}

/// The file of this name, or what else has it.
fn file_at(bucket: Bucket<'_>, folder: &[u8], name: &[u8]) -> Result<std::result::Result<Live, Option<FileKind>>> {
    let looked = bucket.open_below(folder).and_then(|directory| sys::stat::at(&directory, name).map(|stat| (directory, stat)));
    match looked {
        Ok((directory, stat)) if stat.kind == FileKind::Regular => {
            Ok(Ok(Live { directory, folder: folder.to_vec(), name: name.to_vec(), stat }))
        }
        Ok((_, stat)) => Ok(Err(Some(stat.kind))),
        Err(errno) if sys::errno::is_gone(errno) || errno == Errno::NAMETOOLONG => Ok(Err(None)),
        Err(errno) => Err(errno.into()),
    }
}
