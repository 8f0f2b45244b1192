"""A full disk, no descriptors, a read-only directory, kill -9: clear answers, and nothing acknowledged is lost."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from conftest import BUCKET, need
from harness import loopfs
from harness.server import Server, eventually

MIB = 1024 * 1024


@pytest.fixture
def small_filesystem(scratch):
    need(loopfs.missing())
    folder = Path(tempfile.mkdtemp(prefix="loop-", dir=scratch))
    with loopfs.LoopFilesystem(folder, "ext4", 64 * MIB) as filesystem:
        yield filesystem


def test_a_full_disk(small_filesystem):
    with Server(small_filesystem.mount) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        client.put(BUCKET, "kept", b"kept")
        written, refused = [], []
        for n in range(40):
            size = random.Random(n).choice([3 * MIB, 8 * MIB + 17])
            response = client.put(BUCKET, f"fill/{n}", bytes([n]) * size)
            (written if response.status == 200 else refused).append((n, size, response))
        assert refused, "the disk was never full"
        for _, _, response in refused:
            assert response.status in (507, 503) and response.code, response
        for n, size, _ in written:
            assert client.get(BUCKET, f"fill/{n}").body == bytes([n]) * size
        for n, _, _ in refused:
            assert client.head(BUCKET, f"fill/{n}").status == 404
        assert client.put(BUCKET, "kept", bytes(32 * MIB)).status in (507, 503)
        assert client.get(BUCKET, "kept").body == b"kept"
        assert eventually(lambda: server.leftovers() == [])
        for n, _, _ in written:
            assert client.delete(BUCKET, f"fill/{n}").status == 204
        assert eventually(lambda: client.put(BUCKET, "again", bytes(8 * MIB)).status == 200), "writes work once there is room"
        assert client.head(BUCKET, "again").headers["content-length"] == str(8 * MIB)
        assert server.is_alive()


def test_no_inodes_left(scratch):
    need(loopfs.missing())
    folder = Path(tempfile.mkdtemp(prefix="inodes-", dir=scratch))
    with loopfs.LoopFilesystem(folder, "ext4", 64 * MIB, ("-N", "64")) as filesystem, Server(filesystem.mount) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        answers = [client.put(BUCKET, f"small/{n}", b"x") for n in range(80)]
        assert {response.status for response in answers} <= {200, 503, 507}
        assert answers[-1].status in (503, 507) and answers[0].status == 200
        for n, response in enumerate(answers):
            assert client.head(BUCKET, f"small/{n}").status == (200 if response.status == 200 else 404)
        assert client.delete(BUCKET, "small/0").status == 204
        assert eventually(lambda: client.put(BUCKET, "room", b"x").status == 200)


def test_out_of_descriptors(data):
    """At EMFILE accept pauses and tries again without spinning; who is connected goes on."""
    with Server(data) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        client.put(BUCKET, "object", b"x" * 100)
        with client.connect() as held:
            held.send(client.signed("GET", f"/{BUCKET}/object").encode())
            assert held.response().status == 200
            limit = server.descriptors() + 20
            _, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (limit, hard))
            others = [client.connect() for _ in range(60)]
            try:
                time.sleep(0.5)
                before = server.cpu_seconds()
                time.sleep(1.0)
                assert server.cpu_seconds() - before < 0.5, "accept spins"
            finally:
                for other in others:
                    other.close()
            # Descriptors are free again: old and new connections are served.
            held.send(client.signed("GET", f"/{BUCKET}/object").encode())
            assert held.response().status in (200, 503)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (limit + 1000, hard))
        assert eventually(lambda: client.get(BUCKET, "object").status == 200)
        assert client.put(BUCKET, "later", b"x").status == 200


def test_a_read_only_filesystem(small_filesystem):
    with Server(small_filesystem.mount) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        client.put(BUCKET, "object", b"x" * 200_000)
    loopfs.run("mount", "-o", "remount,ro", str(small_filesystem.mount))
    server = Server(small_filesystem.mount)
    try:
        server.start()
    except RuntimeError as refused:
        # Without a place for its lock a server may refuse, if it says why.
        assert "read-only" in str(refused).lower(), refused
        return
    with server:
        client = server.client()
        assert client.get(BUCKET, "object").body == b"x" * 200_000
        for response in (client.put(BUCKET, "new", b"x"), client.delete(BUCKET, "object"), client.request("PUT", "/other-bucket")):
            assert response.status in (403, 500, 503) and response.code, response


def test_a_directory_that_the_user_may_not_write(scratch):
    need(None if os.geteuid() == 0 else "becoming another user needs root")
    folder = Path(tempfile.mkdtemp(prefix="unprivileged-", dir=scratch))
    folder.chmod(0o755)
    data = folder / "data"
    data.mkdir()
    os.chown(data, 65534, 65534)
    server = Server(data, user=65534)
    # The build folder may be below a home that others cannot enter.
    server.program = Path(shutil.copy2(server.program, folder / "program"))
    with server:
        client = server.client()
        client.create_bucket(BUCKET)
        assert client.put(BUCKET, "mine", b"x").status == 200
        (data / BUCKET / "theirs").mkdir(mode=0o555)
        (data / BUCKET / "theirs/file").write_bytes(b"read me")
        (data / BUCKET / "theirs/secret").write_bytes(b"do not")
        (data / BUCKET / "theirs/secret").chmod(0o600)
        assert client.get(BUCKET, "theirs/file").body == b"read me"
        for response in (client.put(BUCKET, "theirs/new", b"x"), client.delete(BUCKET, "theirs/file"), client.get(BUCKET, "theirs/secret")):
            assert (response.status, response.code) == (403, "AccessDenied"), response
        assert client.put(BUCKET, "mine", b"y").status == 200


def test_an_overwrite_by_an_ordinary_user_gives_no_rights_to_another_group(scratch):
    """A user who may not give files away makes them his own. If that gave the group's rights to another group, he is refused."""
    need(None if os.geteuid() == 0 else "becoming another user needs root")
    folder = Path(tempfile.mkdtemp(prefix="unprivileged-", dir=scratch))
    folder.chmod(0o755)
    data = folder / "data"
    data.mkdir()
    os.chown(data, 65534, 65534)
    server = Server(data, user=65534)
    server.program = Path(shutil.copy2(server.program, folder / "program"))
    with server:
        client = server.client()
        client.create_bucket(BUCKET)
        for name, mode in (("team", 0o660), ("everybody", 0o644), ("private", 0o600)):
            (data / BUCKET / name).write_bytes(b"old")
            os.chown(data / BUCKET / name, 1234, 2345)
            os.chmod(data / BUCKET / name, mode)
        refused = client.put(BUCKET, "team", b"new")
        assert (refused.status, refused.code) == (403, "AccessDenied") and "group" in refused.body.decode()
        found = os.stat(data / BUCKET / "team")
        assert (data / BUCKET / "team").read_bytes() == b"old" and (found.st_uid, found.st_gid) == (1234, 2345)
        for name, mode in (("everybody", 0o644), ("private", 0o600)):
            assert client.put(BUCKET, name, b"new").status == 200
            found = os.stat(data / BUCKET / name)
            assert (found.st_uid, found.st_mode & 0o777) == (65534, mode)
        assert server.leftovers() == []


@pytest.mark.slow
def test_kill_9_under_load(data):
    """What was acknowledged is there, whole; what was not is the old or the new version, whole; nothing is torn or left."""
    truth: dict[str, set[bytes]] = {}
    for round_number in range(6):
        server = Server(data).start()
        client = server.client()
        if round_number == 0:
            client.create_bucket(BUCKET)
        check(client, truth)
        stop, lock = threading.Event(), threading.Lock()
        writers = [threading.Thread(target=write, args=(server, round_number, n, truth, stop)) for n in range(8)]
        with lock:
            [writer.start() for writer in writers]
        time.sleep(random.Random(round_number).uniform(0.3, 1.5))
        server.signal(signal.SIGKILL)
        stop.set()
        [writer.join() for writer in writers]
        server.kill()
    with Server(data) as server:
        check(server.client(), truth)
        assert eventually(lambda: server.leftovers() == []), "staging is swept at the next start"
    assert len(truth) > 50, "too few writes to mean anything"


def write(server, round_number: int, writer: int, truth: dict[str, set[bytes]], stop: threading.Event) -> None:
    """Each writer has its own keys. `truth` has the contents that may be found: one, or several while a write is under way."""
    client, chooser = server.client(), random.Random(round_number * 100 + writer)
    while not stop.is_set():
        key = f"writer-{writer}/{chooser.randrange(40)}"
        size = chooser.choice([0, 10, 5000, 200_000, 3 * MIB])
        body = b"%d %d %d;" % (round_number, writer, chooser.getrandbits(60))
        body = (body * (size // len(body) + 1))[:size] if size else b""
        deleted = chooser.random() < 0.2
        before = truth.get(key, {None})
        truth[key] = before | {None if deleted else body}
        try:
            response = client.delete(BUCKET, key) if deleted else client.put(BUCKET, key, body)
        except Exception:
            return  # not acknowledged: either version may be found
        if response.status in (200, 204):
            truth[key] = {None if deleted else body}


def check(client, truth: dict[str, set[bytes]]) -> None:
    for key, allowed in truth.items():
        response = client.get(BUCKET, key)
        found = response.body if response.status == 200 else None
        assert response.status in (200, 404) and found in allowed, f"{key}: {len(found or b'')} bytes, not one of {len(allowed)} allowed versions"
        truth[key] = {found}


@pytest.mark.parametrize("when", ["before the body", "in the body"])
def test_a_full_disk_below_an_upload(small_filesystem, when):
    """The disk fills while an upload is under way."""
    with Server(small_filesystem.mount) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        upload_id = client.start_upload(BUCKET, "multi")
        if when == "in the body":
            assert client.put_part(BUCKET, "multi", upload_id, 1, bytes(5 * MIB)).status == 200
        subprocess.run(["dd", "if=/dev/zero", f"of={small_filesystem.mount}/filler", "bs=1M"], stderr=subprocess.DEVNULL, check=False)
        assert client.put_part(BUCKET, "multi", upload_id, 2, os.urandom(9 * MIB)).status in (503, 507)
        os.remove(small_filesystem.mount / "filler")
        response = client.put_part(BUCKET, "multi", upload_id, 2, os.urandom(5 * MIB))
        assert response.status == 200, response
        assert client.complete(BUCKET, "multi", upload_id, [(2, response.etag)]).status == 200
