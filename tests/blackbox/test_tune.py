"""`sluice tune` on the machine that the tests run on: what it says is so, in both forms, and it changes nothing unasked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import need
from harness.server import Server, binary

FORMAT = 1


def tune(*arguments, user=None, prefix=(), program=None) -> subprocess.CompletedProcess:
    command = [*prefix, str(program or binary()), "tune", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, user=user, group=user)


def parse_cpus(text: str) -> list[int]:
    cpus = []
    for item in text.split(","):
        first, _, last = item.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus


def written(setting: dict) -> str:
    return Path(setting["apply"]["write"]["file"]).read_text().strip()


@pytest.fixture
def report(scratch) -> dict:
    result = tune(scratch, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_the_json_describes_this_machine(report, scratch):
    assert report["format"] == FORMAT
    machine = report["machine"]
    assert machine["allowed"] == sorted(os.sched_getaffinity(0))
    assert machine["cpus"] == parse_cpus(Path("/sys/devices/system/cpu/online").read_text().strip())
    assert {card["name"] for card in machine["cards"]} == {path.parent.name for path in Path("/sys/class/net").glob("*/device")}
    findmnt = ["findmnt", "-n", "-o", "FSTYPE", "--target", str(scratch)]
    assert machine["directory"]["filesystem"] == subprocess.check_output(findmnt, text=True).strip()
    for drive in machine["directory"]["drives"]:
        assert (Path("/sys/block") / drive["name"]).exists()


def test_the_named_cores_exist_and_can_be_served_on(report, data):
    placement = report["placement"]
    cores = placement["cores"]
    assert cores and set(cores) <= os.sched_getaffinity(0)
    assert parse_cpus(placement["cores_list"]) == cores
    assert placement["reasons"] and placement["serve"].endswith(f" --cores {placement['cores_list']}")
    with Server(data, args=["--cores", placement["cores_list"]]) as server:
        threads = [(path / "comm").read_text().strip() for path in Path(f"/proc/{server.pid}/task").iterdir()]
    assert {f"core-{cpu}" for cpu in cores} <= set(threads)


def test_auto_serves_where_tune_says(data):
    data.mkdir()
    placement = json.loads(tune(data, "--json").stdout)["placement"]
    # An address that a network card may bring clients to: on loopback alone no card has a say.
    with Server(data, args=["--listen", "http://0.0.0.0:0"]) as server:
        assert f"pinned to CPU {placement['cores_list']}\n" in server.log()
        assert all(reason in server.log() for reason in placement["reasons"])
        pinned = {}
        for task in Path(f"/proc/{server.pid}/task").iterdir():
            pinned[(task / "comm").read_text().strip()] = os.sched_getaffinity(int(task.name))
        for cpu in placement["cores"]:
            assert pinned[f"core-{cpu}"] == {cpu}
        control = os.sched_getaffinity(server.pid)
        assert control == (set(placement["spare"]) or os.sched_getaffinity(0)), "the control thread keeps off the data cores"


def test_each_setting_is_what_the_kernel_says(report):
    assert report["settings"]
    for setting in report["settings"]:
        assert setting["reason"].endswith("."), setting
        assert setting["change"] == (setting["apply"] is not None) == (setting["current"] != setting["proposed"]), setting
        if setting["id"].startswith(("net.", "fs.", "kernel.")):
            assert Path("/proc/sys", setting["id"].replace(".", "/")).read_text().strip() == setting["current"]
        if setting["id"].startswith("interrupt."):
            number = setting["id"].split(".")[1]
            assert Path(f"/proc/irq/{number}/smp_affinity_list").read_text().strip() == setting["current"]
            assert set(parse_cpus(setting["proposed"])) <= set(report["machine"]["cpus"])


def test_the_text_has_the_same_settings_and_writes_nothing(report, scratch):
    before = {one["id"]: written(one) for one in report["settings"] if one["apply"] and "write" in one["apply"]}
    result = tune(scratch)
    assert result.returncode == 0, result.stderr
    assert f"--cores {report['placement']['cores_list']}\n" in result.stdout
    for setting in report["settings"]:
        assert setting["id"] in result.stdout and setting["reason"] in result.stdout
    assert ("Nothing to change." in result.stdout) == (not any(setting["change"] for setting in report["settings"]))
    assert before == {one["id"]: written(one) for one in report["settings"] if one["id"] in before}


def test_it_leaves_nothing_in_the_directory(data):
    data.mkdir()
    assert tune(data).returncode == 0
    assert list(data.iterdir()) == []


def test_a_restricted_process_is_placed_within_its_cpus():
    last = max(os.sched_getaffinity(0))
    result = tune("--json", prefix=("taskset", "-c", str(last)))
    assert json.loads(result.stdout)["placement"]["cores"] == [last]


def test_wrong_arguments_are_refused_with_a_remedy(scratch):
    unknown = tune("--nic", "no-such-card")
    assert unknown.returncode == 2 and "no-such-card" in unknown.stderr
    missing = tune(scratch / "absent")
    assert missing.returncode == 1 and "existing directory" in missing.stderr


def test_apply_needs_root_and_lists_what_it_would_write(report, scratch):
    need(None if os.geteuid() == 0 else "only root can become somebody else")
    program = scratch / "sluice"
    shutil.copy(binary(), program)
    # Without a directory nothing is asked about its drives.
    files = [one["apply"]["write"]["file"] for one in report["settings"] if one["apply"] and "write" in one["apply"]]
    files = [file for file in files if not file.startswith("/sys/block/")]
    before = [Path(file).read_text() for file in files]
    result = tune("--apply", user=65534, program=program)
    assert (result.returncode, bool(result.stderr)) == ((1, True) if files else (0, False)), result.stderr
    assert all(file in result.stderr for file in files)
    assert before == [Path(file).read_text() for file in files]
