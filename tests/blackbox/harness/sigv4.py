"""Signature Version 4, written from AWS' documentation, not from a client library.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html and the pages on query strings and on
`aws-chunked` beside it. Every part of a signature can be bent by the caller, so that tests can send what no client sends.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import itertools
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"
STREAMING = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def encode_key(key: str | bytes) -> str:
    """A key as it stands in a path: all but unreserved characters and `/` encoded."""
    return quote(key, safe="/-_.~")


def encode_query(text: str) -> str:
    return quote(text, safe="-_.~")


def crc32_base64(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def md5_base64(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


@dataclass
class Credentials:
    """Who signs, and for what scope."""

    access_key: str
    secret_key: str
    region: str = "us-east-1"
    service: str = "s3"

    def scope(self, date: str) -> str:
        return f"{date[:8]}/{self.region}/{self.service}/aws4_request"

    def signing_key(self, date: str) -> bytes:
        key = ("AWS4" + self.secret_key).encode()
        for part in (date[:8], self.region, self.service, "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return key

    def sign(self, date: str, text: str) -> str:
        return hmac.new(self.signing_key(date), text.encode(), hashlib.sha256).hexdigest()


@dataclass
class Request:
    """A request before it is bytes. `target` is the encoded path; `query` has decoded pairs. A header whose value is a list comes
    once for each of them. A character of a header is a byte."""

    method: str
    target: str
    query: list[tuple[str, str]] = field(default_factory=list)
    headers: dict[str, str | list[str]] = field(default_factory=dict)
    body: bytes = b""

    def canonical(self, signed: list[str], payload_hash: str, query: list[tuple[str, str]]) -> str:
        pairs = sorted((encode_query(k), encode_query(v)) for k, v in query)
        joined = {name.lower(): ",".join(line.strip(" \t") for line in _lines(value)) for name, value in self.headers.items()}
        lower = {name: re.sub(" +", " ", value) for name, value in joined.items()}
        return "\n".join(
            [
                self.method,
                self.target,
                "&".join(f"{k}={v}" for k, v in pairs),
                "".join(f"{name}:{lower.get(name, '')}\n" for name in signed),
                ";".join(signed),
                payload_hash,
            ]
        )

    def query_text(self) -> str:
        return "&".join(f"{encode_query(k)}={encode_query(v)}" if v != "" else encode_query(k) for k, v in self.query)

    def head(self) -> bytes:
        target = self.target + ("?" + self.query_text() if self.query else "")
        lines = [f"{self.method} {target} HTTP/1.1"]
        lines += [f"{name}: {line}" for name, value in self.headers.items() for line in _lines(value)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def encode(self) -> bytes:
        return self.head() + self.body


def _lines(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]


def amz_date(offset_s: int = 0) -> str:
    now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=offset_s)
    return now.strftime("%Y%m%dT%H%M%SZ")


def string_to_sign(credentials: Credentials, date: str, canonical: str) -> str:
    return "\n".join(["AWS4-HMAC-SHA256", date, credentials.scope(date), sha256_hex(canonical.encode("latin-1"))])


def sign(
    request: Request,
    credentials: Credentials,
    host: str,
    payload_hash: str | None = None,
    date: str | None = None,
    leave_out: tuple[str, ...] = (),
) -> str:
    """Signs by header, in place; returns the signature, which seeds a chunked body. `leave_out` names unsigned headers."""
    date = date or amz_date()
    request.headers.setdefault("Host", host)
    request.headers["x-amz-date"] = date
    request.headers["x-amz-content-sha256"] = payload_hash or sha256_hex(request.body)
    unsigned = {"authorization", "content-length", "expect", "connection", "transfer-encoding", "user-agent", *leave_out}
    signed = sorted(name.lower() for name in request.headers if name.lower() not in unsigned)
    canonical = request.canonical(signed, request.headers["x-amz-content-sha256"], request.query)
    signature = credentials.sign(date, string_to_sign(credentials, date, canonical))
    request.headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{credentials.scope(date)}, "
        f"SignedHeaders={';'.join(signed)}, Signature={signature}"
    )
    return signature


def presign(request: Request, credentials: Credentials, host: str, expires_s: int = 300, date: str | None = None) -> str:
    """Signs by query, in place, with the host and every header set so far; returns the signature."""
    date = date or amz_date()
    request.headers.setdefault("Host", host)
    signed = sorted(name.lower() for name in request.headers if name.lower() not in ("content-length", "expect", "connection"))
    request.query += [
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Credential", f"{credentials.access_key}/{credentials.scope(date)}"),
        ("X-Amz-Date", date),
        ("X-Amz-Expires", str(expires_s)),
        ("X-Amz-SignedHeaders", ";".join(signed)),
    ]
    canonical = request.canonical(signed, UNSIGNED, request.query)
    signature = credentials.sign(date, string_to_sign(credentials, date, canonical))
    request.query.append(("X-Amz-Signature", signature))
    return signature


@dataclass
class Chunk:
    """One piece of an `aws-chunked` body as it goes out, so that a test can bend any of it."""

    data: bytes
    signature: str | None

    def encode(self) -> bytes:
        extension = f";chunk-signature={self.signature}" if self.signature else ""
        # The last chunk of the signed forms has no data and is followed by an empty line or by the trailer.
        tail = b"\r\n" if self.data else b""
        return f"{len(self.data):x}{extension}\r\n".encode() + self.data + tail


def cut(data: bytes, size: int | Sequence[int]) -> list[bytes]:
    """`data` in pieces of `size`, or of several sizes in turn, and then an empty one."""
    sizes, pieces, at = itertools.cycle([size] if isinstance(size, int) else size), [], 0
    while at < len(data):
        pieces.append(data[at : at + next(sizes)])
        at += len(pieces[-1])
    return [*pieces, b""]


def sign_chunks(data: bytes, size: int | Sequence[int], credentials: Credentials, date: str, seed: str) -> list[Chunk]:
    """`data` in signed chunks of `size`, each signature chained to the one before, the empty last chunk included."""
    chunks, previous = [], seed
    for piece in cut(data, size):
        text = "\n".join(
            ["AWS4-HMAC-SHA256-PAYLOAD", date, credentials.scope(date), previous, EMPTY_SHA256, sha256_hex(piece)]
        )
        previous = credentials.sign(date, text)
        chunks.append(Chunk(piece, previous))
    return chunks


def plain_chunks(data: bytes, size: int | Sequence[int]) -> list[Chunk]:
    return [Chunk(piece, None) for piece in cut(data, size)]


def trailer_signature(trailer: str, credentials: Credentials, date: str, previous: str) -> str:
    """Over the trailer's lines, each ended by a line feed alone."""
    text = "\n".join(
        ["AWS4-HMAC-SHA256-TRAILER", date, credentials.scope(date), previous, sha256_hex((trailer + "\n").encode())]
    )
    return credentials.sign(date, text)


def streaming_put(
    target: str,
    data: bytes,
    credentials: Credentials,
    host: str,
    mode: str,
    size: int | Sequence[int] = 64 * 1024,
    headers: dict[str, str] | None = None,
    bend=lambda chunks: chunks,
    trailer: str | None = None,
    trailer_signed: str | None = None,
    query: Sequence[tuple[str, str]] = (),
) -> Request:
    """A PUT in one of the four `aws-chunked` forms. `bend` may replace chunks after they were signed."""
    request = Request("PUT", target, query=list(query), headers=dict(headers or {}))
    date = amz_date()
    request.headers["Content-Encoding"] = "aws-chunked"
    request.headers["x-amz-decoded-content-length"] = str(len(data))
    with_trailer = mode in (STREAMING_TRAILER, STREAMING_UNSIGNED_TRAILER)
    if with_trailer:
        request.headers.setdefault("x-amz-trailer", "x-amz-checksum-crc32")
    seed = sign(request, credentials, host, mode, date)
    signed = mode in (STREAMING, STREAMING_TRAILER)
    chunks = sign_chunks(data, size, credentials, date, seed) if signed else plain_chunks(data, size)
    last = chunks[-1].signature
    body = b"".join(chunk.encode() for chunk in bend(chunks))
    if with_trailer:
        line = trailer if trailer is not None else f"x-amz-checksum-crc32:{crc32_base64(data)}"
        body += line.encode() + b"\r\n"
        if mode == STREAMING_TRAILER:
            proof = trailer_signed or trailer_signature(line, credentials, date, last)
            body += f"x-amz-trailer-signature:{proof}\r\n".encode()
    request.body = body + b"\r\n"
    request.headers["Content-Length"] = str(len(request.body))
    return request
