"""Clients that leave, stall or crowd: the old object stays, blocks come back, memory is bounded, others go on."""

from __future__ import annotations

import os
import resource
import socket
import threading
import time

import pytest

from conftest import BUCKET, need
from harness import sigv4
from harness.server import CREDENTIALS, Server, eventually

MIB = 1024 * 1024
OLD = b"the old object"
# Around the edges that matter: the head, a chunk line, the small-object bound, a block, the last byte.
SIZE = 1_300_000
OFFSETS = [0, 1, 80, 4095, 4096, 65535, 65536, 65700, 131072, 131073, 524287, 524288, 600_000, 1_048_576, SIZE - 4096, SIZE - 1]
FORMS = ["plain", sigv4.STREAMING, sigv4.STREAMING_UNSIGNED_TRAILER]


def request_of(client, form: str, key: str = "victim", size: int = SIZE):
    if form == "plain":
        return client.signed("PUT", f"/{BUCKET}/{key}", bytes(size), payload_hash=sigv4.UNSIGNED)
    return sigv4.streaming_put(f"/{BUCKET}/{key}", bytes(size), CREDENTIALS, client.host, form)


@pytest.mark.parametrize("ending", ["FIN", "RST"])
@pytest.mark.parametrize("form", FORMS)
def test_gone_in_the_body(shared, form, ending):
    client = shared.client()
    client.put(BUCKET, "victim", OLD)
    request = request_of(client, form)
    for offset in [*OFFSETS, len(request.body) - 1]:
        connection = client.connect()
        connection.send(request.head() + request.body[:offset])
        time.sleep(0.01)
        connection.reset() if ending == "RST" else connection.close()
    for offset in range(0, len(request.head()), 97):
        connection = client.connect()
        connection.send(request.head()[:offset])
        connection.reset() if ending == "RST" else connection.close()
    assert eventually(lambda: shared.leftovers() == []), shared.leftovers()
    assert client.get(BUCKET, "victim").body == OLD


@pytest.mark.parametrize("ending", ["FIN", "RST"])
def test_gone_in_a_part_or_a_complete(shared, ending):
    client = shared.client()
    client.put(BUCKET, "victim", OLD)
    upload_id = client.start_upload(BUCKET, "victim")
    etag = client.put_part(BUCKET, "victim", upload_id, 1, b"part").etag
    query = [("partNumber", "1"), ("uploadId", upload_id)]
    part = client.signed("PUT", f"/{BUCKET}/victim", bytes(SIZE), query, payload_hash=sigv4.UNSIGNED)
    from harness.wire import complete_document

    complete = client.signed("POST", f"/{BUCKET}/victim", complete_document([(1, etag)]), [("uploadId", upload_id)])
    for request, offsets in ((part, OFFSETS), (complete, range(0, len(complete.body), 40))):
        for offset in offsets:
            connection = client.connect()
            connection.send(request.head() + request.body[:offset])
            time.sleep(0.005)
            connection.reset() if ending == "RST" else connection.close()
    assert eventually(lambda: shared.leftovers() == [])
    assert client.get(BUCKET, "victim").body == OLD
    assert client.complete(BUCKET, "victim", upload_id, [(1, etag)]).status == 200, "the part sent whole is still the part"
    assert client.get(BUCKET, "victim").body == b"part"


def test_gone_before_the_answer(shared):
    """The body arrived whole and the client left: old or new, whole, and the server goes on."""
    client = shared.client()
    for n in range(20):
        client.put(BUCKET, "victim", OLD)
        request = request_of(client, FORMS[n % 3], size=200_000)
        connection = client.connect()
        connection.send(request.encode())
        connection.reset() if n % 2 else connection.close()
        time.sleep(0.01)
        assert client.get(BUCKET, "victim").body in (OLD, bytes(200_000))


def test_gone_in_a_download(shared):
    client = shared.client()
    client.put(BUCKET, "download", bytes(16 * MIB))
    before = shared.descriptors()
    for n in range(40):
        connection = client.connect(receive_buffer=4096)
        connection.send(client.signed("GET", f"/{BUCKET}/download").encode())
        connection.socket.recv(1 + n * 1000)
        connection.reset() if n % 2 else connection.close()
    assert eventually(lambda: shared.descriptors() <= before + 2), "descriptors of dead downloads stay open"
    assert len(client.get(BUCKET, "download").body) == 16 * MIB


@pytest.fixture
def crowd_allowed():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096
    need(None if hard >= wanted else f"{wanted} descriptors are more than the hard limit of {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
def test_1500_slow_and_half_open_clients(server, client, crowd_allowed):
    """A third in a head, a third in a body, a third in an unread download: none holds a block, others see no difference."""
    client.put(BUCKET, "download", bytes(8 * MIB))
    request = request_of(client, "plain", "stalled", 8 * MIB)
    quiet = latency(client)
    start_threads(client)
    memory = server.resident_kib()
    connections = []
    for n in range(1500):
        connection = client.connect(receive_buffer=4096)
        if n % 3 == 0:
            connection.send(request.head()[: 20 + n % 200])
        elif n % 3 == 1:
            connection.send(request.head() + request.body[: n * 37 % 9000])
        else:
            connection.send(client.signed("GET", f"/{BUCKET}/download").encode())
        connections.append(connection)
    time.sleep(2)
    grown = server.resident_kib() - memory
    assert grown < 160 * 1024, f"stalled clients hold {grown // 1024} MiB"
    # Blocks are free: transfers of other clients make progress at once.
    for n in range(8):
        body = os.urandom(4 * MIB)
        assert client.put(BUCKET, f"free-{n}", body).status == 200
        assert client.get(BUCKET, f"free-{n}").body == body
    assert latency(client) < max(20 * quiet, 0.25), "the others' latency"
    for n, connection in enumerate(connections):
        connection.reset() if n % 2 else connection.close()
    assert eventually(lambda: server.leftovers() == [])
    assert client.head(BUCKET, "stalled").status == 404


def start_threads(client) -> None:
    """A server starts its helpers when there is work for them: what is measured later is not theirs."""

    def work(n: int) -> None:
        for turn in range(20):
            client.put(BUCKET, f"warm/{n}/{turn}", b"x")
            client.request("GET", f"/{BUCKET}", query=[("list-type", "2"), ("prefix", f"warm/{n}/")])
            client.head(BUCKET, f"warm/{n}/missing")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(32)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]


def latency(client) -> float:
    """The median of 50 small requests."""
    times = []
    for _ in range(50):
        start = time.monotonic()
        assert client.head(BUCKET, "download").status == 200
        times.append(time.monotonic() - start)
    return sorted(times)[25]


@pytest.mark.slow
def test_48_transfers_stay_inside_the_buffer_memory(data):
    """24 uploads and 24 downloads of 12 MiB at once: 576 MiB under way through 32 MiB of blocks."""
    with Server(data, args=["--buffer-memory", "32MiB"]) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        body = os.urandom(12 * MIB)
        assert client.put(BUCKET, "source", body).status == 200
        before, failures = server.resident_kib(), []

        def upload(n):
            response = client.request("PUT", f"/{BUCKET}/up-{n}", body, payload_hash=sigv4.UNSIGNED)
            failures.extend([] if response.status == 200 else [str(response)])

        def download(_):
            response = client.get(BUCKET, "source")
            failures.extend([] if response.body == body else [f"{response.status}, {len(response.body)} bytes"])

        threads = [threading.Thread(target=job, args=(n,)) for n in range(24) for job in (upload, download)]
        [thread.start() for thread in threads]
        peak = before
        while any(thread.is_alive() for thread in threads):
            peak = max(peak, server.resident_kib())
            time.sleep(0.02)
        [thread.join() for thread in threads]
        assert failures == []
        assert peak - before < 64 * 1024, f"grew by {(peak - before) // 1024} MiB over 32 MiB of blocks"
        for n in range(24):
            assert (data / BUCKET / f"up-{n}").read_bytes() == body


def test_a_stalled_body_ends_by_timeout(data):
    with Server(data, args=["--body-stall-timeout", "1s"]) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        client.put(BUCKET, "victim", OLD)
        request = request_of(client, "plain")
        with client.connect() as connection:
            connection.send(request.head() + request.body[:100_000])
            connection.socket.settimeout(20)
            while connection.socket.recv(4096):
                pass
        assert client.get(BUCKET, "victim").body == OLD
        assert eventually(lambda: server.leftovers() == [])


def test_a_connection_is_not_the_others(shared):
    """A client that floods one connection with requests and never reads does not stop another one's."""
    client = shared.client()
    client.put(BUCKET, "flood", bytes(100_000))
    flooder = client.connect(receive_buffer=4096)
    flooder.socket.setblocking(False)
    data = client.signed("GET", f"/{BUCKET}/flood").encode() * 200
    try:
        for _ in range(50):
            flooder.socket.send(data)
    except (BlockingIOError, socket.error):
        pass
    for _ in range(20):
        assert client.get(BUCKET, "flood").status == 200
    flooder.reset()
