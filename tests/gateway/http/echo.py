"""An application that says what it was asked, and answers as bytes."""

import re
from dataclasses import dataclass, field
from typing import Any

from gateway.asgi import RECEIVE_INTO, RECEIVED_INTO


@dataclass
class Echo:
    """Answers every request with method, target and body, and keeps them in ``seen``.

    A path that begins with /unread is answered without taking the body, one with /into takes it by our extensions.
    """

    seen: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    headers: list[list[tuple[bytes, bytes]]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        self.headers.append(scope["headers"])
        body: bytes | None = b""
        if target.startswith(b"/into"):
            body = await _taken(scope["extensions"][RECEIVE_INTO], scope["extensions"][RECEIVED_INTO])
        elif not target.startswith(b"/unread"):
            body = await _received(receive)
        if body is None:
            self.seen.append((scope["method"], target, b"(cut)"))
            body = b"(cut)"
        else:
            self.seen.append((scope["method"], target, body))
        text = scope["method"].encode() + b" " + target + b" " + body
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-echo", b"1")]})
        await send({"type": "http.response.body", "body": text})


async def _received(receive: Any) -> bytes | None:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message["body"]
        if not message["more_body"]:
            return body


async def _taken(receive_into: Any, received_into: Any) -> bytes | None:
    body, room = b"", memoryview(bytearray(7))
    try:
        while count := received_into(room) or await receive_into(room):
            body += room[:count]
    except EOFError:
        return None
    return body


@dataclass(frozen=True)
class Answered:
    status: int
    headers: dict[str, str]
    body: bytes


def answers(data: bytes, methods: str = "") -> tuple[list[Answered], bytes]:
    """The whole answers in *data*, but for ``100 Continue``, and what is left. methods: those that were asked, if HEAD
    is among them, by their first letters."""
    found: list[Answered] = []
    while (split := data.find(b"\r\n\r\n")) >= 0:
        status_line, *lines = data[:split].decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        status = int(status_line.split(" ")[1])
        head_only = status == 100 or methods[len(found) : len(found) + 1] == "H"
        size = 0 if head_only else int(headers.get("content-length", 0))
        if len(data) < split + 4 + size:
            break
        if status != 100:
            found.append(Answered(status, headers, data[split + 4 : split + 4 + size]))
        data = data[split + 4 + size :]
    return found, data


def undated(data: bytes) -> bytes:
    return re.sub(rb"date: [^\r]*\r\n", b"", data)
