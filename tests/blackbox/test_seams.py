"""What a bug of the server's costs. Bugs and pauses are asked of a build with the feature `seams`, in no release:
`scripts/test seams` builds it; SLUICE_SEAMS_BIN names another one."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from conftest import BUCKET, need
from harness import cargo, loopfs
from harness.server import Server, eventually
from harness.wire import ConnectionGone

PROGRAM = Path(os.environ.get("SLUICE_SEAMS_BIN") or cargo.target_directory() / "seams/sluice")


def with_seams(data: Path, **options) -> Server:
    need(None if PROGRAM.exists() else f"{PROGRAM} is not built: scripts/test seams")
    server = Server(data, **options)
    server.program = PROGRAM
    return server


def panics(server: Server) -> list[dict]:
    lines = [json.loads(line) for line in server.log_path.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("message", "").startswith("panic:")]


@pytest.mark.parametrize("place", ["task", "helper"])
def test_a_panic_costs_one_answer(data, place):
    with with_seams(data) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        client.put(BUCKET, "object", b"x")
        for count in range(1, 13):
            # More often than there are helpers: each of them lives on.
            with client.connect() as other, client.connect() as connection:
                other.send(client.signed("GET", f"/{BUCKET}/object").encode())
                assert other.response().status == 200
                request = client.signed("GET", f"/{BUCKET}/object", headers={"sluice-test-panic": place})
                connection.send(request.encode())
                answer = connection.response()
                assert (answer.status, answer.code) == (500, "InternalError"), answer
                assert answer.headers["x-amz-request-id"]
                other.send(client.signed("GET", f"/{BUCKET}/object").encode())
                assert other.response().body == b"x", "the other connection goes on"
            logged = panics(server)
            assert len(logged) == count and logged[-1]["count"] == count and place in logged[-1]["message"]
        assert client.put(BUCKET, "later", b"x").status == 200
        assert server.leftovers() == []
    assert server.process.returncode == 0


def test_a_lost_core_ends_the_process(data):
    server = with_seams(data).start()
    client = server.client()
    client.create_bucket(BUCKET)
    try:
        client.exchange(client.signed("GET", f"/{BUCKET}", headers={"sluice-test-panic": "core"}))
    except (ConnectionGone, OSError):
        pass
    assert server.process.wait(10) not in (0, None)
    assert "lost" in server.log()
    with Server(data) as again:
        assert again.client().request("GET", f"/{BUCKET}").status == 200


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_no_acknowledgement_from_a_filesystem_that_went_down(scratch, kind):
    """It goes down between the change and the fsync of the barrier, which on XFS then answers success."""
    need(loopfs.missing())
    folder = Path(tempfile.mkdtemp(prefix="down-", dir=scratch))
    with loopfs.LoopFilesystem(folder, kind, 64 * 1024 * 1024) as filesystem:
        with with_seams(filesystem.mount, env={"SLUICE_TEST_BARRIER": "slow"}) as server:
            client, answers = server.client(), []
            client.create_bucket(BUCKET)
            assert client.put(BUCKET, "object", b"x").status == 200
            deleting = threading.Thread(target=lambda: answers.append(client.delete(BUCKET, "object")))
            deleting.start()
            # The seam's pause is 700 ms; the name goes at its beginning.
            assert eventually(lambda: not (filesystem.mount / BUCKET / "object").exists())
            time.sleep(0.2)
            filesystem.power_cut()
            deleting.join()
            assert answers[0].status in (500, 503), answers
            assert not server.is_ready()
        filesystem.remount()
        assert (filesystem.mount / BUCKET / "object").read_bytes() == b"x"


def long_headers(text: str) -> dict[str, str]:
    """More than fits beside an inode."""
    return {"x-amz-meta-text": text * 1500, "cache-control": text * 1000, "content-disposition": text * 1000}


def test_metadata_of_removed_objects_leaves_the_disk(data):
    """The grace of a day, and the hours between two walks, are a tenth of a second here."""
    spill = data / ".sluice/spill"
    with with_seams(data, env={"SLUICE_TEST_SPILL_MS": "100"}) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        client.create_bucket("gone")
        for count in range(50):
            assert client.put("gone", "object", b"x", **long_headers(str(count % 10)), x_amz_meta_n=str(count)).status == 200
        assert client.put(BUCKET, "kept", b"x", **long_headers("k")).status == 200
        assert client.put(BUCKET, "copied", b"x", **long_headers("c")).status == 200
        assert client.put(BUCKET, "directory/", b"", **long_headers("d")).status == 200
        subprocess.run(["cp", "-a", str(data / BUCKET / "copied"), str(data / BUCKET / "copy")], check=True)
        assert client.delete(BUCKET, "copied").status == 204
        assert client.delete("gone", "object").status == 204
        assert client.request("DELETE", "/gone").status == 204
        assert eventually(lambda: len(list(spill.iterdir())) <= 3, 20), "one for each object that is there"
        # Some more rounds.
        time.sleep(1.5)
        for key, text in (("kept", "k"), ("copy", "c"), ("directory/", "d")):
            headers = client.head(BUCKET, key).headers
            assert headers["x-amz-meta-text"] == text * 1500 and headers["cache-control"] == text * 1000, key
        for key in ("kept", "copy", "directory/"):
            assert client.delete(BUCKET, key).status == 204
        assert eventually(lambda: list(spill.iterdir()) == [], 20)


def test_metadata_stays_while_not_everything_can_be_looked_at(data):
    """A mount hides what is beneath it, and that may be the last object with this metadata."""
    spill, hidden = data / ".sluice/spill", data / BUCKET / "hidden"
    with with_seams(data, env={"SLUICE_TEST_SPILL_MS": "100"}) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        assert client.put(BUCKET, "hidden/object", b"x", **long_headers("h")).status == 200
        assert client.put(BUCKET, "gone", b"x", **long_headers("g")).status == 200
        mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(hidden)], stderr=subprocess.DEVNULL, check=False)
        need("this user may not mount" if mounted.returncode != 0 else None)
        try:
            assert client.delete(BUCKET, "gone").status == 204
            assert eventually(lambda: f"{BUCKET}/hidden" in server.log()), "the log names what was in the way"
            time.sleep(1.5)
            assert len(list(spill.iterdir())) == 2
        finally:
            subprocess.run(["umount", str(hidden)], check=True)
        assert eventually(lambda: len(list(spill.iterdir())) == 1)
        assert client.head(BUCKET, "hidden/object").headers["x-amz-meta-text"] == "h" * 1500
