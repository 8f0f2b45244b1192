"""A tree that nobody wrote for a test: what the machine has installed, served in place, synced out, changed by POSIX."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from conftest import need
from harness.server import ACCESS_KEY, SECRET_KEY, Server, cache_folder

FILES_MIN = 50_000
SOURCES = ["/usr/share", "/usr/include", "/usr/lib/python3", "/usr/local/share", "/usr/local/lib", "/usr/lib"]
BUCKET = "installed"


def regular_files(folder: Path) -> dict[str, int]:
    """Every regular file below, as a key, with its size. Symlinks are no objects."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                found[os.path.relpath(path, folder)] = status.st_size
    return found


@pytest.fixture(scope="module")
def tree(scratch):
    """The machine's own files as a bucket. They are copied because the test changes them; the server imports nothing."""
    folder = Path(tempfile.mkdtemp(prefix="tree-", dir=scratch)) / "data" / BUCKET
    folder.mkdir(parents=True)
    for source in map(Path, SOURCES):
        if source.is_dir() and not source.is_symlink():
            target = folder / source.relative_to("/usr")
            target.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-a", "--reflink=auto", "-T", str(source), str(target)], check=True)
        if len(regular_files(folder)) >= FILES_MIN:
            return folder
    need(f"this machine has fewer than {FILES_MIN} files installed")


@pytest.fixture(scope="module")
def server(tree):
    with Server(tree.parent) as server:
        yield server


def list_all(server) -> dict[str, int]:
    pages = server.boto3().get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}


def is_plain(key: str) -> bool:
    """A name that reads as UTF-8."""
    return key.isprintable() or not any("\udc80" <= c <= "\udcff" for c in key)


def test_it_is_listed_as_it_is(server, tree):
    expected = {key: size for key, size in regular_files(tree).items() if is_plain(key)}
    assert len(expected) >= FILES_MIN
    found = list_all(server)
    assert sorted(set(expected) - set(found))[:5] == [] and sorted(set(found) - set(expected))[:5] == []
    assert found == expected
    # A walk by prefix and delimiter, directory by directory, meets the same files.
    client, below, queue = server.boto3(), set(), [""]
    while queue:
        prefix = queue.pop()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix, Delimiter="/"):
            below |= {entry["Key"] for entry in page.get("Contents", [])}
            queue += [group["Prefix"] for group in page.get("CommonPrefixes", [])]
    assert below == set(expected)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("client", ["rclone", "s5cmd"])
def test_it_is_synced_out(server, tree, client, scratch):
    program = cache_folder() / "venv-clients/bin" / client
    need(None if program.exists() else f"{client} is not installed; scripts/test does that")
    target = Path(tempfile.mkdtemp(prefix=f"{client}-", dir=scratch))
    env = os.environ | {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": "us-east-1"}
    if client == "rclone":
        remote = f":s3,provider=Other,env_auth,force_path_style,endpoint='{server.endpoint}':{BUCKET}"
        command = [program, "--config", "/dev/null", "copy", "--use-server-modtime", "--transfers", "16", remote, target]
    else:
        command = [program, "--endpoint-url", server.endpoint, "--log", "error", "cp", f"s3://{BUCKET}/*", f"{target}/"]
    result = subprocess.run(command, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    expected = {key: size for key, size in regular_files(tree).items() if is_plain(key)}
    assert regular_files(target) == expected
    for key in expected:
        assert same_bytes(tree / key, target / key), key
    shutil.rmtree(target)


def same_bytes(one: Path, other: Path) -> bool:
    with open(one, "rb") as a, open(other, "rb") as b:
        while True:
            x, y = a.read(1 << 20), b.read(1 << 20)
            if x != y:
                return False
            if not x:
                return True


def test_posix_changes_show_at_once(server, tree):
    """Files are edited, replaced, moved, removed and made under the server's eyes, at random places of the tree."""
    client, chooser = server.client(), random.Random(3)
    keys = chooser.sample(sorted(key for key in regular_files(tree) if is_plain(key)), 200)
    for number, key in enumerate(keys):
        path, body = tree / key, f"changed {number}".encode() * 50
        before = client.head(BUCKET, key)
        kind = number % 5
        if kind == 0:
            with open(path, "ab") as file:
                file.write(body)
            body = path.read_bytes()
        elif kind == 1:
            (path.parent / "new name").write_bytes(body)
            os.replace(path.parent / "new name", path)
        elif kind == 2:
            os.rename(path, path.with_name(path.name + " moved"))
            assert client.get(BUCKET, key + " moved").status == 200
        elif kind == 3:
            path.unlink()
        else:
            key, path = f"made/here/{number}", tree / f"made/here/{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        read = client.get(BUCKET, key)
        if kind in (2, 3):
            assert read.status == 404
        else:
            assert read.body == body and read.etag != before.etag
        listed = server.boto3().list_objects_v2(Bucket=BUCKET, Prefix=key).get("Contents", [])
        assert (key in [entry["Key"] for entry in listed]) == (kind not in (2, 3))
    expected = {key: size for key, size in regular_files(tree).items() if is_plain(key)}
    assert list_all(server) == expected


def test_s3_writes_into_the_tree(server, tree):
    client = server.client()
    key = next(key for key in sorted(regular_files(tree)) if is_plain(key) and "/" in key)
    mode = (tree / key).stat().st_mode
    assert client.put(BUCKET, key, b"by s3").status == 200
    assert (tree / key).read_bytes() == b"by s3" and (tree / key).stat().st_mode == mode
    assert client.delete(BUCKET, key).status == 204
    assert not (tree / key).exists() and (tree / key).parent.is_dir()
