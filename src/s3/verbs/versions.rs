//! ListObjectVersions.

use super::list::{self, Asked, OwnerOf, Shown, owner_of};
use crate::base::version_id::Version;
use crate::net::Exchange;
use crate::s3::ask::address::BucketTarget;
use crate::s3::ask::error::S3Error;
use crate::s3::plan::answer::Reply;
use crate::s3::plan::context::Context;
use crate::s3::plan::metadata;
use crate::store::buckets::versions::{Entry, Page, Query, list_versions};
use crate::store::error::Marker;
use crate::store::listing::walk::WalkError;
use crate::xml::{self, ListEntry, VersionEntry};

/// `GET /bucket?versions`: in a bucket that never kept any, each object is its own only version, `null`.
pub async fn list_object_versions(exchange: &Exchange, context: &Context<'_, BucketTarget>) -> Result<Reply, S3Error> {
    let marker = context.query.value("key-marker").unwrap_or_default().to_owned();
    let version_marker = context.query.value("version-id-marker").unwrap_or_default().to_owned();
    let after_version = after_version(&marker, &version_marker)?;
    let asked = Asked::of(context, marker)?;
    let (owner, unreadable) = (owner_of(context), context.live.list_unreadable);
    list::answer(exchange, context, asked, move |volume, asked, stop| {
        let query = Query {
            prefix: asked.prefix.as_bytes(),
            delimiter: asked.delimiter.as_ref().map(String::as_bytes).unwrap_or_default(),
            after: asked.after.as_bytes(),
            after_version,
            max: asked.max_keys,
            unreadable,
        };
        if asked.max_keys == 0 {
            volume.bucket(&asked.bucket).head().map_err(WalkError::Store)?;
        }
        let page = list_versions(volume.bucket(&asked.bucket), volume.snapshots(), &query, stop)?;
        Ok((document(asked, &version_marker, &page, &owner), page.unreadable))
    })
    .await
}

fn after_version(marker: &str, version_marker: &str) -> Result<Option<Version>, S3Error> {
    let invalid = |message| S3Error::invalid_argument("version-id-marker", version_marker, message);
    match (marker, version_marker) {
        (_, "") => Ok(None),
        ("", _) => Err(invalid("A version-id marker cannot be specified without a key marker.")),
        _ => Version::parse(version_marker).map(Some).ok_or_else(|| invalid("Invalid version id specified")),
    }
}

fn document(asked: &Asked, version_marker: &str, page: &Page, owner: &OwnerOf) -> Vec<u8> {
    let last = page.entries.last().filter(|_| page.is_truncated);
    let next_version = last.and_then(version_of).map(|version| version.to_string());
    let head = xml::ListVersions {
        bucket: &asked.bucket,
        prefix: asked.prefix.as_bytes(),
        key_marker: asked.after.as_bytes(),
        version_id_marker: version_marker,
        next_key_marker: last.map(key_of),
        next_version_id_marker: next_version.as_deref(),
        delimiter: asked.delimiter.as_ref().map(String::as_bytes),
        max_keys: asked.max_keys as u64,
        url_encoded: asked.url_encoded,
        is_truncated: page.is_truncated,
    };
    let shown: Vec<ShownVersion<'_>> = page.entries.iter().filter_map(ShownVersion::of).collect();
    let entries: Vec<VersionEntry<'_>> = shown.iter().map(|shown| shown.entry(owner)).collect();
    let prefixes: Vec<&[u8]> = page.entries.iter().filter(|entry| version_of(entry).is_none()).map(key_of).collect();
    let mut out = Vec::with_capacity(256 + page.entries.len() * 400);
    xml::list_versions(&mut out, &head, entries.into_iter(), prefixes.into_iter());
    out
}

/// The key, or what is in place of keys that begin with it.
fn key_of(entry: &Entry) -> &[u8] {
    match entry {
        Entry::Version { object, .. } => &object.key,
        Entry::DeleteMarker { key, .. } | Entry::CommonPrefix(key) => key,
    }
}

fn version_of(entry: &Entry) -> Option<Version> {
    match entry {
        Entry::Version { version, .. } => Some(*version),
        Entry::DeleteMarker { marker, .. } => Some(marker.version),
        Entry::CommonPrefix(_) => None,
    }
}

/// A version as a listing shows it.
struct ShownVersion<'a> {
    id: String,
    is_latest: bool,
    what: What<'a>,
}

enum What<'a> {
    Object(Shown<'a>),
    Marker(&'a [u8], Marker),
}

impl<'a> ShownVersion<'a> {
    fn of(entry: &'a Entry) -> Option<Self> {
        let id = version_of(entry)?.to_string();
        Some(match entry {
            Entry::Version { object, is_latest, .. } => Self { id, is_latest: *is_latest, what: What::Object(Shown::of(object)) },
            Entry::DeleteMarker { key, marker } => Self { id, is_latest: marker.is_current, what: What::Marker(key, *marker) },
            Entry::CommonPrefix(_) => return None,
        })
    }

    fn entry<'b>(&'b self, owner: &'b OwnerOf) -> VersionEntry<'b> {
        let owner = Some(owner.borrowed());
        let (is_delete_marker, object) = match &self.what {
            What::Object(shown) => (false, shown.entry(owner)),
            What::Marker(key, marker) => {
                let last_modified = metadata::timestamp(marker.mtime_ns);
                (true, ListEntry { key, last_modified, owner, ..ListEntry::default() })
            }
        };
        VersionEntry { is_delete_marker, version_id: &self.id, is_latest: self.is_latest, object }
    }
}
