"""A client of S3 that costs little: one socket, requests that it signs itself (SigV4, the body unsigned)."""

import hashlib
import hmac
import re
import socket
import time
from base64 import b64encode
from functools import cache
from http import HTTPStatus
from urllib.parse import quote

from tests.doors import REGION, Doors

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_PIECE = 256 * 1024


class Refused(Exception):
    """An answer that is no 2xx."""


class S3:
    """One connection, one request at a time."""

    def __init__(self, doors: Doors) -> None:
        self._access, self._secret = doors.credentials
        self._host = f"127.0.0.1:{doors.port}"
        self._socket = socket.create_connection(("127.0.0.1", doors.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._socket.close()

    def ask(self, method: str, path: str, body: bytes = b"", query: str = "") -> bytes:
        """*path* unescaped, *query* escaped and in order. Returns the body of the answer. Raises: Refused."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        path = quote(path, safe="/-._~")
        scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
        canonical = (
            f"{method}\n{path}\n{query}\nhost:{self._host}\nx-amz-content-sha256:UNSIGNED-PAYLOAD\nx-amz-date:{stamp}\n\n"
            "host;x-amz-content-sha256;x-amz-date\nUNSIGNED-PAYLOAD"
        )
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(_key(self._secret, stamp[:8]), text.encode(), "sha256").hex()
        target = f"{path}?{query}" if query else path
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: {self._host}\r\nx-amz-date: {stamp}\r\n"
            f"x-amz-content-sha256: UNSIGNED-PAYLOAD\r\nContent-Length: {len(body)}\r\n{_md5(method, body)}"
            f"Authorization: AWS4-HMAC-SHA256 Credential={self._access}/{scope}, "
            f"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={signature}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + body)
        return self._answer()

    def _answer(self) -> bytes:
        found = b""
        while (end := found.find(b"\r\n\r\n")) < 0:
            found += self._more()
        status, body = int(found[9:12]), found[end + 4 :]
        if (length := _LENGTH.search(found[:end])) is not None:
            while len(body) < int(length[1]):
                body += self._more()
        elif status != HTTPStatus.NO_CONTENT:
            while not body.endswith(b"0\r\n\r\n"):
                body += self._more()
            body = _unchunked(body)
        if status // 100 != 2:
            raise Refused(f"{status} {body[:500]!r}")
        return body

    def _more(self) -> bytes:
        data = self._socket.recv(_PIECE)
        if not data:
            raise Refused("the connection was closed")
        return data


def _md5(method: str, body: bytes) -> str:
    """Of a list of keys to delete S3 demands one."""
    return (
        f"Content-MD5: {b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()}\r\n"
        if method == "POST"
        else ""
    )


@cache
def _key(secret: str, day: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, REGION, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _unchunked(body: bytes) -> bytes:
    found = []
    while True:
        size, _, body = body.partition(b"\r\n")
        count = int(size, 16)
        if not count:
            return b"".join(found)
        found.append(body[:count])
        body = body[count + 2 :]
