//! What a request says of its body: framing, length, digests. Everything is decided from the head, before the first byte.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::context::Context;
use super::error::{Code, S3Error};
use crate::auth::Payload as Signed;
use crate::body::{AwsChunked, Decoder};
use crate::digest::checksum::{Algorithm, NameError, Value};
use crate::flow::{self, Expectation, Payload, Received};
use crate::http::{self, Framing, Request};
use crate::limits::DRAIN_SIZE_MAX;
use crate::net::{Exchange, Stall};

/// A body to be received. Boxed inside: a future that is handed it by value keeps room for it twice.
pub(super) struct Body {
    pub(super) decoder: Box<Decoder>,
    pub(super) payload: Box<Payload>,
    /// Its length, when the head tells.
    pub(super) size: Option<u64>,
    /// The client waits for `100 Continue`.
    expects_continue: bool,
}

impl Body {
    /// The plan for an object's or part's bytes: their length must be known, or their end be marked.
    pub(super) fn of_object(context: &mut Context<'_>) -> Result<Self, S3Error> {
        if context.request.framing() == Framing::None {
            return Err(S3Error::new(Code::MissingContentLength));
        }
        Self::plan(context)
    }

    /// The plan for a document, which may be missing.
    pub(super) fn of_document(context: &mut Context<'_>) -> Result<Self, S3Error> {
        Self::plan(context)
    }

    fn plan(context: &mut Context<'_>) -> Result<Self, S3Error> {
        Self::plan_with(context, checksums)
    }

    fn plan_with(
        context: &mut Context<'_>,
        checksums: impl Fn(&Context<'_>, AwsChunked) -> Result<Expectation, S3Error>,
    ) -> Result<Self, S3Error> {
        let (aws, sha256, chunks) = match std::mem::replace(&mut context.payload, Signed::Unsigned) {
            Signed::Unsigned => (AwsChunked::None, None, None),
            Signed::Sha256(hash) => (AwsChunked::None, Some(hash), None),
            Signed::StreamingSigned(verifier) => (AwsChunked::Signed, None, Some(*verifier)),
            Signed::StreamingSignedTrailer(verifier) => (AwsChunked::SignedTrailer, None, Some(*verifier)),
            Signed::StreamingUnsignedTrailer => (AwsChunked::UnsignedTrailer, None, None),
        };
        let framing = context.request.framing();
        let size = match (aws, framing) {
            (AwsChunked::None, Framing::None) => Some(0),
            (AwsChunked::None, Framing::Length(length)) => Some(length),
            (AwsChunked::None, Framing::Chunked) => None,
            (_, Framing::None) => return Err(S3Error::new(Code::MissingContentLength)),
            (_, Framing::Length(_) | Framing::Chunked) => Some(decoded_length(context)?),
        };
        let decoder = Box::new(Decoder::new(framing, aws, size.filter(|_| aws != AwsChunked::None)));
        let expectation = Expectation { md5: content_md5(context)?, sha256, chunks, ..checksums(context, aws)? };
        let expects_continue = context.request.expects_continue();
        Ok(Self { decoder, payload: Box::new(Payload::new(expectation)), size, expects_continue })
    }

    /// Lets a waiting client send. Called when everything that the head can decide is decided.
    pub(super) async fn invite(&mut self, exchange: &mut Exchange) -> Result<(), S3Error> {
        // A client that has begun to send does not wait any more (RFC 9110 section 10.1.1).
        if std::mem::take(&mut self.expects_continue) && exchange.prefetched().is_empty() {
            exchange.send(http::CONTINUE, false).await.map_err(|_| S3Error::new(Code::RequestTimeout))?;
        }
        Ok(())
    }

    /// Computes this checksum too, whether the client sends one or not.
    pub(super) fn compute(&mut self, algorithm: Option<Algorithm>) {
        if let Some(algorithm) = algorithm {
            self.payload.compute(algorithm);
        }
    }

    /// Receives all of it into memory.
    pub(super) async fn receive(mut self, exchange: &mut Exchange, size_max: usize) -> Result<Received, S3Error> {
        if let Some(size) = self.size.filter(|size| *size > size_max as u64) {
            return Err(S3Error::too_large(size, size_max as u64));
        }
        self.invite(exchange).await?;
        Ok(flow::receive_into_memory(exchange, self.decoder, self.payload, self.size, size_max).await?)
    }
}

/// Receives a request's document of at most `size_max` bytes.
pub(super) async fn document(exchange: &mut Exchange, context: &mut Context<'_>, size_max: usize) -> Result<Vec<u8>, S3Error> {
    let size_max = size_max.min(context.bounds.xml_size_max);
    let body = Body::of_document(context)?;
    if body.size.is_some_and(|size| size > size_max as u64) {
        return Err(S3Error::new(Code::MaxMessageLengthExceeded));
    }
    Ok(body.receive(exchange, size_max).await?.bytes)
}

/// The same where the checksum headers speak of something else than the document.
pub(super) async fn document_without_checksum(
    exchange: &mut Exchange,
    context: &mut Context<'_>,
    size_max: usize,
) -> Result<Vec<u8>, S3Error> {
    let size_max = size_max.min(context.bounds.xml_size_max);
    let mut body = Body::plan_with(context, |_, _| Ok(Expectation::default()))?;
    if body.size.is_some_and(|size| size > size_max as u64) {
        return Err(S3Error::new(Code::MaxMessageLengthExceeded));
    }
    body.invite(exchange).await?;
    Ok(body.receive(exchange, size_max).await?.bytes)
}

/// Whether the next request can follow this one's body: it was read to its end, or the rest is small enough to be read and dropped,
/// which costs less than a new connection.
pub(super) fn can_be_skipped(exchange: &Exchange, request: &Request<'_>) -> bool {
    if exchange.body_is_lost() {
        return false;
    }
    let waits_to_be_invited = request.expects_continue() && exchange.body_received() == 0;
    match rest(exchange, request) {
        Some(0) => true,
        Some(rest) => rest <= DRAIN_SIZE_MAX && !waits_to_be_invited,
        None => false,
    }
}

/// Reads and drops what is left of the body, after the answer: a client that is slow to send is told at once what became of its
/// request. Whether the end was reached.
pub(super) async fn skip(exchange: &mut Exchange, request: &Request<'_>) -> bool {
    let Some(mut rest) = rest(exchange, request) else { return false };
    if rest == 0 {
        return true;
    }
    let mut waste = vec![0; 4096];
    while rest > 0 {
        let wanted = waste.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        match exchange.receive(&mut waste[..wanted], Stall::Ignore).await {
            Ok(count) => rest -= count as u64,
            Err(_) => return false,
        }
    }
    true
}

/// Bytes of the body that were not received. `None`: where a chunked body ends is known only to its decoder, which told when it
/// was done.
fn rest(exchange: &Exchange, request: &Request<'_>) -> Option<u64> {
    match request.framing() {
        _ if exchange.body_is_done() => Some(0),
        Framing::None => Some(0),
        Framing::Chunked => None,
        Framing::Length(length) => Some(length.saturating_sub(exchange.body_received())),
    }
}

fn decoded_length(context: &Context<'_>) -> Result<u64, S3Error> {
    const NAME: &str = "x-amz-decoded-content-length";
    let Some(text) = context.header(NAME)? else { return Err(S3Error::new(Code::MissingContentLength)) };
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten().ok_or_else(|| S3Error::invalid_argument(NAME, text, "Not a length"))
}

fn content_md5(context: &Context<'_>) -> Result<Option<[u8; 16]>, S3Error> {
    let Some(text) = context.header("content-md5")? else { return Ok(None) };
    let decoded = BASE64_STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    decoded.map(Some).ok_or_else(|| S3Error::new(Code::InvalidDigest).message("The Content-MD5 you specified is not valid."))
}

/// `x-amz-checksum-*` in the head, or announced by `x-amz-trailer`; else `x-amz-sdk-checksum-algorithm` asks to compute one.
fn checksums(context: &Context<'_>, aws: AwsChunked) -> Result<Expectation, S3Error> {
    let mut expectation = Expectation::default();
    for (name, value) in context.request.headers() {
        match Algorithm::from_header(name.to_ascii_lowercase().as_bytes()) {
            None => {}
            Some(Ok(algorithm)) => {
                let invalid = || S3Error::invalid_request(format!("Value for {} header is invalid.", algorithm.header()));
                expectation.checksums.push(Value::parse(algorithm, value).ok_or_else(invalid)?);
            }
            Some(Err(error)) => return Err(unsupported(error, name)),
        }
    }
    if expectation.checksums.len() > 1 {
        return Err(S3Error::invalid_request(
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
        ));
    }
    // As S3 answers (versitygw#1598).
    if let (Some(value), Some(name)) = (expectation.checksums.first(), context.header("x-amz-sdk-checksum-algorithm")?)
        && !name.eq_ignore_ascii_case(value.algorithm().name())
    {
        return Err(S3Error::invalid_request("Value for x-amz-sdk-checksum-algorithm header is invalid."));
    }
    if let Some(trailer) = context.header("x-amz-trailer")? {
        let algorithm = Algorithm::from_header(trailer.trim().to_ascii_lowercase().as_bytes());
        let invalid = || S3Error::invalid_request("The value specified in the x-amz-trailer header is not supported");
        if aws == AwsChunked::None || aws == AwsChunked::Signed || !expectation.checksums.is_empty() {
            return Err(invalid());
        }
        expectation.trailer = Some(algorithm.ok_or_else(invalid)?.map_err(|error| unsupported(error, trailer))?);
    }
    if expectation.checksums.is_empty()
        && expectation.trailer.is_none()
        && let Some(name) = context.header("x-amz-sdk-checksum-algorithm")?
    {
        let algorithm = Algorithm::parse(name.as_bytes()).map_err(|error| unsupported(error, name))?;
        expectation.computed = Some(algorithm);
    }
    Ok(expectation)
}

/// A checksum algorithm that is not one of ours.
pub(super) fn unsupported(error: NameError, name: &str) -> S3Error {
    match error {
        NameError::Unsupported(name) => {
            S3Error::new(Code::NotImplemented).message(format!("The checksum algorithm {name} is not implemented"))
        }
        NameError::Unknown => S3Error::invalid_request(format!("Checksum algorithm provided is unsupported: {name}")),
    }
}
