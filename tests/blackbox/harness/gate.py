"""Makes the kernel hold whoever opens or reads a file, for as long as a test likes: fanotify(7), permission events. Needs root."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import threading
from pathlib import Path

CLASS_CONTENT, CLOEXEC, MARK_ADD = 0x4, 0x1, 0x1
OPEN_PERM, ACCESS_PERM, ON_DIRECTORY = 0x10000, 0x20000, 0x40000000
ALLOW = 1
# struct fanotify_event_metadata and fanotify_response.
EVENT, RESPONSE = struct.Struct("=IBBHQii"), struct.Struct("=iI")

libc = ctypes.CDLL(None, use_errno=True)


def missing() -> str | None:
    """Why nobody can be held here; None when they can."""
    if os.geteuid() != 0:
        return "fanotify's permission events need root"
    group = libc.fanotify_init(CLASS_CONTENT | CLOEXEC, os.O_RDONLY)
    if group < 0:
        return f"no permission events here: {os.strerror(ctypes.get_errno())}"
    os.close(group)
    return None


class Gate:
    """Holds every other process that opens one of `directories`, or reads one of `files`, until `open` is called."""

    def __init__(self, *, directories=(), files=()):
        self.marks = [(path, OPEN_PERM | ON_DIRECTORY) for path in directories] + [(path, ACCESS_PERM) for path in files]
        self.is_open, self.is_over = False, False
        self.held: list[int] = []
        self.passed: list[Path] = []
        self.lock = threading.Lock()

    def __enter__(self) -> "Gate":
        self.group = libc.fanotify_init(CLASS_CONTENT | CLOEXEC, os.O_RDONLY | os.O_LARGEFILE)
        assert self.group >= 0, os.strerror(ctypes.get_errno())
        for path, mask in self.marks:
            marked = libc.fanotify_mark(self.group, MARK_ADD, ctypes.c_uint64(mask), -100, os.fsencode(path))
            assert marked == 0, f"{path}: {os.strerror(ctypes.get_errno())}"
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.open()
        self.is_over = True
        self.thread.join(10)
        os.close(self.group)

    def _watch(self) -> None:
        while not self.is_over:
            if not select.select([self.group], [], [], 0.05)[0]:
                continue
            data = os.read(self.group, 65536)
            while data:
                size, _, _, _, _, file, _ = EVENT.unpack_from(data)
                data = data[size:]
                with self.lock:
                    self.held.append(file)
                    if self.is_open:
                        self._let_pass()

    def _let_pass(self) -> None:
        for file in self.held:
            self.passed.append(Path(os.readlink(f"/proc/self/fd/{file}")))
            os.write(self.group, RESPONSE.pack(file, ALLOW))
            os.close(file)
        self.held.clear()

    def count(self) -> int:
        """How many are held now."""
        with self.lock:
            return len(self.held)

    def open(self) -> None:
        """Lets all pass, those who come later too."""
        with self.lock:
            self.is_open = True
            self._let_pass()
