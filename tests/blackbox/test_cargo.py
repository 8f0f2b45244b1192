"""Wherever cargo puts what it builds, it is found: `CARGO_TARGET_DIR`, `build.target-dir` and `build.target` of a configuration."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from conftest import need
from harness import cargo

BY_ENVIRONMENT = [
    ({}, "target/release/sluice"),
    ({"CARGO_TARGET_DIR": "{folder}/elsewhere"}, "elsewhere/release/sluice"),
    ({"CARGO_TARGET_DIR": "nearby"}, "nearby/release/sluice"),
    ({"CARGO_BUILD_TARGET": "riscv64gc-unknown-linux-gnu"}, "target/riscv64gc-unknown-linux-gnu/release/sluice"),
    ({"CARGO_BUILD_TARGET": "some/own.json", "CARGO_TARGET_DIR": "{folder}/t"}, "t/own/release/sluice"),
]
BY_CONFIGURATION = [
    ('[build]\ntarget-dir = "configured"\n', "configured/release/sluice"),
    ('[build]\ntarget = "armv7-unknown-linux-gnueabihf"\n', "target/armv7-unknown-linux-gnueabihf/release/sluice"),
    ('build.target = ["one", "two"]\nbuild.target-dir = "d"\n', "d/one/release/sluice"),
    ("[net]\nretry = 1\n", "target/release/sluice"),
]


@pytest.fixture
def package(tmp_path):
    """A package with a program of our name, and the harness in it, which then speaks of that package."""
    need(None if shutil.which("cargo") else "no cargo here")
    harness = tmp_path / "tests/blackbox/harness"
    harness.mkdir(parents=True)
    shutil.copy(cargo.__file__, harness)
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "sluice"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n')
    (tmp_path / "src").mkdir()
    (tmp_path / "src/main.rs").write_text("fn main() {}\n")
    return tmp_path


def found(package, environment=None) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CARGO_") or name == "CARGO_HOME"}
    environment = {name: value.format(folder=package) for name, value in (environment or {}).items()}
    ask = "import sys; sys.path.insert(0, 'tests/blackbox/harness'); import cargo; print(cargo.release_build('sluice'))"
    told = subprocess.run([sys.executable, "-B", "-c", ask], cwd=package, env=clean | environment, capture_output=True, text=True, check=True)
    return str(os.path.relpath(told.stdout.strip(), package))


@pytest.mark.parametrize("environment, expected", BY_ENVIRONMENT)
def test_by_the_environment(package, environment, expected):
    assert found(package, environment) == expected


@pytest.mark.parametrize("text, expected", BY_CONFIGURATION)
def test_by_a_configuration(package, text, expected):
    (package / ".cargo").mkdir()
    (package / ".cargo/config.toml").write_text(text)
    assert found(package) == expected


def test_what_was_built_is_what_is_found(package):
    host = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout.split("host: ")[1].split()[0]
    for environment in ({}, {"CARGO_TARGET_DIR": str(package / "other")}, {"CARGO_BUILD_TARGET": host}):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CARGO_") or name == "CARGO_HOME"} | environment
        command = ["cargo", "build", "--release", "--offline", "--message-format=json"]
        said = subprocess.run(command, cwd=package, env=clean, capture_output=True, text=True, check=True).stdout
        told = cargo.executable(said.splitlines(), "sluice")
        assert told.exists() and str(os.path.relpath(told, package)) == found(package, environment)
