//! Which upload a request means, and where that is.

use crate::store::disk::Bucket;

/// Which upload a request means.
#[derive(Clone, Copy)]
pub struct UploadName<'a> {
    /// The bucket.
    pub bucket: Bucket<'a>,
    /// The key.
    pub key: &'a [u8],
    /// The upload id, as it came.
    pub id: &'a str,
}

impl UploadName<'_> {
    /// Its directory, in that of all uploads.
    pub(super) fn path(&self) -> Vec<u8> {
        [self.bucket.name.as_bytes(), b"/", self.id.as_bytes()].concat()
    }
}
