//! Multipart uploads but for their completion: create, upload a part, abort, list.

use super::list::{count, listed, owner_of, url_encoded};
use super::put::durable;
use crate::digest::checksum::{Kind, Value};
use crate::digest::{Algorithm, ETag, Md5};
use crate::flow::{Digests, TransferError};
use crate::io::{Work, blocking};
use crate::limits::{LIST_PAGE_MAX, LISTED_KEY_SIZE_MAX, LISTED_SIZE_MAX, PART_NUMBER_MAX, SMALL_OBJECT_SIZE_MAX};
use crate::net::Exchange;
use crate::s3::ask::address::BucketTarget;
use crate::s3::ask::error::{PART_NUMBER_RANGE, S3Error};
use crate::s3::plan::answer::{Answer, Reply};
use crate::s3::plan::body::{Body, Destination, unsupported};
use crate::s3::plan::context::Context;
use crate::s3::plan::patience::patiently;
use crate::s3::plan::{metadata, refusal};
use crate::store::uploads::{self, NewUpload, PartTarget, StoredPart, UploadName, UploadsQuery};
use crate::xml::{self, Checksums, PartEntry, UploadEntry};

/// `POST /bucket/key?uploads`.
pub async fn create(context: &Context<'_>) -> Result<Reply, S3Error> {
    let checksum = announced(context)?;
    let new = NewUpload { record: metadata::record_of(context)?, checksum };
    let settings = context.core.settings.clone();
    let (bucket, key) = (context.bucket().to_owned(), context.key().as_bytes().to_vec());
    let created =
        blocking(Work::Commit, move || uploads::create(settings.volume.uploads(), settings.volume.bucket(&bucket), &key, new))
            .await?;
    let (id, ticket) = created.map_err(|error| refusal::store(error, context.bucket(), context.key()))?;
    durable(context, ticket).await?;
    let mut out = Vec::new();
    xml::initiate_multipart_upload(&mut out, context.bucket(), context.key().as_bytes(), &id);
    let mut answer = Answer::xml(200, out);
    if let Some((algorithm, kind)) = checksum {
        answer.header("x-amz-checksum-algorithm", algorithm.name().as_bytes());
        answer.header("x-amz-checksum-type", kind.name().as_bytes());
    }
    Ok(answer.into())
}

/// The checksum that the parts will have. pyarrow announces none and sends one with each part all the same.
fn announced(context: &Context<'_>) -> Result<Option<(Algorithm, Kind)>, S3Error> {
    let kind = match context.amz_header("x-amz-checksum-type")? {
        None => None,
        Some(text) => Some(
            Kind::parse(text.as_bytes())
                .ok_or_else(|| S3Error::invalid_request("Value for x-amz-checksum-type header is invalid."))?,
        ),
    };
    let name = context.amz_header("x-amz-checksum-algorithm")?.or(context.header("x-amz-sdk-checksum-algorithm")?);
    let Some(name) = name else {
        return match kind {
            None => Ok(None),
            Some(_) => Err(S3Error::invalid_request(
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
            )),
        };
    };
    let algorithm = Algorithm::parse(name.as_bytes()).map_err(|error| unsupported(error, name))?;
    let kind = kind.unwrap_or_else(|| algorithm.default_kind());
    if !algorithm.allows(kind) {
        let message =
            format!("The {} checksum type cannot be used with the {} checksum algorithm.", kind.name(), algorithm.name());
        return Err(S3Error::invalid_request(message));
    }
    Ok(Some((algorithm, kind)))
}

/// `PUT /bucket/key?partNumber=N&uploadId=ID`.
pub async fn upload_part(exchange: &mut Exchange, mut context: Context<'_>) -> Result<Reply, S3Error> {
    let (number, id) = (part_number(&context)?, upload_id(&context)?.to_owned());
    let mut body = Body::of_object(&mut context)?;
    let size_max = context.live.put_size_max;
    if let Some(size) = body.size.filter(|size| *size > size_max) {
        return Err(S3Error::too_large(size, size_max));
    }
    let direct = body.size.is_none_or(|size| size > SMALL_OBJECT_SIZE_MAX as u64);
    let (settings, size, sent) = (context.core.settings.clone(), body.size, body.payload.sent());
    let (bucket, key, upload) = (context.bucket().to_owned(), context.key().as_bytes().to_vec(), id.clone());
    let planned = patiently(None, Work::Commit, move || {
        let name = UploadName { bucket: settings.volume.bucket(&bucket), key: &key, id: &upload };
        uploads::plan_sent_part(settings.volume.uploads(), &name, number, size, direct, sent)
    });
    let refused = |error| refusal::upload(error, context.bucket(), context.key(), &id);
    let target = planned.await?.map_err(refused)?;
    body.compute(target.checksum.map(|(algorithm, _)| algorithm).or(sent).unwrap_or(Algorithm::DEFAULT));
    body.invite(exchange).await?;
    let (stored, digests) = match (direct, body.size) {
        (false, Some(_)) => receive_small(exchange, &context, body, target, &id).await?,
        _ => receive_large(exchange, &context, body, target, &id).await?,
    };
    durable(&context, stored.ticket).await?;
    Ok(Answer::taken(digests.md5, &digests.checksums).into())
}

async fn receive_small(
    exchange: &mut Exchange,
    context: &Context<'_>,
    body: Body,
    target: PartTarget,
    id: &str,
) -> Result<(StoredPart, Digests), S3Error> {
    let received = match body.receive(exchange, context.core, SMALL_OBJECT_SIZE_MAX).await {
        Ok(received) => received,
        Err(error) => {
            blocking(Work::Remove, move || drop(target)).await?;
            return Err(error);
        }
    };
    exchange.finish_body();
    let size = received.bytes.len() as u64;
    let md5 = received.md5.unwrap_or_else(|| Md5::of(&received.bytes));
    let digests = Digests { md5, checksums: received.checksums };
    let stored = finish(context, target, size, Some((0, received.bytes)), &digests, id).await?;
    Ok((stored, digests))
}

async fn receive_large(
    exchange: &mut Exchange,
    context: &Context<'_>,
    body: Body,
    target: PartTarget,
    id: &str,
) -> Result<(StoredPart, Digests), S3Error> {
    let is_closed = || target.is_closed();
    let size_max = target.size_max.min(context.live.put_size_max);
    let destination = Destination { file: &target.file, offset: target.offset, size_max, is_closed: &is_closed };
    let received = match body.fill(exchange, &context.core.arena, destination).await {
        Ok(received) => received,
        Err(error) => {
            // It unlinks a file, or waits for the upload's log: not on the core.
            blocking(Work::Remove, move || drop(target)).await?;
            return Err(match error {
                TransferError::Closed => S3Error::no_such_upload(id),
                error => error.into(),
            });
        }
    };
    let tail_start = received.size - received.tail.len() as u64;
    let tail = (!received.tail.is_empty()).then_some((tail_start, received.tail));
    let stored = finish(context, target, received.size, tail, &received.digests, id).await?;
    Ok((stored, received.digests))
}

async fn finish(
    context: &Context<'_>,
    target: PartTarget,
    size: u64,
    tail: Option<(u64, Vec<u8>)>,
    digests: &Digests,
    id: &str,
) -> Result<StoredPart, S3Error> {
    let settings = context.core.settings.clone();
    let announced = target.checksum.map(|(algorithm, _)| algorithm);
    let matching = |value: &&Value| announced.is_none_or(|algorithm| algorithm == value.algorithm());
    let (md5, checksum) = (digests.md5, digests.checksums.iter().find(matching).copied());
    let finished =
        blocking(Work::Commit, move || uploads::finish_part(settings.volume.disk(), target, size, tail, md5, checksum));
    finished.await?.map_err(|error| refusal::upload(error, context.bucket(), context.key(), id))
}

/// `DELETE /bucket/key?uploadId=ID`.
pub async fn abort(context: &Context<'_>) -> Result<Reply, S3Error> {
    let id = upload_id(context)?.to_owned();
    let settings = context.core.settings.clone();
    let (bucket, key, upload) = (context.bucket().to_owned(), context.key().as_bytes().to_vec(), id.clone());
    let aborted = patiently(None, Work::Remove, move || {
        uploads::abort(settings.volume.uploads(), &UploadName { bucket: settings.volume.bucket(&bucket), key: &key, id: &upload })
    });
    let ticket = aborted.await?.map_err(|error| refusal::upload(error, context.bucket(), context.key(), &id))?;
    durable(context, ticket).await?;
    Ok(Answer::empty(204).into())
}

/// `GET /bucket/key?uploadId=ID`.
pub async fn list_parts(context: &Context<'_>) -> Result<Reply, S3Error> {
    let id = upload_id(context)?.to_owned();
    let max_parts = count(context, "max-parts", LIST_PAGE_MAX)?;
    let after = count(context, "part-number-marker", i32::MAX as usize)?;
    let after = if context.query.value("part-number-marker").is_some_and(|text| !text.is_empty()) { after as u32 } else { 0 };
    let lease = context.core.room_for(max_parts * LISTED_SIZE_MAX).await?;
    let settings = context.core.settings.clone();
    let (bucket, key, upload) = (context.bucket().to_owned(), context.key().as_bytes().to_vec(), id.clone());
    let listed = patiently(None, Work::Read, move || {
        uploads::list_parts(
            settings.volume.uploads(),
            &UploadName { bucket: settings.volume.bucket(&bucket), key: &key, id: &upload },
            after,
            max_parts,
        )
    });
    let page = listed.await?.map_err(|error| refusal::upload(error, context.bucket(), context.key(), &id))?;
    let owner = owner_of(context);
    let head = xml::ListParts {
        bucket: context.bucket(),
        key: context.key().as_bytes(),
        upload_id: &id,
        initiator: owner.borrowed(),
        storage_class: page.storage_class.name(),
        part_number_marker: after,
        next_part_number_marker: page.parts.last().map(|part| part.number),
        max_parts: max_parts as u64,
        is_truncated: page.is_truncated,
        checksum_algorithm: page.checksum.map(|(algorithm, _)| algorithm.name()),
        checksum_type: page.checksum.map(|(_, kind)| kind.name()),
    };
    let shown: Vec<(String, Option<(&str, String)>)> = page
        .parts
        .iter()
        .map(|part| {
            let checksum = part.checksum.map(|value| (value.algorithm().name(), value.to_string()));
            (ETag::Md5(part.md5).to_string(), checksum)
        })
        .collect();
    let values: Vec<Vec<(&str, &str)>> =
        shown.iter().map(|(_, checksum)| checksum.iter().map(|(name, text)| (*name, text.as_str())).collect()).collect();
    let entries = page.parts.iter().zip(&shown).zip(&values).map(|((part, (etag, _)), values)| PartEntry {
        part_number: part.number,
        last_modified: metadata::timestamp(part.modified_ns),
        etag,
        size: part.size,
        checksums: Checksums { values, checksum_type: None },
    });
    let mut out = Vec::new();
    xml::list_parts(&mut out, &head, entries);
    Ok(context.core.answer_page(out, lease)?.into())
}

/// `GET /bucket?uploads`.
pub async fn list_uploads(exchange: &Exchange, context: &Context<'_, BucketTarget>) -> Result<Reply, S3Error> {
    let query = context.query;
    let owned = |name: &str| query.value(name).unwrap_or_default().to_owned();
    let (prefix, delimiter) = (owned("prefix"), owned("delimiter"));
    let (key_marker, id_marker) = (owned("key-marker"), upload_id_marker(context)?);
    let url_encoded = url_encoded(context)?;
    let max = count(context, "max-uploads", LIST_PAGE_MAX)?;
    let lease = context.core.room_for(max * LISTED_KEY_SIZE_MAX).await?;
    let settings = context.core.settings.clone();
    let bucket = context.bucket().to_owned();
    let asked = (prefix.clone(), delimiter.clone(), key_marker.clone(), id_marker.clone());
    let listed = listed(exchange, move || {
        let (prefix, delimiter, key_marker, id_marker) = &asked;
        let query = UploadsQuery {
            prefix: prefix.as_bytes(),
            delimiter: delimiter.as_bytes(),
            key_marker: key_marker.as_bytes(),
            id_marker,
            max,
        };
        uploads::list_uploads(settings.volume.uploads(), settings.volume.snapshots(), settings.volume.bucket(&bucket), &query)
    });
    let page = listed.await?.map_err(|error| refusal::store(error, context.bucket(), ""))?;
    let owner = owner_of(context);
    let next = page.next.as_ref();
    let head = xml::ListMultipartUploads {
        bucket: context.bucket(),
        prefix: prefix.as_bytes(),
        key_marker: key_marker.as_bytes(),
        upload_id_marker: &id_marker,
        next_key_marker: next.map(|(key, _)| key.as_slice()),
        next_upload_id_marker: next.map(|(_, id)| id.as_str()),
        delimiter: (!delimiter.is_empty()).then_some(delimiter.as_bytes()),
        max_uploads: max as u64,
        url_encoded,
        is_truncated: next.is_some(),
    };
    let entries = page.uploads.iter().map(|upload| UploadEntry {
        key: &upload.key,
        upload_id: &upload.id,
        initiator: owner.borrowed(),
        initiated: metadata::timestamp(upload.initiated_ns),
        storage_class: upload.storage_class.name(),
        checksum_algorithm: upload.checksum.map(|(algorithm, _)| algorithm.name()),
        checksum_type: upload.checksum.map(|(_, kind)| kind.name()),
    });
    let mut out = Vec::new();
    xml::list_multipart_uploads(&mut out, &head, entries, page.common_prefixes.iter().map(Vec::as_slice));
    Ok(context.core.answer_page(out, lease)?.into())
}

/// `partNumber`.
pub fn part_number(context: &Context<'_>) -> Result<u32, S3Error> {
    let text = context.query.value("partNumber").unwrap_or_default();
    let number = text.parse().ok().filter(|number| (1..=PART_NUMBER_MAX).contains(number));
    number.ok_or_else(|| S3Error::invalid_argument("partNumber", text, PART_NUMBER_RANGE))
}

/// `uploadId`.
pub fn upload_id<'a>(context: &'a Context<'_>) -> Result<&'a str, S3Error> {
    let id = context.query.value("uploadId").unwrap_or_default();
    if id.is_empty() { Err(S3Error::no_such_upload(id)) } else { Ok(id) }
}

/// `upload-id-marker`. Without `key-marker` it is ignored (API_ListMultipartUploads.html). Its upload may be gone meanwhile: what it
/// must have is the form of an id, by which the list is ordered.
fn upload_id_marker<T>(context: &Context<'_, T>) -> Result<String, S3Error> {
    const NAME: &str = "upload-id-marker";
    let value = |name: &str| context.query.value(name).unwrap_or_default();
    let marker = if value("key-marker").is_empty() { "" } else { value(NAME) };
    if marker.is_empty() || uploads::is_id(marker) {
        return Ok(marker.to_owned());
    }
    Err(S3Error::invalid_argument(NAME, marker, "Invalid uploadId marker"))
}

/// A document for an answer whose declaration has left already.
pub fn without_declaration(mut document: Vec<u8>) -> Vec<u8> {
    if document.starts_with(xml::DECLARATION) {
        document.drain(..xml::DECLARATION.len());
    }
    document
}
