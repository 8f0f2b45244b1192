"""What a bucket is set to: where it is kept, what survives, and what becomes of a bucket whose document or directory is not what it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections import Counter
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from harness.server import Server, eventually

BUCKET = "settled"
ATTRIBUTE = "user.sluice.bucket"


def document(server: Server, bucket: str = BUCKET) -> Path:
    return server.data / ".sluice/config/buckets" / f"{bucket}.json"


def content(path: Path) -> dict:
    return json.loads(path.read_text().splitlines()[1])


def carried(server: Server, bucket: str = BUCKET) -> str:
    return os.getxattr(server.data / bucket, ATTRIBUTE).decode()


def has_everything_looked_at(server: Server) -> None:
    """A log of changes that is gone tells nothing: the server looks at everything."""
    (server.data / ".sluice/config/generation").unlink()


def listed(client) -> list[str]:
    return [text.split("</Name>")[0] for text in client.request("GET", "/").body.decode().split("<Name>")[1:]]


def test_a_bucket_has_an_id_and_a_document_and_goes_with_both(server):
    client = server.client()
    assert client.request("PUT", f"/{BUCKET}").status == 200
    kept = content(document(server))
    assert kept["id"] == carried(server) and len(kept["id"]) == 32
    assert kept["directory"]["inode"] == os.stat(server.data / BUCKET).st_ino
    assert document(server).stat().st_mode & 0o777 == 0o600
    assert client.request("DELETE", f"/{BUCKET}").status == 204
    assert not document(server).exists() and not (server.data / BUCKET).exists()
    assert client.request("PUT", f"/{BUCKET}").status == 200
    assert content(document(server))["id"] == carried(server) != kept["id"], "another bucket"


def test_a_directory_that_others_made_is_a_bucket_without_a_document(server):
    client = server.client()
    (server.data / BUCKET).mkdir()
    (server.data / BUCKET / "object").write_bytes(b"theirs")
    assert client.get(BUCKET, "object").body == b"theirs"
    assert client.put(BUCKET, "new", b"x").status == 200
    assert not document(server).exists()
    assert [client.delete(BUCKET, key).status for key in ("object", "new")] == [204, 204]
    assert client.request("DELETE", f"/{BUCKET}").status == 204


def test_it_is_there_after_kill_right_behind_the_answer(data):
    with Server(data) as server:
        for n in range(5):
            assert server.client().request("PUT", f"/bucket-{n}").status == 200
            server.kill()
            server.start()
            assert listed(server.client()) == [f"bucket-{m}" for m in range(n + 1)]
            assert content(document(server, f"bucket-{n}"))["id"] == carried(server, f"bucket-{n}")
        assert server.client().delete("bucket-0", "none").status == 204, "it is not damaged"


def test_of_two_who_make_it_at_once_both_find_one(server):
    answers, lock = Counter(), threading.Lock()

    def make(n: int) -> None:
        answer = server.client().request("PUT", f"/shared-{n}")
        with lock:
            answers[answer.status, answer.code if answer.status >= 300 else None] += 1

    for n in range(20):
        workers = [threading.Thread(target=make, args=(n,)) for _ in range(2)]
        [worker.start() for worker in workers]
        [worker.join() for worker in workers]
        assert content(document(server, f"shared-{n}"))["id"] == carried(server, f"shared-{n}")
    # https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html: in us-east-1 made again is 200.
    assert set(answers) <= {(200, None), (409, "BucketAlreadyOwnedByYou"), (409, "OperationAborted")}, answers


def test_a_document_without_a_directory_is_no_bucket(data):
    """CreateBucket died between the two."""
    with Server(data) as server:
        client = server.client()
        client.request("PUT", f"/{BUCKET}")
        before = content(document(server))["id"]
        server.stop()
        (data / BUCKET).rmdir()
        server.start()
        client = server.client()
        assert listed(client) == []
        assert client.request("GET", f"/{BUCKET}").code == "NoSuchBucket"
        assert client.request("PUT", f"/{BUCKET}").status == 200
        assert content(document(server))["id"] == carried(server) != before


def assert_damaged(server: Server) -> None:
    """Root reads and writes, and nothing is deleted."""
    client = server.client()
    assert client.get(BUCKET, "object").body == b"kept"
    assert client.put(BUCKET, "other", b"x").status == 200
    assert client.request("GET", f"/{BUCKET}").status == 200
    deletes = [client.delete(BUCKET, "object"), client.request("DELETE", f"/{BUCKET}")]
    assert {(answer.status, answer.code) for answer in deletes} == {(409, "InvalidBucketState")}
    keys = [{"Key": "object"}]
    with pytest.raises(ClientError, match="InvalidBucketState"):
        server.boto3().delete_objects(Bucket=BUCKET, Delete={"Objects": keys})
    assert client.exchange(f"GET /{BUCKET}/object HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()).status == 403
    assert (server.data / BUCKET / "object").read_bytes() == b"kept"


@pytest.mark.parametrize("kind", ["a byte", "cut", "empty", "newer", "removed"])
def test_what_is_damaged_is_roots_alone_and_keeps_everything(data, kind):
    with Server(data) as server:
        client = server.client()
        client.request("PUT", f"/{BUCKET}")
        client.put(BUCKET, "object", b"kept")
        path = document(server)
        whole = path.read_bytes()
        server.stop()
        if kind == "removed":
            path.unlink()
        else:
            path.write_bytes({"a byte": whole.replace(b"owner", b"awner"), "cut": whole[:-9], "empty": b"", "newer": b'{"format":2}\n{}\n'}[kind])
        server.start()
        assert_damaged(server)
        assert "a bucket is damaged" in server.log_path.read_text() and BUCKET in server.log_path.read_text()
        path.write_bytes(whole)
        has_everything_looked_at(server)
        assert eventually(lambda: server.client().delete(BUCKET, "object").status == 204), "put back, it is well again"


def test_a_directory_of_another_bucket_is_not_its_own(server):
    client = server.client()
    client.request("PUT", f"/{BUCKET}")
    (server.data / BUCKET).rename(server.data / "elsewhere")
    (server.data / BUCKET).mkdir()
    has_everything_looked_at(server)
    assert eventually(lambda: "another one than its settings were made for" in server.log_path.read_text())
    assert "had another name" in server.log_path.read_text()
    assert client.put(BUCKET, "object", b"x").status == 200 and client.put("elsewhere", "object", b"x").status == 200


def test_a_copy_has_no_settings(server):
    client = server.client()
    client.request("PUT", f"/{BUCKET}")
    subprocess.run(["cp", "-a", str(server.data / BUCKET), str(server.data / "copied")], check=True)
    assert carried(server, "copied") == carried(server)
    has_everything_looked_at(server)
    assert eventually(lambda: "is a copy of another one" in server.log_path.read_text())
    assert client.put("copied", "object", b"x").status == 200
    assert client.delete("copied", "object").status == 204 and client.request("DELETE", "/copied").status == 204
    assert carried(server) and client.request("DELETE", f"/{BUCKET}").status == 204


def test_a_configuration_that_cannot_be_written_makes_no_bucket(data):
    with Server(data) as server:
        client = server.client()
        client.request("PUT", f"/{BUCKET}")
        config = data / ".sluice/config"
        # Whoever the server is: no file can be made where a file is.
        shutil.rmtree(config / "locks")
        (config / "locks").write_bytes(b"")
        answer = client.request("PUT", "/refused")
        assert (answer.status, answer.code) == (503, "ServiceUnavailable") and b"configuration" in answer.body
        assert not (data / "refused").exists() and not document(server, "refused").exists()
        assert client.put(BUCKET, "object", b"x").status == 200 and client.delete(BUCKET, "object").status == 204
        (config / "locks").unlink()
        assert client.request("PUT", "/refused").status == 200
        assert server.leftovers() == []


def ends_with(server: Server) -> int:
    server.spawn()
    return server.process.wait(20)


def test_data_is_served_with_its_own_configuration_alone(data):
    with Server(data, args=["--config-dir", str(data.parent / "config")]) as server:
        server.client().request("PUT", f"/{BUCKET}")
    assert (data / ".sluice/cluster-id").read_text().strip() == content(data.parent / "config/cluster.json")["id"]
    elsewhere = Server(data, args=["--config-dir", str(data.parent / "mistyped")])
    assert ends_with(elsewhere) == 78 and "cluster-id" in elsewhere.log()
    assert not (data.parent / "mistyped").exists()
    Server(data.parent / "other", args=["--config-dir", str(data.parent / "another")]).start().stop()
    another = Server(data, args=["--config-dir", str(data.parent / "another")])
    assert ends_with(another) == 78 and "cluster-id" in another.log()
    # Data of a build that knew of none.
    (data / ".sluice/cluster-id").unlink()
    with Server(data, args=["--config-dir", str(data.parent / "config")]) as server:
        assert listed(server.client()) == [BUCKET]
    assert (data / ".sluice/cluster-id").exists()
