"""Buckets that are made and removed while they are used: every answer is one of S3's own for that, and no error of the server's."""

from __future__ import annotations

import threading
import time
from collections import Counter

BUCKET = "flickering"
SECONDS = 4
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
GONE, CONFLICT = (404, "NoSuchBucket"), (409, "OperationAborted")
ALLOWED = {
    "CreateBucket": {(200, None), (409, "BucketAlreadyOwnedByYou"), CONFLICT},
    "DeleteBucket": {(204, None), (409, "BucketNotEmpty"), GONE, CONFLICT},
    "HeadBucket": {(200, None), (404, None)},
    "ListObjectsV2": {(200, None), GONE},
    "ListMultipartUploads": {(200, None), GONE},
    "PutObject": {(200, None), GONE},
    "GetObject": {(200, None), (404, "NoSuchKey"), GONE},
    "DeleteObject": {(204, None), GONE},
    "DeleteObjects": {(200, None), (200, "NoSuchBucket"), GONE},
    "CopyObject": {(200, None), (404, "NoSuchKey"), GONE},
    "CreateMultipartUpload": {(200, None), GONE},
    "UploadPart": {(200, None), (404, "NoSuchUpload"), GONE},
    "CompleteMultipartUpload": {(200, None), (404, "NoSuchUpload"), GONE},
    "AbortMultipartUpload": {(204, None), (404, "NoSuchUpload"), GONE},
}
DELETE_TWO = b"<Delete><Object><Key>a</Key></Object><Object><Key>d/e/f</Key></Object></Delete>"


def make_and_remove(client, see) -> None:
    see("CreateBucket", client.request("PUT", f"/{BUCKET}"))
    see("DeleteBucket", client.request("DELETE", f"/{BUCKET}"))


def use_objects(client, see) -> None:
    for key, body in (("a", b"x"), ("d/e/f", b"y"), ("directory/", b""), ("large", bytes(300_000))):
        see("PutObject", client.put(BUCKET, key, body))
        see("GetObject", client.get(BUCKET, key))
        see("DeleteObject", client.delete(BUCKET, key))


def look(client, see) -> None:
    see("HeadBucket", client.request("HEAD", f"/{BUCKET}"))
    see("ListObjectsV2", client.request("GET", f"/{BUCKET}", query=[("list-type", "2")]))
    see("ListObjectsV2", client.request("GET", f"/{BUCKET}", query=[("list-type", "2"), ("delimiter", "/")]))
    see("ListMultipartUploads", client.request("GET", f"/{BUCKET}", query=[("uploads", "")]))


def copy_and_delete(client, see) -> None:
    see("CopyObject", client.put(BUCKET, "d/copy", **{"x-amz-copy-source": f"/{BUCKET}/a"}))
    see("DeleteObject", client.delete(BUCKET, "d/copy"))
    import base64
    import hashlib

    md5 = base64.b64encode(hashlib.md5(DELETE_TWO).digest()).decode()
    see("DeleteObjects", client.request("POST", f"/{BUCKET}", DELETE_TWO, query=[("delete", "")], headers={"content-md5": md5}))


def use_uploads(client, see) -> None:
    created = client.request("POST", f"/{BUCKET}/u/v", query=[("uploads", "")])
    see("CreateMultipartUpload", created)
    if created.status != 200:
        return
    upload = created.field("UploadId")
    part = client.put_part(BUCKET, "u/v", upload, 1, b"part")
    see("UploadPart", part)
    if part.status == 200:
        see("CompleteMultipartUpload", client.complete(BUCKET, "u/v", upload, [(1, part.etag)]))
        see("DeleteObject", client.delete(BUCKET, "u/v"))
    else:
        see("AbortMultipartUpload", client.request("DELETE", f"/{BUCKET}/u/v", query=[("uploadId", upload)]))


def test_a_bucket_that_comes_and_goes_is_there_or_not(server):
    answers, lock = Counter(), threading.Lock()
    until = time.monotonic() + SECONDS

    def see(operation: str, answer) -> None:
        error = answer.code if answer.status >= 300 or b"<Error>" in answer.body else None
        with lock:
            answers[operation, answer.status, error] += 1

    def work(act) -> None:
        client = server.client()
        while time.monotonic() < until:
            act(client, see)

    acts = [make_and_remove, make_and_remove, use_objects, use_objects, look, copy_and_delete, use_uploads]
    workers = [threading.Thread(target=work, args=(act,)) for act in acts]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    wrong = {seen: count for seen, count in answers.items() if seen[1:] not in ALLOWED[seen[0]]}
    assert not wrong, wrong
    happened = {(operation, status) for operation, status, _ in answers}
    assert {("CreateBucket", 200), ("DeleteBucket", 204), ("PutObject", 200), ("PutObject", 404)} <= happened, answers
    assert server.is_alive() and server.leftovers() == []
