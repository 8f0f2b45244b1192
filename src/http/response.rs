//! The head of an answer. Nothing that is written here can end a field early: stored metadata and echoed values are other
//! people's bytes.

use super::parse::is_token;
use crate::base::time::Timestamp;

/// The interim answer that lets a waiting client send its body (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Appends the status line.
pub fn write_status(out: &mut Vec<u8>, status: u16) {
    debug_assert!((100..1000).contains(&status));
    out.extend_from_slice(b"HTTP/1.1 ");
    write_decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends one field, and says whether it did. A control byte of the value becomes a space (RFC 9110 section 5.5 for CR, LF
/// and NUL); a name that is no token cannot be repaired, and the field is left out.
pub fn write_header(out: &mut Vec<u8>, name: &str, value: &[u8]) -> bool {
    if name.is_empty() || !name.bytes().all(is_token) {
        return false;
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let value_start = out.len();
    out.extend_from_slice(value);
    for byte in &mut out[value_start..] {
        if byte.is_ascii_control() && *byte != b'\t' {
            *byte = b' ';
        }
    }
    out.extend_from_slice(b"\r\n");
    true
}

/// Appends a field whose name and value are our own: there is nothing in them to look for.
pub fn write_own(out: &mut Vec<u8>, name: &'static str, value: &[u8]) {
    debug_assert!(name.bytes().all(is_token) && !value.iter().any(u8::is_ascii_control));
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a field of our own whose value is a number.
pub fn write_own_number(out: &mut Vec<u8>, name: &'static str, number: u64) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    write_decimal(out, number);
    out.extend_from_slice(b"\r\n");
}

/// Appends the empty line that ends the head.
pub fn end_head(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// The `Date` of answers, formatted once a second.
#[derive(Debug)]
pub struct DateCache {
    second: i64,
    text: [u8; 29],
}

impl DateCache {
    /// A cache that holds the epoch.
    pub fn new() -> Self {
        Self { second: 0, text: *b"Thu, 01 Jan 1970 00:00:00 GMT" }
    }

    /// `now` as an IMF-fixdate (RFC 9110 section 5.6.7).
    pub fn text(&mut self, now: Timestamp) -> &[u8; 29] {
        if now.seconds != self.second {
            // The form has four digits for the year; a clock beyond 9999 keeps the last date.
            if let Ok(text) = now.http_date().as_bytes().try_into() {
                self.text = text;
                self.second = now.seconds;
            }
        }
        &self.text
    }
}

impl Default for DateCache {
    fn default() -> Self {
        Self::new()
    }
}

/// The reason phrase of a status (RFC 9110 section 15; RFC 6585).
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        // RFC 9112 section 4: the phrase may be empty, the space before it may not.
        _ => "",
    }
}

fn write_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(out: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut headers = [httparse::EMPTY_HEADER; 8];
        let mut response = httparse::Response::new(&mut headers);
        assert!(response.parse(out).unwrap().is_complete());
        response.headers.iter().map(|header| (header.name.to_owned(), header.value.to_vec())).collect()
    }

    #[test]
    fn an_answer_reads_back() {
        let mut out = Vec::new();
        write_status(&mut out, 206);
        assert!(write_header(&mut out, "ETag", b"\"x\""));
        write_own(&mut out, "Server", b"Sluice");
        write_own_number(&mut out, "Content-Length", u64::MAX);
        write_own_number(&mut out, "x-amz-missing-meta", 0);
        end_head(&mut out);
        let expected = "HTTP/1.1 206 Partial Content\r\nETag: \"x\"\r\nServer: Sluice\r\nContent-Length: 18446744073709551615\r\n\
                        x-amz-missing-meta: 0\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        write_status(&mut out, 599);
        assert_eq!(out, b"HTTP/1.1 599 \r\n");
    }

    #[test]
    fn no_value_and_no_name_splits_an_answer() {
        for byte in 0..=255_u8 {
            let mut out = b"HTTP/1.1 200 OK\r\n".to_vec();
            assert!(write_header(&mut out, "x-amz-meta-a", &[b'v', byte, b'X', b':', byte, b'w']));
            write_header(&mut out, &format!("x-{}a", char::from(byte)), b"v");
            end_head(&mut out);
            let read = fields(&out);
            assert_eq!(read[0].0, "x-amz-meta-a");
            assert_eq!(read[0].1.len(), 6, "{byte}");
            assert!(read.len() <= 2, "{byte}");
        }
        let mut out = Vec::new();
        assert!(!write_header(&mut out, "", b"v"));
        assert!(!write_header(&mut out, "a\r\nb", b"v"));
        assert!(out.is_empty());
    }

    #[test]
    fn the_date_follows_the_clock() {
        let mut cache = DateCache::new();
        for second in [0, 784_111_777, 784_111_777, 784_111_778, 0, 1_800_000_000] {
            let now = Timestamp { seconds: second, nanoseconds: 999_999_999 };
            assert_eq!(cache.text(now)[..], *now.http_date().as_bytes());
        }
    }
}
