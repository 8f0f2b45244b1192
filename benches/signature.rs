//! What does it cost to know who sends a request? One verification per request, for the forms of the clients that a bar is
//! set for: pre-signed GET (wrk), GET signed in the header, and a chunk of a signed upload (warp).

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

use sluice::auth::{Payload, RootCredentials, Scope, SignedRequest, Verifier};
use sluice::base::secret::Secret;
use sluice::base::time::Timestamp;

type Fields = [(&'static [u8], &'static [u8])];

const HOST: &[u8] = b"examplebucket.s3.amazonaws.com";
const PRESIGNED: &[u8] = b"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2F\
    aws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=\
    aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
const GET: &Fields = &[
    (b"Host", HOST),
    (b"User-Agent", b"aws-cli/1.46.3"),
    (b"Range", b"bytes=0-9"),
    (b"x-amz-date", b"20130524T000000Z"),
    (b"x-amz-content-sha256", b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    (
        b"Authorization",
        b"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
          SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
          Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
];
const STREAMING: &Fields = &[
    (b"Host", b"s3.amazonaws.com"),
    (b"x-amz-date", b"20130524T000000Z"),
    (b"x-amz-storage-class", b"REDUCED_REDUNDANCY"),
    (b"Content-Encoding", b"aws-chunked"),
    (b"x-amz-decoded-content-length", b"66560"),
    (b"Content-Length", b"66824"),
    (b"x-amz-content-sha256", b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
    (
        b"Authorization",
        b"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
          SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;\
          x-amz-storage-class,Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    ),
];

fn signature(criterion: &mut Criterion) {
    let secret = Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned());
    let account = std::sync::Arc::new(sluice::auth::first_account("AKIAIOSFODNN7EXAMPLE"));
    let root = RootCredentials::new("AKIAIOSFODNN7EXAMPLE".to_owned(), secret, account);
    let now = Timestamp::parse_amz_date("20130524T000000Z").expect("a date");
    let scope = Scope { region: Some("us-east-1"), service: sluice::auth::Service::S3, now, accepts_version_2: false };
    let header = SignedRequest { method: "GET", path: b"/test.txt", query: b"", host: HOST, host_bucket: None, headers: GET };
    let presigned = SignedRequest { query: PRESIGNED, headers: &GET[..2], ..header };
    let upload = SignedRequest {
        method: "PUT",
        path: b"/examplebucket/chunkObject.txt",
        query: b"",
        host: b"s3.amazonaws.com",
        host_bucket: None,
        headers: STREAMING,
    };
    let mut verifier = Verifier::default();
    for (name, request) in [("header", &header), ("presigned", &presigned), ("streaming head", &upload)] {
        let verify = |verifier: &mut Verifier| verifier.authenticate(black_box(request), &root, &scope).expect(name);
        criterion.bench_function(&format!("{name}, key remembered"), |b| b.iter(|| verify(&mut verifier)));
        criterion.bench_function(&format!("{name}, key derived"), |b| b.iter(|| verify(&mut Verifier::default())));
    }
    let seed = verifier.authenticate(&upload, &root, &scope).expect("the documentation's example");
    let Payload::StreamingSigned(chunks) = seed.payload else { panic!("a streaming upload") };
    let digest = [0xbf; 32];
    criterion.bench_function("chunk", |b| {
        let mut chunks = chunks.clone();
        b.iter(|| chunks.chunk(black_box(&digest), black_box(&[b'0'; 64])))
    });
}

criterion_group!(benches, signature);
criterion_main!(benches);
