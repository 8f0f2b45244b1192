"""--metrics-listen: what it says is what the test did, by the parser of Prometheus' own Python client."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import urllib.request
from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from conftest import BUCKET
from harness.server import Server, eventually, free_port
from harness.sigv4 import UNSIGNED
from harness.wire import Connection

MIB = 1024 * 1024
CPUS = sorted(os.sched_getaffinity(0))


class Measured(Server):
    """A server with metrics."""

    def __init__(self, data, *, args=(), **options):
        self.metrics_port = free_port()
        super().__init__(data, args=["--metrics-listen", f"127.0.0.1:{self.metrics_port}", *args], **options)

    def scrape(self) -> "Page":
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=20) as answer:
            assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            return Page(answer.read().decode())

    def scrape_after(self, before: "Page", requests: int) -> "Page":
        """A client has its answer a moment before it is counted."""
        count = before.sum("sluice_requests_total") + requests
        assert eventually(lambda: self.scrape().sum("sluice_requests_total") >= count)
        return self.scrape()


class Page:
    """One scrape. A sum over every sample that has the labels asked for."""

    def __init__(self, text: str):
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def sum(self, name: str, **labels: str) -> float:
        return sum(sample.value for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items())

    def values(self, name: str, label: str) -> Counter:
        """The sums by the values of one label."""
        found = Counter()
        for sample in self.samples:
            if sample.name == name:
                found[sample.labels[label]] += sample.value
        return found


@pytest.fixture(params=["one core", "all cores"])
def measured(data, request):
    cores = str(CPUS[0]) if request.param == "one core" else ",".join(map(str, CPUS))
    with Measured(data, args=["--cores", cores]) as server:
        server.client().create_bucket(BUCKET)
        yield server


def test_requests_and_errors_are_those_that_were_made(measured):
    client, before = measured.client(), measured.scrape()
    for n in range(7):
        assert client.put(BUCKET, f"key-{n}", b"x" * n).status == 200
    for n in range(5):
        assert client.get(BUCKET, f"key-{n}").status == 200
    assert [client.get(BUCKET, f"none-{n}").status for n in range(3)] == [404] * 3
    assert client.get(BUCKET, "key-1", if_match='"no"').status == 412
    assert client.get(BUCKET, "key-1", if_none_match="*").status == 304
    assert client.get(BUCKET, "key-6", range="bytes=100-").status == 416
    assert client.request("HEAD", f"/{BUCKET}/key-1").status == 200
    assert client.delete(BUCKET, "key-0").status == 204
    assert client.request("GET", f"/{BUCKET}", query=[("list-type", "2")]).status == 200
    assert client.request("GET", f"/{BUCKET}", query=[("acl", "")]).status == 200
    assert client.request("PUT", f"/{BUCKET}", b"<x/>", query=[("website", "")]).status == 501
    forged = client.signed("GET", f"/{BUCKET}/key-1")
    forged.headers["Authorization"] = forged.headers["Authorization"][:-1] + "!"
    assert client.exchange(forged).status in (400, 403)
    assert client.exchange(b"nonsense\r\n\r\n").status == 400
    after = measured.scrape_after(before, 25)

    def done(name: str, **labels: str) -> float:
        return after.sum(name, **labels) - before.sum(name, **labels)

    expected = {"PutObject": 7, "GetObject": 12, "HeadObject": 1, "DeleteObject": 1, "ListObjectsV2": 1, "Unconfigured": 1, "NotBuilt": 1, "Unrouted": 1}
    found = after.values("sluice_requests_total", "operation")
    found.subtract(before.values("sluice_requests_total", "operation"))
    assert {name: count for name, count in found.items() if count} == expected
    classes = {class_: done("sluice_request_errors_total", operation="GetObject", **{"class": class_}) for class_ in ("not_found", "conflict", "invalid", "access")}
    assert classes == {"not_found": 3, "conflict": 1, "invalid": 1, "access": 1}
    assert done("sluice_request_errors_total", operation="GetObject") == 6, "304 is no error"
    assert done("sluice_request_errors_total", operation="NotBuilt", **{"class": "not_implemented"}) == 1
    assert done("sluice_request_errors_total", operation="Unrouted") == 1
    assert done("sluice_request_errors_total", operation="PutObject") == 0
    for histogram in ("sluice_request_seconds", "sluice_request_first_byte_seconds"):
        assert done(f"{histogram}_count", operation="GetObject") == 12
        assert done(f"{histogram}_bucket", operation="GetObject", le="+Inf") == 12
    assert done("sluice_request_seconds_sum") >= done("sluice_request_first_byte_seconds_sum") > 0
    assert done("sluice_barrier_wait_seconds_count") == 8, "seven uploads and a delete"
    assert after.sum("sluice_barrier_changes_sum") >= 8
    assert after.sum("sluice_barrier_sync_seconds_count") == after.sum("sluice_barrier_changes_count") > 0


def test_bytes_are_those_on_the_wire(measured):
    client, body = measured.client(), os.urandom(3 * MIB + 77)
    before = measured.scrape()
    put = client.signed("PUT", f"/{BUCKET}/large", body, payload_hash=UNSIGNED).encode()
    get = client.signed("GET", f"/{BUCKET}/large").encode()
    received = 0
    for request in (put, get):
        with client.connect() as connection:
            connection.send(request)
            connection.half_close()
            while data := connection.socket.recv(MIB):
                received += len(data)
    assert received > len(body)
    after = measured.scrape_after(before, 2)
    assert after.sum("sluice_received_bytes_total") - before.sum("sluice_received_bytes_total") == len(put) + len(get)
    assert after.sum("sluice_sent_bytes_total") - before.sum("sluice_sent_bytes_total") == received
    read = after.sum("sluice_read_bytes_total") - before.sum("sluice_read_bytes_total")
    # A direct read takes whole sectors, and one that is made warm meanwhile may be read twice.
    assert len(body) <= read
    assert after.sum("sluice_md5_step_streams_count") > 0
    assert after.sum("sluice_ring_operations_total", operation="write") >= 6, "blocks of 512 KiB"
    assert eventually(lambda: measured.scrape().sum("sluice_blocks_in_use") == 0)
    assert after.sum("sluice_blocks") * after.sum("sluice_block_bytes") == 128 * MIB


def test_connections(measured):
    client, polls = measured.client(), {"operation": "poll"}
    assert eventually(lambda: measured.scrape().sum("sluice_connections_open") == 0)
    before = measured.scrape()
    connections = [client.connect() for _ in range(20)]
    for connection in connections:
        connection.send(client.signed("GET", "/").encode())
        assert connection.response().status == 200
    page = measured.scrape()
    assert page.sum("sluice_connections_open") == 20
    assert page.sum("sluice_connections_accepted_total") - before.sum("sluice_connections_accepted_total") == 20
    idle = before.sum("sluice_ring_operations_in_flight", **polls) + 20
    assert eventually(lambda: measured.scrape().sum("sluice_ring_operations_in_flight", **polls) == idle), "each is a poll"
    for connection in connections:
        connection.close()
    assert eventually(lambda: measured.scrape().sum("sluice_connections_open") == 0)


def test_every_core_is_there_and_works(measured):
    cores = {sample.labels["core"] for sample in measured.scrape().samples if sample.name == "sluice_core_busy_seconds_total"}
    assert cores in ({str(CPUS[0])}, set(map(str, CPUS)))
    client = measured.client()
    before = measured.scrape()
    # Connections are spread by hash: with 64 of them every core gets some.
    for _ in range(64):
        assert client.request("GET", "/").status == 200
    after = measured.scrape_after(before, 64)
    by_core = after.values("sluice_requests_total", "core")
    assert set(by_core) == cores and all(by_core.values())
    for core in cores:
        for name in ("sluice_core_busy_seconds_total", "sluice_core_sleeps_total"):
            assert after.sum(name, core=core) > before.sum(name, core=core), name
        assert after.sum("sluice_blocks", core=core) == 256 / len(cores)


def test_an_answer_that_nobody_takes_is_cut_off(measured):
    client = measured.client()
    assert client.put(BUCKET, "large", bytes(32 * MIB)).status == 200
    connection = client.connect(receive_buffer=4096)
    connection.send(client.signed("GET", f"/{BUCKET}/large").encode())
    assert connection.socket.recv(1000)
    connection.reset()
    assert eventually(lambda: measured.scrape().sum("sluice_request_errors_total", operation="GetObject", **{"class": "cut_off"}) == 1)


def test_listings_and_opens_tell_what_was_cached(measured):
    client = measured.client()
    for n in range(3):
        assert client.put(BUCKET, f"key-{n}", b"body").status == 200

    def listed() -> Counter:
        assert client.request("GET", f"/{BUCKET}", query=[("list-type", "2")]).status == 200
        return measured.scrape().values("sluice_listing_snapshots_total", "from")

    first = listed()
    assert first["directory"] > 0
    assert eventually(lambda: listed()["cache"] > 0), "a directory at rest is not read again"
    assert client.get(BUCKET, "key-0").status == 200
    assert eventually(lambda: client.get(BUCKET, "key-0").status == 200 and measured.scrape().sum("sluice_opens_total", how="cached") > 0)


@pytest.mark.parametrize("mode", ["acked", "strict", "relaxed"])
def test_the_durability_mode_is_said(data, mode):
    with Measured(data, args=["--durability", mode]) as server:
        page = server.scrape()
        (info,) = page.families["sluice_durability_info"].samples
        assert info.labels["mode"] == mode and ("RELAXED" in info.labels["way"]) == (mode == "relaxed")
        assert page.sum("sluice_takes_changes") == 1
        (build,) = page.families["sluice_build_info"].samples
        assert re.fullmatch(r"\d+\.\d+\.\d+", build.labels["version"])
        assert page.sum("sluice_panics_total") == 0


def test_tls_is_measured_in_the_clear_and_failed_handshakes_are_refused(data, certificates):
    with Measured(data, certificates=certificates) as server:
        client = server.client(certificates.context())
        client.create_bucket(BUCKET)
        before = server.scrape()
        request = client.signed("GET", f"/{BUCKET}/none").encode()
        assert client.exchange(request).status == 404
        after = server.scrape_after(before, 1)
        assert after.sum("sluice_received_bytes_total") - before.sum("sluice_received_bytes_total") == len(request)
        with Connection(server.tls_port) as plain:
            plain.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert plain.socket.recv(100)
        assert eventually(lambda: server.scrape().sum("sluice_connections_refused_total") == 1)


def test_the_format_keeps_its_promises(measured):
    client = measured.client()
    assert client.put(BUCKET, "key", b"x").status == 200
    page = measured.scrape()
    assert all(family.documentation and family.type in ("counter", "gauge", "histogram") for family in page.families.values())
    seen = Counter((sample.name, tuple(sorted(sample.labels.items()))) for sample in page.samples)
    assert max(seen.values()) == 1, "no series twice"
    for family in page.families.values():
        if family.type != "histogram":
            continue
        series: dict[tuple, list] = {}
        for sample in family.samples:
            labels = tuple(sorted(item for item in sample.labels.items() if item[0] != "le"))
            series.setdefault(labels, []).append(sample)
        for samples in series.values():
            buckets = [sample for sample in samples if sample.name.endswith("_bucket")]
            bounds, counts = [float(sample.labels["le"]) for sample in buckets], [sample.value for sample in buckets]
            assert bounds == sorted(bounds) and bounds[-1] == float("inf") and counts == sorted(counts)
            assert [counts[-1]] == [sample.value for sample in samples if sample.name.endswith("_count")]
    assert len(page.samples) < 3000, "few series for few operations"


def test_a_scrape_under_load(data):
    """The counts of a busy server never go back, and end where the clients ended."""
    with Measured(data) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        assert client.put(BUCKET, "key", bytes(4096)).status == 200
        start, answered, stop = server.scrape().sum("sluice_requests_total", operation="GetObject"), Counter(), threading.Event()

        def ask(worker: int) -> None:
            get = client.signed("GET", f"/{BUCKET}/key").encode()
            with client.connect() as connection:
                while not stop.is_set():
                    connection.send(get)
                    assert connection.response().status == 200
                    answered[worker] += 1

        workers = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
        [worker.start() for worker in workers]
        try:
            counts = [server.scrape().sum("sluice_requests_total", operation="GetObject") for _ in range(30)]
        finally:
            stop.set()
            [worker.join() for worker in workers]
        assert counts == sorted(counts) and counts[-1] > counts[0]
        end = start + answered.total()
        assert eventually(lambda: server.scrape().sum("sluice_requests_total", operation="GetObject") == end)


def test_only_get_and_only_metrics(measured):
    def ask(request: bytes, method: str = "GET"):
        with Connection(measured.metrics_port) as connection:
            connection.send(request)
            return connection.response(method)

    head = b" HTTP/1.1\r\nHost: localhost\r\n"
    assert ask(b"HEAD /metrics" + head + b"\r\n", "HEAD").status == 200
    assert b"/metrics" in ask(b"GET /" + head + b"\r\n").body
    assert ask(b"GET /metrics?x=y" + head + b"\r\n").status == 200
    for path in (b"/metrics/", b"/Metrics", b"/debug", b"/../metrics", b"//metrics"):
        assert ask(b"GET " + path + head + b"\r\n").status == 404, path
    for method in (b"POST", b"PUT", b"DELETE", b"OPTIONS", b"BREW"):
        answer = ask(method + b" /metrics" + head + b"Content-Length: 0\r\n\r\n")
        assert answer.status == 405 and answer.headers["allow"] == "GET, HEAD", method
    assert ask(b"GET /metrics" + head + b"X: " + b"x" * 100_000 + b"\r\n\r\n").status == 431
    assert ask(b"GET /metrics" + head + b"X: y\r\n" * 1000 + b"\r\n").status == 431
    for broken in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET /metrics\r\n\r\n", b"GET /metrics HTTP/9.9\r\n\r\n", b"\0\0\0\r\n\r\n"):
        with Connection(measured.metrics_port) as connection:
            connection.send(broken)
            connection.half_close()
            answer = connection.socket.recv(1000)
            assert not answer.startswith(b"HTTP/1.1 200"), broken
    assert measured.scrape().sum("sluice_requests_total") > 0
    assert measured.is_ready()


def test_more_clients_than_places_wait_their_turn(measured):
    """Sixteen connections at a time: the next is answered when one leaves, and data is served all the while."""
    held = [Connection(measured.metrics_port) for _ in range(16)]
    for connection in held:
        connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.response().status == 200
    with Connection(measured.metrics_port) as late:
        late.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        late.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            late.socket.recv(1)
        assert measured.client().request("GET", "/").status == 200
        held.pop().close()
        late.socket.settimeout(20)
        assert late.response().status == 200
    for connection in held:
        connection.close()


def test_a_taken_port_stops_the_start_with_cause_and_remedy(data):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = Server(data, args=["--metrics-listen", f"127.0.0.1:{port}"])
        server.spawn()
        assert server.process.wait(20) == 1
        assert re.search(rf"metrics on 127\.0\.0\.1:{port} \(--metrics-listen\): the port is taken; .*another port", server.log())


def test_metrics_and_buckets_do_not_share_an_address(data):
    server = Server(data)
    server.args = ["--metrics-listen", f"127.0.0.1:{server.port}"]
    server.spawn()
    assert server.process.wait(20) == 78
    assert "another port for metrics" in server.log()


def test_off_unless_asked_for(data):
    with Server(data) as server:
        listening = {line.split()[1] for line in open(f"/proc/{server.pid}/net/tcp") if line.split()[3] == "0A"}
        with Measured(data.parent / "other") as other:
            assert f"0100007F:{other.metrics_port:04X}" not in listening
            assert other.scrape().samples


def test_metrics_are_there_while_the_server_drains(data):
    server = Measured(data).start()
    client = server.client()
    client.create_bucket(BUCKET)
    request = client.signed("PUT", f"/{BUCKET}/late", b"x" * 100_000)
    with client.connect() as busy, Connection(server.metrics_port) as idle:
        idle.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.response().status == 200
        busy.send(request.head() + request.body[:50_000])
        assert eventually(lambda: server.scrape().sum("sluice_connections_open") == 1)
        server.signal(signal.SIGTERM)
        assert eventually(lambda: not server.is_ready())
        assert eventually(lambda: server.scrape().sum("sluice_connections_open") == 1), "one upload is under way"
        busy.send(request.body[50_000:])
        assert busy.response().status == 200
        assert server.process.wait(15) == 0, "an idle connection to the metrics holds nothing up"
    with pytest.raises(ConnectionRefusedError):
        Connection(server.metrics_port)
