"""A Complete that comes again: the list that made the object is answered as then, any other finds no upload.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html: NoSuchUpload, "the multipart upload might have been
aborted or completed". A client whose connection broke sends the same again and must learn that it is done.
"""

from __future__ import annotations

import hashlib
import os
import threading

import pytest

from conftest import BUCKET
from harness.sigv4 import encode_query

MIB = 1024 * 1024


@pytest.fixture
def made(shared):
    """An object of two of four parts: its key, its upload, its parts, the list that made it, and the answer."""
    client, key = shared.client(), f"made-{os.urandom(4).hex()}"
    upload = client.start_upload(BUCKET, key)
    first, second = os.urandom(5 * MIB), b"second"
    parts = {n: client.put_part(BUCKET, key, upload, n, body).etag for n, body in [(1, first), (2, second), (3, b"third"), (4, second)]}
    listed = [(1, parts[1]), (2, parts[2])]
    answer = client.complete(BUCKET, key, upload, listed)
    assert answer.status == 200, answer
    yield client, key, upload, parts, listed, answer
    assert client.get(BUCKET, key).body in (first + second, b"over", b"")


def test_only_the_same_list_is_answered(made):
    client, key, upload, parts, listed, first = made
    again = client.complete(BUCKET, key, upload, listed)
    assert (again.status, again.field("ETag")) == (200, first.field("ETag"))
    never = f'"{hashlib.md5(b"never uploaded").hexdigest()}"'
    for other in (
        [(1, parts[1])],
        [(2, parts[2])],
        [(3, parts[3])],
        [(1, parts[1]), (2, parts[2]), (3, parts[3])],
        [(1, parts[1]), (3, parts[3])],
        # The same bytes under another number.
        [(1, parts[1]), (4, parts[4])],
        [(1, parts[1]), (2, never)],
        [(7, never)],
        [(2, parts[2]), (1, parts[1])],
        [(1, parts[1]), (2, '"no etag"')],
    ):
        refused = client.complete(BUCKET, key, upload, other)
        assert (refused.status, refused.code) == (404, "NoSuchUpload"), other
    assert client.complete(BUCKET, key, upload, listed).status == 200


def test_what_else_the_repetition_says_is_checked(made):
    client, key, upload, _, listed, _ = made
    size = str(int(client.head(BUCKET, key).headers["content-length"]))
    assert client.complete(BUCKET, key, upload, listed, headers={"x-amz-mp-object-size": size}).status == 200
    refused = client.complete(BUCKET, key, upload, listed, headers={"x-amz-mp-object-size": size + "0"})
    assert (refused.status, refused.code) == (400, "InvalidRequest")
    # The first of them has made the object that the condition forbids; that it did is what the second asks.
    assert client.complete(BUCKET, key, upload, listed, headers={"If-None-Match": "*"}).status == 200
    for method, query in [("DELETE", []), ("GET", []), ("PUT", [("partNumber", "1")])]:
        gone = client.request(method, f"/{BUCKET}/{key}", query=[*query, ("uploadId", upload)])
        assert (gone.status, gone.code) == (404, "NoSuchUpload"), method


def test_not_after_the_object_was_overwritten_copied_or_deleted(made):
    client, key, upload, _, listed, _ = made
    assert client.request("PUT", f"/{BUCKET}/{key}-copy", headers={"x-amz-copy-source": f"/{BUCKET}/{encode_query(key)}"}).status == 200
    assert client.complete(BUCKET, f"{key}-copy", upload, listed).code == "NoSuchUpload"
    client.put(BUCKET, key, b"over")
    assert client.complete(BUCKET, key, upload, listed).code == "NoSuchUpload"
    client.delete(BUCKET, key)
    assert client.complete(BUCKET, key, upload, listed).code == "NoSuchUpload"
    client.put(BUCKET, key, b"")


def test_of_lists_at_once_one_makes_the_object(shared):
    client = shared.client()
    body = os.urandom(5 * MIB)
    for turn in range(4):
        upload, key = client.start_upload(BUCKET, f"raced-{turn}"), f"raced-{turn}"
        etags = [client.put_part(BUCKET, key, upload, n, part).etag for n, part in [(1, body), (2, b"end")]]
        lists = [[(1, etags[0])], [(1, etags[0]), (2, etags[1])], [(2, etags[1])]] * 2
        ready, answers = threading.Barrier(len(lists)), {}

        def complete(number):
            ready.wait()
            answers[number] = client.complete(BUCKET, key, upload, lists[number])

        threads = [threading.Thread(target=complete, args=(number,)) for number in range(len(lists))]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        kept = client.get(BUCKET, key)
        by_list = {body: 0, body + b"end": 1, b"end": 2}[kept.body]
        for number, answer in answers.items():
            if number % 3 == by_list:
                assert (answer.status, f'"{answer.field("ETag")}"'.replace("&quot;", "").replace('""', '"')) == (200, kept.etag), answer
            else:
                # The first white space may have been sent, and with it the 200, before it was known.
                assert answer.code == "NoSuchUpload", (number, by_list, answer)
