//! Which directory is a bucket? What it carries, and what it is by inode and birth time.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::list::names;
use crate::model::{BucketId, Carried, DirectoryIdentity, FoundDirectory};
use crate::store::disk::{Bucket, Disk};
use crate::store::error::Result;
use crate::sys::{self, Cause, Errno};

/// The attribute of a bucket's directory in which its id stands, in hexadecimal digits.
pub(super) const BUCKET_NAME: &CStr = c"user.sluice.bucket";

/// Every bucket, and which directory it is.
pub fn identify_all(disk: &Disk) -> Result<Vec<(String, FoundDirectory)>> {
    let of = |name: String| identify(disk.bucket(&name)).map(|found| found.map(|found| (name, found))).transpose();
    names(disk, "", "")?.into_iter().filter_map(of).collect()
}

/// Which directory a bucket is; `None`: there is no such bucket.
pub fn identify(bucket: Bucket<'_>) -> Result<Option<FoundDirectory>> {
    let (root, name) = (&bucket.disk.root, bucket.name.as_bytes());
    let Some(directory) = bucket.find()? else { return Ok(None) };
    let identity = identity(&directory, root.as_fd(), name)?;
    let mut text = [0; 2 * BucketId::SIZE];
    let carries = match sys::xattr::read_at(root, name, BUCKET_NAME, &mut text) {
        Ok(Some(size)) => BucketId::parse(&text[..size]).map_or(Carried::Illegible, Carried::Id),
        Err(Errno::RANGE) => Carried::Illegible,
        Ok(None) => Carried::Nothing,
        // What may not be read says nothing, and is used by nobody.
        Err(errno) if matches!(sys::errno::cause(errno), Cause::Denied | Cause::Unsupported) => Carried::Nothing,
        Err(errno) if sys::errno::is_gone(errno) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    Ok(Some(FoundDirectory { identity, carries }))
}

/// Which directory this is, of the name that it has in `parent`.
pub(super) fn identity(directory: &OwnedFd, parent: BorrowedFd<'_>, name: &[u8]) -> Result<DirectoryIdentity> {
    let inode = sys::stat::of(directory)?.inode;
    Ok(DirectoryIdentity { inode, born_ns: sys::stat::born_ns(parent, name).ok().flatten() })
}

/// Has a bucket's directory carry its id. False where it cannot: a directory of somebody else's.
pub fn carry(bucket: Bucket<'_>, id: BucketId) -> Result<bool> {
    let directory = bucket.open_directory()?;
    match sys::xattr::write(&directory, BUCKET_NAME, id.to_string().as_bytes()) {
        Ok(()) => bucket.disk.sync_each(&[&directory]).map(|()| true),
        Err(errno) if matches!(sys::errno::cause(errno), Cause::Denied | Cause::Unsupported | Cause::NoSpace) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
