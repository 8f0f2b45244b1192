//! A request head that was read: offsets into its bytes, and what follows from its fields.

use crate::limits;
use smallvec::SmallVec;

/// Why a head is refused. The connection is closed after the answer: where the next request would begin is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Not `method SP target SP HTTP-version` (RFC 9112 section 3).
    BadRequestLine,
    /// A target in none of the forms of RFC 9112 section 3.2, or with bytes that no URI has.
    BadTarget,
    /// More than `TARGET_SIZE_MAX` bytes of target.
    TargetTooLong,
    /// More than `QUERY_COUNT_MAX` parameters.
    TooManyParameters,
    /// Another version than HTTP/1.0 and HTTP/1.1.
    UnsupportedVersion,
    /// CR without LF, or LF without CR (RFC 9112 section 2.2).
    BadLineEnd,
    /// An empty field name, one that is not a token, or white space before the colon (RFC 9112 section 5.1).
    BadHeaderName,
    /// A control byte in a field value (RFC 9110 section 5.5).
    BadHeaderValue,
    /// A folded field line (RFC 9112 section 5.2), or white space before the first one (section 2.2).
    ObsoleteFold,
    /// More than `HEAD_SIZE_MAX` bytes.
    HeadTooLarge,
    /// More than `HEADER_COUNT_MAX` fields.
    TooManyHeaders,
    /// Host is missing, doubled, no host, or another one than the target's (RFC 9112 section 3.2).
    BadHost,
    /// Content-Length is doubled, signed, a list, or too large (RFC 9112 section 6.3).
    BadContentLength,
    /// Transfer-Encoding is doubled, empty, beside Content-Length, or in HTTP/1.0 (RFC 9112 sections 6.1 and 6.3).
    BadTransferEncoding,
    /// A transfer coding other than `chunked` (RFC 9112 section 6.1).
    UnknownTransferCoding,
}

impl HeadError {
    /// The status that answers it.
    pub fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::HeadTooLarge | Self::TooManyHeaders => 431,
            Self::UnknownTransferCoding => 501,
            Self::UnsupportedVersion => 505,
            _ => 400,
        }
    }
}

/// The protocol version of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// A parsed head: offsets into the bytes it was parsed from, read through `Request`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub(super) size: u16,
    pub(super) version: Version,
    pub(super) method: Span,
    pub(super) target: Span,
    pub(super) parts: Target,
    pub(super) host: Option<Span>,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
    pub(super) fields: SmallVec<[Field; FIELDS_INLINE]>,
}

/// How the body of a request is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Neither Content-Length nor Transfer-Encoding: no body (RFC 9112 section 6.3, rule 7).
    None,
    /// This many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Where the parts of a target stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Empty for the absolute form without a path, which means `/`.
    pub(super) path: Span,
    pub(super) query: Option<Span>,
    /// Of the absolute form.
    pub(super) authority: Option<Span>,
}

/// Fields up to which a head needs no allocation: nearly all of them.
const FIELDS_INLINE: usize = 48;

impl Head {
    /// The fields in the order of the request.
    pub(super) fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Bytes of the head, with the empty line that ends it.
    pub fn size(&self) -> usize {
        usize::from(self.size)
    }
}

/// Where something stands in the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u16,
    end: u16,
}

/// One field: its name and its value without the white space around it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: Span,
    pub(super) value: Span,
}

const _: () = assert!(limits::HEAD_SIZE_MAX <= u16::MAX as usize, "offsets are 16 bits");

impl Span {
    /// Offsets inside a head, which `HEAD_SIZE_MAX` keeps within 16 bits.
    pub(super) fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= limits::HEAD_SIZE_MAX);
        Self { start: start as u16, end: end as u16 }
    }

    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(usize::from(self.start)..usize::from(self.end)).unwrap_or_default()
    }

    /// The part from `start` to `end` of this span.
    pub(super) fn part(self, start: usize, end: usize) -> Self {
        Self::new(usize::from(self.start) + start, usize::from(self.start) + end)
    }
}
