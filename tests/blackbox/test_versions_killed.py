"""A server that is killed (SIGKILL) in the middle of changes to buckets that keep versions: what was acknowledged is there, what was
under way has happened or has not, also while POSIX programs put their own files in the place of live ones."""

from __future__ import annotations

import os
import random
import threading
import time

from harness import kept
from harness.kept import ENABLED, Changes, Kept
from harness.server import Server

VERSIONED, TOGGLED, MADE = "versioned", "toggled", 4
WRITERS = 5
ROUNDS = 5


class Writer(threading.Thread):
    """Changes keys of its own until the server no longer answers."""

    def __init__(self, server: Server, number: int, seed: str, known: Kept):
        super().__init__()
        self.number, self.seed, self.stopped = number, seed, False
        self.changes = Changes(server.client(), known, random.Random(f"{seed}-{number}"))

    def run(self) -> None:
        for count in range(100_000):
            if self.stopped:
                return
            try:
                self.change(f"{self.seed}-{self.number}-{count}")
            except Exception:
                # No answer: the change may have happened or not.
                time.sleep(0.01)

    def change(self, token: str) -> None:
        kind = self.number % WRITERS
        if kind == 0:
            self.changes.change_bucket(f"made-{self.changes.chooser.randrange(MADE)}", token)
        elif kind == 1 and self.changes.chooser.random() < 0.2:
            self.changes.set_versioning(TOGGLED)
        elif kind == 1:
            self.changes.change(TOGGLED, "", token)
        else:
            self.changes.change(VERSIONED, f"writer-{self.number}/", token)


def work_and_kill(server: Server, seed: str, known: Kept) -> None:
    writers = [Writer(server, number, seed, known) for number in range(WRITERS)]
    [writer.start() for writer in writers]
    time.sleep(random.Random(seed).uniform(0.3, 1.2))
    server.kill()
    for writer in writers:
        writer.stopped = True
    [writer.join(60) for writer in writers]
    assert not any(writer.is_alive() for writer in writers)


def make(server: Server) -> Kept:
    client = server.client()
    for bucket in (VERSIONED, TOGGLED):
        client.create_bucket(bucket)
        assert kept.set_versioning(client, bucket, ENABLED).status == 200
    return Kept(buckets={VERSIONED: [ENABLED], TOGGLED: [ENABLED]})


def test_a_killed_server_has_lost_nothing(data):
    with Server(data) as server:
        known = make(server)
        for number in range(ROUNDS):
            work_and_kill(server, f"killed-{number}", known)
            server.start()
            assert kept.check(server.client(), known) == []
        assert known.acknowledged > 20 * ROUNDS


def test_posix_programs_meanwhile(data):
    """Each replaces live files by rename and removes them: no version but the live one, and no file of theirs that was overwritten, is lost."""
    with Server(data) as server:
        client = server.client()
        make(server)
        acknowledged, stopped, theirs = {}, threading.Event(), []

        def write(number: int) -> None:
            mine = server.client()
            for count in range(100_000):
                if stopped.is_set():
                    return
                key, body = f"key-{count % 3}", b"ours %d %d" % (number, count)
                try:
                    answer = mine.put(VERSIONED, key, body) if count % 5 else mine.delete(VERSIONED, key)
                except Exception:
                    return
                if answer.status == 200:
                    acknowledged[key, answer.headers["x-amz-version-id"]] = body

        def replace() -> None:
            for count in range(100_000):
                if stopped.is_set():
                    return
                path, beside = data / VERSIONED / f"key-{count % 3}", data / f"beside-{count % 3}"
                beside.write_bytes(b"theirs %d" % count)
                os.rename(beside, path) if count % 4 else path.unlink(missing_ok=True)
                theirs.append(count)
                time.sleep(0.002)

        for _ in range(3):
            stopped.clear()
            workers = [threading.Thread(target=write, args=(number,)) for number in range(3)] + [threading.Thread(target=replace)]
            [worker.start() for worker in workers]
            time.sleep(1)
            server.kill()
            stopped.set()
            [worker.join(60) for worker in workers]
            server.start()
            client = server.client()
            listed = kept.list_versions(client, VERSIONED)
            for key, shown in listed.items():
                assert [is_latest for *_, is_latest in shown] == [n == 0 for n in range(len(shown))], key
                ids = [id_ for id_, *_ in shown]
                assert len(ids) == len(set(ids)), (key, ids)
                for id_, is_marker, _ in shown:
                    read = client.request("GET", f"/{VERSIONED}/{key}", query=[("versionId", id_)])
                    assert read.status == (405 if is_marker else 200), (key, id_, read)
                    if (key, id_) in acknowledged:
                        assert read.body == acknowledged[key, id_]
                    elif id_ == "null":
                        assert read.body.startswith(b"theirs ")
            assert list((data / ".sluice/staging").iterdir()) == []
        assert theirs and acknowledged
        # One that is gone was taken away by what replaced it, or removed it: never more than these did.
        gone = sum(id_ not in {shown for shown, *_ in listed.get(key, [])} for key, id_ in acknowledged)
        assert gone <= len(theirs)
