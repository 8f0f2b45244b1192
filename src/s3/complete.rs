//! CompleteMultipartUpload.

use std::sync::atomic::AtomicU64;

use super::answer::Reply;
use super::context::Context;
use super::error::{Code, S3Error};
use super::put::{self, durable};
use super::slow::{self, Document};
use super::{body, metadata, multipart, refusal};
use crate::digest::checksum::{Kind, Value};
use crate::digest::{Algorithm, Checksum, ETag};
use crate::io::{HelperPanicked, blocking_slow, sleep};
use crate::limits::{COMPLETE_POLL_MAX, COMPLETE_POLL_MIN, PART_SIZE_MIN, XML_COMPLETE_SIZE_MAX};
use crate::net::Exchange;
use crate::store::commit::Published;
use crate::store::multipart::{ChosenPart, Completion, UploadError, complete};
use crate::store::{self, StoreError, checksum};
use crate::xml::{self, Checksums, CompleteMultipartUploadResult, CompletedPart};

/// `POST /bucket/key?uploadId=ID`.
pub(super) async fn complete_multipart_upload(
    exchange: &mut Exchange,
    mut context: Context<'_>,
    request_id: &str,
) -> Result<Reply, S3Error> {
    let id = multipart::upload_id(&context)?.to_owned();
    let expected = expected_checksum(&context)?;
    let size = expected_size(&context)?;
    let condition = put::condition(&context)?;
    let document = document(exchange, &mut context).await?;
    let listed = xml::parse_complete(&document)?;
    if listed.is_empty() {
        return Err(S3Error::new(Code::MalformedXML));
    }
    let parts = listed.iter().map(chosen).collect::<Result<Vec<_>, _>>()?;
    let completion = Completion {
        bucket: context.bucket().to_owned(),
        key: context.key().as_bytes().to_vec(),
        id: id.clone(),
        parts,
        condition: condition.as_ref().map(put::Conditions::decide),
        size,
        checksum: expected,
    };
    let context = &context;
    let scheme = if exchange.is_encrypted() { "https" } else { "http" };
    let work = async {
        let published = match in_turn(context, completion).await? {
            Ok(published) => published,
            Err(StoreError::Upload(UploadError::Part { number })) => {
                return Err(S3Error::invalid_part(&id, number, etag_of(number, &listed)));
            }
            Err(StoreError::Upload(UploadError::PartTooSmall { number, size })) => {
                return Err(S3Error::part_too_small(number, etag_of(number, &listed), size, PART_SIZE_MIN));
            }
            Err(StoreError::Upload(error)) => return Err(refusal::upload(error.into(), context.bucket(), context.key(), &id)),
            Err(error) => return Err(put::failed(context, error, condition.as_ref()).await),
        };
        durable(context, published.ticket).await?;
        Ok(Document { headers: Vec::new(), xml: result(context, scheme, &published) })
    };
    slow::answer(exchange, context, request_id, work).await
}

/// Completes, once no other Complete of the upload is under way: clients that lose patience ask again, and are answered as the
/// first. They wait here, where no helper waits with them.
async fn in_turn(context: &Context<'_>, mut completion: Completion) -> Result<store::Result<Published>, HelperPanicked> {
    let mut pause = COMPLETE_POLL_MIN;
    loop {
        let settings = context.core.settings.clone();
        let work = move || (complete(&settings.volume, &completion, &AtomicU64::new(0)), completion);
        let (completed, again) = blocking_slow(work).await?;
        if !matches!(completed, Err(StoreError::Upload(UploadError::Busy))) {
            return Ok(completed);
        }
        completion = again;
        sleep(pause).await;
        pause = (pause * 2).min(COMPLETE_POLL_MAX);
    }
}

/// The request's list. Its checksum headers speak of the object, not of this document, so they are no digest of it.
async fn document(exchange: &mut Exchange, context: &mut Context<'_>) -> Result<Vec<u8>, S3Error> {
    let document = body::document_without_checksum(exchange, context, XML_COMPLETE_SIZE_MAX).await?;
    exchange.finish_body();
    Ok(document)
}

fn chosen(part: &CompletedPart) -> Result<ChosenPart, S3Error> {
    let md5 = match ETag::parse(part.etag.as_bytes()) {
        Some(ETag::Md5(md5)) => Some(md5),
        _ => None,
    };
    let mut checksum = None;
    for (name, text) in &part.checksums {
        let algorithm = Algorithm::parse(name.as_bytes()).map_err(|error| body::unsupported(error, name))?;
        let invalid = || S3Error::invalid_request(format!("Value for Checksum{name} is invalid."));
        checksum = Some(Value::parse(algorithm, text.as_bytes()).ok_or_else(invalid)?);
    }
    Ok(ChosenPart { number: part.part_number, md5, checksum })
}

/// `x-amz-checksum-*` of the whole object, with `-N` or without.
fn expected_checksum(context: &Context<'_>) -> Result<Option<Checksum>, S3Error> {
    let kind = match context.header("x-amz-checksum-type")? {
        None => None,
        Some(text) => Some(
            Kind::parse(text.as_bytes())
                .ok_or_else(|| S3Error::invalid_request("Value for x-amz-checksum-type header is invalid."))?,
        ),
    };
    for (name, value) in context.request.headers() {
        let algorithm = match Algorithm::from_header(name.to_ascii_lowercase().as_bytes()) {
            None => continue,
            Some(Ok(algorithm)) => algorithm,
            Some(Err(error)) => return Err(body::unsupported(error, name)),
        };
        let invalid = || S3Error::invalid_request(format!("Value for {} header is invalid.", algorithm.header()));
        let checksum = Checksum::parse(algorithm, value).ok_or_else(invalid)?;
        let is_of_kind = kind.is_none_or(|kind| kind == Kind::Composite || checksum.kind() == kind);
        return if is_of_kind { Ok(Some(checksum)) } else { Err(invalid()) };
    }
    Ok(None)
}

fn expected_size(context: &Context<'_>) -> Result<Option<u64>, S3Error> {
    const NAME: &str = "x-amz-mp-object-size";
    let Some(text) = context.header(NAME)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| S3Error::invalid_argument(NAME, text, "Not a size"))
}

/// What the client called a part.
fn etag_of(number: u32, listed: &[CompletedPart]) -> &str {
    listed.iter().find(|part| part.part_number == number).map_or("", |part| part.etag.as_str())
}

fn result(context: &Context<'_>, scheme: &str, published: &Published) -> Vec<u8> {
    let record = &published.record;
    let etag = metadata::etag_of_record(record).to_string();
    let checksum = checksum::of_record(record).map(|checksum| (checksum.value.algorithm().name(), checksum.to_string()));
    let values: Vec<(&str, &str)> = checksum.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let location = location(context, scheme);
    let mut out = Vec::new();
    xml::complete_multipart_upload(
        &mut out,
        &CompleteMultipartUploadResult {
            location: &location,
            bucket: context.bucket(),
            key: context.key().as_bytes(),
            etag: &etag,
            checksums: Checksums {
                values: &values,
                checksum_type: record.checksum.as_ref().map(|kept| Kind::from(kept.kind).name()),
            },
        },
    );
    out
}

/// The object's URL, as this client reached us.
fn location(context: &Context<'_>, scheme: &str) -> String {
    let key = crate::base::percent::encode(context.key().as_bytes(), true);
    let host = context.request.host().unwrap_or_default();
    match context.address.is_virtual_hosted {
        true => format!("{scheme}://{host}/{key}"),
        false => format!("{scheme}://{host}/{}/{key}", context.bucket()),
    }
}
