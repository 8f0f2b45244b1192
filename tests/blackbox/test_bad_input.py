"""What no client should send: each gets S3's documented error, leaves no temporary behind and loses nothing.

Error codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

import pytest

from conftest import BUCKET
from harness import sigv4
from harness.server import CREDENTIALS, eventually
from harness.sigv4 import Request
from harness.wire import complete_document

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def old(shared):
    """An object that no test here may change. It is written once: what was replaced stays open for a second."""
    assert shared.client().put(BUCKET, "old", b"old").status == 200


@pytest.fixture(autouse=True)
def nothing_is_left(shared, old):
    """After each test the object `old` is as it was, and no temporary remains."""
    yield
    read = shared.client().get(BUCKET, "old")
    assert (read.status, read.body) == (200, b"old")
    assert eventually(lambda: shared.leftovers() == []), shared.leftovers()


def expect(response, status: int, *codes: str) -> None:
    assert response.status == status, response
    assert response.code in codes, response


# Bodies.


def test_body_shorter_than_declared(shared):
    client = shared.client()
    for size in (10, 200_000, 3 * MIB):
        request = client.signed("PUT", f"/{BUCKET}/old", bytes(size), payload_hash=sigv4.UNSIGNED)
        with client.connect() as connection:
            connection.send(request.head() + request.body[: size - 1])
            connection.half_close()
            # The peer cannot tell a slow client from a gone one but by the FIN: an answer is allowed, success is not.
            try:
                response = connection.response()
                assert response.status == 400 and response.code in ("IncompleteBody", "RequestTimeout"), response
            except Exception as gone:
                assert "ConnectionGone" in type(gone).__name__


def test_body_longer_than_declared(shared):
    """What follows the declared length is the next request, and not a good one."""
    client = shared.client()
    request = client.signed("PUT", f"/{BUCKET}/longer", b"12345", payload_hash=sigv4.UNSIGNED)
    with client.connect() as connection:
        connection.send(request.encode() + b"67890\r\n\r\n")
        assert connection.response().status == 200
        assert connection.response().status == 400
        assert connection.is_closed_by_peer()
    assert client.get(BUCKET, "longer").body == b"12345"


def test_a_refusal_does_not_wait_for_the_body(shared):
    """The client has sent no byte of it, and waits for the answer. The connection lives on when it sends the rest."""
    client = shared.client()
    forged = client.signed("PUT", f"/{BUCKET}/refused", b"x" * 1000, payload_hash=sigv4.UNSIGNED)
    forged.headers["Authorization"] = forged.headers["Authorization"][:-8] + "00000000"
    with client.connect() as connection:
        connection.send(forged.head())
        expect(connection.response(), 403, "SignatureDoesNotMatch")
        connection.send(forged.body + client.signed("GET", f"/{BUCKET}/old").encode())
        assert connection.response().body == b"old"


@pytest.mark.parametrize("declared", [4, 6])
@pytest.mark.parametrize("mode", [sigv4.STREAMING, sigv4.STREAMING_UNSIGNED_TRAILER])
def test_decoded_length_that_is_not_true(shared, mode, declared):
    client = shared.client()
    request = Request("PUT", f"/{BUCKET}/old", headers={"x-amz-decoded-content-length": str(declared)})
    if mode != sigv4.STREAMING:
        request.headers["x-amz-trailer"] = "x-amz-checksum-crc32"
    seed = sigv4.sign(request, CREDENTIALS, client.host, mode)
    signed = sigv4.sign_chunks(b"12345", 65536, CREDENTIALS, request.headers["x-amz-date"], seed)
    chunks = signed if mode == sigv4.STREAMING else sigv4.plain_chunks(b"12345", 65536)
    trailer = b"" if mode == sigv4.STREAMING else f"x-amz-checksum-crc32:{sigv4.crc32_base64(b'12345')}\r\n".encode()
    request.body = b"".join(chunk.encode() for chunk in chunks) + trailer + b"\r\n"
    request.headers["Content-Length"] = str(len(request.body))
    response = client.exchange(request)
    expect(response, 400, "IncompleteBody")


@pytest.mark.parametrize(
    "line", [b"5;chunk-signature=\r\n", b"5 \r\n", b"-5\r\n", b"0x5\r\n", b"5;" + b"x" * 2000 + b"\r\n", b"fffffffffffffffff\r\n", b"\r\n"]
)
def test_malformed_chunk_lines(shared, line):
    client = shared.client()
    request = Request("PUT", f"/{BUCKET}/old", headers={"x-amz-decoded-content-length": "5", "x-amz-trailer": "x-amz-checksum-crc32"})
    sigv4.sign(request, CREDENTIALS, client.host, sigv4.STREAMING_UNSIGNED_TRAILER)
    request.body = line + b"12345\r\n0\r\n\r\n"
    request.headers["Content-Length"] = str(len(request.body))
    expect(client.exchange(request), 400, "IncompleteBody")


@pytest.mark.parametrize("announced", [None, "x-amz-checksum-crc32"])
@pytest.mark.parametrize("mode", [sigv4.STREAMING_TRAILER, sigv4.STREAMING_UNSIGNED_TRAILER])
def test_a_checksum_in_a_trailer_that_was_not_announced(shared, mode, announced):
    """What nobody computed must not be taken for verified, beside the announced one neither."""
    client = shared.client()
    request = Request("PUT", f"/{BUCKET}/old", headers={"x-amz-decoded-content-length": "5"})
    if announced:
        request.headers["x-amz-trailer"] = announced
    seed = sigv4.sign(request, CREDENTIALS, client.host, mode)
    date = request.headers["x-amz-date"]
    wrong = "x-amz-checksum-crc32c:AAAAAA==" if announced else f"x-amz-checksum-crc32:{sigv4.crc32_base64(b'54321')}"
    right = [f"x-amz-checksum-crc32:{sigv4.crc32_base64(b'12345')}"] if announced else []
    lines = "\n".join([*right, wrong])
    if mode == sigv4.STREAMING_TRAILER:
        chunks = sigv4.sign_chunks(b"12345", 65536, CREDENTIALS, date, seed)
        proof = sigv4.trailer_signature(lines, CREDENTIALS, date, chunks[-1].signature)
        lines += f"\nx-amz-trailer-signature:{proof}"
    else:
        chunks = sigv4.plain_chunks(b"12345", 65536)
    request.body = b"".join(chunk.encode() for chunk in chunks) + lines.replace("\n", "\r\n").encode() + b"\r\n\r\n"
    request.headers["Content-Length"] = str(len(request.body))
    expect(client.exchange(request), 400, "MalformedTrailerError")


def test_neither_length_nor_chunks(shared):
    client = shared.client()
    request = client.signed("PUT", f"/{BUCKET}/old", payload_hash=sigv4.UNSIGNED)
    del request.headers["Content-Length"]
    expect(client.exchange(request), 411, "MissingContentLength")


def test_larger_than_one_put_may_be(shared):
    client = shared.client()
    request = client.signed("PUT", f"/{BUCKET}/old", payload_hash=sigv4.UNSIGNED)
    request.headers["Content-Length"] = str(5 * 1024 * MIB + 1)
    request.headers["Expect"] = "100-continue"
    expect(client.exchange(request), 400, "EntityTooLarge")


@pytest.mark.parametrize(
    "headers, codes",
    [
        ({"Content-MD5": sigv4.md5_base64(b"other")}, ("BadDigest",)),
        ({"Content-MD5": "not base64"}, ("InvalidDigest",)),
        ({"Content-MD5": "AAAA"}, ("InvalidDigest",)),
        ({"x-amz-checksum-crc32": "AAAAAA=="}, ("BadDigest", "XAmzContentChecksumMismatch")),
        ({"x-amz-checksum-crc32c": "AAAAAA=="}, ("BadDigest", "XAmzContentChecksumMismatch")),
        ({"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}, ("BadDigest", "XAmzContentChecksumMismatch")),
        ({"x-amz-checksum-sha1": "A" * 27 + "="}, ("BadDigest", "XAmzContentChecksumMismatch")),
        ({"x-amz-checksum-sha256": "A" * 43 + "="}, ("BadDigest", "XAmzContentChecksumMismatch")),
        ({"x-amz-checksum-crc32": "AAAA"}, ("InvalidRequest",)),
        ({"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-crc32c": "AAAAAA=="}, ("InvalidRequest",)),
    ],
)
@pytest.mark.parametrize("size", [5, 300_000], ids=["small", "large"])
def test_wrong_digests(shared, headers, codes, size):
    client = shared.client()
    expect(client.request("PUT", f"/{BUCKET}/old", bytes(range(250)) * (size // 250 + 1), headers=headers), 400, *codes)


# Heads.


def test_head_and_target_too_large(shared):
    client = shared.client()
    response = client.exchange(b"GET /bucket/" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert response.status == 414
    fields = b"".join(b"X-Filler-%d: %b\r\n" % (i, b"y" * 1000) for i in range(80))
    assert client.exchange(b"GET /bucket/x HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n").status == 431
    assert client.exchange(b"GET /bucket/x HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 5000 + b"\r\n").status == 431


AMBIGUOUS = {
    "two lengths": b"PUT /bucket/old HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "the same length twice": b"PUT /bucket/old HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": b"PUT /bucket/old HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
    "a signed length": b"PUT /bucket/old HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
    "a negative length": b"PUT /bucket/old HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "a length of 2^64": b"PUT /bucket/old HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n",
    "length and chunks": b"PUT /bucket/old HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown coding": b"PUT /bucket/old HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked not last": b"PUT /bucket/old HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "bare line feeds": b"GET /bucket/old HTTP/1.1\nHost: a\n\n",
    "one bare line feed": b"GET /bucket/old HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "a bare carriage return": b"GET /bucket/old HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
    "a folded field": b"GET /bucket/old HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
    "space before the colon": b"GET /bucket/old HTTP/1.1\r\nHost : a\r\n\r\n",
    "space before the first field": b"GET /bucket/old HTTP/1.1\r\n Host: a\r\n\r\n",
    "a NUL in a value": b"GET /bucket/old HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n",
    "a NUL in the target": b"GET /bucket/o\0d HTTP/1.1\r\nHost: a\r\n\r\n",
    "no host": b"GET /bucket/old HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /bucket/old HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no version": b"GET /bucket/old\r\nHost: a\r\n\r\n",
    "a space in the target": b"GET /bucket/old more HTTP/1.1\r\nHost: a\r\n\r\n",
    "an empty field name": b"GET /bucket/old HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n",
    "a tls hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_two_parsers_could_read_differently(shared, name):
    """Refused, and the connection closes: what follows on it is nobody's request (RFC 9112 sections 2.2, 5 and 6.3)."""
    client = shared.client()
    with client.connect() as connection:
        connection.send(AMBIGUOUS[name] + b"GET /health/ready HTTP/1.1\r\nHost: a\r\n\r\n")
        response = connection.response()
        # A coding that is not understood is 501 (RFC 9112 section 6.1).
        assert response.status in ((400, 501) if b"Transfer-Encoding" in AMBIGUOUS[name] else (400,)), response
        assert connection.is_closed_by_peer()


@pytest.mark.parametrize("version, status", [(b"HTTP/2.0", 505), (b"HTTP/0.9", 505)])
def test_other_versions(shared, version, status):
    response = shared.client().exchange(b"GET /bucket/old " + version + b"\r\nHost: a\r\n\r\n")
    assert response.status in (400, status), response


# Documents.

DELETE_ONE = "<Delete><Object><Key>{}</Key></Object></Delete>"


def delete_many(client, document: bytes):
    return client.request("POST", f"/{BUCKET}", document, [("delete", "")], {"Content-MD5": sigv4.md5_base64(document)})


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"not xml",
        b"<Delete>",
        b"<Delete></Delete>",
        b"<Other><Object><Key>old</Key></Object></Other>",
        b"<Delete><Object></Object></Delete>",
        b"<Delete><Object><Key>old</Key></Object>",
        b'<!DOCTYPE Delete [<!ENTITY k "old">]><Delete><Object><Key>&k;</Key></Object></Delete>',
        b'<!DOCTYPE d SYSTEM "file:///etc/passwd"><Delete><Object><Key>old</Key></Object></Delete>',
        b"<Delete><Object><Key>&undefined;</Key></Object></Delete>",
        b"<a>" * 100_000,
        b"\xff\xfe<\x00D\x00",
        "<Delete>{}</Delete>".format("<Object><Key>k</Key></Object>" * 1001).encode(),
    ],
    ids=lambda document: document[:24].decode("latin-1") + f"-{len(document)}",
)
def test_malformed_documents(shared, document):
    expect(delete_many(shared.client(), document), 400, "MalformedXML" if document else "MissingRequestBodyError")


def test_a_thousand_keys_are_still_allowed(shared):
    client = shared.client()
    response = delete_many(client, "<Delete>{}</Delete>".format("<Object><Key>none</Key></Object>" * 1000).encode())
    assert response.status == 200, response


def test_a_document_over_the_bound(shared):
    document = b"<Delete>" + b" " * (5 * MIB) + b"<Object><Key>old</Key></Object></Delete>"
    response = delete_many(shared.client(), document)
    assert response.status in (400, 413) and response.code in ("MalformedXML", "EntityTooLarge", "MaxMessageLengthExceeded"), response


def test_empty_and_overlong_keys(shared):
    client = shared.client()
    response = delete_many(client, DELETE_ONE.format("").encode())
    assert response.status == 400 or b"<Error>" in response.body, response
    expect(client.put(BUCKET, "k" * 1025), 400, "KeyTooLongError")
    expect(client.put(BUCKET, "ü" * 513), 400, "KeyTooLongError")
    assert client.put(BUCKET, "k" * 1024).status == 200


def test_delete_without_a_digest(shared):
    client = shared.client()
    response = client.request("POST", f"/{BUCKET}", DELETE_ONE.format("old").encode(), [("delete", "")])
    # S3 wants Content-MD5 or a checksum; a signed payload hash proves as much, and clients rely on either.
    assert response.status in (200, 400), response
    if response.status == 200:
        assert client.put(BUCKET, "old", b"old").status == 200


@pytest.mark.parametrize("key", ["%zz", "%", "%f", "a%00b"])
def test_keys_that_no_encoding_gives(shared, key):
    client = shared.client()
    request = client.signed("GET", f"/{BUCKET}/{key}")
    assert client.exchange(request).status in (400, 403, 404)


@pytest.mark.parametrize("bucket", ["ab", "A" * 5, "a" * 64, "under_score", "-dash", "dash-", "a..b", "192.168.0.1", ".sluice", "xn--a"])
def test_illegal_bucket_names(shared, bucket):
    response = shared.client().request("PUT", f"/{bucket}")
    expect(response, 400, "InvalidBucketName")


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("PUT", [("If-None-Match", b'"x"'), ("If-None-Match", b"*")]),
        ("PUT", [("If-Match", b'"x"'), ("if-match", b"*")]),
        ("PUT", [("Content-MD5", sigv4.md5_base64(b"new").encode()), ("Content-MD5", sigv4.md5_base64(b"other").encode())]),
        ("PUT", [("x-amz-copy-source", b"/bucket/old"), ("x-amz-copy-source", b"/bucket/other")]),
        ("GET", [("If-Match", b'"x"'), ("If-Match", b"*")]),
        ("GET", [("Range", b"bytes=0-0"), ("Range", b"bytes=1-1")]),
        ("GET", [("If-Match", b'"\xff"')]),
        ("HEAD", [("If-None-Match", b"*"), ("If-None-Match", b'"x"')]),
    ],
)
def test_what_must_come_once_comes_twice_or_is_no_text(shared, method, headers):
    """Two parsers could each read another of them; a write against its sender's condition is the worst of it."""
    client = shared.client()
    request = client.signed(method, f"/{BUCKET}/old", b"new" if method == "PUT" else b"", payload_hash=sigv4.UNSIGNED)
    line, _, rest = request.encode().partition(b"\r\n")
    more = b"".join(name.encode() + b": " + value + b"\r\n" for name, value in headers)
    with client.connect() as connection:
        connection.send(line + b"\r\n" + more + rest)
        answer = connection.response(method)
    # What is S3's own must be signed, and is not here.
    assert answer.status == (403 if headers[0][0].startswith("x-amz") else 400)
    if method != "HEAD" and answer.status == 400:
        assert answer.code in ("InvalidArgument", "InvalidRequest")


def test_metadata_over_the_bound(shared):
    client = shared.client()
    assert client.put(BUCKET, "meta", b"x", **{"x_amz_meta_a": "v" * 2040}).status == 200
    expect(client.put(BUCKET, "old", b"x", **{"x_amz_meta_a": "v" * 2050}), 400, "MetadataTooLarge")


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-server-side-encryption": "AES256"},
        {"x-amz-server-side-encryption-customer-algorithm": "AES256"},
        {"x-amz-tagging": "a=b"},
        {"x-amz-acl": "public-read"},
        {"x-amz-grant-read": 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'},
        {"x-amz-object-lock-mode": "GOVERNANCE"},
        {"x-amz-object-lock-legal-hold": "ON"},
        {"x-amz-storage-class": "NO_SUCH_CLASS"},
        {"x-amz-website-redirect-location": "/elsewhere"},
        {"x-amz-checksum-xxhash64": "AAAAAAAAAAA="},
        {"x-amz-write-offset-bytes": "5"},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_a_request_header_is_never_ignored(shared, headers):
    """What is asked for and not built is refused, so that nobody takes an unencrypted object for an encrypted one."""
    response = shared.client().request("PUT", f"/{BUCKET}/old", b"x", headers=headers)
    assert 400 <= response.status <= 501 and response.code, response


# Ranges.


@pytest.mark.parametrize("value", ["bytes=3-", "bytes=10-20", "bytes=-0"])
def test_ranges_outside_the_object(shared, value):
    response = shared.client().get(BUCKET, "old", range=value)
    expect(response, 416, "InvalidRange")
    assert response.headers["content-range"] == "bytes */3"


@pytest.mark.parametrize("value", ["bytes=2-1", "bytes=a-b", "lines=0-1", "bytes=", "bytes=0-0,2-2"])
def test_ranges_that_are_none(shared, value):
    """RFC 9110 section 14.2: an invalid or unsupported Range is ignored."""
    response = shared.client().get(BUCKET, "old", range=value)
    assert (response.status, response.body) == (200, b"old"), response


# Multipart.


@pytest.fixture
def upload(shared):
    client = shared.client()
    upload = client.start_upload(BUCKET, "old")
    yield upload
    client.request("DELETE", f"/{BUCKET}/old", query=[("uploadId", upload)])


@pytest.mark.parametrize("number", ["0", "10001", "-1", "x", "", "99999999999999999999"])
def test_part_numbers_out_of_range(shared, upload, number):
    response = shared.client().request("PUT", f"/{BUCKET}/old", b"x", [("partNumber", number), ("uploadId", upload)])
    expect(response, 400, "InvalidArgument")


def test_parts_too_small(shared, upload):
    client = shared.client()
    parts = [(n, client.put_part(BUCKET, "old", upload, n, b"small").etag) for n in (1, 2)]
    expect(client.complete(BUCKET, "old", upload, parts), 400, "EntityTooSmall")


def test_parts_out_of_order_or_unknown(shared, upload):
    client = shared.client()
    etags = {n: client.put_part(BUCKET, "old", upload, n, bytes(5 * MIB)).etag for n in (1, 2)}
    expect(client.complete(BUCKET, "old", upload, [(2, etags[2]), (1, etags[1])]), 400, "InvalidPartOrder")
    expect(client.complete(BUCKET, "old", upload, [(1, etags[1]), (1, etags[1])]), 400, "InvalidPartOrder")
    expect(client.complete(BUCKET, "old", upload, [(1, etags[1]), (3, etags[2])]), 400, "InvalidPart")
    expect(client.complete(BUCKET, "old", upload, [(1, '"' + "0" * 32 + '"')]), 400, "InvalidPart")
    expect(client.complete(BUCKET, "old", upload, []), 400, "MalformedXML")
    document = b"<!DOCTYPE x>" + complete_document([(1, etags[1])])
    expect(client.request("POST", f"/{BUCKET}/old", document, [("uploadId", upload)]), 400, "MalformedXML")


@pytest.mark.parametrize("unknown", ["nothing", "../../etc", "a/b", "", "x" * 5000, "%00"])
def test_unknown_upload_on_an_existing_key(shared, unknown):
    client = shared.client()
    query = [("uploadId", unknown)]
    answers = [
        client.request("PUT", f"/{BUCKET}/old", b"x", [("partNumber", "1"), *query]),
        client.request("GET", f"/{BUCKET}/old", query=query),
        client.request("DELETE", f"/{BUCKET}/old", query=query),
        client.complete(BUCKET, "old", unknown, [(1, '"' + "0" * 32 + '"')]),
    ]
    for response in answers:
        assert response.status in (404, 400), response
        assert response.code in ("NoSuchUpload", "InvalidArgument", "InvalidRequest"), response


def test_an_upload_belongs_to_its_key(shared, upload):
    client = shared.client()
    expect(client.put_part(BUCKET, "other", upload, 1, b"x"), 404, "NoSuchUpload")


# Features that are not built.

UNCONFIGURED = {
    "versioning": (200, None),
    "acl": (200, None),
    "location": (200, None),
    "requestPayment": (200, None),
    "logging": (200, None),
    "notification": (200, None),
    "accelerate": (200, None),
    "tagging": (404, "NoSuchTagSet"),
    "policy": (404, "NoSuchBucketPolicy"),
    "policyStatus": (200, None),
    "lifecycle": (404, "NoSuchLifecycleConfiguration"),
    "cors": (404, "NoSuchCORSConfiguration"),
    "website": (404, "NoSuchWebsiteConfiguration"),
    "replication": (404, "ReplicationConfigurationNotFoundError"),
    "encryption": (404, "ServerSideEncryptionConfigurationNotFoundError"),
    "object-lock": (404, "ObjectLockConfigurationNotFoundError"),
    "publicAccessBlock": (404, "NoSuchPublicAccessBlockConfiguration"),
    "ownershipControls": (404, "OwnershipControlsNotFoundError"),
}


@pytest.mark.parametrize("feature", UNCONFIGURED)
def test_reads_of_an_unconfigured_bucket(shared, feature):
    status, code = UNCONFIGURED[feature]
    response = shared.client().request("GET", f"/{BUCKET}", query=[(feature, "")])
    assert (response.status, response.code) == (status, code), response


@pytest.mark.parametrize("feature", sorted(set(UNCONFIGURED) - {"location", "policyStatus"}))
def test_writes_of_what_is_not_built(shared, feature):
    response = shared.client().request("PUT", f"/{BUCKET}", b"<a/>", [(feature, "")])
    assert response.status in (400, 501), response
    assert response.code in ("NotImplemented", "MalformedXML", "MalformedPolicy", "MethodNotAllowed"), response


def test_errors_carry_what_support_asks_for(shared):
    response = shared.client().get(BUCKET, "not-there")
    expect(response, 404, "NoSuchKey")
    assert response.field("Key") == "not-there"
    assert response.field("RequestId") == response.headers["x-amz-request-id"]
    assert response.headers["server"] == "Sluice"
    assert response.headers["content-type"] == "application/xml"
    assert response.headers["date"].endswith(" GMT")
