"""What a server holds is what it was given, whatever its clients do: blocks, the memory of requests, and a little for each connection."""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
import time

import pytest

from conftest import BUCKET
from harness import sigv4
from harness.server import Server, eventually, free_port

MIB = 1024 * 1024
BUFFERS, REQUESTS = 32 * MIB, 96 * MIB
IDLE = 10_000
ARGS = ["--buffer-memory", "32MiB", "--request-memory", "96MiB", "--cores", "0", "--connections-per-core-max", "16384", "--body-stall-timeout", "60s"]


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """A server with ten thousand connections that say nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    idle = []
    try:
        data = tmp_path_factory.mktemp("memory") / "data"
        data.mkdir()
        server = Server(data, args=[*ARGS, "--metrics-listen", f"127.0.0.1:{free_port()}"])
        # One process has as many descriptors as this one, which it inherits.
        with server:
            server.client().create_bucket(BUCKET)
            for n in range(IDLE):
                idle.append(connect(server, f"127.0.1.{1 + n // 500}"))
            yield server
    finally:
        [one.close() for one in idle]
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(server, source: str = "127.0.0.1", receive_buffer: int | None = None) -> socket.socket:
    one = socket.socket()
    if receive_buffer:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    one.bind((source, 0))
    one.connect(("127.0.0.1", server.port))
    return one


class Crowd:
    """Connections that each have something to send, as far as the server takes it, and an answer that is read when it is asked for."""

    def __init__(self, server, requests: list[bytes], receive_buffer: int | None = None):
        self.server, self.waiting = server, {}
        self.sockets = [connect(server, receive_buffer=receive_buffer) for _ in requests]
        for one, request in zip(self.sockets, requests):
            one.setblocking(False)
            self.waiting[one] = memoryview(request)
        self.peak_kib = 0

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_) -> None:
        [one.close() for one in self.sockets]

    def push(self, seconds: float) -> None:
        """Sends what there is for so long, and looks at the server's memory meanwhile."""
        with selectors.DefaultSelector() as selector:
            for one in self.waiting:
                selector.register(one, selectors.EVENT_WRITE)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                for key, _ in selector.select(0.05) if self.waiting else []:
                    if self.send_some(key.fileobj):
                        selector.unregister(key.fileobj)
                if not self.waiting:
                    time.sleep(0.02)
                self.peak_kib = max(self.peak_kib, self.server.resident_kib())

    def send_some(self, one: socket.socket) -> bool:
        """Whether that was the last."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self.waiting[one] = self.waiting[one][one.send(self.waiting[one][: 256 * 1024]) :]
            if not self.waiting[one]:
                del self.waiting[one]
                return True
        return False

    def statuses(self, seconds: float = 60) -> list[int]:
        """What each was answered first, 0 for nothing. What could not be sent before is sent until then."""
        answers = {one: b"" for one in self.sockets}
        both = selectors.EVENT_READ | selectors.EVENT_WRITE
        with selectors.DefaultSelector() as selector:
            for one in self.sockets:
                selector.register(one, both if one in self.waiting else selectors.EVENT_READ)
            until = time.monotonic() + seconds
            while selector.get_map() and time.monotonic() < until:
                for key, events in selector.select(0.1):
                    if events & selectors.EVENT_READ:
                        received = b""
                        with contextlib.suppress(ConnectionError):
                            received = key.fileobj.recv(65536)
                        answers[key.fileobj] += received
                        if not received or answers[key.fileobj].find(b"\r\n") >= 0:
                            selector.unregister(key.fileobj)
                    elif self.send_some(key.fileobj):
                        selector.modify(key.fileobj, selectors.EVENT_READ)
        return [int(answer.split(None, 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0 for answer in answers.values()]


def bound_kib(connections: int) -> int:
    return (BUFFERS + REQUESTS + 8 * 1024 * connections + 64 * MIB) // 1024


def check_bound(crowd: Crowd) -> None:
    bound = bound_kib(IDLE + len(crowd.sockets))
    print(f"peak {crowd.peak_kib // 1024} MiB of {bound // 1024} MiB")
    assert crowd.peak_kib <= bound, f"{crowd.peak_kib // 1024} MiB, bound {bound // 1024} MiB"


def check_that_it_works(server) -> None:
    client = server.client()
    assert client.put(BUCKET, "after/all", b"x" * 100_000).status == 200
    assert client.get(BUCKET, "after/all").body == b"x" * 100_000
    listed = client.request("GET", f"/{BUCKET}", query=[("list-type", "2"), ("prefix", "after/all")])
    assert (listed.status, listed.body.count(b"<Key>")) == (200, 1)
    upload = client.start_upload(BUCKET, "after/upload")
    etag = client.put_part(BUCKET, "after/upload", upload, 1, b"part").etag
    assert client.complete(BUCKET, "after/upload", upload, [(1, etag)]).status == 200


def cut(request: sigv4.Request, left_out: int = 1) -> bytes:
    return request.encode()[:-left_out]


def long_list(client, upload: str) -> sigv4.Request:
    part = "<Part><PartNumber>%d</PartNumber><ETag>&quot;0123456789abcdef0123456789abcdef&quot;</ETag>" + " " * 280 + "</Part>"
    document = ("<CompleteMultipartUpload>" + "".join(part % (n + 1) for n in range(10_000)) + "</CompleteMultipartUpload>").encode()
    assert 3 * MIB < len(document) < 4 * MIB
    return client.signed("POST", f"/{BUCKET}/large", document, query=[("uploadId", upload)])


def test_a_client_that_does_not_send_gives_way(crowded):
    client = crowded.client()
    request = long_list(client, client.start_upload(BUCKET, "large"))
    with Crowd(crowded, [cut(request)] * 20) as crowd:
        crowd.push(2)
        answer = client.exchange(request)
        assert (answer.status, answer.code) == (400, "InvalidPart"), "none of its parts is there"
        assert 503 in crowd.statuses(5), "others had more than there was room for"


def test_documents_that_do_not_end(crowded):
    """300 lists of 10,000 parts, of 4 MiB each, all but their last byte."""
    client = crowded.client()
    request = long_list(client, client.start_upload(BUCKET, "large"))
    with Crowd(crowded, [cut(request)] * 300) as crowd:
        crowd.push(5)
        check_bound(crowd)
        # Small requests have a part to themselves.
        assert client.head(BUCKET, "none").status == 404
        assert client.put(BUCKET, "beside", b"x" * 100_000).status == 200
        assert client.get(BUCKET, "beside").body == b"x" * 100_000
        for one in crowd.sockets:
            crowd.waiting[one] = memoryview(bytes(crowd.waiting.get(one, b"")) + request.encode()[-1:])
        crowd.push(5)
        check_bound(crowd)
        statuses = crowd.statuses()
        # None of the parts is there.
        assert set(statuses) <= {400, 503} and 400 in statuses, statuses
    check_that_it_works(crowded)


def test_small_bodies_that_do_not_end(crowded):
    """3,000 objects of 128 KiB, all but their last byte."""
    client, body = crowded.client(), b"x" * 128 * 1024
    request = client.signed("PUT", f"/{BUCKET}/small", body)
    with Crowd(crowded, [cut(request)] * 3000) as crowd:
        crowd.push(5)
        check_bound(crowd)
        for one in crowd.sockets:
            crowd.waiting[one] = memoryview(bytes(crowd.waiting.get(one, b"")) + body[-1:])
        crowd.push(5)
        check_bound(crowd)
        statuses = crowd.statuses()
        assert set(statuses) <= {200, 503} and 200 in statuses, {status: statuses.count(status) for status in statuses}
    check_that_it_works(crowded)


def test_pages_that_nobody_reads(crowded):
    """A thousand keys of 800 bytes on a page, and clients that take little of many of them."""
    folder = crowded.data / BUCKET / "/".join("d" * 190 for _ in range(4))
    folder.mkdir(parents=True)
    for n in range(1000):
        (folder / f"{n:04}").touch()
    client = crowded.client()
    request = client.signed("GET", f"/{BUCKET}", query=[("list-type", "2"), ("prefix", "dd")]).encode()
    assert client.exchange(request).body.count(b"<Key>") == 1000
    with Crowd(crowded, [request * 8] * 600, receive_buffer=4096) as crowd:
        crowd.push(9)
        check_bound(crowd)
        statuses = crowd.statuses()
        assert set(statuses) <= {200, 503} and 200 in statuses, {status: statuses.count(status) for status in statuses}
    check_that_it_works(crowded)


def test_objects_that_nobody_reads(crowded):
    client = crowded.client()
    assert client.put(BUCKET, "unread", b"x" * 128 * 1024).status == 200
    request = client.signed("GET", f"/{BUCKET}/unread").encode()
    with Crowd(crowded, [request * 60] * 1500, receive_buffer=4096) as crowd:
        crowd.push(4)
        check_bound(crowd)
        assert set(crowd.statuses()) == {200}
    check_that_it_works(crowded)


def test_heads_that_do_not_end(crowded):
    head = b"GET / HTTP/1.1\r\nHost: h\r\n" + b"".join(b"x-%05d: %s\r\n" % (n, b"y" * 30) for n in range(850))
    assert 32 * 1024 < len(head) < 40 * 1024
    with Crowd(crowded, [head] * 4000) as crowd:
        crowd.push(4)
        check_bound(crowd)
        # They hold up nobody whose signature holds, not even with what needs much.
        client = crowded.client()
        assert client.put(BUCKET, "beside", b"x" * 100_000).status == 200
        assert client.request("GET", f"/{BUCKET}", query=[("list-type", "2"), ("prefix", "beside")]).status == 200
    check_that_it_works(crowded)


def test_what_was_held_is_given_back(crowded):
    """Behind all of the above, or alone."""
    assert eventually(lambda: crowded.resident_kib() < bound_kib(IDLE) - REQUESTS // 1024, 30), crowded.resident_kib()
