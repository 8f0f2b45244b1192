//! CopyObject and UploadPartCopy: the source is opened and its conditions are checked, then its bytes are shared or copied
//! inside the kernel on a helper.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::address::{self, CopySource};
use super::answer::Reply;
use super::context::Context;
use super::error::{Code, S3Error};
use super::put::{self, Conditions, durable};
use super::slow::{self, Document};
use super::{metadata, multipart, refusal};
use crate::digest::checksum::Kind;
use crate::digest::{Algorithm, ETag};
use crate::http::conditional::{self, Outcome};
use crate::http::{self, Range};
use crate::io::{blocking, blocking_slow};
use crate::limits::PUT_SIZE_MAX;
use crate::net::Exchange;
use crate::policy::{self, Decision, Question};
use crate::store::commit::{self, Published, Upload};
use crate::store::multipart::UploadName;
use crate::store::object::{self, Object};
use crate::store::record::Record;
use crate::store::{StoreError, checksum, copy, key, stage};
use crate::xml::{self, Checksums, CopyResult};

/// `PUT /bucket/key` with `x-amz-copy-source`.
pub(super) async fn copy_object(exchange: &mut Exchange, context: Context<'_>, request_id: &str) -> Result<Reply, S3Error> {
    let source = source(&context)?;
    let replaces = directive(&context)?;
    let is_itself = source.bucket == context.bucket() && source.key == context.key();
    let wanted = wanted_checksum(&context)?;
    // A storage class is a change, also to the one that it has (minio#9357): `aws s3 cp --storage-class STANDARD` to itself. Any other
    // class was refused before.
    let is_changed = replaces || wanted.is_some() || context.amz_header("x-amz-storage-class")?.is_some();
    if is_itself && !is_changed {
        return Err(S3Error::invalid_request(
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, \
             storage class, website redirect location or encryption attributes.",
        ));
    }
    let record = if replaces { Some(metadata::record_of(&context)?) } else { None };
    let condition = put::condition(&context)?;
    let object = open_source(&context, &source).await?;
    if object.state.size > PUT_SIZE_MAX {
        return Err(S3Error::invalid_request(
            "The specified copy source is larger than the maximum allowable size for a copy source: 5368709120",
        ));
    }
    let work = copy_bytes(&context, object, record, condition, wanted);
    slow::answer(exchange, &context, request_id, work).await
}

async fn copy_bytes(
    context: &Context<'_>,
    object: Object,
    record: Option<Record>,
    condition: Option<Conditions>,
    wanted: Option<Algorithm>,
) -> Result<Document, S3Error> {
    let settings = context.core.settings.clone();
    let (bucket, key) = (context.bucket().to_owned(), context.key().as_bytes().to_vec());
    let decide = condition.as_ref().map(Conditions::decide);
    let copied = blocking_slow(move || {
        let volume = &settings.volume;
        let location = key::locate(&key)?;
        let size = object.state.size;
        let staged = stage::stage(volume, &bucket, &location.path, Some(size), false)?;
        let content = copy::copy(&object, &staged, wanted, &AtomicU64::new(0))?;
        let kept = || object.state.record.clone().unwrap_or_else(|| Record::new(0, 0, [0; 16]));
        let mut record = record.unwrap_or_else(kept);
        content.record_into(&mut record);
        commit::commit(volume, Upload { bucket, key, staged, size, tail: None, record, condition: decide })
    });
    let published = match copied.await? {
        Ok(published) => published,
        Err(error) => return Err(put::failed(context, error, condition.as_ref()).await),
    };
    durable(context, published.ticket).await?;
    Ok(Document { headers: Vec::new(), xml: copy_document(&published) })
}

fn copy_document(published: &Published) -> Vec<u8> {
    let record = &published.record;
    let etag = metadata::etag_of_record(record).to_string();
    let checksum = checksum::of_record(record).map(|checksum| (checksum.value.algorithm().name(), checksum.to_string()));
    let values: Vec<(&str, &str)> = checksum.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let checksum_type = record.checksum.as_ref().map(|kept| Kind::from(kept.kind).name());
    let mut out = Vec::new();
    xml::copy_object(
        &mut out,
        &CopyResult {
            last_modified: metadata::timestamp(record.mtime_ns),
            etag: &etag,
            checksums: Checksums { values: &values, checksum_type },
        },
    );
    multipart::without_declaration(out)
}

/// `PUT /bucket/key?partNumber=N&uploadId=ID` with `x-amz-copy-source`.
pub(super) async fn upload_part_copy(exchange: &mut Exchange, context: Context<'_>, request_id: &str) -> Result<Reply, S3Error> {
    let source = source(&context)?;
    let (number, id) = (multipart::part_number(&context)?, multipart::upload_id(&context)?.to_owned());
    let object = open_source(&context, &source).await?;
    let range = copy_range(&context, object.state.size)?;
    if range.end - range.start > PUT_SIZE_MAX {
        return Err(S3Error::too_large(range.end - range.start, PUT_SIZE_MAX));
    }
    let work = async {
        let settings = context.core.settings.clone();
        let (bucket, key, upload) = (context.bucket().to_owned(), context.key().as_bytes().to_vec(), id.clone());
        let progress = Arc::new(AtomicU64::new(0));
        let copied = blocking_slow(move || {
            let name = UploadName { bucket: &bucket, key: &key, id: &upload };
            crate::store::multipart::copy_part(&settings.volume, &name, number, &object, range, &progress)
        });
        let copied = copied.await?.map_err(|error| refusal::upload(error, context.bucket(), context.key(), &id))?;
        durable(&context, copied.stored.ticket).await?;
        let etag = ETag::Md5(copied.md5).to_string();
        let checksum = copied.checksum.map(|value| (value.algorithm().name(), value.to_string()));
        let values: Vec<(&str, &str)> = checksum.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let mut out = Vec::new();
        let last_modified = metadata::timestamp(copied.stored.modified_ns);
        xml::copy_part(
            &mut out,
            &CopyResult { last_modified, etag: &etag, checksums: Checksums { values: &values, checksum_type: None } },
        );
        Ok(Document { headers: Vec::new(), xml: multipart::without_declaration(out) })
    };
    slow::answer(exchange, &context, request_id, work).await
}

/// What is copied from. It is parsed once, and what was parsed is what policy and store see.
fn source(context: &Context<'_>) -> Result<CopySource, S3Error> {
    let source = address::copy_source(context.request.header_bytes("x-amz-copy-source").unwrap_or_default())?;
    address::check_bucket(&source.bucket, false)?;
    address::check_key(&source.key)?;
    if let Some(version) = source.version_id.as_deref().filter(|version| *version != "null") {
        return Err(S3Error::no_such_version(&source.key, version));
    }
    let question = Question {
        principal: context.owner,
        action: "s3:GetObject",
        bucket: Some(&source.bucket),
        key: Some(source.key.as_bytes()),
    };
    match policy::decide(&question) {
        Decision::Allow => Ok(source),
        Decision::Deny => Err(S3Error::new(Code::AccessDenied)),
    }
}

/// Whether the headers of this request replace the source's.
fn directive(context: &Context<'_>) -> Result<bool, S3Error> {
    const NAME: &str = "x-amz-metadata-directive";
    match context.amz_header(NAME)? {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(other) => Err(S3Error::invalid_argument(NAME, other, "Unknown metadata directive.")),
    }
}

fn wanted_checksum(context: &Context<'_>) -> Result<Option<Algorithm>, S3Error> {
    let Some(name) = context.amz_header("x-amz-checksum-algorithm")? else { return Ok(None) };
    Algorithm::parse(name.as_bytes()).map(Some).map_err(|error| super::body::unsupported(error, name))
}

async fn open_source(context: &Context<'_>, source: &CopySource) -> Result<Object, S3Error> {
    let settings = context.core.settings.clone();
    let (bucket, key) = (source.bucket.clone(), source.key.clone());
    let opened = blocking(move || {
        let object = object::open(&settings.volume, &bucket, key.as_bytes())?;
        // It was opened so that a FIFO could not hold us; now it is known to be a file.
        crate::sys::file::set_blocking(&object.file)?;
        Ok(object)
    });
    let object = opened.await?.map_err(|error: StoreError| refusal::store(error, &source.bucket, &source.key))?;
    let request = &context.request;
    let conditions = conditional::Conditions {
        if_match: request.header("x-amz-copy-source-if-match"),
        if_none_match: request.header("x-amz-copy-source-if-none-match"),
        if_modified_since: request.header("x-amz-copy-source-if-modified-since"),
        if_unmodified_since: request.header("x-amz-copy-source-if-unmodified-since"),
    };
    let etag = metadata::etag_of(&object.state).to_string();
    match conditional::evaluate_copy_source(&conditions, &etag, metadata::last_modified(&object.state).seconds) {
        Outcome::Proceed => Ok(object),
        Outcome::PreconditionFailed(condition) => Err(S3Error::precondition_failed(&format!("x-amz-copy-source-{condition}"))),
        // It is never an outcome of a copy.
        Outcome::NotModified => Err(S3Error::new(Code::PreconditionFailed)),
    }
}

/// `x-amz-copy-source-range: bytes=first-last`: both ends, and inside the source, or it is an error.
fn copy_range(context: &Context<'_>, size: u64) -> Result<std::ops::Range<u64>, S3Error> {
    const NAME: &str = "x-amz-copy-source-range";
    let Some(text) = context.header(NAME)? else { return Ok(0..size) };
    let invalid = || {
        S3Error::invalid_argument(
            NAME,
            text,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy",
        )
    };
    let (first, last) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')).ok_or_else(invalid)?;
    let number = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse::<u64>().ok()).flatten().ok_or_else(invalid)
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(invalid());
    }
    match http::select(Some(text), size) {
        Range::Bytes { start, end_inclusive } if end_inclusive == last => Ok(start..end_inclusive + 1),
        _ => {
            let message = format!("Range specified is not valid for source object of size: {size}");
            Err(S3Error::invalid_argument(NAME, text, message))
        }
    }
}
