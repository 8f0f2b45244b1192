"""Single objects: bytes, metadata, ranges, conditions, checksums and copies, by the pages of AWS' API reference."""

from __future__ import annotations

import hashlib
import os
import threading
import time

import pytest

from conftest import BUCKET
from harness import sigv4
from harness.server import CREDENTIALS
from harness.sigv4 import encode_key

SIZES = [0, 1, 4095, 4096, 4097, 65536, 128 * 1024, 128 * 1024 + 1, 512 * 1024, 512 * 1024 + 1, 3_333_333, 16 * 1024 * 1024]


@pytest.mark.parametrize("size", SIZES)
def test_bytes_come_back_and_are_the_file(shared, size):
    client, body = shared.client(), os.urandom(size)
    response = client.put(BUCKET, "folder/object", body)
    assert response.status == 200, response
    assert response.etag == f'"{hashlib.md5(body).hexdigest()}"'
    read = client.get(BUCKET, "folder/object")
    assert read.body == body and read.etag == response.etag
    assert (shared.data / BUCKET / "folder/object").read_bytes() == body
    head = client.head(BUCKET, "folder/object")
    assert head.headers["content-length"] == str(size) and head.etag == response.etag


RANGES = [(0, 0), (0, 99), (100, 100_000), (4095, 4097), (499_999, 499_999), (250_000, 999_999), (499_000, None), (None, 1), (None, 10**9)]


@pytest.mark.parametrize("first, last", RANGES)
def test_ranges(shared, first, last):
    client, body = shared.client(), bytes(i * 7 % 251 for i in range(500_000))
    client.put(BUCKET, "ranged", body)
    value = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    response = client.get(BUCKET, "ranged", range=value)
    start = max(0, len(body) - last) if first is None else first
    end = len(body) if first is None or last is None else min(last + 1, len(body))
    assert (response.status, response.body) == (206, body[start:end]), value
    assert response.headers["content-range"] == f"bytes {start}-{end - 1}/{len(body)}"
    assert response.headers["accept-ranges"] == "bytes"


def test_metadata_and_headers_are_kept(shared):
    client = shared.client()
    headers = {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Disposition": 'attachment; filename="a b.txt"',
        "Content-Language": "de",
        "Content-Encoding": "gzip",
        "Cache-Control": "max-age=60",
        "Expires": "Thu, 01 Dec 2033 16:00:00 GMT",
        "x-amz-meta-colour": "blue green",
        "x-amz-meta-empty": "",
    }
    assert client.request("PUT", f"/{BUCKET}/headed", b"x", headers=headers).status == 200
    for response in (client.get(BUCKET, "headed"), client.head(BUCKET, "headed")):
        for name, value in headers.items():
            assert response.headers[name.lower()] == value, name
    overrides = {"response-content-type": "text/html", "response-cache-control": "no-store", "response-content-disposition": "inline"}
    response = client.request("GET", f"/{BUCKET}/headed", query=list(overrides.items()))
    for name, value in overrides.items():
        assert response.headers[name.removeprefix("response-")] == value
    client.put(BUCKET, "bare", b"x")
    assert client.head(BUCKET, "bare").headers["content-type"] == "binary/octet-stream"


def test_two_kilobytes_of_metadata_stay_with_the_object(shared):
    client = shared.client()
    headers = {f"x-amz-meta-{i:03}": "v" * 90 for i in range(20)}
    assert client.request("PUT", f"/{BUCKET}/much", b"x", headers=headers).status == 200
    read = client.head(BUCKET, "much")
    assert all(read.headers[name] == value for name, value in headers.items())


def test_conditions_on_reads(shared):
    client = shared.client()
    etag = client.put(BUCKET, "cond", b"body").etag
    modified = client.head(BUCKET, "cond").headers["last-modified"]
    past, future = "Mon, 01 Jan 2001 00:00:00 GMT", "Thu, 01 Dec 2033 16:00:00 GMT"
    expected = [
        ({"if_match": etag}, 200),
        ({"if_match": '"other"'}, 412),
        ({"if_match": "*"}, 200),
        ({"if_none_match": etag}, 304),
        ({"if_none_match": '"other"'}, 200),
        ({"if_none_match": "*"}, 304),
        ({"if_modified_since": past}, 200),
        ({"if_modified_since": modified}, 304),
        ({"if_unmodified_since": past}, 412),
        ({"if_unmodified_since": modified}, 200),
        # RFC 9110 section 13.2.2: the entity tag wins over the date.
        ({"if_match": etag, "if_unmodified_since": past}, 200),
        ({"if_none_match": '"other"', "if_modified_since": modified}, 200),
        # RFC 2616 section 14.25: a date ahead of the server's is none, which RFC 9110 leaves out and S3 keeps.
        ({"if_modified_since": future}, 200),
        ({"if_unmodified_since": future}, 200),
    ]
    for headers, status in expected:
        for response in (client.get(BUCKET, "cond", **headers), client.head(BUCKET, "cond", **headers)):
            assert response.status == status, (headers, response)
            if status == 304:
                assert response.etag == etag


def test_conditions_on_writes(shared):
    client = shared.client()
    client.delete(BUCKET, "once")
    assert client.put(BUCKET, "once", b"1", if_match='"x"').status == 404
    etag = client.put(BUCKET, "once", b"1", if_none_match="*").etag
    refused = client.put(BUCKET, "once", b"2", if_none_match="*")
    assert (refused.status, refused.code) == (412, "PreconditionFailed")
    assert client.put(BUCKET, "once", b"2", if_match='"other"').status == 412
    assert client.put(BUCKET, "once", b"3", if_match=etag).status == 200
    assert client.get(BUCKET, "once").body == b"3"


def test_of_24_creators_exactly_one_wins(server, client):
    for size in (10, 200_000):
        for round_number in range(5):
            key, answers = f"race-{size}-{round_number}", []
            bodies = [bytes([n]) * size for n in range(24)]
            ready = threading.Barrier(24)

            def create(n):
                request = client.signed("PUT", f"/{BUCKET}/{key}", bodies[n], headers={"If-None-Match": "*"})
                with client.connect() as connection:
                    connection.send(request.head())
                    ready.wait()
                    connection.send(request.body)
                    answers.append((connection.response().status, n))

            threads = [threading.Thread(target=create, args=(n,)) for n in range(24)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            winners = [n for status, n in answers if status == 200]
            assert len(winners) == 1 and len(answers) == 24, sorted(answers)
            assert {status for status, _ in answers} <= {200, 412, 409}
            assert client.get(BUCKET, key).body == bodies[winners[0]]


def test_a_file_made_through_posix_counts(server, client):
    (server.data / BUCKET / "made").write_bytes(b"by hand")
    refused = client.put(BUCKET, "made", b"by s3", if_none_match="*")
    assert (refused.status, refused.code) == (412, "PreconditionFailed")
    # A file younger than a tick of the file clock has an ETag that is not believed twice.
    time.sleep(0.1)
    etag = client.head(BUCKET, "made").etag
    assert client.put(BUCKET, "made", b"by s3", if_match=etag).status == 200
    assert (server.data / BUCKET / "made").read_bytes() == b"by s3"


def test_a_file_made_while_the_body_is_under_way_counts(server, client):
    request = client.signed("PUT", f"/{BUCKET}/late", b"x" * 100, headers={"If-None-Match": "*"})
    with client.connect() as connection:
        connection.send(request.head() + request.body[:50])
        (server.data / BUCKET / "late").write_bytes(b"by hand")
        connection.send(request.body[50:])
        assert connection.response().status == 412
    assert (server.data / BUCKET / "late").read_bytes() == b"by hand"


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksums(shared, algorithm):
    from awscrt import checksums
    import base64

    body = os.urandom(300_000)
    of = {
        "CRC32": lambda: checksums.crc32(body).to_bytes(4, "big"),
        "CRC32C": lambda: checksums.crc32c(body).to_bytes(4, "big"),
        "CRC64NVME": lambda: checksums.crc64nvme(body).to_bytes(8, "big"),
        "SHA1": lambda: hashlib.sha1(body).digest(),
        "SHA256": lambda: hashlib.sha256(body).digest(),
    }
    value, name = base64.b64encode(of[algorithm]()).decode(), f"x-amz-checksum-{algorithm.lower()}"
    client = shared.client()
    response = client.request("PUT", f"/{BUCKET}/summed", body, headers={name: value})
    assert response.status == 200 and response.headers[name] == value, response
    read = client.get(BUCKET, "summed", x_amz_checksum_mode="ENABLED")
    assert read.headers[name] == value and read.headers["x-amz-checksum-type"] == "FULL_OBJECT"
    assert name not in client.get(BUCKET, "summed").headers
    # A range's bytes are not what the checksum is of.
    assert name not in client.get(BUCKET, "summed", range="bytes=0-9", x_amz_checksum_mode="ENABLED").headers


def test_expect_continue(shared):
    client = shared.client()
    with client.connect() as connection:
        request = client.signed("PUT", f"/{BUCKET}/expected", b"body", headers={"Expect": "100-continue"})
        connection.send(request.head())
        assert connection.response().status == 100
        connection.send(request.body)
        assert connection.response().status == 200
    with client.connect() as connection:
        request = client.signed("PUT", f"/{BUCKET}/expected", b"other", headers={"Expect": "100-continue", "If-None-Match": "*"})
        connection.send(request.head())
        assert connection.response().status == 412
    forged = client.signed("PUT", f"/{BUCKET}/expected", b"other", headers={"Expect": "100-continue"})
    forged.headers["Authorization"] = forged.headers["Authorization"][:-1] + "x"
    with client.connect() as connection:
        connection.send(forged.head())
        assert connection.response().status in (400, 403)
    assert client.get(BUCKET, "expected").body == b"body"


def test_pipelined_requests_are_answered_in_order(shared):
    client = shared.client()
    for n in range(10):
        client.put(BUCKET, f"pipe-{n}", b"%d" % n * 1000)
    with client.connect() as connection:
        requests = [client.signed("GET", f"/{BUCKET}/pipe-{n}") for n in range(10)]
        connection.send(b"".join(request.encode() for request in requests))
        assert [connection.response().body for _ in range(10)] == [b"%d" % n * 1000 for n in range(10)]


def test_one_byte_at_a_time(shared):
    client = shared.client()
    request = sigv4.streaming_put(f"/{BUCKET}/drip", b"dripping", CREDENTIALS, client.host, sigv4.STREAMING, 65536)
    with client.connect() as connection:
        for byte in request.encode():
            connection.send(bytes([byte]))
        assert connection.response().status == 200
    assert client.get(BUCKET, "drip").body == b"dripping"


def test_absolute_form_and_virtual_host(scratch):
    import tempfile
    from pathlib import Path

    from harness.server import Server

    with Server(Path(tempfile.mkdtemp(dir=scratch)) / "data", args=["--domain", "s3.example.test"]) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        client.put(BUCKET, "k", b"v")
        request = client.signed("GET", f"/{BUCKET}/k")
        absolute = request.encode().replace(b"GET /", f"GET http://{client.host}/".encode(), 1)
        assert client.exchange(absolute).body == b"v"
        for target in ("/k", "/"):
            request = sigv4.Request("GET", target, headers={"Host": f"{BUCKET}.s3.example.test"})
            sigv4.sign(request, CREDENTIALS, "")
            response = client.exchange(request)
            assert response.status == 200 and (response.body == b"v" or b"<Key>k</Key>" in response.body)


def test_a_bucket_keeps_its_creation_date(client, server):
    """CreationDate is the date the bucket was created (API_Bucket), whatever became of the directory's times since."""
    import os

    created = client.request("GET", "/").field("CreationDate")
    os.utime(server.data / BUCKET, (10**9, 10**9))
    assert created and client.request("GET", "/").field("CreationDate") == created


@pytest.mark.parametrize("key", ["plain", "with space", "ü/ö", "a+b(c)", "a/b/../c"])
def test_copies(shared, key):
    client = shared.client()
    client.request("PUT", f"/{BUCKET}/{encode_key(key)}", b"source", headers={"x-amz-meta-a": "1", "Content-Type": "text/a"})
    source = f"/{BUCKET}/{encode_key(key)}"
    copied = client.request("PUT", f"/{BUCKET}/copy", headers={"x-amz-copy-source": source})
    assert copied.status == 200 and hashlib.md5(b"source").hexdigest() in copied.field("ETag"), copied
    read = client.get(BUCKET, "copy")
    assert (read.body, read.headers["x-amz-meta-a"], read.headers["content-type"]) == (b"source", "1", "text/a")
    replace = {"x-amz-copy-source": source, "x-amz-metadata-directive": "REPLACE", "x-amz-meta-b": "2"}
    assert client.request("PUT", f"/{BUCKET}/copy", headers=replace).status == 200
    read = client.head(BUCKET, "copy")
    assert "x-amz-meta-a" not in read.headers and read.headers["x-amz-meta-b"] == "2"


def test_copy_to_itself_and_conditions(shared):
    client = shared.client()
    etag = client.put(BUCKET, "self", b"self").etag
    here = {"x-amz-copy-source": f"{BUCKET}/self"}
    response = client.request("PUT", f"/{BUCKET}/self", headers=here)
    assert (response.status, response.code) == (400, "InvalidRequest")
    replaced = here | {"x-amz-metadata-directive": "REPLACE", "x-amz-meta-new": "1"}
    assert client.request("PUT", f"/{BUCKET}/self", headers=replaced).status == 200
    assert client.head(BUCKET, "self").headers["x-amz-meta-new"] == "1"
    for condition, status in [("if-match", 200), ("if-none-match", 412)]:
        headers = here | {f"x-amz-copy-source-{condition}": etag}
        assert client.request("PUT", f"/{BUCKET}/self-copy", headers=headers).status == status
    missing = client.request("PUT", f"/{BUCKET}/x", headers={"x-amz-copy-source": f"{BUCKET}/none"})
    assert (missing.status, missing.code) == (404, "NoSuchKey")


def test_deletes(shared):
    client = shared.client()
    client.put(BUCKET, "gone", b"x")
    assert client.delete(BUCKET, "gone").status == 204
    assert client.delete(BUCKET, "gone").status == 204
    assert client.get(BUCKET, "gone").code == "NoSuchKey"
    assert client.delete("no-such-bucket", "gone").code == "NoSuchBucket"
    for n in range(5):
        client.put(BUCKET, f"many/{n}", b"x")
    keys = "".join(f"<Object><Key>many/{n}</Key></Object>" for n in range(6))
    for quiet in ("true", "false"):
        body = f"<Delete><Quiet>{quiet}</Quiet>{keys}</Delete>".encode()
        response = client.request("POST", f"/{BUCKET}/", body, [("delete", "")], {"Content-MD5": sigv4.md5_base64(body)})
        assert response.status == 200 and response.body.count(b"<Deleted>") == (0 if quiet == "true" else 6)
    assert client.head(BUCKET, "many/0").status == 404


def test_buckets(server, client):
    again = client.request("PUT", f"/{BUCKET}")
    assert again.status in (200, 409) and again.code in (None, "BucketAlreadyOwnedByYou")
    assert client.request("HEAD", "/absent-bucket").status == 404
    location = client.request("GET", f"/{BUCKET}", query=[("location", "")])
    assert location.status == 200 and b"LocationConstraint" in location.body
    client.create_bucket("another")
    listed = client.request("GET", "/").body
    assert b"<Name>another</Name>" in listed and f"<Name>{BUCKET}</Name>".encode() in listed and b".sluice" not in listed
    client.put("another", "x", b"")
    assert client.request("DELETE", "/another").code == "BucketNotEmpty"
    client.delete("another", "x")
    assert client.request("DELETE", "/another").status == 204
    assert client.request("DELETE", "/another").code == "NoSuchBucket"
    assert not (server.data / "another").exists()
