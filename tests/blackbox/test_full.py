"""A core with all the connections that it may have: somebody idle goes for a newcomer, nobody who is at a request does, and the
server's health is answered in any case."""

from __future__ import annotations

import itertools
import os
import ssl
import threading
from contextlib import contextmanager

import pytest

from conftest import BUCKET, need
from harness import sigv4
from harness.server import eventually
from harness.wire import Connection, ConnectionGone
from test_metrics import Measured

CPUS = sorted(os.sched_getaffinity(0))
PLACES = 50
# Far below the idle timeout of 75 s, after which a place was free without all this.
PATIENCE_S = 20
HEALTH = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
ANONYMOUS = b"GET /bucket/object HTTP/1.1\r\nHost: localhost\r\n\r\n"
UNSIGNED_PUT = b"PUT /bucket/new HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\nsome"
BODY = b"the object"
BODY_SIZE = 300_000


class Full(Measured):
    """A server on so many cores with PLACES each, and what its clients need."""

    def __init__(self, data, certificates, scheme: str, cores: int):
        places = ["--connections-per-core-max", str(PLACES), "--cores", ",".join(map(str, CPUS[:cores]))]
        super().__init__(data, certificates=certificates, args=places)
        self.context = certificates.context() if scheme == "https" else None
        self.service_port = self.tls_port if self.context else self.port

    def start(self):
        super().start()
        self.s3 = self.client(self.context)
        self.s3.create_bucket(BUCKET)
        assert self.s3.put(BUCKET, "object", BODY).status == 200
        assert eventually(lambda: self.scrape().sum("sluice_connections_open") == 0)
        return self

    def connect(self) -> Connection:
        connection = self.s3.connect()
        connection.socket.settimeout(PATIENCE_S)
        return connection

    def get(self, connection: Connection):
        connection.send(self.s3.signed("GET", f"/{BUCKET}/object").encode())
        return connection.response()

    def newcomer(self):
        with self.connect() as connection:
            return self.get(connection)

    def serves(self, connection: Connection) -> bool:
        """Whether an old connection still does."""
        try:
            return self.get(connection).body == BODY
        except (ConnectionGone, OSError):
            return False

    def health(self) -> int:
        with self.connect() as connection:
            connection.send(HEALTH)
            return connection.response().status

    def at_limit(self, outcome: str) -> float:
        return self.scrape().sum("sluice_at_limit_total", outcome=outcome)

    def is_full(self) -> bool:
        return all(count >= PLACES for count in self.scrape().values("sluice_connections_open", "core").values())


@pytest.fixture(params=["http", "https"])
def full(request, data, certificates):
    with Full(data, certificates, request.param, 1) as server:
        yield server
        assert server.is_alive(), f"the server died:\n{server.log()}"


@contextmanager
def held():
    """Connections that are closed at the end."""
    connections: list[Connection] = []
    try:
        yield connections
    finally:
        for connection in connections:
            connection.close()


def client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    end = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        end.do_handshake()
    return outgoing.read()


@contextmanager
def dripping(connections, of: bytes):
    """Each connection sends a byte of a head that never ends, now and then."""
    stop = threading.Event()

    def drip():
        for byte in itertools.cycle(of):
            if stop.wait(0.1):
                return
            for connection in list(connections):
                try:
                    connection.send(bytes([byte]))
                except (OSError, ssl.SSLError):
                    pass

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def stranger(server: Full, kind: str) -> Connection:
    """Nobody that the server knows: what it sends has no signature, or is no request yet."""
    if kind in ("silent", "hello"):
        connection = Connection(server.service_port)
        if kind == "hello":
            connection.send(client_hello()[:100])
        return connection
    # With all places taken, what is refused may be put off as well.
    connection = server.connect()
    if kind == "refused":
        connection.send(ANONYMOUS)
        assert connection.response().status in (403, 503)
    if kind == "body":
        connection.send(UNSIGNED_PUT)
        assert connection.response().status in (403, 503)
    if kind == "head":
        connection.send(b"GET /bucket/object HTTP/1.1\r\nHost: localhost\r\nX-Drip: ")
    return connection


KINDS = [("http", kind) for kind in ("silent", "head", "refused", "body")]
KINDS += [("https", kind) for kind in ("silent", "hello", "head", "refused", "body")]


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("scheme, kind", KINDS)
def test_strangers_keep_nobody_out(data, certificates, scheme, kind, cores):
    need(None if len(CPUS) >= cores else f"{cores} CPUs are needed")
    server = Full(data, certificates, scheme, cores)
    with server, held() as strangers, held() as others, dripping(strangers if kind == "head" else [], b"drip"):
        for _ in range(PLACES):
            strangers.append(stranger(server, kind))
        # Where there are two cores, the kernel spreads them; the rest is for the one that has fewer.
        while cores > 1 and not server.is_full():
            assert len(others) < 20 * PLACES
            others.append(Connection(server.service_port))
        assert eventually(server.is_full), "the test fills them"
        newcomers = [server.connect() for _ in range(10)]
        assert all(server.serves(newcomer) for newcomer in newcomers + newcomers)
        assert server.health() == 200
        [newcomer.close() for newcomer in newcomers]
        assert server.at_limit("displaced") >= 10
        assert server.at_limit("turned_away") == 0
        assert server.is_alive()


def test_the_longest_idle_client_goes_first(full):
    with held() as clients:
        for _ in range(PLACES):
            clients.append(full.connect())
            assert full.get(clients[-1]).status == 200
        # What is idle for the longest is no matter of who came first.
        assert full.get(clients[0]).status == 200
        assert full.is_full()
        with full.connect() as newcomer:
            assert full.get(newcomer).body == BODY
            assert clients[1].is_closed_by_peer(), "between two requests, without a word"
            assert all(full.serves(client) for index, client in enumerate(clients) if index != 1)
            assert full.serves(newcomer)
        assert full.at_limit("displaced") == 1


def test_whoever_has_no_key_pushes_out_no_client(full):
    with held() as clients, held() as strangers:
        for _ in range(PLACES):
            clients.append(full.connect())
            assert full.get(clients[-1]).status == 200
        for _ in range(5 * PLACES):
            strangers.append(Connection(full.service_port))
        for _ in range(PLACES):
            with full.connect() as connection:
                connection.send(ANONYMOUS)
                assert connection.response().status in (403, 503)
        assert full.health() == 200
        assert full.at_limit("displaced") > 0, "strangers have pushed out each other"
        assert all(full.serves(client) for client in clients)


def test_strangers_go_before_clients(full):
    with held() as clients, held() as strangers:
        for n in range(PLACES):
            (clients if n % 2 else strangers).append(full.connect() if n % 2 else Connection(full.service_port))
            if n % 2:
                assert full.get(clients[-1]).status == 200
        assert full.is_full()
        for _ in range(3 * PLACES):
            strangers.append(Connection(full.service_port))
        more = [full.connect() for _ in range(PLACES // 4)]
        assert all(full.serves(client) for client in more)
        assert all(full.serves(client) for client in clients)
        [connection.close() for connection in more]


@pytest.fixture
def busy(full):
    """All places with an upload, half of which is there."""
    with held() as uploads:
        for n in range(PLACES):
            request = full.s3.signed("PUT", f"/{BUCKET}/upload-{n}", bytes([n]) * BODY_SIZE, payload_hash=sigv4.UNSIGNED)
            uploads.append(full.connect())
            uploads[-1].send(request.head() + request.body[: BODY_SIZE // 2])
        assert eventually(lambda: full.is_full() and full.scrape().sum("sluice_received_bytes_total") >= PLACES * BODY_SIZE // 2)
        yield uploads


def finish(full: Full, uploads) -> None:
    """All uploads end as if nothing had happened."""
    for n, upload in enumerate(uploads):
        upload.send(bytes([n]) * (BODY_SIZE - BODY_SIZE // 2))
        assert upload.response().status == 200
    for n in range(PLACES):
        assert full.s3.get(BUCKET, f"upload-{n}").body == bytes([n]) * BODY_SIZE


def test_who_is_at_a_request_is_closed_for_nobody(full, busy):
    for _ in range(30):
        answer = full.newcomer()
        assert (answer.status, answer.code, answer.headers["connection"]) == (503, "SlowDown", "close")
        assert full.health() == 200
    assert full.at_limit("turned_away") == 30 and full.at_limit("health") == 30
    assert full.at_limit("displaced") == 0
    finish(full, busy)
    assert full.newcomer().body == BODY


def test_a_place_that_is_free_again_is_for_who_waits(full, busy):
    """It came when nothing was free, and asks when something is."""
    with full.connect() as waiting:
        assert eventually(lambda: full.scrape().sum("sluice_connections_open") == PLACES + 1)
        busy[0].reset()
        assert eventually(lambda: full.scrape().sum("sluice_connections_open") == PLACES)
        assert full.get(waiting).body == BODY
        assert full.serves(waiting), "it is a connection like others now"
    [connection.reset() for connection in busy[1:]]


def test_the_reserve_is_exhausted_and_recovers(full, busy):
    before = full.descriptors()
    with held() as strangers:
        for _ in range(4 * PLACES):
            strangers.append(Connection(full.service_port))
        assert full.health() == 200, "the latest to come is heard"
        assert full.newcomer().status == 503
        assert full.descriptors() < before + PLACES, "the reserve has an end"
        # None of them has long to say what it wants.
        assert eventually(lambda: full.scrape().sum("sluice_connections_open") == PLACES, 20)
        assert all(stranger.is_closed_by_peer() for stranger in strangers)
    assert full.health() == 200
    finish(full, busy)
    assert full.newcomer().body == BODY
    [connection.close() for connection in busy]
    assert eventually(lambda: full.scrape().sum("sluice_connections_open") == 0)
