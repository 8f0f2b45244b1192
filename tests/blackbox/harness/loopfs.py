"""Small filesystems on loop devices, made and taken down by a test. Needs root and a free loop device."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

MIB = 1024 * 1024
# XFS refuses to be made smaller than 300 MB.
XFS_SIZE_MIN = 320 * MIB
# XFS_IOC_GOINGDOWN and EXT4_IOC_SHUTDOWN, which are one: _IOR('X', 125, __u32).
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2


def run(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr.strip() or result.stdout.strip()}")
    return result.stdout.strip()


def missing() -> str | None:
    """Why loop filesystems cannot be used here; None when they can."""
    if os.geteuid() != 0:
        return "loop filesystems need root"
    if not Path("/dev/loop-control").exists():
        return "no loop devices here"
    return None


class LoopFilesystem:
    """`image` formatted as `kind`, attached and mounted at `mount`."""

    loop_options: tuple[str, ...] = ()

    def __init__(self, folder: Path, kind: str, size: int, options: tuple[str, ...] = ()):
        self.kind, self.size, self.options = kind, max(size, XFS_SIZE_MIN) if kind == "xfs" else size, options
        self.image, self.mount = folder / f"{kind}.img", folder / f"{kind}-mount"
        self.device: str | None = None

    def __enter__(self) -> "LoopFilesystem":
        self.mount.mkdir(parents=True, exist_ok=True)
        self.make(self.image)
        self.attach()
        return self

    def make(self, image: Path) -> None:
        """A fresh filesystem in a file."""
        with open(image, "wb") as file:
            file.truncate(self.size)
        force = {"ext4": "-F"}.get(self.kind, "-f")
        run(f"mkfs.{self.kind}", "-q", force, *self.options, str(image))

    def __exit__(self, *_) -> None:
        self.detach()

    def attach(self) -> None:
        self.device = run("losetup", "-f", "--show", *self.loop_options, str(self.image))
        try:
            run("mount", "-t", self.kind, self.device, str(self.mount))
        except RuntimeError:
            run("losetup", "-d", self.device)
            self.device = None
            raise

    def detach(self) -> None:
        for _ in range(100):
            result = subprocess.run(["umount", str(self.mount)], capture_output=True, text=True)
            if result.returncode == 0 or "not mounted" in result.stderr:
                break
            time.sleep(0.05)
        else:
            raise RuntimeError(f"umount {self.mount}: {result.stderr}")
        if self.device:
            run("losetup", "-d", self.device)
            self.device = None

    def power_cut(self) -> None:
        """The filesystem goes down at once, its log not flushed."""
        directory = os.open(self.mount, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(directory, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(directory)

    def remount(self) -> None:
        """The machine is back: the journal is replayed."""
        self.detach()
        self.attach()


@contextmanager
def fresh_filesystem(scratch: Path, kind: str, size: int = 256 * MIB, options: tuple[str, ...] = ()):
    """A filesystem of this kind for one test, where it is mounted. Needs root; a tmpfs needs no device."""
    from conftest import need

    need(missing())
    folder = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=scratch))
    if kind != "tmpfs":
        with LoopFilesystem(folder, kind, size, options) as made:
            yield made.mount
        return
    run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        run("umount", str(folder))
