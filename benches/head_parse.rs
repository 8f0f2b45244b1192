//! The head parser beside `httparse`, on heads as boto3 sends them. Ours also bounds, checks and decides framing, which
//! `httparse` leaves to its caller.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const GET: &str = "GET /training-data/shard-000123.tar HTTP/1.1\r\nHost: s3.example.com:9000\r\nAccept-Encoding: identity\r\n\
    Range: bytes=8388608-16777215\r\nIf-Match: \"9a0364b9e99bb480dd25e1f0284c8555-13\"\r\nx-amz-checksum-mode: ENABLED\r\n\
    User-Agent: Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux#6.18.0 md/arch#x86_64 lang/python#3.13.5 \
    md/pyimpl#CPython m/Z,b,E,n cfg/retry-mode#standard Botocore/1.44.5\r\nX-Amz-Date: 20261122T101112Z\r\n\
    X-Amz-Content-SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\r\n\
    Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261122/us-east-1/s3/aws4_request, \
    SignedHeaders=host;if-match;range;x-amz-checksum-mode;x-amz-content-sha256;x-amz-date, \
    Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41\r\n\
    amz-sdk-invocation-id: 2b1c6f6e-7f5b-4a38-9d62-6a0d3f1f0a11\r\namz-sdk-request: attempt=1\r\n\r\n";

const PUT: &str = "PUT /training-data/checkpoints/step-1000/rank-7.bin?partNumber=12&uploadId=2~kXJmvZ HTTP/1.1\r\n\
    Host: s3.example.com:9000\r\nAccept-Encoding: identity\r\nx-amz-sdk-checksum-algorithm: CRC32\r\n\
    User-Agent: Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux#6.18.0 md/arch#x86_64 lang/python#3.13.5 \
    md/pyimpl#CPython m/Z,b,E,n cfg/retry-mode#standard Botocore/1.44.5\r\nExpect: 100-continue\r\n\
    Content-Encoding: aws-chunked\r\nTransfer-Encoding: chunked\r\nx-amz-trailer: x-amz-checksum-crc32\r\n\
    x-amz-decoded-content-length: 8388608\r\nX-Amz-Date: 20261122T101112Z\r\n\
    X-Amz-Content-SHA256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\n\
    Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261122/us-east-1/s3/aws4_request, \
    SignedHeaders=content-encoding;host;transfer-encoding;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;\
    x-amz-sdk-checksum-algorithm;x-amz-trailer, \
    Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41\r\n\
    amz-sdk-invocation-id: 2b1c6f6e-7f5b-4a38-9d62-6a0d3f1f0a11\r\namz-sdk-request: attempt=1\r\n\r\n";

fn head_parse(criterion: &mut Criterion) {
    for (name, head) in [("get", GET), ("put", PUT)] {
        let bytes = head.as_bytes();
        assert!(matches!(sluice::http::parse(bytes), Ok(sluice::http::Parsed::Complete { size, .. }) if size == bytes.len()));
        let mut group = criterion.benchmark_group(format!("head_parse/{name}"));
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("sluice", |bencher| bencher.iter(|| sluice::http::parse(black_box(bytes))));
        group.bench_function("httparse", |bencher| {
            bencher.iter(|| {
                let mut headers = [httparse::EMPTY_HEADER; sluice::limits::HEADER_COUNT_MAX];
                let mut request = httparse::Request::new(&mut headers);
                let status = request.parse(black_box(bytes));
                (status, request.headers.len())
            });
        });
        group.finish();
    }
}

criterion_group!(benches, head_parse);
criterion_main!(benches);
