"""The server under test: the built binary on a directory, and what /proc says about it."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import boto3
from botocore.config import Config

from harness import cargo
from harness.sigv4 import Credentials
from harness.wire import Client, Connection

ROOT = cargo.ROOT
ACCESS_KEY = "blackboxroot"
SECRET_KEY = "blackbox-root-secret-key"
CREDENTIALS = Credentials(ACCESS_KEY, SECRET_KEY)
READY_TIMEOUT_S = 20
CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1


def binary() -> Path:
    """The release build; SLUICE_BIN names another one."""
    return Path(os.environ.get("SLUICE_BIN") or cargo.release_build("sluice"))


def cache_folder() -> Path:
    return Path(os.environ.get("SLUICE_CACHE", Path.home() / ".cache/sluice"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """Starts on entering, is gone on leaving. `peer` runs another gateway in its place, for comparison."""

    def __init__(self, data: Path, *, args=(), env=None, certificates=None, prefix=(), peer: str | None = None, user=None, with_keys=True):
        self.data, self.args, self.env, self.prefix = Path(data), list(args), dict(env or {}), list(prefix)
        self.certificates, self.user, self.program = certificates, user, binary()
        keys = {"SLUICE_ROOT_ACCESS_KEY": ACCESS_KEY, "SLUICE_ROOT_SECRET_KEY": SECRET_KEY} if with_keys else {}
        self.env = keys | self.env
        self.peer = peer or os.environ.get("BLACKBOX_PEER")
        self.port = free_port()
        self.tls_port = free_port() if certificates else None
        self.log_path = self.data.parent / f"{self.data.name}-{self.port}.log"
        self.log_from = 0
        self.process: subprocess.Popen | None = None

    def command(self) -> list[str]:
        if self.peer == "versitygw":
            gateway = str(cache_folder() / "bin/versitygw")
            options = ["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--port", f"127.0.0.1:{self.port}", "--keep-alive"]
            return [gateway, *options, "--health", "/health/ready", "--quiet", *self.args, "posix", str(self.data)]
        command = [str(self.program), "serve", str(self.data), "--listen", f"http://127.0.0.1:{self.port}"]
        if self.certificates:
            command += ["--listen", f"https://127.0.0.1:{self.tls_port}"]
            command += ["--tls-cert", str(self.certificates.certificate), "--tls-key", str(self.certificates.key)]
        return command + self.args

    def spawn(self) -> None:
        """Starts the process without waiting for it to be ready."""
        self.data.mkdir(exist_ok=True)
        env = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
        with open(self.log_path, "ab") as log:
            self.log_from = log.tell()
            self.process = subprocess.Popen(
                [*self.prefix, *self.command()],
                env=env | self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self.user,
                group=self.user,
                preexec_fn=die_with_parent,
            )

    def start(self) -> "Server":
        self.spawn()
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not (self.is_ready() and self.has_announced()):
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.log()}")
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the server was not ready in {READY_TIMEOUT_S} s:\n{self.log()}")
            time.sleep(0.01)
        return self

    def is_ready(self) -> bool:
        try:
            with Connection(self.port) as connection:
                connection.send(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return connection.response().status == 200
        except Exception:
            return False

    def has_announced(self) -> bool:
        """It may answer a moment before it has said all that it says at start."""
        return bool(self.peer) or "  endpoint  " in self.log_path.read_bytes()[self.log_from :].decode(errors="replace")

    def __enter__(self) -> "Server":
        return self if self.is_alive() else self.start()

    def __exit__(self, *_) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_endpoint(self) -> str:
        return f"https://localhost:{self.tls_port}"

    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")[-4000:]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self, timeout_s: float = 15) -> int | None:
        """SIGTERM and wait; SIGKILL when that does not end it."""
        if self.process is None:
            return None
        if self.is_alive():
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def kill(self) -> None:
        """SIGKILL: no chance to finish anything."""
        if self.is_alive():
            self.process.kill()
        self.process.wait()

    def client(self, tls=None) -> Client:
        return Client(self.tls_port if tls else self.port, CREDENTIALS, tls)

    def boto3(self, **options):
        """A boto3 client; TLS when the server has certificates and `tls=True`."""
        tls = options.pop("tls", False)
        settings = {"s3": {"addressing_style": "path"}, "retries": {"max_attempts": 0}, "read_timeout": 60} | options
        return boto3.client(
            "s3",
            endpoint_url=self.tls_endpoint if tls else self.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            verify=str(self.certificates.authority) if tls else None,
            config=Config(**settings),
        )

    # What the kernel says about the process.

    def cpu_seconds(self) -> float:
        """User and system time of all threads; io_uring's workers are threads of the process."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS_PER_S

    def memory_kib(self, name: str = "VmRSS") -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1])
        raise KeyError(name)

    def resident_kib(self) -> int:
        """Resident memory with huge pages, which VmRSS leaves out when they come from hugetlbfs."""
        return self.memory_kib("VmRSS") + self.memory_kib("HugetlbPages")

    def proc(self) -> Path:
        return Path(f"/proc/{self.pid}")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def leftovers(self) -> list[Path]:
        """Temporaries, which must be gone at once: named files in staging folders, unnamed files still open. And objects that are
        gone but open: the server may keep what it read for a moment, not longer."""
        found = self._open_or_staged()
        # An object that is gone has its last name in staging.
        is_gone = [path.name.endswith("(deleted)") and path.name.startswith(("swap.", "gone.")) for path in found]
        if not any(not gone and (path.name.startswith("#") or ".sluice" in path.parts) for path, gone in zip(found, is_gone)):
            eventually(lambda: not self._open_or_staged(), timeout_s=3)
            return self._open_or_staged()
        return found

    def _open_or_staged(self) -> list[Path]:
        named = [path for path in (self.data / ".sluice/staging").rglob("*") if path.is_file() and path.name != "lock"]
        opened = []
        for entry in Path(f"/proc/{self.pid}/fd").iterdir() if self.is_alive() else []:
            try:
                target = os.readlink(entry)
            except FileNotFoundError:
                continue
            if target.startswith(str(self.data)) and target.endswith("(deleted)"):
                opened.append(Path(target))
        return named + opened


def die_with_parent() -> None:
    """The server must not outlive a test run that was killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def eventually(condition, timeout_s: float = 10) -> bool:
    """Whether `condition` comes true within the time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
