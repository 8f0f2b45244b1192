"""One core and clients that ask much of it: certificates by name, an endless pipeline, transfers that stall."""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
import threading
import time
from pathlib import Path

import pytest

from conftest import BUCKET
from harness import sigv4
from harness.certificates import make_certificates
from harness.server import Server, eventually

MIB = 1024 * 1024
ONE_CORE = ["--cores", str(min(os.sched_getaffinity(0)))]


def test_certificates_by_server_name(scratch):
    folder = Path(tempfile.mkdtemp(dir=scratch))
    first = make_certificates(folder / "first", ("localhost", "first.test"))
    second = make_certificates(folder / "second", ("second.test", "*.wild.test"))
    arguments = ["--tls-cert", str(second.certificate), "--tls-key", str(second.key)]
    with Server(folder / "data", certificates=first, args=arguments) as server:

        def shown(name: str | None, authority) -> list[str]:
            context = authority.context()
            context.check_hostname = False
            with socket.create_connection(("127.0.0.1", server.tls_port), 10) as plain:
                with context.wrap_socket(plain, server_hostname=name) as connection:
                    names = connection.getpeercert()["subjectAltName"]
                    return [value for kind, value in names if kind == "DNS"]

        assert "first.test" in shown("first.test", first)
        assert "second.test" in shown("second.test", second)
        assert "second.test" in shown("SECOND.test", second), "names are compared without case (RFC 6066 section 3)"
        assert "second.test" in shown("a.wild.test", second)
        for unknown in ("other.test", None):
            assert "first.test" in shown(unknown, first), "the first is the default"
        with pytest.raises(ssl.SSLError):
            shown("second.test", first)


class Flood(threading.Thread):
    """Sends the same pipelined request without end, and reads the answers away."""

    def __init__(self, client, request: bytes):
        super().__init__(daemon=True)
        self.connection, self.request, self.received, self.stopped = client.connect(), request, 0, False
        self.reader = threading.Thread(target=self.read, daemon=True)

    def run(self) -> None:
        self.reader.start()
        many = self.request * 2000
        try:
            while not self.stopped:
                self.connection.send(many)
        except OSError:
            pass

    def read(self) -> None:
        buffer = bytearray(4 * MIB)
        try:
            while not self.stopped and (count := self.connection.socket.recv_into(buffer)):
                self.received += count
        except OSError:
            pass

    def stop(self) -> None:
        self.stopped = True
        self.connection.reset()
        self.join(10)
        self.reader.join(10)


def test_an_endless_pipeline_starves_nobody(data):
    """The core still accepts, answers others, does disk I/O and ends idle connections."""
    with Server(data, args=[*ONE_CORE, "--idle-timeout", "2s"]) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        client.put(BUCKET, "warm", b"x" * 100)
        idle = client.connect()
        request = client.signed("GET", f"/{BUCKET}/warm").encode()
        floods = [Flood(client, request) for _ in range(2)]
        [flood.start() for flood in floods]
        try:
            assert eventually(lambda: all(flood.received > MIB for flood in floods))
            body = os.urandom(3 * MIB + 5)
            for n in range(10):
                before = [flood.received for flood in floods]
                assert client.get(BUCKET, "warm").body == b"x" * 100
                assert client.put(BUCKET, f"small-{n}", b"y").status == 200
                assert client.put(BUCKET, f"large-{n % 2}", body).status == 200
                assert client.get(BUCKET, f"large-{n % 2}").body == body
                assert eventually(lambda: all(flood.received > count for flood, count in zip(floods, before))), "the pipeline runs on"
            assert idle.is_closed_by_peer(10), "an idle connection is ended"
            assert all(flood.is_alive() and flood.reader.is_alive() for flood in floods)
        finally:
            [flood.stop() for flood in floods]
        assert eventually(lambda: client.get(BUCKET, "warm").status == 200)


def test_stalled_transfers_hold_no_block(data):
    """48 stalled transfers over 8 blocks: after a moment all blocks are free for whoever makes progress."""
    with Server(data, args=[*ONE_CORE, "--buffer-memory", "4MiB", "--read-mode", "direct"]) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        source, body = os.urandom(8 * MIB), os.urandom(8 * MIB)
        assert client.put(BUCKET, "source", source).status == 200
        upload = client.signed("PUT", f"/{BUCKET}/stalled", body, payload_hash=sigv4.UNSIGNED)
        download = client.signed("GET", f"/{BUCKET}/source").encode()
        connections = []
        for n in range(48):
            connection = client.connect(receive_buffer=4096)
            sent = 700_000 + n * 1000
            connection.send(upload.head() + upload.body[:sent] if n % 2 else download)
            connections.append((connection, sent if n % 2 else None))
        for n in range(4):
            answer = client.request("PUT", f"/{BUCKET}/free-{n}", body, payload_hash=sigv4.UNSIGNED)
            assert answer.status == 200, "an upload that goes on gets blocks"
            assert client.get(BUCKET, f"free-{n}").body == body
        # And those that stalled go on where they were.
        for connection, sent in connections[:6]:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)
            if sent:
                connection.send(upload.body[sent:])
                assert connection.response().status == 200
            else:
                assert connection.response().body == source
        for connection, _ in connections[6:]:
            connection.reset()
        assert eventually(lambda: server.leftovers() == [])
        assert client.get(BUCKET, "stalled").body == body


def test_dripping_uploads_keep_no_block_from_others(data):
    """A client that sends a byte now and then never stalls; where others wait for a block, it gives its own back."""
    with Server(data, args=["--buffer-memory", "2MiB", "--cores", "0", "--minimum-rate", "0"]) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        stop = threading.Event()
        drippers = []
        for n in range(8):
            connection = client.connect()
            request = client.signed("PUT", f"/{BUCKET}/drip-{n}", bytes(1 << 20), payload_hash="UNSIGNED-PAYLOAD")
            connection.send(request.head())
            drippers.append(connection)

        def drip():
            while not stop.wait(0.1):
                for connection in drippers:
                    connection.send(b"\0")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            body = os.urandom(4 << 20)
            for n in range(3):
                assert client.put(BUCKET, f"other-{n}", body).status == 200
            assert client.get(BUCKET, "other-0").body == body
        finally:
            stop.set()
            thread.join()
            for connection in drippers:
                connection.close()
