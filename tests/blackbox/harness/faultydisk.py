"""A disk that is slow, holds its writes, or fails them: a loop device over a file that a FUSE server in this process serves.

No mock: the filesystem, its journal and the server above it meet real errors and real waits. The FUSE protocol is spoken
directly (linux/fuse.h, 7.31), which for one file is less than a library's set-up. Needs root, /dev/fuse and a loop device.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import subprocess
import threading
import time
from pathlib import Path

from harness import loopfs

THREADS = 24
# One write of the server's, a block of 512 KiB, is one write here.
WRITE_SIZE_MAX = 1024 * 1024
# <linux/fuse.h>
FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH, INIT = 2, 3, 4, 14, 15, 16, 17, 18, 20, 25, 26
INTERRUPT, DESTROY, BATCH_FORGET = 36, 38, 42
SILENT = (FORGET, INTERRUPT, DESTROY, BATCH_FORGET)
ASYNC_READ, BIG_WRITES, ASYNC_DIO, MAX_PAGES = 1 << 0, 1 << 5, 1 << 15, 1 << 22
IN_HEADER, TRANSFER = struct.Struct("<IIQQIIIHH"), struct.Struct("<QQIIQII")
MNT_DETACH = 2


def missing() -> str | None:
    """Why such a disk cannot be had here; None when it can."""
    if not Path("/dev/fuse").exists():
        return "no FUSE here"
    return loopfs.missing()


class FaultyDisk:
    """Serves `backing` as the file `path`. The attributes steer it while it runs."""

    def __init__(self, backing: Path, path: Path):
        self.backing, self.path = backing, path
        # Seconds that each transfer and each flush takes.
        self.delay_s = 0.0
        # Flushes fail with EIO, and with them what a journal commits.
        self.fails_flushes = False
        # The power is off: what is written fails, also what is on its way.
        self.is_off = False
        # Writes wait while this is not set.
        self.writes_go_on = threading.Event()
        self.writes_go_on.set()
        # Writes of at least a block that are under way, and the most that ever were.
        self.blocks_in_flight = self.blocks_in_flight_max = 0
        self._lock = threading.Lock()

    def __enter__(self) -> "FaultyDisk":
        self._file = os.open(self.backing, os.O_RDWR)
        self._size = os.fstat(self._file).st_size
        self.path.touch()
        self._device = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self._device},rootmode=100600,user_id=0,group_id=0,allow_other"
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"faultydisk", os.fsencode(self.path), b"fuse", 0, options.encode()) != 0:
            raise OSError(ctypes.get_errno(), "mount", str(self.path))
        self._libc, self._threads = libc, [threading.Thread(target=self._serve, daemon=True) for _ in range(THREADS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.writes_go_on.set()
        self.delay_s = 0.0
        self._libc.umount2(os.fsencode(self.path), MNT_DETACH)
        for thread in self._threads:
            thread.join(5)
        os.close(self._device)
        os.close(self._file)

    def _serve(self) -> None:
        buffer = bytearray(WRITE_SIZE_MAX + 64 * 1024)
        view = memoryview(buffer)
        while True:
            try:
                size = os.readv(self._device, [buffer])
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                return  # ENODEV: unmounted
            _, opcode, unique, *_ = IN_HEADER.unpack_from(buffer)
            try:
                answer, code = self._answer(opcode, view[IN_HEADER.size : size]), 0
            except OSError as error:
                answer, code = b"", -error.errno
            if opcode not in SILENT:
                try:
                    os.writev(self._device, [struct.pack("<IiQ", 16 + len(answer), code, unique), answer])
                except OSError:
                    pass  # ENOENT: who asked is gone

    def _answer(self, opcode: int, body: memoryview) -> bytes:
        if opcode == INIT:
            _, _, readahead, flags = struct.unpack_from("<IIII", body)
            flags &= ASYNC_READ | BIG_WRITES | ASYNC_DIO | MAX_PAGES
            pages = WRITE_SIZE_MAX // 4096
            return struct.pack("<IIIIHHIIHHII24x", 7, 31, readahead, flags, 64, 48, WRITE_SIZE_MAX, 1, pages, 0, 0, 0)
        if opcode in (GETATTR, SETATTR):
            blocks = self._size // 512
            attributes = struct.pack("<QQQQQQIIIIIIIIII", 1, self._size, blocks, 0, 0, 0, 0, 0, 0, 0o100600, 1, 0, 0, 0, 4096, 0)
            return struct.pack("<QII", 3600, 0, 0) + attributes
        if opcode == OPEN:
            return struct.pack("<QII", 1, 0, 0)
        if opcode == STATFS:
            return struct.pack("<QQQQQIIII24x", 0, 0, 0, 0, 0, 4096, 255, 4096, 0)
        if opcode in (READ, WRITE):
            _, offset, size, *_ = TRANSFER.unpack_from(body)
            return self._read(offset, size) if opcode == READ else self._write(offset, body[TRANSFER.size :][:size])
        if opcode == FSYNC:
            time.sleep(self.delay_s)
            if self.fails_flushes or self.is_off:
                raise OSError(errno.EIO, "as asked")
        if opcode in (RELEASE, FSYNC, FLUSH) or opcode in SILENT:
            return b""
        raise OSError(errno.ENOSYS, "not served")

    def _read(self, offset: int, size: int) -> bytes:
        time.sleep(self.delay_s)
        return os.pread(self._file, size, offset)

    def _write(self, offset: int, data: memoryview) -> bytes:
        is_block = int(len(data) >= 512 * 1024)
        with self._lock:
            self.blocks_in_flight += is_block
            self.blocks_in_flight_max = max(self.blocks_in_flight_max, self.blocks_in_flight)
        time.sleep(self.delay_s)
        self.writes_go_on.wait()
        with self._lock:
            self.blocks_in_flight -= is_block
        if self.is_off:
            raise OSError(errno.EIO, "no power")
        written = os.pwrite(self._file, data, offset)
        return struct.pack("<II", written, 0)


class FaultyFilesystem(loopfs.LoopFilesystem):
    """A filesystem on such a disk, which is `disk`."""

    # Else the loop driver works its requests off one after the other, through a cache of its own.
    loop_options = ("--direct-io=on",)

    def make(self, image: Path) -> None:
        backing = image.with_suffix(".backing")
        super().make(backing)
        self.disk = FaultyDisk(backing, image).__enter__()

    def detach(self) -> None:
        delay_s, self.disk.delay_s = self.disk.delay_s, 0.0
        self.disk.writes_go_on.set()
        super().detach()
        self.disk.delay_s, self.disk.is_off = delay_s, False

    def power_cut(self) -> None:
        self.disk.is_off = True
        super().power_cut()

    def __exit__(self, *_) -> None:
        try:
            super().__exit__()
        finally:
            self.disk.__exit__()
