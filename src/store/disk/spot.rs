//! A name in a directory, and where that is: what is to be given, taken, or put back.

use std::os::fd::OwnedFd;

use super::bucket::join;

/// A name in a bucket, or in a directory of our own, and where it is.
#[derive(Clone, Copy)]
pub(in crate::store) struct Spot<'a> {
    pub(in crate::store) directory: &'a OwnedFd,
    /// The bucket's name, or that of our own directory.
    pub(in crate::store) top: &'a str,
    /// The path of the directory beneath that.
    pub(in crate::store) folder: &'a [u8],
    pub(in crate::store) name: &'a [u8],
}

impl Spot<'_> {
    /// The directory's path beneath the served one.
    pub(super) fn folder_path(&self) -> Vec<u8> {
        join(self.top, self.folder)
    }

    /// The name's path beneath the served directory.
    pub(in crate::store) fn path(&self) -> Vec<u8> {
        let mut path = self.folder_path();
        path.push(b'/');
        path.extend_from_slice(self.name);
        path
    }
}
