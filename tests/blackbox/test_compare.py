"""perf/compare in its smallest form: that it measures, counts and tells. No time is asserted, only what must add up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.server import ROOT, binary

OBJECT_SIZE = 4096
PNG_MAGIC = b"\x89PNG"


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """The folder of one cell, one round, one second, with the control beside."""
    folder = tmp_path_factory.mktemp("results")
    command = [sys.executable, ROOT / "perf/compare", "get-4k", "--rounds", "1", "--seconds", "1", "--contenders", "sluice,nginx"]
    command += ["--program", binary(), "--output", folder, "--filesystem", "scratch"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def report(results: Path) -> dict:
    [path] = results.glob("*.json")
    return json.loads(path.read_text())


def test_both_contenders_answered_and_their_bytes_add_up(results):
    told = report(results)
    assert told["left_out"] == {}
    runs = told["cells"]["get-4k"]["runs"]
    assert sorted(run["subject"] for run in runs) == ["nginx", "sluice"]
    for run in runs:
        assert run["requests"] > 64, "each connection got an answer"
        assert run["bytes"] >= run["requests"] * OBJECT_SIZE, "an answer is a body and a head"
        assert run["bytes"] < (run["requests"] + 64) * OBJECT_SIZE * 2, "and not more, but for 64 that were under way"
        assert run["cpu_s"] > 0 and run["client_cpu_s"] > 0 and run["peak_kib"] > 0
        assert run["p50_ms"] <= run["p99_ms"] <= run["p999_ms"]


def test_the_bar_is_judged_from_the_runs(results):
    told = report(results)
    cost = {run["subject"]: run["cpu_us_per_request"] for run in told["cells"]["get-4k"]["runs"]}
    [verdict] = [verdict for verdict in told["verdicts"] if verdict["cell"] == "get-4k"]
    assert verdict["met"] == (cost["sluice"] <= 1.15 * cost["nginx"])


def test_table_and_plots_are_written(results):
    [table], [png], [svg] = results.glob("*.md"), results.glob("*.png"), results.glob("*.svg")
    for name in ("sluice", "nginx"):
        assert f"\n| {name} |" in table.read_text()
    assert png.read_bytes().startswith(PNG_MAGIC)
    assert "<svg" in svg.read_text()


def test_what_is_unknown_is_refused_by_name():
    done = subprocess.run([sys.executable, ROOT / "perf/compare", "get-5k"], capture_output=True, text=True)
    assert done.returncode == 2 and "get-5k" in done.stderr
