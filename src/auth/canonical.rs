//! The canonical request: the one text that client and server both derive from a request and sign.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>
//!
//! It is built as a text in a buffer that is reused, not fed piece by piece into the hash: one long update is as fast as
//! thirty short ones, and after a mismatch the text is there to be shown.

use super::fields::Fields;
use super::query::{BadEscape, Query, decode_into};
use super::{Headers, SignedRequest};
use crate::base::percent;

/// Whether every header of `SignedHeaders` was in the request. One that is missing was removed on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coverage {
    Whole,
    HeaderMissing,
}

/// What was made of a request so far.
#[derive(Clone, Copy)]
pub(super) struct Parsed<'a> {
    /// Sorted.
    pub(super) query: &'a Query,
    pub(super) fields: &'a Fields,
}

/// Appends the canonical request to `out`. `scratch` is overwritten.
pub(super) fn write_request<H: Headers + ?Sized>(
    out: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
    request: &SignedRequest<H>,
    parsed: Parsed<'_>,
    signed_headers: &str,
    payload: &[u8],
) -> Result<Coverage, BadEscape> {
    out.extend_from_slice(request.method.as_bytes());
    out.push(b'\n');
    write_path(out, scratch, request.path)?;
    out.push(b'\n');
    parsed.query.write_canonical(out);
    out.push(b'\n');
    let mut coverage = Coverage::Whole;
    for name in signed_headers.split(';') {
        if !write_header(out, request, parsed.fields, name) {
            coverage = Coverage::HeaderMissing;
        }
    }
    out.push(b'\n');
    out.extend_from_slice(signed_headers.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(payload);
    Ok(coverage)
}

/// S3 does not resolve `..` or `//`, both are legal in keys; and it encodes once, whatever the client escaped: warp's keys
/// hold parentheses, which RFC 3986 lets a client send as they are and the signature wants as `%28`.
fn write_path(out: &mut Vec<u8>, scratch: &mut Vec<u8>, path: &[u8]) -> Result<(), BadEscape> {
    if path.is_empty() {
        out.push(b'/');
        return Ok(());
    }
    scratch.clear();
    decode_into(scratch, path, false)?;
    percent::encode_into(out, scratch, true);
    Ok(())
}

/// Appends `name:value,value\n`; false when the request has no such header.
fn write_header<H: Headers + ?Sized>(out: &mut Vec<u8>, request: &SignedRequest<H>, fields: &Fields, name: &str) -> bool {
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    // The host that routes the request is the host that must be signed. With an absolute-form target the two may differ
    // (RFC 9112 section 3.2.2), and then a signature for one bucket would open another.
    let found = if name == "host" {
        write_trimmed(out, request.host);
        true
    } else {
        write_values(out, request.headers, fields, name, write_trimmed)
    };
    out.push(b'\n');
    found
}

/// Appends the values of a header, comma-separated, each as `write_one` writes it; false when there is none.
pub(super) fn write_values<H: Headers + ?Sized>(
    out: &mut Vec<u8>,
    headers: &H,
    fields: &Fields,
    name: &str,
    write_one: impl Fn(&mut Vec<u8>, &[u8]),
) -> bool {
    let mut found = false;
    for value in fields.values(headers, name.as_bytes()) {
        if found {
            out.push(b',');
        }
        write_one(out, value);
        found = true;
    }
    found
}

/// `Trimall` of the specification: no white space around the value, and one space for several. Only spaces count inside:
/// that is what S3 does and the Rust SDK's signer notes.
fn write_trimmed(out: &mut Vec<u8>, value: &[u8]) {
    let mut after_space = false;
    for &byte in value.trim_ascii() {
        if byte != b' ' || !after_space {
            out.push(byte);
        }
        after_space = byte == b' ';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Result<String, BadEscape> {
        let (mut out, mut scratch) = (Vec::new(), Vec::new());
        write_path(&mut out, &mut scratch, text.as_bytes())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn paths_are_encoded_once_and_never_normalised() {
        for (sent, signed) in [
            ("", "/"),
            ("/", "/"),
            ("/b//a/../c/.", "/b//a/../c/."),
            ("/b/(1).rnd", "/b/%281%29.rnd"),
            ("/b/%281%29.rnd", "/b/%281%29.rnd"),
            ("/b/ü", "/b/%C3%BC"),
            ("/b/%c3%bc", "/b/%C3%BC"),
            ("/b/a+b", "/b/a%2Bb"),
            ("/b/a%20b", "/b/a%20b"),
            ("/b/a%2Fb", "/b/a/b"),
            ("/b/%2525", "/b/%2525"),
            ("/b/test$file.text", "/b/test%24file.text"),
            ("/b/%7E~-_.", "/b/~~-_."),
        ] {
            assert_eq!(path(sent).as_deref(), Ok(signed), "{sent}");
        }
        assert_eq!(path("/b/100%"), Err(BadEscape));
    }

    fn canonical(headers: &[(&[u8], &[u8])], signed_headers: &str) -> (String, Coverage) {
        let request = SignedRequest { method: "GET", path: b"/", query: b"", host: b" example.com ", host_bucket: None, headers };
        let (mut out, mut scratch) = (Vec::new(), Vec::new());
        let parsed = Parsed { query: &Query::default(), fields: &Fields::default() };
        let coverage = write_request(&mut out, &mut scratch, &request, parsed, signed_headers, b"UNSIGNED-PAYLOAD").unwrap();
        (String::from_utf8(out).unwrap(), coverage)
    }

    /// The cases get-header-value-trim, get-header-value-order and get-header-key-duplicate of AWS's signing test suite.
    #[test]
    fn header_values_are_trimmed_and_joined_in_order() {
        let headers: [(&[u8], &[u8]); 5] = [
            (b"My-Header1", b" value1\t"),
            (b"Host", b"other.example"),
            (b"my-header2", b" \"a   b   c\" "),
            (b"MY-HEADER1", b"value3"),
            (b"my-header1", b"value2"),
        ];
        let (text, coverage) = canonical(&headers, "host;my-header1;my-header2");
        let expected = "GET\n/\n\nhost:example.com\nmy-header1:value1,value3,value2\nmy-header2:\"a b c\"\n\n\
                        host;my-header1;my-header2\nUNSIGNED-PAYLOAD";
        assert_eq!((text.as_str(), coverage), (expected, Coverage::Whole));
    }

    #[test]
    fn a_removed_header_is_noticed_even_if_it_was_empty() {
        let headers: [(&[u8], &[u8]); 1] = [(b"x-empty", b"")];
        assert_eq!(canonical(&headers, "host;x-empty").1, Coverage::Whole);
        assert_eq!(canonical(&headers, "host;range;x-empty").1, Coverage::HeaderMissing);
        assert_eq!(canonical(&headers, "host;;x-empty").1, Coverage::HeaderMissing);
    }
}
