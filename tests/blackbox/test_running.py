"""The process: health, a second server, signals, TLS, what it says at start, secrets."""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import re
import signal
import ssl
import stat
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from conftest import BUCKET
from harness.certificates import make_certificates
from harness.server import CREDENTIALS, ROOT, SECRET_KEY, Server, binary, eventually, free_port
from harness.sigv4 import STREAMING, UNSIGNED, Request, streaming_put

HEALTH = ["/health/live", "/health/ready", "/minio/health/live", "/minio/health/ready"]


@pytest.mark.parametrize("path", HEALTH)
def test_health_needs_no_credentials(shared, path):
    client = shared.client()
    for method in ("GET", "HEAD"):
        assert client.exchange(Request(method, path, headers={"Host": client.host})).status == 200
    for method in ("PUT", "POST", "DELETE"):
        request = Request(method, path, headers={"Host": client.host, "Content-Length": "0"})
        assert client.exchange(request).status in (403, 405)
    for near in (path + "/", path + "/x", path.upper(), "/" + path):
        assert client.exchange(Request("GET", near, headers={"Host": client.host})).status in (400, 403), near


def test_buckets_named_health_and_minio(shared):
    client = shared.client()
    for bucket, key in (("health", "live"), ("minio", "health/ready")):
        client.create_bucket(bucket)
        assert client.put(bucket, key, b"an object").status == 200
        assert client.get(bucket, key).body == b"an object", "signed, it is an object"
        unsigned = client.exchange(Request("GET", f"/{bucket}/{key}", headers={"Host": client.host}))
        assert unsigned.status == 200 and unsigned.body != b"an object"


def test_a_second_server_on_the_same_directory_is_refused(server):
    second = Server(server.data)
    second.spawn()
    assert second.process.wait(10) not in (0, None)
    assert re.search(r"another|already|lock|in use", second.log(), re.I), second.log()
    assert server.is_ready()


def test_a_taken_port_is_refused(server, scratch):
    """SO_REUSEPORT would bind it silently and share the connections."""
    other = Server(Path(tempfile.mkdtemp(dir=scratch)) / "other")
    other.port = server.port
    other.spawn()
    assert other.process.wait(10) not in (0, None)
    assert str(server.port) in other.log()
    assert all(server.is_ready() for _ in range(20))


def test_the_lock_is_free_after_kill_9(data):
    server = Server(data).start()
    server.kill()
    with Server(data) as again:
        assert again.is_ready()


def test_sigterm_drains(data):
    server = Server(data).start()
    client = server.client()
    client.create_bucket(BUCKET)
    request = client.signed("PUT", f"/{BUCKET}/late", b"x" * 100_000)
    with client.connect() as busy, client.connect() as idle:
        idle.send(client.signed("GET", f"/{BUCKET}").encode())
        assert idle.response().status == 200
        busy.send(request.head() + request.body[:50_000])
        time.sleep(0.2)
        server.signal(signal.SIGTERM)
        assert eventually(lambda: not server.is_ready()), "new requests are refused"
        assert server.is_alive(), "an upload is under way"
        busy.send(request.body[50_000:])
        assert busy.response().status == 200
    assert server.process.wait(15) == 0
    assert (data / BUCKET / "late").read_bytes() == b"x" * 100_000


def test_drain_ends_after_its_time(data):
    server = Server(data, args=["--drain-timeout", "1s"]).start()
    client = server.client()
    client.create_bucket(BUCKET)
    request = client.signed("PUT", f"/{BUCKET}/stalled", b"x" * 100_000)
    with client.connect() as stalled:
        stalled.send(request.head() + request.body[:50_000])
        time.sleep(0.2)
        server.signal(signal.SIGTERM)
        assert server.process.wait(10) is not None
    assert not (data / BUCKET / "stalled").exists()


def test_a_second_signal_ends_at_once(data):
    server = Server(data, args=["--drain-timeout", "60s"]).start()
    client = server.client()
    client.create_bucket(BUCKET)
    request = client.signed("PUT", f"/{BUCKET}/stalled", b"x" * 100_000)
    with client.connect() as stalled:
        stalled.send(request.head() + request.body[:50_000])
        time.sleep(0.2)
        server.signal(signal.SIGTERM)
        time.sleep(0.5)
        assert server.is_alive()
        server.signal(signal.SIGTERM)
        assert server.process.wait(5) is not None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls(shared, version):
    context = shared.certificates.context(minimum_version=version, maximum_version=version)
    context.set_alpn_protocols(["h2", "http/1.1"])
    client = shared.client(context)
    body = os.urandom(3_000_000)
    with client.connect() as connection:
        assert connection.socket.selected_alpn_protocol() == "http/1.1"
        connection.send(client.signed("PUT", f"/{BUCKET}/tls", body).encode())
        assert connection.response().status == 200
        connection.send(client.signed("GET", f"/{BUCKET}/tls").encode())
        assert connection.response().body == body


def test_plain_http_on_the_tls_port(shared):
    from harness.wire import Connection

    with Connection(shared.tls_port) as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        data = connection.socket.recv(100)
        assert not data.startswith(b"HTTP/1.1 200")
    assert shared.is_ready()


def test_sighup_reloads_the_certificate(scratch):
    folder = Path(tempfile.mkdtemp(dir=scratch))
    first = make_certificates(folder / "tls", ("localhost", "first.test"))
    with Server(folder / "data", certificates=first) as server:
        old = first.context()
        with server.client(old).connect() as held:
            certificate = held.socket.getpeercert()
            second = make_certificates(folder / "tls", ("localhost", "second.test"))
            server.signal(signal.SIGHUP)

            def renewed() -> bool:
                try:
                    with server.client(second.context()).connect() as connection:
                        return ("DNS", "second.test") in connection.socket.getpeercert()["subjectAltName"]
                except ssl.SSLError:
                    return False

            assert ("DNS", "first.test") in certificate["subjectAltName"]
            assert eventually(renewed)
            client = server.client(old)
            held.send(client.signed("GET", "/").encode())
            assert held.response().status == 200, "connections that stand go on"


def test_start_says_what_matters(server):
    text = server.log()
    assert str(server.port) in text and "aws" in text and "--endpoint-url" in text
    for word in ("ext4|xfs|btrfs|overlay|tmpfs", "O_DIRECT|direct", "durab", "core", "align"):
        assert re.search(word, text, re.I), f"{word} is not in:\n{text}"
    assert SECRET_KEY not in text


def test_secrets_are_never_logged(data):
    with Server(data, args=["--log-level", "trace"]) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        client.put(BUCKET, "a", b"x")
        forged = client.signed("GET", f"/{BUCKET}/a")
        signature = forged.headers["Authorization"].rpartition("=")[2]
        assert client.exchange(forged).status == 200
        presigned = client.presigned("GET", f"/{BUCKET}/a")
        assert client.exchange(presigned).status == 200
        text = server.log_path.read_text()
        assert SECRET_KEY not in text and signature not in text and dict(presigned.query)["X-Amz-Signature"] not in text


def test_root_keys_are_made_once_and_kept_private(scratch):
    folder = Path(tempfile.mkdtemp(dir=scratch))
    found = []
    for _ in range(2):
        with Server(folder / "data", with_keys=False) as server:
            files = [path for path in (folder / "data/.sluice/config").rglob("*") if path.is_file()]
            assert files, "no key file under the config directory"
            assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
            assert eventually(lambda: any(path.name in server.log() for path in files)), "the start message says where"
            found.append({path.name: path.read_bytes() for path in files})
    assert found[0] == found[1]
    assert stat.S_IMODE((folder / "data/.sluice").stat().st_mode) == 0o700


def test_version_has_the_commit():
    text = subprocess.check_output([binary(), "--version"], text=True)
    assert re.fullmatch(r"sluice \d+\.\d+\.\d+ .*[0-9a-f]{7,}.*\n", text), text


@pytest.mark.parametrize(
    "args, words",
    [
        (["serve", "/no/such/directory"], "directory|exist"),
        (["serve", "DATA", "--durability", "maybe"], "durability|maybe"),
        (["serve", "DATA", "--listen", "not an address"], "listen|address"),
        (["serve", "DATA", "--config", "/no/such/file"], "config|file"),
        (["serve", "DATA", "--tls-cert", "/no/such/file", "--tls-key", "/no/such/file"], "cert|file"),
    ],
)
def test_wrong_arguments_name_their_cause(scratch, args, words):
    data = Path(tempfile.mkdtemp(dir=scratch))
    arguments = [str(data) if arg == "DATA" else arg for arg in args]
    if "--listen" not in arguments:
        arguments += ["--listen", f"127.0.0.1:{free_port()}"]
    result = subprocess.run([binary(), *arguments], capture_output=True, text=True, timeout=20)
    assert result.returncode not in (0, 101), "101 is a panic"
    assert re.search(words, result.stderr + result.stdout, re.I), result.stderr


def test_a_config_file_the_environment_and_a_flag(scratch):
    """Precedence: flag, then environment, then file."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    (folder / "sluice.toml").write_text('region = "from-file"\ndurability = "strict"\n')

    def location(args, env):
        with Server(folder / "data", args=["--config", str(folder / "sluice.toml"), *args], env=env) as server:
            from harness import sigv4
            from harness.server import ACCESS_KEY

            client = server.client()
            for region in ("from-file", "from-env", "from-flag"):
                request = Request("GET", "/")
                sigv4.sign(request, sigv4.Credentials(ACCESS_KEY, SECRET_KEY, region), client.host)
                if client.exchange(request).status == 200:
                    assert "strict" in server.log()
                    return region
        return None

    assert location([], {}) == "from-file"
    assert location([], {"SLUICE_REGION": "from-env"}) == "from-env"
    assert location(["--region", "from-flag"], {"SLUICE_REGION": "from-env"}) == "from-flag"


def test_a_direct_read_and_a_large_put_leave_no_page(data):
    """O_DIRECT, shown: mincore finds no page of the file after a 64 MiB PUT and a `direct` GET."""
    with Server(data, args=["--read-mode", "direct"]) as server:
        if not re.search(r"O_DIRECT.*\bon\b|direct.*\bon\b|direct I/O: on", server.log(), re.I):
            pytest.skip("O_DIRECT is refused by this filesystem")
        client = server.client()
        client.create_bucket(BUCKET)
        body = os.urandom(64 * 1024 * 1024)
        assert client.put(BUCKET, "big", body).status == 200
        assert resident_pages(data / BUCKET / "big") == 0
        assert client.get(BUCKET, "big").body == body
        assert resident_pages(data / BUCKET / "big") == 0


def test_direct_writes_do_not_depend_on_the_sizes_of_the_socket_reads(data):
    """Pieces of odd sizes, and chunk lines between the bytes: all but the unaligned end is written O_DIRECT."""
    with Server(data) as server:
        if not re.search(r"O_DIRECT.*\bon\b", server.log()):
            pytest.skip("O_DIRECT is refused by this filesystem")
        client, body = server.client(), os.urandom(5 * 1024 * 1024)
        client.create_bucket(BUCKET)
        plain = client.signed("PUT", f"/{BUCKET}/plain", body, payload_hash=UNSIGNED).encode()
        with client.connect() as connection:
            at = 0
            for size in itertools.cycle([1, 4095, 777, 65_537, 300_001]):
                connection.send(plain[at : at + size])
                at += size
                if at >= len(plain):
                    break
            assert connection.response().status == 200
        assert resident_pages(data / BUCKET / "plain") == 0
        size = 65_536 - 11
        chunked = streaming_put(f"/{BUCKET}/chunked", body + b"end", CREDENTIALS, client.host, STREAMING, size)
        assert client.exchange(chunked).status == 200
        assert resident_pages(data / BUCKET / "chunked") <= 1
        assert (data / BUCKET / "chunked").read_bytes() == body + b"end"


def test_a_warm_file_with_holes_is_made_warm_again(data):
    """Reclaim takes single pages out of a warm file. A buffered reader would bring them back, so that it stays warm."""
    with Server(data) as server:
        client, body = server.client(), os.urandom(8 * 1024 * 1024)
        client.create_bucket(BUCKET)
        path = data / BUCKET / "warm"
        assert client.put(BUCKET, "warm", body).status == 200
        assert path.read_bytes() == body
        whole = resident_pages(path)
        with path.open("rb") as file:
            for n in range(100):
                os.posix_fadvise(file.fileno(), (n * 19 + 5) * 4096, 4096, os.POSIX_FADV_DONTNEED)
        holes = whole - resident_pages(path)
        if holes < 50:
            pytest.skip("this filesystem keeps pages by larger folios")
        assert client.get(BUCKET, "warm").body == body
        assert whole - resident_pages(path) < holes / 4, "the holes are filled"
        assert client.get(BUCKET, "warm", range="bytes=70000-7000000").body == body[70_000:7_000_001]


def resident_pages(path: Path) -> int:
    """Pages of the file in the page cache, by util-linux' fincore, which asks mincore(2)."""
    return int(subprocess.check_output(["fincore", "--noheadings", "--output", "PAGES", str(path)], text=True))


def test_requests_run_in_parallel(shared):
    """One slow upload does not hold the others back."""
    client, done = shared.client(), []
    request = client.signed("PUT", f"/{BUCKET}/slow", bytes(500_000))
    with client.connect() as slow:
        slow.send(request.head() + request.body[:1000])
        threads = [threading.Thread(target=lambda n=n: done.append(client.put(BUCKET, f"fast-{n}", b"x").status)) for n in range(8)]
        [thread.start() for thread in threads]
        [thread.join(10) for thread in threads]
        assert done == [200] * 8
        slow.send(request.body[1000:])
        assert slow.response().status == 200


def test_the_readme_names_this_command():
    assert "scripts/test" in (ROOT / "README.md").read_text()


def test_sizes_that_the_operator_sets(data):
    """`--put-size-max` bounds one PUT and one part, `--xml-size-max` the documents of requests."""
    with Server(data, args=["--put-size-max", "1MiB", "--xml-size-max", "300"]) as server:
        client = server.client()
        client.create_bucket(BUCKET)
        assert client.put(BUCKET, "fits", bytes(1 << 20)).status == 200
        refused = client.put(BUCKET, "too-large", bytes((1 << 20) + 1))
        assert (refused.status, refused.code) == (400, "EntityTooLarge")
        assert client.get(BUCKET, "too-large").status == 404
        upload = client.start_upload(BUCKET, "parts")
        assert client.put_part(BUCKET, "parts", upload, 1, bytes((1 << 20) + 1)).code == "EntityTooLarge"
        document = b"<Delete>" + b"<Object><Key>fits</Key></Object>" * 20 + b"</Delete>"
        digest = base64.b64encode(hashlib.md5(document).digest()).decode()
        refused = client.request("POST", f"/{BUCKET}", document, [("delete", "")], {"Content-MD5": digest})
        assert refused.code == "MaxMessageLengthExceeded", refused
        assert client.get(BUCKET, "fits").status == 200
