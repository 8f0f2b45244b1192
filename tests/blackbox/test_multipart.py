"""Multipart uploads, from AWS' pages on them."""

from __future__ import annotations

import base64
import hashlib
import os
import zlib

import pytest

from conftest import BUCKET
from harness import sigv4
from harness.sigv4 import encode_query

MIB = 1024 * 1024


def multipart_etag(parts: list[bytes]) -> str:
    joined = b"".join(hashlib.md5(part).digest() for part in parts)
    return f'"{hashlib.md5(joined).hexdigest()}-{len(parts)}"'


def upload(client, key: str, parts: dict[int, bytes], order=None):
    upload_id = client.start_upload(BUCKET, key)
    etags = {n: client.put_part(BUCKET, key, upload_id, n, parts[n]).etag for n in (order or parts)}
    return upload_id, [(n, etags[n]) for n in sorted(parts)]


@pytest.mark.parametrize(
    "sizes, order",
    [
        ([100], None),
        ([5 * MIB, 5 * MIB, 1], None),
        ([5 * MIB, 5 * MIB, 5 * MIB], [3, 1, 2]),
        ([5 * MIB + 1, 6 * MIB + 17, 12345], None),
        ([5 * MIB, 7 * MIB, 5 * MIB, 0], [2, 4, 3, 1]),
        ([8 * MIB] * 4 + [3 * MIB + 5], [5, 4, 3, 2, 1]),
    ],
)
def test_parts_become_the_object(shared, sizes, order):
    client = shared.client()
    parts = {n: os.urandom(size) for n, size in enumerate(sizes, 1)}
    upload_id, etags = upload(client, "multi", parts, order)
    assert client.head(BUCKET, "multi").status == 404
    completed = client.complete(BUCKET, "multi", upload_id, etags)
    assert completed.status == 200, completed
    body = b"".join(parts.values())
    read = client.get(BUCKET, "multi")
    assert read.body == body and read.etag == multipart_etag(list(parts.values()))
    assert (shared.data / BUCKET / "multi").read_bytes() == body
    again = client.complete(BUCKET, "multi", upload_id, etags)
    assert again.status == 200 and again.field("ETag") == completed.field("ETag"), "a repeated Complete is answered as the first was"
    if len(sizes) > 1:
        for n, part in parts.items():
            response = client.request("GET", f"/{BUCKET}/multi", query=[("partNumber", str(n))])
            assert response.body == part and response.headers["x-amz-mp-parts-count"] == str(len(parts))
            # A 206 must say its range (RFC 9110 section 15.3.7.1), and no Content-Range can say an empty one (section 14.4).
            assert response.status == (206 if part else 200)
    client.delete(BUCKET, "multi")


def test_gaps_in_the_numbers_and_parts_left_out(shared):
    client = shared.client()
    parts = {3: os.urandom(5 * MIB), 7: os.urandom(5 * MIB), 500: os.urandom(5 * MIB), 10000: b"end"}
    upload_id, etags = upload(client, "gaps", parts)
    chosen = [pair for pair in etags if pair[0] != 7]
    assert client.complete(BUCKET, "gaps", upload_id, chosen).status == 200
    assert client.get(BUCKET, "gaps").body == parts[3] + parts[500] + parts[10000]


def test_a_part_sent_twice_counts_as_sent_last(shared):
    client = shared.client()
    upload_id = client.start_upload(BUCKET, "twice")
    client.put_part(BUCKET, "twice", upload_id, 1, os.urandom(6 * MIB))
    second = os.urandom(5 * MIB)
    etag = client.put_part(BUCKET, "twice", upload_id, 1, second).etag
    last = client.put_part(BUCKET, "twice", upload_id, 2, b"tail").etag
    assert client.complete(BUCKET, "twice", upload_id, [(1, etag), (2, last)]).status == 200
    assert client.get(BUCKET, "twice").body == second + b"tail"


@pytest.mark.slow
def test_nine_hundred_parts(shared):
    """Their sizes and digests do not fit in an inode of ext4; completion must not notice."""
    client, count = shared.client(), 900
    body = os.urandom(5 * MIB + count)
    upload_id, etags = client.start_upload(BUCKET, "large"), []
    with client.connect() as connection:
        for n in range(1, count + 1):
            part, query = body[n : n + 5 * MIB], [("partNumber", str(n)), ("uploadId", upload_id)]
            request = client.signed("PUT", f"/{BUCKET}/large", part, query, payload_hash=sigv4.UNSIGNED)
            connection.send(request.encode())
            response = connection.response()
            assert response.status == 200, response
            etags.append((n, response.etag))
    assert client.complete(BUCKET, "large", upload_id, etags).status == 200
    read = client.head(BUCKET, "large")
    assert read.headers["content-length"] == str(5 * MIB * count) and read.etag.endswith(f'-{count}"')
    for n in (1, 450, 900):
        first = (n - 1) * 5 * MIB
        assert client.get(BUCKET, "large", range=f"bytes={first}-{first + 99}").body == body[n : n + 100]
        part = client.request("HEAD", f"/{BUCKET}/large", query=[("partNumber", str(n))])
        assert (part.headers["content-length"], part.headers["x-amz-mp-parts-count"]) == (str(5 * MIB), str(count))
    client.delete(BUCKET, "large")


def test_copied_parts(shared):
    client = shared.client()
    source = os.urandom(12 * MIB)
    client.put(BUCKET, "source with space", source)
    upload_id, etags = client.start_upload(BUCKET, "joined"), []
    for n, byte_range in enumerate(["bytes=0-5242879", "bytes=5242880-12582911"], 1):
        headers = {"x-amz-copy-source": f"/{BUCKET}/source%20with%20space", "x-amz-copy-source-range": byte_range}
        query = [("partNumber", str(n)), ("uploadId", upload_id)]
        response = client.request("PUT", f"/{BUCKET}/joined", headers=headers, query=query)
        assert response.status == 200, response
        etags.append((n, response.field("ETag")))
    bad = {"x-amz-copy-source": f"/{BUCKET}/source%20with%20space", "x-amz-copy-source-range": "bytes=0-99999999"}
    query = [("partNumber", "3"), ("uploadId", upload_id)]
    assert client.request("PUT", f"/{BUCKET}/joined", headers=bad, query=query).status in (400, 416)
    assert client.complete(BUCKET, "joined", upload_id, etags).status == 200
    assert client.get(BUCKET, "joined").body == source


def test_listings_of_uploads_and_parts(server, client):
    ids = {key: client.start_upload(BUCKET, key) for key in ("a/1", "a/2", "b", "c d")}
    listed = client.request("GET", f"/{BUCKET}", query=[("uploads", "")])
    assert listed.body.count(b"<Upload>") == 4 and all(i.encode() in listed.body for i in ids.values())
    grouped = client.request("GET", f"/{BUCKET}", query=[("uploads", ""), ("delimiter", "/")])
    assert grouped.body.count(b"<Upload>") == 2 and b"<Prefix>a/</Prefix>" in grouped.body
    page = client.request("GET", f"/{BUCKET}", query=[("uploads", ""), ("max-uploads", "3")])
    assert page.field("IsTruncated") == "true" and page.body.count(b"<Upload>") == 3
    etags = [client.put_part(BUCKET, "b", ids["b"], n, bytes([n]) * 100).etag for n in (1, 2, 3)]
    parts = client.request("GET", f"/{BUCKET}/b", query=[("uploadId", ids["b"]), ("max-parts", "2")])
    assert parts.body.count(b"<Part>") == 2 and parts.field("NextPartNumberMarker") == "2"
    rest = client.request("GET", f"/{BUCKET}/b", query=[("uploadId", ids["b"]), ("part-number-marker", "2")])
    assert rest.body.count(b"<Part>") == 1 and etags[2].strip('"').encode() in rest.body
    for key, upload_id in ids.items():
        assert client.request("DELETE", f"/{BUCKET}/{key.replace(' ', '%20')}", query=[("uploadId", upload_id)]).status == 204
    assert b"<Upload>" not in client.request("GET", f"/{BUCKET}", query=[("uploads", "")]).body
    assert server.leftovers() == []
    left = [path for path in (server.data / ".sluice/uploads").rglob("*") if path.is_file()]
    assert left == [], "an aborted upload gives its space back"


def test_uploads_are_no_objects(server, client):
    upload_id, _ = upload(client, "hidden", {1: b"x" * 100})
    assert b"<Key>" not in client.request("GET", f"/{BUCKET}", query=[("list-type", "2")]).body
    assert client.request("GET", f"/.sluice/uploads/{encode_query(upload_id)}").status in (400, 403, 404)


def test_conditional_complete(shared):
    client = shared.client()
    old = client.put(BUCKET, "guarded", b"old").etag
    upload_id, etags = upload(client, "guarded", {1: b"new"})
    assert client.complete(BUCKET, "guarded", upload_id, etags, {"If-None-Match": "*"}).status == 412
    assert client.complete(BUCKET, "guarded", upload_id, etags, {"If-Match": '"x"'}).status == 412
    assert client.get(BUCKET, "guarded").body == b"old"
    assert client.complete(BUCKET, "guarded", upload_id, etags, {"If-Match": old}).status == 200
    assert client.get(BUCKET, "guarded").body == b"new"


@pytest.mark.parametrize("kind", ["COMPOSITE", "FULL_OBJECT"])
def test_checksums_of_the_whole(shared, kind):
    client = shared.client()
    parts = [os.urandom(5 * MIB), os.urandom(1000)]
    headers = {"x-amz-checksum-algorithm": "CRC32", "x-amz-checksum-type": kind}
    upload_id = client.request("POST", f"/{BUCKET}/sum", headers=headers, query=[("uploads", "")]).field("UploadId")
    sums = [zlib.crc32(part).to_bytes(4, "big") for part in parts]
    document = b"<CompleteMultipartUpload>"
    for n, part in enumerate(parts, 1):
        value = base64.b64encode(sums[n - 1]).decode()
        query = [("partNumber", str(n)), ("uploadId", upload_id)]
        response = client.request("PUT", f"/{BUCKET}/sum", part, query, {"x-amz-checksum-crc32": value})
        assert response.status == 200, response
        fields = f"<PartNumber>{n}</PartNumber><ETag>{response.etag}</ETag><ChecksumCRC32>{value}</ChecksumCRC32>"
        document += f"<Part>{fields}</Part>".encode()
    document += b"</CompleteMultipartUpload>"
    completed = client.request("POST", f"/{BUCKET}/sum", document, [("uploadId", upload_id)], {"x-amz-checksum-type": kind})
    assert completed.status == 200, completed
    whole = base64.b64encode(zlib.crc32(b"".join(parts)).to_bytes(4, "big")).decode()
    of_sums = base64.b64encode(zlib.crc32(b"".join(sums)).to_bytes(4, "big")).decode() + "-2"
    read = client.head(BUCKET, "sum", x_amz_checksum_mode="ENABLED")
    assert read.headers["x-amz-checksum-crc32"] == (of_sums if kind == "COMPOSITE" else whole)
    assert read.headers["x-amz-checksum-type"] == kind
