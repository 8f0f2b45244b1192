//! Removing an object where versions are kept, and removing a version for good.

use super::super::barrier::Ticket;
use super::super::commit::Condition;
use super::super::volume::Volume;
use super::super::{Result, StoreError, delete};
use crate::base::version_id::Version;

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
    pub(in crate::store) fn plainly(ticket: Ticket) -> Self {
        Self { ticket, version: None, is_marker: false }
    }
}

/// Removes one version for good. One that is not there is fine, as in S3.
pub fn delete_version(volume: &Volume, bucket: &str, key: &[u8], version: Version, condition: Option<&Condition>) -> Result<Deleted> {
    match (volume.rules_of(bucket), version) {
        (None, Version::Null) => delete::delete(volume, bucket, key, condition),
        (None, Version::Id(_)) => Err(StoreError::NoVersion),
        (Some(_), _) => Err(StoreError::NoVersion),
    }
}
