"""What a core remembers of an object that it opened a moment ago is never what it answers once the object has changed."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from conftest import BUCKET
from harness.server import Server, eventually

BODY, OTHER = b"a" * 4096, b"b" * 4096
# Older than the grain of timestamps: what is younger is not remembered at all.
SETTLE_S = 0.05


@pytest.fixture
def server(data):
    # One core, so that the second request finds what the first one opened.
    with Server(data, args=["--cores", str(min(os.sched_getaffinity(0)))]) as server:
        yield server
        assert server.is_alive(), f"the server died:\n{server.log()}"


@pytest.fixture
def file(server, client) -> Path:
    """The file of the key `dir/key`, just opened by the core."""
    assert client.put(BUCKET, "dir/key", BODY, content_type="text/plain").status == 200
    time.sleep(SETTLE_S)
    assert client.get(BUCKET, "dir/key").body == BODY
    file = server.data / BUCKET / "dir/key"
    assert str(file) in held(server), "the server keeps it open"
    return file


def held(server) -> list[str]:
    """Files that the server has open."""
    links = []
    for link in Path(f"/proc/{server.pid}/fd").iterdir():
        try:
            links.append(os.readlink(link))
        except FileNotFoundError:
            pass
    return links


def test_a_remembered_object_is_answered_like_any(client, file):
    asked = [{}, {"range": "bytes=1-3"}, {"if_none_match": client.head(BUCKET, "dir/key").etag}, {"range": "bytes=5000-"}]
    asked += [{"if_match": '"0"'}, {"x_amz_checksum_mode": "ENABLED"}]

    def answers():
        seen = []
        for headers in asked:
            for response in (client.get(BUCKET, "dir/key", **headers), client.head(BUCKET, "dir/key", **headers)):
                kept = {name: value for name, value in response.headers.items() if name not in ("date", "x-amz-request-id")}
                kept.pop("content-length" if response.code else "", None)
                seen.append((response.status, kept, response.code or response.body))
        return seen

    remembered = answers()
    assert [status for status, *_ in remembered] == [200, 200, 206, 206, 304, 304, 416, 416, 412, 412, 200, 200]
    # Any change of the directory entry makes the core open it anew.
    os.rename(file, file.with_name("aside"))
    assert client.get(BUCKET, "dir/key").status == 404
    os.rename(file.with_name("aside"), file)
    assert answers() == remembered


@pytest.mark.parametrize("verb", ["get", "head"])
@pytest.mark.parametrize("change", ["in place", "truncated", "replaced", "removed", "directory", "symlink", "touched"])
def test_a_change_through_posix_shows_at_once(server, client, file, change, verb):
    ask = getattr(client, verb)
    before = ask(BUCKET, "dir/key")
    assert before.status == 200
    if change == "in place":
        with open(file, "r+b") as handle:
            handle.write(OTHER)
    elif change == "truncated":
        os.truncate(file, 100)
    elif change == "replaced":
        (file.parent / "new").write_bytes(OTHER)
        os.rename(file.parent / "new", file)
    elif change == "removed":
        os.remove(file)
    elif change == "directory":
        os.rename(file.parent, server.data / BUCKET / "elsewhere")
    elif change == "symlink":
        (server.data.parent / "outside").write_bytes(OTHER)
        os.symlink(server.data.parent / "outside", file.parent / "link")
        os.rename(file.parent / "link", file)
    else:
        os.utime(file, (1_000_000_000, 1_000_000_000))
    after = ask(BUCKET, "dir/key")
    if change in ("removed", "directory", "symlink"):
        assert after.status == 404
        return
    assert after.status == 200 and after.etag != before.etag
    assert "-" in after.etag, "no MD5 is claimed of bytes that nobody hashed"
    assert after.headers["content-length"] == str(file.stat().st_size)
    if verb == "get":
        assert after.body == file.read_bytes()


def test_a_change_through_s3_shows_at_once(client, file):
    for body in (OTHER, BODY, b""):
        put = client.put(BUCKET, "dir/key", body)
        assert (client.get(BUCKET, "dir/key").body, client.head(BUCKET, "dir/key").etag) == (body, put.etag)
    client.put(BUCKET, "dir/key/below", b"now a directory too")
    assert client.get(BUCKET, "dir/key").body == b""
    client.delete(BUCKET, "dir/key")
    assert client.get(BUCKET, "dir/key").status == 404


def test_a_directory_that_became_a_link_is_noticed_within_a_moment(server, client, file):
    """The very inode that was served, now behind a link: only for as long as it is remembered."""
    os.rename(file.parent, server.data.parent / "moved out")
    os.symlink(server.data.parent / "moved out", file.parent)
    assert eventually(lambda: client.get(BUCKET, "dir/key").status == 404, timeout_s=3)


def test_a_removed_object_gives_its_space_back(server, client, file):
    shutil.rmtree(file.parent)
    assert eventually(lambda: not any(str(file) in link for link in held(server)), timeout_s=5), held(server)
