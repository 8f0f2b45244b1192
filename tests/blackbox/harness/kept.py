"""What keeps versions, under changes that a power cut ends: what was acknowledged, what may be found, and whether it is.

A key's versions are a tuple of entries, the newest first. While a change is under way there are two of them that may be found, the one
without it and the one with it: whole, or not at all. Each key has one writer, which leaves a key alone whose change got no answer.
"""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from harness.sigv4 import encode_key
from harness.wire import Client, Response

# What a bucket may be, besides what PutBucketVersioning sets.
ABSENT, NEVER_SET = "absent", ""
ENABLED, SUSPENDED = "Enabled", "Suspended"
NULL = "null"
# A key beside a directory of its name, that directory as an object, and what is below.
KEYS = ["0", "1", "a", "a/", "a/0", "a/b/0", "a/b/1"]
ENTRIES_MAX = 5
SIZES = [0, 1, 100, 4096, 5000, 64 * 1024, 130_000]


@dataclass(frozen=True)
class Version:
    """What a key may show: its bytes and the token in its metadata."""

    body: bytes
    token: str
    parts: int = 0

    @classmethod
    def of(cls, token: str, size: int, parts: int = 0) -> "Version":
        return cls((token.encode() * (size // len(token) + 1))[:size], token, parts)

    @property
    def etag(self) -> str:
        digest = hashlib.md5(self.body).digest()
        return f'"{hashlib.md5(digest).hexdigest()}-1"' if self.parts else f'"{digest.hex()}"'

    def is_in(self, read: Response) -> bool:
        return self.body == read.body and self.token == read.headers.get("x-amz-meta-token")

    def __repr__(self) -> str:
        return f"{len(self.body)} bytes of {self.token}"


@dataclass(frozen=True)
class Entry:
    """A version, or a delete marker (`None`). Its id, or `None` where nobody was told."""

    id: str | None
    version: Version | None

    def may_be(self, found: "Entry") -> bool:
        return self.version == found.version and self.id in (None, found.id)


Entries = tuple[Entry, ...]


def written(entries: Entries, status: str, entry: Entry) -> Entries:
    """After a PUT or a DELETE without a version id."""
    if status == ENABLED:
        return (entry, *entries)
    others = tuple(one for one in entries if one.id != NULL)
    # Where versions were never kept a DELETE leaves nothing.
    return others if status == NEVER_SET and entry.version is None else (Entry(NULL, entry.version), *others)


@dataclass
class Kept:
    """Per bucket what it may be set to, per bucket and key the entries that may be found."""

    buckets: dict[str, list[str]] = field(default_factory=dict)
    keys: dict[tuple[str, str], list[Entries]] = field(default_factory=dict)
    # Ids that are gone for good, as was acknowledged since the last look.
    removed: set[tuple[str, str, str]] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)
    acknowledged: int = 0

    def status(self, bucket: str) -> str | None:
        """`None`: nobody knows."""
        allowed = self.buckets.get(bucket, [ABSENT])
        return allowed[0] if len(allowed) == 1 else None

    def entries(self, bucket: str, key: str) -> Entries | None:
        allowed = self.keys.get((bucket, key), [()])
        return allowed[0] if len(allowed) == 1 else None

    def change(self, bucket: str, key: str, after: Entries) -> None:
        self.keys[bucket, key] = [*self.keys.get((bucket, key), [()]), after]

    def changed(self, bucket: str, key: str, after: Entries) -> None:
        self.keys[bucket, key] = [after]
        self.acknowledged += 1

    def set(self, bucket: str, after: str) -> None:
        self.buckets[bucket] = [*self.buckets.get(bucket, [ABSENT]), after]

    def is_set(self, bucket: str, after: str) -> None:
        self.buckets[bucket] = [after]
        self.acknowledged += 1


@dataclass
class Changes:
    """Changes to buckets that keep versions, noted before they begin and when they are answered."""

    client: Client
    kept: Kept
    chooser: random.Random

    def change(self, bucket: str, prefix: str, token: str) -> None:
        """One change to one key: a version is written, a marker is laid, or one or the other is removed for good."""
        key, chooser = prefix + self.chooser.choice(KEYS), self.chooser
        entries, status = self.kept.entries(bucket, key), self.kept.status(bucket)
        if entries is None or status in (None, ABSENT):
            return
        kind = chooser.choices(["put", "complete", "delete", "remove"], [40, 10, 15, 35])[0]
        if entries and (kind == "remove" or len(entries) >= ENTRIES_MAX):
            # Often the current one, which brings the one before back.
            self.remove(bucket, key, chooser.choice([entries[0], *entries]), entries)
        elif kind == "delete":
            self.write(bucket, key, None, lambda: self.client.delete(bucket, key), entries, status)
        elif kind == "complete":
            version = Version.of(token, chooser.choice(SIZES), 1)
            self.write(bucket, key, version, self.uploaded(bucket, key, version), entries, status)
        else:
            # An object `dir/` may have bytes, too.
            version = Version.of(token, chooser.choice(SIZES))
            put = lambda: self.client.put(bucket, key, version.body, x_amz_meta_token=token)  # noqa: E731
            self.write(bucket, key, version, put, entries, status)

    def uploaded(self, bucket: str, key: str, version: Version):
        headers = {"x-amz-meta-token": version.token}
        started = self.client.request("POST", f"/{bucket}/{encode_key(key)}", query=[("uploads", "")], headers=headers)
        upload = started.field("UploadId")
        etag = self.client.put_part(bucket, key, upload, 1, version.body).etag
        return lambda: self.client.complete(bucket, key, upload, [(1, etag)])

    def write(self, bucket: str, key: str, version: Version | None, send, entries: Entries, status: str) -> None:
        self.kept.change(bucket, key, written(entries, status, Entry(None, version)))
        answer = send()
        if answer.status not in (200, 204) or answer.code:
            return
        id_ = answer.headers.get("x-amz-version-id")
        told = {ENABLED: id_ not in (None, NULL), SUSPENDED: id_ == NULL, NEVER_SET: id_ is None}
        if not told[status]:
            self.kept.complaints.append(f"{bucket}/{key}: the version {id_} was answered where versioning is {status!r}")
        self.kept.changed(bucket, key, written(entries, status, Entry(id_, version)))

    def remove(self, bucket: str, key: str, entry: Entry, entries: Entries) -> None:
        after = tuple(one for one in entries if one != entry)
        self.kept.change(bucket, key, after)
        answer = self.client.request("DELETE", f"/{bucket}/{encode_key(key)}", query=[("versionId", entry.id)])
        if answer.status == 204:
            self.kept.removed.add((bucket, key, entry.id))
            self.kept.changed(bucket, key, after)

    def set_versioning(self, bucket: str) -> None:
        """Sets what is not set."""
        status = self.kept.status(bucket)
        if status in (None, ABSENT):
            return
        wanted = SUSPENDED if status == ENABLED else ENABLED
        self.kept.set(bucket, wanted)
        if set_versioning(self.client, bucket, wanted).status == 200:
            self.kept.is_set(bucket, wanted)

    def change_bucket(self, bucket: str, token: str) -> None:
        """Makes it, sets it, writes to it, empties it, deletes it, one at a time."""
        status, entries = self.kept.status(bucket), self.kept.entries(bucket, "object")
        if status is None or entries is None:
            return
        if status == ABSENT:
            self.kept.set(bucket, NEVER_SET)
            if self.client.request("PUT", f"/{bucket}").status == 200:
                self.kept.is_set(bucket, NEVER_SET)
            return
        kind = self.chooser.choices(["set", "put", "remove"], [35, 25, 40])[0]
        if kind == "set":
            self.set_versioning(bucket)
        elif kind == "put":
            version = Version.of(token, 100)
            put = lambda: self.client.put(bucket, "object", version.body, x_amz_meta_token=token)  # noqa: E731
            self.write(bucket, "object", version, put, entries, status)
        elif entries:
            self.remove(bucket, "object", entries[0], entries)
        else:
            self.kept.set(bucket, ABSENT)
            if self.client.request("DELETE", f"/{bucket}").status == 204:
                self.kept.is_set(bucket, ABSENT)


def set_versioning(client: Client, bucket: str, status: str) -> Response:
    body = f'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>{status}</Status></VersioningConfiguration>'
    return client.request("PUT", f"/{bucket}", body.encode(), query=[("versioning", "")])


def check(client: Client, kept: Kept) -> list[str]:
    """What is not as it must be; afterwards `kept` has what was found."""
    complaints, kept.complaints, present = kept.complaints, [], set()
    for bucket, allowed in kept.buckets.items():
        answer = client.request("GET", f"/{bucket}", query=[("versioning", "")])
        found = ABSENT if answer.status == 404 else answer.field("Status") or NEVER_SET
        if answer.status not in (200, 404):
            complaints.append(f"{bucket}: {answer}")
        if found not in allowed:
            complaints.append(f"{bucket}: versioning is {found!r}; allowed: {allowed}")
        kept.buckets[bucket] = [found]
        if found == ABSENT:
            kept.keys = {place: entries for place, entries in kept.keys.items() if place[0] != bucket}
            continue
        present.add(bucket)
        complaints += [f"{bucket}/{complaint}" for complaint in check_bucket(client, kept, bucket)]
        complaints += check_use(client, bucket)
    listed = {name.decode() for name in re.findall(rb"<Name>([^<]*)</Name>", client.request("GET", "/").body)}
    if listed & kept.buckets.keys() != present:
        complaints.append(f"buckets {sorted(listed)} are listed, {sorted(present)} are there")
    kept.removed.clear()
    return complaints


def check_use(client: Client, bucket: str) -> list[str]:
    """An object can be put and deleted."""
    put = client.put(bucket, "in-use", b"x")
    version = put.headers.get("x-amz-version-id", NULL)
    removed = client.request("DELETE", f"/{bucket}/in-use", query=[("versionId", version)])
    return [f"{bucket} cannot be used: {answer}" for answer in (put, removed) if answer.status not in (200, 204)]


def check_bucket(client: Client, kept: Kept, bucket: str) -> list[str]:
    listed, complaints, current = list_versions(client, bucket), [], set()
    ours = {key for name, key in kept.keys if name == bucket}
    for key in sorted(ours | listed.keys()):
        allowed, shown = kept.keys.get((bucket, key), [()]), listed.get(key, [])
        look = Look(client, bucket, key, allowed)
        found = tuple(look.entry(id_, is_marker) for id_, is_marker, _ in shown)
        if not any(is_as(entries, found) for entries in allowed):
            look.complaints.append(f"{list(found)}; allowed: {[list(entries) for entries in allowed]}")
        if [is_latest for *_, is_latest in shown] != [n == 0 for n in range(len(shown))]:
            look.complaints.append(f"not one is the latest: {shown}")
        known = {entry.id for entries in allowed for entry in entries} | {id_ for *place, id_ in kept.removed if place == [bucket, key]}
        look.absent(known - {entry.id for entry in found} - {None})
        look.current(found)
        if found and found[0].version:
            current.add(key)
        complaints += [f"{key}: {complaint}" for complaint in look.complaints]
        kept.keys[bucket, key] = [found]
    if (keys := list_keys(client, bucket)) != current:
        complaints.append(f": listed: {sorted(keys - current)[:5]} too many, {sorted(current - keys)[:5]} are missing")
    return complaints


def is_as(entries: Entries, found: Entries) -> bool:
    return len(entries) == len(found) and all(one.may_be(other) for one, other in zip(entries, found))


class Look:
    """A look at all versions of one key."""

    def __init__(self, client: Client, bucket: str, key: str, allowed: list[Entries]):
        self.client, self.bucket, self.key, self.complaints = client, bucket, key, []
        self.known = [entry.version for entries in allowed for entry in entries if entry.version]

    def get(self, id_: str | None) -> Response:
        return self.client.request("GET", f"/{self.bucket}/{encode_key(self.key)}", query=[("versionId", id_)] if id_ else [])

    def entry(self, id_: str, is_marker: bool) -> Entry:
        """What is listed, as it is read."""
        read = self.get(id_)
        is_shown = (read.headers.get("x-amz-delete-marker"), read.headers.get("x-amz-version-id")) == ("true", id_)
        if is_marker:
            if read.status != 405 or not is_shown:
                self.complaints.append(f"the marker {id_}: {read} {read.headers}")
            return Entry(id_, None)
        version = next((version for version in self.known if version.is_in(read)), None)
        if read.status != 200 or version is None:
            token = read.headers.get("x-amz-meta-token")
            self.complaints.append(f"the version {id_}: {read.status} {read.code}, {len(read.body)} bytes of {token}")
            return Entry(id_, Version(read.body, str(token)))
        if read.etag != version.etag or read.headers.get("x-amz-version-id", NULL) != id_:
            self.complaints.append(f"the version {id_}: {read.headers}")
        return Entry(id_, version)

    def absent(self, ids: set[str]) -> None:
        for id_ in ids:
            read = self.get(id_)
            # Where versions were never kept, there is no other one that it could be.
            if read.status != 404 or read.code not in ("NoSuchVersion", "NoSuchKey"):
                self.complaints.append(f"{id_} is not listed, and read: {read}")

    def current(self, found: Entries) -> None:
        """What the key is without a version id."""
        read, is_marker = self.get(None), bool(found) and found[0].version is None
        if found and not is_marker:
            is_right = read.status == 200 and found[0].version.is_in(read)
        else:
            is_right = (read.status, read.code) == (404, "NoSuchKey")
            is_right = is_right and (read.headers.get("x-amz-delete-marker") == "true") == is_marker
        if not is_right or (found and read.headers.get("x-amz-version-id", NULL) != found[0].id):
            self.complaints.append(f"it is {read.status} {read.headers}, and not {found[:1]}")


def list_versions(client: Client, bucket: str) -> dict[str, list[tuple[str, bool, bool]]]:
    """Per key, in their order: the id, whether it is a marker, whether the latest."""
    found, after = {}, []
    while True:
        answer = client.request("GET", f"/{bucket}", query=[("versions", ""), ("encoding-type", "url"), *after])
        for kind, text in re.findall(rb"<(Version|DeleteMarker)>(.*?)</\1>", answer.body, re.DOTALL):
            fields = {name: re.search(rb"<%b>([^<]*)</%b>" % (name, name), text).group(1).decode() for name in (b"Key", b"VersionId", b"IsLatest")}
            entry = (fields[b"VersionId"], kind == b"DeleteMarker", fields[b"IsLatest"] == "true")
            found.setdefault(unquote_plus(fields[b"Key"]), []).append(entry)
        if answer.field("IsTruncated") != "true":
            return found
        after = [("key-marker", unquote_plus(answer.field("NextKeyMarker"))), ("version-id-marker", answer.field("NextVersionIdMarker"))]


def list_keys(client: Client, bucket: str) -> set[str]:
    keys, token = set(), []
    while True:
        answer = client.request("GET", f"/{bucket}", query=[("list-type", "2"), *token])
        keys |= {key.decode() for key in re.findall(rb"<Key>([^<]*)</Key>", answer.body)}
        if answer.field("IsTruncated") != "true":
            return keys
        token = [("continuation-token", answer.field("NextContinuationToken"))]
