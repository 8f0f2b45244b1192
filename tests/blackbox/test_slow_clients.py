"""Clients that take, send or say too little: none keeps a connection, a block or memory for as long as it likes."""

from __future__ import annotations

import ctypes
import fcntl
import multiprocessing
import os
import signal
import socket
import ssl
import struct
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import BUCKET, need
from harness import sigv4
from harness.server import Server, eventually
from harness.wire import ConnectionGone

MIB = 1024 * 1024
ONE_CORE = ["--cores", str(min(os.sched_getaffinity(0)))]


def established(port: int) -> int:
    """Connections whose server side is in the state ESTABLISHED or CLOSE_WAIT: nobody has ended them (proc_net_tcp(5))."""
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] in ("01", "08") for row in rows)


@contextmanager
def taking(connections, count: int, pause_s: float):
    """Each connection takes `count` bytes, and again after a pause. What they took stands in the list that is given."""
    stop, taken = threading.Event(), []

    def take():
        while not stop.wait(pause_s):
            for connection in connections:
                try:
                    taken.append(len(connection.socket.recv(count, socket.MSG_DONTWAIT)))
                except (BlockingIOError, ConnectionResetError):
                    pass

    thread = threading.Thread(target=take)
    thread.start()
    try:
        yield taken
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_pipeline_whose_answers_are_not_taken_is_given_up(data, certificates, scheme):
    arguments = ["--idle-timeout", "1s", "--body-stall-timeout", "1s", "--drain-timeout", "20s"]
    with Server(data, certificates=certificates, args=arguments) as server:
        client = server.client(certificates.context() if scheme == "https" else None)
        client.create_bucket(BUCKET)
        connections = []
        for size in range(48, 129, 8):
            assert client.put(BUCKET, f"object-{size}", bytes(size * 1024)).status == 200
            connections.append(client.connect(receive_buffer=2048))
            connections[-1].send(client.signed("GET", f"/{BUCKET}/object-{size}").encode() * 40)
        port = server.tls_port if scheme == "https" else server.port
        assert established(port) > 0
        assert eventually(lambda: established(port) == 0), "idle, stalled or both: no connection is kept"
        since = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.process.wait(15) == 0
        assert time.monotonic() - since < 15, "and none is waited for at the end"
        [connection.close() for connection in connections]


def in_a_network_of_small_buffers(work) -> None:
    """Runs `work` in a process with a network of its own, whose sockets hold as little as those of a distant client (loopback's hold
    megabytes)."""

    def isolated():
        if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):  # CLONE_NEWNET
            raise OSError(ctypes.get_errno(), "unshare")
        Path("/proc/sys/net/ipv4/tcp_wmem").write_text("4096 16384 65536")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            # SIOCSIFFLAGS with IFF_UP (netdevice(7)).
            fcntl.ioctl(control, 0x8914, struct.pack("16sh22x", b"lo", 1))
        work()

    process = multiprocessing.get_context("fork").Process(target=isolated)
    process.start()
    process.join(120)
    process.kill()
    assert process.exitcode == 0


def test_dripping_downloads_keep_no_block_from_others(data):
    """A client that takes a little now and then never stalls; where others wait for a block, it gives its own back."""
    need(None if os.geteuid() == 0 else "a network of its own needs root")
    arguments = [*ONE_CORE, "--buffer-memory", "4MiB", "--read-mode", "direct", "--minimum-rate", "0"]

    def work():
        with Server(data, args=arguments) as server:
            client = server.client()
            client.create_bucket(BUCKET)
            source, body = os.urandom(16 * MIB), os.urandom(4 * MIB)
            assert client.put(BUCKET, "source", source).status == 200
            download = client.signed("GET", f"/{BUCKET}/source").encode()
            slow = [client.connect(receive_buffer=8192) for _ in range(24)]
            [connection.send(download) for connection in slow]
            with taking(slow, 8192, 0.05) as taken:
                time.sleep(3)
                before = sum(taken)
                assert client.put(BUCKET, "other", body).status == 200
                assert client.get(BUCKET, "other").body == body
                meanwhile = sum(taken) - before
            assert meanwhile < 16 * MIB, "who takes all that it can get does not go at the pace of the others"
            slow[0].socket.setblocking(True)
            rest = b""
            while not (len(rest) > 64 * 1024 and source.endswith(rest[-64 * 1024 :])):
                rest += slow[0].socket.recv(MIB)
            assert source.endswith(rest), "who had to wait gets the right bytes all the same"
            [connection.reset() for connection in slow]

    in_a_network_of_small_buffers(work)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_download_that_stalled_goes_on_where_it_was(data, certificates, scheme):
    """From any byte on; and where the file was cut meanwhile, it ends before its length, so that nobody takes it for whole."""
    with Server(data, certificates=certificates, args=["--read-mode", "direct", "--buffer-memory", "4MiB", *ONE_CORE]) as server:
        client = server.client(certificates.context() if scheme == "https" else None)
        client.create_bucket(BUCKET)
        source = os.urandom(12 * MIB + 4321)
        assert client.put(BUCKET, "source", source).status == 200
        assert client.put(BUCKET, "cut", source).status == 200
        for first, last in ((0, len(source) - 1), (1, len(source) - 1), (1_234_567, len(source) - 2), (4095, 10 * MIB)):
            request = client.signed("GET", f"/{BUCKET}/source", headers={"Range": f"bytes={first}-{last}"})
            with client.connect(receive_buffer=4096) as connection:
                connection.send(request.encode())
                time.sleep(1.2)
                answer = connection.response()
            assert (answer.status, len(answer.body)) == (206, last + 1 - first)
            assert answer.body == source[first : last + 1]
        with client.connect(receive_buffer=4096) as connection:
            connection.send(client.signed("GET", f"/{BUCKET}/cut").encode())
            time.sleep(1.2)
            os.truncate(data / BUCKET / "cut", 10 * MIB)
            with pytest.raises((ConnectionGone, ssl.SSLError)):
                connection.response()
        assert client.get(BUCKET, "source").body == source


def test_a_client_that_takes_a_little_is_not_one_that_takes_nothing(data):
    """Whatever the kernel holds for it: a socket has room again only when a good part of megabytes is gone."""
    with Server(data, args=["--body-stall-timeout", "1s", "--minimum-rate", "0", "--read-mode", "direct"]) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        client.put(BUCKET, "source", bytes(16 * MIB))
        slow, stalled = client.connect(receive_buffer=4096), client.connect(receive_buffer=4096)
        for connection in (slow, stalled):
            connection.send(client.signed("GET", f"/{BUCKET}/source").encode())
        assert eventually(lambda: established(server.port) == 2)
        with taking([slow], 4096, 0.05):
            assert eventually(lambda: established(server.port) == 1), "who takes nothing is given up"
            time.sleep(4)
            assert established(server.port) == 1, "who takes something is not"
        slow.close()
        stalled.close()


def test_the_total_time_holds_for_downloads(data):
    with Server(data, args=["--total-timeout", "2s", "--read-mode", "direct"]) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        client.put(BUCKET, "source", bytes(16 * MIB))
        slow = client.connect(receive_buffer=4096)
        slow.send(client.signed("GET", f"/{BUCKET}/source").encode())
        with taking([slow], 4096, 0.1):
            assert established(server.port) > 0
            assert eventually(lambda: established(server.port) == 0)
        assert client.get(BUCKET, "source").status == 200
        slow.close()


def test_connections_that_linger_hold_little_memory(data):
    """A refused head is answered, and then for a moment what still comes is dropped: thousands of such cost next to nothing."""
    with Server(data, args=ONE_CORE) as server:
        client = server.client()
        connections = [client.connect() for _ in range(1000)]
        assert eventually(lambda: established(server.port) >= 1000)
        before = server.memory_kib()
        for connection in connections:
            connection.send(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
        for connection in connections:
            assert connection.response().status == 400
        assert server.memory_kib() - before < 16 * 1024
        [connection.close() for connection in connections]


def test_an_empty_line_behind_a_body_is_no_request(data):
    """Old clients send one (RFC 9112 section 2.2). An answer to it would be taken for that of the next request."""
    with Server(data, args=["--head-timeout", "1s", "--idle-timeout", "3s"]) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        for pause_s in (0, 0.2):
            with client.connect() as connection:
                connection.send(client.signed("PUT", f"/{BUCKET}/a", b"body").encode() + (b"" if pause_s else b"\r\n"))
                assert connection.response().status == 200
                time.sleep(pause_s)
                connection.send(b"\r\n" if pause_s else b"")
                assert connection.is_closed_by_peer(10), "it ends in time, and without an answer"
            with client.connect() as connection:
                connection.send(client.signed("PUT", f"/{BUCKET}/a", b"body").encode() + b"\r\n")
                assert connection.response().status == 200
                connection.send(client.signed("GET", f"/{BUCKET}/a").encode())
                assert connection.response().body == b"body"


def test_after_a_body_that_did_not_come_the_connection_is_over(data):
    """The client may send its next request at once, and we could not tell it from the rest of the body."""
    with Server(data, args=["--body-stall-timeout", "1s"]) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        request = client.signed("PUT", f"/{BUCKET}/late", bytes(1000), payload_hash=sigv4.UNSIGNED)
        with client.connect() as connection:
            connection.send(request.head() + request.body[:10])
            answer = connection.response()
            assert (answer.status, answer.code) == (400, "RequestTimeout")
            assert answer.headers.get("connection") == "close"
