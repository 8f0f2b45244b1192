"""S3's storage classes: their names are kept and told, whatever lies beneath.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html (`x-amz-storage-class`), and the pages of the other operations.
"""

from __future__ import annotations

import os
import re

import pytest

from conftest import BUCKET
from harness.sigv4 import encode_key
from test_presigned import linked

CLASSES = ["STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER", "DEEP_ARCHIVE", "OUTPOSTS"]
CLASSES += ["GLACIER_IR", "SNOW", "EXPRESS_ONEZONE", "FSX_OPENZFS", "FSX_ONTAP"]


def told(client, key: str) -> tuple[str | None, str, str, str, str]:
    """By HEAD and GET, which agree; by both listings, by that of versions, and by GetObjectAttributes."""
    head, get = client.head(BUCKET, key), client.get(BUCKET, key)
    assert (head.status, get.status) == (200, 200)
    assert head.headers.get("x-amz-storage-class") == get.headers.get("x-amz-storage-class")
    listed = []
    for query in ([("list-type", "2")], [], [("versions", "")]):
        page = client.request("GET", f"/{BUCKET}", query=[*query, ("prefix", key)]).body.decode()
        listed += re.findall("<StorageClass>(.*?)</StorageClass>", page)
    wanted = {"x-amz-object-attributes": "StorageClass"}
    attributes = client.request("GET", f"/{BUCKET}/{encode_key(key)}", query=[("attributes", "")], headers=wanted)
    return head.headers.get("x-amz-storage-class"), *listed, attributes.field("StorageClass")


def expected(name: str) -> tuple[str | None, str, str, str, str]:
    """API_GetObject: "Amazon S3 returns this header for all objects except for S3 Standard storage class objects"."""
    return (None if name == "STANDARD" else name, name, name, name, name)


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_is_kept_and_told(shared, name):
    client = shared.client()
    for number, size in enumerate((0, 10, 200_000)):
        key = f"class-{name}-{number}"
        assert client.put(BUCKET, key, os.urandom(size), x_amz_storage_class=name).status == 200
        assert told(client, key) == expected(name)
    assert client.exchange(linked(client, "PUT", [("x-amz-storage-class", name)], key="linked-class", body=b"x")).status == 200
    assert told(client, "linked-class") == expected(name)


def test_what_is_no_class_is_refused(shared):
    client = shared.client()
    for name in ("COLD", "standard", "STANDARD,GLACIER", ""):
        for headers in ({}, {"x-amz-copy-source": f"/{BUCKET}/never"}):
            refused = client.request("PUT", f"/{BUCKET}/never", b"" if headers else b"x", headers=headers | {"x-amz-storage-class": name})
            assert (refused.status, refused.code) == (400, "InvalidStorageClass"), name
        refused = client.request("POST", f"/{BUCKET}/never", query=[("uploads", "")], headers={"x-amz-storage-class": name})
        assert (refused.status, refused.code) == (400, "InvalidStorageClass"), name
        refused = client.exchange(linked(client, "PUT", [("x-amz-storage-class", name)], key="never", body=b"x"))
        assert (refused.status, refused.code) == (400, "InvalidStorageClass"), name
    assert client.head(BUCKET, "never").status == 404
    # In a query that nobody reads it would be lost.
    assert client.request("PUT", f"/{BUCKET}/never", b"x", query=[("x-amz-storage-class", "GLACIER")]).status == 501


def test_a_copy_has_the_class_that_it_was_given(shared):
    """API_CopyObject: "If the x-amz-storage-class header is not used, the copied object will be stored in the STANDARD Storage Class"."""
    client = shared.client()
    client.put(BUCKET, "cold", b"x", x_amz_storage_class="GLACIER_IR", x_amz_meta_a="1")
    source = {"x-amz-copy-source": f"/{BUCKET}/cold"}
    for directive in ("COPY", "REPLACE"):
        for headers, name in [({}, "STANDARD"), ({"x-amz-storage-class": "ONEZONE_IA"}, "ONEZONE_IA")]:
            copied = client.request("PUT", f"/{BUCKET}/copied-class", headers=source | headers | {"x-amz-metadata-directive": directive})
            assert copied.status == 200
            assert told(client, "copied-class") == expected(name)
            assert client.head(BUCKET, "copied-class").headers.get("x-amz-meta-a") == ("1" if directive == "COPY" else None)
    # To itself: `aws s3 cp --storage-class`.
    assert client.request("PUT", f"/{BUCKET}/cold", headers=source | {"x-amz-storage-class": "DEEP_ARCHIVE"}).status == 200
    assert told(client, "cold") == expected("DEEP_ARCHIVE")


def test_an_upload_in_parts_has_the_class_of_its_beginning(shared):
    client = shared.client()
    started = client.request("POST", f"/{BUCKET}/parts-class", query=[("uploads", "")], headers={"x-amz-storage-class": "STANDARD_IA"})
    upload = started.field("UploadId")
    part = client.put_part(BUCKET, "parts-class", upload, 1, b"x")
    parts = client.request("GET", f"/{BUCKET}/parts-class", query=[("uploadId", upload)])
    uploads = client.request("GET", f"/{BUCKET}", query=[("uploads", ""), ("prefix", "parts-class")])
    assert (parts.field("StorageClass"), uploads.field("StorageClass")) == ("STANDARD_IA", "STANDARD_IA")
    assert client.complete(BUCKET, "parts-class", upload, [(1, part.etag)]).status == 200
    assert told(client, "parts-class") == expected("STANDARD_IA")


def test_what_a_posix_program_writes_has_none(shared):
    """The record is of other bytes then; and an overwrite is a new object."""
    client = shared.client()
    client.put(BUCKET, "edited", b"by s3", x_amz_storage_class="GLACIER")
    (shared.data / BUCKET / "edited").write_bytes(b"by hand")
    assert told(client, "edited") == expected("STANDARD")
    client.put(BUCKET, "over", b"x", x_amz_storage_class="GLACIER")
    client.put(BUCKET, "over", b"y")
    assert told(client, "over") == expected("STANDARD")
    client.put(BUCKET, "folder/", b"", x_amz_storage_class="GLACIER")
    assert client.head(BUCKET, "folder/").headers.get("x-amz-storage-class") == "GLACIER"
