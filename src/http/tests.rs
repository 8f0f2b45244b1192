//! The parser against the RFCs, against itself at every split, and against `httparse`.

use super::*;
use crate::limits;
use proptest::prelude::*;

/// What boto3 1.44 sends for a PutObject over TLS.
const BOTO3_PUT: &str = "PUT /photos/2026/cat%20one.jpg?x-id=PutObject HTTP/1.1\r\nHost: s3.example.com:9000\r\n\
    Accept-Encoding: identity\r\nx-amz-sdk-checksum-algorithm: CRC32\r\nContent-Encoding: aws-chunked\r\n\
    Transfer-Encoding: chunked\r\nx-amz-trailer: x-amz-checksum-crc32\r\nx-amz-decoded-content-length: 1048576\r\n\
    Expect: 100-continue\r\nX-Amz-Content-SHA256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\n\r\n";

fn complete(text: &str) -> (Head, usize) {
    match parse(text.as_bytes()) {
        Ok(Parsed::Complete { head, size }) => (head, size),
        other => panic!("{text:?}: {other:?}"),
    }
}

/// Parses `request_line` with `fields` and looks at it.
fn with<T>(request_line: &str, fields: &str, look: impl FnOnce(Request<'_>) -> T) -> T {
    let text = format!("{request_line}\r\n{fields}\r\n");
    let (head, size) = complete(&text);
    assert_eq!(size, text.len());
    look(Request::new(&head, text.as_bytes()))
}

#[test]
fn a_real_request() {
    let (head, size) = complete(BOTO3_PUT);
    assert_eq!(size, BOTO3_PUT.len());
    let request = Request::new(&head, BOTO3_PUT.as_bytes());
    assert_eq!(request.method(), "PUT");
    assert_eq!(request.target(), b"/photos/2026/cat%20one.jpg?x-id=PutObject");
    assert_eq!(request.path(), b"/photos/2026/cat%20one.jpg");
    assert_eq!(request.query(), Some(&b"x-id=PutObject"[..]));
    assert_eq!(request.version(), Version::Http11);
    assert_eq!(request.host(), Some("s3.example.com:9000"));
    assert_eq!(request.header("X-AMZ-DECODED-CONTENT-LENGTH"), Some("1048576"));
    assert_eq!(request.header("x-amz-date"), None);
    assert_eq!(request.header_count("host"), 1);
    assert_eq!(request.headers().count(), 9);
    assert_eq!(request.headers().next(), Some(("Host", &b"s3.example.com:9000"[..])));
    assert_eq!(request.framing(), Framing::Chunked);
    assert!(request.keep_alive());
    assert!(request.expects_continue());
}

#[test]
fn targets_of_rfc_9112_section_3_2() {
    let host = "Host: h\r\n";
    for (line, path, query) in [
        ("GET / HTTP/1.1", "/", None),
        ("GET /b/k?acl HTTP/1.1", "/b/k", Some("acl")),
        ("GET /b? HTTP/1.1", "/b", Some("")),
        ("GET /b?a?b=/ HTTP/1.1", "/b", Some("a?b=/")),
        ("GET //a//b/../c HTTP/1.1", "//a//b/../c", None),
        ("GET /a\\b|{\"} HTTP/1.1", "/a\\b|{\"}", None),
        ("GET /http://x/y HTTP/1.1", "/http://x/y", None),
        ("GET http://h HTTP/1.1", "/", None),
        ("GET http://h?acl HTTP/1.1", "/", Some("acl")),
        ("GET HTTPS://H/b/k?a=http://x/ HTTP/1.1", "/b/k", Some("a=http://x/")),
        ("OPTIONS * HTTP/1.1", "*", None),
        ("ANYTHING /x HTTP/1.1", "/x", None),
    ] {
        with(line, host, |request| {
            assert_eq!(request.path(), path.as_bytes(), "{line}");
            assert_eq!(request.query(), query.map(str::as_bytes), "{line}");
        });
    }
    with("GET http://h:80/ HTTP/1.0", "", |request| assert_eq!(request.host(), Some("h:80")));
    with("GET / HTTP/1.0", "", |request| assert_eq!(request.host(), None));
    for host in ["h", "h:9000", "1.2.3.4", "[::1]:80", "[2001:db8::1]", "a_b.c-d~e", "h:"] {
        with("GET / HTTP/1.1", &format!("hOST:\t {host} \r\n"), |request| assert_eq!(request.host(), Some(host)));
    }
}

#[test]
fn values_of_rfc_9110_section_5_5() {
    with("GET / HTTP/1.1", "Host:h\r\nA:\r\nB: \t \r\nC:a\tb  c \t\r\nc: second\r\nD: \u{fc}\r\n", |request| {
        assert_eq!(request.header("a"), Some(""));
        assert_eq!(request.header("b"), Some(""));
        assert_eq!(request.header("c"), Some("a\tb  c"));
        assert_eq!(request.header_count("C"), 2);
        assert_eq!(request.header("d"), Some("\u{fc}"));
    });
    let bytes = b"GET / HTTP/1.1\r\nHost: h\r\nx-amz-meta-latin: \xfc\r\n\r\n";
    let Ok(Parsed::Complete { head, .. }) = parse(bytes) else { panic!("obs-text is legal") };
    let request = Request::new(&head, bytes);
    assert_eq!(request.header("x-amz-meta-latin"), None);
    assert_eq!(request.header_bytes("x-amz-meta-latin"), Some(&b"\xfc"[..]));
}

#[test]
fn framing_of_rfc_9112_section_6_3() {
    for (fields, expected) in [
        ("", Framing::None),
        ("Content-Length: 0\r\n", Framing::Length(0)),
        ("content-length:\t18446744073709551615\r\n", Framing::Length(u64::MAX)),
        ("Transfer-Encoding: chunked\r\n", Framing::Chunked),
        ("Transfer-Encoding: Chunked\r\n", Framing::Chunked),
        ("Content_Length: 5\r\n", Framing::None),
    ] {
        with("PUT / HTTP/1.1", &format!("Host: h\r\n{fields}"), |request| assert_eq!(request.framing(), expected, "{fields}"));
    }
}

#[test]
fn persistence_of_rfc_9112_section_9_3_and_expectations() {
    for (version, fields, keep_alive, expects_continue) in [
        ("1.1", "", true, false),
        ("1.1", "Connection: close\r\n", false, false),
        ("1.1", "Connection: x, CLOSE\r\n", false, false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false, false),
        ("1.1", "Connection: closed\r\n", true, false),
        ("1.0", "", false, false),
        ("1.0", "Connection: Keep-Alive\r\n", true, false),
        ("1.0", "Connection: keep-alive, close\r\n", false, false),
        ("1.1", "Expect: 100-Continue\r\n", true, true),
        ("1.1", "Expect: \r\n", true, false),
        // RFC 9110 section 10.1.1 lets a server take what it does not know, and s3-tests wants it.
        ("1.1", "Expect: 200\r\n", true, false),
        ("1.0", "Expect: 100-continue\r\n", false, false),
    ] {
        with(&format!("PUT / HTTP/{version}"), &format!("Host: h\r\n{fields}"), |request| {
            assert_eq!(request.keep_alive(), keep_alive, "{version} {fields}");
            let said = if !keep_alive { Some("close") } else { (version == "1.0").then_some("keep-alive") };
            assert_eq!(request.connection(keep_alive), said, "{version} {fields}");
            assert_eq!(request.expects_continue(), expects_continue, "{version} {fields}");
        });
    }
}

/// What `httparse` takes and we refuse, one row at least for each reason, with the section that asks or allows for it.
const ONLY_WE_REFUSE: &[(&str, HeadError, &str)] = &[
    ("\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", HeadError::BadRequestLine, "RFC 9112 2.2: at least one empty line"),
    ("GET / HTTP/1.1\nHost: h\r\n\r\n", HeadError::BadLineEnd, "RFC 9112 2.2: a lone LF may be a line end"),
    ("GET / HTTP/1.1\r\nHost: h\n\r\n", HeadError::BadLineEnd, "RFC 9112 2.2"),
    ("GET / HTTP/1.1\r\nHost: h\r\n\n", HeadError::BadLineEnd, "RFC 9112 2.2"),
    ("\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", HeadError::BadRequestLine, "RFC 9112 2.2"),
    ("GET /\u{fc} HTTP/1.1\r\nHost: h\r\n\r\n", HeadError::BadTarget, "RFC 3986 2: a URI is ASCII"),
    ("GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", HeadError::BadTarget, "RFC 9112 3.2: no fragment"),
    ("GET b HTTP/1.1\r\nHost: h\r\n\r\n", HeadError::BadTarget, "RFC 9112 3.2.1: begins with a slash"),
    ("GET * HTTP/1.1\r\nHost: h\r\n\r\n", HeadError::BadTarget, "RFC 9112 3.2.4: OPTIONS only"),
    ("CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n", HeadError::BadTarget, "RFC 9112 3.2.3: for proxies"),
    ("GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", HeadError::BadTarget, "RFC 9110 4.2: http and https"),
    ("GET http:///b HTTP/1.1\r\nHost: h\r\n\r\n", HeadError::BadTarget, "RFC 9110 4.2.1: empty host"),
    ("GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n", HeadError::BadTarget, "RFC 9110 4.2.4: user information"),
    ("GET / HTTP/1.1\r\n\r\n", HeadError::BadHost, "RFC 9112 3.2: Host is missing"),
    ("GET / HTTP/1.1\r\nHost: h\r\nhost: h\r\n\r\n", HeadError::BadHost, "RFC 9112 3.2: Host comes twice"),
    ("GET / HTTP/1.0\r\nHost: h\r\nhost: h\r\n\r\n", HeadError::BadHost, "RFC 9112 3.2"),
    ("GET / HTTP/1.1\r\nHost:\r\n\r\n", HeadError::BadHost, "RFC 9110 4.2.1: empty host"),
    ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", HeadError::BadHost, "RFC 9110 7.2"),
    ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", HeadError::BadHost, "RFC 9110 7.2: one host"),
    ("GET / HTTP/1.1\r\nHost: h/b\r\n\r\n", HeadError::BadHost, "RFC 9110 7.2"),
    ("GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", HeadError::BadHost, "RFC 9110 7.2"),
    ("GET / HTTP/1.1\r\nHost: h:80a\r\n\r\n", HeadError::BadHost, "RFC 3986 3.2.3: a port is digits"),
    ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", HeadError::BadHost, "RFC 3986 3.2.2"),
    ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", HeadError::BadHost, "RFC 9112 3.2: Host equals the authority"),
    ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", HeadError::BadContentLength, "RFC 9112 6.3"),
    ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 5\r\n\r\n", HeadError::BadContentLength, "RFC 9112 6.3"),
    ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\n", HeadError::BadContentLength, "RFC 9110 8.6: digits"),
    ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: -0\r\n\r\n", HeadError::BadContentLength, "RFC 9110 8.6"),
    ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n", HeadError::BadContentLength, "RFC 9110 8.6"),
    ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x5\r\n\r\n", HeadError::BadContentLength, "RFC 9110 8.6"),
    ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1_0\r\n\r\n", HeadError::BadContentLength, "RFC 9110 8.6"),
    ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1 0\r\n\r\n", HeadError::BadContentLength, "RFC 9110 8.6"),
    (
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 010\r\n\r\n",
        HeadError::BadContentLength,
        "RFC 9110 8.6, read as octal by some",
    ),
    (
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551616\r\n\r\n",
        HeadError::BadContentLength,
        "RFC 9110 8.6: recipients guard against overflow",
    ),
    (
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        HeadError::BadTransferEncoding,
        "RFC 9112 6.3",
    ),
    ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", HeadError::BadTransferEncoding, "RFC 9112 6.1"),
    (
        "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        HeadError::BadTransferEncoding,
        "RFC 9112 6.1: chunked only once",
    ),
    ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n\r\n", HeadError::BadTransferEncoding, "RFC 9112 6.1"),
    ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", HeadError::UnknownTransferCoding, "RFC 9112 6.1"),
    ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n", HeadError::BadTransferEncoding, "RFC 9112 6.3"),
    ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n", HeadError::BadTransferEncoding, "RFC 9112 6.3"),
    ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked;a\r\n\r\n", HeadError::BadTransferEncoding, "RFC 9112 6.3"),
];

/// What both refuse.
const BOTH_REFUSE: &[(&[u8], HeadError, &str)] = &[
    (b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", HeadError::BadRequestLine, "RFC 9112 3: one space"),
    (b"GET /  HTTP/1.1\r\nHost: h\r\n\r\n", HeadError::BadRequestLine, "RFC 9112 3: one space"),
    (b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", HeadError::BadRequestLine, "RFC 9112 3"),
    (b"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", HeadError::BadRequestLine, "RFC 9112 3"),
    (b" GET / HTTP/1.1\r\nHost: h\r\n\r\n", HeadError::BadRequestLine, "RFC 9112 3"),
    (b"G@T / HTTP/1.1\r\nHost: h\r\n\r\n", HeadError::BadRequestLine, "RFC 9110 9.1: a token"),
    (b"GET /\r\n\r\n", HeadError::BadRequestLine, "RFC 9112 3: HTTP/0.9"),
    (b"GET / http/1.1\r\nHost: h\r\n\r\n", HeadError::BadRequestLine, "RFC 9112 2.3: case-sensitive"),
    (b"GET / HTTP/1.10\r\nHost: h\r\n\r\n", HeadError::BadRequestLine, "RFC 9112 2.3: one digit"),
    (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", HeadError::UnsupportedVersion, "RFC 9110 15.6.6"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HeadError::UnsupportedVersion, "RFC 9113 3.4"),
    (b"GET / HTTP/1.2\r\nHost: h\r\n\r\n", HeadError::UnsupportedVersion, "RFC 9110 15.6.6"),
    (b"GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n", HeadError::BadTarget, "RFC 3986 2"),
    (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", HeadError::BadHeaderName, "RFC 9112 5.1: no space before the colon"),
    (b"GET / HTTP/1.1\r\nHost: h\r\n: v\r\n\r\n", HeadError::BadHeaderName, "RFC 9110 5.1: empty name"),
    (b"GET / HTTP/1.1\r\nHost: h\r\nname\r\n\r\n", HeadError::BadHeaderName, "RFC 9112 5: a colon"),
    (b"GET / HTTP/1.1\r\nHost: h\r\na(b): v\r\n\r\n", HeadError::BadHeaderName, "RFC 9110 5.6.2"),
    (b"GET / HTTP/1.1\r\nHost: h\r\n\xc3\xbc: v\r\n\r\n", HeadError::BadHeaderName, "RFC 9110 5.6.2"),
    (b"GET / HTTP/1.1\r\nHost: h\r\nA: a\r\n b\r\n\r\n", HeadError::ObsoleteFold, "RFC 9112 5.2"),
    (b"GET / HTTP/1.1\r\n Host: h\r\n\r\n", HeadError::ObsoleteFold, "RFC 9112 2.2"),
    (b"GET / HTTP/1.1\r\n\tHost: h\r\n\r\n", HeadError::ObsoleteFold, "RFC 9112 2.2"),
    (b"GET / HTTP/1.1\r\nHost: h\r\nA: a\0b\r\n\r\n", HeadError::BadHeaderValue, "RFC 9110 5.5"),
    (b"GET / HTTP/1.1\r\nHost: h\r\nA: a\x7f\r\n\r\n", HeadError::BadHeaderValue, "RFC 9110 5.5"),
    (b"GET / HTTP/1.1\r\nHost: h\r\nA: \x0bb\r\n\r\n", HeadError::BadHeaderValue, "RFC 9110 5.5"),
    (b"GET / HTTP/1.1\r\nHost: h\r\nA: a\rb\r\n\r\n", HeadError::BadLineEnd, "RFC 9112 2.2: bare CR"),
    (b"GET / HTTP/1.1\r\nHost: h\r\nA: a\r\r\n\r\n", HeadError::BadLineEnd, "RFC 9112 2.2: bare CR"),
    (b"GET / HTTP/1.1\rHost: h\r\n\r\n", HeadError::BadRequestLine, "RFC 9112 2.2: bare CR"),
    (b"\x16\x03\x01\x02\x00\x01", HeadError::BadRequestLine, "a TLS hello"),
    (b"\rGET / HTTP/1.1\r\nHost: h\r\n\r\n", HeadError::BadRequestLine, "RFC 9112 2.2"),
];

fn httparse_takes(bytes: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    matches!(httparse::Request::new(&mut headers).parse(bytes), Ok(httparse::Status::Complete(_)))
}

#[test]
fn what_only_we_refuse() {
    for (text, expected, section) in ONLY_WE_REFUSE {
        assert_eq!(parse(text.as_bytes()), Err(*expected), "{section}: {text:?}");
        assert!(httparse_takes(text.as_bytes()), "{text:?} belongs into BOTH_REFUSE");
    }
}

#[test]
fn what_both_refuse() {
    for (bytes, expected, section) in BOTH_REFUSE {
        let text = String::from_utf8_lossy(bytes);
        assert_eq!(parse(bytes), Err(*expected), "{section}: {text:?}");
        assert!(!httparse_takes(bytes), "{text:?} belongs into ONLY_WE_REFUSE");
    }
}

/// A refusal may come before the whole head is there, but then it is that of the whole head; nothing is complete early.
fn assert_same_at_every_split(bytes: &[u8]) {
    let whole = parse(bytes);
    for split in 0..bytes.len() {
        let early = parse(&bytes[..split]);
        let final_size = match &whole {
            Ok(Parsed::Complete { size, .. }) => *size,
            _ => usize::MAX,
        };
        match early {
            Ok(Parsed::Partial) => assert!(split < final_size),
            other => assert_eq!(other, whole, "at {split}"),
        }
    }
}

#[test]
fn every_split_gives_the_same() {
    assert_same_at_every_split(BOTO3_PUT.as_bytes());
    assert_same_at_every_split(format!("\r\n{BOTO3_PUT}GET / HTTP/1.1\r\n").as_bytes());
    for (text, ..) in ONLY_WE_REFUSE {
        assert_same_at_every_split(text.as_bytes());
    }
    for (bytes, ..) in BOTH_REFUSE {
        assert_same_at_every_split(bytes);
    }
}

#[test]
fn one_empty_line_before_a_request_counts_into_its_size() {
    let (head, size) = complete("\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\nleft over");
    assert_eq!(size, 29);
    assert_eq!(head.size(), size);
    assert_eq!(parse(b"\r"), Ok(Parsed::Partial));
    assert_eq!(parse(b""), Ok(Parsed::Partial));
}

#[test]
fn bounds() {
    let target = |size: usize| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(size - 1));
    complete(&target(limits::TARGET_SIZE_MAX));
    assert_eq!(parse(target(limits::TARGET_SIZE_MAX + 1).as_bytes()), Err(HeadError::TargetTooLong));
    assert_eq!(parse(target(limits::HEAD_SIZE_MAX).as_bytes()), Err(HeadError::TargetTooLong));

    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(count - 1));
    complete(&fields(limits::HEADER_COUNT_MAX));
    assert_eq!(parse(fields(limits::HEADER_COUNT_MAX + 1).as_bytes()), Err(HeadError::TooManyHeaders));

    let sized = |size: usize| format!("GET / HTTP/1.1\r\nHost: h\r\na: {}\r\n\r\n", "b".repeat(size - 32));
    assert_eq!(complete(&sized(limits::HEAD_SIZE_MAX)).1, limits::HEAD_SIZE_MAX);
    assert_eq!(parse(sized(limits::HEAD_SIZE_MAX + 1).as_bytes()), Err(HeadError::HeadTooLarge));
    assert_eq!(parse(&sized(limits::HEAD_SIZE_MAX).as_bytes()[..limits::HEAD_SIZE_MAX - 1]), Ok(Parsed::Partial));

    let pairs = |count: usize| format!("GET /?{} HTTP/1.1\r\nHost: h\r\n\r\n", "&a=b".repeat(count));
    complete(&pairs(limits::QUERY_COUNT_MAX));
    assert_eq!(parse(pairs(limits::QUERY_COUNT_MAX + 1).as_bytes()), Err(HeadError::TooManyParameters));
}

#[test]
fn lines_of_one_name_are_one_list() {
    let text = "GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nb: 2\r\na:  3, 4 \r\nA:\r\n\r\n";
    let (head, _) = complete(text);
    let request = Request::new(&head, text.as_bytes());
    let list = |name| request.header_list(name).map(|list| String::from_utf8(list.into_owned()).unwrap());
    assert_eq!(list("a").as_deref(), Some("1, 3, 4, "));
    assert_eq!((list("B").as_deref(), list("c")), (Some("2"), None));
}

#[test]
fn statuses() {
    assert_eq!(HeadError::BadHost.status(), 400);
    assert_eq!(HeadError::TargetTooLong.status(), 414);
    assert_eq!(HeadError::TooManyHeaders.status(), 431);
    assert_eq!(HeadError::HeadTooLarge.status(), 431);
    assert_eq!(HeadError::UnknownTransferCoding.status(), 501);
    assert_eq!(HeadError::UnsupportedVersion.status(), 505);
}

#[test]
fn what_could_have_been_a_field() {
    for (name, value) in [("a", ""), ("x-amz-meta-a_b", "v w\tx"), ("A1", "\u{fc}"), ("a", " v ")] {
        assert!(is_field(name, value.as_bytes()), "{name}: {value}");
    }
    for (name, value) in [("", "v"), ("a b", "v"), ("a:", "v"), ("\u{fc}", "v"), ("a", "v\r\nb: c"), ("a", "\0"), ("a", "\u{7f}")]
    {
        assert!(!is_field(name, value.as_bytes()), "{name}: {value}");
    }
}

/// Heads near the border of what is legal: real lines, odd bytes anywhere.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        4 => Just("GET /b/k?list-type=2 HTTP/1.1\r\n".to_owned()),
        1 => "[A-Z!a]{1,5} [ -~]{1,12} HTTP/1\\.[012]\r\n",
        1 => "[A-Z]{3} (http://h|/|\\*)[/a?&#%]{0,6} HTTP/1\\.1\r\n",
    ];
    let field = prop_oneof![
        4 => Just("Host: h\r\n".to_owned()),
        2 => "[a-zA-Z_-]{1,8}:[ \t]{0,2}[ -~\t]{0,20}[ \t]{0,2}\r\n",
        1 => "Content-Length: [0-9+]{1,3}\r\n",
        1 => "Transfer-Encoding: (chunked|gzip)\r\n",
        1 => "(Connection|Expect): [a-z0-9, -]{0,12}\r?\n",
        1 => "[ -~\t\r\n\u{0}\u{7f}\u{fc}]{0,12}\r\n",
    ];
    let edit = (any::<prop::sample::Index>(), prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b' '), Just(b':')]);
    (line, prop::collection::vec(field, 0..6), prop::collection::vec(edit, 0..3)).prop_map(|(line, fields, edits)| {
        let mut bytes = format!("{line}{}\r\n", fields.concat()).into_bytes();
        for (index, byte) in edits {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn what_we_take_httparse_takes_alike(bytes in heads()) {
        let mut headers = [httparse::EMPTY_HEADER; 128];
        let mut theirs = httparse::Request::new(&mut headers);
        let their_size = theirs.parse(&bytes);
        match parse(&bytes) {
            Ok(Parsed::Complete { head, size }) => {
                prop_assert_eq!(their_size, Ok(httparse::Status::Complete(size)));
                let ours = Request::new(&head, &bytes);
                prop_assert_eq!(Some(ours.method()), theirs.method);
                prop_assert_eq!(Some(ours.target()), theirs.path.map(str::as_bytes));
                prop_assert_eq!(Some(u8::from(ours.version() == Version::Http11)), theirs.version);
                let expected: Vec<_> = theirs.headers.iter().map(|header| (header.name, header.value)).collect();
                prop_assert_eq!(ours.headers().collect::<Vec<_>>(), expected);
            }
            // It may refuse a beginning whose end we still wait for.
            Ok(Parsed::Partial) => prop_assert!(!matches!(their_size, Ok(httparse::Status::Complete(_)))),
            Err(error) => if matches!(their_size, Ok(httparse::Status::Complete(_))) {
                prop_assert!(ONLY_WE_REFUSE.iter().any(|row| row.1 == error), "{:?} has no row", error);
            },
        }
        assert_same_at_every_split(&bytes);
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        assert_same_at_every_split(&bytes);
    }
}
