"""Multipart uploads when something fails or waits: what was acknowledged stays, and nobody else stands still meanwhile."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import BUCKET, need
from harness import loopfs
from harness.server import Server, eventually
from harness.wire import complete_document

MIB = 1024 * 1024
PART = 5 * MIB
KEY = "dir/key"
ONE_CORE = ["--cores", str(min(os.sched_getaffinity(0)))]


@contextmanager
def special_file_on_the_way(folder: Path):
    os.mkfifo(folder / "dir")
    yield
    (folder / "dir").unlink()


@contextmanager
def immutable_directory(folder: Path):
    (folder / "dir").mkdir()
    set_flag = subprocess.run(["chattr", "+i", folder / "dir"], capture_output=True, text=True)
    need("it takes root and a filesystem with attributes" if set_flag.returncode else None)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", folder / "dir"], check=True)


@pytest.mark.parametrize("obstacle", [special_file_on_the_way, immutable_directory])
@pytest.mark.parametrize("restarts", [False, True], ids=["", "restarted"])
@pytest.mark.parametrize(
    "numbers, chosen",
    [([1, 2, 3], [1, 2]), ([1, 2, 3], [1]), ([1, 3, 4], [1, 3]), ([2, 4, 5, 6], [2, 5])],
    ids=["in-place", "in-place-mostly-left-out", "gaps", "gaps-and-end"],
)
def test_a_complete_that_fails_loses_no_part(data, numbers, chosen, restarts, obstacle):
    """What was acknowledged stays until the upload is completed or aborted, also parts that a failed Complete did not list."""
    with Server(data) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        upload_id, parts, etags = fail_to_complete(client, data, numbers, chosen, obstacle)
        if not restarts:
            return complete_all(server, upload_id, parts, etags)
        server.kill()
    with Server(data) as server:
        complete_all(server, upload_id, parts, etags)


def fail_to_complete(client, data: Path, numbers, chosen, obstacle):
    parts = {n: os.urandom(PART) for n in numbers}
    upload_id = client.start_upload(BUCKET, KEY)
    etags = {n: client.put_part(BUCKET, KEY, upload_id, n, parts[n]).etag for n in numbers}
    with obstacle(data / BUCKET):
        failed = client.complete(BUCKET, KEY, upload_id, [(n, etags[n]) for n in chosen])
        assert failed.status == 403, failed
    # A part that comes now makes the file longer again, past where a part may have been cut off.
    parts[9] = b"the last"
    etags[9] = client.put_part(BUCKET, KEY, upload_id, 9, parts[9]).etag
    return upload_id, parts, etags


def complete_all(server, upload_id: str, parts, etags) -> None:
    client = server.client()
    listed = client.request("GET", f"/{BUCKET}/{KEY}", query=[("uploadId", upload_id)])
    assert listed.body.count(b"<Part>") == len(parts)
    completed = client.complete(BUCKET, KEY, upload_id, sorted(etags.items()))
    assert completed.status == 200, completed
    assert client.get(BUCKET, KEY).body == b"".join(parts[n] for n in sorted(parts))
    assert server.leftovers() == []


@pytest.mark.parametrize(
    "lists", [[[1, 2], [1, 2, 3]], [[1], [1, 2], [1, 2, 3]], [[1, 3], [2, 3]], [[2, 3], [1, 2, 3], [3], [1, 3]]]
)
def test_another_list_after_some_failed(server, client, lists):
    parts = {n: os.urandom(PART) for n in (1, 2, 3)}
    upload_id = client.start_upload(BUCKET, KEY)
    etags = {n: client.put_part(BUCKET, KEY, upload_id, n, parts[n]).etag for n in parts}
    with special_file_on_the_way(server.data / BUCKET):
        for chosen in lists[:-1]:
            assert client.complete(BUCKET, KEY, upload_id, [(n, etags[n]) for n in chosen]).status == 403
    last = lists[-1]
    assert client.complete(BUCKET, KEY, upload_id, [(n, etags[n]) for n in last]).status == 200
    assert client.get(BUCKET, KEY).body == b"".join(parts[n] for n in last)


class Completing:
    """An upload whose Complete has begun and waits, since an UploadPart beside it has stalled."""

    def __init__(self, client):
        self.client, self.body = client, os.urandom(PART)
        self.upload_id = client.start_upload(BUCKET, KEY)
        self.etags = [(1, client.put_part(BUCKET, KEY, self.upload_id, 1, self.body).etag)]
        self.stalled = client.connect()
        late = client.signed("PUT", f"/{BUCKET}/{KEY}", bytes(PART), self.query("2")).encode()
        self.stalled.send(late[: len(late) - 4 * MIB])
        self.answer, self.is_answered, self.thread = None, threading.Event(), None

    def query(self, number: str):
        return [("partNumber", number), ("uploadId", self.upload_id)]

    def complete(self):
        return self.client.complete(BUCKET, KEY, self.upload_id, self.etags)

    def begin(self) -> None:
        def run():
            self.answer = self.complete()
            self.is_answered.set()

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        # Parts are refused from the moment in which the Complete waits.
        assert eventually(lambda: self.client.put_part(BUCKET, KEY, self.upload_id, 3, b"x").status == 503)
        assert not self.is_answered.is_set()

    def end(self) -> None:
        self.thread.join(60)
        assert self.answer is not None and self.answer.status == 200, self.answer
        self.stalled.close()
        assert self.client.get(BUCKET, KEY).body == self.body


@pytest.fixture
def one_core(data):
    with Server(data, args=ONE_CORE) as server:
        server.client().create_bucket(BUCKET)
        yield server
        assert server.is_alive(), f"the server died:\n{server.log()}"


def test_aborts_during_a_complete_hold_nobody_up(one_core):
    client = one_core.client()
    completing = Completing(client)
    completing.begin()
    connections = [client.connect() for _ in range(40)]
    abort = client.signed("DELETE", f"/{BUCKET}/{KEY}", b"", [("uploadId", completing.upload_id)]).encode()
    for connection in connections:
        connection.send(abort)
    assert client.request("GET", f"/{BUCKET}", query=[("list-type", "2")]).status == 200
    assert client.put(BUCKET, "beside", b"beside").status == 200
    assert not completing.is_answered.is_set(), "others are answered while the Complete waits"
    for connection in connections:
        answer = connection.response()
        assert (answer.status, answer.code) == (503, "SlowDown") and "retry-after" in answer.headers, answer
    completing.end()
    again = client.request("DELETE", f"/{BUCKET}/{KEY}", query=[("uploadId", completing.upload_id)])
    assert (again.status, again.code) == (404, "NoSuchUpload"), "what was completed is not aborted"


def test_a_complete_that_is_repeated_while_it_runs(one_core):
    """Clients give up on a slow answer and ask again. Each gets the first one's answer, and copies are made meanwhile."""
    client = one_core.client()
    client.put(BUCKET, "source", b"source")
    completing = Completing(client)
    completing.begin()
    connections = [client.connect() for _ in range(12)]
    document = complete_document(completing.etags)
    again = client.signed("POST", f"/{BUCKET}/{KEY}", document, [("uploadId", completing.upload_id)]).encode()
    for connection in connections:
        connection.send(again)
    copied = client.request("PUT", f"/{BUCKET}/copy", headers={"x-amz-copy-source": f"/{BUCKET}/source"})
    assert copied.status == 200, copied
    assert not completing.is_answered.is_set(), "a copy is answered while the Complete waits"
    answers = [connection.response() for connection in connections]
    completing.end()
    for answer in answers:
        assert (answer.status, answer.field("ETag")) == (200, completing.answer.field("ETag")), answer


def test_uploads_are_all_listed_or_the_listing_fails(data):
    """No descriptor left: an error that clients repeat, never a list without some of the uploads."""
    with Server(data, args=ONE_CORE) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        ids = [client.start_upload(BUCKET, f"key-{n}") for n in range(5)]
        listing = client.signed("GET", f"/{BUCKET}", b"", [("uploads", "")]).encode()
        failures = 0
        with client.connect() as connection:

            def listed():
                connection.send(listing)
                return connection.response()

            assert listed().status == 200
            highest = max(int(name) for name in os.listdir(f"/proc/{server.pid}/fd"))
            _, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
            for limit in range(8, highest + 8):
                resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (limit, hard))
                answer = listed()
                if answer.status == 200:
                    assert all(upload_id.encode() in answer.body for upload_id in ids), f"incomplete with {limit} descriptors"
                else:
                    assert (answer.status, answer.code) == (503, "SlowDown"), answer
                    failures += 1
            assert failures, "the limit was never felt"
            assert listed().status == 200


def test_a_complete_that_leaves_a_part_out_on_a_full_disk(scratch):
    """There is no room to put the part aside: a clear answer, and all that was acknowledged is still there."""
    need(loopfs.missing())
    with loopfs.LoopFilesystem(Path(tempfile.mkdtemp(dir=scratch)), "ext4", 96 * MIB) as filesystem, Server(filesystem.mount) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        upload = client.request("POST", f"/{BUCKET}/key", query=[("uploads", "")]).field("UploadId")
        parts = [os.urandom(5 * MIB) for _ in range(3)]
        etags = [(number, client.put_part(BUCKET, "key", upload, number, part).etag) for number, part in enumerate(parts, 1)]
        filler = Path(filesystem.mount) / "filler"
        with pytest.raises(OSError), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(bytes(MIB))
                os.fsync(file.fileno())
        refused = client.complete(BUCKET, "key", upload, etags[:2])
        assert (refused.status, refused.code) == (507, "InsufficientStorage")
        assert client.get(BUCKET, "key").status == 404
        filler.unlink()
        assert client.complete(BUCKET, "key", upload, etags).status == 200
        assert client.get(BUCKET, "key").body == b"".join(parts)
        assert eventually(lambda: server.leftovers() == [])
