"""The directory beneath the server: moved, removed, re-created, full, read-only. Another tree is never served in its place, and
what comes back is used again without a restart."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from conftest import BUCKET, need
from harness import loopfs
from harness.server import Server, eventually
from harness.sigv4 import Request

MIB = 1024 * 1024


def readiness(server) -> tuple[int, str]:
    client = server.client()
    answer = client.exchange(Request("GET", "/health/ready", headers={"Host": client.host}))
    return answer.status, answer.body.decode()


def is_unready_for(server, reason: str) -> bool:
    status, text = readiness(server)
    return status == 503 and reason in text


def changes(client):
    """A request of each kind that changes something."""
    yield client.put(BUCKET, "object", b"new")
    yield client.put(BUCKET, "large", bytes(3 * MIB))
    yield client.delete(BUCKET, "object")
    yield client.request("PUT", "/another-bucket")
    yield client.request("DELETE", f"/{BUCKET}")
    yield client.request("POST", f"/{BUCKET}/upload", query=[("uploads", "")])
    yield client.request("PUT", f"/{BUCKET}/copy", headers={"x-amz-copy-source": f"/{BUCKET}/object"})


def test_moved_away_and_back(server, client):
    client.put(BUCKET, "object", b"kept")
    away = server.data.with_name("away")
    server.data.rename(away)
    assert eventually(lambda: is_unready_for(server, "not at its path"))
    assert client.get(BUCKET, "object").body == b"kept", "reads go on from where it is"
    assert {answer.status for answer in changes(client)} == {503}
    # An empty directory, or another tree, is not served in its place.
    for make in (lambda: None, lambda: (server.data / BUCKET).mkdir()):
        server.data.mkdir(exist_ok=True)
        make()
        assert client.get(BUCKET, "object").body == b"kept"
        assert client.put(BUCKET, "object", b"new").status == 503
    assert os.listdir(server.data) == [BUCKET] and os.listdir(server.data / BUCKET) == []
    shutil.rmtree(server.data)
    away.rename(server.data)
    assert eventually(lambda: readiness(server)[0] == 200)
    assert client.put(BUCKET, "object", b"new").status == 200
    log = server.log_path.read_text()
    assert "moved away" in log and "at its path again" in log


def test_removed_and_made_anew(data):
    """An emptiness that is not a bucket's: a client that mirrors it would delete the other side."""
    with Server(data) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        client.put(BUCKET, "object", b"lost")
        shutil.rmtree(server.data)
        reads = [("GET", "/"), ("GET", f"/{BUCKET}"), ("GET", f"/{BUCKET}/object"), ("HEAD", f"/{BUCKET}/object"), ("HEAD", f"/{BUCKET}")]
        assert {client.request(method, path).status for method, path in reads} == {503}, "at once"
        assert eventually(lambda: is_unready_for(server, "removed"))
        (server.data / BUCKET).mkdir(parents=True)
        (server.data / BUCKET / "object").write_bytes(b"another tree")
        assert not eventually(lambda: readiness(server)[0] == 200, timeout_s=2.5), "two looks later still not"
        assert {client.request(method, path).status for method, path in reads} == {503}
        assert {answer.status for answer in changes(client)} == {503}
        assert os.listdir(server.data) == [BUCKET], "nothing of ours was made in it"
        assert "was removed" in server.log_path.read_text()
    with Server(data) as again:
        assert again.client().get(BUCKET, "object").body == b"another tree", "the next start serves what is there"


def test_something_is_mounted_over_it(server, client):
    client.put(BUCKET, "object", b"kept")
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(server.data)], stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("this user may not mount")
    try:
        assert eventually(lambda: is_unready_for(server, "not at its path"))
        assert client.put(BUCKET, "object", b"new").status == 503
        assert os.listdir(server.data) == []
    finally:
        subprocess.run(["umount", str(server.data)], check=True)
    assert eventually(lambda: readiness(server)[0] == 200)
    assert client.put(BUCKET, "object", b"new").status == 200


@pytest.mark.parametrize("missing", ["staging", "uploads", "spill", "locks", "."])
def test_what_the_server_keeps_is_made_again(server, client, missing):
    metadata = {"x-amz-meta-long": "v" * 1900, "Cache-Control": "c" * 1000}
    client.request("PUT", f"/{BUCKET}/object", b"old", headers=metadata)
    upload_id = client.start_upload(BUCKET, "multi")
    shutil.rmtree(server.data / ".sluice" / missing)

    def works() -> bool:
        """Replacing a file, turning one into a directory, a new upload, and long metadata: all need a place of ours."""
        statuses = [client.put(BUCKET, key, b"new").status for key in ("object", "a", "a/b")]
        statuses.append(client.request("PUT", f"/{BUCKET}/described", b"x", headers=metadata).status)
        new = client.request("POST", f"/{BUCKET}/multi", query=[("uploads", "")])
        return set(statuses) == {200} and new.status == 200

    assert eventually(works)
    assert readiness(server)[0] == 200
    assert client.get(BUCKET, "a").body == b"new" and client.get(BUCKET, "a/b").body == b"new"
    part = client.put_part(BUCKET, "multi", upload_id, 1, b"x")
    if missing in ("uploads", "."):
        assert (part.status, part.code) == (404, "NoSuchUpload"), "a part that would be lost is not acknowledged"
    else:
        assert part.status == 200 and client.complete(BUCKET, "multi", upload_id, [(1, part.etag)]).status == 200
    if missing in ("staging", "uploads", "spill"):
        assert eventually(lambda: f".sluice/{missing}" in server.log_path.read_text())


def test_never_two_servers(server, client):
    """The lock is the directory's own: not that of a file which somebody can remove."""
    client.put(BUCKET, "object", b"x")

    def is_refused(path: Path) -> bool:
        second = Server(path)
        second.spawn()
        try:
            return second.process.wait(10) != 0 and "another Sluice" in second.log()
        finally:
            second.kill()

    assert is_refused(server.data)
    shutil.rmtree(server.data / ".sluice/locks")
    assert is_refused(server.data)
    shutil.rmtree(server.data / ".sluice")
    assert is_refused(server.data)
    moved = server.data.with_name("moved")
    server.data.rename(moved)
    assert is_refused(moved)
    link = server.data.with_name("link")
    link.symlink_to(moved)
    assert is_refused(link)


# A filesystem without room.


def fill(folder: Path) -> None:
    """To the last byte, and the last inode where there are few."""
    for size in (MIB, 4096, 1):
        with contextlib.suppress(OSError), open(folder / f"filler-{size}", "wb", buffering=0) as file:
            while True:
                file.write(bytes(size))
    with contextlib.suppress(OSError):
        for n in range(100_000):
            (folder / f"filler-inode-{n}").mkdir()


def make_room(folder: Path) -> None:
    for path in folder.glob("filler-*"):
        path.rmdir() if path.is_dir() else path.unlink()


FULL = {
    "ext4": ("ext4", 64 * MIB, ()),
    "ext4-few-inodes": ("ext4", 64 * MIB, ("-N", "64")),
    "ext4-128": ("ext4", 64 * MIB, ("-I", "128")),
    "xfs": ("xfs", 320 * MIB, ()),
    "btrfs": ("btrfs", 128 * MIB, ("--mixed",)),
}


@pytest.fixture(params=FULL)
def full(request, scratch):
    need(loopfs.missing())
    kind, size, options = FULL[request.param]
    folder = Path(tempfile.mkdtemp(prefix="full-", dir=scratch))
    with loopfs.LoopFilesystem(folder, kind, size, options) as filesystem:
        yield filesystem.mount


@pytest.mark.parametrize("served_before", [True, False], ids=["served before", "never served"])
def test_a_start_on_a_full_filesystem(full, served_before):
    """Reads and deletes are served, uploads are told why not, and taken once there is room: without a restart."""
    if served_before:
        with Server(full) as server:
            client = server.client()
            client.create_bucket(BUCKET)
            assert client.request("PUT", f"/{BUCKET}/kept", b"kept", headers={"x-amz-meta-a": "b"}).status == 200
            assert all(client.put(BUCKET, f"old/{n}", b"x").status == 200 for n in range(5))
    else:
        (full / BUCKET / "old").mkdir(parents=True)
        (full / BUCKET / "kept").write_bytes(b"kept")
        [(full / BUCKET / f"old/{n}").write_bytes(b"x") for n in range(5)]
    fill(full)
    with Server(full) as server:
        client = server.client()
        assert readiness(server)[0] == 200
        assert client.get(BUCKET, "kept").body == b"kept"
        if served_before:
            assert client.head(BUCKET, "kept").headers["x-amz-meta-a"] == "b"
        listed = client.request("GET", f"/{BUCKET}", query=[("list-type", "2")])
        assert listed.status == 200 and listed.body.count(b"<Key>") == 6
        assert client.request("GET", f"/{BUCKET}", query=[("uploads", "")]).status == 200
        refused = client.put(BUCKET, "new", bytes(2 * MIB))
        assert (refused.status, refused.code) == (507, "InsufficientStorage"), refused
        assert client.head(BUCKET, "new").status == 404
        assert client.get(BUCKET, "kept").body == b"kept"
        assert client.delete(BUCKET, "old/0").status == 204 and client.head(BUCKET, "old/0").status == 404
        make_room(full)
        assert eventually(lambda: client.put(BUCKET, "new", bytes(2 * MIB)).status == 200), server.log()
        assert client.put(BUCKET, "kept", b"replaced").status == 200 and client.get(BUCKET, "kept").body == b"replaced"
        assert client.put(BUCKET, "new/below", b"x").status == 200, "what was tried at last is used"
        upload_id = client.start_upload(BUCKET, "multi")
        part = client.put_part(BUCKET, "multi", upload_id, 1, b"part")
        assert client.complete(BUCKET, "multi", upload_id, [(1, part.etag)]).status == 200
        assert client.delete(BUCKET, "old/1").status == 204
        assert "endpoint" in server.log_path.read_text() and eventually(lambda: server.leftovers() == [])


@pytest.mark.parametrize("served_before", [True, False], ids=["served before", "never served"])
def test_a_start_on_a_read_only_filesystem(scratch, served_before):
    need(loopfs.missing())
    folder = Path(tempfile.mkdtemp(prefix="read-only-", dir=scratch))
    with loopfs.LoopFilesystem(folder, "ext4", 64 * MIB) as filesystem:
        if served_before:
            with Server(filesystem.mount) as server:
                server.client().create_bucket(BUCKET)
                server.client().put(BUCKET, "object", b"kept")
        else:
            (filesystem.mount / BUCKET).mkdir()
            (filesystem.mount / BUCKET / "object").write_bytes(b"kept")
        loopfs.run("mount", "-o", "remount,ro", str(filesystem.mount))
        with Server(filesystem.mount) as server:
            client = server.client()
            assert client.get(BUCKET, "object").body == b"kept"
            assert "read-only" in server.log().lower()
            answers = [answer for answer in changes(client)]
            assert {(answer.status, answer.code) for answer in answers} == {(503, "ServiceUnavailable")}, answers
            second = Server(filesystem.mount)
            second.spawn()
            assert second.process.wait(10) != 0 and "another Sluice" in second.log()
            loopfs.run("mount", "-o", "remount,rw", str(filesystem.mount))
            assert eventually(lambda: client.put(BUCKET, "object", b"new").status == 200), server.log()
            assert client.put(BUCKET, "object/below", b"x").status == 200
