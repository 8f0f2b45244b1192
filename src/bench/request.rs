//! What goes over the wire: requests, written and signed once and then replayed. A server accepts a signature for fifteen
//! minutes, so that replaying is what a client may do, and it costs nothing.

use std::fmt::Write as _;
use std::io::IoSlice;
use std::time::Instant;

use super::BenchError;
use super::payload::Payload;
use super::settings::{Credentials, Operation, PayloadMode, Settings};
use crate::auth::{ChunkSigner, SignedRequest, Signer};
use crate::base::percent;
use crate::base::time::Timestamp;
use crate::digest::Sha256;
use crate::limits::{BENCH_CHUNK_SIZE, BENCH_SLICES_MAX};

const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A signed request.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: &'static str,
    /// Request line and headers. Without the empty line behind them when the request is `open`.
    head: Vec<u8>,
    /// A header that is not signed may follow: `Range`.
    pub is_open: bool,
    body: Body,
    pub signed_at: Instant,
}

#[derive(Clone, Debug)]
enum Body {
    None,
    /// The payload as it is.
    Plain,
    /// The payload in signed chunks.
    Chunks(Frames),
}

/// What stands around the chunks of `aws-chunked`: one text before each chunk, and one behind the last.
#[derive(Clone, Debug, Default)]
struct Frames {
    text: Vec<u8>,
    /// Of each text, where it ends in `text`, and where it begins in the body.
    places: Vec<(usize, u64)>,
}

/// Writes and signs requests for one bucket of one endpoint.
pub struct Renderer {
    signer: Signer,
    /// The `Host` header: what is signed is what was asked for, not the address it has.
    host: String,
    bucket: String,
    token: Option<String>,
    prefix: String,
    max_keys: u64,
    is_ranged: bool,
}

/// A request before it is signed.
struct Draft<'a> {
    method: &'static str,
    /// Percent-encoded.
    path: String,
    query: String,
    content_sha256: &'a str,
    /// Headers that are signed beside the usual ones; they sort behind those.
    signed: Vec<(&'static str, String)>,
    unsigned: Vec<(&'static str, String)>,
    is_open: bool,
}

impl Renderer {
    pub fn new(settings: &Settings, host: String) -> Self {
        let Credentials { access_key, secret_key, session_token } = settings.credentials.clone();
        Self {
            signer: Signer::new(access_key, secret_key, settings.region.clone()),
            host,
            bucket: settings.bucket.clone(),
            token: session_token.map(|token| token.expose().to_owned()),
            prefix: settings.prefix.clone(),
            max_keys: settings.max_keys,
            is_ranged: settings.range.is_some(),
        }
    }

    /// One request of the measurement. A listing begins behind `key`.
    pub fn operation(&mut self, operation: Operation, key: &str, payload: &Payload) -> Result<Request, BenchError> {
        let path = self.path(key);
        let method = match operation {
            Operation::Get => "GET",
            Operation::Head => "HEAD",
            Operation::Delete => "DELETE",
            Operation::Put => return self.put(path, payload),
            Operation::List => return self.list(&[("start-after", key)], self.max_keys),
        };
        let is_open = operation == Operation::Get && self.is_ranged;
        let (request, _) = self.sign(&Draft { is_open, ..Draft::new(method, path) })?;
        Ok(request)
    }

    /// A page of the listing below the prefix.
    pub fn list(&mut self, parameters: &[(&str, &str)], max_keys: u64) -> Result<Request, BenchError> {
        let mut query = format!("list-type=2&max-keys={max_keys}&prefix={}", percent::encode(self.prefix.as_bytes(), false));
        for (name, value) in parameters {
            let _ = write!(query, "&{name}={}", percent::encode(value.as_bytes(), false));
        }
        let (request, _) = self.sign(&Draft { query, ..Draft::new("GET", format!("/{}", self.bucket)) })?;
        Ok(request)
    }

    /// HEAD, PUT or DELETE of the bucket itself.
    pub fn bucket(&mut self, method: &'static str) -> Result<Request, BenchError> {
        let unsigned = if method == "PUT" { vec![("Content-Length", "0".to_owned())] } else { Vec::new() };
        let (request, _) = self.sign(&Draft { unsigned, ..Draft::new(method, format!("/{}", self.bucket)) })?;
        Ok(request)
    }

    /// The path of `key`, percent-encoded.
    pub fn path(&self, key: &str) -> String {
        format!("/{}/{}", self.bucket, percent::encode(key.as_bytes(), true))
    }

    fn put(&mut self, path: String, payload: &Payload) -> Result<Request, BenchError> {
        let (mut signed, mut unsigned) = (Vec::new(), vec![("Content-Type", "application/octet-stream".to_owned())]);
        let is_streaming = payload.mode() == PayloadMode::Streaming;
        if is_streaming {
            signed.push(("x-amz-decoded-content-length", payload.size().to_string()));
            unsigned.push(("Content-Encoding", "aws-chunked".to_owned()));
        }
        let length = if is_streaming { Frames::length(payload) + payload.size() } else { payload.size() };
        unsigned.push(("Content-Length", length.to_string()));
        let content_sha256 = payload.content_sha256();
        let draft = Draft { content_sha256, signed, unsigned, ..Draft::new("PUT", path) };
        let (mut request, chunks) = self.sign(&draft)?;
        request.body = if is_streaming { Body::Chunks(Frames::sign(chunks, payload)) } else { Body::Plain };
        Ok(request)
    }

    fn sign(&mut self, draft: &Draft) -> Result<(Request, ChunkSigner), BenchError> {
        let now = Timestamp::now();
        let date = now.amz_date();
        let mut headers =
            vec![("host", self.host.as_str()), ("x-amz-content-sha256", draft.content_sha256), ("x-amz-date", &date)];
        headers.extend(draft.signed.iter().map(|(name, value)| (*name, value.as_str())));
        headers.extend(self.token.as_ref().map(|token| ("x-amz-security-token", token.as_str())));
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let fields: Vec<(&[u8], &[u8])> = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let signed = SignedRequest {
            method: draft.method,
            path: draft.path.as_bytes(),
            query: draft.query.as_bytes(),
            host: self.host.as_bytes(),
            headers: &fields[..],
            host_bucket: None,
        };
        let signed = self.signer.sign(&signed, &names, draft.content_sha256, now);
        let signed = signed.map_err(|error| BenchError::Usage(format!("cannot sign {}: {error:?}", draft.path)))?;
        let mut head = format!("{} {}", draft.method, draft.path);
        if !draft.query.is_empty() {
            let _ = write!(head, "?{}", draft.query);
        }
        head.push_str(" HTTP/1.1\r\n");
        let agent = ("User-Agent", concat!("sluice-bench/", env!("CARGO_PKG_VERSION")));
        let unsigned = draft.unsigned.iter().map(|(name, value)| (*name, value.as_str()));
        for (name, value) in headers.into_iter().chain([agent, ("Authorization", &signed.authorization)]).chain(unsigned) {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if !draft.is_open {
            head.push_str("\r\n");
        }
        let (method, is_open, head) = (draft.method, draft.is_open, head.into_bytes());
        Ok((Request { method, head, is_open, body: Body::None, signed_at: Instant::now() }, signed.chunks))
    }
}

impl Draft<'_> {
    fn new(method: &'static str, path: String) -> Self {
        let (query, signed, unsigned) = (String::new(), Vec::new(), Vec::new());
        Self { method, path, query, content_sha256: EMPTY_SHA256, signed, unsigned, is_open: false }
    }
}

impl Frames {
    /// The texts of one upload, each with its signature.
    fn sign(mut chunks: ChunkSigner, payload: &Payload) -> Self {
        let mut frames = Self::default();
        let (count, mut payload_before) = (payload.chunk_count(), 0);
        for number in 0..count {
            let (size, sha256) = payload.chunk(number);
            let before = if number == 0 { "" } else { "\r\n" };
            frames.push(before, size, &chunks.chunk(sha256), "\r\n", payload_before);
            payload_before += size;
        }
        let before = if count == 0 { "" } else { "\r\n" };
        frames.push(before, 0, &chunks.chunk(&Sha256::of(b"")), "\r\n\r\n", payload_before);
        frames
    }

    fn push(&mut self, before: &str, size: u64, signature: &[u8; 64], after: &str, payload_before: u64) {
        let start = self.text.len() as u64 + payload_before;
        for part in [before.as_bytes(), format!("{size:x};chunk-signature=").as_bytes(), signature, after.as_bytes()] {
            self.text.extend_from_slice(part);
        }
        self.places.push((self.text.len(), start));
    }

    /// Bytes of all texts of a payload, before they are signed: a line for each chunk, and the line end behind it.
    fn length(payload: &Payload) -> u64 {
        let line = |size: u64| format!("{size:x};chunk-signature=").len() as u64 + 64 + 4;
        (0..payload.chunk_count()).map(|number| line(payload.chunk(number).0)).sum::<u64>() + line(0)
    }

    /// Text `number`, and where it begins in the body.
    fn text(&self, number: usize) -> Option<(&[u8], u64)> {
        let (end, start) = *self.places.get(number)?;
        let from = number.checked_sub(1).map_or(0, |before| self.places[before].0);
        Some((&self.text[from..end], start))
    }

    /// The number of the text that begins at `offset` of the body, or last before it.
    fn at(&self, offset: u64) -> usize {
        self.places.partition_point(|(_, start)| *start <= offset).saturating_sub(1)
    }
}

impl Request {
    /// Bytes that keeping it costs.
    pub fn memory(&self) -> usize {
        let frames = match &self.body {
            Body::Chunks(frames) => frames.text.capacity() + frames.places.capacity() * size_of::<(usize, u64)>(),
            Body::None | Body::Plain => 0,
        };
        size_of::<Self>() + self.head.capacity() + frames
    }

    /// The request line, for an error's example.
    pub fn line(&self) -> String {
        let end = memchr::memchr(b'\r', &self.head).unwrap_or(self.head.len());
        let line = String::from_utf8_lossy(&self.head[..end]);
        line.strip_suffix(" HTTP/1.1").unwrap_or(&line).to_owned()
    }

    /// Everything, where that is only the head.
    pub fn only_head(&self) -> Option<&[u8]> {
        (!self.is_open && matches!(self.body, Body::None)).then_some(&self.head)
    }

    /// Bytes in all; `tail` follows the head of an open request.
    pub fn length(&self, tail: &[u8], payload: &Payload) -> u64 {
        let body = match &self.body {
            Body::None => 0,
            Body::Plain => payload.size(),
            Body::Chunks(frames) => frames.text.len() as u64 + payload.size(),
        };
        (self.head.len() + tail.len()) as u64 + body
    }

    /// What is to be sent from `position` on, as far as it fits into one call.
    pub fn slices<'a>(&'a self, tail: &'a [u8], payload: &'a Payload, position: u64) -> Vec<IoSlice<'a>> {
        let mut slices = Vec::with_capacity(8);
        let mut skip = position;
        for part in [&self.head[..], tail] {
            let skipped = skip.min(part.len() as u64);
            skip -= skipped;
            push(&mut slices, part, skipped);
        }
        match &self.body {
            Body::None => {}
            Body::Plain => {
                while skip < payload.size() && slices.len() < BENCH_SLICES_MAX {
                    let slice = payload.slice(skip, u64::MAX);
                    skip += slice.len() as u64;
                    push(&mut slices, slice, 0);
                }
            }
            Body::Chunks(frames) => chunk_slices(&mut slices, frames, payload, skip),
        }
        slices
    }
}

/// Texts and chunks in turn, from `offset` of the body on.
fn chunk_slices<'a>(slices: &mut Vec<IoSlice<'a>>, frames: &'a Frames, payload: &'a Payload, offset: u64) {
    let mut number = frames.at(offset);
    while let Some((text, start)) = frames.text(number).filter(|_| slices.len() + 2 <= BENCH_SLICES_MAX) {
        push(slices, text, offset.saturating_sub(start).min(text.len() as u64));
        let chunk_from = number as u64 * BENCH_CHUNK_SIZE as u64;
        let within = offset.saturating_sub(start + text.len() as u64);
        let size = if (number as u64) < payload.chunk_count() { payload.chunk(number as u64).0 } else { 0 };
        push(slices, payload.slice(chunk_from + within, size.saturating_sub(within)), 0);
        number += 1;
    }
}

fn push<'a>(slices: &mut Vec<IoSlice<'a>>, part: &'a [u8], skip: u64) {
    let rest = usize::try_from(skip).ok().and_then(|skip| part.get(skip..)).unwrap_or_default();
    if !rest.is_empty() {
        slices.push(IoSlice::new(rest));
    }
}
