//! What a request says of its body: framing, length, digests. Everything is decided from the head, before the first byte.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::context::Context;
use super::core::Core;
use crate::auth::Payload as Signed;
use crate::body::{AwsChunked, Decoder};
use crate::digest::checksum::{Algorithm, NameError, Value};
use crate::flow::{self, Expectation, Payload, Received, ReceivedFile, Target, TransferError, Whole};
use crate::http::{self, Framing, Request};
use crate::io::DirectFile;
use crate::limits::{DOCUMENT_PARSED_FACTOR, DRAIN_SIZE_MAX};
use crate::mem::Arena;
use crate::net::{Exchange, Stall};
use crate::s3::ask::error::{Code, S3Error};
use crate::sys::Errno;

/// A body to be received. Boxed inside: a future that is handed it by value keeps room for it twice.
pub struct Body {
    decoder: Box<Decoder>,
    pub payload: Box<Payload>,
    /// Its length, when the head tells.
    pub size: Option<u64>,
    /// The client waits for `100 Continue`.
    expects_continue: bool,
}

/// Where a body goes that is not received whole.
pub struct Destination<'a> {
    /// A file.
    pub file: &'a OwnedFd,
    /// Its first byte's place there, aligned.
    pub offset: u64,
    /// More bytes than this are refused.
    pub size_max: u64,
    /// Asked before each write: whether somebody closed the place to this writer.
    pub is_closed: &'a dyn Fn() -> bool,
}

impl Body {
    /// The plan for an object's or part's bytes: their length must be known, or their end be marked.
    pub fn of_object(context: &mut Context<'_>) -> Result<Self, S3Error> {
        if context.request.framing() == Framing::None {
            return Err(S3Error::new(Code::MissingContentLength));
        }
        Self::plan(context)
    }

    /// The plan for a document, which may be missing.
    pub fn of_document<T>(context: &mut Context<'_, T>) -> Result<Self, S3Error> {
        Self::plan(context)
    }

    fn plan<T>(context: &mut Context<'_, T>) -> Result<Self, S3Error> {
        Self::plan_with(context, checksums)
    }

    fn plan_with<T>(
        context: &mut Context<'_, T>,
        checksums: impl Fn(&Context<'_, T>, AwsChunked) -> Result<Expectation, S3Error>,
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
    pub async fn invite(&mut self, exchange: &mut Exchange) -> Result<(), S3Error> {
        // A client that has begun to send does not wait any more (RFC 9110 section 10.1.1).
        if std::mem::take(&mut self.expects_continue) && exchange.prefetched().is_empty() {
            exchange.send(http::CONTINUE, false).await.map_err(|_| S3Error::new(Code::RequestTimeout))?;
        }
        Ok(())
    }

    /// Receives all of it into `destination`, for an upload or a part. Nobody has asked the client to send it before.
    pub async fn fill(
        mut self,
        exchange: &mut Exchange,
        arena: &Arena,
        destination: Destination<'_>,
    ) -> Result<ReceivedFile, TransferError> {
        let Destination { file, offset, size_max, is_closed } = destination;
        let no_descriptor = |_| TransferError::Disk(Errno::MFILE);
        let file = Rc::new(DirectFile::new(file.try_clone().map_err(no_descriptor)?).map_err(no_descriptor)?);
        self.invite(exchange).await.map_err(|_| TransferError::Ended)?;
        let target = Target { file, offset, size_max, is_closed };
        let received = flow::receive_into_file(exchange, arena, self.decoder, self.payload, target).await?;
        exchange.finish_body();
        Ok(received)
    }

    /// Computes this checksum too, whether the client sends one or not.
    pub fn compute(&mut self, algorithm: Algorithm) {
        self.payload.compute(algorithm);
    }

    /// Receives all of it into memory.
    pub async fn receive(self, exchange: &mut Exchange, core: &Core, size_max: usize) -> Result<Received, S3Error> {
        self.receive_whole(exchange, core, size_max, 1).await
    }

    /// The same for a document: its lease is for what is parsed of it as well.
    pub async fn receive_document(self, exchange: &mut Exchange, core: &Core, size_max: usize) -> Result<Received, S3Error> {
        self.receive_whole(exchange, core, size_max, 1 + DOCUMENT_PARSED_FACTOR).await
    }

    async fn receive_whole(
        mut self,
        exchange: &mut Exchange,
        core: &Core,
        size_max: usize,
        factor: usize,
    ) -> Result<Received, S3Error> {
        if let Some(size) = self.size.filter(|size| *size > size_max as u64) {
            return Err(S3Error::too_large(size, size_max as u64));
        }
        let whole = Whole { size_max, size: self.size, factor };
        let lease = core.room_for(whole.leased_at_first()).await?;
        self.invite(exchange).await?;
        let received = flow::receive_into_memory(exchange, self.decoder, self.payload, whole, lease).await;
        received.map_err(|error| match error {
            TransferError::NoRoom => core.no_room(),
            error => error.into(),
        })
    }
}

/// Receives a request's document of at most `size_max` bytes.
pub async fn document<T>(exchange: &mut Exchange, context: &mut Context<'_, T>, size_max: usize) -> Result<Received, S3Error> {
    let size_max = size_max.min(context.live.xml_size_max);
    let body = Body::of_document(context)?;
    if body.size.is_some_and(|size| size > size_max as u64) {
        return Err(S3Error::new(Code::MaxMessageLengthExceeded));
    }
    body.receive_document(exchange, context.core, size_max).await
}

/// The same where the checksum headers speak of something else than the document.
pub async fn document_without_checksum(
    exchange: &mut Exchange,
    context: &mut Context<'_>,
    size_max: usize,
) -> Result<Received, S3Error> {
    let size_max = size_max.min(context.live.xml_size_max);
    let body = Body::plan_with(context, |_, _| Ok(Expectation::default()))?;
    if body.size.is_some_and(|size| size > size_max as u64) {
        return Err(S3Error::new(Code::MaxMessageLengthExceeded));
    }
    body.receive_document(exchange, context.core, size_max).await
}

/// Whether the next request can follow this one's body: it was read to its end, or the rest is small enough to be read and dropped,
/// which costs less than a new connection.
pub fn can_be_skipped(exchange: &Exchange, request: &Request<'_>) -> bool {
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
pub async fn skip(exchange: &mut Exchange, request: &Request<'_>) -> bool {
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

fn decoded_length<T>(context: &Context<'_, T>) -> Result<u64, S3Error> {
    const NAME: &str = "x-amz-decoded-content-length";
    let text = context.header(NAME)?.unwrap_or_default();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // One that is no length is none to S3.
    is_number.then(|| text.parse().ok()).flatten().ok_or_else(|| S3Error::new(Code::MissingContentLength))
}

fn content_md5<T>(context: &Context<'_, T>) -> Result<Option<[u8; 16]>, S3Error> {
    let Some(text) = context.header("content-md5")? else { return Ok(None) };
    let decoded = BASE64_STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    let invalid = || S3Error::new(Code::InvalidDigest).message("The Content-MD5 you specified is not valid.");
    decoded.map(Some).ok_or_else(|| invalid().with("Content-MD5", text))
}

/// `x-amz-checksum-*` in the head, or announced by `x-amz-trailer`.
fn checksums<T>(context: &Context<'_, T>, aws: AwsChunked) -> Result<Expectation, S3Error> {
    let checksums: Vec<Value> = checksum_of_headers(context, Value::parse)?.into_iter().collect();
    let trailer = announced_trailer(context, aws)?;
    if !checksums.is_empty() && trailer.is_some() {
        return Err(several_checksums());
    }
    let sent = checksums.first().map(Value::algorithm).or(trailer);
    check_sdk_algorithm(context, sent)?;
    Ok(Expectation { checksums, trailer, ..Expectation::default() })
}

/// The one checksum of the headers, read by `parse`.
pub fn checksum_of_headers<T, C>(
    context: &Context<'_, T>,
    parse: impl Fn(Algorithm, &[u8]) -> Option<C>,
) -> Result<Option<C>, S3Error> {
    let mut found = None;
    for (name, value) in context.request.headers() {
        let algorithm = match Algorithm::from_header(name.as_bytes()) {
            None => continue,
            Some(algorithm) => algorithm.map_err(|error| unsupported(error, name))?,
        };
        let invalid = || S3Error::invalid_request(format!("Value for {} header is invalid.", algorithm.header()));
        if found.replace(parse(algorithm, value).ok_or_else(invalid)?).is_some() {
            return Err(several_checksums());
        }
    }
    Ok(found)
}

fn several_checksums() -> S3Error {
    S3Error::invalid_request("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
}

/// The checksum that `x-amz-trailer` announces, of which there is one; a signed stream may name its own signature besides.
fn announced_trailer<T>(context: &Context<'_, T>, aws: AwsChunked) -> Result<Option<Algorithm>, S3Error> {
    let Some(text) = context.list("x-amz-trailer")? else { return Ok(None) };
    let names = text.split(',').map(str::trim);
    let mut names = names.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("x-amz-trailer-signature"));
    let Some(name) = names.next() else { return Ok(None) };
    if names.next().is_some() {
        return Err(several_checksums());
    }
    if aws == AwsChunked::None || aws == AwsChunked::Signed {
        return Err(S3Error::new(Code::MalformedTrailerError));
    }
    let invalid = || S3Error::invalid_request("The value specified in the x-amz-trailer header is not supported");
    let algorithm = Algorithm::from_header(name.as_bytes()).ok_or_else(invalid)?;
    algorithm.map(Some).map_err(|error| unsupported(error, name))
}

/// `x-amz-sdk-checksum-algorithm` names what the SDK has computed: alone it is refused, as it was to be checked by
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>). Another one than what came is InvalidRequest, as S3 answers
/// (versitygw#1598), where the page has BadDigest.
fn check_sdk_algorithm<T>(context: &Context<'_, T>, sent: Option<Algorithm>) -> Result<(), S3Error> {
    let Some(name) = context.header("x-amz-sdk-checksum-algorithm")? else { return Ok(()) };
    match sent {
        Some(sent) if name.eq_ignore_ascii_case(sent.name()) => Ok(()),
        Some(_) => Err(S3Error::invalid_request("Value for x-amz-sdk-checksum-algorithm header is invalid.")),
        None => Err(S3Error::invalid_request(
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.",
        )),
    }
}

/// A checksum algorithm that is not one of ours.
pub fn unsupported(error: NameError, name: &str) -> S3Error {
    match error {
        NameError::Unsupported(name) => {
            S3Error::new(Code::NotImplemented).message(format!("The checksum algorithm {name} is not implemented"))
        }
        NameError::Unknown => S3Error::invalid_request(format!("Checksum algorithm provided is unsupported: {name}")),
    }
}
