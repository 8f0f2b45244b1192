"""POSIX programs at the wrong moment: what takes a name while the server is at it stays, also when the server is killed there."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from conftest import BUCKET
from harness.server import Server

TRIES = 400
KINDS = ("directory", "symlink", "pipe", "file")


def prepare(folder: Path, n: int, kind: str) -> Path:
    """What is to take the name: beside it, so that a rename does."""
    beside = folder / f"beside-{n}"
    if kind == "directory":
        beside.mkdir()
        (beside / "theirs").write_bytes(b"%d" % n)
    elif kind == "symlink":
        beside.symlink_to(f"theirs/{n}")
    elif kind == "pipe":
        os.mkfifo(beside)
    else:
        beside.write_bytes(b"theirs %d" % n)
    return beside


def is_there(path: Path, n: int, kind: str) -> bool:
    if kind == "directory":
        return path.is_dir() and (path / "theirs").is_file() and (path / "theirs").read_bytes() == b"%d" % n
    if kind == "symlink":
        return path.is_symlink() and os.readlink(path) == f"theirs/{n}"
    if kind == "pipe":
        return path.is_fifo()
    # The object of the key, wherever it is, or the one that replaced it.
    return path.is_file() or (path / ".sluice%o").is_file()


# A process of its own, since it has microseconds. For each name it waits until the server is at something (there is a name in
# staging), or a random moment, and then puts its thing there.
PROGRAM = """
import os, random, sys, time
staging, folder = sys.argv[1:]
for line in sys.stdin:
    n, kind = line.split()
    path, beside = f"{folder}/a{n}", f"{folder}/beside-{n}"
    print("ready", flush=True)
    end = time.perf_counter() + (0.02 if int(n) % 3 else random.uniform(0, 0.004))
    while time.perf_counter() < end:
        if int(n) % 3 and os.listdir(staging):
            break
    try:
        if kind != "file":
            os.unlink(path)
        os.rename(beside, path)
    except OSError:
        pass  # the server was quicker: the name is a directory, or gone
    print("done", flush=True)
"""


class Program:
    """Puts its things under names, when it is told to."""

    def __init__(self, data: Path, names: list[tuple[int, str]]):
        self.names = names
        command = [sys.executable, "-c", PROGRAM, str(data / ".sluice/staging"), str(data / BUCKET)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def beside(self, n: int, kind: str, work) -> None:
        """Has it put something under a name while `work` is done."""
        print(n, kind, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "ready\n"
        work()
        assert self.process.stdout.readline() == "done\n"

    def end(self) -> None:
        self.process.stdin.close()
        assert self.process.wait(10) == 0


def act(client, verb: str, n: int) -> None:
    if verb == "beside":
        client.put(BUCKET, f"a{n}/b", b"x")
    elif verb == "overwrite":
        client.put(BUCKET, f"a{n}", b"new")
    else:
        client.delete(BUCKET, f"a{n}")


@pytest.mark.parametrize("verb", ["beside", "overwrite", "delete"])
def test_nothing_that_takes_a_name_is_lost(data, verb):
    with Server(data) as server:
        server.client().create_bucket(BUCKET)
        folder, client = data / BUCKET, server.client()
        # A DELETE may well remove a newer file: it is the object.
        kinds = [kind for kind in KINDS if not (verb == "delete" and kind == "file")]
        program = Program(data, [(n, kinds[n % len(kinds)]) for n in range(TRIES)])
        for n, kind in program.names:
            (folder / f"a{n}").write_bytes(b"old")
            prepare(folder, n, kind)
        for n, kind in program.names:
            program.beside(n, kind, lambda: act(client, verb, n))
        program.end()
        check(data, program.names)
        server.kill()
    with Server(data) as server:
        check(data, program.names)
        assert not (data / ".sluice/aside").exists() and server.leftovers() == []


def check(data: Path, names: list[tuple[int, str]]) -> None:
    folder, lost, taken = data / BUCKET, [], 0
    for n, kind in names:
        path, beside = folder / f"a{n}", folder / f"beside-{n}"
        if is_there(beside, n, kind):
            continue
        taken += 1
        if not is_there(path, n, kind):
            lost.append((n, kind))
    assert not lost, f"{len(lost)} of {taken} that took a name are gone: {lost[:5]}"
    assert taken >= 10, "too few took a name to mean anything"


def test_a_server_that_is_killed_in_the_middle_loses_nothing(data):
    """Several at once, and SIGKILL at any moment: what is neither at its place nor beside it is kept aside, and said to be."""
    names, chooser = [(n, KINDS[n % len(KINDS)]) for n in range(400)], random.Random(7)
    with Server(data) as server:
        server.client().create_bucket(BUCKET)
    for n, kind in names:
        (data / BUCKET / f"a{n}").write_bytes(b"old %d" % n)
        prepare(data / BUCKET, n, kind)
    rest = list(names)
    while rest:
        server = Server(data).start()
        now, rest = rest[:100], rest[100:]
        programs = [Program(data, now[index::2]) for index in range(2)]
        workers = [threading.Thread(target=work, args=(server, program)) for program in programs]
        [worker.start() for worker in workers]
        time.sleep(chooser.uniform(0.05, 0.3))
        server.kill()
        [worker.join() for worker in workers]
        [program.end() for program in programs]
    with Server(data) as server:
        for kept in (data / ".sluice/aside").glob("*"):
            # A program has removed the old file while the server held it as well: the last name is not the server's to remove.
            assert kept.name.startswith("turn.") and (kept / ".sluice%o").read_bytes().startswith(b"old"), kept
        lost = [(n, kind) for n, kind in names if not is_there(data / BUCKET / f"a{n}", n, kind) and not is_there(data / BUCKET / f"beside-{n}", n, kind)]
        assert not lost, lost
        assert server.leftovers() == []


def work(server, program: Program) -> None:
    client = server.client()
    for n, kind in program.names:
        program.beside(n, kind, lambda: act_unless_killed(client, ["beside", "overwrite"][n // 4 % 2], n))


def act_unless_killed(client, verb: str, n: int) -> None:
    try:
        act(client, verb, n)
    except Exception:
        pass
