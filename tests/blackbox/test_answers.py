"""What S3 answers in the corners, by the pages of AWS' API reference: the public ceph suite found these."""

from __future__ import annotations

import hashlib
import re
import tempfile
from base64 import b64encode
from datetime import datetime, timezone
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from conftest import BUCKET
from harness import sigv4
from harness.server import CREDENTIALS, Server
from harness.sigv4 import Credentials
from harness.wire import Client

OTHER_ETAG = '"d41d8cd98f00b204e9800998ecf8427e"'


def test_conditions_on_deletes(shared):
    """API_DeleteObject: what is gone has no wrong size or date (204); an entity tag of nothing is NoSuchKey, as in conditional writes."""
    client = shared.client()
    past = "Mon, 01 Jan 2001 00:00:00 GMT"
    etag = client.put(BUCKET, "leaving", b"body").etag
    for wrong in ({"if_match": OTHER_ETAG}, {"x_amz_if_match_size": "5"}, {"x_amz_if_match_last_modified_time": past}):
        refused = client.delete(BUCKET, "leaving", **wrong)
        assert (refused.status, refused.code) == (412, "PreconditionFailed"), wrong
    assert client.delete(BUCKET, "leaving", if_match=etag, x_amz_if_match_size="4").status == 204
    assert client.delete(BUCKET, "leaving", x_amz_if_match_size="4").status == 204
    assert client.delete(BUCKET, "leaving", x_amz_if_match_last_modified_time=past).status == 204
    for on_nothing in (etag, "*"):
        refused = client.delete(BUCKET, "leaving", if_match=on_nothing)
        assert (refused.status, refused.code) == (404, "NoSuchKey")


def sha256(body: bytes) -> str:
    return b64encode(hashlib.sha256(body).digest()).decode()


def upload_with_checksums(client, key: str, bodies: list[bytes]) -> None:
    """With so much metadata that the record does not fit into an attribute of ext4."""
    announced = {"x-amz-checksum-algorithm": "SHA256", "x-amz-checksum-type": "COMPOSITE"}
    announced |= {f"x-amz-meta-{i:03}": "v" * 95 for i in range(20)}
    upload_id = client.request("POST", f"/{BUCKET}/{key}", query=[("uploads", "")], headers=announced).field("UploadId")
    listed = ""
    for number, body in enumerate(bodies, 1):
        query = [("partNumber", str(number)), ("uploadId", upload_id)]
        etag = client.request("PUT", f"/{BUCKET}/{key}", body, query=query, headers={"x-amz-checksum-sha256": sha256(body)}).etag
        listed += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag><ChecksumSHA256>{sha256(body)}</ChecksumSHA256></Part>"
    document = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
    assert client.request("POST", f"/{BUCKET}/{key}", document, query=[("uploadId", upload_id)]).status == 200


def test_each_part_keeps_its_checksum(shared):
    """User guide, "Checking object integrity": GET and HEAD of a part number, and ObjectParts of GetObjectAttributes."""
    client = shared.client()
    bodies = [b"a" * 5_242_880, b"b" * 5_242_880, b"c" * 1000]
    upload_with_checksums(client, "in-parts", bodies)
    assert client.request("PUT", f"/{BUCKET}/copied", headers={"x-amz-copy-source": f"{BUCKET}/in-parts"}).status == 200
    for key in ("in-parts", "copied"):
        for number, body in enumerate(bodies, 1):
            for method in ("GET", "HEAD"):
                asked = {"x-amz-checksum-mode": "ENABLED"}
                read = client.request(method, f"/{BUCKET}/{key}", query=[("partNumber", str(number))], headers=asked)
                assert (read.status, read.headers["x-amz-checksum-sha256"]) == (206, sha256(body)), (key, number, method)
                assert read.headers["x-amz-checksum-type"] == "COMPOSITE"
            unasked = client.request("HEAD", f"/{BUCKET}/{key}", query=[("partNumber", str(number))])
            assert "x-amz-checksum-sha256" not in unasked.headers
        wanted = {"x-amz-object-attributes": "ObjectParts"}
        attributes = client.request("GET", f"/{BUCKET}/{key}", query=[("attributes", "")], headers=wanted).body.decode()
        assert re.findall("<ChecksumSHA256>(.*?)</ChecksumSHA256>", attributes) == [sha256(body) for body in bodies]


@pytest.mark.parametrize(
    "sent, kept",
    [
        ("deflate, gzip", "deflate, gzip"),
        ("gzip", "gzip"),
        ("gzip, aws-chunked", "gzip"),
        ("aws-chunked,gzip", "gzip"),
        ("AWS-chunked", None),
    ],
)
def test_content_encoding_stays_as_it_came(shared, sent, kept):
    """API_PutObject keeps the header; `aws-chunked` alone is no property of the object (SigV4 streaming)."""
    client = shared.client()
    assert client.request("PUT", f"/{BUCKET}/coded", b"x", headers={"Content-Encoding": sent}).status == 200
    assert client.head(BUCKET, "coded").headers.get("content-encoding") == kept


@pytest.mark.parametrize("zone, status", [("-0000", 200), ("GMT", 200), ("-0100", 403)])
def test_the_date_that_botocore_signs(shared, zone, status):
    """botocore signs a `Date` of its caller in place of `x-amz-date`, and writes UTC as e-mail does (RFC 5322 section 3.3)."""
    client, now = shared.client(), datetime.now(timezone.utc)
    headers = {"Host": client.host, "Date": now.strftime("%a, %d %b %Y %H:%M:%S ") + zone}
    headers |= {"x-amz-content-sha256": sigv4.EMPTY_SHA256, "Content-Length": "0"}
    request = sigv4.Request("PUT", f"/{BUCKET}/dated", headers=headers)
    signed, date = ["date", "host", "x-amz-content-sha256"], now.strftime("%Y%m%dT%H%M%SZ")
    text = sigv4.string_to_sign(CREDENTIALS, date, request.canonical(signed, sigv4.EMPTY_SHA256, []))
    credential = f"{CREDENTIALS.access_key}/{CREDENTIALS.scope(date)}"
    parts = f"Credential={credential}, SignedHeaders={';'.join(signed)}, Signature={CREDENTIALS.sign(date, text)}"
    request.headers["Authorization"] = f"AWS4-HMAC-SHA256 {parts}"
    assert client.exchange(request).status == status


def account_of(server) -> str:
    """What the start message says."""
    return re.search(r"^  account +(\d{12})$", server.log(), re.M).group(1)


def test_whose_bucket_it_must_be(shared):
    """User guide, "Verifying bucket ownership with bucket owner condition": 12 digits of an account, 403 where it is another's.
    "List of error codes": InvalidBucketOwnerAWSAccountID where it is none."""
    client, account = shared.client(), account_of(shared)
    client.put(BUCKET, "mine", b"x")
    another = "".join(str((int(digit) + 1) % 10) for digit in account)
    malformed = (account[:-1], account + "0", "abc", "", hashlib.sha256(b"").hexdigest())
    source = {"x-amz-copy-source": f"/{BUCKET}/mine"}
    requests = [
        ("GET", f"/{BUCKET}/mine", "x-amz-expected-bucket-owner", {}),
        ("HEAD", f"/{BUCKET}", "x-amz-expected-bucket-owner", {}),
        ("PUT", f"/{BUCKET}/mine", "x-amz-expected-bucket-owner", {}),
        ("PUT", f"/{BUCKET}/copy", "x-amz-expected-bucket-owner", source),
        ("PUT", f"/{BUCKET}/copy", "x-amz-source-expected-bucket-owner", source),
    ]
    for method, target, name, others in requests:
        asked = lambda owner: client.request(method, target, headers={name: owner, **others})  # noqa: E731
        assert asked(account).status == 200, (method, target, name)
        refused = asked(another)
        assert refused.status == 403 and refused.code in ("AccessDenied", None), (method, target, name)
        for owner in malformed:
            refused = asked(owner)
            assert refused.status == 400 and refused.code in ("InvalidBucketOwnerAWSAccountID", None), (method, name, owner)
    assert client.get(BUCKET, "mine", x_amz_expected_bucket_owner="abc").code == "InvalidBucketOwnerAWSAccountID"


def test_a_copy_to_itself_with_a_storage_class(shared):
    """API_CopyObject: to itself with a storage class is a change, also to the same one (minio#9357; `aws s3 cp --storage-class`)."""
    client = shared.client()
    client.put(BUCKET, "itself", b"bytes", x_amz_meta_a="1", content_type="text/plain")
    source = {"x-amz-copy-source": f"/{BUCKET}/itself"}
    refused = client.request("PUT", f"/{BUCKET}/itself", headers=source)
    assert (refused.status, refused.code) == (400, "InvalidRequest")
    copied = client.request("PUT", f"/{BUCKET}/itself", headers=source | {"x-amz-storage-class": "STANDARD"})
    assert copied.status == 200, copied
    read = client.get(BUCKET, "itself")
    assert (read.body, read.headers["x-amz-meta-a"], read.headers["content-type"]) == (b"bytes", "1", "text/plain")


@pytest.fixture(scope="module")
def strict(scratch):
    """A server whose operator named a region."""
    with Server(Path(tempfile.mkdtemp(prefix="strict-", dir=scratch)) / "data", args=["--region", "us-east-1"]) as server:
        server.client().create_bucket(BUCKET)
        yield server


def test_the_region_is_told_where_another_was_signed(strict):
    """API_HeadBucket: `x-amz-bucket-region` also comes with 403. botocore's region redirector reads it of a HEAD, which has no body."""
    client = strict.client()
    client.put(BUCKET, "here", b"x")
    elsewhere = Client(strict.port, Credentials(CREDENTIALS.access_key, CREDENTIALS.secret_key, region="eu-west-1"))
    for method, target in [("HEAD", f"/{BUCKET}/here"), ("GET", f"/{BUCKET}/here"), ("HEAD", f"/{BUCKET}")]:
        refused = elsewhere.request(method, target)
        assert (refused.status, refused.headers.get("x-amz-bucket-region")) == (400, "us-east-1"), (method, target)
    link = elsewhere.presigned("GET", f"/{BUCKET}/here")
    assert elsewhere.exchange(link).headers.get("x-amz-bucket-region") == "us-east-1"
    # Go's `GetBucketRegion` asks without a signature.
    anonymous = client.exchange(f"HEAD /{BUCKET} HTTP/1.1\r\nHost: {client.host}\r\n\r\n".encode())
    assert (anonymous.status, anonymous.headers.get("x-amz-bucket-region")) == (403, "us-east-1")
    # What is not there has no region.
    missing = client.request("HEAD", "/no-such-bucket")
    assert (missing.status, missing.headers.get("x-amz-bucket-region")) == (404, None)
    assert "x-amz-bucket-region" not in client.get(BUCKET, "nothing-here").headers


def test_boto3_finds_the_region_by_itself(strict, tmp_path):
    strict.client().put(BUCKET, "here", b"found")
    wrong = boto3.client(
        "s3",
        endpoint_url=strict.endpoint,
        aws_access_key_id=CREDENTIALS.access_key,
        aws_secret_access_key=CREDENTIALS.secret_key,
        region_name="eu-west-1",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
    )
    assert wrong.head_object(Bucket=BUCKET, Key="here")["ContentLength"] == 5
    wrong.download_file(BUCKET, "here", str(tmp_path / "here"))
    assert (tmp_path / "here").read_bytes() == b"found"


def test_tags_at_creation(shared):
    """Where tags at creation are not to be had, S3 says so with this code, and Terraform's provider then creates without them
    (terraform-provider-aws#45566, #45684)."""
    client = shared.client()
    for index, (tags, status) in enumerate([("<Tags><Tag><Key>a</Key><Value>b</Value></Tag></Tags>", 400), ("<Tags/>", 200), ("<Tags></Tags>", 200)]):
        body = f'<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{tags}</CreateBucketConfiguration>'
        answer = client.request("PUT", f"/tagged-{index}", body.encode())
        assert answer.status == status, answer
        if status == 400:
            assert answer.code == "UnsupportedArgument"
            assert answer.field("Message") == "The request contained an unsupported argument."
            assert client.request("HEAD", f"/tagged-{index}").status == 404


def test_the_location_of_what_was_completed(shared):
    """API_CompleteMultipartUpload, Location: "The URI that identifies the newly created object"."""
    for client, scheme in [(shared.client(), "http"), (shared.client(shared.certificates.context()), "https")]:
        upload = client.start_upload(BUCKET, "whole")
        part = client.put_part(BUCKET, "whole", upload, 1, b"x")
        completed = client.complete(BUCKET, "whole", upload, [(1, part.etag)])
        assert completed.field("Location") == f"{scheme}://{client.host}/{BUCKET}/whole"


def test_a_part_and_a_range_at_once(shared):
    """API_GetObject; the message as S3 gave it (ceph#66780)."""
    client = shared.client()
    client.put(BUCKET, "ranged", b"0123456789")
    for method in ("GET", "HEAD"):
        refused = client.request(method, f"/{BUCKET}/ranged", query=[("partNumber", "1")], headers={"Range": "bytes=1-2"})
        assert refused.status == 400
    refused = client.request("GET", f"/{BUCKET}/ranged", query=[("partNumber", "1")], headers={"Range": "bytes=1-2"})
    assert refused.code == "InvalidRequest"
    assert refused.field("Message") == "Cannot specify both Range header and partNumber query parameter"


def test_buckets_of_one_region(strict):
    """API_ListBuckets: "bucket-region: Limits the response to buckets that are located in the specified region"."""
    client = strict.client()
    listed = lambda region: re.findall(b"<Name>(.*?)</Name>", client.request("GET", "/", query=[("bucket-region", region)]).body)  # noqa: E731
    assert BUCKET.encode() in listed("us-east-1") and listed("eu-west-1") == []


def test_no_parts_are_no_part_of_more(shared):
    client = shared.client()
    upload = client.start_upload(BUCKET, "listed")
    client.put_part(BUCKET, "listed", upload, 1, b"x")
    listed = client.request("GET", f"/{BUCKET}/listed", query=[("uploadId", upload), ("max-parts", "0")])
    assert (listed.status, listed.field("IsTruncated"), listed.field("PartNumber")) == (200, "false", None)


def test_an_unknown_encoding_of_uploads(shared):
    """API_ListMultipartUploads: "Valid Values: url"."""
    client = shared.client()
    for value, status in [("url", 200), ("", 200), ("foo", 400)]:
        listed = client.request("GET", f"/{BUCKET}", query=[("uploads", ""), ("encoding-type", value)])
        assert listed.status == status and listed.code == (None if status == 200 else "InvalidArgument")


def test_a_part_that_is_too_small_is_named(shared):
    """API_CompleteMultipartUpload, EntityTooSmall: `<ETag>` is the part's."""
    client = shared.client()
    upload = client.start_upload(BUCKET, "small")
    parts = [(number, client.put_part(BUCKET, "small", upload, number, b"x" * number).etag) for number in (1, 2)]
    refused = client.complete(BUCKET, "small", upload, parts)
    assert (refused.status, refused.code, refused.field("PartNumber")) == (400, "EntityTooSmall", "1")
    assert refused.field("ETag") == parts[0][1].strip('"')


@pytest.mark.parametrize(
    "method, target, allowed",
    [
        ("POST", "/", "GET"),
        ("PATCH", f"/{BUCKET}", "DELETE, GET, HEAD, PUT"),
        ("PATCH", f"/{BUCKET}/key", "DELETE, GET, HEAD, PUT"),
        ("POST", f"/{BUCKET}/key?tagging", "DELETE, GET, PUT"),
    ],
)
def test_what_is_allowed_instead(shared, method, target, allowed):
    """RFC 9110 section 15.5.6: a 405 says in `Allow` what the resource takes."""
    path, _, query = target.partition("?")
    refused = shared.client().request(method, path, query=[(query, "")] if query else [])
    assert refused.status == 405, refused
    assert ", ".join(sorted(refused.headers["allow"].split(", "))) == allowed


def test_the_condition_that_did_not_hold(shared):
    """As writes say it; the names for sources of copies are those of S3's answers."""
    client, past = shared.client(), "Mon, 01 Jan 2001 00:00:00 GMT"
    etag = client.put(BUCKET, "conditional", b"x").etag
    modified = client.head(BUCKET, "conditional").headers["last-modified"]
    for name, value in [("If-Match", OTHER_ETAG), ("If-Unmodified-Since", past)]:
        refused = client.request("GET", f"/{BUCKET}/conditional", headers={name: value})
        assert (refused.status, refused.field("Condition")) == (412, name)
    for name, value in [("If-Match", OTHER_ETAG), ("If-Unmodified-Since", past), ("If-None-Match", etag), ("If-Modified-Since", modified)]:
        headers = {"x-amz-copy-source": f"/{BUCKET}/conditional", f"x-amz-copy-source-{name.lower()}": value}
        refused = client.request("PUT", f"/{BUCKET}/copy", headers=headers)
        assert (refused.status, refused.field("Condition")) == (412, f"x-amz-copy-source-{name}")


def test_an_algorithm_that_is_not_that_of_the_checksum(shared):
    """S3's answer is in versitygw#1598."""
    client = shared.client()
    sent = {"x-amz-checksum-sha256": sha256(b"x")}
    refused = client.request("PUT", f"/{BUCKET}/summed", b"x", headers=sent | {"x-amz-sdk-checksum-algorithm": "CRC32"})
    assert (refused.status, refused.code) == (400, "InvalidRequest")
    assert refused.field("Message") == "Value for x-amz-sdk-checksum-algorithm header is invalid."
    assert client.request("PUT", f"/{BUCKET}/summed", b"x", headers=sent | {"x-amz-sdk-checksum-algorithm": "sha256"}).status == 200
