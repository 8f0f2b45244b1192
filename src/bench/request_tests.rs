//! Requests against the signer of the AWS SDK for Rust, and their bodies against the decoder and verifier of the server.

use std::time::Duration;

use aws_credential_types::Credentials as SdkCredentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;

use super::payload::Payload;
use super::request::{Renderer, Request};
use super::settings::{Credentials, Operation, PayloadMode, Settings, Source, Trust};
use crate::auth::{self, RootCredentials, Scope, Service, SignedRequest, Verifier};
use crate::base::secret::Secret;
use crate::base::time::Timestamp;
use crate::body::{AwsChunked, Decoder, Sink};
use crate::digest::Sha256;
use crate::http::Framing;

const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const KEYS: [&str; 4] = ["plain", "a b/(1)+~.rnd", "ü//../%41&x=1", "sluice-bench/00000017"];

fn settings() -> Settings {
    Settings {
        operation: Some(Operation::Get),
        endpoint: "http://bench.example:9000".to_owned(),
        trust: Trust::System,
        region: "eu-west-1".to_owned(),
        credentials: Credentials {
            access_key: ACCESS_KEY.to_owned(),
            secret_key: Secret::new(SECRET_KEY.to_owned()),
            session_token: None,
        },
        bucket: "bkt".to_owned(),
        prefix: "p q/".to_owned(),
        folders: 1,
        objects: None,
        size: None,
        source: Source::Prepared,
        payload: PayloadMode::Unsigned,
        range: None,
        verify: false,
        max_keys: 1000,
        connections: 1,
        threads: 1,
        cores: Vec::new(),
        rate: None,
        warmup: Duration::ZERO,
        duration: Duration::ZERO,
        timeout: Duration::from_secs(1),
        keep: false,
        server_pids: Vec::new(),
    }
}

/// All bytes of a request, sent in pieces that end wherever `step` says.
fn wire(request: &Request, tail: &[u8], payload: &Payload, step: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < request.length(tail, payload) {
        let sent: Vec<u8> =
            request.slices(tail, payload, bytes.len() as u64).iter().flat_map(|slice| slice.iter().copied()).collect();
        assert!(!sent.is_empty(), "stuck at {}", bytes.len());
        bytes.extend_from_slice(&sent[..sent.len().min(step)]);
    }
    assert!(request.slices(tail, payload, bytes.len() as u64).is_empty());
    bytes
}

/// The parts of a request head.
struct Parsed {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body_from: usize,
}

fn parse(bytes: &[u8]) -> Parsed {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut fields);
    let body_from = request.parse(bytes).expect("a request").unwrap();
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("UTF-8");
    let headers = request.headers.iter().map(|field| (field.name.to_ascii_lowercase(), text(field.value))).collect();
    let (method, target) = (request.method.expect("a method").to_owned(), request.path.expect("a target").to_owned());
    Parsed { method, target, headers, body_from }
}

impl Parsed {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(of, _)| of == name).map_or("", |(_, value)| value)
    }

    /// What the SDK would put into `Authorization` for the same headers at the same time.
    fn authorization_by_the_sdk(&self) -> String {
        let names = self.header("authorization").split("SignedHeaders=").nth(1).and_then(|rest| rest.split(',').next());
        let names: Vec<&str> = names.expect("signed headers").split(';').collect();
        // The SDK writes date and hash itself.
        let signed = self.headers.iter().filter(|(name, _)| {
            names.contains(&name.as_str()) && !matches!(name.as_str(), "x-amz-date" | "x-amz-content-sha256")
        });
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let identity = SdkCredentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test").into();
        let date = Timestamp::parse_amz_date(self.header("x-amz-date")).expect("a date");
        let time = std::time::UNIX_EPOCH + Duration::from_secs(u64::try_from(date.seconds).expect("after 1970"));
        let params = SigningParams::builder().identity(&identity).region("eu-west-1").name("s3").time(time).settings(settings);
        let params = params.build().expect("complete").into();
        let body = match self.header("x-amz-content-sha256") {
            "UNSIGNED-PAYLOAD" => SignableBody::UnsignedPayload,
            hash => SignableBody::Precomputed(hash.to_owned()),
        };
        let url = format!("http://{}{}", self.header("host"), self.target);
        let headers = signed.map(|(name, value)| (name.as_str(), value.as_str()));
        let request = SignableRequest::new(&self.method, url, headers, body).expect("signable");
        let (instructions, _) = sign(request, &params).expect("signed").into_parts();
        let (headers, _) = instructions.into_parts();
        let found = headers.iter().find(|header| header.name() == "authorization");
        found.expect("an authorization").value().to_owned()
    }
}

#[test]
fn the_sdk_signs_the_same() {
    let mut renderer = Renderer::new(&settings(), "bench.example:9000".to_owned());
    for mode in [PayloadMode::Unsigned, PayloadMode::Signed, PayloadMode::Streaming] {
        let payload = Payload::new(1000, mode).unwrap();
        for operation in Operation::ALL {
            for key in KEYS {
                let request = renderer.operation(operation, key, &payload).unwrap();
                let parsed = parse(&wire(&request, b"", &payload, usize::MAX));
                assert_eq!(parsed.header("authorization"), parsed.authorization_by_the_sdk(), "{operation:?} {key}");
            }
        }
    }
}

#[test]
fn a_session_token_is_signed_with_the_rest() {
    let mut with_token = settings();
    with_token.credentials.session_token = Some(Secret::new("token/+=".to_owned()));
    let payload = Payload::new(10, PayloadMode::Streaming).unwrap();
    let request = Renderer::new(&with_token, "h".to_owned()).operation(Operation::Put, "k", &payload).unwrap();
    let parsed = parse(&wire(&request, b"", &payload, usize::MAX));
    assert!(parsed.header("authorization").contains(";x-amz-security-token,"), "{}", parsed.header("authorization"));
    assert_eq!(parsed.authorization_by_the_sdk(), parsed.header("authorization"));
}

#[test]
fn a_ranged_get_says_which_bytes_behind_what_is_signed() {
    let ranged = Settings { range: Some(10), ..settings() };
    let payload = Payload::new(100, PayloadMode::Unsigned).unwrap();
    let request = Renderer::new(&ranged, "h".to_owned()).operation(Operation::Get, "k", &payload).unwrap();
    assert!(request.is_open);
    for step in [1, 7, usize::MAX] {
        let bytes = wire(&request, b"Range: bytes=20-29\r\n\r\n", &payload, step);
        let parsed = parse(&bytes);
        assert_eq!((parsed.header("range"), parsed.body_from), ("bytes=20-29", bytes.len()));
    }
}

/// Hears the chunks of an upload and checks each signature.
struct Chunks {
    verifier: auth::ChunkVerifier,
    signature: [u8; 64],
    sha256: Sha256,
    sizes: Vec<u64>,
}

impl Sink for Chunks {
    fn chunk_start(&mut self, size: u64, signature: Option<&[u8; 64]>) {
        self.sizes.push(size);
        self.signature = *signature.expect("a signed chunk");
        self.sha256 = Sha256::new();
    }

    fn data(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
    }

    fn chunk_end(&mut self) {
        let sha256 = std::mem::take(&mut self.sha256).finish();
        assert_eq!(self.verifier.chunk(&sha256, &self.signature), Ok(()), "chunk {}", self.sizes.len());
    }
}

#[test]
fn streamed_uploads_are_what_a_server_verifies() {
    for size in [0, 1, 65_535, 65_536, 65_537, 200_000] {
        let payload = Payload::new(size, PayloadMode::Streaming).unwrap();
        let mut renderer = Renderer::new(&settings(), "bench.example:9000".to_owned());
        let request = renderer.operation(Operation::Put, "k", &payload).unwrap();
        let bytes = wire(&request, b"", &payload, 50_000);
        assert_eq!(bytes, wire(&request, b"", &payload, usize::MAX));
        let parsed = parse(&bytes);
        let fields: Vec<_> = parsed.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let (path, host) = (parsed.target.as_bytes(), parsed.header("host").as_bytes());
        let signed = SignedRequest { method: "PUT", path, query: b"", host, headers: &fields[..], host_bucket: None };
        let root = RootCredentials::new(
            ACCESS_KEY.to_owned(),
            Secret::new(SECRET_KEY.to_owned()),
            std::sync::Arc::new(crate::auth::first_account(ACCESS_KEY)),
        );
        let scope = Scope { region: Some("eu-west-1"), service: Service::S3, now: Timestamp::now(), accepts_version_2: false };
        let authenticated = Verifier::default().authenticate(&signed, &root, &scope).expect("believed");
        let auth::Payload::StreamingSigned(verifier) = authenticated.payload else { panic!("another payload") };
        let mut chunks = Chunks { verifier: *verifier, signature: [0; 64], sha256: Sha256::new(), sizes: Vec::new() };
        let mut body = bytes[parsed.body_from..].to_vec();
        assert_eq!(parsed.header("content-length"), body.len().to_string());
        assert_eq!(parsed.header("x-amz-decoded-content-length"), size.to_string());
        let mut decoder = Decoder::new(Framing::Length(body.len() as u64), AwsChunked::Signed, Some(size));
        let decoded = decoder.decode(&mut body, &mut chunks).expect("framed");
        assert!(decoder.is_finished());
        assert_eq!(Sha256::of(&body[..decoded.payload]), Sha256::of(payload.slice(0, size)), "{size}");
        assert_eq!(chunks.sizes.pop(), Some(0));
        assert!(chunks.sizes.iter().rev().skip(1).all(|size| *size == 65_536));
    }
}
