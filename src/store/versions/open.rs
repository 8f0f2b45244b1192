//! Opening one version of an object.

use super::super::object::{self, Object};
use super::super::volume::Volume;
use super::super::{Result, StoreError};
use crate::base::version_id::Version;

/// An open version.
#[derive(Debug)]
pub struct Found {
    pub object: Object,
    /// Which it is; `None` in a bucket that never kept versions.
    pub version: Option<Version>,
}

/// Opens the version that is `wanted`, or the current one. A delete marker is an error that says so. In a bucket that never kept versions
/// there is `null` alone. Blocks.
pub fn open(volume: &Volume, bucket: &str, key: &[u8], wanted: Option<Version>) -> Result<Found> {
    match (volume.rules_of(bucket), wanted) {
        (None, None | Some(Version::Null)) => Ok(Found { object: object::open(volume, bucket, key)?, version: None }),
        (None, Some(Version::Id(_))) => Err(StoreError::NoVersion),
        (Some(_), _) => Err(StoreError::NoVersion),
    }
}
