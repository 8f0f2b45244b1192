"""Where cargo puts what it builds: people have `CARGO_TARGET_DIR`, `build.target-dir` and `build.target` set. Cargo is asked; what it
does not tell without building is read where it reads it.

    python cargo.py target               the target directory
    python cargo.py executable sluice    of what `cargo build --message-format=json` has said on standard input
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


@functools.cache
def target_directory() -> Path:
    """Of the workspace; where there is no cargo, the usual one."""
    command = [os.environ.get("CARGO", "cargo"), "metadata", "--format-version", "1", "--no-deps", "--offline"]
    try:
        told = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
        return Path(json.loads(told)["target_directory"])
    except (OSError, subprocess.CalledProcessError):
        return ROOT / "target"


def release_build(name: str) -> Path:
    """Where `cargo build --release` puts `name`: `sluice`, `examples/raw`."""
    # Cargo puts a target that was asked for into a folder of its own, also where it is this machine's.
    return target_directory() / (build_target() or "") / "release" / name


@functools.cache
def build_target() -> str | None:
    """`CARGO_BUILD_TARGET`, else `build.target` of the nearest configuration
    (https://doc.rust-lang.org/cargo/reference/config.html#hierarchical-structure)."""
    if named := os.environ.get("CARGO_BUILD_TARGET"):
        return _folder(named)
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    for folder in [*(parent / ".cargo" for parent in (ROOT, *ROOT.parents)), home]:
        # Of both, cargo takes the one without the ending.
        file = next((folder / name for name in ("config", "config.toml") if (folder / name).is_file()), None)
        target = tomllib.loads(file.read_text()).get("build", {}).get("target") if file else None
        if target:
            return _folder(target if isinstance(target, str) else target[0])
    return None


def _folder(target: str) -> str:
    """A target may be a file that describes it."""
    return Path(target).stem if target.endswith(".json") else target


def executable(messages: Iterable[str], name: str) -> Path:
    """The program among what `cargo build --message-format=json` says."""
    found = None
    for line in messages:
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable") and message["target"]["name"] == name:
            found = Path(message["executable"])
    if found is None:
        raise SystemExit(f"cargo has not built {name}")
    return found


if __name__ == "__main__":
    print(target_directory() if sys.argv[1] == "target" else executable(sys.stdin, sys.argv[2]))
