"""What client programs met: lists over several lines, tails of empty files, probes, and buckets that are not there."""

from __future__ import annotations

import hashlib

import pytest

from conftest import BUCKET
from harness import sigv4
from harness.server import CREDENTIALS
from harness.wire import complete_document
from test_presigned import linked


# Ranges of nothing.


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_tail_of_an_empty_object(shared, method):
    """RFC 9110 section 14.1.2: where there is less than the suffix, it is all there is; a 206 could not name it. Readers of tails of
    files (Parquet's and zip's) begin so."""
    client = shared.client()
    client.put(BUCKET, "nothing", b"")
    for value in ("bytes=-1", "bytes=-8", "bytes=-18446744073709551616"):
        read = client.request(method, f"/{BUCKET}/nothing", headers={"Range": value})
        assert (read.status, read.body, read.headers["content-length"]) == (200, b"", "0"), value
        assert "content-range" not in read.headers and read.headers["accept-ranges"] == "bytes"
    for value in ("bytes=-0", "bytes=0-", "bytes=0-0", "bytes=5-9"):
        refused = client.request(method, f"/{BUCKET}/nothing", headers={"Range": value})
        assert (refused.status, refused.headers["content-range"]) == (416, "bytes */0"), value
        assert refused.code == ("InvalidRange" if method == "GET" else None)
    # Several ranges are none (API_GetObject: one range a request), as is what is no range.
    for value in ("bytes=-1,-2", "bytes=-1,0-0", "bytes=-", "bytes=1-0"):
        assert client.request(method, f"/{BUCKET}/nothing", headers={"Range": value}).status == 200, value


def test_ranges_of_copied_parts(shared):
    """API_UploadPartCopy, x-amz-copy-source-range: "must use the form bytes=first-last"; what begins behind the source's end is
    another error than what ends there."""
    client = shared.client()
    client.put(BUCKET, "ten", b"0123456789")
    client.put(BUCKET, "none", b"")
    upload = client.start_upload(BUCKET, "copied")

    def copy(source, value):
        headers = {"x-amz-copy-source": f"{BUCKET}/{source}", "x-amz-copy-source-range": value}
        return client.request("PUT", f"/{BUCKET}/copied", query=[("partNumber", "1"), ("uploadId", upload)], headers=headers)

    for value in ("bytes=0-9", "bytes=9-9", "bytes=0-0"):
        assert copy("ten", value).status == 200, value
    for value in ("bytes=-5", "bytes=5-", "bytes=-", "bytes=5-4", "0-1", "bytes=0-1,3-4", "bytes=a-b", "lines=0-1", ""):
        assert (copy("ten", value).status, copy("ten", value).code) == (400, "InvalidArgument"), value
    for value in ("bytes=0-10", "bytes=9-10", "bytes=0-99999999999999999999"):
        assert (copy("ten", value).status, copy("ten", value).code) == (400, "InvalidArgument"), value
    for source, value in [("ten", "bytes=10-10"), ("ten", "bytes=10-20"), ("none", "bytes=0-0")]:
        assert (copy(source, value).status, copy(source, value).code) == (400, "InvalidRequest"), value


# Lists over several lines (RFC 9110 section 5.3).


def attributes(client, key: str, value) -> object:
    return client.request("GET", f"/{BUCKET}/{key}", query=[("attributes", "")], headers={"x-amz-object-attributes": value})


def test_attributes_on_a_line_each(shared):
    """aws-sdk-go-v2 sends `x-amz-object-attributes` once for each value, and signs them joined by commas."""
    client = shared.client()
    client.put(BUCKET, "attributed", b"0123456789", x_amz_checksum_crc32="poTHxg==")
    together = attributes(client, "attributed", "ETag,Checksum,ObjectSize,StorageClass")
    assert together.status == 200, together
    for lines in (
        ["ETag", "Checksum", "ObjectSize", "StorageClass"],
        ["ETag, Checksum", "ObjectSize,StorageClass"],
        ["StorageClass", "", "ObjectSize", "etag", "ETag", "Checksum"],
    ):
        assert attributes(client, "attributed", lines).body == together.body
    assert together.field("ObjectSize") == "10" and together.field("ChecksumCRC32") == "poTHxg=="
    refused = attributes(client, "attributed", ["ETag", "Colour"])
    assert (refused.status, refused.code) == (400, "InvalidArgument")
    # aws-sdk-js moves the header into the query of a link.
    query = [("attributes", ""), ("x-amz-object-attributes", "ETag,Checksum"), ("x-amz-object-attributes", "ObjectSize,StorageClass")]
    assert client.exchange(linked(client, "GET", query, key="attributed")).body == together.body


def test_conditions_on_several_lines(shared):
    client, other = shared.client(), '"d41d8cd98f00b204e9800998ecf8427e"'
    etag = client.put(BUCKET, "lined", b"x").etag
    source = {"x-amz-copy-source": f"/{BUCKET}/lined"}
    for lines, is_in in [([other, etag], True), ([etag, other], True), ([other, other], False), ([f"{other}, {etag}", other], True)]:
        read = client.request("GET", f"/{BUCKET}/lined", headers={"If-Match": lines})
        assert read.status == (200 if is_in else 412), lines
        read = client.request("HEAD", f"/{BUCKET}/lined", headers={"If-None-Match": lines})
        assert read.status == (304 if is_in else 200), lines
        copied = client.request("PUT", f"/{BUCKET}/lined-copy", headers=source | {"x-amz-copy-source-if-match": lines})
        assert copied.status == (200 if is_in else 412), lines
        copied = client.request("PUT", f"/{BUCKET}/lined-copy", headers=source | {"x-amz-copy-source-if-none-match": lines})
        assert copied.status == (412 if is_in else 200), lines
        put = client.request("PUT", f"/{BUCKET}/lined", b"x", headers={"If-None-Match": lines})
        assert put.status == (412 if is_in else 200), lines
        put = client.request("PUT", f"/{BUCKET}/lined", b"x", headers={"If-Match": lines})
        assert put.status == (200 if is_in else 412), lines
    # `*` is no item of a list: either could have been meant (RFC 9110 section 13.1.1).
    for lines in ([other, "*"], ["*", etag], ["*", "*"], f"{etag}, *"):
        for method, name in [("GET", "If-Match"), ("GET", "If-None-Match"), ("PUT", "If-Match"), ("PUT", "If-None-Match"), ("DELETE", "If-Match")]:
            refused = client.request(method, f"/{BUCKET}/lined", b"y" if method == "PUT" else b"", headers={name: lines})
            assert (refused.status, refused.code) == (400, "InvalidArgument"), (method, name, lines)
    refused = client.request("DELETE", f"/{BUCKET}/lined", headers={"If-Match": [other, other]})
    assert refused.status == 412
    assert client.request("DELETE", f"/{BUCKET}/lined", headers={"If-Match": [other, etag]}).status == 204


def test_other_lists_on_several_lines(shared):
    client = shared.client()
    headers = {"Content-Encoding": ["aws-chunked", "gzip"], "Cache-Control": ["no-cache", "max-age=60"], "Content-Language": ["de", "en"]}
    assert client.request("PUT", f"/{BUCKET}/encoded", b"x", headers=headers).status == 200
    read = client.head(BUCKET, "encoded")
    assert read.headers["content-encoding"] == "gzip"
    assert (read.headers["cache-control"], read.headers["content-language"]) == ("no-cache, max-age=60", "de, en")
    for lines, status in [(["RestoreStatus", "RestoreStatus"], 200), ("RestoreStatus,RestoreStatus", 200), (["RestoreStatus", "Other"], 400)]:
        listed = client.request("GET", f"/{BUCKET}", headers={"x-amz-optional-object-attributes": lines})
        assert listed.status == status, lines


def test_trailers_on_several_lines(shared):
    client, crc = shared.client(), "x-amz-checksum-crc32"

    def put(mode, lines):
        headers = {"x-amz-trailer": lines}
        return client.exchange(sigv4.streaming_put(f"/{BUCKET}/trailed", b"body", CREDENTIALS, client.host, mode, headers=headers))

    for lines in ([crc], [crc, "x-amz-trailer-signature"], ["x-amz-trailer-signature", crc], f"{crc},x-amz-trailer-signature"):
        assert put(sigv4.STREAMING_TRAILER, lines).status == 200, lines
    for mode in (sigv4.STREAMING_TRAILER, sigv4.STREAMING_UNSIGNED_TRAILER):
        for lines in ([crc, "x-amz-checksum-sha256"], [crc, crc], [crc, "x-amz-checksum-md4"], [crc, "content-length"]):
            refused = put(mode, lines)
            assert (refused.status, refused.code) == (400, "InvalidRequest"), (mode, lines)
        # The checksum that comes is none that was announced.
        refused = put(mode, ["x-amz-trailer-signature"])
        assert (refused.status, refused.code) == (400, "MalformedTrailerError"), mode


# What a copy's source is called.


def test_a_plus_in_a_copy_source(shared):
    """Amazon reads `x-amz-copy-source` as a form: Go programs escape with `url.QueryEscape`."""
    client = shared.client()
    client.put(BUCKET, "a b", b"space")
    client.put(BUCKET, "a+b", b"plus")
    upload = client.start_upload(BUCKET, "copied-part")
    for source, body in [("a+b", b"space"), ("a%20b", b"space"), ("a b", b"space"), ("a%2Bb", b"plus"), ("a%2bb", b"plus")]:
        headers = {"x-amz-copy-source": f"{BUCKET}/{source}"}
        assert client.request("PUT", f"/{BUCKET}/copied", headers=headers).status == 200, source
        assert client.get(BUCKET, "copied").body == body, source
        query = [("partNumber", "1"), ("uploadId", upload)]
        copied = client.request("PUT", f"/{BUCKET}/copied-part", query=query, headers=headers)
        assert copied.field("ETag").strip('"').replace("&quot;", "") == hashlib.md5(body).hexdigest(), source
    assert client.request("PUT", f"/{BUCKET}/copied", headers={"x-amz-copy-source": f"{BUCKET}%2Fa%2Bb"}).status == 200


# Probes.


def asked(client, method: str, target: str) -> object:
    return client.exchange(f"{method} {target} HTTP/1.1\r\nHost: {client.host}\r\n\r\n".encode())


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_health_that_mc_waits_for(shared, method):
    """`mc ready` asks for `/minio/health/cluster`, with `--cluster-read` for what is below it, and reads the number of drives that must
    be there. `--maintenance` asks whether the others suffice without this one: 412, there are none."""
    client = shared.client()
    well = asked(client, method, "/minio/health/cluster")
    assert (well.status, well.headers["x-minio-write-quorum"], well.body) == (200, "1", b"")
    well = asked(client, method, "/minio/health/cluster/read")
    assert (well.status, well.headers["x-minio-read-quorum"]) == (200, "1")
    assert asked(client, method, "/minio/health/cluster?maintenance=true").status == 412
    for target in ("/minio/health/cluster/", "/minio/health/cluster/write", "/minio/health/cluster?x=y", "/health/cluster", "/health/ready?x=y"):
        assert asked(client, method, target).status in (403, 404), target
    assert asked(client, "POST", "/minio/health/cluster").status in (403, 405)


def test_probes_for_what_is_not_built_are_no_errors(server, client):
    """Programs ask for tags, locks and encryption before they do without."""
    said_at_start = server.log_path.stat().st_size
    for query in ("acl", "tagging", "retention", "legal-hold"):
        assert client.request("PUT", f"/{BUCKET}/key", b"<x/>", query=[(query, "")]).status == 501, query
    assert client.request("PUT", f"/{BUCKET}/key", b"x", headers={"x-amz-server-side-encryption": "aws:kms"}).status == 501
    assert client.request("GET", f"/{BUCKET}", query=[("session", "")]).status == 501
    said = server.log_path.read_bytes()[said_at_start:]
    assert b"ERROR" not in said and b"WARN" not in said, said


# Buckets that are not there.


def test_uploads_of_a_missing_bucket(shared):
    """The pages of all seven operations, and "List of error codes": NoSuchBucket."""
    client, upload = shared.client(), "0" * 16 + "a" * 32
    client.put(BUCKET, "source", b"x")
    copy = {"x-amz-copy-source": f"{BUCKET}/source"}
    parts = complete_document([(1, '"d41d8cd98f00b204e9800998ecf8427e"')])
    of_upload = [("uploadId", upload)]
    for method, target, body, query, headers in [
        ("PUT", "/no-such-bucket/key", b"x", [("partNumber", "1"), *of_upload], {}),
        ("PUT", "/no-such-bucket/key", bytes(200_000), [("partNumber", "1"), *of_upload], {}),
        ("PUT", "/no-such-bucket/key", b"", [("partNumber", "1"), *of_upload], copy),
        ("GET", "/no-such-bucket/key", b"", of_upload, {}),
        ("DELETE", "/no-such-bucket/key", b"", of_upload, {}),
        ("POST", "/no-such-bucket/key", parts, of_upload, {}),
        ("POST", "/no-such-bucket/key", b"", [("uploads", "")], {}),
        ("GET", "/no-such-bucket", b"", [("uploads", "")], {}),
    ]:
        refused = client.request(method, target, body, query=query, headers=headers)
        assert refused.code == "NoSuchBucket" and refused.field("BucketName") == "no-such-bucket", (method, query, refused)
        # Complete and the copy may have sent their white space.
        assert refused.status in ((404, 200) if method == "POST" or headers else (404,)), (method, query, refused)
        if target.endswith("/key") and query != [("uploads", "")]:
            there = client.request(method, f"/{BUCKET}/key", body, query=query, headers=headers)
            assert there.code == "NoSuchUpload", (method, query, there)


def test_the_name_of_a_new_bucket(shared):
    """API_CreateBucket, x-amz-bucket-arn."""
    made = shared.client().request("PUT", "/named-bucket")
    assert (made.status, made.headers["x-amz-bucket-arn"]) == (200, "arn:aws:s3:::named-bucket")
    again = shared.client().request("PUT", "/named-bucket")
    assert (again.status, again.headers["x-amz-bucket-arn"]) == (200, "arn:aws:s3:::named-bucket")
