//! Multipart uploads but for their completion: create, upload a part, abort, list.

use std::rc::Rc;

use super::answer::{Answer, Reply};
use super::body::{Body, unsupported};
use super::context::Context;
use super::error::{Code, S3Error};
use super::list::{count, owner_of, url_encoded};
use super::put::{close, durable};
use super::{metadata, refusal};
use crate::digest::checksum::{Kind, Value};
use crate::digest::{Algorithm, ETag, Md5};
use crate::flow::{self, Digests, Target};
use crate::io::{DirectFile, blocking};
use crate::limits::{LIST_PAGE_MAX, PART_NUMBER_MAX, SMALL_OBJECT_SIZE_MAX};
use crate::net::Exchange;
use crate::store::multipart::{self, NewUpload, PartTarget, StoredPart, UploadName, UploadsQuery};
use crate::xml::{self, Checksums, PartEntry, UploadEntry};

/// `POST /bucket/key?uploads`.
pub(super) async fn create(context: &Context<'_>) -> Result<Reply, S3Error> {
    let checksum = announced(context)?;
    let new = NewUpload { record: metadata::record_of(context)?, checksum };
    let settings = context.core.settings.clone();
    let (bucket, key) = (context.bucket().to_owned(), context.key().as_bytes().to_vec());
    let created = blocking(move || multipart::create(&settings.volume, &bucket, &key, new)).await?;
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
pub(super) async fn upload_part(exchange: &mut Exchange, mut context: Context<'_>) -> Result<Reply, S3Error> {
    let (number, id) = (part_number(&context)?, upload_id(&context)?.to_owned());
    let mut body = Body::of_object(&mut context)?;
    let size_max = context.bounds.put_size_max;
    if let Some(size) = body.size.filter(|size| *size > size_max) {
        return Err(S3Error::too_large(size, size_max));
    }
    let direct = body.size.is_none_or(|size| size > SMALL_OBJECT_SIZE_MAX as u64);
    let (settings, size) = (context.core.settings.clone(), body.size);
    let (bucket, key, upload) = (context.bucket().to_owned(), context.key().as_bytes().to_vec(), id.clone());
    let planned = blocking(move || {
        let name = UploadName { bucket: &bucket, key: &key, id: &upload };
        multipart::plan_part(&settings.volume, &name, number, size, direct)
    });
    let refused = |error| refusal::upload(error, context.bucket(), context.key(), &id);
    let target = planned.await?.map_err(refused)?;
    let announced = target.checksum.map(|(algorithm, _)| algorithm);
    body.compute(announced);
    body.invite(exchange).await?;
    let (stored, digests) = match (direct, body.size) {
        (false, Some(_)) => receive_small(exchange, &context, body, target, &id).await?,
        _ => receive_large(exchange, &context, body, target, &id).await?,
    };
    durable(&context, stored.ticket).await?;
    let mut answer = Answer::empty(200);
    let mut quoted = Vec::with_capacity(48);
    ETag::Md5(digests.md5).write_quoted_into(&mut quoted);
    answer.header("ETag", &quoted);
    for value in &digests.checksums {
        answer.header(value.algorithm().header(), value.to_string().as_bytes());
    }
    Ok(answer.into())
}

async fn receive_small(
    exchange: &mut Exchange,
    context: &Context<'_>,
    body: Body,
    target: PartTarget,
    id: &str,
) -> Result<(StoredPart, Digests), S3Error> {
    let received = match body.receive(exchange, SMALL_OBJECT_SIZE_MAX).await {
        Ok(received) => received,
        Err(error) => {
            blocking(move || drop(target)).await?;
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
    let out_of_descriptors = |_| S3Error::new(Code::SlowDown);
    let file = Rc::new(DirectFile::new(target.file.try_clone().map_err(out_of_descriptors)?).map_err(out_of_descriptors)?);
    let is_closed = || target.is_closed();
    let place = Target {
        file: file.clone(),
        offset: target.offset,
        size_max: target.size_max.min(context.bounds.put_size_max),
        is_closed: &is_closed,
    };
    let received = flow::receive_into_file(exchange, &context.core.arena, body.decoder, body.payload, place).await;
    close(file).await?;
    let received = match received {
        Ok(received) => received,
        Err(error) => {
            // It unlinks a file, or waits for the upload's log: not on the core.
            blocking(move || drop(target)).await?;
            return Err(match error {
                flow::TransferError::Closed => S3Error::no_such_upload(id),
                error => error.into(),
            });
        }
    };
    exchange.finish_body();
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
    let finished = blocking(move || multipart::finish_part(&settings.volume, target, size, tail, md5, checksum));
    finished.await?.map_err(|error| refusal::upload(error, context.bucket(), context.key(), id))
}

/// `DELETE /bucket/key?uploadId=ID`.
pub(super) async fn abort(context: &Context<'_>) -> Result<Reply, S3Error> {
    let id = upload_id(context)?.to_owned();
    let settings = context.core.settings.clone();
    let (bucket, key, upload) = (context.bucket().to_owned(), context.key().as_bytes().to_vec(), id.clone());
    let aborted = blocking(move || multipart::abort(&settings.volume, &UploadName { bucket: &bucket, key: &key, id: &upload }));
    let ticket = aborted.await?.map_err(|error| refusal::upload(error, context.bucket(), context.key(), &id))?;
    durable(context, ticket).await?;
    Ok(Answer::empty(204).into())
}

/// `GET /bucket/key?uploadId=ID`.
pub(super) async fn list_parts(context: &Context<'_>) -> Result<Reply, S3Error> {
    let id = upload_id(context)?.to_owned();
    let max_parts = count(context, "max-parts", LIST_PAGE_MAX)?;
    let after = count(context, "part-number-marker", i32::MAX as usize)?;
    let after = if context.query.value("part-number-marker").is_some_and(|text| !text.is_empty()) { after as u32 } else { 0 };
    let settings = context.core.settings.clone();
    let (bucket, key, upload) = (context.bucket().to_owned(), context.key().as_bytes().to_vec(), id.clone());
    let listed = blocking(move || {
        multipart::list_parts(&settings.volume, &UploadName { bucket: &bucket, key: &key, id: &upload }, after, max_parts)
    });
    let page = listed.await?.map_err(|error| refusal::upload(error, context.bucket(), context.key(), &id))?;
    let owner = owner_of(context);
    let head = xml::ListParts {
        bucket: context.bucket(),
        key: context.key().as_bytes(),
        upload_id: &id,
        initiator: owner.borrowed(),
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
    Ok(Answer::xml(200, out).into())
}

/// `GET /bucket?uploads`.
pub(super) async fn list_uploads(context: &Context<'_>) -> Result<Reply, S3Error> {
    let query = context.query;
    let owned = |name: &str| query.value(name).unwrap_or_default().to_owned();
    let (prefix, delimiter) = (owned("prefix"), owned("delimiter"));
    let (key_marker, id_marker) = (owned("key-marker"), owned("upload-id-marker"));
    let url_encoded = url_encoded(context)?;
    let max = count(context, "max-uploads", LIST_PAGE_MAX)?;
    let settings = context.core.settings.clone();
    let bucket = context.bucket().to_owned();
    let asked = (prefix.clone(), delimiter.clone(), key_marker.clone(), id_marker.clone());
    let listed = blocking(move || {
        let (prefix, delimiter, key_marker, id_marker) = &asked;
        let query = UploadsQuery {
            prefix: prefix.as_bytes(),
            delimiter: delimiter.as_bytes(),
            key_marker: key_marker.as_bytes(),
            id_marker,
            max,
        };
        multipart::list_uploads(&settings.volume, &bucket, &query)
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
        checksum_algorithm: upload.checksum.map(|(algorithm, _)| algorithm.name()),
        checksum_type: upload.checksum.map(|(_, kind)| kind.name()),
    });
    let mut out = Vec::new();
    xml::list_multipart_uploads(&mut out, &head, entries, page.common_prefixes.iter().map(Vec::as_slice));
    Ok(Answer::xml(200, out).into())
}

/// `partNumber`.
pub(super) fn part_number(context: &Context<'_>) -> Result<u32, S3Error> {
    let text = context.query.value("partNumber").unwrap_or_default();
    let number = text.parse().ok().filter(|number| (1..=PART_NUMBER_MAX).contains(number));
    number.ok_or_else(|| {
        S3Error::invalid_argument("partNumber", text, "Part number must be an integer between 1 and 10000, inclusive")
    })
}

/// `uploadId`.
pub(super) fn upload_id<'a>(context: &'a Context<'_>) -> Result<&'a str, S3Error> {
    let id = context.query.value("uploadId").unwrap_or_default();
    if id.is_empty() { Err(S3Error::no_such_upload(id)) } else { Ok(id) }
}

/// A document for an answer whose declaration has left already.
pub(super) fn without_declaration(mut document: Vec<u8>) -> Vec<u8> {
    if document.starts_with(xml::DECLARATION) {
        document.drain(..xml::DECLARATION.len());
    }
    document
}
