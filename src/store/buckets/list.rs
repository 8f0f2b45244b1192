//! ListBuckets: the directories at the top of the served one that have a legal name.

use std::collections::BTreeSet;

use crate::store::disk::{Disk, ListedBucket};
use crate::store::error::Result;
use crate::store::names::key;
use crate::sys::path::Symlinks;
use crate::sys::{self, FileKind};

/// Which buckets are asked for.
#[derive(Debug, Clone, Copy)]
pub struct BucketsQuery<'a> {
    /// Names begin with this.
    pub prefix: &'a str,
    /// Names behind this one.
    pub after: &'a str,
    /// How many.
    pub max: usize,
}

/// A page of buckets, by name, and whether more follow. Only those on it are looked at.
pub fn list(disk: &Disk, query: &BucketsQuery<'_>) -> Result<(Vec<ListedBucket>, bool)> {
    let names = names(disk, query.prefix, query.after)?;
    let mut buckets = names.into_iter().filter_map(|name| disk.bucket(&name).describe().transpose());
    let page = buckets.by_ref().take(query.max).collect::<Result<Vec<_>>>()?;
    Ok((page, buckets.next().transpose()?.is_some()))
}

/// What may be buckets, in order.
pub(super) fn names(disk: &Disk, prefix: &str, after: &str) -> Result<BTreeSet<String>> {
    let root = sys::path::open_dir(&disk.root, b"", Symlinks::Deny)?;
    let mut names = BTreeSet::new();
    let mut buffer = sys::dir::buffer(64 * 1024);
    let _ = disk.reading().visit(&root, &mut buffer, |entry| {
        let is_wanted = entry.name > after.as_bytes() && entry.name.starts_with(prefix.as_bytes());
        if is_wanted && entry.kind.is_none_or(|kind| kind == FileKind::Directory) && key::is_bucket_name(entry.name) {
            names.insert(String::from_utf8_lossy(entry.name).into_owned());
        }
        std::ops::ControlFlow::<()>::Continue(())
    })?;
    Ok(names)
}
