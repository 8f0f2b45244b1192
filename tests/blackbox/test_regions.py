"""Which region is it? Where the operator names none, any that a client signs for, and the client is told its own; where he names one,
only that (test_answers.py)."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from conftest import BUCKET
from harness import sigv4
from harness.server import CREDENTIALS, Server
from harness.sigv4 import Credentials
from harness.wire import Client

# What programs have built in: Garage's, Cloudflare's, Scaleway's; nothing; and what is no name.
REGIONS = ["us-east-1", "eu-west-1", "garage", "auto", "fr-par", "", "US"]
STREAMING = [sigv4.STREAMING, sigv4.STREAMING_TRAILER, sigv4.STREAMING_UNSIGNED_TRAILER]


def credentials(region: str, secret_key: str = CREDENTIALS.secret_key) -> Credentials:
    return Credentials(CREDENTIALS.access_key, secret_key, region=region)


def told(region: str) -> str:
    """What is no name is not told."""
    return region if re.fullmatch(r"[a-z0-9-]{1,63}", region) else "us-east-1"


@pytest.mark.parametrize("region", REGIONS)
def test_any_region_is_believed_if_the_signature_holds(shared, region):
    client = Client(shared.port, credentials(region))
    body = bytes(range(256)) * 600
    assert client.put(BUCKET, "anywhere", body).status == 200
    assert client.get(BUCKET, "anywhere").body == body
    link = client.presigned("GET", f"/{BUCKET}/anywhere")
    assert client.exchange(link).body == body
    for mode in STREAMING:
        put = sigv4.streaming_put(f"/{BUCKET}/streamed", body, client.credentials, client.host, mode)
        assert client.exchange(put).status == 200, mode
        assert client.get(BUCKET, "streamed").body == body
    # A signature made with another secret, or of chunks for another region, is none.
    forged = Client(shared.port, credentials(region, "not-the-secret"))
    refused = forged.get(BUCKET, "anywhere")
    assert (refused.status, refused.code) == (403, "SignatureDoesNotMatch")
    assert forged.exchange(forged.presigned("GET", f"/{BUCKET}/anywhere")).code == "SignatureDoesNotMatch"
    date = sigv4.amz_date()
    request = sigv4.Request("GET", f"/{BUCKET}/anywhere")
    sigv4.sign(request, client.credentials, client.host, date=date)
    request.headers["Authorization"] = request.headers["Authorization"].replace(client.credentials.scope(date), credentials("other").scope(date))
    assert client.exchange(request).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("region", REGIONS)
def test_each_client_is_told_its_own(shared, region):
    """API_HeadBucket, API_GetBucketLocation ("Buckets in Region us-east-1 have a LocationConstraint of null"), API_ListBuckets."""
    client = Client(shared.port, credentials(region))
    head = client.request("HEAD", f"/{BUCKET}")
    assert (head.status, head.headers["x-amz-bucket-region"]) == (200, told(region))
    location = client.request("GET", f"/{BUCKET}", query=[("location", "")])
    constraint = re.search(rb"<LocationConstraint[^>]*?(?:/>|>([^<]*)<)", location.body).group(1) or b""
    assert constraint.decode() == ("" if told(region) == "us-east-1" else told(region))
    assert f"<BucketRegion>{told(region)}</BucketRegion>".encode() in client.request("GET", "/").body
    # Every bucket is in every region.
    for wanted in (told(region), "us-east-1", "ap-south-2"):
        assert f"<Name>{BUCKET}</Name>".encode() in client.request("GET", "/", query=[("bucket-region", wanted)]).body
    linked = client.exchange(client.presigned("HEAD", f"/{BUCKET}"))
    assert (linked.status, linked.headers["x-amz-bucket-region"]) == (200, told(region))


def test_nobody_is_told_the_usual_one(shared):
    client = shared.client()
    anonymous = client.exchange(f"HEAD /{BUCKET} HTTP/1.1\r\nHost: {client.host}\r\n\r\n".encode())
    assert (anonymous.status, anonymous.headers.get("x-amz-bucket-region")) == (403, "us-east-1")


def test_a_bucket_is_made_wherever_it_is_wanted(shared):
    """SDKs send their own region as the LocationConstraint; one that is no region is S3's InvalidLocationConstraint."""
    for number, (region, wanted, status) in enumerate(
        [("eu-west-1", "eu-west-1", 200), ("us-east-1", "eu-west-1", 200), ("us-east-1", "EU", 200), ("", "garage", 200), ("us-east-1", "a b", 400)]
    ):
        client = Client(shared.port, credentials(region))
        body = f"<CreateBucketConfiguration><LocationConstraint>{wanted}</LocationConstraint></CreateBucketConfiguration>"
        made = client.request("PUT", f"/made-{number}", body.encode())
        assert (made.status, made.code) == (status, None if status == 200 else "InvalidLocationConstraint"), (region, wanted)
        # API_CreateBucket: the response's `x-amz-bucket-arn`.
        assert made.headers.get("x-amz-bucket-arn") == (f"arn:aws:s3:::made-{number}" if status == 200 else None)


def test_boto3_with_a_region_of_its_own(shared):
    for region in ("eu-central-1", "garage"):
        settings = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0})
        s3 = boto3.client(
            "s3",
            endpoint_url=shared.endpoint,
            aws_access_key_id=CREDENTIALS.access_key,
            aws_secret_access_key=CREDENTIALS.secret_key,
            region_name=region,
            config=settings,
        )
        s3.create_bucket(Bucket=f"of-{region}", CreateBucketConfiguration={"LocationConstraint": region})
        s3.put_object(Bucket=f"of-{region}", Key="k", Body=b"x")
        assert s3.get_bucket_location(Bucket=f"of-{region}")["LocationConstraint"] == region
        # As in any region but the first: API_CreateBucket, BucketAlreadyOwnedByYou.
        with pytest.raises(ClientError, match="BucketAlreadyOwnedByYou"):
            s3.create_bucket(Bucket=f"of-{region}", CreateBucketConfiguration={"LocationConstraint": region})


def test_an_empty_region_is_refused_where_one_is_named(scratch):
    with Server(Path(tempfile.mkdtemp(prefix="named-", dir=scratch)) / "data", args=["--region", "eu-west-1"]) as server:
        Client(server.port, credentials("eu-west-1")).create_bucket(BUCKET)
        for region in ("", "us-east-1", "EU-WEST-1"):
            refused = Client(server.port, credentials(region)).request("GET", f"/{BUCKET}")
            assert (refused.status, refused.code) == (400, "AuthorizationHeaderMalformed"), region
            assert refused.field("Region") == "eu-west-1" == refused.headers["x-amz-bucket-region"]
            body = b"<CreateBucketConfiguration><LocationConstraint>us-east-1</LocationConstraint></CreateBucketConfiguration>"
            assert Client(server.port, credentials("eu-west-1")).request("PUT", "/other", body).code == "IllegalLocationConstraintException"
