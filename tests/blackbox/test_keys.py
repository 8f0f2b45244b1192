"""Every legal key is storable, and listings are S3's: order of bytes, pages, prefixes, delimiters, against a model."""

from __future__ import annotations

import random
import re
import threading
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

from conftest import BUCKET
from harness.sigv4 import encode_key

NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"

HARD_KEYS = [
    "a", "a/b", "a/b/c", "a//b", "a/", "a/b/", "/", "//", "/a", "a/.", "a/..", ".", "..", "../a", "a/../b", "./a",
    "a-b", "a.b", "a/b-c", "a b", " a", "a ", "a\tb", "a+b", "a%b", "a%2Fb", "%", "a&b", "a<b>", "a\"b'", "a?b", "a#b", "a;b",
    "a\\b", "a:b", "a|b", "a*b", "~a", "$a", "(a)", "[a]", "{a}", "a=b", "a,b", "a@b", "a!b", "a^b`",
    "ü", "u\u0308", "日本語/キー", "🎉", "\u200b", "\ufeffa", "a\u2028b", "\x7f", "a\nb", "a\rb",
    ".sluice", ".sluice/x", "a/.sluice", "uploads", "health", "con", "aux", "nul", ".hidden", "a/.hidden/b",
    "n" * 255, "n" * 256, "n" * 1024, "ü" * 127 + "n", "ü" * 128, "d/" * 500 + "x", "d/" * 512, "/" * 1024,
    "n" * 255 + "/" + "m" * 255, "n" * 300 + "/" + "m" * 300, "x/" + "n" * 255 + "/y",
]  # fmt: skip


@pytest.mark.parametrize("key", HARD_KEYS, ids=lambda key: f"{key[:20]!r}-{len(key)}")
def test_a_hard_key(shared, key):
    client, body = shared.client(), f"body of {key}".encode()
    for written in (body, body + b"!", b"", body):
        assert client.put(BUCKET, key, written).status == 200
        assert client.get(BUCKET, key).body == written
    assert key in list_all(client, prefix=key)
    assert client.head(BUCKET, key).headers["content-length"] == str(len(body))
    assert client.delete(BUCKET, key).status == 204
    assert client.get(BUCKET, key).status == 404
    assert key not in list_all(client)


def test_hard_keys_are_copied(shared):
    client = shared.client()
    for number, key in enumerate(HARD_KEYS):
        client.put(BUCKET, "original", b"%d" % number)
        for source, target in (("original", key), (key, "copied")):
            headers = {"x-amz-copy-source": f"/{BUCKET}/{encode_key(source)}"}
            response = client.request("PUT", f"/{BUCKET}/{encode_key(target)}", headers=headers)
            assert response.status == 200, (source, target, response)
        assert client.get(BUCKET, "copied").body == b"%d" % number, key
        client.delete(BUCKET, key)


def test_hard_keys_beside_each_other(server, client):
    """All at once, in two orders, each with its own bytes; then they go, and nothing is left behind."""
    for order in (HARD_KEYS, HARD_KEYS[::-1]):
        for n, key in enumerate(order):
            response = client.put(BUCKET, key, b"%d" % n)
            assert response.status == 200, (key, response)
        for n, key in enumerate(order):
            assert client.get(BUCKET, key).body == b"%d" % n, key
        assert list_all(client) == sorted(HARD_KEYS, key=str.encode)
        for key in order:
            assert client.delete(BUCKET, key).status == 204
        assert list_all(client) == []
        assert list((server.data / BUCKET).iterdir()) == []


def test_an_object_beside_its_own_children(client):
    for first, second in (("p", "p/q"), ("r/s", "r")):
        client.put(BUCKET, first, b"first")
        client.put(BUCKET, second, b"second")
        assert (client.get(BUCKET, first).body, client.get(BUCKET, second).body) == (b"first", b"second")
        client.put(BUCKET, first, b"third")
        assert (client.get(BUCKET, first).body, client.get(BUCKET, second).body) == (b"third", b"second")
        client.delete(BUCKET, second)
        assert (client.get(BUCKET, first).body, client.get(BUCKET, second).status) == (b"third", 404)
        client.delete(BUCKET, first)
    assert list_all(client) == []


def test_a_directory_marker_is_an_object_of_its_own(server, client):
    client.put(BUCKET, "dir/", b"")
    assert (server.data / BUCKET / "dir").is_dir()
    assert client.head(BUCKET, "dir/").status == 200 and client.head(BUCKET, "dir").status == 404
    client.put(BUCKET, "dir/x", b"x")
    client.put(BUCKET, "dir/", b"a body")
    assert client.get(BUCKET, "dir/").body == b"a body"
    assert list_all(client) == ["dir/", "dir/x"]
    client.delete(BUCKET, "dir/")
    assert list_all(client) == ["dir/x"]


# Listing against a model.

MODEL_KEYS = sorted(
    {
        *("a", "a-b", "a.b", "a/b", "a/b-c", "a/b.c", "a/b/c", "a0", "ab", "b/", "b/c", "b-", "b.", "photos/2026/01/a.jpg"),
        *("photos/2026/01/b.jpg", "photos/2026/02/a.jpg", "photos/index", "photos", "ü/1", "ü/2", "z z", "z+z", "z&z", "z/é"),
        *(f"many/{n:03}" for n in range(40)),
        *(f"deep/{n}/{m}/file" for n in range(5) for m in range(3)),
        *(f"deep/{n}-{m}" for n in range(3) for m in range(3)),
    },
    key=str.encode,
)


def model(keys, prefix="", delimiter="", after=""):
    """What S3 lists: entries (key or common prefix) in order of bytes, each once, after the marker."""
    entries, seen = [], set()
    for key in keys:
        if not key.startswith(prefix):
            continue
        rest = key[len(prefix) :]
        is_group = bool(delimiter) and delimiter in rest
        entry = prefix + rest.split(delimiter, 1)[0] + delimiter if is_group else key
        if entry in seen or entry.encode() <= after.encode() or (is_group and after.startswith(entry)):
            continue
        seen.add(entry)
        entries.append((entry, is_group))
    return entries


@pytest.fixture(scope="module")
def listed(shared):
    client = shared.client()
    client.create_bucket("listed")
    for key in random.Random(1).sample(MODEL_KEYS, len(MODEL_KEYS)):
        assert client.put("listed", key, b"x").status == 200
    return client


def page(client, bucket="listed", **query):
    """One page: entries in document order merged to the order of bytes, and the fields at the top."""
    query = [(name.replace("_", "-"), str(value)) for name, value in query.items()]
    response = client.request("GET", f"/{bucket}", query=query)
    assert response.status == 200, response
    root = ElementTree.fromstring(response.body)
    decode = unquote if root.findtext(NAMESPACE + "EncodingType") == "url" else str
    keys = [decode(node.findtext(NAMESPACE + "Key")) for node in root.findall(NAMESPACE + "Contents")]
    groups = [decode(node.findtext(NAMESPACE + "Prefix")) for node in root.findall(NAMESPACE + "CommonPrefixes")]
    assert keys == sorted(keys, key=str.encode) and groups == sorted(groups, key=str.encode)
    entries = sorted([(key, False) for key in keys] + [(group, True) for group in groups], key=lambda entry: entry[0].encode())
    return entries, {node.tag.removeprefix(NAMESPACE): node.text for node in root if len(node) == 0}


def list_all(client, prefix="") -> list[str]:
    found, token = [], {}
    while True:
        entries, fields = page(client, BUCKET, list_type=2, encoding_type="url", prefix=prefix, **token)
        found += [key for key, _ in entries]
        if fields["IsTruncated"] != "true":
            return found
        token = {"continuation_token": fields["NextContinuationToken"]}


PREFIXES = ["", "a", "a/", "a/b", "b", "b/", "photos", "photos/", "photos/2026/", "many/0", "deep/", "deep/1", "ü/", "z", "none"]


@pytest.mark.parametrize("delimiter", ["", "/", "-", "/0", "e"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_one_page_is_the_model(listed, prefix, delimiter):
    expected = model(MODEL_KEYS, prefix, delimiter)
    entries, fields = page(listed, list_type=2, prefix=prefix, delimiter=delimiter)
    assert entries == expected
    assert fields["KeyCount"] == str(len(expected)) and fields["IsTruncated"] == "false"
    assert page(listed, prefix=prefix, delimiter=delimiter)[0] == expected
    assert page(listed, list_type=2, prefix=prefix, delimiter=delimiter, encoding_type="url")[0] == expected


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("prefix, delimiter", [("", ""), ("", "/"), ("deep/", "/"), ("photos/", "/"), ("a", "-"), ("many/", "")])
def test_pages_join_to_the_model(listed, prefix, delimiter, size):
    expected = model(MODEL_KEYS, prefix, delimiter)
    for version in (1, 2):
        found, token = [], {}
        while True:
            extra = {"list_type": 2} if version == 2 else {}
            entries, fields = page(listed, prefix=prefix, delimiter=delimiter, max_keys=size, **extra, **token)
            assert len(entries) <= size
            found += entries
            if fields["IsTruncated"] != "true":
                break
            assert len(entries) == size, "a truncated page is full"
            if version == 2:
                token = {"continuation_token": fields["NextContinuationToken"]}
            else:
                token = {"marker": fields.get("NextMarker") or entries[-1][0]}
        assert found == expected


@pytest.mark.parametrize("after", ["", "a", "a/b", "a/b/", "a/zzz", "b", "deep/1", "deep/1/", "deep/1/1/file", "photos/2026", "photos/2026/01/a.jpg", "zzz"])
@pytest.mark.parametrize("delimiter", ["", "/"])
def test_start_after_and_marker(listed, after, delimiter):
    expected = model(MODEL_KEYS, "", delimiter, after)
    assert page(listed, list_type=2, start_after=after, delimiter=delimiter)[0] == expected
    assert page(listed, marker=after, delimiter=delimiter)[0] == expected


def test_bounds_of_a_page(listed):
    entries, fields = page(listed, list_type=2, max_keys=0)
    assert entries == [] and fields["IsTruncated"] == "false"
    assert page(listed, list_type=2, max_keys=5000)[1]["MaxKeys"] in ("1000", "5000")
    for query in ([("max-keys", "-1")], [("max-keys", "x")], [("continuation-token", "not a token!")], [("encoding-type", "none")]):
        response = listed.request("GET", "/listed", query=[("list-type", "2"), *query])
        assert (response.status, response.code) == (400, "InvalidArgument"), (query, response)


def test_entries_say_what_head_says(listed):
    body = listed.request("GET", "/listed", query=[("list-type", "2"), ("fetch-owner", "true"), ("prefix", "a/b")]).body.decode()
    for key, entry in re.findall(r"<Contents>.*?<Key>([^<]*)</Key>(.*?)</Contents>", body):
        head = listed.head("listed", key)
        assert head.etag.strip('"') in entry and f"<Size>{head.headers['content-length']}</Size>" in entry
        assert "<StorageClass>STANDARD</StorageClass>" in entry and "<Owner>" in entry and "<LastModified>" in entry


def test_versions_of_an_unversioned_bucket(listed):
    response = listed.request("GET", "/listed", query=[("versions", ""), ("prefix", "a/")])
    assert response.body.count(b"<Version>") == len(model(MODEL_KEYS, "a/")) and b"<VersionId>null</VersionId>" in response.body
    assert b"<IsLatest>true</IsLatest>" in response.body


def test_a_listing_follows_every_change(client):
    chooser, present = random.Random(7), set()
    names = [f"{a}{b}" for a in ("", "x/", "x/y/", "x-") for b in ("1", "2", "3", "4/5")]
    for _ in range(300):
        key = chooser.choice(names)
        if chooser.random() < 0.5:
            assert client.put(BUCKET, key, b"x").status == 200
            present.add(key)
        else:
            assert client.delete(BUCKET, key).status == 204
            present.discard(key)
        assert list_all(client) == sorted(present, key=str.encode)


def test_a_listing_has_every_key_while_others_come_below_them(server, client):
    """`a` stays an object while its file becomes a directory, because `a/b` is put: no listing may be without it."""
    names = [f"k{number:03}" for number in range(300)]
    for name in names:
        assert client.put(BUCKET, name, b"").status == 200
    page, done, missing, pages = [("list-type", "2"), ("delimiter", "/")], threading.Event(), [], 0

    def put_below():
        writer = server.client()
        for name in names:
            assert writer.put(BUCKET, f"{name}/b", b"").status == 200
        done.set()

    thread = threading.Thread(target=put_below)
    thread.start()
    while not done.is_set() and thread.is_alive():
        listed = re.findall(rb"<Key>([^<]*)</Key>", client.request("GET", f"/{BUCKET}", query=page).body)
        missing += sorted(set(names) - {name.decode() for name in listed})
        pages += 1
    thread.join()
    assert done.is_set() and pages > 10
    assert missing == []


def test_a_listing_has_a_marker_while_it_changes_between_empty_and_not(server, client):
    """`a/` is a record of the directory or a body inside it; a PUT changes one for the other, and it is always there."""
    names = [f"d{number:02}/" for number in range(40)]
    for name in names:
        assert client.put(BUCKET, name, b"").status == 200
    done, missing, pages = threading.Event(), [], 0

    def put_again():
        writer = server.client()
        # Listings take long behind a FUSE program.
        for turn in range(20):
            if turn >= 2 and pages > 10:
                break
            for body in (b"body", b""):
                for name in names:
                    assert writer.put(BUCKET, name, body).status == 200
        done.set()

    thread = threading.Thread(target=put_again)
    thread.start()
    while not done.is_set() and thread.is_alive():
        missing += sorted(set(names) - set(list_all(client)))
        pages += 1
    thread.join()
    assert done.is_set() and pages > 10
    assert missing == []
