"""What shells, units and the kernel do to the process: kill -9 and a start at once, signals, resource limits."""

from __future__ import annotations

import os
import re
import signal
import threading
import time

import pytest

from conftest import BUCKET
from harness.server import Server, eventually
from harness.sigv4 import UNSIGNED, Credentials
from harness.wire import Client, ConnectionGone

KIB, MIB = 1024, 1024 * 1024


class Load(threading.Thread):
    """Uploads and downloads on connections of its own, until the server is gone."""

    def __init__(self, client, body: bytes, number: int):
        super().__init__(daemon=True)
        self.client, self.body, self.number, self.count = client, body, number, 0

    def run(self) -> None:
        try:
            with self.client.connect() as connection:
                while True:
                    put = self.client.signed("PUT", f"/{BUCKET}/{self.number}", self.body, payload_hash=UNSIGNED)
                    for request in (put, self.client.signed("GET", f"/{BUCKET}/{self.number}")):
                        connection.send(request.encode())
                        if connection.response().status != 200:
                            return
                    self.count += 1
        except (OSError, ConnectionGone):
            pass


def test_a_start_right_after_kill_9_succeeds(data):
    """As a supervisor does it that does not wait: the kernel takes sockets and lock from the dead a moment later."""
    server, killed = Server(data).start(), []
    client = server.client()
    client.create_bucket(BUCKET)
    try:
        for _ in range(20):
            loads = [Load(client, os.urandom(MIB), number) for number in range(4)]
            idle = [client.connect() for _ in range(20)]
            [load.start() for load in loads]
            assert eventually(lambda: all(load.count for load in loads), 30)
            os.kill(server.pid, signal.SIGKILL)
            killed.append(server.process)
            server.start()
            [connection.close() for connection in idle]
            [load.join() for load in loads]
        assert client.get(BUCKET, "0").status == 200
    finally:
        server.stop()
        [process.wait() for process in killed]


@pytest.mark.parametrize("number", [signal.SIGXFSZ, signal.SIGTTOU, signal.SIGPIPE])
def test_signals_that_end_or_stop_a_process_do_not(shared, number):
    client = shared.client()
    shared.signal(number)
    assert client.put(BUCKET, "object", b"x").status == 200
    assert client.get(BUCKET, "object").body == b"x"
    assert not re.search(r"\(.*\) [TZ] ", (shared.proc() / "stat").read_text())


def test_used_up_cpu_time_is_an_orderly_stop(data):
    """SIGXCPU comes once a second from the soft limit on."""
    server = Server(data).start()
    client = server.client()
    client.create_bucket(BUCKET)
    request = client.signed("PUT", f"/{BUCKET}/late", bytes(100_000))
    with client.connect() as busy:
        busy.send(request.head() + request.body[:50_000])
        time.sleep(0.2)
        for _ in range(3):
            server.signal(signal.SIGXCPU)
            time.sleep(0.2)
        assert server.is_alive(), "an upload is under way"
        busy.send(request.body[50_000:])
        assert busy.response().status == 200
    assert server.process.wait(15) == 0
    assert (data / BUCKET / "late").stat().st_size == 100_000
    assert "CPU time" in server.log()


def test_a_file_size_limit_refuses_what_is_larger(data):
    """RLIMIT_FSIZE: EFBIG to one request, and no signal to all of them. It is rounded down to whole sectors."""
    limit = 6 * MIB + 3 * 4096
    with Server(data, prefix=["prlimit", f"--fsize={limit + 123}"]) as server:
        assert str(limit) in server.log(), "the start message says so"
        client = server.client()
        client.create_bucket(BUCKET)
        assert client.put(BUCKET, "old", b"old").status == 200
        fits = os.urandom(limit)
        assert client.put(BUCKET, "fits", fits).status == 200
        assert client.get(BUCKET, "fits").body == fits
        for size in (limit + 1, limit + 4096, 9 * MIB):
            refused = client.request("PUT", f"/{BUCKET}/old", bytes(size), payload_hash=UNSIGNED)
            assert (refused.status, refused.code) == (400, "EntityTooLarge"), refused
        assert client.get(BUCKET, "old").body == b"old"
        assert server.leftovers() == []
        # Chunked, so that its size is known at the end only.
        head = client.signed("PUT", f"/{BUCKET}/old", b"", headers={"Transfer-Encoding": "chunked"}, payload_hash=UNSIGNED)
        del head.headers["Content-Length"]
        with client.connect() as connection:
            connection.send(head.head())
            try:
                for _ in range(9):
                    connection.send(b"%x\r\n" % MIB + bytes(MIB) + b"\r\n")
                connection.send(b"0\r\n\r\n")
            except OSError:
                pass  # refused before all of it was sent
            refused = connection.response()
            assert (refused.status, refused.code) == (400, "EntityTooLarge"), refused
        # A copy of many parts, none of which is too large.
        upload = client.start_upload(BUCKET, "parts")
        first = client.put_part(BUCKET, "parts", upload, 1, bytes(5 * MIB))
        assert first.status == 200
        second = client.put_part(BUCKET, "parts", upload, 2, bytes(5 * MIB))
        if second.status == 200:
            refused = client.complete(BUCKET, "parts", upload, [(1, first.etag), (2, second.etag)])
        else:
            refused = second
        assert (refused.status, refused.code) == (400, "EntityTooLarge"), refused
        assert client.complete(BUCKET, "parts", upload, [(1, first.etag)]).status == 200
        assert client.get(BUCKET, "parts").body == bytes(5 * MIB)
        assert eventually(lambda: server.leftovers() == []), server.leftovers()
        assert list((data / ".sluice/uploads" / BUCKET).iterdir()) == []
        assert client.put(BUCKET, "last", b"x").status == 200
    assert server.process.returncode == 0


def test_a_log_that_cannot_be_written_costs_only_the_log(scratch, data):
    """A full disk, or a log file at its limit."""
    prefix = ["sh", "-c", 'exec "$@" 2>/dev/full', "sh"]
    server = Server(data, prefix=prefix, args=["--log-level", "trace", "--log-requests"])
    with server:
        client = server.client()
        client.create_bucket(BUCKET)
        for n in range(20):
            assert client.put(BUCKET, f"{n}", b"x").status == 200
        assert client.get(BUCKET, "none").status == 404
    assert server.process.returncode == 0


def test_limits_that_bite_are_told_at_start(data):
    limits = {"--as": (40_000_000_000, "address space"), "--data": (30_000_000_000, "memory")}
    limits |= {"--cpu": (100_000, "CPU time"), "--fsize": (1 << 33, "larger")}
    with Server(data, prefix=["prlimit", *(f"{option}={value}" for option, (value, _) in limits.items())]) as server:
        warnings = [line for line in server.log_path.read_text().splitlines() if '"WARN"' in line]
        for value, words in limits.values():
            assert any(str(value) in line and words in line and re.search("ulimit -[fvdt]", line) for line in warnings), words


def test_other_root_keys_are_the_same_account(data):
    """Buckets have the owner that they had, and a damaged document stops the start rather than make another one."""
    owners = []
    for access_key, secret in (("AKIAFIRSTFIRSTFIRST", "first-secret-key"), ("AKIASECONDSECONDSEC", "second-secret-key")):
        with Server(data, env={"SLUICE_ROOT_ACCESS_KEY": access_key, "SLUICE_ROOT_SECRET_KEY": secret}) as server:
            client = Client(server.port, Credentials(access_key, secret))
            buckets = client.request("GET", "/")
            assert buckets.status == 200
            account = re.search(r"account\s+(\d{12})", server.log()).group(1)
            owners.append((account, buckets.field("ID")))
            client.request("PUT", f"/{BUCKET}")
            assert client.request("HEAD", f"/{BUCKET}", headers={"x-amz-expected-bucket-owner": account}).status == 200
    assert owners[0] == owners[1]
    document = data / ".sluice/config/accounts/default.json"
    document.write_text(document.read_text().replace('"display_name":"root"', '"display_name":"boot"'))
    damaged = Server(data)
    damaged.spawn()
    assert damaged.process.wait(10) == 78 and "the account in" in damaged.log() and "damaged" in damaged.log()
