//! ListObjects: one page of a bucket's keys, as long as it stays the same bucket.

use std::sync::atomic::AtomicBool;

use crate::limits::PUBLISH_ATTEMPTS_MAX;
use crate::store::disk::Bucket;
use crate::store::error::StoreError;
use crate::store::listing::cache::{BEING_READ, SnapshotCache};
use crate::store::listing::list::{Page, Query, Walked, list};
use crate::store::listing::walk::WalkError;
use crate::sys::{self, Cause, Errno};

/// One page of the bucket's keys. `stop` ends the walk early.
pub fn page(bucket: Bucket<'_>, snapshots: &SnapshotCache, query: &Query<'_>, stop: &AtomicBool) -> Walked<Page> {
    for _ in 0..PUBLISH_ATTEMPTS_MAX {
        let directory = match bucket.open_directory() {
            Err(StoreError::Kernel(errno)) if sys::errno::cause(errno) == Cause::Denied => {
                return Err(WalkError::Unreadable(Vec::new()));
            }
            opened => opened.map_err(WalkError::Store)?,
        };
        match list(&directory, snapshots, bucket.disk.reading(), query, stop) {
            // The bucket was removed meanwhile, and may be there again.
            Err(WalkError::Store(StoreError::Kernel(Errno::NOENT))) => {}
            Err(WalkError::Store(StoreError::Kernel(BEING_READ))) => {
                return Err(WalkError::Store(StoreError::BeingRead));
            }
            page => return page,
        }
    }
    Err(WalkError::Store(StoreError::Contended))
}
