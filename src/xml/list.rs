//! The listings: buckets, objects, versions and uploads. Element order is what Amazon S3 sends.

use crate::base::time::Timestamp;
use crate::xml::Writer;

/// `<Owner>` and `<Initiator>`.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    pub id: &'a str,
    pub display_name: &'a str,
}

/// ListAllMyBucketsResult without its buckets.
#[derive(Clone, Copy, Debug)]
pub struct ListBuckets<'a> {
    pub owner: Owner<'a>,
    /// The region that each `<Bucket>` names.
    pub region: &'a str,
    /// Where the next page begins; `None` on the last.
    pub continuation_token: Option<&'a str>,
    /// As asked for.
    pub prefix: Option<&'a str>,
}

/// One bucket.
#[derive(Clone, Copy, Debug)]
pub struct BucketEntry<'a> {
    pub name: &'a str,
    pub creation_date: Timestamp,
}

/// ListBucketResult of ListObjects, version 1, without its entries.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListObjects<'a> {
    pub bucket: &'a str,
    pub prefix: &'a [u8],
    pub marker: &'a [u8],
    /// S3 sends it only with a delimiter; sending it whenever the page is truncated is read by all clients.
    pub next_marker: Option<&'a [u8]>,
    pub delimiter: Option<&'a [u8]>,
    pub max_keys: u64,
    /// `encoding-type=url` was asked for.
    pub url_encoded: bool,
    pub is_truncated: bool,
}

/// ListBucketResult of ListObjectsV2, without its entries.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListObjectsV2<'a> {
    pub bucket: &'a str,
    pub prefix: &'a [u8],
    pub continuation_token: Option<&'a str>,
    pub next_continuation_token: Option<&'a str>,
    pub start_after: Option<&'a [u8]>,
    pub delimiter: Option<&'a [u8]>,
    pub max_keys: u64,
    /// `encoding-type=url` was asked for.
    pub url_encoded: bool,
    pub is_truncated: bool,
}

/// One object of ListObjects and ListObjectsV2.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListEntry<'a> {
    pub key: &'a [u8],
    pub last_modified: Timestamp,
    /// Without quotes.
    pub etag: &'a str,
    pub size: u64,
    /// `CRC32`, `CRC64NVME`, …
    pub checksum_algorithm: Option<&'a str>,
    /// `FULL_OBJECT` or `COMPOSITE`.
    pub checksum_type: Option<&'a str>,
    /// `STANDARD`, `GLACIER`, …
    pub storage_class: &'a str,
    /// Version 1 always has it, version 2 with `fetch-owner=true`.
    pub owner: Option<Owner<'a>>,
}

/// ListVersionsResult without its entries.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListVersions<'a> {
    pub bucket: &'a str,
    pub prefix: &'a [u8],
    pub key_marker: &'a [u8],
    pub version_id_marker: &'a str,
    pub next_key_marker: Option<&'a [u8]>,
    pub next_version_id_marker: Option<&'a str>,
    pub delimiter: Option<&'a [u8]>,
    pub max_keys: u64,
    /// `encoding-type=url` was asked for.
    pub url_encoded: bool,
    pub is_truncated: bool,
}

/// One version or delete marker.
#[derive(Clone, Copy, Debug)]
pub struct VersionEntry<'a> {
    /// ETag, size and checksum of `object` are not written for one.
    pub is_delete_marker: bool,
    /// `null` in a bucket without versions.
    pub version_id: &'a str,
    pub is_latest: bool,
    pub object: ListEntry<'a>,
}

/// ListMultipartUploadsResult without its entries.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListMultipartUploads<'a> {
    pub bucket: &'a str,
    pub prefix: &'a [u8],
    pub key_marker: &'a [u8],
    pub upload_id_marker: &'a str,
    pub next_key_marker: Option<&'a [u8]>,
    pub next_upload_id_marker: Option<&'a str>,
    pub delimiter: Option<&'a [u8]>,
    pub max_uploads: u64,
    /// `encoding-type=url` was asked for.
    pub url_encoded: bool,
    pub is_truncated: bool,
}

/// One upload in progress.
#[derive(Clone, Copy, Debug)]
pub struct UploadEntry<'a> {
    pub key: &'a [u8],
    pub upload_id: &'a str,
    pub initiator: Owner<'a>,
    pub initiated: Timestamp,
    /// `STANDARD`, `GLACIER`, …
    pub storage_class: &'a str,
    pub checksum_algorithm: Option<&'a str>,
    pub checksum_type: Option<&'a str>,
}

/// Bytes that an entry takes beside its key: one growth of the buffer for the whole page.
const ENTRY_SIZE: usize = 400;

/// ListBuckets.
pub fn list_buckets<'a>(out: &mut Vec<u8>, list: &ListBuckets<'_>, buckets: impl IntoIterator<Item = BucketEntry<'a>>) {
    let mut xml = Writer::document(out, "ListAllMyBucketsResult");
    owner(&mut xml, "Owner", list.owner);
    xml.open("Buckets");
    for bucket in buckets {
        xml.open("Bucket");
        xml.text("Name", bucket.name);
        xml.time("CreationDate", bucket.creation_date);
        xml.text("BucketRegion", list.region);
        xml.close("Bucket");
    }
    xml.close("Buckets");
    xml.optional("ContinuationToken", list.continuation_token);
    xml.optional("Prefix", list.prefix);
    xml.close("ListAllMyBucketsResult");
}

/// ListObjects, version 1.
pub fn list_objects<'a>(
    out: &mut Vec<u8>,
    list: &ListObjects<'_>,
    contents: impl ExactSizeIterator<Item = ListEntry<'a>>,
    common_prefixes: impl ExactSizeIterator<Item = &'a [u8]>,
) {
    out.reserve((contents.len() + common_prefixes.len()) * ENTRY_SIZE);
    let mut xml = Writer::document(out, "ListBucketResult");
    let url = list.url_encoded;
    xml.text("Name", list.bucket);
    xml.key("Prefix", list.prefix, url);
    xml.key("Marker", list.marker, url);
    optional_key(&mut xml, "NextMarker", list.next_marker, url);
    xml.number("MaxKeys", list.max_keys);
    page(&mut xml, list.delimiter, url, list.is_truncated);
    for entry in contents {
        object(&mut xml, &entry, url);
    }
    prefixes(&mut xml, common_prefixes, url);
    xml.close("ListBucketResult");
}

/// ListObjectsV2. `KeyCount` counts the common prefixes too.
pub fn list_objects_v2<'a>(
    out: &mut Vec<u8>,
    list: &ListObjectsV2<'_>,
    contents: impl ExactSizeIterator<Item = ListEntry<'a>>,
    common_prefixes: impl ExactSizeIterator<Item = &'a [u8]>,
) {
    let key_count = contents.len() + common_prefixes.len();
    out.reserve(key_count * ENTRY_SIZE);
    let mut xml = Writer::document(out, "ListBucketResult");
    let url = list.url_encoded;
    xml.text("Name", list.bucket);
    xml.key("Prefix", list.prefix, url);
    // Tokens are opaque and never encoded: clients send them back as they came.
    xml.optional("ContinuationToken", list.continuation_token);
    xml.optional("NextContinuationToken", list.next_continuation_token);
    optional_key(&mut xml, "StartAfter", list.start_after, url);
    xml.number("KeyCount", key_count as u64);
    xml.number("MaxKeys", list.max_keys);
    page(&mut xml, list.delimiter, url, list.is_truncated);
    for entry in contents {
        object(&mut xml, &entry, url);
    }
    prefixes(&mut xml, common_prefixes, url);
    xml.close("ListBucketResult");
}

/// ListObjectVersions.
pub fn list_versions<'a>(
    out: &mut Vec<u8>,
    list: &ListVersions<'_>,
    versions: impl ExactSizeIterator<Item = VersionEntry<'a>>,
    common_prefixes: impl ExactSizeIterator<Item = &'a [u8]>,
) {
    out.reserve((versions.len() + common_prefixes.len()) * ENTRY_SIZE);
    let mut xml = Writer::document(out, "ListVersionsResult");
    let url = list.url_encoded;
    xml.text("Name", list.bucket);
    xml.key("Prefix", list.prefix, url);
    xml.key("KeyMarker", list.key_marker, url);
    xml.text("VersionIdMarker", list.version_id_marker);
    optional_key(&mut xml, "NextKeyMarker", list.next_key_marker, url);
    xml.optional("NextVersionIdMarker", list.next_version_id_marker);
    xml.number("MaxKeys", list.max_keys);
    page(&mut xml, list.delimiter, url, list.is_truncated);
    for entry in versions {
        version(&mut xml, &entry, url);
    }
    prefixes(&mut xml, common_prefixes, url);
    xml.close("ListVersionsResult");
}

/// ListMultipartUploads.
pub fn list_multipart_uploads<'a>(
    out: &mut Vec<u8>,
    list: &ListMultipartUploads<'_>,
    uploads: impl ExactSizeIterator<Item = UploadEntry<'a>>,
    common_prefixes: impl ExactSizeIterator<Item = &'a [u8]>,
) {
    out.reserve((uploads.len() + common_prefixes.len()) * ENTRY_SIZE);
    let mut xml = Writer::document(out, "ListMultipartUploadsResult");
    let url = list.url_encoded;
    xml.text("Bucket", list.bucket);
    xml.key("KeyMarker", list.key_marker, url);
    xml.text("UploadIdMarker", list.upload_id_marker);
    optional_key(&mut xml, "NextKeyMarker", list.next_key_marker, url);
    xml.optional("NextUploadIdMarker", list.next_upload_id_marker);
    xml.key("Prefix", list.prefix, url);
    xml.number("MaxUploads", list.max_uploads);
    page(&mut xml, list.delimiter, url, list.is_truncated);
    for entry in uploads {
        upload(&mut xml, &entry, url);
    }
    prefixes(&mut xml, common_prefixes, url);
    xml.close("ListMultipartUploadsResult");
}

/// `<Owner>` or `<Initiator>`.
pub(super) fn owner(xml: &mut Writer<'_>, name: &str, owner: Owner<'_>) {
    xml.open(name);
    xml.text("ID", owner.id);
    xml.text("DisplayName", owner.display_name);
    xml.close(name);
}

/// What all listings say between their markers and their entries.
fn page(xml: &mut Writer<'_>, delimiter: Option<&[u8]>, url: bool, is_truncated: bool) {
    optional_key(xml, "Delimiter", delimiter, url);
    if url {
        xml.text("EncodingType", "url");
    }
    xml.boolean("IsTruncated", is_truncated);
}

fn object(xml: &mut Writer<'_>, entry: &ListEntry<'_>, url: bool) {
    xml.open("Contents");
    xml.key("Key", entry.key, url);
    xml.time("LastModified", entry.last_modified);
    etag_to_storage_class(xml, entry);
    xml.close("Contents");
}

fn version(xml: &mut Writer<'_>, entry: &VersionEntry<'_>, url: bool) {
    let name = if entry.is_delete_marker { "DeleteMarker" } else { "Version" };
    xml.open(name);
    xml.key("Key", entry.object.key, url);
    xml.text("VersionId", entry.version_id);
    xml.boolean("IsLatest", entry.is_latest);
    xml.time("LastModified", entry.object.last_modified);
    if !entry.is_delete_marker {
        etag_to_storage_class(xml, &entry.object);
    } else if let Some(of) = entry.object.owner {
        owner(xml, "Owner", of);
    }
    xml.close(name);
}

fn etag_to_storage_class(xml: &mut Writer<'_>, entry: &ListEntry<'_>) {
    xml.etag(entry.etag);
    if let (Some(algorithm), Some(kind)) = (entry.checksum_algorithm, entry.checksum_type) {
        xml.word("ChecksumAlgorithm", algorithm);
        xml.word("ChecksumType", kind);
    }
    xml.number("Size", entry.size);
    if let Some(of) = entry.owner {
        owner(xml, "Owner", of);
    }
    xml.word("StorageClass", entry.storage_class);
}

fn upload(xml: &mut Writer<'_>, entry: &UploadEntry<'_>, url: bool) {
    xml.open("Upload");
    xml.key("Key", entry.key, url);
    xml.text("UploadId", entry.upload_id);
    owner(xml, "Initiator", entry.initiator);
    owner(xml, "Owner", entry.initiator);
    xml.word("StorageClass", entry.storage_class);
    xml.time("Initiated", entry.initiated);
    xml.optional("ChecksumAlgorithm", entry.checksum_algorithm);
    xml.optional("ChecksumType", entry.checksum_type);
    xml.close("Upload");
}

fn prefixes<'a>(xml: &mut Writer<'_>, common_prefixes: impl Iterator<Item = &'a [u8]>, url: bool) {
    for prefix in common_prefixes {
        xml.open("CommonPrefixes");
        xml.key("Prefix", prefix, url);
        xml.close("CommonPrefixes");
    }
}

fn optional_key(xml: &mut Writer<'_>, name: &str, key: Option<&[u8]>, url: bool) {
    if let Some(key) = key {
        xml.key(name, key, url);
    }
}
