//! Where are the payload bytes? A decoder that takes the framing out of a body where it stands, in the buffer it was received
//! into: the payload moves to the front of that buffer, and no chunk is ever held back.
//!
//! Imports `limits`, and of its own floor `http::Framing` alone. Pure: no I/O, no hashing; a `Sink` hears in order what
//! signatures and checksums are made of.
//!
//! Two framings may lie inside each other: the one of HTTP (Content-Length or `Transfer-Encoding: chunked`), and in it
//! `aws-chunked` (boto3 over TLS sends both). Limits: `CHUNK_LINE_SIZE_MAX` bytes a chunk line, `TRAILER_SIZE_MAX` bytes of
//! trailers; both are kept in the decoder, which has a fixed size.

mod aws;
mod transfer;

use crate::http::Framing;
use aws::Aws;
use transfer::Transfer;

/// Which `aws-chunked` a body is in, as `x-amz-content-sha256` says
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AwsChunked {
    /// In none: the payload as it is.
    None,
    /// `STREAMING-AWS4-HMAC-SHA256-PAYLOAD`.
    Signed,
    /// `STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER`.
    SignedTrailer,
    /// `STREAMING-UNSIGNED-PAYLOAD-TRAILER`.
    UnsignedTrailer,
}

/// Hears what a body holds, in the order it comes. A refusal of the listener's (a wrong signature) is kept by the listener and
/// asked for behind `decode`: the bytes that it distrusts are in the caller's buffer either way.
pub trait Sink {
    /// An aws chunk begins; the last one has size 0. The signature is in signed modes only, 64 hexadecimal digits.
    fn chunk_start(&mut self, size: u64, signature: Option<&[u8; 64]>) {
        let _ = (size, signature);
    }

    /// Payload bytes, which follow the last ones at the front of the buffer. Never empty.
    fn data(&mut self, bytes: &[u8]) {
        let _ = bytes;
    }

    /// The payload of the aws chunk is complete.
    fn chunk_end(&mut self) {}

    /// A trailer field of aws-chunked, without the white space around its value. All come before `trailer_signature`.
    fn trailer(&mut self, name: &str, value: &str) {
        let _ = (name, value);
    }

    /// `x-amz-trailer-signature`, in `SignedTrailer` only, where exactly one comes.
    fn trailer_signature(&mut self, signature: &[u8; 64]) {
        let _ = signature;
    }
}

/// Hears nothing.
impl Sink for () {}

/// What one call of `decode` did to its buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Payload bytes, now at the front of the buffer.
    pub payload: usize,
    /// Raw bytes that belonged to this body. What stands behind them, untouched, belongs to the next request.
    pub consumed: usize,
}

/// Why a body is refused. Nothing of it may be kept, and the connection is closed: its end is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// A chunk line or the line end behind a chunk is not what its grammar says.
    MalformedChunk,
    /// A chunk line of more than `CHUNK_LINE_SIZE_MAX` bytes.
    ChunkLineTooLong,
    /// A chunk size beyond 64 bits.
    ChunkTooLarge,
    /// A signature of a chunk or of the trailers that is none: not 64 hexadecimal digits.
    MalformedSignature,
    /// A trailer field that is none, or a trailer signature that is doubled or not due.
    MalformedTrailer,
    /// More than `TRAILER_SIZE_MAX` bytes of trailers, or a line of more than `CHUNK_LINE_SIZE_MAX`.
    TrailerTooLarge,
    /// Another number of payload bytes than `x-amz-decoded-content-length` says.
    LengthMismatch,
    /// HTTP's framing ends before aws-chunked does, or the trailers end without their signature.
    EndsEarly,
}

/// Decodes one body.
#[derive(Debug)]
pub struct Decoder {
    transfer: Transfer,
    aws: Aws,
    length: Length,
}

/// Payload bytes so far, and how many there shall be.
#[derive(Debug)]
struct Length {
    decoded: u64,
    expected: Option<u64>,
}

impl Length {
    /// Whether `more` bytes still fit.
    fn admits(&self, more: u64) -> Result<(), BodyError> {
        let total = self.decoded.checked_add(more).ok_or(BodyError::ChunkTooLarge)?;
        if self.expected.is_some_and(|expected| total > expected) {
            return Err(BodyError::LengthMismatch);
        }
        Ok(())
    }

    fn is_reached(&self) -> bool {
        self.expected.is_none_or(|expected| self.decoded == expected)
    }
}

impl Decoder {
    /// `decoded_length` is `x-amz-decoded-content-length`, where it was sent.
    pub fn new(framing: Framing, aws: AwsChunked, decoded_length: Option<u64>) -> Self {
        Self { transfer: Transfer::new(framing), aws: Aws::new(aws), length: Length { decoded: 0, expected: decoded_length } }
    }

    /// Decodes `buffer` in place, from where the last call left off. Call again with further bytes until `is_finished`; when the
    /// connection ends before, the body is incomplete. After an error the decoder is of no more use.
    pub fn decode(&mut self, buffer: &mut [u8], sink: &mut impl Sink) -> Result<Decoded, BodyError> {
        let mut decoded = Decoded::default();
        while decoded.consumed < buffer.len() && !self.transfer.is_done() {
            let available = self.transfer.data_remaining();
            if available == 0 {
                self.transfer.framing_byte(buffer[decoded.consumed])?;
                decoded.consumed += 1;
                continue;
            }
            let size = usize::try_from(available).unwrap_or(usize::MAX).min(buffer.len() - decoded.consumed);
            let end = decoded.consumed + size;
            let mut run = Run { buffer, read: decoded.consumed, end, write: decoded.payload };
            self.aws.decode(&mut run, &mut self.length, sink)?;
            decoded = Decoded { payload: run.write, consumed: end };
            self.transfer.data_taken(size as u64);
        }
        if self.transfer.is_done() {
            if !self.aws.is_done() {
                return Err(BodyError::EndsEarly);
            }
            if !self.length.is_reached() {
                return Err(BodyError::LengthMismatch);
            }
        }
        Ok(decoded)
    }

    /// Whether the body is complete and as long as it was said to be.
    pub fn is_finished(&self) -> bool {
        self.transfer.is_done() && self.aws.is_done() && self.length.is_reached()
    }

    /// Payload bytes so far.
    pub fn decoded_so_far(&self) -> u64 {
        self.length.decoded
    }

    /// How many raw bytes may be read next without reading into the next request; `usize::MAX` when only decoding tells (in
    /// `Transfer-Encoding: chunked`). When this is 0 and the body is not finished, it is incomplete.
    pub fn raw_wanted(&self) -> usize {
        self.transfer.raw_wanted()
    }
}

/// Bytes of HTTP's payload inside the caller's buffer, on their way to its front.
struct Run<'a> {
    buffer: &'a mut [u8],
    /// The next byte to look at.
    read: usize,
    end: usize,
    /// Where the next payload byte goes; never beyond `read`.
    write: usize,
}

impl Run<'_> {
    fn is_empty(&self) -> bool {
        self.read == self.end
    }

    fn take_byte(&mut self) -> u8 {
        self.read += 1;
        self.buffer[self.read - 1]
    }

    /// Takes bytes up to and with the next LF, or all there are.
    fn take_line(&mut self) -> &[u8] {
        let rest = &self.buffer[self.read..self.end];
        let size = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |at| at + 1);
        self.read += size;
        &rest[..size]
    }

    /// Moves at most `size_max` bytes to the payload and shows them to `sink`; returns how many.
    fn take_payload(&mut self, size_max: u64, sink: &mut impl Sink) -> usize {
        let size = usize::try_from(size_max).unwrap_or(usize::MAX).min(self.end - self.read);
        if self.read != self.write {
            self.buffer.copy_within(self.read..self.read + size, self.write);
        }
        sink.data(&self.buffer[self.write..self.write + size]);
        self.read += size;
        self.write += size;
        size
    }
}

#[cfg(test)]
mod tests;
