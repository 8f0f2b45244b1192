//! CompleteMultipartUpload.

use std::net::IpAddr;
use std::sync::atomic::AtomicU64;

use super::multipart;
use super::put::{self, durable};
use crate::digest::checksum::{Kind, Value};
use crate::digest::{Algorithm, Checksum, ETag};
use crate::flow::Received;
use crate::io::{HelperPanicked, Work, blocking_for, sleep};
use crate::limits::{ASSEMBLE_SIZE_MAX, COMPLETE_POLL_MAX, COMPLETE_POLL_MIN, PART_SIZE_MIN, XML_COMPLETE_SIZE_MAX};
use crate::net::Exchange;
use crate::s3::ask::error::S3Error;
use crate::s3::plan::answer::Reply;
use crate::s3::plan::context::Context;
use crate::s3::plan::leave::Stop;
use crate::s3::plan::slow::{self, Document};
use crate::s3::plan::{body, metadata, refusal};
use crate::store::error::{StoreError, UploadError};
use crate::store::names::checksum;
use crate::store::objects::write::Published;
use crate::store::uploads::{ChosenPart, Completion, complete};
use crate::xml::{self, Checksums, CompleteMultipartUploadResult, CompletedPart, XmlError};

/// `POST /bucket/key?uploadId=ID`.
pub async fn complete_multipart_upload(
    exchange: &mut Exchange,
    mut context: Context<'_>,
    request_id: &str,
) -> Result<Reply, S3Error> {
    let id = multipart::upload_id(&context)?.to_owned();
    let (expected, checksum_type) = (body::checksum_of_headers(&context, Checksum::parse)?, checksum_type(&context)?);
    let size = expected_size(&context)?;
    let condition = put::condition(&context)?;
    // Its lease is for what is made of it as well.
    let Received { bytes, lease: _lease, .. } = document(exchange, &mut context).await?;
    let listed = xml::parse_complete(&bytes).map_err(|error| match error {
        // S3 has a code for a missing document, and another one here.
        XmlError::Empty => S3Error::invalid_request("You must specify at least one part"),
        error => error.into(),
    })?;
    drop(bytes);
    let parts = listed.iter().map(chosen).collect::<Result<Vec<_>, _>>()?;
    let completion = Completion {
        bucket: context.bucket().to_owned(),
        key: context.key().as_bytes().to_vec(),
        id: id.clone(),
        parts,
        condition: condition.as_ref().map(put::Conditions::decide),
        size,
        checksum: expected,
        checksum_type,
        moves_max: ASSEMBLE_SIZE_MAX,
        fence: None,
    };
    let context = &context;
    let client = exchange.peer().map(|peer| peer.ip());
    let scheme = if exchange.is_encrypted() { "https" } else { "http" };
    let work = async {
        let published = match in_turn(context, client, completion).await? {
            Ok(published) => published,
            Err(StoreError::Upload(UploadError::Part { number })) => {
                return Err(S3Error::invalid_part(&id, number, etag_of(number, &listed)));
            }
            Err(StoreError::Upload(UploadError::PartTooSmall { number, size })) => {
                return Err(S3Error::part_too_small(number, etag_of(number, &listed), size, PART_SIZE_MIN));
            }
            Err(StoreError::Upload(error)) => return Err(refusal::upload(error.into(), context.bucket(), context.key(), &id)),
            Err(error) => return Err(put::failed(context, error, condition.as_ref())),
        };
        durable(context, published.ticket).await?;
        Ok(Document::new(result(context, scheme, &published), published.version, None))
    };
    slow::answer(exchange, context, request_id, &Stop::default(), work).await
}

/// Completes, once no other Complete of the upload is under way: clients that lose patience ask again, and are answered as the
/// first. They wait here, where no helper waits with them, as they do for parts that are still being written. Where much has to be
/// moved, that is done beside copies.
async fn in_turn(
    context: &Context<'_>,
    client: Option<IpAddr>,
    mut completion: Completion,
) -> Result<Result<Published, StoreError>, HelperPanicked> {
    let (mut kind, mut pause) = (Work::Assemble, COMPLETE_POLL_MIN);
    loop {
        let settings = context.core.settings.clone();
        let work = move || {
            (complete(settings.volume.uploads(), settings.volume.disk(), &mut completion, &AtomicU64::new(0)), completion)
        };
        let (completed, again) = blocking_for(client, kind, work).await?;
        completion = again;
        match completed {
            Err(StoreError::Upload(UploadError::Long)) => {
                (kind, completion.moves_max) = (Work::Copy, u64::MAX);
            }
            Err(StoreError::Upload(UploadError::Written) | StoreError::BeingRead) => sleep(COMPLETE_POLL_MIN).await,
            Err(StoreError::Upload(UploadError::Busy)) => {
                sleep(pause).await;
                pause = (pause * 2).min(COMPLETE_POLL_MAX);
            }
            completed => return Ok(completed),
        }
    }
}

/// The request's list. Its checksum headers speak of the object, not of this document, so they are no digest of it.
async fn document(exchange: &mut Exchange, context: &mut Context<'_>) -> Result<Received, S3Error> {
    let document = body::document_without_checksum(exchange, context, XML_COMPLETE_SIZE_MAX).await?;
    exchange.finish_body();
    Ok(document)
}

fn chosen(part: &CompletedPart) -> Result<ChosenPart, S3Error> {
    let md5 = match ETag::parse(part.etag.as_bytes()) {
        Some(ETag::Md5(md5)) => Some(md5),
        _ => None,
    };
    let invalid =
        |value: &str| S3Error::invalid_argument("Checksum", value, "Invalid Base64 or multiple checksums present in request");
    let checksum = match &*part.checksums {
        [] => None,
        [(name, text)] => {
            let algorithm = Algorithm::parse(name.as_bytes()).map_err(|error| body::unsupported(error, name))?;
            Some(Value::parse(algorithm, text.as_bytes()).ok_or_else(|| invalid(text))?)
        }
        several => return Err(invalid(&several.iter().map(|(name, text)| format!("{name}:{text};")).collect::<String>())),
    };
    Ok(ChosenPart { number: part.part_number, md5, checksum })
}

/// How the object's checksum is to be made of those of its parts.
fn checksum_type(context: &Context<'_>) -> Result<Option<Kind>, S3Error> {
    let Some(text) = context.header("x-amz-checksum-type")? else { return Ok(None) };
    let invalid = || S3Error::invalid_request("Value for x-amz-checksum-type header is invalid.");
    Kind::parse(text.as_bytes()).map(Some).ok_or_else(invalid)
}

fn expected_size(context: &Context<'_>) -> Result<Option<u64>, S3Error> {
    const NAME: &str = "x-amz-mp-object-size";
    let Some(text) = context.header(NAME)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| S3Error::invalid_request(format!("Value for {NAME} header is invalid: '{text}'")))
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
            checksums: Checksums { values: &values, checksum_type: record.checksum.as_ref().map(|kept| kept.kind.name()) },
        },
    );
    out
}

/// The object's URL, as this client reached us.
fn location(context: &Context<'_>, scheme: &str) -> String {
    let key = crate::base::percent::encode(context.key().as_bytes(), true);
    let host = context.request.host().unwrap_or_default();
    match context.is_virtual_hosted {
        true => format!("{scheme}://{host}/{key}"),
        false => format!("{scheme}://{host}/{}/{key}", context.bucket()),
    }
}
