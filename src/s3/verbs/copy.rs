//! CopyObject and UploadPartCopy: the source is opened and its conditions are checked, then its bytes are shared or copied
//! inside the kernel on a helper.

use std::net::IpAddr;

use super::multipart;
use super::put::{self, Conditions, durable};
use crate::base::storage_class::StorageClass;
use crate::base::time::Timestamp;
use crate::base::version_id::Version;
use crate::digest::{Algorithm, ETag};
use crate::http::Framing;
use crate::http::conditional::{self, Outcome};
use crate::io::{Work, blocking, blocking_for};
use crate::limits::{ASSEMBLE_SIZE_MAX, PUT_SIZE_MAX};
use crate::net::Exchange;
use crate::s3::ask::address::{self, CopySource};
use crate::s3::ask::error::{Code, S3Error};
use crate::s3::plan::answer::Reply;
use crate::s3::plan::context::Context;
use crate::s3::plan::leave::Stop;
use crate::s3::plan::patience::patiently;
use crate::s3::plan::permit::{self, Permitted};
use crate::s3::plan::slow::{self, Document};
use crate::s3::plan::{metadata, refusal};
use crate::store::error::StoreError;
use crate::store::names::record::Record;
use crate::store::names::{checksum, key};
use crate::store::objects::commit::{FilledFile, commit};
use crate::store::objects::copy;
use crate::store::objects::open::Object;
use crate::store::objects::versions::Found;
use crate::store::objects::write::{Published, Write};
use crate::store::uploads::{UploadName, copy_part};
use crate::store::volume::Volume;
use crate::xml::{self, Checksums, CopyResult};

/// `PUT /bucket/key` with `x-amz-copy-source`.
pub async fn copy_object(exchange: &mut Exchange, context: Context<'_>, request_id: &str) -> Result<Reply, S3Error> {
    let source = source(&context)?;
    let replaces = directive(&context)?;
    // An earlier version of itself is how one is restored.
    let is_itself = source.bucket == context.bucket() && source.key == context.key() && source.version_id.is_none();
    let wanted = wanted_checksum(&context)?;
    // A storage class is a change, also to the one that it has (minio#9357): `aws s3 cp --storage-class STANDARD` to itself.
    let is_changed = replaces || wanted.is_some() || context.amz_header("x-amz-storage-class")?.is_some();
    if is_itself && !is_changed {
        return Err(S3Error::invalid_request(
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, \
             storage class, website redirect location or encryption attributes.",
        ));
    }
    let (record, class) =
        (if replaces { Some(metadata::record_of(&context)?) } else { None }, metadata::storage_class(&context)?);
    let condition = put::condition(&context)?;
    let Found { object, version } = open_source(&context, &source).await?;
    if object.state.size > PUT_SIZE_MAX {
        return Err(S3Error::invalid_request(
            "The specified copy source is larger than the maximum allowable size for a copy source: 5368709120",
        ));
    }
    let (stop, client) = (Stop::default(), exchange.peer().map(|peer| peer.ip()));
    let work = copy_bytes(&context, client, &stop, Copied { object, version, record, class, condition, wanted });
    slow::answer(exchange, &context, request_id, &stop, work).await
}

/// What a CopyObject is made of.
struct Copied {
    object: Object,
    /// Which version of the source, if it has such.
    version: Option<Version>,
    /// The headers that take the place of the source's.
    record: Option<Record>,
    /// The source's is not taken over: where none is named it is `STANDARD`.
    class: StorageClass,
    condition: Option<Conditions>,
    wanted: Option<Algorithm>,
}

/// Beside what takes as long: few bytes do not wait for minutes behind many.
fn kind_of_work(size: u64) -> Work {
    if size <= ASSEMBLE_SIZE_MAX { Work::Assemble } else { Work::Copy }
}

async fn copy_bytes(context: &Context<'_>, client: Option<IpAddr>, stop: &Stop, copied: Copied) -> Result<Document, S3Error> {
    let Copied { object, version, record, class, condition, wanted } = copied;
    let seen = stop.flag();
    let settings = context.core.settings.clone();
    let (bucket, key) = (context.bucket().to_owned(), context.key().as_bytes().to_vec());
    let decide = condition.as_ref().map(Conditions::decide);
    let copied = blocking_for(client, kind_of_work(object.state.size), move || {
        let volume = &settings.volume;
        let location = key::locate(&key)?;
        let size = object.state.size;
        let staged = volume.bucket(&bucket).stage(&location.path, Some(size), false)?;
        let content = copy::copy(&object, &staged, wanted, &seen)?;
        let kept = || object.state.record.clone().unwrap_or_else(|| Record::new(0, 0, [0; 16]));
        let mut record = record.unwrap_or_else(kept);
        content.record_into(&mut record);
        record.storage_class = class;
        commit(volume.disk(), Write { bucket, key, record, condition: decide }, FilledFile { staged, size, tail: None })
    });
    let published = match copied.await? {
        Ok(published) => published,
        Err(error) => return Err(put::failed(context, error, condition.as_ref())),
    };
    durable(context, published.ticket).await?;
    Ok(Document::new(copy_document(&published), published.version, version))
}

fn copy_document(published: &Published) -> Vec<u8> {
    let record = &published.record;
    let etag = metadata::etag_of_record(record).to_string();
    let checksum = checksum::of_record(record).map(|checksum| (checksum.value.algorithm().name(), checksum.to_string()));
    let values: Vec<(&str, &str)> = checksum.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let checksum_type = record.checksum.as_ref().map(|kept| kept.kind.name());
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
pub async fn upload_part_copy(exchange: &mut Exchange, context: Context<'_>, request_id: &str) -> Result<Reply, S3Error> {
    let source = source(&context)?;
    let (number, id) = (multipart::part_number(&context)?, multipart::upload_id(&context)?.to_owned());
    let Found { object, version } = open_source(&context, &source).await?;
    let range = copy_range(&context, object.state.size)?;
    if range.end - range.start > PUT_SIZE_MAX {
        return Err(S3Error::too_large(range.end - range.start, PUT_SIZE_MAX));
    }
    let (stop, client) = (Stop::default(), exchange.peer().map(|peer| peer.ip()));
    let work = async {
        let settings = context.core.settings.clone();
        let (bucket, key, upload) = (context.bucket().to_owned(), context.key().as_bytes().to_vec(), id.clone());
        let (seen, size) = (stop.flag(), range.end - range.start);
        let copied = patiently(client, kind_of_work(size), move || {
            let name = UploadName { bucket: settings.volume.bucket(&bucket), key: &key, id: &upload };
            copy_part(settings.volume.uploads(), &name, number, &object, range.clone(), &seen)
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
        Ok(Document::new(multipart::without_declaration(out), None, version))
    };
    slow::answer(exchange, &context, request_id, &stop, work).await
}

/// What is copied from. It is parsed once, and what was parsed is what policy and store see.
fn source(context: &Context<'_>) -> Result<Permitted<CopySource>, S3Error> {
    let source = address::copy_source(context.request.header_bytes("x-amz-copy-source").unwrap_or_default())?;
    // Two objects could be meant. S3 refuses it as well.
    if matches!(context.request.framing(), Framing::Length(1..)) {
        return Err(S3Error::invalid_request(
            "The request included a body. Requests of this type must not include a non-empty body.",
        ));
    }
    address::check_bucket(&source.bucket, false)?;
    address::check_key(&source.key)?;
    permit::copy_source(context, source)
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
    Algorithm::parse(name.as_bytes()).map(Some).map_err(|error| crate::s3::plan::body::unsupported(error, name))
}

async fn open_source(context: &Context<'_>, source: &Permitted<CopySource>) -> Result<Found, S3Error> {
    let settings = context.core.settings.clone();
    let (bucket, key, wanted) = (source.bucket.clone(), source.key.clone(), source_version(source)?);
    let opened = blocking(Work::Read, move || open_to_copy(&settings.volume, &bucket, key.as_bytes(), wanted));
    let found = opened.await?.map_err(|error| match error {
        StoreError::DeleteMarker(_) if wanted.is_some() => {
            S3Error::invalid_request("The source of a copy request may not specifically refer to a delete marker by version id.")
        }
        error => refusal::version(error, &source.bucket, &source.key, context.request.method(), wanted),
    })?;
    let object = &found.object;
    let request = &context.request;
    let if_match = context.entity_tags("x-amz-copy-source-if-match")?;
    let if_none_match = context.entity_tags("x-amz-copy-source-if-none-match")?;
    let conditions = conditional::Conditions {
        if_match: if_match.as_deref(),
        if_none_match: if_none_match.as_deref(),
        if_modified_since: request.header("x-amz-copy-source-if-modified-since"),
        if_unmodified_since: request.header("x-amz-copy-source-if-unmodified-since"),
    };
    let etag = metadata::etag_of(&object.state).to_string();
    let modified_s = metadata::last_modified(&object.state).seconds;
    match conditional::evaluate_copy_source(&conditions, &etag, modified_s, Timestamp::now()) {
        Outcome::Proceed => Ok(found),
        Outcome::PreconditionFailed(condition) => Err(S3Error::precondition_failed(&format!("x-amz-copy-source-{condition}"))),
        // It is never an outcome of a copy.
        Outcome::NotModified => Err(S3Error::new(Code::PreconditionFailed)),
    }
}

/// `?versionId=` of the source.
fn source_version(source: &CopySource) -> Result<Option<Version>, S3Error> {
    let Some(text) = &source.version_id else { return Ok(None) };
    let invalid = || S3Error::invalid_argument("x-amz-copy-source", text, "Invalid version id specified");
    Version::parse(text).map(Some).ok_or_else(invalid)
}

/// Of a bucket that keeps versions, one of them.
fn open_to_copy(volume: &Volume, bucket: &str, key: &[u8], wanted: Option<Version>) -> Result<Found, StoreError> {
    if volume.bucket(bucket).rules().is_none() && !matches!(wanted, Some(Version::Id(_))) {
        return Ok(Found { object: volume.bucket(bucket).open_to_copy(key)?, version: None });
    }
    volume.bucket(bucket).open_version(key, wanted)
}

/// `x-amz-copy-source-range: bytes=first-last`: both ends, and inside the source, or it is an error. S3 has another one for a range
/// that lies behind the source than for one that only ends there.
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
    if first >= size {
        return Err(S3Error::invalid_request("The specified copy range is invalid for the source object size"));
    }
    if last >= size {
        let message = format!("Range specified is not valid for source object of size: {size}");
        return Err(S3Error::invalid_argument(NAME, text, message));
    }
    Ok(first..last + 1)
}
