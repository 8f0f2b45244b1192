"""Versioning as clients see it: what is set survives, and every verb that can name a version does what S3 says of it
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/Versioning.html)."""

from __future__ import annotations

import json
import os
import threading

import pytest
from botocore.exceptions import ClientError

from harness.server import Server, eventually

BUCKET = "versioned"
NO_VERSION = "0123456789abcdef0123456789abcdef"
ENABLED = {"Status": "Enabled"}
SUSPENDED = {"Status": "Suspended"}


@pytest.fixture
def s3(server):
    client = server.boto3()
    client.create_bucket(Bucket=BUCKET)
    return client


@pytest.fixture
def kept(s3):
    """A client with a bucket that keeps versions."""
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration=ENABLED)
    return s3


def status(client, bucket: str = BUCKET) -> str | None:
    return client.get_bucket_versioning(Bucket=bucket).get("Status")


def refused(call, **arguments) -> dict:
    with pytest.raises(ClientError) as error:
        call(**arguments)
    return error.value.response


def code(call, **arguments) -> tuple[int, str]:
    answer = refused(call, **arguments)
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def put(client, key: str, body: bytes) -> str:
    return client.put_object(Bucket=BUCKET, Key=key, Body=body)["VersionId"]


def get(client, key: str, **arguments) -> tuple[bytes, str | None]:
    answer = client.get_object(Bucket=BUCKET, Key=key, **arguments)
    return answer["Body"].read(), answer.get("VersionId")


# What is set.


def test_it_is_set_and_told(s3):
    assert status(s3) is None
    for configuration in (ENABLED, SUSPENDED, ENABLED):
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration=configuration)
        assert status(s3) == configuration["Status"]
    assert code(s3.get_bucket_versioning, Bucket="nowhere") == (404, "NoSuchBucket")
    assert code(s3.put_bucket_versioning, Bucket="nowhere", VersioningConfiguration=ENABLED) == (404, "NoSuchBucket")


@pytest.mark.parametrize(
    "inner, answer",
    [
        ("<Status>enabled</Status>", (400, "MalformedXML")),
        ("<Status>Disabled</Status>", (400, "MalformedXML")),
        ("<Status>Enabled</Status><Other/>", (400, "MalformedXML")),
        ("<Status>Enabled", (400, "MalformedXML")),
        ("", (400, "IllegalVersioningConfigurationException")),
        ("<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>", (501, "NotImplemented")),
        ("<Status>Enabled</Status><MfaDelete>Disabled</MfaDelete>", (200, None)),
    ],
)
def test_only_what_s3_knows_is_set(server, s3, inner, answer):
    body = f'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inner}</VersioningConfiguration>'
    response = server.client().request("PUT", f"/{BUCKET}", body.encode(), query=[("versioning", "")])
    assert (response.status, response.code if response.status >= 300 else None) == answer
    assert status(s3) == ("Enabled" if answer[0] == 200 else None)


def test_it_survives_a_restart_and_a_kill_right_behind_the_answer(data):
    with Server(data) as server:
        server.boto3().create_bucket(Bucket=BUCKET)
        for configuration in (ENABLED, SUSPENDED, ENABLED, SUSPENDED):
            server.boto3().put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration=configuration)
            server.kill()
            server.start()
            assert status(server.boto3()) == configuration["Status"]
        server.stop()
        server.start()
        assert status(server.boto3()) == "Suspended"


def test_a_directory_that_others_made_can_be_told_to_keep_versions(server):
    client = server.boto3()
    (server.data / BUCKET).mkdir()
    (server.data / BUCKET / "object").write_bytes(b"theirs")
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration=ENABLED)
    document = json.loads((server.data / f".sluice/config/buckets/{BUCKET}.json").read_text().splitlines()[1])
    assert os.getxattr(server.data / BUCKET, "user.sluice.bucket").decode() == document["id"]
    assert get(client, "object") == (b"theirs", "null")
    version = put(client, "object", b"ours")
    assert get(client, "object") == (b"ours", version)
    assert get(client, "object", VersionId="null") == (b"theirs", "null")


def test_of_many_who_set_it_at_once_each_is_answered(server, s3):
    answers, lock = set(), threading.Lock()

    def work(n: int) -> None:
        client = server.boto3()
        for _ in range(10):
            try:
                client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration=[ENABLED, SUSPENDED][n % 2])
                answer = 200
            except ClientError as error:
                answer = error.response["Error"]["Code"]
            with lock:
                answers.add(answer)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    assert answers <= {200, "OperationAborted", "SlowDown"} and 200 in answers, answers
    assert status(s3) in ("Enabled", "Suspended")


def test_what_another_program_writes_is_in_force(server, kept):
    """A document put back from a backup."""
    path = server.data / f".sluice/config/buckets/{BUCKET}.json"
    enabled = path.read_bytes()
    kept.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration=SUSPENDED)
    path.write_bytes(enabled)
    (server.data / ".sluice/config/generation").unlink()
    assert eventually(lambda: status(kept) == "Enabled")


def test_another_directory_keeps_its_versions_on(server, kept):
    """What keeps stays in force, for whoever relied on it."""
    (server.data / BUCKET).rename(server.data / "elsewhere")
    (server.data / BUCKET).mkdir()
    (server.data / ".sluice/config/generation").unlink()
    assert eventually(lambda: status(kept, "elsewhere") == "Enabled")
    assert status(kept) == "Enabled"
    assert code(kept.put_bucket_versioning, Bucket=BUCKET, VersioningConfiguration=SUSPENDED) == (409, "InvalidBucketState")


def test_what_is_damaged_loses_nothing_to_an_overwrite(data):
    with Server(data) as server:
        client = server.boto3()
        client.create_bucket(Bucket=BUCKET)
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration=ENABLED)
        first = put(client, "object", b"first")
        path = data / f".sluice/config/buckets/{BUCKET}.json"
        whole = path.read_bytes()
        path.write_bytes(whole[:-5])
        server.stop()
        server.start()
        client = server.boto3()
        client.put_object(Bucket=BUCKET, Key="object", Body=b"second")
        assert code(client.delete_object, Bucket=BUCKET, Key="object", VersionId=first) == (409, "InvalidBucketState")
        assert code(client.put_bucket_versioning, Bucket=BUCKET, VersioningConfiguration=SUSPENDED) == (409, "InvalidBucketState")
        path.write_bytes(whole)
        server.stop()
        server.start()
        assert get(server.boto3(), "object", VersionId=first) == (b"first", first)


# What clients then see.


def test_a_bucket_that_never_kept_versions_answers_as_ever(server, s3):
    answers = [
        s3.put_object(Bucket=BUCKET, Key="a", Body=b"x"),
        s3.get_object(Bucket=BUCKET, Key="a"),
        s3.head_object(Bucket=BUCKET, Key="a"),
        s3.get_object(Bucket=BUCKET, Key="a", VersionId="null"),
        s3.copy_object(Bucket=BUCKET, Key="b", CopySource=f"{BUCKET}/a"),
        s3.delete_object(Bucket=BUCKET, Key="a"),
        s3.delete_object(Bucket=BUCKET, Key="b", VersionId="null"),
    ]
    headers = [name for answer in answers for name in answer["ResponseMetadata"]["HTTPHeaders"]]
    assert not [name for name in headers if "version" in name or "marker" in name]
    assert code(s3.get_object, Bucket=BUCKET, Key="a", VersionId=NO_VERSION) == (404, "NoSuchVersion")
    assert code(s3.get_object, Bucket=BUCKET, Key="a", VersionId="null") == (404, "NoSuchKey")
    assert "Versions" not in s3.list_object_versions(Bucket=BUCKET)


def test_versions_are_read_and_removed_by_their_ids(kept):
    first, second = put(kept, "key", b"first"), put(kept, "key", b"second")
    assert first != second and get(kept, "key") == (b"second", second)
    assert get(kept, "key", VersionId=first) == (b"first", first)
    assert kept.head_object(Bucket=BUCKET, Key="key", VersionId=first)["ContentLength"] == 5
    attributes = kept.get_object_attributes(Bucket=BUCKET, Key="key", VersionId=first, ObjectAttributes=["ObjectSize"])
    assert (attributes["ObjectSize"], attributes["VersionId"]) == (5, first)
    assert code(kept.get_object, Bucket=BUCKET, Key="key", VersionId=NO_VERSION) == (404, "NoSuchVersion")
    invalid = refused(kept.get_object, Bucket=BUCKET, Key="key", VersionId="none")["Error"]
    assert (invalid["Code"], invalid["Message"]) == ("InvalidArgument", "Invalid version id specified")
    removed = kept.delete_object(Bucket=BUCKET, Key="key", VersionId=second)
    assert removed["VersionId"] == second and "DeleteMarker" not in removed
    assert get(kept, "key") == (b"first", first), "the one before is what it is now"
    assert kept.delete_object(Bucket=BUCKET, Key="key", VersionId=NO_VERSION)["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_a_delete_lays_a_marker(server, kept):
    version = put(kept, "key", b"body")
    deleted = kept.delete_object(Bucket=BUCKET, Key="key")
    marker = deleted["VersionId"]
    assert deleted["DeleteMarker"] is True and marker != version
    gone = refused(kept.get_object, Bucket=BUCKET, Key="key")
    headers = gone["ResponseMetadata"]["HTTPHeaders"]
    assert (gone["ResponseMetadata"]["HTTPStatusCode"], gone["Error"]["Code"]) == (404, "NoSuchKey")
    assert (headers["x-amz-delete-marker"], headers["x-amz-version-id"]) == ("true", marker)
    for call in (kept.get_object, kept.head_object):
        named = refused(call, Bucket=BUCKET, Key="key", VersionId=marker)["ResponseMetadata"]
        assert named["HTTPStatusCode"] == 405
        headers = named["HTTPHeaders"]
        assert headers["allow"] == "DELETE" and headers["x-amz-delete-marker"] == "true" and "last-modified" in headers
    assert code(kept.copy_object, Bucket=BUCKET, Key="copy", CopySource=f"{BUCKET}/key") == (404, "NoSuchKey")
    source = f"{BUCKET}/key?versionId={marker}"
    assert code(kept.copy_object, Bucket=BUCKET, Key="copy", CopySource=source) == (400, "InvalidRequest")
    assert not (server.data / BUCKET / "key").exists()
    undone = kept.delete_object(Bucket=BUCKET, Key="key", VersionId=marker)
    assert undone["DeleteMarker"] is True and undone["VersionId"] == marker
    assert get(kept, "key") == (b"body", version)


def test_many_are_deleted_by_key_and_by_version(kept):
    first, second = put(kept, "a", b"1"), put(kept, "a", b"2")
    put(kept, "b", b"3")
    objects = [{"Key": "a", "VersionId": first}, {"Key": "b"}, {"Key": "a", "VersionId": "none"}]
    answer = kept.delete_objects(Bucket=BUCKET, Delete={"Objects": objects})
    one, other = answer["Deleted"]
    assert one == {"Key": "a", "VersionId": first}
    assert (other["Key"], other["DeleteMarker"]) == ("b", True) and "VersionId" not in other
    marker = other["DeleteMarkerVersionId"]
    assert [(error["Key"], error["VersionId"], error["Code"]) for error in answer["Errors"]] == [("a", "none", "NoSuchVersion")]
    answer = kept.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "b", "VersionId": marker}]})
    assert answer["Deleted"] == [{"Key": "b", "VersionId": marker, "DeleteMarker": True, "DeleteMarkerVersionId": marker}]
    assert get(kept, "a") == (b"2", second) and get(kept, "b")[0] == b"3"


def test_a_copy_of_a_version_restores_it(kept):
    first, second = put(kept, "key", b"first"), put(kept, "key", b"second")
    answer = kept.copy_object(Bucket=BUCKET, Key="key", CopySource=f"{BUCKET}/key?versionId={first}")
    assert answer["CopySourceVersionId"] == first and answer["VersionId"] not in (first, second)
    assert get(kept, "key") == (b"first", answer["VersionId"])
    upload = kept.create_multipart_upload(Bucket=BUCKET, Key="parts")["UploadId"]
    source = f"{BUCKET}/key?versionId={second}"
    part = kept.upload_part_copy(Bucket=BUCKET, Key="parts", UploadId=upload, PartNumber=1, CopySource=source)
    assert part["CopySourceVersionId"] == second
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["CopyPartResult"]["ETag"]}]}
    done = kept.complete_multipart_upload(Bucket=BUCKET, Key="parts", UploadId=upload, MultipartUpload=parts)
    assert get(kept, "parts") == (b"second", done["VersionId"])


def test_suspended_writes_replace_the_one_called_null(kept):
    version = put(kept, "key", b"kept")
    kept.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration=SUSPENDED)
    assert [put(kept, "key", body) for body in (b"one", b"two")] == ["null", "null"]
    assert get(kept, "key") == (b"two", "null") and get(kept, "key", VersionId=version) == (b"kept", version)
    listed = kept.list_object_versions(Bucket=BUCKET)["Versions"]
    assert [(entry["VersionId"], entry["IsLatest"]) for entry in listed] == [("null", True), (version, False)]


def walked(client, **arguments) -> list[tuple]:
    """All pages, each entry as (key, id, is it the latest, is it a marker), or a prefix."""
    found, markers = [], {}
    while True:
        page = client.list_object_versions(Bucket=BUCKET, **arguments, **markers)
        entries = [(e["Key"], e["VersionId"], e["IsLatest"], False) for e in page.get("Versions", [])]
        entries += [(e["Key"], e["VersionId"], e["IsLatest"], True) for e in page.get("DeleteMarkers", [])]
        found += entries + [(e["Prefix"],) for e in page.get("CommonPrefixes", [])]
        if not page["IsTruncated"]:
            return found
        markers = {"KeyMarker": page["NextKeyMarker"]}
        if page.get("NextVersionIdMarker"):
            markers["VersionIdMarker"] = page["NextVersionIdMarker"]


def test_versions_are_listed_by_key_the_newest_first(kept):
    expected = []
    for key in ("a", "b/c", "b/d", "e e"):
        ids = [put(kept, key, b"%d" % n) for n in range(3)]
        if key == "a":
            ids.append(kept.delete_object(Bucket=BUCKET, Key=key)["VersionId"])
        expected += [(key, id_, n == 0, key == "a" and n == 0) for n, id_ in enumerate(reversed(ids))]
    for size in (1000, 5, 2, 1):
        assert sorted(walked(kept, MaxKeys=size)) == sorted(expected), f"pages of {size}"
    page = kept.list_object_versions(Bucket=BUCKET, Prefix="b/")
    assert [(e["Key"], e["VersionId"]) for e in page["Versions"]] == [entry[:2] for entry in expected if entry[0].startswith("b/")]
    assert page["Versions"][0]["Owner"]["ID"] and page["Versions"][0]["ETag"]
    grouped = [entry for entry in walked(kept, Delimiter="/", MaxKeys=2) if len(entry) == 1]
    assert grouped == [("b/",)]
    third = [entry for entry in expected if entry[0] == "b/c"][1]
    page = kept.list_object_versions(Bucket=BUCKET, KeyMarker="b/c", VersionIdMarker=third[1], MaxKeys=1)
    assert [(e["Key"], e["VersionId"]) for e in page["Versions"]] == [expected[expected.index(third) + 1][:2]]
    assert code(kept.list_object_versions, Bucket=BUCKET, KeyMarker="a", VersionIdMarker="none") == (400, "InvalidArgument")


def test_a_bucket_with_versions_is_not_empty(kept):
    version = put(kept, "key", b"x")
    marker = kept.delete_object(Bucket=BUCKET, Key="key")["VersionId"]
    assert "Contents" not in kept.list_objects_v2(Bucket=BUCKET)
    assert code(kept.delete_bucket, Bucket=BUCKET) == (409, "BucketNotEmpty")
    for id_ in (version, marker):
        kept.delete_object(Bucket=BUCKET, Key="key", VersionId=id_)
    kept.delete_bucket(Bucket=BUCKET)
    kept.create_bucket(Bucket=BUCKET)
    assert status(kept) is None and "Versions" not in kept.list_object_versions(Bucket=BUCKET)
