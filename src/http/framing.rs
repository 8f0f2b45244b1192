//! How long is the body, and what becomes of the connection? RFC 9112 sections 3.2, 6 and 9, decided once from all fields.

use super::head::{Framing, Head, HeadError, Span, Version};

/// What the fields say, while they are read.
#[derive(Default)]
struct Seen {
    host: Option<Span>,
    content_length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

/// Fills the decisions of `head` from its fields, or refuses it.
pub(super) fn decide(head: &mut Head, bytes: &[u8]) -> Result<(), HeadError> {
    let mut seen = Seen::default();
    for field in head.fields() {
        let (name, value) = (field.name.of(bytes), field.value.of(bytes));
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                let doubled = seen.host.replace(field.value).is_some();
                if doubled || !is_host(value) {
                    return Err(HeadError::BadHost);
                }
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                seen.expects_continue |= list(value).any(|item| item.eq_ignore_ascii_case(b"100-continue"));
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                seen.close |= list(value).any(|item| item.eq_ignore_ascii_case(b"close"));
                seen.keep_alive |= list(value).any(|item| item.eq_ignore_ascii_case(b"keep-alive"));
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = content_length(value).ok_or(HeadError::BadContentLength)?;
                if seen.content_length.replace(length).is_some() {
                    return Err(HeadError::BadContentLength);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if seen.chunked || value.is_empty() {
                    return Err(HeadError::BadTransferEncoding);
                }
                // Names of codings ignore case (RFC 9112 section 7). Where chunked is not the last one, nobody knows where the
                // body ends: 400 (section 6.3, rule 4.3); one that we do not know before it: 501 (section 6.1).
                if !value.eq_ignore_ascii_case(b"chunked") {
                    let last = list(value).last().unwrap_or_default();
                    let ends = last.eq_ignore_ascii_case(b"chunked");
                    return Err(if ends { HeadError::UnknownTransferCoding } else { HeadError::BadTransferEncoding });
                }
                seen.chunked = true;
            }
            _ => {}
        }
    }
    conclude(head, &seen, bytes)
}

fn conclude(head: &mut Head, seen: &Seen, bytes: &[u8]) -> Result<(), HeadError> {
    let old = head.version == Version::Http10;
    if seen.host.is_none() && !old {
        return Err(HeadError::BadHost);
    }
    // RFC 9112 section 3.2: a client must send the target's authority as Host. Section 3.2.2 lets the target win when they
    // differ; but signatures cover the Host field and the bucket may come from the authority, so a difference is refused.
    if let (Some(authority), Some(host)) = (head.parts.authority, seen.host)
        && !authority.of(bytes).eq_ignore_ascii_case(host.of(bytes))
    {
        return Err(HeadError::BadHost);
    }
    head.host = seen.host.or(head.parts.authority);
    head.framing = match (seen.chunked, seen.content_length) {
        // RFC 9112 section 6.1: HTTP/1.0 knows no transfer codings; section 6.3: both fields are a smuggling attempt.
        (true, _) if old => return Err(HeadError::BadTransferEncoding),
        (true, Some(_)) => return Err(HeadError::BadTransferEncoding),
        (true, None) => Framing::Chunked,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::None,
    };
    head.keep_alive = !seen.close && (!old || seen.keep_alive);
    // RFC 9110 section 10.1.1: ignored in HTTP/1.0. Other expectations may be answered 417; S3 takes them (s3-tests
    // `test_object_create_bad_expect_mismatch` sends `Expect: 200` and wants success), so they are passed over.
    head.expects_continue = seen.expects_continue && !old;
    Ok(())
}

/// `1*DIGIT` (RFC 9110 section 8.6), without a sign, a list, or the leading zeros that some parser takes for octal.
fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || (value.len() > 1 && value[0] == b'0') {
        return None;
    }
    value.iter().try_fold(0_u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

/// The items of a comma-separated field value (RFC 9110 section 5.6.1).
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// `uri-host [ ":" port ]` of RFC 9110 section 7.2 as far as hosts have it: a name, an IPv4 or `[IPv6]` address. The empty
/// host is refused (section 4.2.1), and so are percent-escapes and sub-delimiters, which no name in DNS has.
pub(super) fn is_host(text: &[u8]) -> bool {
    let (valid, rest) = if let Some(address) = text.strip_prefix(b"[") {
        let size = address.iter().position(|&byte| byte == b']').unwrap_or(0);
        let valid = address[..size].iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
        (valid && size >= 2, address.get(size + 1..).unwrap_or_default())
    } else {
        let size = text.iter().position(|&byte| byte == b':').unwrap_or(text.len());
        let valid = text[..size].iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'));
        (valid && size > 0, &text[size..])
    };
    let port_valid = match rest.split_first() {
        None => true,
        Some((b':', port)) => port.len() <= 5 && port.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    };
    valid && port_valid
}
