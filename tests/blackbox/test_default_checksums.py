"""What came without a checksum has one: CRC64NVME, as S3 gives since December 2024; and whole objects are compared with it on their way out.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
"""

from __future__ import annotations

import base64
import hashlib
import os
import urllib.request
import zlib

import pytest
from awscrt import checksums

from conftest import BUCKET
from harness import sigv4
from harness.server import CREDENTIALS, Server, eventually, free_port
from harness.wire import ConnectionGone

MIB = 1024 * 1024
CRC64, TYPE = "x-amz-checksum-crc64nvme", "x-amz-checksum-type"


def crc64(body: bytes) -> str:
    return base64.b64encode(checksums.crc64nvme(body).to_bytes(8, "big")).decode()


def kept(client, key: str) -> dict[str, str]:
    """All that HEAD says of checksums."""
    answer = client.head(BUCKET, key, x_amz_checksum_mode="ENABLED")
    assert answer.status == 200
    return {name: value for name, value in answer.headers.items() if name.startswith("x-amz-checksum-")}


@pytest.mark.parametrize("size", [0, 1, 4096, 128 * 1024, 128 * 1024 + 1, 3 * MIB + 77])
@pytest.mark.parametrize("form", ["plain", "chunked", sigv4.STREAMING])
def test_what_is_put(shared, form, size):
    client, body = shared.client(), os.urandom(size)
    if form == "plain":
        answer = client.put(BUCKET, "put", body)
    elif form == "chunked":
        request = client.signed("PUT", f"/{BUCKET}/put", b"", payload_hash=sigv4.UNSIGNED)
        del request.headers["Content-Length"]
        with client.connect() as connection:
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[at : at + MIB]), body[at : at + MIB]) for at in range(0, size, MIB))
            connection.send(request.head().replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n") + chunks + b"0\r\n\r\n")
            answer = connection.response()
    else:
        answer = client.exchange(sigv4.streaming_put(f"/{BUCKET}/put", body, CREDENTIALS, client.host, form))
    assert (answer.status, answer.headers.get(CRC64), answer.headers.get(TYPE)) == (200, crc64(body), "FULL_OBJECT")
    assert kept(client, "put") == {CRC64: crc64(body), TYPE: "FULL_OBJECT"}
    read = client.get(BUCKET, "put", x_amz_checksum_mode="ENABLED")
    assert (read.body, read.headers[CRC64]) == (body, crc64(body))
    assert CRC64 not in client.get(BUCKET, "put").headers, "nobody asked"
    listed = client.request("GET", f"/{BUCKET}", query=[("list-type", "2"), ("prefix", "put")])
    assert (listed.field("ChecksumAlgorithm"), listed.field("ChecksumType")) == ("CRC64NVME", "FULL_OBJECT")
    attributes = client.request("GET", f"/{BUCKET}/put", query=[("attributes", "")], headers={"x-amz-object-attributes": "Checksum"})
    assert attributes.field("ChecksumCRC64NVME") == crc64(body)


def test_one_of_the_clients_own_is_the_only_one(shared):
    client, body = shared.client(), os.urandom(5000)
    value = base64.b64encode(hashlib.sha256(body).digest()).decode()
    answer = client.put(BUCKET, "own", body, x_amz_checksum_sha256=value)
    assert (answer.status, CRC64 in answer.headers) == (200, False)
    assert kept(client, "own") == {"x-amz-checksum-sha256": value, TYPE: "FULL_OBJECT"}


def test_parts(shared):
    client, parts = shared.client(), [os.urandom(5 * MIB), os.urandom(6 * MIB + 1), os.urandom(77)]
    upload, done = client.start_upload(BUCKET, "parts"), []
    for number, part in enumerate(parts, 1):
        answer = client.put_part(BUCKET, "parts", upload, number, part)
        assert (answer.status, answer.headers.get(CRC64)) == (200, crc64(part))
        done.append((number, answer.etag))
    listed = client.request("GET", f"/{BUCKET}/parts", query=[("uploadId", upload)])
    assert listed.body.count(b"<ChecksumCRC64NVME>") == 3
    completed = client.complete(BUCKET, "parts", upload, done)
    whole = crc64(b"".join(parts))
    assert (completed.status, completed.field("ChecksumCRC64NVME"), completed.field("ChecksumType")) == (200, whole, "FULL_OBJECT")
    assert kept(client, "parts") == {CRC64: whole, TYPE: "FULL_OBJECT"}
    assert client.get(BUCKET, "parts").body == b"".join(parts)


def test_parts_that_came_with_it_keep_their_own(shared):
    """The AWS SDK for C++ sends CRC64NVME with parts of uploads that announced none."""
    client, part = shared.client(), os.urandom(5 * MIB)
    upload = client.start_upload(BUCKET, "sent")
    query = [("partNumber", "1"), ("uploadId", upload)]
    sent = client.request("PUT", f"/{BUCKET}/sent", part, query=query, headers={CRC64: crc64(part)})
    assert (sent.status, sent.headers.get(CRC64)) == (200, crc64(part))
    assert client.complete(BUCKET, "sent", upload, [(1, sent.etag)]).status == 200
    by_number = client.request("GET", f"/{BUCKET}/sent", query=[("partNumber", "1")], headers={"x-amz-checksum-mode": "ENABLED"})
    assert (by_number.status, by_number.headers.get(CRC64)) == (206, crc64(part))
    assert kept(client, "sent") == {CRC64: crc64(part), TYPE: "FULL_OBJECT"}


def test_copies(shared):
    client, body = shared.client(), os.urandom(2 * MIB + 5)

    def copy(source: str, key: str):
        answer = client.request("PUT", f"/{BUCKET}/{key}", headers={"x-amz-copy-source": f"{BUCKET}/{source}"})
        assert answer.status == 200
        return answer

    (shared.data / BUCKET / "by-hand").write_bytes(body)
    assert kept(client, "by-hand") == {}, "nobody has computed it"
    assert copy("by-hand", "of-hand").field("ChecksumCRC64NVME") == crc64(body)
    assert kept(client, "of-hand") == {CRC64: crc64(body), TYPE: "FULL_OBJECT"}
    value = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    assert client.put(BUCKET, "summed", body, x_amz_checksum_crc32=value).status == 200
    copy("summed", "of-summed")
    assert kept(client, "of-summed") == {"x-amz-checksum-crc32": value, TYPE: "FULL_OBJECT"}
    upload = client.start_upload(BUCKET, "of-parts")
    query, headers = [("partNumber", "1"), ("uploadId", upload)], {"x-amz-copy-source": f"{BUCKET}/by-hand"}
    part = client.request("PUT", f"/{BUCKET}/of-parts", query=query, headers=headers)
    assert part.field("ChecksumCRC64NVME") == crc64(body)
    assert client.complete(BUCKET, "of-parts", upload, [(1, part.field("ETag"))]).status == 200
    assert kept(client, "of-parts") == {CRC64: crc64(body), TYPE: "FULL_OBJECT"}


def rot(path, at: int) -> None:
    """Another byte on the disk, not in memory, and nothing in the file's times that would tell."""
    stat = path.stat()
    with path.open("r+b", buffering=0) as file:
        file.seek(at)
        old = file.read(1)
        file.seek(at)
        file.write(bytes([old[0] ^ 1]))
        os.utime(file.fileno(), ns=(stat.st_atime_ns, stat.st_mtime_ns))
        os.fsync(file.fileno())
    forget(path)


def forget(path) -> None:
    """Not in memory."""
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def corrupt(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("sluice_corrupt_objects_total"))


def cut_off(client, key: str, path) -> bool:
    """A look whether all of it is in memory has the kernel begin to read it; on a busy machine that can be done before the look is over,
    which then finds it there, and what is there is not compared. So it is forgotten again."""
    for _ in range(20):
        try:
            if client.get(BUCKET, key).status != 200:
                return True
        except ConnectionGone:
            return True
        forget(path)
    return False


@pytest.mark.parametrize("arguments", [["--read-mode", "direct"], ["--verify-reads", "always"], ["--read-mode", "cached", "--verify-reads", "always"]])
def test_rot_is_not_sent_as_the_object(data, arguments):
    port = free_port()
    with Server(data, args=[*arguments, "--metrics-listen", f"127.0.0.1:{port}"]) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        bodies = {f"of-{size}": os.urandom(size) for size in (1, 4096, 128 * 1024, 128 * 1024 + 1, 5 * MIB + 3)}
        for key, body in bodies.items():
            assert client.put(BUCKET, key, body).status == 200
            assert client.get(BUCKET, key).body == body
        assert corrupt(port) == 0
        for key, body in bodies.items():
            for at in {0, len(body) // 2, len(body) - 1}:
                rot(data / BUCKET / key, at)
                assert cut_off(client, key, data / BUCKET / key), f"{key}, byte {at}"
                # A piece of it is what lies there.
                assert len(body) == 1 or client.get(BUCKET, key, range=f"bytes={at}-{at}").status == 206
                rot(data / BUCKET / key, at)
                assert client.get(BUCKET, key).body == body
        assert eventually(lambda: corrupt(port) == 13), corrupt(port)
        assert "not those that were stored" in server.log()


@pytest.mark.parametrize("mode", ["direct", "auto"])
def test_an_edit_is_no_rot(data, mode):
    """A file that somebody has changed is another object, without the checksum of the one before."""
    port = free_port()
    with Server(data, args=["--read-mode", mode, "--metrics-listen", f"127.0.0.1:{port}"]) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        for size in (4096, 3 * MIB):
            old, body = os.urandom(size), os.urandom(size)
            assert client.put(BUCKET, "edited", old).status == 200
            # Also where a core remembers it.
            assert [client.get(BUCKET, "edited").body for _ in range(2)] == [old, old]
            with (data / BUCKET / "edited").open("r+b") as file:
                file.write(body)
            assert client.get(BUCKET, "edited").body == body
            assert kept(client, "edited") == {}
        assert corrupt(port) == 0 and "not those that were stored" not in server.log()


def test_clients_that_stop_in_between_are_compared_all_the_same(data):
    """A download that stalled reads some of its bytes again."""
    with Server(data, args=["--read-mode", "direct", "--buffer-memory", "4MiB", "--cores", "0"]) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        body = os.urandom(12 * MIB + 4321)
        assert client.put(BUCKET, "stalled", body).status == 200

        def read():
            import time

            with client.connect(receive_buffer=4096) as connection:
                connection.send(client.signed("GET", f"/{BUCKET}/stalled").encode())
                time.sleep(1.2)
                return connection.response()

        assert read().body == body
        rot(data / BUCKET / "stalled", len(body) - 1)
        with pytest.raises(ConnectionGone):
            read()
