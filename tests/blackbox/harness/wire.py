"""A client of raw sockets: it sends any bytes, in any pieces, and ends a connection in any way."""

from __future__ import annotations

import re
import socket
import ssl
import struct
from dataclasses import dataclass

from harness.sigv4 import Credentials, Request, encode_key, presign, sign

TIMEOUT_S = 30


class ConnectionGone(Exception):
    """The server ended the connection where an answer was due."""


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str | None:
        """S3's error code, from the XML."""
        found = re.search(rb"<Code>([^<]*)</Code>", self.body)
        return found.group(1).decode() if found else None

    @property
    def etag(self) -> str:
        return self.headers.get("etag", "")

    def field(self, name: str) -> str | None:
        found = re.search(rb"<%b>([^<]*)</%b>" % (name.encode(), name.encode()), self.body)
        return found.group(1).decode() if found else None

    def __str__(self) -> str:
        return f"{self.status} {self.code or ''} {self.body[:300]!r}"


class Connection:
    """One connection. Closing it is a FIN; `reset` is a RST."""

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
        source: str | None = None,
    ):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if source:
            self.socket.bind((source, 0))
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.buffer = b""

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def close(self) -> None:
        self.socket.close()

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """SO_LINGER with no time makes close send a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _fill(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            return False
        self.buffer += data
        return bool(data)

    def _line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            if not self._fill():
                raise ConnectionGone(self.buffer[:200])
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def _take(self, count: int) -> bytes:
        while len(self.buffer) < count:
            if not self._fill():
                raise ConnectionGone(f"{len(self.buffer)} of {count} bytes")
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def response(self, method: str = "GET") -> Response:
        """The next answer; 1xx answers are returned like others."""
        status = int(self._line().split(b" ")[1])
        headers: dict[str, str] = {}
        while line := self._line():
            name, _, value = line.partition(b":")
            headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
        if method == "HEAD" or status in (204, 304) or status < 200:
            return Response(status, headers, b"")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return Response(status, headers, self._chunked())
        if "content-length" in headers:
            return Response(status, headers, self._take(int(headers["content-length"])))
        while self._fill():
            pass
        body, self.buffer = self.buffer, b""
        return Response(status, headers, body)

    def _chunked(self) -> bytes:
        body = b""
        while size := int(self._line().split(b";")[0], 16):
            body += self._take(size)
            self._line()
        while self._line():
            pass
        return body

    def is_closed_by_peer(self, timeout_s: float = 10) -> bool:
        """Whether the peer ends the connection within the time, without sending more."""
        self.socket.settimeout(timeout_s)
        try:
            return self.buffer == b"" and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False


class Client:
    """Signed requests to one server, a connection each, so that no test meets another's leftovers."""

    def __init__(self, port: int, credentials: Credentials, tls: ssl.SSLContext | None = None):
        self.port, self.credentials, self.tls = port, credentials, tls

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def connect(self, **options) -> Connection:
        return Connection(self.port, tls=self.tls, **options)

    def exchange(self, request: Request | bytes) -> Response:
        data = request if isinstance(request, bytes) else request.encode()
        method = data.split(b" ", 1)[0].decode("latin-1")
        with self.connect() as connection:
            try:
                connection.send(data)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the server may answer and close before it has read all
            return connection.response(method)

    def signed(self, method: str, target: str, body: bytes = b"", query=(), headers=None, payload_hash=None) -> Request:
        request = Request(method, target, list(query), dict(headers or {}), body)
        if body or method in ("PUT", "POST"):
            request.headers.setdefault("Content-Length", str(len(body)))
        sign(request, self.credentials, self.host, payload_hash)
        return request

    def request(self, method: str, target: str, body: bytes = b"", query=(), headers=None, payload_hash=None) -> Response:
        return self.exchange(self.signed(method, target, body, query, headers, payload_hash))

    def presigned(self, method: str, target: str, expires_s: int = 300, body: bytes = b"", headers=None) -> Request:
        request = Request(method, target, [], dict(headers or {}), body)
        presign(request, self.credentials, self.host, expires_s)
        if body or method in ("PUT", "POST"):
            request.headers["Content-Length"] = str(len(body))
        return request

    # The verbs that nearly every test needs; keys come decoded.

    def put(self, bucket: str, key: str, body: bytes = b"", **headers: str) -> Response:
        return self.request("PUT", f"/{bucket}/{encode_key(key)}", body, headers=_names(headers))

    def get(self, bucket: str, key: str, **headers: str) -> Response:
        return self.request("GET", f"/{bucket}/{encode_key(key)}", headers=_names(headers))

    def head(self, bucket: str, key: str, **headers: str) -> Response:
        return self.request("HEAD", f"/{bucket}/{encode_key(key)}", headers=_names(headers))

    def delete(self, bucket: str, key: str, **headers: str) -> Response:
        return self.request("DELETE", f"/{bucket}/{encode_key(key)}", headers=_names(headers))

    def create_bucket(self, bucket: str) -> None:
        response = self.request("PUT", f"/{bucket}")
        assert response.status == 200, response

    def start_upload(self, bucket: str, key: str) -> str:
        response = self.request("POST", f"/{bucket}/{encode_key(key)}", query=[("uploads", "")])
        assert response.status == 200, response
        return response.field("UploadId")

    def put_part(self, bucket: str, key: str, upload: str, number: int, body: bytes) -> Response:
        query = [("partNumber", str(number)), ("uploadId", upload)]
        return self.request("PUT", f"/{bucket}/{encode_key(key)}", body, query=query)

    def complete(self, bucket: str, key: str, upload: str, parts: list[tuple[int, str]], headers=None) -> Response:
        body = complete_document(parts)
        return self.request("POST", f"/{bucket}/{encode_key(key)}", body, query=[("uploadId", upload)], headers=headers)


def complete_document(parts: list[tuple[int, str]]) -> bytes:
    listed = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>" for n, etag in parts)
    return f'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{listed}</CompleteMultipartUpload>'.encode()


def _names(headers: dict[str, str]) -> dict[str, str]:
    """`if_none_match` is how Python spells `if-none-match`."""
    return {name.replace("_", "-"): value for name, value in headers.items()}
