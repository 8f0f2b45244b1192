"""`sluice top`: the table, the live picture in a terminal, and what it says where there is nothing to show."""

from __future__ import annotations

import fcntl
import http.server
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time

import pytest

from conftest import BUCKET
from harness.server import binary, eventually, free_port
from test_metrics import CPUS, Measured


@pytest.fixture
def busy(data):
    """A server whose one client asks for the same object again and again."""
    with Measured(data, args=["--cores", ",".join(map(str, CPUS))]) as server:
        client, stop = server.client(), threading.Event()
        client.create_bucket(BUCKET)
        assert client.put(BUCKET, "key", bytes(100_000)).status == 200

        def ask() -> None:
            get = client.signed("GET", f"/{BUCKET}/key").encode()
            with client.connect() as connection:
                while not stop.is_set():
                    connection.send(get)
                    assert connection.response().status == 200

        worker = threading.Thread(target=ask)
        worker.start()
        try:
            yield server
        finally:
            stop.set()
            worker.join()


def url(server: Measured) -> str:
    return f"http://127.0.0.1:{server.metrics_port}"


def top(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([binary(), "top", *arguments], capture_output=True, text=True, timeout=60)


def rows(text: str) -> dict[str, list[str]]:
    """The words of each row by the first of them, that of a core from the upper table."""
    found: dict[str, list[str]] = {}
    for words in filter(None, map(str.split, text.splitlines())):
        found.setdefault(words[0], words)
    return found


def test_once_prints_what_each_core_does(busy):
    result = top(url(busy), "--once", "--interval", "1s")
    assert result.returncode == 0, result.stderr
    found = rows(result.stdout)
    assert {str(cpu) for cpu in CPUS} <= set(found), result.stdout
    assert re.fullmatch(r"\d+%", found[str(CPUS[0])][1])
    requests = [float(found[str(cpu)][3]) for cpu in CPUS]
    assert sum(requests) > 0
    get = found["GetObject"]
    assert get[1] == "all" and float(get[2]) > 0 and re.fullmatch(r"[\d.]+", get[3]) and get[4] in ("µs", "ms", "s"), get
    assert "\x1b" not in result.stdout, "no terminal, no escapes"
    if len(CPUS) > 1:
        assert float(found["all"][3]) == pytest.approx(sum(requests), abs=len(CPUS))
        assert float(found["all"][6]) > 0, "bytes go out"


def test_without_a_terminal_tables_follow_each_other(busy):
    process = subprocess.Popen([binary(), "top", url(busy), "--interval", "100ms"], stdout=subprocess.PIPE, text=True)
    titles = 0
    for line in process.stdout:
        titles += line.startswith("sluice ")
        if titles == 3:
            break
    process.stdout.close()
    assert process.wait(20) == 0, "who read it has gone"


class Terminal:
    """A terminal of 100 by 30 with `sluice top` in it."""

    def __init__(self, *arguments: str):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execv(binary(), [str(binary()), "top", *arguments])
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.text = b""

    def read(self, timeout_s: float = 0.1) -> bool:
        """Whether something came."""
        if not select.select([self.terminal], [], [], timeout_s)[0]:
            return False
        try:
            data = os.read(self.terminal, 65536)
        except OSError:
            return False
        self.text += data
        return bool(data)

    def shows(self, words: bytes) -> bool:
        return eventually(lambda: words in self.text or (self.read() and words in self.text), 20)

    def end(self) -> int:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            self.read(0.02)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                while self.read(0):
                    pass
                os.close(self.terminal)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError(f"it did not end:\n{self.text[-500:]!r}")


@pytest.mark.parametrize("key", [b"q", b"\x03", b"\x1b"])
def test_a_terminal_shows_it_live_and_is_given_back(busy, key):
    terminal = Terminal(url(busy), "--interval", "200ms")
    assert terminal.shows(b"GetObject")
    assert terminal.text.count(b"\x1b[?1049h") == 1, "on the alternate screen"
    count = terminal.text.count(b"requests/s")
    assert eventually(lambda: terminal.read() and terminal.text.count(b"requests/s") > count + 3, 20), "it goes on"
    os.write(terminal.terminal, key)
    assert terminal.end() == 0
    tail = terminal.text[-200:]
    assert b"\x1b[?1049l" in tail and b"\x1b[?25h" in tail, "screen and cursor are back"


def test_a_server_that_goes_away_is_waited_for(data):
    server = Measured(data).start()
    terminal = Terminal(url(server), "--interval", "200ms")
    assert terminal.shows(b"requests/s")
    server.stop()
    assert terminal.shows(b"trying again")
    seen = len(terminal.text)
    with server.start():
        assert eventually(lambda: terminal.read() and b"requests/s" in terminal.text[seen:], 20)
    os.write(terminal.terminal, b"q")
    assert terminal.end() == 0


def test_nobody_there(data):
    port = free_port()
    result = top(f"127.0.0.1:{port}", "--once")
    assert result.returncode == 1 and result.stdout == ""
    assert re.fullmatch(rf"sluice: no metrics at http://127\.0\.0\.1:{port}/metrics: .*refused.*--metrics-listen.*\n", result.stderr)


def test_the_wrong_port_is_told(busy):
    result = top(busy.endpoint, "--once")
    assert result.returncode == 1 and "it answers 4" in result.stderr and "--metrics-listen" in result.stderr


def test_somebody_else(data):
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"# TYPE other counter\nother 1\n")

        def log_message(self, *_):
            pass

    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    try:
        result = top(f"http://127.0.0.1:{other.server_port}", "--once")
    finally:
        other.shutdown()
        other.server_close()
    assert result.returncode == 1 and "something else" in result.stderr


@pytest.mark.parametrize("arguments", [["https://a"], ["http://"], ["--interval", "soon"], ["--interval", "0"], ["--what"]])
def test_wrong_arguments(arguments):
    result = top(*arguments)
    assert result.returncode == 2 and "Usage" in result.stderr or "error" in result.stderr
