"""Pre-signed URLs as the SDKs make them, which move `x-amz-*` headers into the query: aws-sdk-js v3's `getSignedUrl` and
aws-sdk-ruby's `presigned_url` do it with metadata, which S3 then stores (aws-sdk-js-v3#4694, aws-sdk-ruby#1808)."""

from __future__ import annotations

import re
from base64 import b64encode

import boto3
import pytest
from botocore.config import Config

from conftest import BUCKET
from harness import sigv4
from harness.server import CREDENTIALS, Server
from harness.sigv4 import Request

KEY = "linked"


def linked(client, method: str, query, key: str = KEY, body: bytes = b"", headers=None) -> Request:
    """A link that says more than the signature: `query` is signed as all of it is."""
    request = Request(method, f"/{BUCKET}/{key}", list(query), dict(headers or {}), body)
    sigv4.presign(request, CREDENTIALS, client.host)
    if body or method in ("PUT", "POST"):
        request.headers["Content-Length"] = str(len(body))
    return request


def metadata(response) -> dict[str, str]:
    prefix = "x-amz-meta-"
    return {name[len(prefix) :]: value for name, value in response.headers.items() if name.startswith(prefix)}


def test_metadata_of_the_query_is_stored(shared):
    client = shared.client()
    query = [("x-amz-meta-colour", "dark red"), ("X-Amz-Meta-Author", "M\u00fcller & Co"), ("x-id", "PutObject")]
    put = client.exchange(linked(client, "PUT", query, body=b"x"))
    assert put.status == 200, put
    kept = metadata(client.head(BUCKET, KEY))
    # As an encoded word (RFC 2047), as of a header.
    assert kept == {"colour": "dark red", "author": f"=?UTF-8?B?{b64encode('Müller & Co'.encode()).decode()}?="}


def test_metadata_of_query_and_headers_is_one(shared):
    """Signed twice, it may say one thing only."""
    client = shared.client()
    request = linked(client, "PUT", [("x-amz-meta-a", "1")], body=b"x", headers={"x-amz-meta-b": "2"})
    assert client.exchange(request).status == 200
    assert metadata(client.head(BUCKET, KEY)) == {"a": "1", "b": "2"}
    twice = linked(client, "PUT", [("x-amz-meta-a", "1")], body=b"x", headers={"x-amz-meta-a": "1"})
    assert client.exchange(twice).status == 200
    assert metadata(client.head(BUCKET, KEY)) == {"a": "1"}
    contradiction = linked(client, "PUT", [("x-amz-meta-a", "1")], body=b"x", headers={"x-amz-meta-a": "2"})
    refused = client.exchange(contradiction)
    assert (refused.status, refused.code) == (400, "InvalidArgument")


def test_metadata_of_the_query_has_the_same_bound(shared):
    """User guide, "Working with object metadata": 2 KB of names and values."""
    client = shared.client()
    fits = [(f"x-amz-meta-{i}", "v" * 1023) for i in range(2)]
    assert client.exchange(linked(client, "PUT", fits, body=b"x")).status == 200
    refused = client.exchange(linked(client, "PUT", [*fits, ("x-amz-meta-2", "")], body=b"x"))
    assert (refused.status, refused.code) == (400, "MetadataTooLarge")
    both = linked(client, "PUT", fits[:1], body=b"x", headers={"x-amz-meta-1": "v" * 1024})
    refused = client.exchange(both)
    assert (refused.status, refused.code) == (400, "MetadataTooLarge")


@pytest.mark.parametrize("name, value", [("x-amz-meta-a", "b\r\nx: y"), ("x-amz-meta-a b", "c"), ("x-amz-meta-\u00e9", "c"), ("x-amz-meta-", "c")])
def test_metadata_that_no_header_can_carry_is_refused(shared, name, value):
    client = shared.client()
    refused = client.exchange(linked(client, "PUT", [(name, value)], body=b"x"))
    assert (refused.status, refused.code) == (400, "InvalidArgument")


def test_an_upload_in_parts_keeps_metadata_and_checksum_of_the_query(shared):
    client = shared.client()
    query = [("uploads", ""), ("x-amz-meta-a", "1"), ("x-amz-checksum-algorithm", "CRC32"), ("x-amz-checksum-type", "FULL_OBJECT")]
    started = client.exchange(linked(client, "POST", query))
    assert started.status == 200, started
    assert started.headers["x-amz-checksum-algorithm"] == "CRC32"
    assert started.headers["x-amz-checksum-type"] == "FULL_OBJECT"
    upload = started.field("UploadId")
    part = client.put_part(BUCKET, KEY, upload, 1, b"part")
    assert client.complete(BUCKET, KEY, upload, [(1, part.etag)]).status == 200
    assert metadata(client.head(BUCKET, KEY)) == {"a": "1"}
    wrong = [("uploads", ""), ("x-amz-checksum-algorithm", "CRC31")]
    assert client.exchange(linked(client, "POST", wrong)).status == 400


def test_a_copy_takes_metadata_and_directive_of_the_query(shared):
    client = shared.client()
    client.put(BUCKET, "origin", b"x", x_amz_meta_old="1")
    source = {"x-amz-copy-source": f"/{BUCKET}/origin"}
    query = [("x-amz-meta-new", "2"), ("x-amz-metadata-directive", "REPLACE")]
    assert client.exchange(linked(client, "PUT", query, headers=source)).status == 200
    assert metadata(client.head(BUCKET, KEY)) == {"new": "2"}
    # Without the directive, what comes along is not looked at: API_CopyObject.
    assert client.exchange(linked(client, "PUT", query[:1], headers=source)).status == 200
    assert metadata(client.head(BUCKET, KEY)) == {"old": "1"}


def test_what_the_query_asks_for_is_done_or_refused(shared):
    """Nothing that would change what is stored is left aside; checksums are, as S3 does (aws-sdk-js signs that of no body)."""
    client = shared.client()
    for query, status in [
        ([("x-amz-acl", "private")], 200),
        ([("x-amz-storage-class", "STANDARD")], 200),
        ([("x-amz-storage-class", "GLACIER_IR")], 200),
        ([("x-amz-checksum-crc32", "AAAAAA=="), ("x-amz-sdk-checksum-algorithm", "CRC32")], 200),
        ([("x-amz-acl", "public-read")], 400),
        ([("x-amz-storage-class", "COLD")], 400),
        ([("x-amz-server-side-encryption", "aws:kms")], 501),
        ([("x-amz-tagging", "a=b")], 501),
        ([("x-amz-object-lock-mode", "GOVERNANCE")], 400),
        ([("x-amz-website-redirect-location", "/")], 501),
        ([("x-amz-copy-source", f"/{BUCKET}/other")], 501),
    ]:
        answer = client.exchange(linked(client, "PUT", query, body=b"x"))
        assert answer.status == status, (query, answer)
    client.put(BUCKET, KEY, b"x")
    # boto3#3465, aws-sdk-java-v2#7035: S3 tells checksums only to a header. A link from aws-sdk-js has it in its query.
    assert client.exchange(linked(client, "GET", [("x-amz-checksum-mode", "ENABLED")])).status == 200


def test_metadata_in_the_query_beside_a_signed_header_is_refused(shared):
    """No SDK sends it there, and what S3 makes of it is not known: it is not left aside."""
    client = shared.client()
    answer = client.request("PUT", f"/{BUCKET}/{KEY}", b"x", query=[("x-amz-meta-a", "1")])
    assert (answer.status, answer.code) == (501, "NotImplemented")


def test_metadata_of_a_link_of_version_2(data):
    """botocore moves it, too, and signs it as the header that it was; whoever holds the link cannot add any."""
    with Server(data, args=["--allow-sigv2"]) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        old = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            aws_access_key_id=CREDENTIALS.access_key,
            aws_secret_access_key=CREDENTIALS.secret_key,
            region_name="us-east-1",
            config=Config(signature_version="s3", s3={"addressing_style": "path"}),
        )
        link = old.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": KEY, "Metadata": {"a": "1"}})
        target = re.sub(r"^https?://[^/]+", "", link)
        assert "x-amz-meta-a=1" in target
        put = lambda target: client.exchange(f"PUT {target} HTTP/1.1\r\nHost: {client.host}\r\nContent-Length: 1\r\n\r\nx".encode())  # noqa: E731
        assert put(target).status == 200
        assert metadata(client.head(BUCKET, KEY)) == {"a": "1"}
        assert put(target + "&x-amz-meta-b=1").status == 403
        assert metadata(client.head(BUCKET, KEY)) == {"a": "1"}
