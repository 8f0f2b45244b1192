//! ListParts and ListMultipartUploads.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use super::index::{Facts, Known};
use super::manifest::{self, Manifest};
use super::name::UploadName;
use super::table::Uploads;
use crate::base::storage_class::StorageClass;
use crate::digest::Algorithm;
use crate::digest::checksum::{Kind, Value};
use crate::store::disk::Bucket;
use crate::store::disk::reading::Reading;
use crate::store::error::{Result, StoreError};
use crate::store::listing::cache::{BEING_READ, SnapshotCache};
use crate::store::listing::list::successor;
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno};

/// A part that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedPart {
    /// Its number.
    pub number: u32,
    /// Its bytes.
    pub size: u64,
    /// Its ETag.
    pub md5: [u8; 16],
    /// Its checksum.
    pub checksum: Option<Value>,
    /// When it was stored.
    pub modified_ns: i64,
}

/// A page of an upload's parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartsPage {
    /// By number.
    pub parts: Vec<ListedPart>,
    /// There are more.
    pub is_truncated: bool,
    /// The checksum that the upload announced.
    pub checksum: Option<(Algorithm, Kind)>,
    /// The storage class that the object will have.
    pub storage_class: StorageClass,
    /// When the upload began.
    pub initiated_ns: i64,
}

/// Parts with a number above `after`, at most `max`.
pub fn list_parts(uploads: &Uploads, name: &UploadName<'_>, after: u32, max: usize) -> Result<PartsPage> {
    let upload = uploads.find(name)?;
    let state = upload.state();
    let mut rest = state.parts.range(after.saturating_add(1)..);
    let parts = rest.by_ref().take(max).map(|(number, part)| ListedPart {
        number: *number,
        size: part.size,
        md5: part.md5,
        checksum: part.checksum,
        modified_ns: part.modified_ns,
    });
    let parts: Vec<_> = parts.collect();
    let (checksum, initiated_ns) = (upload.manifest.checksum, upload.manifest.initiated_ns);
    let storage_class = upload.manifest.record.storage_class;
    // A page of none is not the first of many.
    Ok(PartsPage { is_truncated: max > 0 && rest.next().is_some(), parts, checksum, storage_class, initiated_ns })
}

/// Which uploads of a bucket are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct UploadsQuery<'a> {
    /// Keys begin with this.
    pub prefix: &'a [u8],
    /// Keys that have this behind the prefix are one common prefix; empty: none.
    pub delimiter: &'a [u8],
    /// Keys behind this one; of this one itself, uploads behind `id_marker`.
    pub key_marker: &'a [u8],
    /// See `key_marker`, without which it means nothing.
    pub id_marker: &'a str,
    /// Entries and common prefixes together.
    pub max: usize,
}

/// An upload under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedUpload {
    /// The key.
    pub key: Vec<u8>,
    /// The upload id.
    pub id: String,
    /// When it began.
    pub initiated_ns: i64,
    /// The checksum that it announced.
    pub checksum: Option<(Algorithm, Kind)>,
    /// The storage class that the object will have.
    pub storage_class: StorageClass,
}

/// A page of a bucket's uploads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UploadsPage {
    /// By key, then by time.
    pub uploads: Vec<ListedUpload>,
    /// By name.
    pub common_prefixes: Vec<Vec<u8>>,
    /// Markers of the next page, when there is one: key and upload id (empty behind a common prefix).
    pub next: Option<(Vec<u8>, String)>,
}

/// The uploads of a bucket. What is on the page is looked at, and what is new; where the bucket has too many uploads to remember
/// them, all of them.
pub fn list_uploads(
    uploads: &Uploads,
    snapshots: &SnapshotCache,
    bucket: Bucket<'_>,
    query: &UploadsQuery<'_>,
) -> Result<UploadsPage> {
    let disk = bucket.disk;
    bucket.head()?;
    let Some(own) = disk.own_if_any() else { return Ok(UploadsPage::default()) };
    let home = match sys::path::open_dir(&own.uploads, bucket.name.as_bytes(), Symlinks::Deny) {
        Ok(home) => home,
        Err(Errno::NOENT) => return Ok(UploadsPage::default()),
        Err(errno) => return Err(errno.into()),
    };
    let names = match snapshots.load(disk.reading(), home.as_fd(), &sys::stat::of(&home)?) {
        Err(BEING_READ) => return Err(StoreError::BeingRead),
        // The bucket was removed meanwhile, and its uploads with it.
        Err(Errno::NOENT) => return Ok(UploadsPage::default()),
        names => names?,
    };
    if let Some(names) = names {
        let page = uploads.index.with(bucket.name, &home, names, |known| known_page(known, &home, query))?;
        if let Some(page) = page {
            return Ok(page);
        }
    }
    scanned_page(disk.reading(), &home, query)
}

/// A page of what is known, as far as it is still there.
fn known_page(known: &Known, home: &OwnedFd, query: &UploadsQuery<'_>) -> Result<UploadsPage> {
    let mut first = Entries::new();
    let mut from = Some(query.first_position());
    // One more than the page has says that there is another.
    while let Some(position) = from.take().filter(|_| first.len() <= query.max) {
        let Some(((key, id), facts)) = known.uploads.range(position..).next() else { break };
        if !key.starts_with(query.prefix) {
            break;
        }
        let (common, next) = (query.common_prefix(key), Some((key.clone(), least_behind(id))));
        let behind = |prefix| successor(prefix).map(|next| (next, String::new()));
        from = match common {
            // The page before ended with it.
            Some(prefix) if prefix == query.key_marker => behind(prefix),
            _ if !is_under_way(home, id.as_bytes())? => next,
            Some(prefix) => {
                first.insert((prefix.to_vec(), String::new()), None);
                behind(prefix)
            }
            None => {
                let Facts { initiated_ns, checksum, storage_class } = *facts;
                let upload = ListedUpload { key: key.clone(), id: id.clone(), initiated_ns, checksum, storage_class };
                first.insert((key.clone(), id.clone()), Some(upload));
                next
            }
        };
    }
    Ok(page(first, query.max))
}

fn least_behind(id: &str) -> String {
    format!("{id}\0")
}

/// Whether an upload that was there a moment ago is neither completed nor aborted.
fn is_under_way(home: &OwnedFd, id: &[u8]) -> Result<bool> {
    match sys::path::open_dir(home, id, Symlinks::Deny) {
        Ok(directory) => Ok(!manifest::is_published(&directory)),
        Err(errno) if sys::errno::is_gone(errno) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// A page by a look at every upload. Memory is bounded by the page.
fn scanned_page(reading: Reading<'_>, home: &OwnedFd, query: &UploadsQuery<'_>) -> Result<UploadsPage> {
    let mut first = Entries::new();
    let ids = match reading.directories_in(home) {
        Ok(ids) => ids,
        // The bucket was removed meanwhile, and its uploads with it.
        Err(Errno::NOENT) => return Ok(UploadsPage::default()),
        Err(errno) => return Err(errno.into()),
    };
    for id in ids {
        let directory = match sys::path::open_dir(home, &id, Symlinks::Deny) {
            Ok(directory) => directory,
            // Completed or aborted meanwhile. Anything else would make this a list with uploads missing.
            Err(errno) if sys::errno::is_gone(errno) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let manifest = match Manifest::read(&directory) {
            Ok(manifest) if !manifest::is_published(&directory) => manifest,
            // Completed or aborted meanwhile; or nothing that we wrote.
            Ok(_) | Err(StoreError::Kernel(Errno::NOENT | Errno::BADMSG)) => continue,
            Err(error) => return Err(error),
        };
        let id = String::from_utf8_lossy(&id).into_owned();
        let Some((position, upload)) = query.position(manifest, id) else { continue };
        first.insert(position, upload);
        if first.len() > query.max.saturating_add(1) {
            first.pop_last();
        }
    }
    Ok(page(first, query.max))
}

/// Where an entry stands: its key or common prefix, then its id, since the ids of one key sort by time; empty for a prefix.
type Position = (Vec<u8>, String);
/// `None`: a common prefix.
type Entries = BTreeMap<Position, Option<ListedUpload>>;

fn page(mut first: Entries, max: usize) -> UploadsPage {
    let mut page = UploadsPage::default();
    let is_truncated = first.len() > max;
    if is_truncated {
        first.pop_last();
        page.next = first.last_key_value().map(|(position, _)| position.clone());
    }
    for ((key, _), upload) in first {
        match upload {
            Some(upload) => page.uploads.push(upload),
            None => page.common_prefixes.push(key),
        }
    }
    page
}

impl UploadsQuery<'_> {
    /// Nothing on the page stands before this.
    fn first_position(&self) -> Position {
        let behind_marker = match (self.key_marker, self.id_marker) {
            (b"", _) => (Vec::new(), String::new()),
            // The least key behind it.
            (key, "") => ([key, b"\0"].concat(), String::new()),
            (key, id) => (key.to_vec(), least_behind(id)),
        };
        behind_marker.max((self.prefix.to_vec(), String::new()))
    }

    /// The common prefix that stands for a key with our prefix, if it has the delimiter behind that.
    fn common_prefix<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        let behind = key.get(self.prefix.len()..).filter(|_| !self.delimiter.is_empty())?;
        let at = find(behind, self.delimiter)?;
        key.get(..self.prefix.len() + at + self.delimiter.len())
    }

    /// Where an upload stands in the answer, if it does.
    fn position(&self, manifest: Manifest, id: String) -> Option<(Position, Option<ListedUpload>)> {
        let Manifest { key, initiated_ns, checksum, record, .. } = manifest;
        if !key.starts_with(self.prefix) {
            return None;
        }
        let is_after = key.as_slice() > self.key_marker
            || (key == self.key_marker && !self.id_marker.is_empty() && id.as_str() > self.id_marker);
        if !self.key_marker.is_empty() && !is_after {
            return None;
        }
        if let Some(prefix) = self.common_prefix(&key) {
            // The page before ended with it.
            return (prefix != self.key_marker).then(|| ((prefix.to_vec(), String::new()), None));
        }
        let storage_class = record.storage_class;
        let upload = ListedUpload { key: key.clone(), id: id.clone(), initiated_ns, checksum, storage_class };
        Some(((key, id), Some(upload)))
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
