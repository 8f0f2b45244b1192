//! The grammar of a request head, RFC 9112 sections 2 to 5, read strictly.

use super::framing;
use super::head::{Field, Framing, Head, HeadError, Span, Version};
use super::target;
use crate::limits;
use smallvec::SmallVec;

/// What `parse` made of the bytes so far.
#[derive(Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // Boxing would allocate for each request.
pub enum Parsed {
    /// A whole head stands in the first `size` bytes of the buffer.
    Complete { head: Head, size: usize },
    /// More bytes are needed. Call again with all of them: what is done before the end is found is one search.
    Partial,
}

/// Reads the request head at the front of `buffer`, which begins where the last request ended.
///
/// One empty line before the request line is passed over (RFC 9112 section 2.2: clients that send CRLF after a body); it
/// counts into `size`. A refusal comes as soon as the bytes that prove it are there, and is the same however they arrived.
pub fn parse(buffer: &[u8]) -> Result<Parsed, HeadError> {
    let bytes = &buffer[..buffer.len().min(limits::HEAD_SIZE_MAX)];
    let start = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    match bytes.get(start) {
        None => return Ok(Parsed::Partial),
        Some(b'\r') if bytes.len() == 1 => return Ok(Parsed::Partial),
        // Also a TLS hello on a plain port: it holds no line end that would ever stop the wait.
        Some(&first) if !is_token(first) => return Err(HeadError::BadRequestLine),
        Some(_) => {}
    }
    let Some(size) = find_end(bytes, start)? else {
        if bytes.len() < limits::HEAD_SIZE_MAX {
            return Ok(Parsed::Partial);
        }
        let first_line_ends = find_byte(bytes, start, b'\n').is_some();
        return Err(if first_line_ends { HeadError::HeadTooLarge } else { HeadError::TargetTooLong });
    };
    let head = parse_complete(&bytes[..size], start)?;
    Ok(Parsed::Complete { head, size })
}

/// The end of the head: just behind the first empty line. Every line up to there ends in CRLF, or it is refused here.
fn find_end(bytes: &[u8], start: usize) -> Result<Option<usize>, HeadError> {
    let mut line = start;
    while let Some(lf) = find_byte(bytes, line, b'\n') {
        if lf == line || bytes[lf - 1] != b'\r' {
            return Err(HeadError::BadLineEnd);
        }
        if lf - 1 == line {
            return Ok(Some(lf + 1));
        }
        line = lf + 1;
    }
    Ok(None)
}

/// `bytes` is a whole head: it ends in an empty line.
fn parse_complete(bytes: &[u8], start: usize) -> Result<Head, HeadError> {
    let (method, target, version, mut at) = parse_request_line(bytes, start)?;
    let parts = target::split(target, bytes, method.of(bytes))?;
    let mut head = Head {
        size: bytes.len() as u16,
        version,
        method,
        target,
        parts,
        host: None,
        framing: Framing::None,
        keep_alive: true,
        expects_continue: false,
        fields: SmallVec::new(),
    };
    // The last two bytes are the empty line.
    while at + 2 < bytes.len() {
        let (field, next) = parse_field(bytes, at)?;
        if head.fields.len() == limits::HEADER_COUNT_MAX {
            return Err(HeadError::TooManyHeaders);
        }
        head.fields.push(field);
        at = next;
    }
    framing::decide(&mut head, bytes)?;
    Ok(head)
}

/// `method SP target SP version CRLF`, with one space each: RFC 9112 section 3 lets a server read any white space as a
/// separator, and servers differ in what they then take for the target.
fn parse_request_line(bytes: &[u8], start: usize) -> Result<(Span, Span, Version, usize), HeadError> {
    let method_end = skip(bytes, start, is_token);
    if method_end == start || bytes.get(method_end) != Some(&b' ') {
        return Err(HeadError::BadRequestLine);
    }
    let target_start = method_end + 1;
    let target_end = skip(bytes, target_start, is_target);
    if bytes.get(target_end) != Some(&b' ') {
        // A byte that no URI has, or no version behind the target (HTTP/0.9).
        let line_ends = bytes.get(target_end) == Some(&b'\r');
        return Err(if line_ends { HeadError::BadRequestLine } else { HeadError::BadTarget });
    }
    if target_end - target_start > limits::TARGET_SIZE_MAX {
        return Err(HeadError::TargetTooLong);
    }
    let version = match bytes.get(target_end + 1..).and_then(|rest| rest.first_chunk::<10>()) {
        Some(b"HTTP/1.1\r\n") => Version::Http11,
        Some(b"HTTP/1.0\r\n") => Version::Http10,
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor, b'\r', b'\n'])
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(HeadError::UnsupportedVersion);
        }
        _ => return Err(HeadError::BadRequestLine),
    };
    Ok((Span::new(start, method_end), Span::new(target_start, target_end), version, target_end + 11))
}

/// `name ":" OWS value OWS CRLF`; returns where the next line begins.
fn parse_field(bytes: &[u8], start: usize) -> Result<(Field, usize), HeadError> {
    let name_end = skip(bytes, start, is_token);
    match bytes.get(name_end) {
        Some(b':') if name_end > start => {}
        Some(b' ' | b'\t') if name_end == start => return Err(HeadError::ObsoleteFold),
        _ => return Err(HeadError::BadHeaderName),
    }
    let value_start = skip(bytes, name_end + 1, |byte| byte == b' ' || byte == b'\t');
    let line_end = skip_value(bytes, value_start);
    match (bytes.get(line_end), bytes.get(line_end + 1)) {
        (Some(b'\r'), Some(b'\n')) => {}
        (Some(b'\r'), _) => return Err(HeadError::BadLineEnd),
        _ => return Err(HeadError::BadHeaderValue),
    }
    let trailing = bytes[value_start..line_end].iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let field = Field { name: Span::new(start, name_end), value: Span::new(value_start, line_end - trailing) };
    Ok((field, line_end + 2))
}

/// Whether a field of this name and value could have stood in a head.
pub fn is_field(name: &str, value: &[u8]) -> bool {
    !name.is_empty() && name.bytes().all(is_token) && skip_value(value, 0) == value.len()
}

/// The first position from `at` on whose byte is not `wanted`.
fn skip(bytes: &[u8], at: usize, wanted: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|&byte| !wanted(byte)).unwrap_or(rest.len())
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// High bits where a byte of `word` is zero. Only the lowest one set is exact: a borrow may set others above it.
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// Bytes looked at in one step where nothing of interest is expected: plain enough for the compiler to use vectors.
const STRIDE: usize = 32;

/// The first position from `at` on that holds `byte`. It runs over each head once more than the rest, so that waiting for the
/// end of a head that trickles in stays cheap.
fn find_byte(bytes: &[u8], mut at: usize, byte: u8) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let (strides, _) = rest.as_chunks::<STRIDE>();
    at +=
        STRIDE * strides.iter().take_while(|stride| !stride.iter().fold(false, |found, &other| found | (other == byte))).count();
    while let Some(word) = word_at(bytes, at) {
        let found = zero_bytes(word ^ ONES.wrapping_mul(u64::from(byte)));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    bytes.get(at..)?.iter().position(|&other| other == byte).map(|offset| at + offset)
}

/// The first position from `at` on whose byte is no part of a field value: a control byte other than HTAB
/// (RFC 9110 section 5.5). Bytes above 127 are obs-text.
fn skip_value(bytes: &[u8], mut at: usize) -> usize {
    let (strides, _) = bytes.get(at..).unwrap_or_default().as_chunks::<STRIDE>();
    at += STRIDE
        * strides
            .iter()
            .take_while(|stride| stride.iter().fold(true, |text, &byte| text & (byte >= 0x20) & (byte != 0x7f)))
            .count();
    while let Some(word) = word_at(bytes, at) {
        let below_space = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let found = below_space | zero_bytes(word ^ (ONES * 0x7f));
        if found == 0 {
            at += 8;
            continue;
        }
        at += found.trailing_zeros() as usize / 8;
        if bytes.get(at) != Some(&b'\t') {
            return at;
        }
        at += 1;
    }
    skip(bytes, at, |byte| byte == b'\t' || (byte >= 0x20 && byte != 0x7f))
}

fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk::<8>().map(|chunk| u64::from_le_bytes(*chunk))
}

/// `tchar` of RFC 9110 section 5.6.2.
pub(super) const fn is_token(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// A byte of a request target: visible ASCII. Not `#`: a fragment is never sent (RFC 9112 section 3.2), and servers differ
/// in whether they cut it off. Characters that RFC 3986 wants encoded (`|`, `"`, `{`) mean themselves in every server.
const fn is_target(byte: u8) -> bool {
    byte > b' ' && byte < 0x7f && byte != b'#'
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut mark = 0;
    while mark < marks.len() {
        table[marks[mark] as usize] = true;
        mark += 1;
    }
    table
};
