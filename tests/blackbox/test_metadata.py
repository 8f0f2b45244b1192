"""User metadata: any characters, any number of headers.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html#UserMetadata: values with other characters than US-ASCII come
back as encoded words (RFC 2047); names and values together have 2 KB.
"""

from __future__ import annotations

import itertools
import os
import string
from base64 import b64encode
from email.header import decode_header

import pytest

from conftest import BUCKET
from test_presigned import linked

# By what they are sent as: a character of a header is a byte here.
UTF_8 = ["ü", "ÄMÄZÕÑ S3", "日本語.txt", "😀", "a" * 200 + "é", "é" * 100, "日本" * 80, 'he said "ü"', "=?UTF-8?B?w7w=?= and ü", "tab\tü", "\u0085"]
AS_THEY_CAME = [b"plain", b"", b"=?UTF-8?B?w7w=?=", b"=?UTF-8?Q?=C3=BC?=", b"=?ISO-8859-1?Q?a=FCb?= b", b"\xfc", b"gr\xfc\xdfe", b"\xc3", b"\xed\xa0\x80"]


def on_the_wire(value: str | bytes) -> str:
    return (value.encode() if isinstance(value, str) else value).decode("latin-1")


def decoded(value: str) -> str:
    """By the standard library's reader; every word is one that RFC 2047 allows."""
    assert value.isascii() and all(len(word) <= 75 for word in value.split(" ")), value
    return "".join(text.decode(charset) if isinstance(text, bytes) else text for text, charset in decode_header(value))


def metadata(response) -> dict[str, str]:
    return {name.removeprefix("x-amz-meta-"): value for name, value in response.headers.items() if name.startswith("x-amz-meta-")}


def stored_in_every_way(client, key: str, headers: dict[str, str]) -> list[str]:
    """Keys of objects with these headers: by PUT, by an upload in parts, and copies of them, of which one was given them anew."""
    for number, size in enumerate((1, 200_000)):
        assert client.request("PUT", f"/{BUCKET}/{key}-{number}", os.urandom(size), headers=headers).status == 200
    upload = client.request("POST", f"/{BUCKET}/{key}-parts", query=[("uploads", "")], headers=headers).field("UploadId")
    part = client.put_part(BUCKET, f"{key}-parts", upload, 1, b"x")
    assert client.complete(BUCKET, f"{key}-parts", upload, [(1, part.etag)]).status == 200
    source = {"x-amz-copy-source": f"/{BUCKET}/{key}-parts"}
    assert client.request("PUT", f"/{BUCKET}/{key}-copy", headers=source).status == 200
    replaced = headers | {"x-amz-copy-source": f"/{BUCKET}/{key}-copy", "x-amz-metadata-directive": "REPLACE"}
    assert client.request("PUT", f"/{BUCKET}/{key}-copy", headers=replaced).status == 200
    client.put(BUCKET, f"{key}-bare", b"x")
    replaced["x-amz-copy-source"] = f"/{BUCKET}/{key}-bare"
    assert client.request("PUT", f"/{BUCKET}/{key}-given", headers=replaced).status == 200
    return [f"{key}-0", f"{key}-1", f"{key}-parts", f"{key}-copy", f"{key}-given"]


def test_unicode_comes_back_as_encoded_words(shared):
    client = shared.client()
    headers = {f"x-amz-meta-{number}": on_the_wire(value) for number, value in enumerate(UTF_8)}
    for key in stored_in_every_way(client, "unicode", headers):
        for read in (client.get(BUCKET, key), client.head(BUCKET, key)):
            assert "x-amz-missing-meta" not in read.headers
            kept = metadata(read)
            assert [decoded(kept[str(number)]) for number in range(len(UTF_8))] == UTF_8, key
    # As the user guide shows it.
    assert metadata(client.head(BUCKET, "unicode-0"))["0"] == f"=?UTF-8?B?{b64encode('ü'.encode()).decode()}?="


def test_everything_else_comes_back_as_it_came(shared):
    client = shared.client()
    sent = {f"x-amz-meta-{number}": on_the_wire(value) for number, value in enumerate(AS_THEY_CAME)}
    for key in stored_in_every_way(client, "bytes", sent):
        for read in (client.get(BUCKET, key), client.head(BUCKET, key)):
            assert metadata(read) == {str(number): on_the_wire(value) for number, value in enumerate(AS_THEY_CAME)}, key


def test_unicode_of_a_link(shared):
    """A query is UTF-8, percent-encoded."""
    client = shared.client()
    query = [(f"x-amz-meta-{number}", value) for number, value in enumerate(UTF_8[:-2])]
    assert client.exchange(linked(client, "PUT", query, key="linked-unicode", body=b"x")).status == 200
    kept = metadata(client.head(BUCKET, "linked-unicode"))
    assert [decoded(kept[str(number)]) for number in range(len(query))] == UTF_8[:-2]


def test_other_headers_in_unicode(shared):
    """RFC 6266 section 4 and RFC 8187: a file's name travels in a parameter of its own, which browsers read; an encoded word for the
    whole header would leave them without `attachment`. What is no UTF-8 stays as it came."""
    client = shared.client()
    for sent, expected in [
        ('attachment; filename="日本.txt"', "attachment; filename*=UTF-8''%E6%97%A5%E6%9C%AC.txt"),
        ("attachment; filename=\"ü.txt\"; filename*=UTF-8''%C3%BC.txt", "attachment; filename*=UTF-8''%C3%BC.txt"),
        ('inline; filename="a.txt"', 'inline; filename="a.txt"'),
    ]:
        for key in stored_in_every_way(client, "disposition", {"Content-Disposition": on_the_wire(sent)}):
            assert client.head(BUCKET, key).headers["content-disposition"] == expected
        link = linked(client, "GET", [("response-content-disposition", sent)], key="disposition-0")
        assert client.exchange(link).headers["content-disposition"] == expected
    latin = {"Content-Disposition": 'attachment; filename="\xfc.txt"', "Content-Language": "\xfc"}
    assert client.request("PUT", f"/{BUCKET}/latin", b"x", headers=latin).status == 200
    read = client.head(BUCKET, "latin")
    assert (read.headers["content-disposition"], read.headers["content-language"]) == (latin["Content-Disposition"], "\xfc")
    others = {"Content-Type": "text/plain; name=ü", "Content-Language": "ü", "Cache-Control": "ü", "Content-Encoding": "ü", "Expires": "ü"}
    client.request("PUT", f"/{BUCKET}/others", b"x", headers={name: on_the_wire(value) for name, value in others.items()})
    read = client.get(BUCKET, "others")
    assert all(value.isascii() for value in read.headers.values())
    assert read.headers["content-type"] == "text/plain; name*=UTF-8''%C3%BC" and decoded(read.headers["expires"]) == "ü"


def test_a_name_that_no_header_has_is_counted(server, client):
    """API_HeadObject, x-amz-missing-meta: "the number of metadata entries not returned". Only a POSIX program can have made such one."""
    client.put(BUCKET, "forged", b"x", x_amz_meta_good="1", x_amz_meta_bad="2")
    path = server.data / BUCKET / "forged"
    record = os.getxattr(path, "user.sluice.x")
    assert record.count(b"bad2") == 1
    os.setxattr(path, "user.sluice.x", record.replace(b"bad2", b"b d2"))
    read = client.head(BUCKET, "forged")
    assert (metadata(read), read.headers["x-amz-missing-meta"]) == ({"good": "1"}, "1")


NAMES = string.ascii_lowercase + string.digits + "-_.!#$%&'*+^`|~"


def names_of(count: int) -> list[str]:
    """The shortest that there are."""
    return ["".join(name) for size in (1, 2) for name in itertools.product(NAMES, repeat=size)][:count]


def fill(count: int) -> dict[str, str]:
    """2,048 bytes of names and values in so many headers."""
    names = names_of(count)
    rest = 2048 - sum(map(len, names))
    values = [rest // count + (number < rest % count) for number in range(count)]
    made = {f"x-amz-meta-{name}": "v" * size for name, size in zip(names, values)}
    assert sum(len(name) - 11 + len(value) for name, value in made.items()) == 2048
    return made


MOST = len(NAMES) + (2048 - len(NAMES)) // 2


@pytest.mark.parametrize("count", [1, 2, 64, 65, 92, 100, 200, 500, 1000, MOST])
def test_two_kilobytes_in_any_number_of_headers(shared, count):
    client, headers = shared.client(), fill(count)
    put = client.request("PUT", f"/{BUCKET}/many", b"x", headers=headers)
    assert put.status == 200, put
    assert metadata(client.head(BUCKET, "many")) == {name.removeprefix("x-amz-meta-"): value for name, value in headers.items()}
    assert client.request("PUT", f"/{BUCKET}/copied", headers={"x-amz-copy-source": f"/{BUCKET}/many"}).status == 200
    assert metadata(client.head(BUCKET, "copied")) == metadata(client.head(BUCKET, "many"))
    refused = client.request("PUT", f"/{BUCKET}/much", b"x", headers=headers | {"x-amz-meta-~~": "v"})
    assert (refused.status, refused.code) == (400, "MetadataTooLarge")
    # A header too many, or one that nobody signed, is noticed among a thousand.
    request = client.signed("PUT", f"/{BUCKET}/many", b"x", headers=headers)
    request.headers["x-amz-meta-~~"] = "v"
    assert client.exchange(request).code == "AccessDenied"
    changed = client.signed("PUT", f"/{BUCKET}/many", b"x", headers=headers)
    changed.headers[next(reversed(headers))] += "w"
    assert client.exchange(changed).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("count", [92, 500, MOST])
def test_two_kilobytes_in_a_link(shared, count):
    client, query = shared.client(), list(fill(count).items())
    put = client.exchange(linked(client, "PUT", query, key="linked-many", body=b"x"))
    assert put.status == 200, put
    assert metadata(client.head(BUCKET, "linked-many")) == {name.removeprefix("x-amz-meta-"): value for name, value in query}


def test_a_name_on_many_lines_is_one_list(shared):
    """RFC 9110 section 5.3."""
    client = shared.client()
    assert client.request("PUT", f"/{BUCKET}/lines", b"x", headers={"x-amz-meta-a": [str(n) for n in range(300)], "x-amz-meta-b": "1"}).status == 200
    assert metadata(client.head(BUCKET, "lines")) == {"a": ",".join(map(str, range(300))), "b": "1"}
