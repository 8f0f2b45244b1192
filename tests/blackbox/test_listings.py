"""What a listing must have in it: every key that was there all along, and nothing silently left out."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import BUCKET, need
from harness.loopfs import fresh_filesystem
from harness.server import Server

NOBODY = 65534
# Replaces each of the files by another, by rename as an upload does, round and round, until it is killed.
OVERWRITER = """
import itertools, os, sys
folder, staged = sys.argv[1], sys.argv[2]
names = sorted(name for name in os.listdir(folder) if name.startswith(sys.argv[3]))
for name in itertools.cycle(names):
    os.close(os.open(staged, os.O_CREAT | os.O_WRONLY))
    os.rename(staged, os.path.join(folder, name))
"""


@contextmanager
def overwriter(folder: Path, prefix: str):
    command = [sys.executable, "-c", OVERWRITER, str(folder), str(folder.parent / f"staged-{prefix}"), prefix]
    process = subprocess.Popen(command)
    try:
        yield
        assert process.poll() is None, "the overwriter ended by itself"
    finally:
        process.kill()
        process.wait()


def list_all(client, **query: str) -> list[str]:
    """Every key and prefix, page by page."""
    found, after = [], ""
    while True:
        asked = [("list-type", "2"), *query.items(), *([("start-after", after)] if after else [])]
        page = client.request("GET", f"/{BUCKET}", query=asked)
        assert page.status == 200, page
        text = page.body.decode()
        names = re.findall(r"<Contents><Key>([^<]*)</Key>|<CommonPrefixes><Prefix>([^<]*)</Prefix>", text)
        found += sorted(html.unescape(key or prefix) for key, prefix in names)
        if "<IsTruncated>true</IsTruncated>" not in text:
            return found
        after = found[-1]


@pytest.mark.parametrize("kind", ["tmpfs", "btrfs", "ext4"])
def test_no_key_is_missed_while_others_overwrite(scratch, kind):
    """A directory read is no snapshot: where a replaced name moves in the directory, a reader may miss both old and new."""
    with fresh_filesystem(scratch, kind) as mount, Server(mount / "data") as server:
        client = server.client()
        client.create_bucket(BUCKET)
        folder = server.data / BUCKET
        # Names so long that one read of the directory takes several calls.
        expected = sorted(f"a{index:04}".ljust(200, "x") for index in range(1200))
        for name in expected:
            (folder / name).touch()
        with overwriter(folder, "a0"), overwriter(folder, "a1"):
            deadline, holes, listings = time.monotonic() + 3, 0, 0
            while time.monotonic() < deadline or listings < 4:
                found = list_all(client)
                assert not set(found) - set(expected)
                holes += found != expected
                listings += 1
        assert holes == 0, f"{holes} of {listings} listings had holes"


# Inodes of 128 bytes have no room for nanoseconds.
WHOLE_SECONDS = ("-I", "128")


@pytest.mark.parametrize("options", [(), WHOLE_SECONDS])
def test_a_key_is_listed_as_soon_as_it_is_there(scratch, options):
    """However soon after a listing it comes: times of whole seconds do not tell one change of a directory from the next."""
    with fresh_filesystem(scratch, "ext4", options=options) as mount, Server(mount / "data") as server:
        client = server.client()
        client.create_bucket(BUCKET)
        folder, expected = server.data / BUCKET, []
        for round_ in range(12):
            for step in range(4):
                key = f"dir/{round_:02}-{step}"
                if step % 2:
                    client.put(BUCKET, key)
                else:
                    (folder / "dir").mkdir(exist_ok=True)
                    (folder / key).touch()
                expected.append(key)
                assert list_all(client) == expected
            (folder / expected.pop()).unlink()
            assert list_all(client) == expected
            assert list_all(client, delimiter="/") == ["dir/"]


@pytest.fixture
def closed(data):
    """A tree of which a server without rights may read a part only."""
    need(None if os.geteuid() == 0 else "giving files to another user needs root")
    data.parent.chmod(0o755)
    for key in ["a.txt", "closed/secret", "deep/inner/closed/secret", "mixed/sub/closed/secret", "mixed/sub/open", "unsearchable/file", "z.txt"]:
        path = data / BUCKET / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    for name in ("shut", "lost+found"):
        (data / name).mkdir()
    for folder, _, names in os.walk(data):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            os.chown(path, NOBODY, NOBODY)
    (data / BUCKET / "z.txt").chmod(0)
    for path in [*data.rglob("closed"), data / "shut", data / "lost+found"]:
        path.chmod(0)
    (data / BUCKET / "unsearchable").chmod(0o444)
    return data


# What no key of the answer may be silent about.
LISTS = [("list-type", "2")], [], [("versions", "")]


@pytest.mark.parametrize("asked", LISTS, ids=["v2", "v1", "versions"])
def test_a_directory_that_may_not_be_read_is_named(closed, asked):
    """A listing without its keys would have `sync --delete` remove them on the other side."""
    with Server(closed, user=NOBODY) as server:
        client = server.client()

        def ask(**query: str):
            return client.request("GET", f"/{BUCKET}", query=sorted([*asked, *query.items()]))

        refused = {"": "closed/", "c": "closed/", "closed/": "closed/", "closed/deeper/": "closed/", "unsearchable/": "unsearchable/"}
        refused |= {"deep/inner/": "deep/inner/closed/", "mixed/sub/": "mixed/sub/closed/"}
        for prefix, named in refused.items():
            answer = ask(prefix=prefix)
            assert (answer.status, answer.code) == (403, "AccessDenied"), (prefix, answer)
            assert f"`{named}`" in answer.field("Message"), (prefix, answer)
        # Behind a delimiter, too, unless an object shows that the group is there.
        for prefix, named in {"": "closed/", "deep/": "deep/inner/closed/", "deep/inner/": "deep/inner/closed/"}.items():
            answer = ask(prefix=prefix, delimiter="/")
            assert answer.status == 403 and f"`{named}`" in answer.field("Message"), (prefix, answer)
        assert b"<Prefix>mixed/sub/</Prefix>" in ask(prefix="mixed/", delimiter="/").body
        for prefix in ("a", "z", "mixed/sub/o", "none/"):
            assert ask(prefix=prefix).status == 200
        assert b"<Key>z.txt</Key>" in ask(prefix="z").body and client.get(BUCKET, "z.txt").status == 403


def test_what_else_may_not_be_read(closed):
    with Server(closed, user=NOBODY) as server:
        client = server.client()
        buckets = client.request("GET", "/").body
        assert b"<Name>shut</Name>" in buckets and b"lost+found" not in buckets
        shut = client.request("GET", "/shut", query=[("list-type", "2")])
        assert shut.status == 403 and "bucket" in shut.field("Message")
        assert client.request("HEAD", "/shut").status == 200
        client.create_bucket("other")
        (closed / "other/closed").mkdir(mode=0)
        assert client.request("DELETE", "/other").code == "BucketNotEmpty" and (closed / "other/closed").is_dir()
        for key in ("closed/secret", "unsearchable/file"):
            assert client.get(BUCKET, key).status == 403 and client.put(BUCKET, key, b"y").status == 403


def test_unreadable_directories_can_be_skipped(closed):
    with Server(closed, user=NOBODY, env={"SLUICE_LIST_UNREADABLE": "skip"}) as server:
        client = server.client()
        assert list_all(client) == ["a.txt", "mixed/sub/open", "z.txt"]
        assert list_all(client, delimiter="/") == ["a.txt", "mixed/", "unsearchable/", "z.txt"]
        assert list_all(client, prefix="closed/") == []
        assert "unreadable" in server.log() or "may not read" in server.log()
