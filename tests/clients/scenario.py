#!/usr/bin/env python3
"""One client against one server: it uploads, lists, reads back and deletes real files, and every byte is compared.

    scenario.py CLIENT ENDPOINT AUTHORITY BUCKET FOLDER

CLIENT is a name in `drivers.py`; AUTHORITY is a file of trusted certificates; FOLDER is empty and the scenario's own.
Credentials come as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Exit status 0 means that all of it was right.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

MIB = 1024 * 1024

# Key → size. The large one is multipart for every client that splits uploads.
FILES = {
    "small.txt": 11,
    "empty": 0,
    "one-block.bin": 4096,
    "deep/er/path/file.bin": 1_000_003,
    "with space.txt": 100,
    "paren(1).txt": 101,
    "plus+sign.txt": 102,
    "ünïcode-日本語.txt": 103,
    "percent%20&amp;=.txt": 104,
    "large.bin": 100 * 1_000_000 + 7,
}
OVERWRITTEN = "small.txt"


def content(key: str, size: int) -> bytes:
    """Bytes that no two keys share, and that do not compress to nothing."""
    seed = hashlib.sha256(key.encode()).digest()
    pattern = b"".join(hashlib.sha256(seed + bytes([n])).digest() for n in range(128))
    return (pattern * (size // len(pattern) + 1))[:size]


def compare(what: str, found, expected) -> None:
    if found != expected:
        shown = (found, expected) if not isinstance(found, bytes) else (f"{len(found)} bytes", f"{len(expected)} bytes")
        raise SystemExit(f"{what}: {shown[0]}, not {shown[1]}")


def run(driver, bucket: str, folder: Path) -> None:
    driver.prepare(bucket)
    expected = {key: size for key, size in FILES.items() if driver.can_store(key)}
    source, back = folder / "source", folder / "back"
    for place in (source, back):
        place.mkdir()
    for number, (key, size) in enumerate(expected.items()):
        local = source / str(number)
        local.write_bytes(content(key, size))
        driver.upload(local, bucket, key)
    compare("listing", dict(sorted(driver.list(bucket).items())), dict(sorted(expected.items())))
    for number, (key, size) in enumerate(expected.items()):
        local = back / str(number)
        driver.download(bucket, key, local)
        compare(f"bytes of {key!r}", local.read_bytes(), content(key, size))
    changed = content("changed", 12_345)
    (source / "changed").write_bytes(changed)
    driver.upload(source / "changed", bucket, OVERWRITTEN)
    driver.download(bucket, OVERWRITTEN, back / "changed")
    compare("an overwritten object", (back / "changed").read_bytes(), changed)
    driver.more(bucket, folder)
    for key in expected:
        driver.delete(bucket, key)
    compare("listing after the deletes", driver.list(bucket), {})


def main() -> None:
    name, endpoint, authority, bucket, folder = sys.argv[1:6]
    from drivers import DRIVERS

    run(DRIVERS[name](endpoint, authority), bucket, Path(folder))


if __name__ == "__main__":
    main()
