"""`aws-chunked`, bent in every place: chunk lines, sizes, signatures, trailers, and the headers that announce them.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html and sigv4-streaming-trailers.html say what the form is, not what
another form is answered. The codes are those that Amazon's servers are known for: a framing that does not hold is IncompleteBody, a
trailer that was not announced, or not sent, MalformedTrailerError, a value that is none InvalidRequest, a wrong one BadDigest.
"""

from __future__ import annotations

import pytest

from conftest import BUCKET
from harness import sigv4
from harness.server import CREDENTIALS, eventually
from harness.sigv4 import Request

BODY = b"0123456789"
CRC32 = f"x-amz-checksum-crc32:{sigv4.crc32_base64(BODY)}".encode()
OTHER = b"x-amz-checksum-crc32:AAAAAA=="
ANNOUNCED = {"x-amz-trailer": "x-amz-checksum-crc32"}
WHOLE = b"a\r\n" + BODY + b"\r\n0\r\n"
END = b"\r\n"


@pytest.fixture(autouse=True)
def nothing_is_left(shared):
    client = shared.client()
    yield
    assert client.get(BUCKET, "never").status == 404
    assert eventually(lambda: shared.leftovers() == []), shared.leftovers()


def expect(response, status: int, code: str | None) -> None:
    assert (response.status, response.code) == (status, code), response


def put(client, mode: str, body: bytes, headers=None, length="10", key="never", query=()):
    request = Request("PUT", f"/{BUCKET}/{key}", list(query), {"Content-Encoding": "aws-chunked"} | (headers or {}))
    if length is not None:
        request.headers["x-amz-decoded-content-length"] = length
    sigv4.sign(request, CREDENTIALS, client.host, mode)
    request.headers["Content-Length"] = str(len(body))
    request.body = body
    return client.exchange(request)


UNSIGNED = [
    # Why, headers, body, code of a 400.
    ("no framing at all", {}, BODY, "IncompleteBody"),
    ("a chunk line without CR", {}, b"a\n" + BODY + b"\r\n0\r\n\r\n", "IncompleteBody"),
    ("a chunk without its end", {}, b"a\r\n" + BODY + b"0\r\n\r\n", "IncompleteBody"),
    ("a size that is none", {}, b"x\r\n" + BODY + b"\r\n0\r\n\r\n", "IncompleteBody"),
    ("a negative size", {}, b"-a\r\n" + BODY + b"\r\n0\r\n\r\n", "IncompleteBody"),
    ("a size with a prefix", {}, b"0xa\r\n" + BODY + b"\r\n0\r\n\r\n", "IncompleteBody"),
    ("a size of 68 bits", {}, b"1" + b"0" * 17 + b"\r\n" + BODY + b"\r\n0\r\n\r\n", "IncompleteBody"),
    ("an empty size", {}, b"\r\n" + BODY + b"\r\n0\r\n\r\n", "IncompleteBody"),
    ("a size line without end", {}, b"a" * 2000, "IncompleteBody"),
    ("an extension", {}, b"a;x=y\r\n" + BODY + b"\r\n0\r\n\r\n", "IncompleteBody"),
    ("a size that promises more", {}, b"b\r\n" + BODY + b"\r\n0\r\n\r\n", "IncompleteBody"),
    ("a size that promises less", {}, b"9\r\n" + BODY + b"\r\n0\r\n\r\n", "IncompleteBody"),
    ("more than was said", {}, b"b\r\n" + BODY + b"x\r\n0\r\n\r\n", "IncompleteBody"),
    ("less than was said", {}, b"9\r\n" + BODY[:9] + b"\r\n0\r\n\r\n", "IncompleteBody"),
    ("nothing where ten bytes were said", {}, b"0\r\n\r\n", "IncompleteBody"),
    ("an end in the middle", {}, b"5\r\n01234\r\n0\r\n\r\n5\r\n56789\r\n0\r\n\r\n", "IncompleteBody"),
    ("no end", {}, b"a\r\n" + BODY + b"\r\n", "IncompleteBody"),
    ("cut off in a chunk", {}, b"a\r\n" + BODY[:5], "IncompleteBody"),
    ("cut off in the last line", {}, WHOLE + b"\r", "IncompleteBody"),
    ("cut off behind the trailer", ANNOUNCED, WHOLE + CRC32, "IncompleteBody"),
    ("a trailer without line end", ANNOUNCED, WHOLE + CRC32 + b"\r", "IncompleteBody"),
    ("an announced trailer that does not come", ANNOUNCED, WHOLE + END, "MalformedTrailerError"),
    ("a trailer that was not announced", {}, WHOLE + CRC32 + b"\r\n" + END, "MalformedTrailerError"),
    ("another trailer than the announced", {"x-amz-trailer": "x-amz-checksum-sha1"}, WHOLE + CRC32 + b"\r\n" + END, "MalformedTrailerError"),
    ("one more trailer", ANNOUNCED, WHOLE + CRC32 + b"\r\nbonus: x\r\n" + END, "MalformedTrailerError"),
    ("one more checksum", ANNOUNCED, WHOLE + CRC32 + b"\r\nx-amz-checksum-sha1:x\r\n" + END, "MalformedTrailerError"),
    ("a trailer without a name", ANNOUNCED, WHOLE + b":AAAAAA==\r\n" + END, "MalformedTrailerError"),
    ("a trailer without a colon", ANNOUNCED, WHOLE + b"x-amz-checksum-crc32\r\n" + END, "MalformedTrailerError"),
    ("a trailer with a control character", ANNOUNCED, WHOLE + CRC32 + b"\0\r\n" + END, "MalformedTrailerError"),
    ("a line before the trailer", ANNOUNCED, WHOLE + b"\r\n" + CRC32 + b"\r\n" + END, "MalformedTrailerError"),
    ("a trailer of 20 KB", ANNOUNCED, WHOLE + b"".join(b"x-%d:%b\r\n" % (n, b"v" * 400) for n in range(50)) + END, "MalformedTrailerError"),
    ("a signature that nobody checks", ANNOUNCED, WHOLE + CRC32 + b"\r\nx-amz-trailer-signature:" + b"0" * 64 + b"\r\n" + END, "MalformedTrailerError"),
    ("a checksum that is none", ANNOUNCED, WHOLE + b"x-amz-checksum-crc32:none\r\n" + END, "InvalidRequest"),
    ("an empty checksum", ANNOUNCED, WHOLE + b"x-amz-checksum-crc32:\r\n" + END, "InvalidRequest"),
    ("a wrong checksum", ANNOUNCED, WHOLE + OTHER + b"\r\n" + END, "BadDigest"),
    ("a trailer that S3 has not", {"x-amz-trailer": "content-md5"}, WHOLE + END, "InvalidRequest"),
    ("an unknown checksum", {"x-amz-trailer": "x-amz-checksum-crc16"}, WHOLE + END, "InvalidRequest"),
    ("two announced checksums", {"x-amz-trailer": "x-amz-checksum-crc32,x-amz-checksum-sha1"}, WHOLE + CRC32 + b"\r\n" + END, "InvalidRequest"),
    ("a checksum before and behind", ANNOUNCED | {"x-amz-checksum-crc32": sigv4.crc32_base64(BODY)}, WHOLE + CRC32 + b"\r\n" + END, "InvalidRequest"),
    ("another algorithm announced", ANNOUNCED | {"x-amz-sdk-checksum-algorithm": "SHA1"}, WHOLE + CRC32 + b"\r\n" + END, "InvalidRequest"),
    ("an algorithm announced and nothing else", {"x-amz-sdk-checksum-algorithm": "CRC32"}, WHOLE + END, "InvalidRequest"),
    ("a wrong checksum before", {"x-amz-checksum-crc32": "AAAAAA=="}, WHOLE + END, "BadDigest"),
]


@pytest.mark.parametrize("target", ["object", "part"])
@pytest.mark.parametrize(("why", "headers", "body", "code"), UNSIGNED, ids=[row[0] for row in UNSIGNED])
def test_unsigned_chunks(shared, why, headers, body, code, target):
    client = shared.client()
    query = [("partNumber", "1"), ("uploadId", client.start_upload(BUCKET, "never"))] if target == "part" else []
    expect(put(client, sigv4.STREAMING_UNSIGNED_TRAILER, body, headers, query=query), 400, code)
    if query:
        listed = client.request("GET", f"/{BUCKET}/never", query=query[1:])
        assert b"<Part>" not in listed.body, listed
        assert client.request("DELETE", f"/{BUCKET}/never", query=query[1:]).status == 204


TAKEN = [
    ("a trailer", ANNOUNCED, WHOLE + CRC32 + b"\r\n" + END),
    ("a trailer with white space", ANNOUNCED, WHOLE + CRC32.replace(b":", b": \t") + b"\r\n" + END),
    ("a trailer in capitals", ANNOUNCED, WHOLE + CRC32.upper().replace(CRC32.split(b":")[1].upper(), CRC32.split(b":")[1]) + b"\r\n" + END),
    ("no trailer where none was announced", {}, WHOLE + END),
    ("a list of one", {"x-amz-trailer": "x-amz-checksum-crc32,"}, WHOLE + CRC32 + b"\r\n" + END),
    # S3 wants 8 KiB of each chunk but the last (InvalidChunkSizeError). JavaScript's SDK sends what its program gives it, which works
    # here: a small chunk is no harm.
    ("small chunks", {}, b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n" + END),
    ("sizes with zeros in front", {}, b"000a\r\n" + BODY + b"\r\n000\r\n" + END),
]


@pytest.mark.parametrize(("why", "headers", "body"), TAKEN, ids=[row[0] for row in TAKEN])
def test_what_is_well_formed_is_taken(shared, why, headers, body):
    client = shared.client()
    expect(put(client, sigv4.STREAMING_UNSIGNED_TRAILER, body, headers, key="taken"), 200, None)
    assert client.get(BUCKET, "taken").body == BODY


@pytest.mark.parametrize("mode", [sigv4.STREAMING, sigv4.STREAMING_TRAILER, sigv4.STREAMING_UNSIGNED_TRAILER])
@pytest.mark.parametrize("length", [None, "", "ten", "-1", "10.0", "1e1", "99999999999999999999999"])
def test_a_decoded_length_is_asked_for(shared, mode, length):
    expect(put(shared.client(), mode, WHOLE + END, length=length), 411, "MissingContentLength")


@pytest.mark.parametrize("mode", [sigv4.UNSIGNED, sigv4.sha256_hex(BODY)])
def test_a_trailer_of_a_body_that_has_none(shared, mode):
    expect(put(shared.client(), mode, BODY, ANNOUNCED), 400, "MalformedTrailerError")


def signed_body(client, mode: str, bend_line=None, trailer=CRC32, trailer_line=None):
    """A PUT in two signed chunks, whose chunk lines, or the trailer's signature, `bend_line` and `trailer_line` replace."""
    request = Request("PUT", f"/{BUCKET}/never", [], {"Content-Encoding": "aws-chunked", "x-amz-decoded-content-length": "10"})
    if mode == sigv4.STREAMING_TRAILER:
        request.headers |= ANNOUNCED
    seed = sigv4.sign(request, CREDENTIALS, client.host, mode)
    date = request.headers["x-amz-date"]
    chunks = sigv4.sign_chunks(BODY, 5, CREDENTIALS, date, seed)
    bend_line = bend_line or (lambda index, line: line)
    body = b""
    for index, chunk in enumerate(chunks):
        line, data = chunk.encode().split(b"\r\n", 1)
        body += bend_line(index, line) + b"\r\n" + data
    if mode == sigv4.STREAMING_TRAILER:
        proof = sigv4.trailer_signature(trailer.decode(), CREDENTIALS, date, chunks[-1].signature).encode()
        line = b"x-amz-trailer-signature:" + proof
        body += trailer + b"\r\n" + (trailer_line(line) if trailer_line else line + b"\r\n")
    request.body = body + b"\r\n"
    request.headers["Content-Length"] = str(len(request.body))
    return request


LINES = [
    ("no signature", lambda line: line.split(b";")[0], 400, "IncompleteBody"),
    ("an empty signature", lambda line: line.split(b"=")[0] + b"=", 400, "IncompleteBody"),
    ("something behind it", lambda line: line + b";x=y", 400, "IncompleteBody"),
    ("a short signature", lambda line: line[:-1], 403, "SignatureDoesNotMatch"),
    ("a long signature", lambda line: line + b"0", 403, "SignatureDoesNotMatch"),
    ("no digits", lambda line: line.split(b"=")[0] + b"=none", 403, "SignatureDoesNotMatch"),
    ("another signature", lambda line: line[:-64] + b"0" * 64, 403, "SignatureDoesNotMatch"),
    ("another size", lambda line: b"6" + line[1:], 400, "IncompleteBody"),
]


@pytest.mark.parametrize("mode", [sigv4.STREAMING, sigv4.STREAMING_TRAILER])
@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize(("why", "bend", "status", "code"), LINES, ids=[row[0] for row in LINES])
def test_signed_chunks(shared, mode, at, why, bend, status, code):
    client = shared.client()
    request = signed_body(client, mode, lambda index, line: bend(line) if index == at else line)
    expect(client.exchange(request), status, code)


TRAILERS = [
    ("no signature", CRC32, lambda line: b"", 400, "IncompleteBody"),
    ("another signature", CRC32, lambda line: line[:-64] + b"0" * 64 + b"\r\n", 403, "SignatureDoesNotMatch"),
    ("a signature that is none", CRC32, lambda line: b"x-amz-trailer-signature:none\r\n", 403, "SignatureDoesNotMatch"),
    ("two signatures", CRC32, lambda line: line + b"\r\n" + line + b"\r\n", 400, "MalformedTrailerError"),
    ("a wrong checksum, signed", OTHER, None, 400, "BadDigest"),
    ("a checksum that is none, signed", b"x-amz-checksum-crc32:none", None, 400, "InvalidRequest"),
    ("another checksum, signed", b"x-amz-checksum-sha1:none", None, 400, "MalformedTrailerError"),
]


@pytest.mark.parametrize(("why", "trailer", "bend", "status", "code"), TRAILERS, ids=[row[0] for row in TRAILERS])
def test_signed_trailers(shared, why, trailer, bend, status, code):
    client = shared.client()
    expect(client.exchange(signed_body(client, sigv4.STREAMING_TRAILER, trailer=trailer, trailer_line=bend)), status, code)


def test_signed_chunks_as_they_should_be(shared):
    """The helper of the rows above makes what is right, but for what it bends."""
    client = shared.client()
    for mode in (sigv4.STREAMING, sigv4.STREAMING_TRAILER):
        expect(client.exchange(signed_body(client, mode)), 200, None)
        assert client.delete(BUCKET, "never").status == 204


def test_a_body_that_lies_inside_another_framing(shared):
    """The same through `Transfer-Encoding: chunked`, as boto3 sends it over TLS: whole, and cut off inside a chunk."""
    client = shared.client()
    for inner, status, code in ((WHOLE + CRC32 + b"\r\n" + END, 200, None), (WHOLE[:8], 400, "IncompleteBody"), (WHOLE + END, 400, "MalformedTrailerError")):
        request = Request("PUT", f"/{BUCKET}/framed", [], ANNOUNCED | {"x-amz-decoded-content-length": "10", "Transfer-Encoding": "chunked"})
        sigv4.sign(request, CREDENTIALS, client.host, sigv4.STREAMING_UNSIGNED_TRAILER)
        request.body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner)
        expect(client.exchange(request), status, code)
    assert client.get(BUCKET, "framed").body == BODY
