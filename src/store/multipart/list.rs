//! ListParts and ListMultipartUploads.

use std::collections::BTreeMap;

use super::manifest::{self, Manifest};
use super::{UploadName, table};
use crate::digest::Algorithm;
use crate::digest::checksum::{Kind, Value};
use crate::store::tree::directories_in;
use crate::store::volume::Volume;
use crate::store::{Result, StoreError, bucket};
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
    /// When the upload began.
    pub initiated_ns: i64,
}

/// Parts with a number above `after`, at most `max`.
pub fn list_parts(volume: &Volume, name: &UploadName<'_>, after: u32, max: usize) -> Result<PartsPage> {
    let upload = table::find(volume, name)?;
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
    // A page of none is not the first of many.
    Ok(PartsPage { is_truncated: max > 0 && rest.next().is_some(), parts, checksum, initiated_ns })
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

/// The uploads of a bucket. Memory is bounded by the page, time by the bucket's uploads.
pub fn list_uploads(volume: &Volume, bucket: &str, query: &UploadsQuery<'_>) -> Result<UploadsPage> {
    bucket::head(volume, bucket)?;
    let home = match sys::path::open_dir(&volume.uploads, bucket.as_bytes(), Symlinks::Deny) {
        Ok(home) => home,
        Err(Errno::NOENT) => return Ok(UploadsPage::default()),
        Err(errno) => return Err(errno.into()),
    };
    let mut first = Entries::new();
    for id in directories_in(&home)? {
        let directory = match sys::path::open_dir(&home, &id, Symlinks::Deny) {
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
        let Some((place, upload)) = query.place(manifest, id) else { continue };
        first.insert(place, upload);
        if first.len() > query.max.saturating_add(1) {
            first.pop_last();
        }
    }
    Ok(page(first, query.max))
}

/// Where an entry stands: its key or common prefix, then its id, since the ids of one key sort by time; empty for a prefix.
type Place = (Vec<u8>, String);
/// `None`: a common prefix.
type Entries = BTreeMap<Place, Option<ListedUpload>>;

fn page(mut first: Entries, max: usize) -> UploadsPage {
    let mut page = UploadsPage::default();
    let is_truncated = first.len() > max;
    if is_truncated {
        first.pop_last();
        page.next = first.last_key_value().map(|(place, _)| place.clone());
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
    /// Where an upload stands in the answer, if it does.
    fn place(&self, manifest: Manifest, id: String) -> Option<(Place, Option<ListedUpload>)> {
        let Manifest { key, initiated_ns, checksum, .. } = manifest;
        let behind = key.strip_prefix(self.prefix)?;
        let is_after = key.as_slice() > self.key_marker
            || (key == self.key_marker && !self.id_marker.is_empty() && id.as_str() > self.id_marker);
        if !self.key_marker.is_empty() && !is_after {
            return None;
        }
        let delimited = if self.delimiter.is_empty() { None } else { find(behind, self.delimiter) };
        if let Some(at) = delimited {
            let prefix = key[..self.prefix.len() + at + self.delimiter.len()].to_vec();
            // The page before ended with it.
            return (prefix != self.key_marker).then_some(((prefix, String::new()), None));
        }
        let upload = ListedUpload { key: key.clone(), id: id.clone(), initiated_ns, checksum };
        Some(((key, id), Some(upload)))
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
