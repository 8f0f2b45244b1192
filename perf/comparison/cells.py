"""The matrix: one cell for each row of what is promised, its subjects, and its bars as data.

A subject is one way of doing the cell's work. Its label has `{}` where the name of a build of ours stands, so that two builds
can stand side by side; a label without it is a contender or a bare loop.
"""

from __future__ import annotations

import random
import resource
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from harness import sigv4
from harness.certificates import make_certificates

from comparison import bare, loads
from comparison.contenders import Contender, Missing, Nginx
from comparison.loads import BUCKET, Figures, Load, at_once, bench, list_pages, observe, warp_put
from comparison.trees import GIB, MIB, READ_TREES, Stage, cool, fill, keys, put_all, warm, zram

IDLE_CONNECTIONS = 10_000
MILLION = 1_000_000


@dataclass(frozen=True)
class Subject:
    """`contender` decides whether it takes part: `sluice` stands for every build, None for what is always there."""

    label: str
    contender: str | None
    run: Callable[[Stage, str], Figures]


@dataclass(frozen=True)
class Ratio:
    """Ours to another subject of the same round, by the cell's figure or the one named."""

    to: str
    most: float | None = None
    least: float | None = None
    figure: str | None = None

    def __str__(self) -> str:
        sign, bound = ("≤", self.most) if self.most is not None else ("≥", self.least)
        return f"{sign} {bound:g} × {self.to.replace('{} ', 'its own ')}"


@dataclass(frozen=True)
class Most:
    """Ours, absolutely."""

    value: float
    figure: str | None = None

    def __str__(self) -> str:
        return f"≤ {self.value:g}"


@dataclass(frozen=True)
class Figure:
    """What is compared: an attribute of `Figures`, how it is called, its unit."""

    name: str
    unit: str


FIGURES = {
    "cpu_us_per_request": Figure("CPU per request", "µs"),
    "cpu_s_per_gib": Figure("CPU per GiB", "s"),
    "cpu_us_per_key": Figure("CPU per key", "µs"),
    "p50_ms": Figure("median latency", "ms"),
    "mib_per_s": Figure("rate", "MiB/s"),
    "calls": Figure("system calls per request", ""),
    "special": Figure("time", "s"),
    "kib": Figure("memory per connection", "KiB"),
    "moved_mib": Figure("moved by read and write", "MiB"),
}


@dataclass(frozen=True)
class Cell:
    about: str
    figure: str
    subjects: tuple[Subject, ...]
    bars: tuple[Ratio | Most, ...]
    # Some figures do not depend on the machine's mood, some take minutes.
    rounds_max: int = 1000

    def describe(self, bar: Ratio | Most) -> str:
        figure = FIGURES[bar.figure or self.figure]
        unit = f" {figure.unit}" if isinstance(bar, Most) and figure.unit else ""
        return f"{figure.name} {bar}{unit}"

    def is_needed_each_round(self, subject: Subject) -> bool:
        """Ours, the control and what a bar names; the others are measured in the first two rounds, once in each order."""
        named = {bar.to for bar in self.bars if isinstance(bar, Ratio)}
        return "{}" in subject.label or subject.label in named or subject.contender == "nginx"


def served(run: Callable[[Stage, str], Figures], *contenders: str) -> tuple[Subject, ...]:
    """The same work for each contender."""
    return tuple(Subject("{}" if name == "sluice" else name, name, run) for name in contenders)


# Reads.


def read(tree: str, connections: int, *, operation="get", is_cold=False, args=(), tls=False, counting=False):
    """`sluice bench` over the objects of a tree."""

    def run(stage: Stage, name: str) -> Figures:
        data = stage.reading(tree, name)
        certificates = make_certificates(stage.folder / "tls") if tls else None
        options = {"args": args} if args else {}
        with stage.server(name, data, certificates=certificates, **options) as server:
            fill(server, tree)
            load = read_load(tree, connections, operation, tls=tls)
            (cool if is_cold else warm)(data)
            figures = observe(server, load, stage.seconds)
            if counting:
                # Without warming up: strace would count that as well.
                figures.detail = loads.count_calls(server, read_load(tree, connections, operation, warm_up_s=0), stage.seconds)
            return figures

    return run


def read_load(tree: str, connections: int, operation: str = "get", **options) -> Load:
    return bench(operation, connections, size=READ_TREES[tree][1], keys=keys(tree), **options)


# Writes.


def put(size: int, load: Callable[[], Load], control: Callable[[], Load]):
    """New objects in a new bucket. nginx, which only tells of the machine, gets the same bytes as plain PUTs."""

    def run(stage: Stage, name: str) -> Figures:
        is_large = size >= MIB
        data = stage.fresh(name, in_memory=is_large)
        with stage.server(name, data) as server:
            figures = observe(server, (control if isinstance(server, Nginx) else load)(), stage.seconds)
        (stage.discard if is_large else stage.discard_later)(data)
        return figures

    return run


def put_by_warp(size: int, concurrency: int):
    return put(size, lambda: warp_put(size, concurrency), lambda: bench("put", concurrency, size=size))


def put_by_bench(size: int, connections: int, payload: str):
    return put(size, lambda: bench("put", connections, f"--payload={payload}", size=size), lambda: bench("put", connections, size=size))


def complete(parts: int, size: int, on_zram: bool):
    """Seconds from the request of CompleteMultipartUpload to its answer, and what the server read and wrote meanwhile."""

    def run(stage: Stage, name: str) -> Figures:
        if on_zram:
            with zram(2 * parts * size + GIB) as mount:
                return complete_in(stage, name, mount / "run" / "data", parts, size)
        data = stage.fresh(name)
        room, needed = shutil.disk_usage(stage.folder).free, 2 * parts * size + GIB
        if room < needed:
            raise Missing(f"{needed // GIB} GiB of disk are needed, {room // GIB} are free")
        try:
            return complete_in(stage, name, data, parts, size)
        finally:
            stage.discard(data)

    return run


def complete_in(stage: Stage, name: str, data: Path, parts: int, size: int) -> Figures:
    data.parent.mkdir(parents=True, exist_ok=True)
    with stage.server(name, data) as server:
        client, body = server.client(), bytes(size)
        client.create_bucket(BUCKET)
        upload, etags = client.start_upload(BUCKET, "whole"), []
        with client.connect() as connection:
            for number in range(1, parts + 1):
                query = [("partNumber", str(number)), ("uploadId", upload)]
                connection.send(client.signed("PUT", f"/{BUCKET}/whole", b"", query, {"Content-Length": str(size)}, sigv4.UNSIGNED).head())
                connection.send(body)
                response = connection.response()
                if response.status != 200:
                    raise RuntimeError(f"part {number}: {response}")
                etags.append((number, response.etag))
        cpu, moved, begin = server.cpu_seconds(), moved_bytes(server), time.monotonic()
        response = client.complete(BUCKET, "whole", upload, etags)
        spent = time.monotonic() - begin
        if response.status != 200 or response.code:
            raise RuntimeError(f"complete: {response}")
        length = client.head(BUCKET, "whole").headers["content-length"]
        if length != str(parts * size):
            raise RuntimeError(f"complete: {length} bytes instead of {parts * size}")
        moved = moved_bytes(server) - moved
        figures = Figures(1, 0, spent, server.cpu_seconds() - cpu, 0, special=spent, peak_kib=server.peak_kib())
        figures.detail = {"moved_mib": moved / MIB}
        return figures


def moved_bytes(server: Contender) -> int:
    """Through read, write and copy_file_range, by all threads, those of io_uring as well."""
    lines = Path(f"/proc/{server.pid}/io").read_text().splitlines()
    counts = dict(line.split(": ") for line in lines)
    return int(counts["rchar"]) + int(counts["wchar"])


# Listing and starting.


def listing(count: int, load: Callable[[], Load]):
    """Over objects as PUTs leave them. MinIO keeps no plain files: there they are put one by one."""

    def run(stage: Stage, name: str) -> Figures:
        if name == "minio":
            data = stage.reading(f"list-{count}", name)
        else:
            data = stage.clones(count, name)
        with stage.server(name, data) as server:
            filled = data.parent / "filled"
            if name == "minio" and not filled.exists():
                put_all(server, [f"{n:07}" for n in range(count)], b"")
                filled.touch()
            # The first page builds what a server keeps of a directory.
            list_pages(1)(server, 0)
            return observe(server, load(), stage.seconds)

    return run


def middle_page() -> Load:
    return list_pages(1, start_after=lambda: f"{random.randrange(MILLION * 2 // 5, MILLION * 3 // 5):07}")


def start(again: bool):
    """Seconds from the start of the process to its first answer: on a tree without our own folder, or with it."""

    def run(stage: Stage, name: str) -> Figures:
        data = stage.clones(MILLION, name)
        if again and not (data / ".sluice").exists():
            stage.server(name, data).start().stop()
        elif not again:
            shutil.rmtree(data / ".sluice", ignore_errors=True)
        server = stage.server(name, data)
        begin = time.monotonic()
        server.start()
        spent = time.monotonic() - begin
        figures = Figures(1, 0, spent, server.cpu_seconds(), 0, special=spent, peak_kib=server.peak_kib())
        server.stop()
        return figures

    return run


def idle(stage: Stage, name: str) -> Figures:
    """Growth of resident memory over many keep-alive connections that have made one request each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, IDLE_CONNECTIONS + 500)), hard))
    data = stage.fresh(name)
    with stage.server(name, data) as server:
        request = f"GET {server.health or '/minio/health/live'} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

        def open_one() -> socket.socket:
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            connection.sendall(request)
            if b"200" not in connection.recv(4096):
                raise RuntimeError("no health check answered")
            return connection

        # The first ones pay for what is made once.
        connections = [open_one() for _ in range(100)]
        time.sleep(0.5)
        before, cpu, begin = server.resident_kib(), server.cpu_seconds(), time.monotonic()
        connections += [open_one() for _ in range(IDLE_CONNECTIONS)]
        time.sleep(1)
        grown = server.resident_kib() - before
        figures = Figures(IDLE_CONNECTIONS, 0, time.monotonic() - begin, server.cpu_seconds() - cpu, 0, peak_kib=server.peak_kib())
        figures.detail = {"kib": grown / IDLE_CONNECTIONS}
        for connection in connections:
            connection.close()
    stage.discard(data)
    return figures


def bare_loop(way: str, tree: str, connections: int):
    """A loop of perf/raw over the files that our own server has for the tree."""

    def run(stage: Stage, _: str) -> Figures:
        paths = bare.objects(stage, tree)
        with bare.Bare(stage.folder / "bare", way, paths) as server:
            load = read_load(tree, connections)
            (cool if way == "direct" else warm)(paths[0].parent)
            return observe(server, load, stage.seconds)

    return run


# One process with two cores against two processes with one each. Four clients, two on each core, and each process has one on
# either: a client that has one process for itself settles beside it, and wakes it without an interrupt to the other core. That
# alone makes two processes of nginx 1.14 times as cheap as one with two workers.

TWO_CORE_CLIENTS = 4


def on_core_of(client: int) -> list[str]:
    return ["taskset", "-c", str(client // 2)]


def two_cores(together: bool, load: Callable[[int], Load], tree: str | None, in_memory: bool):
    def run(stage: Stage, name: str) -> Figures:
        places = ["0,1"] if together else ["0", "1"]
        folders = []
        for at in range(len(places)):
            folders.append(stage.reading(tree, name if at == 0 else f"{name}-second") if tree else stage.fresh(name, in_memory))
        servers = [stage.roster.server(name, data, cores=cores) for data, cores in zip(folders, places)]
        try:
            for server in servers:
                server.start()
                if tree:
                    fill(server, tree)
                    warm(server.data)
            pairs = [(servers[at % len(servers)], load(at)) for at in range(TWO_CORE_CLIENTS)]
            before, client = sum(server.cpu_seconds() for server in servers), loads.own_cpu_seconds()
            answered = at_once(stage.seconds, pairs)
            spent = sum(server.cpu_seconds() for server in servers) - before
            peak = sum(server.peak_kib() for server in servers)
            client = loads.own_cpu_seconds() - client
            return Figures(answered.requests, answered.bytes, answered.seconds, spent, client, client_cores=2, peak_kib=peak)
        finally:
            for server in servers:
                server.stop()
            for data in folders if not tree else []:
                stage.discard(data)

    return run


def both(load: Callable[[int], Load], tree: str | None = None, in_memory: bool = False) -> tuple[Subject, ...]:
    return (
        Subject("{}", "sluice", two_cores(True, load, tree, in_memory)),
        Subject("{} as two processes", "sluice", two_cores(False, load, tree, in_memory)),
    )
