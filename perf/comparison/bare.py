"""What the kernel allows: the bare loops of perf/raw, and fio for the disk alone."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

from comparison.contenders import ON_SERVER_CORE, Contender, Missing, command_path
from comparison.loads import Figures, checked
from comparison.trees import MIB, Stage, cool
from harness import cargo

ROOT = Path(__file__).resolve().parents[2]


class Bare(Contender):
    """A loop as a server: it answers each request with the next file."""

    def __init__(self, data: Path, way: str, paths: list[Path]):
        super().__init__(data)
        self.way, self.paths, self.raw = way, paths, program()

    def command(self) -> list[str]:
        return [str(self.raw), self.way, f"--listen=127.0.0.1:{self.port}", *map(str, self.paths)]

    def is_ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
            return True
        except OSError:
            return False


def fio(tree: str):
    """Direct reads of the same files, four of 1 MiB in flight."""

    def run(stage: Stage, _: str) -> Figures:
        paths = objects(stage, tree)
        cool(paths[0].parent)
        command = [*ON_SERVER_CORE, command_path("fio"), "--name=cold", "--rw=read", "--direct=1", "--bs=1m", "--iodepth=4"]
        command += ["--ioengine=io_uring", "--time_based", f"--runtime={stage.seconds:g}", "--readonly", "--output-format=json"]
        # A colon separates names.
        told = json.loads(checked([*command, f"--filename={':'.join(map(str, paths))}"]))["jobs"][0]
        moved, seconds = told["read"]["io_bytes"], told["read"]["runtime"] / 1000
        cpu = (told["usr_cpu"] + told["sys_cpu"]) / 100 * seconds
        return Figures(told["read"]["total_ios"], moved, seconds, cpu, 0)

    return run


def objects(stage: Stage, tree: str) -> list[Path]:
    """The plain files of the first build that has been filled with this tree."""
    for name in stage.roster.builds:
        folder = stage.reading(tree, name) / "bench"
        if folder.exists():
            return sorted(path for path in folder.iterdir() if path.stat().st_size >= MIB)
    raise Missing("the bare loops read our own objects: sluice must take part")


def program() -> Path:
    """Built beside our own binary when it is not there or older than its source: some minutes, so ask before you measure."""
    built, source = cargo.release_build("examples/raw"), ROOT / "perf/raw/main.rs"
    if not built.exists() or built.stat().st_mtime < source.stat().st_mtime:
        print("cargo build --release --example raw", flush=True)
        command = [command_path("cargo"), "build", "--locked", "--release", "--quiet", "--example", "raw"]
        if subprocess.run(command, cwd=ROOT).returncode != 0:
            raise Missing("perf/raw does not build")
    return built
