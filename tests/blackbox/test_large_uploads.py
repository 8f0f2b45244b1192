"""Uploads of several blocks whose bytes are signed: every chunk is checked, wherever it begins and ends, and however it comes."""

from __future__ import annotations

import hashlib
import os
import threading
import time

import pytest

from conftest import BUCKET
from harness import sigv4
from harness.server import CREDENTIALS, Server

KIB, MIB = 1024, 1024 * 1024
BLOCK = 512 * KIB
BODY = os.urandom(3 * MIB + 12_345)
SIGNED_MODES = (sigv4.STREAMING, sigv4.STREAMING_TRAILER)
# Also sizes of which very many end in one block, and a few of those between large ones.
CHUNK_SIZES = {
    "tiny": 100,
    "small": 4096,
    "usual": 64 * KIB,
    "blocks": BLOCK,
    "larger than a block": 1_300_000,
    "mixed": [BLOCK - 1, 1, 64 * KIB, *[3] * 700, 5000, 300_000],
}


def etag_of(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


def other_data(at: int):
    def bend(chunks):
        chunks[at].data = bytes([chunks[at].data[0] ^ 1]) + chunks[at].data[1:]
        return chunks

    return bend


def other_signature(at: int):
    def bend(chunks):
        chunks[at].signature = "0" * 64
        return chunks

    return bend


@pytest.mark.parametrize("mode", SIGNED_MODES)
@pytest.mark.parametrize("size", CHUNK_SIZES.values(), ids=CHUNK_SIZES.keys())
def test_chunks_of_any_size(shared, mode, size):
    client = shared.client()
    response = client.exchange(sigv4.streaming_put(f"/{BUCKET}/sizes", BODY, CREDENTIALS, client.host, mode, size))
    assert (response.status, response.etag) == (200, etag_of(BODY)), response
    assert client.get(BUCKET, "sizes").body == BODY
    bent = sigv4.streaming_put(f"/{BUCKET}/bent", BODY, CREDENTIALS, client.host, mode, size, bend=other_data(-2))
    assert client.exchange(bent).code == "SignatureDoesNotMatch"
    assert client.head(BUCKET, "bent").status == 404
    assert shared.leftovers() == []


@pytest.mark.parametrize("length", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 4095, 2 * BLOCK + 4096])
def test_lengths_around_a_block(shared, length):
    client, body = shared.client(), BODY[:length]
    for request in (
        sigv4.streaming_put(f"/{BUCKET}/length", body, CREDENTIALS, client.host, sigv4.STREAMING, 64 * KIB),
        client.signed("PUT", f"/{BUCKET}/length", body),
    ):
        response = client.exchange(request)
        assert (response.status, response.etag) == (200, etag_of(body)), response
        assert client.get(BUCKET, "length").body == body


@pytest.mark.parametrize("at", [0, 7, 8, 20, -2, -1])
def test_one_wrong_chunk_among_many(shared, at):
    """In an object and in a part: the old object stays, the part is none."""
    client = shared.client()
    client.put(BUCKET, "kept", b"old")
    upload = client.start_upload(BUCKET, "parts")
    bends = [other_signature(at)] + ([other_data(at)] if at != -1 else [])
    for bend in bends:
        for target, query in (("kept", ()), ("parts", (("partNumber", "1"), ("uploadId", upload)))):
            request = sigv4.streaming_put(
                f"/{BUCKET}/{target}", BODY, CREDENTIALS, client.host, sigv4.STREAMING, bend=bend, query=query
            )
            response = client.exchange(request)
            assert (response.status, response.code) == (403, "SignatureDoesNotMatch"), response
    assert client.get(BUCKET, "kept").body == b"old"
    assert b"<Part>" not in client.request("GET", f"/{BUCKET}/parts", query=[("uploadId", upload)]).body
    assert client.request("DELETE", f"/{BUCKET}/parts", query=[("uploadId", upload)]).status == 204


def test_the_hash_of_a_large_body_is_checked(shared):
    client = shared.client()
    client.put(BUCKET, "whole", b"old")
    request = client.signed("PUT", f"/{BUCKET}/whole", BODY)
    request.body = BODY[:-1] + bytes([BODY[-1] ^ 1])
    response = client.exchange(request)
    assert (response.status, response.code) == (400, "XAmzContentSHA256Mismatch"), response
    assert client.get(BUCKET, "whole").body == b"old"
    assert client.exchange(client.signed("PUT", f"/{BUCKET}/whole", BODY)).etag == etag_of(BODY)


def test_a_wrong_trailer_signature_behind_many_chunks(shared):
    client = shared.client()
    request = sigv4.streaming_put(
        f"/{BUCKET}/trailer", BODY, CREDENTIALS, client.host, sigv4.STREAMING_TRAILER, trailer_signed="0" * 64
    )
    assert client.exchange(request).code == "SignatureDoesNotMatch"
    assert client.head(BUCKET, "trailer").status == 404


@pytest.mark.parametrize("is_bent", [False, True])
def test_stalls_in_the_middle_of_chunks(shared, is_bent):
    """A stalled upload gives its block back and goes on with another: within a chunk, at its end, inside its line."""
    client = shared.client()
    bend = other_data(9) if is_bent else lambda chunks: chunks
    request = sigv4.streaming_put(f"/{BUCKET}/stalls", BODY, CREDENTIALS, client.host, sigv4.STREAMING, bend=bend)
    body, chunk = request.body, 64 * KIB + 88
    with client.connect() as connection:
        connection.send(request.head())
        at = 0
        for until in (1000, 5000, chunk - 2, chunk, chunk + 30, 3 * chunk + 4000, 9 * chunk + 70_000):
            connection.send(body[at:until])
            at = until
            time.sleep(0.8)
        connection.send(body[at:])
        response = connection.response()
    if is_bent:
        assert response.code == "SignatureDoesNotMatch", response
    else:
        assert (response.status, response.etag) == (200, etag_of(BODY)), response
        assert client.get(BUCKET, "stalls").body == BODY


def test_many_kinds_side_by_side(data):
    """On one core, whose hashes run together: signed, unsigned and wrong ones, of different lengths."""
    with Server(data, args=["--cores", "0"]) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        failures = []

        def upload(n: int) -> None:
            try:
                body, target = BODY[: len(BODY) - n * 100_001], f"/{BUCKET}/{n}"
                for _ in range(3):
                    kinds = [
                        lambda: sigv4.streaming_put(target, body, CREDENTIALS, client.host, sigv4.STREAMING),
                        lambda: client.signed("PUT", target, body, payload_hash=sigv4.UNSIGNED),
                        lambda: client.signed("PUT", target, body),
                        lambda: sigv4.streaming_put(target, body, CREDENTIALS, client.host, sigv4.STREAMING_TRAILER, 9999),
                    ]
                    response = client.exchange(kinds[n % 4]())
                    assert (response.status, response.etag) == (200, etag_of(body)), response
                    bent = sigv4.streaming_put(
                        target, body, CREDENTIALS, client.host, sigv4.STREAMING, bend=other_data(n % 20)
                    )
                    assert client.exchange(bent).code == "SignatureDoesNotMatch"
                assert client.get(BUCKET, str(n)).body == body
            except BaseException as failure:
                failures.append((n, failure))

        threads = [threading.Thread(target=upload, args=(n,)) for n in range(20)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert failures == []
