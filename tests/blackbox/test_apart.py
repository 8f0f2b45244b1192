"""Directories between which no file can be linked or renamed: Btrfs' subvolumes, and project ids of ext4 and XFS, as a bucket and
within one. STATE section 1: staging is where the name will be."""

from __future__ import annotations

import contextlib
import os
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
APART = "apart"
FILESYSTEMS = {
    "btrfs": ("btrfs", 256 * MIB, ()),
    "ext4": ("ext4", 256 * MIB, ("-O", "quota,project", "-E", "quotatype=prjquota")),
    "xfs": ("xfs", 320 * MIB, ()),
}
# A bucket, and the beginning of its keys: all of the bucket apart, a directory in it, and one in such a one.
PLACES = [(APART, ""), (BUCKET, "deep/apart/"), (APART, "again/apart/x/")]


class Tree:
    """A filesystem and how directories are made apart on it; that of the server itself is apart from the start."""

    def __init__(self, kind: str, mount: Path):
        self.kind, self.mount, self.data, self.project = kind, mount, mount / "data", 10
        self.data.mkdir()
        if kind != "btrfs":
            self.set_project(self.data)

    def set_project(self, path: Path) -> None:
        self.project += 1
        loopfs.run("chattr", "-p", str(self.project), "+P", str(path))

    def make_apart(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.kind == "btrfs":
            loopfs.run("btrfs", "subvolume", "create", str(path))
        else:
            path.mkdir()
            self.set_project(path)

    def ours(self) -> list[Path]:
        """What is left of ours, in hidden directories too, but for the directories themselves."""
        hidden = [path for path in self.data.rglob(".sluice*") if path.is_dir()]
        names = [name for path in hidden for name in path.rglob("*") if path.parent != self.data or "staging" in name.parts]
        return [name for name in names if name.is_file()]


@pytest.fixture(params=FILESYSTEMS)
def tree(request, scratch):
    need(loopfs.missing())
    kind, size, options = FILESYSTEMS[request.param]
    folder = Path(tempfile.mkdtemp(prefix="apart-", dir=scratch))
    with made(folder, kind, size, options) as filesystem:
        tree = Tree(kind, filesystem.mount)
        tree.make_apart(tree.data / APART)
        tree.make_apart(tree.data / BUCKET / "deep/apart")
        tree.make_apart(tree.data / APART / "again/apart")
        yield tree


@contextlib.contextmanager
def made(folder: Path, kind: str, size: int, options: tuple[str, ...]):
    filesystem = loopfs.LoopFilesystem(folder, kind, size, options)
    try:
        filesystem.__enter__()
    except RuntimeError as refused:
        if kind != "ext4":
            raise
        # A kernel without CONFIG_QFMT_V2 mounts none that knows projects. XFS asks the same questions.
        pytest.skip(str(refused))
    try:
        yield filesystem
    finally:
        filesystem.__exit__()


def listed(client, bucket: str, prefix: str = "") -> list[str]:
    import re

    answer = client.request("GET", f"/{bucket}", query=[("list-type", "2"), ("prefix", prefix)])
    assert answer.status == 200, answer
    return re.findall(r"<Key>([^<]*)</Key>", answer.body.decode())


def test_every_change_works_there(tree):
    with Server(tree.data) as server:
        client = server.client()
        for bucket, prefix in PLACES:
            put = lambda key, body, **headers: client.put(bucket, prefix + key, body, **headers)  # noqa: B023, E731
            get = lambda key: client.get(bucket, prefix + key).body  # noqa: B023, E731
            for size in (0, 10, 3 * MIB + 1):
                for body in (b"a" * size, b"b" * size, b"c" * (size + 1)):
                    answer = put("object", body)
                    assert answer.status == 200, (bucket, prefix, size, answer)
                    assert get("object") == body
            assert put("object", b"x", If_None_Match="*").status == 412
            # A file becomes a directory that holds it.
            for key in ("file", "file/below", "file/below/more", "file", "file/below"):
                assert put(key, key.encode()).status == 200, (bucket, prefix, key)
            assert [get(key) for key in ("file", "file/below", "file/below/more")] == [b"file", b"file/below", b"file/below/more"]
            assert put("new/directories/of/ours", b"x").status == 200 and put("marker/", b"").status == 200
            assert put("marker/", b"with a body").status == 200 and put("marker/", b"and another").status == 200
            multipart(client, bucket, prefix)
            copies(client, bucket, prefix)
            keys = listed(client, bucket, prefix)
            assert not [key for key in keys if "sluice" in key], keys
            assert client.get(bucket, ".sluice%h").status == 404
            for key in keys:
                assert client.delete(bucket, key).status == 204
            assert listed(client, bucket, prefix) == []
        assert eventually(lambda: tree.ours() == []), tree.ours()
        # A bucket goes with what is hidden in it. Nobody's own directories go.
        os.rmdir(tree.data / APART / "again/apart") if tree.kind == "btrfs" and not os.listdir(tree.data / APART / "again/apart") else None
        subprocess.run(["rm", "-rf", tree.data / APART / "again"], check=True)
        assert client.request("DELETE", f"/{APART}").status == 204
        assert not (tree.data / APART).exists()


def multipart(client, bucket: str, prefix: str) -> None:
    parts = [os.urandom(5 * MIB), os.urandom(5 * MIB), os.urandom(17)]
    for name in ("multi", "multi", "multi/below", "fresh/multi"):
        upload_id = client.start_upload(bucket, prefix + name)
        done = [(number, client.put_part(bucket, prefix + name, upload_id, number, part).etag) for number, part in enumerate(parts, 1)]
        answer = client.complete(bucket, prefix + name, upload_id, done)
        assert answer.status == 200 and b"<Error>" not in answer.body, (bucket, prefix, name, answer)
        assert client.get(bucket, prefix + name).body == b"".join(parts)


def copies(client, bucket: str, prefix: str) -> None:
    client.put(BUCKET, "plain", b"plain" * 50_000)
    for source, target in ((f"/{BUCKET}/plain", (bucket, prefix + "copy")), (f"/{bucket}/{prefix}multi", (BUCKET, "copied-out")), (f"/{bucket}/{prefix}multi", (bucket, prefix + "copy"))):
        answer = client.request("PUT", f"/{target[0]}/{target[1]}", headers={"x-amz-copy-source": source})
        assert answer.status == 200 and b"<Error>" not in answer.body, (source, target, answer)
        from_bucket, _, key = source.lstrip("/").partition("/")
        assert client.get(*target).body == client.get(from_bucket, key).body


def test_what_a_killed_server_leaves_there_is_swept(tree):
    server = Server(tree.data).start()
    for bucket, prefix in PLACES:
        assert server.client().put(bucket, prefix + "object", b"x" * 1000).status == 200
    stop = threading.Event()

    def overwrite(bucket: str, key: str) -> None:
        client = server.client()
        while not stop.is_set():
            try:
                client.put(bucket, key, os.urandom(100_000))
                client.put(bucket, f"{key}-{time.monotonic_ns()}/below", b"x")
            except Exception:
                return

    writers = [threading.Thread(target=overwrite, args=(bucket, prefix + "object")) for bucket, prefix in PLACES for _ in range(3)]
    [writer.start() for writer in writers]
    time.sleep(1)
    server.kill()
    stop.set()
    [writer.join() for writer in writers]
    # And something that was certainly left, under a name of a shape that only a server gives.
    hidden = [home / "staging" for home in tree.data.rglob(".sluice%h")]
    assert len(hidden) == 3, hidden
    for folder in hidden:
        (folder / f"new.{1:016x}").write_bytes(b"left")
    with Server(tree.data) as server:
        client = server.client()
        assert eventually(lambda: tree.ours() == []), tree.ours()
        for bucket, prefix in PLACES:
            assert len(client.get(bucket, prefix + "object").body) in (1000, 100_000)
            assert client.put(bucket, prefix + "object", b"again").status == 200


def test_a_directory_that_is_moved_apart_while_it_is_served(tree):
    """What was found out about a directory does not hold for ever."""
    with Server(tree.data) as server:
        client = server.client()
        assert client.put(BUCKET, "later/object", b"1").status == 200 and client.put(BUCKET, "later/object", b"2").status == 200
        if tree.kind == "btrfs":
            (tree.data / BUCKET / "later").rename(tree.data / BUCKET / "before")
            tree.make_apart(tree.data / BUCKET / "later")
            subprocess.run(["cp", "-a", tree.data / BUCKET / "before/object", tree.data / BUCKET / "later/object"], check=True)
        else:
            loopfs.run("chattr", "-R", "-p", "77", "+P", str(tree.data / BUCKET / "later"))
        for body in (b"3", b"4"):
            answer = client.put(BUCKET, "later/object", body)
            assert answer.status == 200, answer
            assert client.get(BUCKET, "later/object").body == body
        assert client.put(BUCKET, "later/object/below", b"x").status == 200
        assert client.delete(BUCKET, "later/object").status == 204
