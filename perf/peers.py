"""The servers that are measured side by side: ours, nginx as control, versitygw as the nearest relative."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/blackbox"))

from harness.server import Server, cache_folder, free_port  # noqa: E402

SERVER_CORE, CLIENT_CORE = 0, 1
ON_SERVER_CORE = ["taskset", "-c", str(SERVER_CORE)]
ON_CLIENT_CORE = ["taskset", "-c", str(CLIENT_CORE)]
VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@v1.7.0"

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
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {root};
        location = /health/ready {{ return 200; }}
    }}
}}
"""


class Nginx(Server):
    """nginx over the same tree: what serving these bytes costs without S3. One worker, sendfile."""

    def __init__(self, data: Path):
        super().__init__(data, prefix=ON_SERVER_CORE)
        self.folder = data.parent / "nginx"
        self.folder.mkdir(exist_ok=True)

    def command(self) -> list[str]:
        configuration = self.folder / "nginx.conf"
        configuration.write_text(NGINX_CONFIGURATION.format(folder=self.folder, port=self.port, root=self.data))
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        # As another user the worker could not read a tree that root wrote.
        return [program, "-p", str(self.folder), "-c", str(configuration), "-g", "user root;"]

    def workers(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def cpu_seconds(self) -> float:
        return sum(process_cpu_seconds(pid) for pid in [self.pid, *self.workers()])

    def resident_kib(self) -> int:
        return super().resident_kib() + sum(process_resident_kib(pid) for pid in self.workers())

    def stop(self, timeout_s: float = 15) -> int | None:
        # Its SIGTERM is the fast shutdown.
        self.signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


def process_cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def process_resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def start(name: str, data: Path, args: tuple[str, ...] = ()) -> Server:
    """A running server on core 0. `sluice` gets one data core."""
    if name == "nginx":
        return Nginx(data).start()
    if name == "versitygw":
        install_versitygw()
        return Server(data, prefix=ON_SERVER_CORE, peer="versitygw", env={"GOMAXPROCS": "1"}).start()
    return Server(data, prefix=ON_SERVER_CORE, args=["--cores", str(SERVER_CORE), *args]).start()


def install_versitygw() -> None:
    program = cache_folder() / "bin/versitygw"
    if not program.exists():
        environment = {"GOBIN": str(program.parent)}
        import os

        subprocess.run(["go", "install", VERSITYGW], env=os.environ | environment, check=True)


def first_answer_seconds(server: Server) -> float:
    """From the start of the process to its first answer."""
    begin = time.monotonic()
    server.spawn()
    while not server.is_ready():
        if server.process.poll() is not None or time.monotonic() - begin > 60:
            raise RuntimeError(server.log())
    return time.monotonic() - begin


__all__ = ["CLIENT_CORE", "Nginx", "ON_CLIENT_CORE", "SERVER_CORE", "first_answer_seconds", "free_port", "start"]
