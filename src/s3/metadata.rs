//! An object's headers: from a request into its record, and from its record into an answer.

use std::borrow::Cow;
use std::cell::Cell;

use super::answer::Answer;
use super::context::Context;
use super::error::{Code, S3Error};
use crate::base::time::Timestamp;
use crate::digest::checksum::{Algorithm, Kind, Value};
use crate::digest::etag::FileState;
use crate::digest::{Checksum, ETag};
use crate::http;
use crate::limits::USER_METADATA_SIZE_MAX;
use crate::store::checksum;
use crate::store::list::Object;
use crate::store::object::State;
use crate::store::record::{self, Record};
use crate::sys::FileStat;

/// What S3 answers where no type was given.
pub(super) const CONTENT_TYPE_DEFAULT: &[u8] = b"binary/octet-stream";
const META_PREFIX: &str = "x-amz-meta-";

/// A record of everything that the request's headers say of the object.
pub(super) fn record_of(context: &Context<'_>) -> Result<Record, S3Error> {
    let mut record = Record::new(0, 0, [0; 16]);
    let owned = |name| context.request.header_bytes(name).map(<[u8]>::to_vec);
    record.content_type = owned("content-type").map(Cow::Owned);
    record.cache_control = owned("cache-control");
    record.content_disposition = owned("content-disposition");
    record.content_encoding = owned("content-encoding").and_then(|value| without_aws_chunked(&value));
    record.content_language = owned("content-language");
    record.expires = owned("expires");
    record.website_redirect_location = owned("x-amz-website-redirect-location");
    record.user_metadata = user_metadata(context)?;
    Ok(record)
}

fn user_metadata(context: &Context<'_>) -> Result<Vec<record::Metadata>, S3Error> {
    let mut metadata: Vec<record::Metadata> = Vec::new();
    for (name, value) in context.request.headers() {
        if let Some(name) = strip_prefix_ignoring_case(name, META_PREFIX) {
            add_metadata(&mut metadata, name, value);
        }
    }
    for (name, value) in linked_metadata(context)? {
        match metadata.iter().find(|(known, _)| *known == name) {
            None => metadata.push((name, value)),
            Some((_, known)) if *known == value => {}
            Some(_) => {
                let (name, value) = (String::from_utf8_lossy(&name), String::from_utf8_lossy(&value));
                let message = "The query says otherwise than the header of the same name";
                return Err(S3Error::invalid_argument(&format!("{META_PREFIX}{name}"), &value, message));
            }
        }
    }
    let size: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > USER_METADATA_SIZE_MAX {
        let error = S3Error::new(Code::MetadataTooLarge).with("Size", size.to_string());
        return Err(error.with("MaxSizeAllowed", USER_METADATA_SIZE_MAX.to_string()));
    }
    Ok(metadata)
}

fn add_metadata(metadata: &mut Vec<record::Metadata>, name: &str, value: &[u8]) {
    let name = name.to_ascii_lowercase().into_bytes();
    // A repeated name is one list, as for any field (RFC 9110 section 5.3).
    match metadata.iter_mut().find(|(known, _)| *known == name) {
        Some((_, list)) => {
            list.push(b',');
            list.extend_from_slice(value);
        }
        None => metadata.push((name, value.to_vec())),
    }
}

/// The metadata that stands in the query of a pre-signed URL, where aws-sdk-js and aws-sdk-ruby put it. It comes back as headers,
/// so that it must be what a header could have said.
fn linked_metadata(context: &Context<'_>) -> Result<Vec<record::Metadata>, S3Error> {
    let mut metadata = Vec::new();
    for (name, value) in context.linked() {
        let Some(stripped) = strip_prefix_ignoring_case(name, META_PREFIX) else { continue };
        if !http::is_field(stripped, value.as_bytes()) {
            return Err(S3Error::invalid_argument(name, value, "User metadata must be a legal header field"));
        }
        add_metadata(&mut metadata, stripped, value.trim().as_bytes());
    }
    Ok(metadata)
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
pub(super) fn add_checksums(record: &mut Record, checksums: &[Value]) {
    let mut checksums = checksums.iter().filter_map(|value| checksum::kept(&Checksum { value: *value, parts: None }));
    record.checksum = checksums.next();
    record.more_checksums = checksums.collect();
}

thread_local! {
    /// Counts synthetic ETags of young files.
    static NONCE: Cell<u64> = const { Cell::new(0) };
}

/// The object's ETag: its own while the record is true, one made of the file's facts otherwise.
pub(super) fn etag_of(state: &State) -> ETag {
    match &state.record {
        Some(record) => etag_of_record(record),
        None => synthetic(&state.stat, Timestamp::now()),
    }
}

/// The ETag that a record holds.
pub(super) fn etag_of_record(record: &Record) -> ETag {
    match record.parts {
        0 => ETag::Md5(record.etag),
        parts => ETag::Multipart { md5: record.etag, parts },
    }
}

/// The same for an entry of a listing.
pub(super) fn etag_of_entry(object: &Object) -> ETag {
    match &object.summary {
        Some(summary) if summary.parts > 0 => ETag::Multipart { md5: summary.etag, parts: summary.parts },
        Some(summary) => ETag::Md5(summary.etag),
        None => synthetic(&object.stat, Timestamp::now()),
    }
}

/// An ETag made of a file's facts. While the file is so young that an edit would not show in its times, never the same twice.
fn synthetic(stat: &FileStat, now: Timestamp) -> ETag {
    let file = FileState { inode: stat.inode, size: stat.size, mtime: timestamp(stat.mtime_ns), ctime: timestamp(stat.ctime_ns) };
    let nonce = file.is_fresh(now).then(|| {
        NONCE.set(NONCE.get().wrapping_add(1));
        (now.as_nanoseconds() as u64).rotate_left(20).wrapping_add(NONCE.get())
    });
    ETag::synthetic(&file, nonce)
}

/// When the object was last changed. A directory object's is its record's: a directory's own time moves with its entries.
pub(super) fn last_modified(state: &State) -> Timestamp {
    timestamp(state.record.as_ref().map_or(state.stat.mtime_ns, |record| record.mtime_ns))
}

/// Nanoseconds since the epoch as a timestamp.
pub(super) fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp { seconds: nanoseconds.div_euclid(1_000_000_000), nanoseconds: nanoseconds.rem_euclid(1_000_000_000) as u32 }
}

/// The headers of GET and HEAD that speak of the object as a whole.
pub(super) fn write_headers(answer: &mut Answer, context: &Context<'_>, state: &State, etag: &ETag) {
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
        if let Some(value) = context.query.value(parameter).map(str::as_bytes).or(kept) {
            answer.header(name, value);
        }
    }
    let Some(record) = record else { return };
    if let Some(location) = &record.website_redirect_location {
        answer.header("x-amz-website-redirect-location", location);
    }
    for (name, value) in &record.user_metadata {
        answer.header(&[META_PREFIX, &String::from_utf8_lossy(name)].concat(), value);
    }
}

/// The checksum of part `number`.
pub(super) fn part_checksum(record: &Record, number: u32) -> Option<Value> {
    Value::from_bytes(Algorithm::from(record.checksum?.algorithm), record.part_checksum(number)?)
}

/// The checksum headers, for a client that asked with `x-amz-checksum-mode: ENABLED`.
pub(super) fn write_checksum(answer: &mut Answer, record: &Record) {
    let (Some(kept), Some(checksum)) = (&record.checksum, checksum::of_record(record)) else { return };
    write_checksum_of(answer, kept, &checksum.to_string());
}

/// The same for one part, whose value goes with the type of the object's.
pub(super) fn write_part_checksum(answer: &mut Answer, record: &Record, number: u32) {
    if let (Some(kept), Some(value)) = (&record.checksum, part_checksum(record, number)) {
        write_checksum_of(answer, kept, &value.to_string());
    }
}

fn write_checksum_of(answer: &mut Answer, kept: &record::Checksum, value: &str) {
    answer.header(Algorithm::from(kept.algorithm).header(), value.as_bytes());
    answer.header("x-amz-checksum-type", Kind::from(kept.kind).name().as_bytes());
}
