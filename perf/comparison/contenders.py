"""Who is compared: each contender's command line, where it comes from, and what it promises.

A contender that cannot be had is left out by name, with the reason; it is never replaced by another.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from harness.server import ACCESS_KEY, CLOCK_TICKS_PER_S, SECRET_KEY, Server, binary, cache_folder
from harness.wire import Connection

SERVER_CORE, CLIENT_CORE = 0, 1
ON_SERVER_CORE = ["taskset", "-c", str(SERVER_CORE)]
ON_CLIENT_CORE = ["taskset", "-c", str(CLIENT_CORE)]
# Go's runtime takes as many threads as it sees cores; one core is what each server gets.
ONE_GO_CORE = {"GOMAXPROCS": "1"}

NGINX_CONFIGURATION = """
daemon off;
worker_processes 1;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 600;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {root};
        dav_methods PUT DELETE;
        create_full_put_path on;
        location = /health/ready {{ return 200; }}
        location = /bench {{ return 200; }}
    }}
}}
"""


class Missing(Exception):
    """Why a contender cannot take part."""


class Contender(Server):
    """A server on one core whose processes are all counted."""

    # None where there is no health check, or one that speaks too soon: then it is ready when it lists its buckets.
    health: str | None = "/health/ready"

    def is_ready(self) -> bool:
        try:
            if not self.health:
                return self.client().request("GET", "/").status == 200
            with Connection(self.port) as connection:
                connection.send(f"GET {self.health} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                return connection.response().status == 200
        except Exception:
            return False

    def has_announced(self) -> bool:
        return True

    def __init__(self, data: Path, *, cores: str = str(SERVER_CORE), **options):
        super().__init__(data, prefix=["taskset", "-c", cores], **options)

    def processes(self) -> list[int]:
        """The process and its children, and theirs."""
        found, waiting = [], [self.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            for thread in Path(f"/proc/{pid}/task").iterdir():
                waiting += [int(child) for child in (thread / "children").read_text().split()]
        return found

    def cpu_seconds(self) -> float:
        """User and system time of all threads of all processes; io_uring's workers are threads."""
        return sum(sum(_stat(pid, 11, 12)) for pid in self.processes()) / CLOCK_TICKS_PER_S

    def resident_kib(self) -> int:
        """Resident now, huge pages included."""
        return sum(_memory_kib(pid, "VmRSS") + _memory_kib(pid, "HugetlbPages") for pid in self.processes())

    def peak_kib(self) -> int:
        """Resident at most since the start, huge pages included."""
        return sum(_memory_kib(pid, "VmHWM") + _memory_kib(pid, "HugetlbPages") for pid in self.processes())


class Sluice(Contender):
    """One of our builds."""

    def __init__(self, data: Path, program: Path, *, cores: str = str(SERVER_CORE), args=(), **options):
        super().__init__(data, cores=cores, args=["--cores", cores, *args], **options)
        self.program = program


class Nginx(Contender):
    """The same bytes without S3. One worker; as root, or the worker could not read a tree that root wrote."""

    def command(self) -> list[str]:
        folder = self.data.parent / f"nginx-{self.port}"
        folder.mkdir(exist_ok=True)
        configuration = folder / "nginx.conf"
        configuration.write_text(NGINX_CONFIGURATION.format(folder=folder, port=self.port, root=self.data))
        return [command_path("nginx"), "-p", str(folder), "-c", str(configuration), "-g", "user root;"]


class Versitygw(Contender):
    def __init__(self, data: Path, program: Path, posix_options: tuple[str, ...] = (), **options):
        super().__init__(data, env=ONE_GO_CORE, **options)
        self.gateway, self.posix_options = program, posix_options

    def command(self) -> list[str]:
        options = ["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--port", f"127.0.0.1:{self.port}", "--keep-alive"]
        return [str(self.gateway), *options, "--health", "/health/ready", "--quiet", "posix", *self.posix_options, str(self.data)]


class Minio(Contender):
    """A single drive, without its console. Scanning is left on, at its default speed, as it comes."""

    health = None

    def __init__(self, data: Path, program: Path, **options):
        keys = {"MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY, "MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}
        super().__init__(data, env=ONE_GO_CORE | keys, **options)
        self.minio = program

    def command(self) -> list[str]:
        return [str(self.minio), "server", str(self.data), "--address", f"127.0.0.1:{self.port}", "--quiet"]


class Rclone(Contender):
    health = None

    def __init__(self, data: Path, program: Path, **options):
        super().__init__(data, env=ONE_GO_CORE, **options)
        self.rclone = program

    def command(self) -> list[str]:
        keys = f"{ACCESS_KEY},{SECRET_KEY}"
        return [str(self.rclone), "serve", "s3", str(self.data), "--addr", f"127.0.0.1:{self.port}", "--auth-key", keys]

@dataclass
class Kind:
    """What is known of a contender before it runs. `package` is what `go install` takes."""

    durability: str
    etag: str
    make: object
    package: str | None = None
    # Below the cache's bin; two versions of one program need two folders.
    program: str | None = None
    flags: str = ""

    def path(self) -> Path:
        return cache_folder() / "bin" / self.program


KINDS = {
    "sluice": Kind("acked: survives power loss, barrier shared", "MD5", Sluice, flags="one data core"),
    "nginx": Kind("none", "mtime and size", Nginx, flags="sendfile, DAV PUT, one worker"),
    "versitygw": Kind(
        "none (no fsync)",
        "MD5",
        Versitygw,
        "github.com/versity/versitygw/cmd/versitygw@v1.7.0",
        "versitygw",
        "posix, --keep-alive, GOMAXPROCS=1",
    ),
    "versitygw-odirect": Kind(
        "none (no fsync)",
        "MD5",
        lambda data, program, **options: Versitygw(data, program, ("--enable-odirect",), **options),
        # 1.7.0 has no such option.
        "github.com/versity/versitygw/cmd/versitygw@v1.8.0",
        "versitygw-v1.8.0/versitygw",
        "1.8.0, posix, --keep-alive, --enable-odirect, GOMAXPROCS=1",
    ),
    "minio": Kind(
        "data synced, directories not",
        "MD5",
        Minio,
        "github.com/minio/minio@latest",
        "minio",
        "single drive, GOMAXPROCS=1",
    ),
    "rclone": Kind(
        "none",
        "MD5 of the file, when asked for",
        Rclone,
        "github.com/rclone/rclone@v1.76.0",
        "rclone",
        "serve s3, GOMAXPROCS=1",
    ),
}


@dataclass
class Roster:
    """The contenders of this run: builds of Sluice by name, and the others that could be had."""

    builds: dict[str, Path]
    names: list[str]
    left_out: dict[str, str] = field(default_factory=dict)

    @classmethod
    def gather(cls, names: list[str], builds: dict[str, Path]) -> "Roster":
        roster = cls(builds, [])
        for name in names:
            try:
                roster.names += find(name, builds)
            except Missing as reason:
                roster.left_out[name] = str(reason)
                print(f"left out: {name}: {reason}", flush=True)
        return roster

    def kind(self, name: str) -> Kind:
        return KINDS["sluice" if name in self.builds else name]

    def server(self, name: str, data: Path, **options) -> Contender:
        """Not started yet."""
        if name in self.builds:
            return Sluice(data, self.builds[name], **options)
        kind = self.kind(name)
        return kind.make(data, kind.path(), **options) if kind.program else kind.make(data, **options)


def find(name: str, builds: dict[str, Path]) -> list[str]:
    """The name, or those of all builds for `sluice`; built if it can be."""
    kind = KINDS[name]
    if name == "sluice":
        absent = [str(path) for path in builds.values() if not path.exists()]
        if absent:
            raise Missing(f"no {', '.join(absent)} (cargo build --release)")
        return list(builds)
    if name == "nginx":
        command_path("nginx")
    elif not kind.path().exists():
        go_install(kind)
    return [name]


def command_path(name: str) -> str:
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not found:
        raise Missing(f"not installed: {name}")
    return found


def go_install(kind: Kind) -> None:
    """Some minutes, the first time."""
    go = command_path("go")
    print(f"go install {kind.package}", flush=True)
    environment = os.environ | {"GOBIN": str(kind.path().parent), "GOFLAGS": "-mod=mod"}
    result = subprocess.run([go, "install", kind.package], env=environment, capture_output=True, text=True)
    if result.returncode != 0:
        raise Missing(f"go install {kind.package}: {result.stderr.strip()[-200:]}")


def parse_builds(given: list[str]) -> dict[str, Path]:
    """`NAME=PATH`, or a path alone, which is `sluice`."""
    builds = {}
    for text in given or [str(binary())]:
        name, found, path = text.rpartition("=")
        builds[name if found else "sluice"] = Path(path).resolve()
    return builds


def _stat(pid: int, *fields: int) -> list[int]:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(words[at]) for at in fields]


def _memory_kib(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return 0
