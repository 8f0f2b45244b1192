"""The clients. Each sends one kind of work to a server for some seconds and says what came back.

A load is a callable of a server and seconds that returns `Answered`. `observe` runs one and adds what it cost both sides.
"""

from __future__ import annotations

import html
import json
import os
import re
import resource
import runpy
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable

from harness.server import ACCESS_KEY, SECRET_KEY, binary

from comparison.contenders import ON_CLIENT_CORE, Contender, Missing, command_path

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "bench"
GIB = 1024**3
WARM_UP_S = 1
# Busier than this, the client's core is what was measured.
CLIENT_SHARE_MAX = 0.85


@dataclass
class Answered:
    """What a load got: requests answered, payload bytes moved, and latencies where the client knows them."""

    requests: int
    bytes: int
    seconds: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    p999_ms: float | None = None
    # Keys listed.
    keys: int = 0
    # CPU seconds of server and client, where the client knows them better than we do: without its warming up.
    spent: tuple[float, float] | None = None


Load = Callable[[Contender, float], Answered]


@dataclass
class Figures:
    """One run of one subject: what was answered and what it cost."""

    requests: int
    bytes: int
    seconds: float
    cpu_s: float
    client_cpu_s: float
    client_cores: int = 1
    p50_ms: float | None = None
    p99_ms: float | None = None
    p999_ms: float | None = None
    keys: int = 0
    peak_kib: int = 0
    # System calls by name per request, or whatever else a cell has to tell.
    detail: dict[str, float] | None = None
    # What only some cells have: seconds of a completion or a start, KiB of a connection.
    special: float | None = None

    @property
    def cpu_us_per_request(self) -> float | None:
        return self.cpu_s / self.requests * 1e6 if self.requests else None

    @property
    def cpu_s_per_gib(self) -> float | None:
        return self.cpu_s / (self.bytes / GIB) if self.bytes else None

    @property
    def cpu_us_per_key(self) -> float | None:
        return self.cpu_s / self.keys * 1e6 if self.keys else None

    @property
    def mib_per_s(self) -> float | None:
        return self.bytes / 1024**2 / self.seconds if self.bytes else None

    @property
    def client_share(self) -> float:
        return self.client_cpu_s / self.seconds / self.client_cores if self.seconds else 0.0

    def value(self, figure: str) -> float | None:
        """An attribute by name, or something that only this cell has; `calls` is the sum of all system calls."""
        if figure == "calls":
            return sum(self.detail.values()) if self.detail else None
        return (self.detail or {}).get(figure, getattr(self, figure, None))

    def as_json(self) -> dict:
        derived = ("cpu_us_per_request", "cpu_s_per_gib", "cpu_us_per_key", "mib_per_s", "client_share")
        return asdict(self) | {name: getattr(self, name) for name in derived}


def observe(server: Contender, load: Load, seconds: float) -> Figures:
    """Runs the load and takes the CPU of the server's processes and of the client's around it."""
    before, client_before = server.cpu_seconds(), own_cpu_seconds()
    answered = load(server, seconds)
    spent, client_spent = answered.spent or (server.cpu_seconds() - before, own_cpu_seconds() - client_before)
    if not answered.requests:
        raise RuntimeError("nothing was answered")
    told = {name: value for name, value in asdict(answered).items() if name != "spent"}
    return Figures(**told, cpu_s=spent, client_cpu_s=client_spent, peak_kib=server.peak_kib())


def own_cpu_seconds() -> float:
    """Of this process and of the clients that it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def bench(
    operation: str,
    connections: int,
    *options: str,
    size: int,
    keys: list[str] = (),
    tls: bool = False,
    bucket: str = BUCKET,
    prefix=ON_CLIENT_CORE,
    warm_up_s: int = WARM_UP_S,
) -> Load:
    """`sluice bench`, closed loop: requests signed once and replayed, bodies thrown away unread. Uploads go to new keys."""
    program = client_program()

    def run(server: Contender, seconds: float) -> Answered:
        endpoint = f"https://localhost:{server.tls_port}" if tls else server.endpoint
        command = [*prefix, program, "bench", operation, f"--endpoint={endpoint}", f"--bucket={bucket}", f"--connections={connections}"]
        command += [f"--size={size}", f"--warmup={warm_up_s}s", f"--duration={round(seconds * 1000)}ms", "--json", "--keep", *options]
        command += ["--insecure"] if tls else []
        command += [f"--server-pid={pid}" for pid in server.processes()]
        environment = os.environ | {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        with tempfile.NamedTemporaryFile("w", suffix=".keys") as file:
            file.writelines(f"{key}\n" for key in keys)
            file.flush()
            told = json.loads(checked([*command, *([f"--key-file={file.name}"] if keys else [])], env=environment))
        if told["errors"] or told["lost"]:
            raise RuntimeError(f"sluice bench: {told['errors']} errors, {told['error_kinds'][:2]} {told['lost'] or ''}")
        latency = told["operations"][0]["total_us"]
        percentiles = (latency[name] / 1000 for name in ("p50", "p99", "p99_9"))
        spent = told["server"]["cpu_seconds"], told["client"]["cpu_seconds"]
        return Answered(told["requests"], told["bytes"], told["seconds"], *percentiles, spent=spent)

    return run


def client_program() -> str:
    """The same client for all builds that are compared; SLUICE_CLIENT names another than our own build."""
    program = os.environ.get("SLUICE_CLIENT", str(binary()))
    if subprocess.run([program, "bench", "--help"], capture_output=True).returncode != 0:
        raise Missing(f"no client: {program} has no bench (cargo build --release)")
    return program


def warp_put(size: int, concurrency: int, bucket: str = BUCKET, prefix=ON_CLIENT_CORE) -> Load:
    """`warp put`, into a bucket that it makes if need be. Its report has no percentile above 99."""
    program = runpy.run_path(str(ROOT / "scripts/warp"))["build"]()

    def run(server: Contender, seconds: float) -> Answered:
        command = [*prefix, str(program), "put", f"--host=127.0.0.1:{server.port}", f"--access-key={ACCESS_KEY}"]
        command += [f"--secret-key={SECRET_KEY}", "--region=us-east-1", f"--obj.size={size}B", f"--concurrent={concurrency}"]
        command += [f"--duration={max(1, round(seconds))}s", "--noclear", "--keep-data", "--json", "--no-color", f"--bucket={bucket}"]
        with tempfile.TemporaryDirectory() as folder:
            output = checked(command, cwd=folder)
        report = json.loads(output[output.index("{") :])["by_op_type"]["PUT"]
        if report["total_errors"]:
            raise RuntimeError(f"warp: {report['first_errors']}")
        elapsed = report["throughput"]["measure_duration_millis"] / 1000
        return Answered(report["total_requests"], report["total_bytes"], elapsed or seconds, *_warp_percentiles(report))

    return run


def _warp_percentiles(report: dict) -> tuple[float | None, float | None]:
    """Median and 99th percentile over warp's clients; there is one, unless it was told of more."""
    parts = [part.get("single_sized_requests") for of_client in report["requests_by_client"].values() for part in of_client]
    sized = [part for part in parts if part]
    if not sized:
        return None, None
    return tuple(statistics.median(part[name] for part in sized) for name in ("dur_median_millis", "dur_99_millis"))


def list_pages(connections: int, *, page: int = 1000, start_after: Callable[[], str] | None = None) -> Load:
    """ListObjectsV2 page after page, by continuation token as clients do; with `start_after`, one page from each such key."""

    def one(server: Contender, until: float) -> tuple[list[float], int]:
        client, latencies, keys, token = server.client(), [], 0, None
        with client.connect() as connection:
            while not latencies or time.monotonic() < until:
                query = [("list-type", "2"), ("max-keys", str(page))]
                if start_after:
                    query.append(("start-after", start_after()))
                elif token:
                    query.append(("continuation-token", token))
                begin = time.monotonic()
                connection.send(client.signed("GET", f"/{BUCKET}", query=sorted(query)).encode())
                response = connection.response()
                latencies.append((time.monotonic() - begin) * 1000)
                if response.status != 200:
                    raise RuntimeError(str(response))
                keys += response.body.count(b"<Key>")
                token = html.unescape(response.field("NextContinuationToken") or "")
        return latencies, keys

    def run(server: Contender, seconds: float) -> Answered:
        begin = time.monotonic()
        with ThreadPoolExecutor(connections) as pool:
            parts = list(pool.map(lambda _: one(server, begin + seconds), range(connections)))
        latencies = sorted(latency for part, _ in parts for latency in part)
        percentiles = [latencies[min(len(latencies) - 1, int(len(latencies) * share))] for share in (0.5, 0.99, 0.999)]
        return Answered(len(latencies), 0, time.monotonic() - begin, *percentiles, keys=sum(part[1] for part in parts))

    return run


def count_calls(server: Contender, load: Load, seconds: float) -> dict[str, float]:
    """System calls by name per request answered, by `strace -c -f` on the running server. It slows the server; counts stay."""
    strace = command_path("strace")
    with tempfile.NamedTemporaryFile("r", suffix=".strace") as summary:
        attach = [word for pid in server.processes() for word in ("-p", str(pid))]
        tracer = subprocess.Popen([strace, "-c", "-f", "-q", "-o", summary.name, *attach], stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        try:
            answered = load(server, seconds)
        finally:
            tracer.terminate()
            tracer.wait(30)
        counts = _strace_counts(summary.read())
    if not counts:
        raise Missing("strace counted nothing; may it attach?")
    return {name: count / answered.requests for name, count in counts.items()}


def _strace_counts(summary: str) -> dict[str, int]:
    """`% time  seconds  usecs/call  calls  [errors]  syscall` lines."""
    rows = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", summary, re.MULTILINE)
    return {name: int(calls) for calls, name in rows if name != "total"}


def at_once(seconds: float, loads: list[tuple[Contender, Load]]) -> Answered:
    """Several loads side by side, each on its own server; requests and bytes are added up, latencies left out."""
    with ThreadPoolExecutor(len(loads)) as pool:
        parts = list(pool.map(lambda pair: pair[1](pair[0], seconds), loads))
    return Answered(sum(part.requests for part in parts), sum(part.bytes for part in parts), max(part.seconds for part in parts))


def checked(command: list[str], **options) -> str:
    result = subprocess.run(command, capture_output=True, text=True, **options)
    if result.returncode != 0:
        raise RuntimeError(f"{Path(command[0]).name} ended with {result.returncode}: {(result.stderr or result.stdout).strip()[-600:]}")
    return result.stdout
