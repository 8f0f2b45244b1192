"""What a file's times tell, and what they do not: no ETag stands for two states of a file, and none changes without a reason."""

from __future__ import annotations

import itertools
import mmap
import os
import threading
import time

import pytest

from conftest import BUCKET, need
from harness import loopfs
from harness.loopfs import LoopFilesystem, fresh_filesystem
from harness.server import Server

# Inodes of 128 bytes have no room for nanoseconds.
WHOLE_SECONDS = ("-I", "128")
SIZES = [pytest.param((), id="nanoseconds"), pytest.param(WHOLE_SECONDS, id="seconds")]


@pytest.mark.parametrize("options", SIZES)
def test_an_edit_of_the_same_length_changes_the_etag(scratch, options):
    """Also in the very second in which the file was stored or last edited."""
    with fresh_filesystem(scratch, "ext4", options=options) as mount, Server(mount / "data") as server:
        client = server.client()
        client.create_bucket(BUCKET)
        for number, size in enumerate([5] * 10 + [200_000] * 4):
            path, seen = server.data / BUCKET / f"key-{number}", {}
            seen[client.put(BUCKET, path.name, b"0" * size).etag] = b"0"
            for letter in (b"1", b"2", b"3"):
                with open(path, "r+b") as file:
                    file.write(letter * size)
                for _ in range(2):
                    for answer in (client.head(BUCKET, path.name), client.get(BUCKET, path.name)):
                        assert seen.setdefault(answer.etag, letter) == letter, f"{path.name}: an ETag of the state before"
                    assert answer.body == letter * size
        whole = client.put(BUCKET, "untouched", b"x" * 200_000).etag
        small = client.put(BUCKET, "small", b"x").etag
        time.sleep(2.2 if options else 0.1)
        # What nobody edits keeps its ETag, and what was edited gets one that lasts.
        assert client.head(BUCKET, "untouched").etag == whole and client.head(BUCKET, "small").etag == small
        assert len({client.head(BUCKET, "key-0").etag for _ in range(3)}) == 1


@pytest.mark.parametrize("options", SIZES)
def test_a_change_time_ahead_of_the_clock_does_not_change_the_etag(scratch, tmp_path, options):
    """As all have, until then, when the clock was put back. `debugfs` gives a file such a time."""
    need(loopfs.missing())
    filesystem = LoopFilesystem(tmp_path, "ext4", 64 * loopfs.MIB, options)
    with filesystem:
        path = filesystem.mount / "data" / BUCKET / "file"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"bytes")
        filesystem.detach()
        ahead = f"set_inode_field /data/{BUCKET}/file ctime @{int(time.time()) + 3600}"
        loopfs.run("debugfs", "-w", "-R", ahead, str(filesystem.image))
        filesystem.attach()
        assert os.stat(path).st_ctime > time.time() + 3000
        with Server(filesystem.mount / "data") as server:
            client = server.client()
            etags = {client.head(BUCKET, "file").etag for _ in range(3)} | {client.get(BUCKET, "file").etag for _ in range(3)}
            listed = client.request("GET", f"/{BUCKET}", query=[("list-type", "2")]).field("ETag").replace("&quot;", '"')
            assert len(etags | {listed}) == 1
            path.write_bytes(b"BYTES")
            edited = client.get(BUCKET, "file")
            assert edited.body == b"BYTES" and edited.etag not in etags


def test_stores_into_mapped_memory_do_not_share_an_etag(server, client):
    """The times of the file tell of the first store into a page only, so no ETag is given twice while somebody may store."""
    path = server.data / BUCKET / "mapped"
    path.write_bytes(b"0" * 8192)
    seen: dict[str, bytes] = {}
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        for letter in (b"a", b"b", b"c"):
            memory[:10] = letter * 10
            time.sleep(0.05)
            for _ in range(2):
                answer = client.get(BUCKET, "mapped", range="bytes=0-9")
                assert answer.body == letter * 10
                assert seen.setdefault(answer.etag, answer.body) == answer.body, "two bodies under one ETag"
    last = {client.get(BUCKET, "mapped", range="bytes=0-9").etag for _ in range(3)} | {client.head(BUCKET, "mapped").etag}
    assert len(last) == 1 and not last & set(seen), "an ETag of its own as soon as nobody can store any more"


def test_a_store_into_mapped_memory_ends_the_etag_of_an_upload(server, client):
    etag, path = client.put(BUCKET, "uploaded", b"0" * 8192).etag, server.data / BUCKET / "uploaded"
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        assert memory[:1] == b"0" and client.get(BUCKET, "uploaded").etag == etag, "reading changes nothing"
        memory[:1] = b"1"
        assert client.head(BUCKET, "uploaded").etag != etag
    edited = client.get(BUCKET, "uploaded")
    assert edited.body[:1] == b"1" and edited.etag != etag


def test_a_long_write_does_not_share_an_etag(server, client):
    """write(2) sets the time before it copies the first byte, and no time when it has copied the last."""
    path, piece, count, is_over = server.data / BUCKET / "long", 256 * 1024, 1000, threading.Event()
    path.write_bytes(b"-" * piece * count)

    def write():
        with open(path, "r+b", buffering=0) as file:
            for letter in itertools.cycle(b"ab"):
                # One call.
                assert os.pwritev(file.fileno(), [bytes([letter]) * piece] * count, 0) == piece * count
                if is_over.wait(0.05):
                    return

    writer = threading.Thread(target=write)
    writer.start()
    seen: dict[tuple[str, str], bytes] = {}
    try:
        deadline, answers = time.monotonic() + 2, 0
        while time.monotonic() < deadline:
            for place in ("bytes=0-0", "bytes=-1"):
                answer = client.get(BUCKET, "long", range=place)
                if answer.status == 206:
                    answers += 1
                    assert seen.setdefault((answer.etag, place), answer.body) == answer.body, "two bodies under one ETag"
    finally:
        is_over.set()
        writer.join()
    assert answers > 10
