"""Work that blocks: no kind of it holds up another, nobody waits on a thread for somebody else, and what nobody waits for stops."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import threading
import urllib.request
from collections import Counter

import pytest

from conftest import BUCKET, need
from harness import gate
from harness.gate import Gate
from harness.server import Server, eventually, free_port
from harness.sigv4 import UNSIGNED

KIB, MIB = 1024, 1024 * 1024
LISTERS = 40


def metric(port: int, family: str, **labels: str) -> float:
    """The sum of a family's samples with these labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    wanted = [f'{name}="{value}"' for name, value in labels.items()]
    found = [line for line in lines if re.match(rf"{family}[{{ ]", line) and all(label in line for label in wanted)]
    return sum(float(line.rpartition(" ")[2]) for line in found)


def evict(path) -> None:
    """Out of the page cache: who reads it then waits for the disk, on a helper."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def test_listings_of_a_directory_that_does_not_answer_hold_nobody_else(data):
    """As a directory on a dead mount: whoever opens it stays in the kernel. Everything else of every kind goes on."""
    need(gate.missing())
    with Server(data) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        (data / BUCKET / "dead").mkdir()
        (data / BUCKET / "dead/object").write_bytes(b"x")
        (data / BUCKET / "cold").write_bytes(b"cold" * KIB)
        evict(data / BUCKET / "cold")
        upload = client.start_upload(BUCKET, "parts")
        with Gate(directories=[data / BUCKET / "dead"]) as dead:
            listing = client.signed("GET", f"/{BUCKET}", query=[("list-type", "2"), ("prefix", "dead/")]).encode()
            listers = [client.connect() for _ in range(LISTERS)]
            [lister.send(listing) for lister in listers]
            assert eventually(lambda: dead.count() > 0)
            for n in range(20):
                assert client.put(BUCKET, f"small-{n}", b"x" * 4 * KIB).status == 200
            assert client.request("PUT", f"/{BUCKET}/large", bytes(3 * MIB + 1), payload_hash=UNSIGNED).status == 200
            assert client.get(BUCKET, "cold").body == b"cold" * KIB
            assert client.head(BUCKET, "none").status == 404
            assert client.request("HEAD", f"/{BUCKET}").status == 200
            etag = client.put_part(BUCKET, "parts", upload, 1, b"part").etag
            assert client.request("GET", f"/{BUCKET}/parts", query=[("uploadId", upload)]).status == 200
            assert client.complete(BUCKET, "parts", upload, [(1, etag)]).status == 200
            source = {"x-amz-copy-source": f"/{BUCKET}/large"}
            assert client.request("PUT", f"/{BUCKET}/copy", headers=source).status == 200
            assert client.delete(BUCKET, "copy").status == 204
            document = b"<Delete>" + b"".join(b"<Object><Key>small-%d</Key></Object>" % n for n in range(20)) + b"</Delete>"
            digest = {"Content-MD5": base64.b64encode(hashlib.md5(document).digest()).decode()}
            assert client.request("POST", f"/{BUCKET}", document, [("delete", "")], digest).status == 200
            client.create_bucket("another")
            assert client.request("DELETE", "/another").status == 204
            dead.open()
            for lister in listers:
                answer = lister.response()
                assert (answer.status, answer.body.count(b"<Key>dead/object</Key>")) == (200, 1)
        assert server.leftovers() == []


@pytest.mark.parametrize("ending", ["FIN", "RST", "behind a further request"])
def test_a_client_that_leaves_stops_its_walk(data, ending):
    """Directories without an object are searched one by one; who asked for them leaves while the first is opened."""
    need(gate.missing())
    port, count = free_port(), 300
    with Server(data, args=["--metrics-listen", f"127.0.0.1:{port}"]) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        folders = [data / BUCKET / f"{n:03}" for n in range(count)]
        [folder.mkdir() for folder in folders]
        with Gate(directories=[folders[0]]) as first, Gate(directories=folders[2:]) as rest:
            rest.open()
            request = client.signed("GET", f"/{BUCKET}", query=[("delimiter", "/"), ("list-type", "2")]).encode()
            connection = client.connect()
            connection.send(request * 2 if ending == "behind a further request" else request)
            assert eventually(lambda: first.count() == 1)
            connection.reset() if ending == "RST" else connection.close()
            gone = {"operation": "ListObjectsV2", "class": "cut_off"}
            assert eventually(lambda: metric(port, "sluice_request_errors_total", **gone) == 1), "it is noticed while the walk waits"
            first.open()
            # Another walk through all of it comes behind it, and is not stopped.
            answer = client.exchange(request)
            assert (answer.status, answer.body.count(b"<CommonPrefixes>")) == (200, 0)
            # That there is nothing is proved by a second look.
            assert Counter(rest.passed) == dict.fromkeys(folders[2:], 2), "only one walk came by"


def test_bytes_behind_a_request_are_not_a_client_that_leaves(data):
    """The walk is held for longer than it takes to look for the client."""
    need(gate.missing())
    port = free_port()
    with Server(data, args=["--metrics-listen", f"127.0.0.1:{port}"]) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        (data / BUCKET / "d").mkdir()
        (data / BUCKET / "d/object").write_bytes(b"x")
        with Gate(directories=[data / BUCKET / "d"]) as held, client.connect() as connection:
            listing = client.signed("GET", f"/{BUCKET}", query=[("list-type", "2")])
            connection.send(listing.encode() + client.signed("GET", f"/{BUCKET}/d/object").encode())
            assert eventually(lambda: held.count() == 1)
            threading.Event().wait(1)
            held.open()
            assert b"<Key>d/object</Key>" in connection.response().body
            assert connection.response().body == b"x"
        assert metric(port, "sluice_request_errors_total") == 0


def test_a_client_that_leaves_stops_its_copy(data):
    """It reads its source through a buffer, for a checksum that the source does not have."""
    need(gate.missing())
    port, size = free_port(), 24 * MIB
    with Server(data, args=["--metrics-listen", f"127.0.0.1:{port}"]) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        assert client.request("PUT", f"/{BUCKET}/source", os.urandom(size), payload_hash=UNSIGNED).status == 200
        copy = {"x-amz-copy-source": f"/{BUCKET}/source", "x-amz-checksum-algorithm": "SHA256"}
        with Gate(files=[data / BUCKET / "source"]) as source:
            connection = client.connect()
            connection.send(client.signed("PUT", f"/{BUCKET}/copy", headers=copy).encode())
            assert eventually(lambda: source.count() == 1)
            connection.close()
            threading.Event().wait(1.5)
            source.open()
            gone = {"operation": "CopyObject", "class": "cut_off"}
            assert eventually(lambda: metric(port, "sluice_request_errors_total", **gone) == 1)
            assert len(source.passed) < size // MIB, "it was not read to its end"
        assert client.get(BUCKET, "copy").status == 404
        assert server.leftovers() == []
        assert client.request("PUT", f"/{BUCKET}/copy", headers=copy).status == 200, "asked again, it is copied"
        assert client.get(BUCKET, "copy").body == (data / BUCKET / "source").read_bytes()


def test_one_client_of_many_connections_does_not_keep_another_waiting(data):
    """Both wait for listings; the one from another address has its turn among the first."""
    need(gate.missing())
    port = free_port()
    one_core = ["--cores", str(min(os.sched_getaffinity(0)))]
    with Server(data, args=[*one_core, "--metrics-listen", f"127.0.0.1:{port}"]) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        (data / BUCKET / "d").mkdir()
        (data / BUCKET / "d/object").write_bytes(b"x")
        request = client.signed("GET", f"/{BUCKET}", query=[("list-type", "2"), ("prefix", "d/")]).encode()
        with Gate(directories=[data / BUCKET / "d"]) as held:
            many = [client.connect() for _ in range(LISTERS)]
            [connection.send(request) for connection in many]
            assert eventually(lambda: held.count() == 2), "as many as list at a time"
            other = client.connect(source="127.0.0.2")
            other.send(request)
            arrived = []
            readers = [threading.Thread(target=lambda c=c: (c.response(), arrived.append(c))) for c in [other, *many]]
            [reader.start() for reader in readers]
            assert eventually(lambda: metric(port, "sluice_helper_queue", work="list") == LISTERS + 1 - held.count())
            held.open()
            [reader.join(30) for reader in readers]
        assert arrived.index(other) < LISTERS // 2, f"number {arrived.index(other)} of {LISTERS + 1}"
