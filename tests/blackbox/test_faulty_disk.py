"""A disk that fails its flushes, a slow one, and one that holds its writes: real errors and waits below a real filesystem."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import BUCKET, need
from harness import faultydisk, sigv4
from harness.server import Server, eventually
from harness.sigv4 import Request

MIB = 1024 * 1024
BLOCK = 512 * 1024
# What one upload holds at most: a block being received, three being written.
BLOCKS_PER_TRANSFER = 4


@contextmanager
def faulty(scratch: Path, kind: str, size: int = 256 * MIB):
    need(faultydisk.missing())
    folder = Path(tempfile.mkdtemp(prefix="faulty-", dir=scratch))
    with faultydisk.FaultyFilesystem(folder, kind, size) as filesystem:
        yield filesystem


def health(client, name: str) -> int:
    return client.exchange(Request("GET", f"/health/{name}", headers={"Host": client.host})).status


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_an_fsync_that_fails(scratch, kind):
    """A real EIO: the batch is not acknowledged, nothing is after it, the server says so, and reads go on."""
    with faulty(scratch, kind) as filesystem, Server(filesystem.mount) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        for n in range(8):
            assert client.put(BUCKET, f"kept-{n}", b"kept").status == 200
        assert client.put(BUCKET, "large", bytes(3 * MIB)).status == 200
        upload_id = client.start_upload(BUCKET, "multi")
        etag = client.put_part(BUCKET, "multi", upload_id, 1, b"part").etag
        assert health(client, "ready") == 200
        # A filesystem whose log is gone serves from its cache only what it has there: XFS nothing at all.
        assert client.get(BUCKET, "kept-0").body == b"kept"

        filesystem.disk.fails_flushes = True
        answers = []
        batch = [threading.Thread(target=lambda n=n: answers.append(client.put(BUCKET, f"kept-{n}", b"lost"))) for n in range(8)]
        [thread.start() for thread in batch]
        [thread.join() for thread in batch]
        assert len(answers) == 8
        for answer in answers:
            assert answer.status in (500, 503) and answer.code, answer
        assert health(client, "ready") == 503 and health(client, "live") == 200

        # The disk works again, but what it lost is not known: never again a success.
        filesystem.disk.fails_flushes = False
        later = [
            client.put(BUCKET, "later", b"x"),
            client.put(BUCKET, "later", bytes(2 * MIB)),
            client.delete(BUCKET, "kept-1"),
            client.delete(BUCKET, "not there"),
            client.put_part(BUCKET, "multi", upload_id, 2, b"part"),
            client.complete(BUCKET, "multi", upload_id, [(1, etag)]),
            client.request("POST", f"/{BUCKET}/new", query=[("uploads", "")]),
            client.request("PUT", "/another-bucket"),
        ]
        for answer in later:
            assert answer.status in (500, 503) and answer.code, answer
        assert health(client, "ready") == 503
        reads = [client.get(BUCKET, "kept-0"), client.get(BUCKET, "large"), client.request("GET", f"/{BUCKET}")]
        if kind == "ext4":
            assert [read.status for read in reads] == [200, 200, 200], reads
            assert reads[0].body in (b"kept", b"lost") and reads[1].body == bytes(3 * MIB)
        else:
            # XFS shuts down: not even a read is let through, which is an error and no missing object.
            assert all(read.status >= 500 for read in reads), reads
        assert server.is_alive()
        assert b"fsync" in server.log_path.read_bytes()
    assert server.process.returncode == 0


def test_a_restart_after_a_failed_fsync(scratch):
    """What was acknowledged before is there; the refused change is old or new, whole."""
    with faulty(scratch, "ext4") as filesystem:
        with Server(filesystem.mount) as server:
            client = server.client()
            client.create_bucket(BUCKET)
            assert client.put(BUCKET, "object", b"old").status == 200
            filesystem.disk.fails_flushes = True
            assert client.put(BUCKET, "object", b"new").status in (500, 503)
        filesystem.disk.fails_flushes = False
        filesystem.remount()
        with Server(filesystem.mount) as server:
            client = server.client()
            assert client.get(BUCKET, "object").body in (b"old", b"new")
            assert client.put(BUCKET, "object", b"newer").status == 200
            assert server.leftovers() == []


def test_a_slow_disk_has_several_writes_in_flight(scratch):
    with faulty(scratch, "ext4") as filesystem, Server(filesystem.mount) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        body = os.urandom(24 * MIB)
        filesystem.disk.delay_s, filesystem.disk.blocks_in_flight_max = 0.02, 0
        assert client.request("PUT", f"/{BUCKET}/slow", body, payload_hash=sigv4.UNSIGNED).status == 200
        assert 2 <= filesystem.disk.blocks_in_flight_max < BLOCKS_PER_TRANSFER
        filesystem.disk.delay_s = 0
        assert client.get(BUCKET, "slow").body == body


def test_receiving_goes_on_until_the_cap(scratch):
    """While the disk takes nothing, an upload is received until its blocks are full, and no further."""
    with faulty(scratch, "ext4") as filesystem, Server(filesystem.mount) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        body = os.urandom(16 * MIB)
        request = client.signed("PUT", f"/{BUCKET}/held", body, payload_hash=sigv4.UNSIGNED)
        with client.connect() as connection:
            filesystem.disk.writes_go_on.clear()
            try:
                sender = Sender(connection, request.encode())
                sender.start()
                head, cap = len(request.head()), BLOCKS_PER_TRANSFER * BLOCK
                assert eventually(lambda: sender.taken() >= head + cap), sender.taken() - head
                time.sleep(0.5)
                assert sender.taken() <= head + cap + BLOCK, "received beyond the cap"
                # At least: a block whose extents are not adjacent comes as several writes, smaller than what is counted.
                assert 2 <= filesystem.disk.blocks_in_flight < BLOCKS_PER_TRANSFER
            finally:
                filesystem.disk.writes_go_on.set()
            sender.join()
            assert connection.response().status == 200
        assert client.get(BUCKET, "held").body == body


class Sender(threading.Thread):
    """Sends as fast as the server takes it, and knows how much it took."""

    def __init__(self, connection, data: bytes):
        super().__init__()
        self.socket, self.data, self.handed_over = connection.socket, memoryview(data), 0
        self.ports = [self.socket.getsockname()[1], self.socket.getpeername()[1]]

    def run(self) -> None:
        while self.handed_over < len(self.data):
            self.handed_over += self.socket.send(self.data[self.handed_over : self.handed_over + 64 * 1024])

    def taken(self) -> int:
        """What the kernel holds neither on our side nor on the server's."""
        ours, theirs = self.ports
        return self.handed_over - queued(ours, theirs, 0) - queued(theirs, ours, 1)


def queued(local: int, remote: int, direction: int) -> int:
    """Bytes in a connection's send queue (0) or receive queue (1): proc_net_tcp(5)."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if [int(field.split(":")[1], 16) for field in fields[1:3]] == [local, remote]:
            return int(fields[4].split(":")[direction], 16)
    return 0
