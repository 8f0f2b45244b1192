"""What is served: objects for reading, kept over a run, and fresh folders for writing.

A file system with a journal, which shared barriers need, is made for what writes; reads take the scratch directory, because a
loop device would put its own cache under O_DIRECT.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Iterator

from harness import loopfs, sigv4
from harness.loopfs import LoopFilesystem, run

from comparison.contenders import Contender, Missing, Nginx, Roster
from comparison.loads import BUCKET

KIB, MIB, GIB = 1024, 1024**2, 1024**3
# Sparse. 10^6 inodes fit, and what one run writes.
LOOP_SIZE = 32 * GIB
# What one run of large uploads writes, and what the page cache and its image need for it.
MEMORY_SIZE = 12 * GIB
# Objects and their size.
# The few are for counting: under strace a server is so slow that of a thousand objects many are asked for less than once a second,
# which is how long ours remembers one.
READ_TREES = {"4k": (1000, 4 * KIB), "4k-few": (100, 4 * KIB), "1m": (64, MIB), "64m": (4, 64 * MIB)}


def keys(tree: str) -> list[str]:
    return [f"{n:06}" for n in range(READ_TREES[tree][0])]


class Stage:
    """Where a run takes place: its contenders, its time, its folders."""

    def __init__(self, roster: Roster, seconds: float, filesystem: str | None, folder: Path):
        self.roster, self.seconds, self.filesystem, self.folder = roster, seconds, filesystem, folder
        self.held = ExitStack()
        self.kept: dict[tuple[str, str], Path] = {}
        self.loops: dict[bool, LoopFilesystem] = {}
        self.discarded: list[Path] = []
        self.count = 0

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *_) -> None:
        self.held.close()

    def server(self, name: str, data: Path, **options) -> Contender:
        return self.roster.server(name, data, **options)

    def place(self, writes: bool, in_memory: bool = False) -> Path:
        """Scratch for reads, a journaled loop filesystem for writes, unless one kind was asked for.

        The file behind the loop device lies in memory where the disk would be slower than the servers: a core that waits
        for it has few uploads to digest at a time, and the rate of a shared disk is nobody's merit.
        """
        kind = self.filesystem or ("ext4" if writes else "scratch")
        if kind == "scratch":
            return self.folder
        if in_memory not in self.loops:
            reason = loopfs.missing()
            if reason:
                raise Missing(f"{reason}: use --filesystem scratch")
            folder = self.held.enter_context(memory_folder(self.folder / "memory")) if in_memory else self.folder
            size = MEMORY_SIZE if in_memory else LOOP_SIZE
            self.loops[in_memory] = self.held.enter_context(LoopFilesystem(folder, kind, size))
        return self.loops[in_memory].mount

    def fresh(self, name: str, in_memory: bool = False) -> Path:
        """An empty folder for one run that writes. ext4 is slow for seconds where thousands of files were deleted."""
        self.count += 1
        data = self.place(writes=True, in_memory=in_memory) / f"{name}-{self.count}" / "data"
        data.parent.mkdir(parents=True)
        return data

    def discard(self, data: Path) -> None:
        """Takes a folder of `fresh` away, and its blocks from the file behind the loop device.

        At once, so that nobody's dirty pages are written back in the next run.
        """
        shutil.rmtree(data.parent)
        for loop in self.loops.values():
            subprocess.run(["fstrim", str(loop.mount)], capture_output=True)

    def discard_later(self, data: Path) -> None:
        """After the cell: thousands of deleted inodes slow ext4 down for some seconds."""
        self.discarded.append(data)

    def discard_all(self) -> None:
        """Between cells."""
        while self.discarded:
            self.discard(self.discarded.pop())

    def reading(self, tree: str, name: str) -> Path:
        """The folder of a tree for this contender; filled by `fill` once its server runs."""
        if (tree, name) not in self.kept:
            data = self.place(writes=False) / f"{tree}-{name}" / "data"
            data.mkdir(parents=True)
            self.kept[tree, name] = data
        return self.kept[tree, name]

    def clones(self, count: int, name: str) -> Path:
        """A bucket of `count` empty objects, as `count` PUTs would leave it, without the time they take."""
        key = (f"clones-{count}", name)
        if key not in self.kept:
            data = self.place(writes=True) / f"{key[0]}-{name}" / "data"
            data.parent.mkdir(parents=True)
            template = data.parent / "template"
            with self.server(name, template) as server:
                server.client().create_bucket(BUCKET)
                response = server.client().put(BUCKET, "template")
                if response.status != 200:
                    raise RuntimeError(str(response))
            clone(template / BUCKET, template / BUCKET / "template", data / BUCKET, count)
            self.kept[key] = data
        return self.kept[key]


def fill(server: Contender, tree: str) -> None:
    """The objects of a tree by PUT; nginx is given files. Nothing, where they are."""
    done = server.data.parent / "filled"
    if done.exists():
        return
    size = READ_TREES[tree][1]
    body = os.urandom(size)
    if isinstance(server, Nginx):
        (server.data / BUCKET).mkdir()
        for key in keys(tree):
            (server.data / BUCKET / key).write_bytes(body)
    else:
        put_all(server, keys(tree), body)
    done.touch()


def put_all(server: Contender, names: list[str], body: bytes) -> None:
    client = server.client()
    client.create_bucket(BUCKET)
    with client.connect() as connection:
        for name in names:
            connection.send(client.signed("PUT", f"/{BUCKET}/{name}", body, payload_hash=sigv4.UNSIGNED).encode())
            response = connection.response()
            if response.status != 200:
                raise RuntimeError(f"PUT {name}: {response}")


def clone(bucket: Path, template: Path, into: Path, count: int) -> None:
    """`count` copies of an object with its attributes and its times, as `cp -a` makes them."""
    into.mkdir(parents=True)
    for attribute in os.listxattr(bucket):
        os.setxattr(into, attribute, os.getxattr(bucket, attribute))
    attributes = [(attribute, os.getxattr(template, attribute)) for attribute in os.listxattr(template)]
    status = template.stat()
    assert status.st_size == 0, "an empty object is cloned"
    folder = os.open(into, os.O_DIRECTORY)
    for n in range(count):
        file = os.open(f"{n:07}", os.O_CREAT | os.O_WRONLY, status.st_mode & 0o777, dir_fd=folder)
        for attribute, value in attributes:
            os.setxattr(file, attribute, value)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.close(file)
    os.close(folder)


def files(data: Path) -> list[Path]:
    return [path for path in data.rglob("*") if path.is_file()]


def warm(data: Path) -> None:
    """Into the page cache: what was written O_DIRECT is not in it, and reclaim takes from what was."""
    for path in files(data):
        path.read_bytes()


def cool(data: Path) -> None:
    """Out of the page cache. Only these files: the machine's other caches are nobody's business here."""
    for path in files(data):
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


@contextmanager
def memory_folder(folder: Path) -> Iterator[Path]:
    """A tmpfs of its own, so that its size is bounded and its end certain."""
    available = int(next(line for line in open("/proc/meminfo") if line.startswith("MemAvailable")).split()[1]) * KIB
    if available < MEMORY_SIZE + MEMORY_SIZE // 4:
        raise Missing(f"{MEMORY_SIZE * 5 // 4 // GIB} GiB of memory are needed, {available // GIB} are free")
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={MEMORY_SIZE + GIB}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        run("umount", str(folder))


@contextmanager
def zram(size: int) -> Iterator[Path]:
    """An ext4 on compressed memory, where zeros take no room: for objects larger than this machine's disk."""
    control = Path("/sys/class/zram-control")
    if os.geteuid() != 0 or not control.exists():
        raise Missing("zram needs root and a kernel with zram")
    number = (control / "hot_add").read_text().strip()
    mount = Path(tempfile.mkdtemp(prefix="zram-"))
    try:
        Path(f"/sys/block/zram{number}/disksize").write_text(str(size))
        run("mkfs.ext4", "-q", f"/dev/zram{number}")
        run("mount", f"/dev/zram{number}", str(mount))
        try:
            yield mount
        finally:
            run("umount", str(mount))
    finally:
        mount.rmdir()
        (control / "hot_remove").write_text(number)
