//! What was answered? The head of a response, how its body is delimited (RFC 9112 section 6.3, the client's side), and what
//! of an error or a listing is of interest.

use std::hash::Hasher;
use std::mem::MaybeUninit;

use crate::http::Framing;
use crate::limits::{BENCH_ANSWER_SIZE_MAX, BENCH_ERROR_BODY_SIZE_MAX, HEAD_SIZE_MAX, HEADER_COUNT_MAX};

/// The head of one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    pub body: BodyEnd,
    /// The server takes no further request on this connection.
    pub closes: bool,
    /// Of the ETag, so that two are compared without keeping them.
    pub etag: Option<u64>,
    /// Bytes of the head.
    pub size: usize,
}

/// Where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// By a length, which is 0 where there is no body, or by chunks.
    Framed(Framing),
    /// With the connection.
    Close,
}

/// Not an answer in HTTP/1.1, in one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAnswer(pub &'static str);

impl Head {
    /// Reads the head of the answer to a `method` request; `None` while it is incomplete.
    pub fn read(bytes: &[u8], method: &str) -> Result<Option<Self>, BadAnswer> {
        let mut fields = [MaybeUninit::uninit(); HEADER_COUNT_MAX];
        let mut response = httparse::Response::new(&mut []);
        let parser = httparse::ParserConfig::default();
        let size = match parser.parse_response_with_uninit_headers(&mut response, bytes, &mut fields) {
            Ok(httparse::Status::Complete(size)) => size,
            Ok(httparse::Status::Partial) if bytes.len() >= HEAD_SIZE_MAX => return Err(BadAnswer("an endless response head")),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(BadAnswer("not an HTTP response")),
        };
        let status = response.code.unwrap_or_default();
        let mut head = Self { status, body: BodyEnd::Close, closes: response.version == Some(0), etag: None, size };
        let (mut length, mut is_chunked) = (None, false);
        for field in response.headers.iter() {
            match field.name.len() {
                4 if field.name.eq_ignore_ascii_case("etag") => head.etag = Some(hash(field.value)),
                10 if field.name.eq_ignore_ascii_case("connection") => {
                    if field.value.eq_ignore_ascii_case(b"close") {
                        head.closes = true;
                    } else if field.value.eq_ignore_ascii_case(b"keep-alive") {
                        head.closes = false;
                    }
                }
                14 if field.name.eq_ignore_ascii_case("content-length") => {
                    let value = std::str::from_utf8(field.value).ok().and_then(|text| text.parse::<u64>().ok());
                    let value = value.ok_or(BadAnswer("a Content-Length that is no number"))?;
                    if length.replace(value).is_some_and(|before| before != value) {
                        return Err(BadAnswer("two lengths"));
                    }
                }
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                    if !field.value.eq_ignore_ascii_case(b"chunked") {
                        return Err(BadAnswer("a Transfer-Encoding other than chunked"));
                    }
                    is_chunked = true;
                }
                _ => {}
            }
        }
        let has_no_body = method == "HEAD" || matches!(status, 100..200 | 204 | 304);
        head.body = match length {
            _ if has_no_body => BodyEnd::Framed(Framing::None),
            _ if is_chunked => BodyEnd::Framed(Framing::Chunked),
            Some(length) => BodyEnd::Framed(Framing::Length(length)),
            None => BodyEnd::Close,
        };
        head.closes |= head.body == BodyEnd::Close;
        Ok(Some(head))
    }

    /// An interim answer (100 Continue), behind which the real one comes.
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status)
    }
}

/// FNV-1a: short, the same in all threads, and nobody attacks a benchmark.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// The hash by which ETags are compared, whether they were listed or sent.
pub fn hash(etag: &[u8]) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    hasher.write(etag);
    hasher.finish()
}

/// The text of the first `<name>` in S3's XML.
pub fn element<'a>(xml: &'a [u8], name: &str) -> Option<&'a str> {
    let open = format!("<{name}>");
    let from = memchr::memmem::find(xml, open.as_bytes())? + open.len();
    let length = memchr::memchr(b'<', &xml[from..])?;
    std::str::from_utf8(&xml[from..from + length]).ok()
}

/// What becomes of a body as it arrives.
#[derive(Debug)]
pub enum Interest {
    /// Only its length.
    Length,
    /// Its beginning, which says what went wrong.
    Error(Vec<u8>),
    /// How many keys it lists.
    Keys(KeyCount),
    /// All of it.
    Document(Vec<u8>),
}

impl Interest {
    pub fn feed(&mut self, bytes: &[u8]) {
        match self {
            Self::Length => {}
            Self::Error(kept) => {
                let room = BENCH_ERROR_BODY_SIZE_MAX.saturating_sub(kept.len());
                kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Self::Keys(count) => count.feed(bytes),
            Self::Document(kept) => {
                let room = BENCH_ANSWER_SIZE_MAX.saturating_sub(kept.len());
                kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
        }
    }
}

const KEY: &[u8] = b"<Key>";

/// Counts `<Key>`, also where it arrives in pieces.
#[derive(Debug, Default)]
pub struct KeyCount {
    pub keys: u64,
    /// The last bytes, which may be the beginning of one.
    last: Vec<u8>,
}

impl KeyCount {
    fn feed(&mut self, bytes: &[u8]) {
        const KEPT: usize = KEY.len() - 1;
        if !self.last.is_empty() {
            self.last.extend_from_slice(&bytes[..bytes.len().min(KEPT)]);
            self.keys += u64::from(memchr::memmem::find(&self.last, KEY).is_some());
        }
        self.keys += memchr::memmem::find_iter(bytes, KEY).count() as u64;
        if bytes.len() >= KEPT {
            self.last.clear();
            self.last.extend_from_slice(&bytes[bytes.len() - KEPT..]);
        } else if self.last.is_empty() {
            self.last.extend_from_slice(bytes);
        }
        let surplus = self.last.len().saturating_sub(KEPT);
        self.last.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str, method: &str) -> Result<Option<Head>, BadAnswer> {
        Head::read(text.as_bytes(), method)
    }

    #[test]
    fn bodies_end_as_rfc_9112_says() {
        let length = |n| BodyEnd::Framed(Framing::Length(n));
        let none = BodyEnd::Framed(Framing::None);
        for (method, text, status, body, closes) in [
            ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, length(5), false),
            ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, none, false),
            ("DELETE", "HTTP/1.1 204 No Content\r\n\r\n", 204, none, false),
            ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, none, false),
            ("PUT", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n", 100, none, false),
            ("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n", 200, BodyEnd::Framed(Framing::Chunked), false),
            ("GET", "HTTP/1.1 200 OK\r\n\r\n", 200, BodyEnd::Close, true),
            ("GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 200, length(0), true),
            ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", 200, length(1), true),
            ("GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n", 200, length(1), false),
        ] {
            let read = head(text, method).unwrap().unwrap();
            assert_eq!((read.status, read.body, read.closes), (status, body, closes), "{text}");
            assert!(text[..read.size].ends_with("\r\n\r\n"));
        }
    }

    #[test]
    fn what_is_no_answer_is_said() {
        for text in [
            "SSH-2.0-OpenSSH\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        ] {
            assert!(head(text, "GET").is_err(), "{text}");
        }
        assert_eq!(head("HTTP/1.1 200 OK\r\nETag: ", "GET"), Ok(None));
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(HEAD_SIZE_MAX));
        assert!(head(&endless, "GET").is_err());
    }

    #[test]
    fn keys_are_counted_however_they_are_cut() {
        let xml = "<a><Key>1</Key><Key></Key></a><Ke><Key>".repeat(3);
        for size in 1..xml.len() {
            let mut count = KeyCount::default();
            for piece in xml.as_bytes().chunks(size) {
                count.feed(piece);
            }
            assert_eq!(count.keys, 9, "pieces of {size}");
        }
    }

    #[test]
    fn errors_are_read_from_their_document() {
        let xml = b"<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>";
        assert_eq!(element(xml, "Code"), Some("SlowDown"));
        assert_eq!(element(xml, "Message"), Some("Reduce your request rate."));
        assert_eq!(element(b"<Code>cut o", "Code"), None);
        assert_eq!(element(b"nothing", "Code"), None);
    }
}
