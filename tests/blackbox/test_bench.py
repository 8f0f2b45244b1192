"""`sluice bench` from outside: against the built server, whose files say what arrived, and against servers that misbehave."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

from harness.server import ACCESS_KEY, SECRET_KEY, Server, binary, eventually

BUCKET = "bucket"
KEYS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
# Enough for a load of any kind to show, and short for a machine with other work.
SECONDS = "500ms"
RUN_TIMEOUT_S = 60


def environment(**more) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SLUICE_ROOT"))}
    return kept | KEYS | more


def command(endpoint: str, *args: str) -> list[str]:
    defaults = {"--connections": "8", "--duration": SECONDS, "--warmup": "0"}
    missing = [word for pair in defaults.items() if pair[0] not in args for word in pair]
    return [str(binary()), "bench", args[0], "--endpoint", endpoint, "--bucket", BUCKET, *missing, *args[1:]]


def bench(endpoint: str, *args: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(endpoint, *args), capture_output=True, text=True, timeout=RUN_TIMEOUT_S, env=environment(**variables)
    )


def start(endpoint: str, *args: str) -> subprocess.Popen:
    pipe = subprocess.PIPE
    return subprocess.Popen(command(endpoint, *args, "--json"), stdout=pipe, stderr=pipe, text=True, env=environment())


def report(endpoint: str, *args: str, code: int = 0) -> dict:
    result = bench(endpoint, *args, "--json")
    assert result.returncode == code, result.stdout + result.stderr
    return json.loads(result.stdout)


def of(document: dict, operation: str) -> dict:
    return next(of for of in document["operations"] if of["operation"] == operation)


def files(server: Server) -> list:
    return [path for path in (server.data / BUCKET).rglob("*") if path.is_file()]


# Against the built server.


def test_a_get_run_prepares_measures_and_leaves_nothing(server):
    document = report(server.endpoint, "get", "--objects", "20", "--size", "100KiB", "--verify", "--threads", "2")
    get = of(document, "get")
    assert document["requests"] == get["requests"] > 20
    assert document["bytes"] == get["bytes"] == get["requests"] * 100 * 1024
    assert document["errors"] == 0 and document["error_kinds"] == []
    assert not (server.data / BUCKET).exists()


def test_a_bucket_that_was_there_stays_with_what_is_in_it(server, client):
    client.put(BUCKET, "mine", b"mine")
    report(server.endpoint, "mixed", "--objects", "20")
    assert [path.name for path in files(server)] == ["mine"]


def test_json_has_the_documented_shape(server):
    document = report(server.endpoint, "get", "--server-pid", str(server.pid), "--rate", "200")
    assert list(document) == [
        "format", "version", "operation", "endpoint", "bucket", "connections", "threads", "rate", "payload", "size", "range",
        "seconds", "interrupted", "requests", "errors", "bytes", "requests_per_s", "mib_per_s", "reopened", "unsent", "lost",
        "clean_up", "operations", "error_kinds", "client", "server",
    ]  # fmt: skip
    assert (document["format"], document["operation"], document["rate"], document["interrupted"]) == (1, "get", 200, False)
    get = of(document, "get")
    names = ["operation", "requests", "errors", "bytes", "keys", "requests_per_s", "mib_per_s", "first_byte_us", "total_us"]
    assert list(get) == names
    for latency in (get["first_byte_us"], get["total_us"]):
        assert list(latency) == ["mean", "p50", "p90", "p99", "p99_9", "max"]
        values = [latency[name] for name in ("p50", "p90", "p99", "p99_9", "max")]
        assert values == sorted(values) and values[0] > 0
    assert get["first_byte_us"]["mean"] <= get["total_us"]["mean"]
    assert document["server"]["pids"] == [server.pid]
    assert document["server"]["peak_rss_bytes"] > 1 << 20
    assert document["client"]["cpu_seconds"] > 0
    # Of an open loop the number of requests is known beforehand: 200 a second for half a second.
    assert document["requests"] + document["unsent"] == 100


@pytest.mark.parametrize("payload", ["unsigned", "signed", "streaming"])
@pytest.mark.parametrize("size", [0, 4096, 200_001])
def test_every_counted_put_is_an_object_of_the_right_size(server, client, payload, size):
    document = report(server.endpoint, "put", "--payload", payload, "--size", str(size), "--keep", "--duration", "200ms")
    stored = files(server)
    assert document["requests"] == len(stored) > 0
    assert {path.stat().st_size for path in stored} == {size}
    assert document["bytes"] == size * len(stored)


def test_puts_over_the_same_keys(server, client):
    document = report(server.endpoint, "put", "--objects", "5", "--keep", "--folders", "2")
    assert len(files(server)) == 5 < document["requests"]
    assert {path.parent.name for path in files(server)} == {"0000", "0001"}


def test_deletes_end_with_the_objects(server, client):
    document = report(server.endpoint, "delete", "--objects", "50", "--duration", "30s")
    assert of(document, "delete")["requests"] == 50
    assert files(server) == []


def test_listings_count_the_keys(server, client):
    document = report(server.endpoint, "list", "--objects", "30", "--max-keys", "7")
    listed = of(document, "list")
    assert listed["requests"] > 0 and 0 < listed["keys"] <= 7 * listed["requests"]


def test_existing_objects_are_read_and_left(server, client, tmp_path):
    for name in ("a b", "ü(1)", "c&d"):
        client.put(BUCKET, f"p/{name}", name.encode() * 100)
    document = report(server.endpoint, "get", "--list-existing", "--prefix", "p/", "--verify", "--threads", "3")
    assert document["requests"] > 3
    key_file = tmp_path / "keys"
    key_file.write_text("p/a b\np/ü(1)\n")
    assert report(server.endpoint, "head", "--key-file", str(key_file))["requests"] > 2
    assert len(files(server)) == 3


def test_ranges_are_read_in_part(server):
    document = report(server.endpoint, "get", "--objects", "4", "--size", "1000", "--range", "300")
    get = of(document, "get")
    # Three whole ranges and the hundred bytes that are left.
    assert 100 * get["requests"] < get["bytes"] < 300 * get["requests"]


def test_a_key_that_is_missing_is_an_error_with_its_code(server, client, tmp_path):
    client.put(BUCKET, "there", b"x")
    key_file = tmp_path / "keys"
    key_file.write_text("there\nmissing\n")
    document = report(server.endpoint, "get", "--key-file", str(key_file), code=1)
    assert document["requests"] > 0
    (kind,) = document["error_kinds"]
    assert (kind["operation"], kind["status"], kind["code"], kind["count"]) == ("get", 404, "NoSuchKey", document["errors"])
    assert kind["example"].startswith(f"GET /{BUCKET}/missing: 404 NoSuchKey")


def test_a_changed_object_is_noticed(server, client, tmp_path):
    client.put(BUCKET, "object", b"before")
    process = start(server.endpoint, "get", "--list-existing", "--prefix", "object", "--verify", "--duration", "3s")
    time.sleep(1)
    client.put(BUCKET, "object", b"after!")
    document = json.loads(process.communicate(timeout=RUN_TIMEOUT_S)[0])
    assert process.returncode == 1
    assert [(kind["status"], kind["code"]) for kind in document["error_kinds"]] == [(200, "WrongETag")]


def test_https(data, certificates):
    with Server(data, certificates=certificates) as server:
        authority = ["--ca-file", str(certificates.authority)]
        for operation in (["get", "--size", "300KiB", "--objects", "8"], ["put", "--size", "2MiB"]):
            assert report(server.tls_endpoint, *operation, *authority)["requests"] > 0
        assert report(server.tls_endpoint, "head", "--objects", "8", "--insecure")["requests"] > 0
        refused = bench(server.tls_endpoint, "get")
        assert refused.returncode != 0 and "certificate" in refused.stderr


def test_ctrl_c_reports_and_clears_up(server, client):
    process = start(server.endpoint, "put", "--duration", "60s")
    assert eventually(lambda: len(files(server)) > 5)
    process.send_signal(signal.SIGINT)
    document = json.loads(process.communicate(timeout=RUN_TIMEOUT_S)[0])
    assert (process.returncode, document["interrupted"]) == (0, True)
    assert document["requests"] > 5 and document["seconds"] < 60
    assert files(server) == []


def test_a_server_that_dies_ends_the_run(server):
    process = start(server.endpoint, "get", "--duration", "60s")
    assert eventually(lambda: (server.data / BUCKET).exists() and len(files(server)) == 1000)
    time.sleep(0.5)
    server.kill()
    stdout, stderr = process.communicate(timeout=RUN_TIMEOUT_S)
    assert process.returncode == 1
    document = json.loads(stdout)
    assert "is gone" in document["lost"] and "refused" in document["lost"]
    server.start()


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["put", "--list-existing"], "only read"),
        (["get", "--range", "0"], "--range"),
        (["get", "--threads", "9"], "--threads"),
        (["get", "--server-pid", "999999999"], "--server-pid"),
        (["head", "--key-file", "/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_be_is_refused_with_2(server, args, word):
    result = bench(server.endpoint, *args)
    assert result.returncode == 2 and word in result.stderr, result.stderr


def test_wrong_keys_are_said(server, client):
    result = bench(server.endpoint, "get", AWS_SECRET_ACCESS_KEY="wrong")
    assert result.returncode == 1 and "SignatureDoesNotMatch" in result.stderr, result.stderr
    result = bench(server.endpoint, "get", AWS_SECRET_ACCESS_KEY="")
    assert result.returncode == 2 and "AWS_SECRET_ACCESS_KEY" in result.stderr, result.stderr


# Against servers that misbehave. Each answers request `n` of a connection as its behaviour says, and counts what it did.

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"e\"\r\n\r\nhello"
BUSY_XML = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
BUSY = b"HTTP/1.1 503 Slow Down\r\nContent-Length: %d\r\n\r\n%s" % (len(BUSY_XML), BUSY_XML)


class Misbehaving:
    """A server in threads. `behave(number, connection)` answers request `number` of all, and says whether to go on."""

    def __init__(self, behave):
        self.behave, self.requests, self.lock = behave, 0, threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        pending = b""
        with connection:
            while True:
                while b"\r\n\r\n" not in pending:
                    try:
                        data = connection.recv(65536)
                    except OSError:
                        return
                    if not data:
                        return
                    pending += data
                _, _, pending = pending.partition(b"\r\n\r\n")
                with self.lock:
                    self.requests += 1
                    number = self.requests
                try:
                    if not self.behave(number, connection):
                        return
                except OSError:
                    return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "keys"
    path.write_text("one\ntwo\n")
    return str(path)


def send(connection, data: bytes, goes_on: bool = True) -> bool:
    connection.sendall(data)
    return goes_on


def test_wrong_statuses_are_counted_exactly(key_file):
    """The run ends with every answer read, so that both sides have counted the same."""
    busy = []

    def behave(number, connection):
        if number % 3 == 0:
            busy.append(number)
            return send(connection, BUSY)
        return send(connection, GOOD)

    with Misbehaving(behave) as server:
        document = report(server.endpoint, "get", "--key-file", key_file, code=1)
        assert document["requests"] + document["errors"] == server.requests
    assert document["errors"] == len(busy) > 0
    (kind,) = document["error_kinds"]
    assert (kind["status"], kind["code"], kind["count"]) == (503, "SlowDown", len(busy))
    assert "Please reduce" in kind["example"]


def test_dropped_connections_are_counted_and_opened_again(key_file):
    dropped = []

    def behave(number, connection):
        if number % 5 == 0:
            dropped.append(number)
            return send(connection, GOOD[:10] if number % 2 else b"", goes_on=False)
        return send(connection, GOOD)

    with Misbehaving(behave) as server:
        document = report(server.endpoint, "get", "--key-file", key_file, code=1)
        assert document["requests"] + document["errors"] == server.requests
    assert document["errors"] == document["reopened"] == len(dropped) > 0
    codes = {kind["code"] for kind in document["error_kinds"]}
    assert codes <= {"closed without an answer", "closed in the head of the answer"} and codes


def test_a_polite_close_is_no_error(key_file):
    closing = GOOD.replace(b"ETag", b"Connection: close\r\nETag")
    with Misbehaving(lambda number, connection: send(connection, closing, goes_on=False)) as server:
        document = report(server.endpoint, "get", "--key-file", key_file)
        assert document["requests"] == document["reopened"] == server.requests


def test_a_slow_server_runs_into_the_timeout(key_file):
    def behave(number, connection):
        if number == 1:
            time.sleep(5)
            return False
        return send(connection, GOOD)

    with Misbehaving(behave) as server:
        document = report(server.endpoint, "get", "--key-file", key_file, "--timeout", "1s", code=1)
    assert [(kind["code"], kind["count"]) for kind in document["error_kinds"]] == [("timeout", 1)]
    assert document["requests"] > 0


def test_a_stall_shows_in_the_latencies_of_an_open_loop(key_file):
    """Everything stands still for a second: requests that were due meanwhile waited for it. A client that sends the next one
    only when the last is answered would see one slow request in a hundred."""
    gate = threading.Lock()

    def behave(number, connection):
        with gate:
            if number == 20:
                time.sleep(1)
        return send(connection, GOOD)

    with Misbehaving(behave) as server:
        args = ["get", "--key-file", key_file, "--rate", "100", "--duration", "2s", "--connections", "1"]
        document = report(server.endpoint, *args)
    assert document["requests"] + document["unsent"] == 200
    # About 100 of 200 requests were due in that second, and their mean wait is half of it.
    assert of(document, "get")["total_us"]["mean"] > 100_000
    assert of(document, "get")["total_us"]["p90"] > 500_000


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "not an HTTP response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "two lengths"),
        (GOOD + b"more", "bytes behind the answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello", "a body that is not chunked as HTTP says"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", "closed in the body of the answer"),
    ],
)
def test_what_is_no_answer_is_named(key_file, answer, code):
    def behave(number, connection):
        return send(connection, GOOD) if number % 2 else send(connection, answer, goes_on=False)

    with Misbehaving(behave) as server:
        document = report(server.endpoint, "get", "--key-file", key_file, "--connections", "1", code=1)
    assert {kind["code"] for kind in document["error_kinds"]} == {code}


def test_lengths_are_checked_and_chunked_answers_read(key_file):
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n"
    with Misbehaving(lambda number, connection: send(connection, chunked)) as server:
        assert report(server.endpoint, "get", "--key-file", key_file, "--size", "5")["errors"] == 0
        document = report(server.endpoint, "get", "--key-file", key_file, "--size", "6", code=1)
    assert (document["requests"], [kind["code"] for kind in document["error_kinds"]]) == (0, ["WrongLength"])


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    result = bench(f"http://127.0.0.1:{port}", "get")
    assert result.returncode == 1 and "refused" in result.stderr
