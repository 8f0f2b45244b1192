"""Signature Version 2, by the signers of boto3 (`s3` and `s3-query`): refused as Amazon's newer regions do, and believed only
where the operator asked for it."""

from __future__ import annotations

import io
import tempfile
import urllib.parse
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from conftest import BUCKET
from harness.server import ACCESS_KEY, SECRET_KEY, Server

DOMAIN = "s3.example.test"
KEY = "a b/(1)+~ü//../x.txt"
BODY = bytes(range(256)) * 200
REMEDY = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."


@pytest.fixture(scope="module")
def old(scratch):
    """A server that was started for old clients."""
    folder = Path(tempfile.mkdtemp(prefix="old-", dir=scratch))
    with Server(folder / "data", args=["--allow-sigv2", "--domain", DOMAIN]) as server:
        server.client().create_bucket(BUCKET)
        yield server


def link(server, method: str, params: dict, expires_s: int = 300, style: str = "path", endpoint: str | None = None) -> str:
    client = boto3.client(
        "s3",
        endpoint_url=endpoint or server.endpoint,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
        config=Config(signature_version="s3-query", s3={"addressing_style": style}),
    )
    return client.generate_presigned_url(method, Params={"Bucket": BUCKET} | params, ExpiresIn=expires_s)


def follow(server, url: str, method: str = "GET", body: bytes = b"", headers=()):
    parts = urllib.parse.urlsplit(url)
    lines = [f"{method} {parts.path}?{parts.query} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}", *headers]
    return server.client().exchange("\r\n".join([*lines, "", ""]).encode() + body)


def test_refused_by_default_with_the_remedy(shared):
    client = shared.boto3(signature_version="s3")
    calls = [
        client.list_buckets,
        lambda: client.put_object(Bucket=BUCKET, Key="k", Body=b"x"),
        lambda: client.get_object(Bucket=BUCKET, Key="k"),
    ]
    for call in calls:
        with pytest.raises(ClientError) as error:
            call()
        assert error.value.response["Error"].items() >= {"Code": "InvalidRequest", "Message": REMEDY}.items()
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    response = follow(shared, link(shared, "get_object", {"Key": "k"}))
    assert (response.status, response.code) == (400, "InvalidRequest") and REMEDY in response.body.decode()
    assert shared.client().head(BUCKET, "k").status == 404


def test_said_at_start(shared, old):
    text = old.log_path.read_text()
    assert "AND 2, WHICH IS WEAK" in text and "drop --allow-sigv2" in text
    assert "Version 2" not in shared.log_path.read_text()


def test_the_environment_allows_it_too(data):
    with Server(data, env={"SLUICE_ALLOW_SIGV2": "true"}) as server:
        assert server.boto3(signature_version="s3").list_buckets()["Buckets"] == []


def test_a_life_with_the_old_signer(old):
    s3 = old.boto3(signature_version="s3")
    s3.create_bucket(Bucket="old-life")
    s3.put_object(Bucket="old-life", Key=KEY, Body=BODY, ContentType="text/plain", Metadata={"two": "a  b", "One": "x"})
    head = s3.head_object(Bucket="old-life", Key=KEY)
    assert (head["ContentType"], head["Metadata"], head["ContentLength"]) == ("text/plain", {"two": "a  b", "one": "x"}, len(BODY))
    got = s3.get_object(
        Bucket="old-life", Key=KEY, Range="bytes=10-19", ResponseContentDisposition='attachment; filename="a&b +c"', ResponseCacheControl="no-store"
    )
    assert (got["Body"].read(), got["ContentDisposition"], got["CacheControl"]) == (BODY[10:20], 'attachment; filename="a&b +c"', "no-store")
    s3.copy_object(Bucket="old-life", Key="copy", CopySource={"Bucket": "old-life", "Key": KEY})
    large = bytes(9 << 20)
    s3.upload_fileobj(io.BytesIO(large), "old-life", "large")  # a multipart upload
    assert s3.get_object(Bucket="old-life", Key="large")["Body"].read() == large
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket="old-life", Prefix="")["Contents"]] == [KEY, "copy", "large"]
    assert s3.get_bucket_location(Bucket="old-life")["ResponseMetadata"]["HTTPStatusCode"] == 200
    deleted = s3.delete_objects(Bucket="old-life", Delete={"Objects": [{"Key": KEY}, {"Key": "copy"}, {"Key": "large"}]})
    assert len(deleted["Deleted"]) == 3
    s3.delete_bucket(Bucket="old-life")


def test_links(old):
    stored = follow(old, link(old, "put_object", {"Key": KEY, "ACL": "private"}), "PUT", BODY)
    assert stored.status == 200, stored
    got = follow(old, link(old, "get_object", {"Key": KEY, "ResponseContentType": "image/x y"}))
    assert (got.status, got.body, got.headers["content-type"]) == (200, BODY, "image/x y")
    hosted = link(old, "get_object", {"Key": KEY}, style="virtual", endpoint=f"http://{DOMAIN}:{old.port}")
    assert hosted.startswith(f"http://{BUCKET}.{DOMAIN}:")
    assert follow(old, hosted).body == BODY
    expired = follow(old, link(old, "get_object", {"Key": KEY}, expires_s=-5))
    assert (expired.status, expired.code) == (403, "AccessDenied") and b"Request has expired" in expired.body


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url.replace("/x.txt", "/y.txt"),
        lambda url: url.replace("x.txt?", "x.txt?acl&"),
        lambda url: url.replace("x.txt?", "x.txt?attributes&"),
        lambda url: url.replace("x.txt?", "x.txt?response-content-type=text%2Fhtml&"),
        lambda url: url.replace("x.txt?", "x.txt?versionId=null&"),
        lambda url: url.replace("Expires=1", "Expires=2"),
        lambda url: url.replace("Signature=", "Signature=A"),
    ],
)
def test_a_changed_link_opens_nothing(old, change):
    old.client().put(BUCKET, KEY, BODY)
    url = link(old, "get_object", {"Key": KEY})
    assert follow(old, url).status == 200
    changed = change(url)
    assert changed != url
    response = follow(old, changed)
    assert (response.status, response.code) == (403, "SignatureDoesNotMatch"), response


def test_a_link_is_for_one_method_and_takes_no_more_headers(old):
    old.client().put(BUCKET, KEY, BODY)
    url = link(old, "get_object", {"Key": KEY})
    for method, headers in [("DELETE", ()), ("PUT", ()), ("GET", ["x-amz-meta-a: b"]), ("GET", ["Content-Type: text/plain"])]:
        response = follow(old, url, method, headers=headers)
        assert (response.status, response.code) == (403, "SignatureDoesNotMatch"), response
    assert old.client().get(BUCKET, KEY).body == BODY


def test_wrong_keys(old):
    for access_key, secret, code in [("nobody", SECRET_KEY, "InvalidAccessKeyId"), (ACCESS_KEY, "wrong", "SignatureDoesNotMatch")]:
        client = boto3.client(
            "s3",
            endpoint_url=old.endpoint,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret,
            region_name="us-east-1",
            config=Config(signature_version="s3", s3={"addressing_style": "path"}),
        )
        with pytest.raises(ClientError) as error:
            client.list_objects_v2(Bucket=BUCKET)
        assert error.value.response["Error"]["Code"] == code


def test_new_signatures_are_believed_as_before(old):
    old.client().put(BUCKET, "new", b"v4")
    assert old.boto3().get_object(Bucket=BUCKET, Key="new")["Body"].read() == b"v4"
