"""Signature Version 4: every form that clients send is accepted, and everything else is refused before it changes anything."""

from __future__ import annotations

import base64
import hashlib

import pytest

from conftest import BUCKET
from harness import sigv4
from harness.server import CREDENTIALS
from harness.sigv4 import Credentials, Request
from harness.wire import complete_document

BODY = bytes(range(256)) * 700  # several chunks of 64 KiB, the last one short
FORGED = Credentials(CREDENTIALS.access_key, "not-the-secret")
STREAMING_MODES = (sigv4.STREAMING, sigv4.STREAMING_TRAILER, sigv4.STREAMING_UNSIGNED_TRAILER)


@pytest.mark.parametrize("payload_hash", [None, sigv4.UNSIGNED])
@pytest.mark.parametrize("body", [b"", b"x", BODY], ids=["empty", "byte", "large"])
def test_signed_by_header(shared, payload_hash, body):
    client = shared.client()
    response = client.request("PUT", f"/{BUCKET}/header", body, payload_hash=payload_hash)
    assert response.status == 200, response
    assert client.get(BUCKET, "header").body == body


def test_signed_by_query(shared):
    client = shared.client()
    assert client.exchange(client.presigned("PUT", f"/{BUCKET}/query", body=BODY)).status == 200
    response = client.exchange(client.presigned("GET", f"/{BUCKET}/query"))
    assert (response.status, response.body) == (200, BODY)
    assert client.exchange(client.presigned("HEAD", f"/{BUCKET}/query")).status == 200


@pytest.mark.parametrize("mode", STREAMING_MODES)
@pytest.mark.parametrize("size", [8 * 1024, 64 * 1024, 1024 * 1024])
@pytest.mark.parametrize("body", [b"", b"x", BODY], ids=["empty", "byte", "large"])
def test_chunked(shared, mode, size, body):
    client = shared.client()
    request = sigv4.streaming_put(f"/{BUCKET}/chunked", body, CREDENTIALS, client.host, mode, size)
    response = client.exchange(request)
    assert response.status == 200, response
    read = client.get(BUCKET, "chunked")
    assert read.body == body
    assert "aws-chunked" not in read.headers.get("content-encoding", "")
    assert read.etag == f'"{hashlib.md5(body).hexdigest()}"'


def test_chunked_keeps_the_other_encodings(shared):
    client = shared.client()
    request = Request("PUT", f"/{BUCKET}/gzip", headers={"Content-Encoding": "gzip,aws-chunked"})
    request.headers["x-amz-decoded-content-length"] = "3"
    request.headers["x-amz-trailer"] = "x-amz-checksum-crc32"
    sigv4.sign(request, CREDENTIALS, client.host, sigv4.STREAMING_UNSIGNED_TRAILER)
    request.body = f"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:{sigv4.crc32_base64(b'abc')}\r\n\r\n".encode()
    request.headers["Content-Length"] = str(len(request.body))
    assert client.exchange(request).status == 200
    assert client.get(BUCKET, "gzip").headers["content-encoding"] == "gzip"


def test_transfer_chunked_around_aws_chunked(shared):
    """As boto3 sends it over TLS: no Content-Length, HTTP chunks that do not match the aws-chunks."""
    client = shared.client()
    request = sigv4.streaming_put(f"/{BUCKET}/double", BODY, CREDENTIALS, client.host, sigv4.STREAMING_UNSIGNED_TRAILER, 16384)
    inner, request.body = request.body, b""
    del request.headers["Content-Length"]
    request.headers["Transfer-Encoding"] = "chunked"
    pieces = [inner[i : i + 5000] for i in range(0, len(inner), 5000)]
    outer = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    response = client.exchange(request.encode() + outer)
    assert response.status == 200, response
    assert client.get(BUCKET, "double").body == BODY


MUTATIONS = {
    "create bucket": ("PUT", "/new-bucket", [], b""),
    "delete bucket": ("DELETE", "/empty-bucket", [], b""),
    "put": ("PUT", f"/{BUCKET}/victim", [], b"forged"),
    "copy": ("PUT", f"/{BUCKET}/victim", [], b""),
    "delete": ("DELETE", f"/{BUCKET}/victim", [], b""),
    "delete many": ("POST", f"/{BUCKET}", [("delete", "")], b"<Delete><Object><Key>victim</Key></Object></Delete>"),
    "create upload": ("POST", f"/{BUCKET}/victim", [("uploads", "")], b""),
    "put part": ("PUT", f"/{BUCKET}/victim", [("partNumber", "1"), ("uploadId", "UPLOAD")], b"forged"),
    "copy part": ("PUT", f"/{BUCKET}/victim", [("partNumber", "1"), ("uploadId", "UPLOAD")], b""),
    "complete": ("POST", f"/{BUCKET}/victim", [("uploadId", "UPLOAD")], b"DOCUMENT"),
    "abort": ("DELETE", f"/{BUCKET}/victim", [("uploadId", "UPLOAD")], b""),
}
AUTHENTICATIONS = ["header", "unsigned payload", "query", *STREAMING_MODES, "anonymous", "unknown key", "version 2", "bearer"]


@pytest.fixture(scope="module")
def victim(shared):
    """An object, an empty bucket and an upload with one part, which no forged request may touch."""
    client = shared.client()
    client.create_bucket("empty-bucket")
    assert client.put(BUCKET, "victim", b"original").status == 200
    assert client.put(BUCKET, "source", b"source").status == 200
    upload = client.start_upload(BUCKET, "victim")
    etag = client.put_part(BUCKET, "victim", upload, 1, b"part").etag
    return upload, etag


@pytest.mark.parametrize("authentication", AUTHENTICATIONS)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_forged_signature_changes_nothing(shared, victim, mutation, authentication):
    client = shared.client()
    upload, etag = victim
    request = forge(client.host, mutation, authentication, upload, etag)
    with client.connect() as connection:
        connection.send(request.encode())
        response = connection.response(request.method)
    # A form that the verb does not have may be refused as such, before its signature is looked at.
    other_form = authentication in ("version 2", "bearer") or (authentication in STREAMING_MODES and "put" not in mutation)
    assert response.status in ((400, 403, 501) if other_form else (403,)), response
    assert client.get(BUCKET, "victim").body == b"original"
    assert client.request("HEAD", "/empty-bucket").status == 200
    assert client.request("HEAD", "/new-bucket").status == 404
    parts = client.request("GET", f"/{BUCKET}/victim", query=[("uploadId", upload)])
    assert parts.status == 200 and parts.body.count(b"<Part>") == 1 and etag.strip('"').encode() in parts.body


def forge(host: str, mutation: str, authentication: str, upload: str, etag: str) -> Request:
    method, target, query, body = MUTATIONS[mutation]
    query = [(name, upload if value == "UPLOAD" else value) for name, value in query]
    body = complete_document([(1, etag)]) if body == b"DOCUMENT" else body
    headers = {"x-amz-copy-source": f"/{BUCKET}/source"} if mutation.startswith("copy") else {}
    if mutation == "delete many":
        headers["Content-MD5"] = sigv4.md5_base64(body)
    request = Request(method, target, list(query), headers, body)
    if method in ("PUT", "POST"):
        headers["Content-Length"] = str(len(body))
    if authentication == "header":
        sigv4.sign(request, FORGED, host)
    elif authentication == "unsigned payload":
        sigv4.sign(request, FORGED, host, sigv4.UNSIGNED)
    elif authentication == "query":
        headers.pop("Content-Length", None)
        sigv4.presign(request, FORGED, host)
        headers["Content-Length"] = str(len(body))
    elif authentication == "unknown key":
        sigv4.sign(request, Credentials("nobody", "nothing"), host)
    elif authentication in STREAMING_MODES:
        headers["x-amz-decoded-content-length"] = str(len(body))
        sigv4.sign(request, FORGED, host, authentication)
        chunks = sigv4.sign_chunks(body, 65536, FORGED, headers["x-amz-date"], "0" * 64)
        request.body = b"".join(chunk.encode() for chunk in chunks) + b"\r\n"
        headers["Content-Length"] = str(len(request.body))
    else:
        headers["Host"] = host
        digest = base64.b64encode(bytes(20)).decode()
        forms = {"version 2": f"AWS {CREDENTIALS.access_key}:{digest}", "bearer": "Bearer token"}
        if authentication in forms:
            headers["Authorization"] = forms[authentication]
    return request


def expect(response, status: int, *codes: str) -> None:
    assert response.status == status, response
    assert not response.body or response.code in codes, response


@pytest.mark.parametrize(
    "credentials, status, code",
    [
        (Credentials("nobody", "nothing"), 403, "InvalidAccessKeyId"),
        (FORGED, 403, "SignatureDoesNotMatch"),
        (Credentials(CREDENTIALS.access_key, "not-the-secret", region="eu-west-9"), 403, "SignatureDoesNotMatch"),
        (Credentials(CREDENTIALS.access_key, CREDENTIALS.secret_key, service="ec2"), 400, "AuthorizationHeaderMalformed"),
    ],
    ids=["key", "secret", "secret-elsewhere", "service"],
)
def test_wrong_scope(shared, credentials, status, code):
    client = shared.client()
    request = Request("GET", f"/{BUCKET}")
    sigv4.sign(request, credentials, client.host)
    expect(client.exchange(request), status, code)


@pytest.mark.parametrize("offset_s", [-16 * 60, 16 * 60])
def test_clock_skew(shared, offset_s):
    client = shared.client()
    request = Request("GET", f"/{BUCKET}")
    sigv4.sign(request, CREDENTIALS, client.host, date=sigv4.amz_date(offset_s))
    expect(client.exchange(request), 403, "RequestTimeTooSkewed")
    request = Request("GET", f"/{BUCKET}")
    sigv4.sign(request, CREDENTIALS, client.host, date=sigv4.amz_date(offset_s * 14 // 16))
    assert client.exchange(request).status == 200


def test_presigned_life(shared):
    client = shared.client()
    client.put(BUCKET, "life", b"x")

    def presigned(expires_s: int, offset_s: int = 0) -> Request:
        request = Request("GET", f"/{BUCKET}/life")
        sigv4.presign(request, CREDENTIALS, client.host, expires_s, sigv4.amz_date(offset_s))
        return request

    assert client.exchange(presigned(7 * 24 * 3600)).status == 200
    assert client.exchange(presigned(3600, -1800)).status == 200
    expect(client.exchange(presigned(60, -61)), 403, "AccessDenied")
    for seconds in (-1, 604801):
        expect(client.exchange(presigned(seconds)), 400, "AuthorizationQueryParametersError")


@pytest.mark.parametrize("place", ["method", "path", "query", "header", "body"])
def test_what_was_signed_cannot_be_changed(shared, place):
    client = shared.client()
    client.put(BUCKET, "kept", b"kept")
    request = client.signed("PUT", f"/{BUCKET}/kept", b"other", headers={"x-amz-meta-a": "b"})
    if place == "method":
        request.method = "DELETE"
    elif place == "path":
        request.target += "2"
    elif place == "query":
        request.query.append(("x-id", "PutObject"))
    elif place == "header":
        request.headers["x-amz-meta-a"] = "c"
    else:
        request.body = b"OTHER"
    response = client.exchange(request)
    if place == "body":
        expect(response, 400, "XAmzContentSHA256Mismatch")
    else:
        expect(response, 403, "SignatureDoesNotMatch")
    assert client.get(BUCKET, "kept").body == b"kept"
    assert client.head(BUCKET, "kept2").status == 404


def test_an_unsigned_amz_header_is_refused(shared):
    """It would be acted upon, so S3 wants it signed (`HeadersNotSigned`)."""
    client = shared.client()
    by_header = client.signed("PUT", f"/{BUCKET}/unsigned", b"x")
    by_header.headers["x-amz-meta-sneaked"] = "in"
    by_query = client.presigned("PUT", f"/{BUCKET}/unsigned", body=b"x")
    by_query.headers["x-amz-meta-sneaked"] = "in"
    for request in (by_header, by_query):
        expect(client.exchange(request), 403, "AccessDenied")
    assert client.head(BUCKET, "unsigned").status == 404


def test_credentials_in_both_places(shared):
    client = shared.client()
    request = client.presigned("GET", f"/{BUCKET}/x")
    sigv4.sign(request, CREDENTIALS, client.host)
    expect(client.exchange(request), 400, "InvalidArgument")


def test_missing_pieces(shared):
    client = shared.client()
    without_hash = client.signed("GET", f"/{BUCKET}")
    del without_hash.headers["x-amz-content-sha256"]
    response = client.exchange(without_hash)
    assert response.status in (400, 403), response
    unsigned_host = Request("GET", f"/{BUCKET}")
    sigv4.sign(unsigned_host, CREDENTIALS, client.host, leave_out=("host",))
    response = client.exchange(unsigned_host)
    assert response.status in (400, 403), response
    for broken in ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=", "AWS4-HMAC-SHA256 Credential=a/b, Signature=c", ""):
        request = client.signed("GET", f"/{BUCKET}")
        request.headers["Authorization"] = broken
        response = client.exchange(request)
        assert response.status in (400, 403), (broken, response)


@pytest.mark.parametrize("mode", STREAMING_MODES)
def test_a_bent_chunk_leaves_the_old_object(shared, mode):
    client = shared.client()
    client.put(BUCKET, "bent", b"old")

    def put(**bent):
        return client.exchange(sigv4.streaming_put(f"/{BUCKET}/bent", BODY, CREDENTIALS, client.host, mode, 65536, **bent))

    def other_data(chunks):
        chunks[1].data = b"!" + chunks[1].data[1:]
        return chunks

    def other_signature(at):
        def bend(chunks):
            chunks[at].signature = "0" * 64
            return chunks

        return bend

    refused = [put(bend=other_data), put(bend=lambda chunks: chunks[:1] + chunks[2:])]
    if mode != sigv4.STREAMING_UNSIGNED_TRAILER:
        refused += [put(bend=other_signature(0)), put(bend=other_signature(1)), put(bend=other_signature(-1))]
        refused += [put(bend=lambda chunks: [chunks[1], chunks[0], *chunks[2:]])]
    if mode != sigv4.STREAMING:
        refused += [put(trailer="x-amz-checksum-crc32:AAAAAA=="), put(trailer="x-amz-checksum-sha1:AAAA")]
    if mode == sigv4.STREAMING_TRAILER:
        refused += [put(trailer_signed="0" * 64)]
    for response in refused:
        assert response.status in (400, 403), response
        assert response.code in ("SignatureDoesNotMatch", "BadDigest", "IncompleteBody", "InvalidRequest", "MalformedTrailerError"), response
    assert client.get(BUCKET, "bent").body == b"old"
    assert shared.leftovers() == []
