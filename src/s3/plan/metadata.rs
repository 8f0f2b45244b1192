//! An object's headers: from a request into its record, and from its record into an answer.

use std::borrow::Cow;
use std::cell::Cell;

use super::answer::Answer;
use super::context::Context;
use crate::base::storage_class::StorageClass;
use crate::base::time::Timestamp;
use crate::digest::checksum::Value;
use crate::digest::etag::FileState;
use crate::digest::{Checksum, ETag};
use crate::http;
use crate::limits::{SYSTEM_METADATA_SIZE_MAX, USER_METADATA_SIZE_MAX};
use crate::s3::ask::error::{Code, S3Error};
use crate::store::listing::list::Object;
use crate::store::names::checksum;
use crate::store::names::record::{self, Record, SYNTHETIC};
use crate::store::objects::open::State;
use crate::sys::FileStat;

/// What S3 answers where no type was given.
pub const CONTENT_TYPE_DEFAULT: &[u8] = b"binary/octet-stream";
const META_PREFIX: &str = "x-amz-meta-";

/// A record of everything that the request's headers say of the object.
pub fn record_of(context: &Context<'_>) -> Result<Record, S3Error> {
    let mut record = Record::new(0, 0, [0; 16]);
    let owned = |name| context.request.header_bytes(name).map(<[u8]>::to_vec);
    let list = |name| context.request.header_list(name).map(Cow::into_owned);
    record.storage_class = storage_class(context)?;
    record.content_type = owned("content-type").map(Cow::Owned);
    record.cache_control = list("cache-control");
    record.content_disposition = owned("content-disposition");
    record.content_encoding = list("content-encoding").and_then(|value| without_aws_chunked(&value));
    record.content_language = list("content-language");
    record.expires = owned("expires");
    record.website_redirect_location = owned("x-amz-website-redirect-location");
    record.user_metadata = user_metadata(context)?;
    check_system_metadata(&record)?;
    Ok(record)
}

/// S3 bounds what the six headers say as it bounds user metadata, by its own 2 KB
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html>).
fn check_system_metadata(record: &Record) -> Result<(), S3Error> {
    let fields = [
        ("content-type", record.content_type.as_deref()),
        ("cache-control", record.cache_control.as_deref()),
        ("content-disposition", record.content_disposition.as_deref()),
        ("content-encoding", record.content_encoding.as_deref()),
        ("content-language", record.content_language.as_deref()),
        ("expires", record.expires.as_deref()),
    ];
    let size = fields.iter().filter_map(|(name, value)| Some(name.len() + (*value)?.len())).sum();
    if size > SYSTEM_METADATA_SIZE_MAX { Err(metadata_too_large(size, SYSTEM_METADATA_SIZE_MAX)) } else { Ok(()) }
}

fn metadata_too_large(size: usize, size_max: usize) -> S3Error {
    let error = S3Error::new(Code::MetadataTooLarge).with("Size", size.to_string());
    error.with("MaxSizeAllowed", size_max.to_string())
}

/// `x-amz-storage-class` of what is made.
pub fn storage_class(context: &Context<'_>) -> Result<StorageClass, S3Error> {
    let Some(name) = context.amz_header("x-amz-storage-class")? else { return Ok(StorageClass::Standard) };
    let invalid = || S3Error::new(Code::InvalidStorageClass).with("StorageClassRequested", name);
    StorageClass::parse(name).ok_or_else(invalid)
}

fn user_metadata(context: &Context<'_>) -> Result<Vec<record::Metadata>, S3Error> {
    let named = |(name, value)| Some((strip_prefix_ignoring_case(name, META_PREFIX)?, value));
    let mut metadata = by_name(context.request.headers().filter_map(named));
    let of_headers = metadata.len();
    for (name, value) in linked_metadata(context)? {
        match metadata[..of_headers].binary_search_by(|(known, _)| known.cmp(&name)) {
            Err(_) => metadata.push((name, value)),
            Ok(at) if metadata[at].1 == value => {}
            Ok(_) => {
                let (name, value) = (String::from_utf8_lossy(&name), String::from_utf8_lossy(&value));
                let message = "The query says otherwise than the header of the same name";
                return Err(S3Error::invalid_argument(&format!("{META_PREFIX}{name}"), &value, message));
            }
        }
    }
    let size: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > USER_METADATA_SIZE_MAX {
        return Err(metadata_too_large(size, USER_METADATA_SIZE_MAX));
    }
    Ok(metadata)
}

/// Metadata in the order of its names. A repeated name is one list, as for any field (RFC 9110 section 5.3).
fn by_name<'a>(pairs: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<record::Metadata> {
    let mut metadata: Vec<record::Metadata> =
        pairs.map(|(name, value)| (name.to_ascii_lowercase().into_bytes(), value.to_vec())).collect();
    metadata.sort_by(|(one, _), (other, _)| one.cmp(other));
    metadata.dedup_by(|(name, value), (kept, list)| {
        let is_more = name == kept;
        if is_more {
            list.push(b',');
            list.append(value);
        }
        is_more
    });
    metadata
}

/// The metadata that stands in the query of a pre-signed URL, where aws-sdk-js and aws-sdk-ruby put it. It comes back as headers,
/// so that it must be what a header could have said.
fn linked_metadata(context: &Context<'_>) -> Result<Vec<record::Metadata>, S3Error> {
    let mut pairs = Vec::new();
    for (name, value) in context.presigned_pairs() {
        let Some(stripped) = strip_prefix_ignoring_case(name, META_PREFIX) else { continue };
        if !http::is_field(stripped, value.as_bytes()) {
            return Err(S3Error::invalid_argument(name, value, "User metadata must be a legal header field"));
        }
        pairs.push((stripped, value.trim().as_bytes()));
    }
    Ok(by_name(pairs.into_iter()))
}

fn strip_prefix_ignoring_case<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = name.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// `aws-chunked` is how the body travels, not what it is; `gzip,aws-chunked` is `gzip`. A value without it stays as it came.
fn without_aws_chunked(value: &[u8]) -> Option<Vec<u8>> {
    let is_aws_chunked = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"aws-chunked");
    if !value.is_empty() && !value.split(|byte| *byte == b',').any(is_aws_chunked) {
        return Some(value.to_vec());
    }
    let kept: Vec<&[u8]> = value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(&b","[..]))
}

/// The digests of a single upload, into its record.
pub fn add_checksums(record: &mut Record, checksums: &[Value]) {
    let mut checksums = checksums.iter().map(|value| checksum::kept(&Checksum { value: *value, parts: None }));
    record.checksum = checksums.next();
    record.more_checksums = checksums.collect();
}

thread_local! {
    /// Counts synthetic ETags of files that may change unseen.
    static NONCE: Cell<u64> = const { Cell::new(0) };
}

/// The object's ETag: its own while the record is true, one made of the file's facts otherwise.
pub fn etag_of(state: &State) -> ETag {
    match &state.record {
        Some(record) => etag_of_record(record),
        None => synthetic(&state.stat, state.may_change_unseen),
    }
}

/// The ETag that a record holds.
pub fn etag_of_record(record: &Record) -> ETag {
    etag_of_digest(record.etag, record.parts)
}

fn etag_of_digest(md5: [u8; 16], parts: u32) -> ETag {
    match parts {
        0 => ETag::Md5(md5),
        SYNTHETIC => ETag::Synthetic(md5),
        parts => ETag::Multipart { md5, parts },
    }
}

/// The same for an entry of a listing.
pub fn etag_of_entry(object: &Object) -> ETag {
    match &object.summary {
        Some(summary) => etag_of_digest(summary.etag, summary.parts),
        None => synthetic(&object.stat, object.may_change_unseen),
    }
}

/// An ETag made of a file's facts. While an edit might not show in them, never the same twice.
fn synthetic(stat: &FileStat, may_change_unseen: bool) -> ETag {
    let file = FileState { inode: stat.inode, size: stat.size, mtime: timestamp(stat.mtime_ns), ctime: timestamp(stat.ctime_ns) };
    let nonce = may_change_unseen.then(|| {
        NONCE.set(NONCE.get().wrapping_add(1));
        (Timestamp::now().as_nanoseconds() as u64).rotate_left(20).wrapping_add(NONCE.get())
    });
    ETag::synthetic(&file, nonce)
}

/// When the object was last changed. A directory object's is its record's: a directory's own time moves with its entries.
pub fn last_modified(state: &State) -> Timestamp {
    timestamp(state.record.as_ref().map_or(state.stat.mtime_ns, |record| record.mtime_ns))
}

/// Nanoseconds since the epoch as a timestamp.
pub fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp { seconds: nanoseconds.div_euclid(1_000_000_000), nanoseconds: nanoseconds.rem_euclid(1_000_000_000) as u32 }
}

/// What a query may override in the headers of GET and HEAD (API_GetObject.html). Another one is refused, as S3 does: it would be
/// missing from the answer.
pub fn check_overrides(context: &Context<'_>) -> Result<(), S3Error> {
    const KNOWN: [&str; 6] = [
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
    ];
    let mut unknown = context.query.pairs().filter(|(name, _)| name.starts_with("response-") && !KNOWN.contains(name));
    match unknown.next() {
        None => Ok(()),
        Some((name, value)) => {
            let message = format!("{name} is not in the set of overridable response headers.");
            Err(S3Error::invalid_argument(name, value, message))
        }
    }
}

/// The headers of GET and HEAD that speak of the object as a whole.
pub fn write_headers(answer: &mut Answer, context: &Context<'_>, state: &State, etag: &ETag) {
    // What most answers take.
    answer.headers.reserve(192);
    let mut quoted = Vec::with_capacity(48);
    etag.write_quoted_into(&mut quoted);
    answer.own_header("ETag", &quoted);
    answer.own_header("Last-Modified", last_modified(state).http_date().as_bytes());
    answer.own_header("Accept-Ranges", b"bytes");
    let record = state.record.as_ref();
    let fields: [(&str, &str, Option<&[u8]>); 6] = [
        (
            "Content-Type",
            "response-content-type",
            Some(record.and_then(|r| r.content_type.as_deref()).unwrap_or(CONTENT_TYPE_DEFAULT)),
        ),
        ("Cache-Control", "response-cache-control", record.and_then(|r| r.cache_control.as_deref())),
        ("Content-Disposition", "response-content-disposition", record.and_then(|r| r.content_disposition.as_deref())),
        ("Content-Encoding", "response-content-encoding", record.and_then(|r| r.content_encoding.as_deref())),
        ("Content-Language", "response-content-language", record.and_then(|r| r.content_language.as_deref())),
        ("Expires", "response-expires", record.and_then(|r| r.expires.as_deref())),
    ];
    for (name, parameter, kept) in fields {
        // Only a signed request may say what it wants to see, and only signed ones come this far.
        let Some(value) = context.query.value(parameter).map(str::as_bytes).or(kept) else { continue };
        match name {
            "Content-Type" | "Content-Disposition" => answer.header(name, &http::parameters_in_ascii(value)),
            _ => answer.header(name, &http::in_ascii(value)),
        }
    }
    let Some(record) = record else { return };
    if let Some(location) = &record.website_redirect_location {
        answer.header("x-amz-website-redirect-location", &http::in_ascii(location));
    }
    // S3 says it of all classes but this one (https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html).
    if record.storage_class != StorageClass::Standard {
        answer.header("x-amz-storage-class", record.storage_class.name().as_bytes());
    }
    write_user_metadata(answer, record);
}

fn write_user_metadata(answer: &mut Answer, record: &Record) {
    let mut left_out = 0;
    for (name, value) in &record.user_metadata {
        let name = [META_PREFIX, &String::from_utf8_lossy(name)].concat();
        // A name that is no token can only have been written through POSIX.
        left_out += usize::from(!http::write_header(&mut answer.headers, &name, &http::in_ascii(value)));
    }
    if left_out > 0 {
        answer.header("x-amz-missing-meta", left_out.to_string().as_bytes());
    }
}

/// The checksum of part `number`.
pub fn part_checksum(record: &Record, number: u32) -> Option<Value> {
    Value::from_bytes(record.checksum?.algorithm(), record.part_checksum(number)?)
}

/// The checksum headers, for a client that asked with `x-amz-checksum-mode: ENABLED`.
pub fn write_checksum(answer: &mut Answer, record: &Record) {
    let (Some(kept), Some(checksum)) = (&record.checksum, checksum::of_record(record)) else { return };
    write_checksum_of(answer, kept, &checksum.to_string());
}

/// The same for one part, whose value goes with the type of the object's.
pub fn write_part_checksum(answer: &mut Answer, record: &Record, number: u32) {
    if let (Some(kept), Some(value)) = (&record.checksum, part_checksum(record, number)) {
        write_checksum_of(answer, kept, &value.to_string());
    }
}

fn write_checksum_of(answer: &mut Answer, kept: &record::Checksum, value: &str) {
    answer.header(kept.algorithm().header(), value.as_bytes());
    answer.header("x-amz-checksum-type", kept.kind.name().as_bytes());
}
