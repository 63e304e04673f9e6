"""One request and its answer: ASGI towards the application, which runs in the connection's task."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import trio

from gateway.asgi import CHECKED, RECEIVE_INTO, RECEIVED_INTO, Message, Scope
from gateway.http.body import Body, ChunkedBody, CutBody, SizedBody
from gateway.http.framing import Buffer, Framing
from gateway.http.head import Head, RefusedError
from gateway.http.source import Source, Stream, send_nowait
from gateway.http.waiting import Waiting
from gateway.limits import ENCRYPTED_MAX, RECEIVE_MAX, SEND_JOINED_MAX

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_ASGI = {"version": "3.0", "spec_version": "2.4"}


class ClientGoneError(OSError):
    """Nobody is left to send to. ASGI wants an OSError for this."""


@dataclass(frozen=True, slots=True)
class Place:
    """What is the same for all requests of a connection. client, server: address and port."""

    client: tuple[str, int]
    server: tuple[str, int]
    scheme: str
    state: Mapping[str, Any]


class Exchange:
    """``receive`` and ``send`` are ASGI's. Of one task, but that another may receive while it sends.

    begun  whether anything of the answer was sent
    lost   whether the client was found gone when something was sent
    """

    __slots__ = ("_body", "_expects", "_framing", "_head", "_over", "_source", "_start", "_stream", "_waiting", "begun",
                 "lost")  # fmt: skip

    def __init__(self, head: Head, source: Source, stream: Stream, waiting: Waiting) -> None:
        self._head, self._source, self._stream, self._waiting = head, source, stream, waiting
        self._body: Body = ChunkedBody(source) if head.length is None else SizedBody(source, head.length)
        self._expects = head.expects
        self._over = False
        self._start: Message | None = None
        self._framing: Framing | None = None
        self.begun = False
        self.lost = False

    def scope(self, place: Place) -> Scope:
        head = self._head
        path, _, query = head.target.partition(b"?")
        text = path.decode("ascii")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": head.version,
            "method": head.method,
            "scheme": place.scheme,
            "path": unquote(text) if "%" in text else text,
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": head.headers,
            "client": place.client,
            "server": place.server,
            "state": dict(place.state),
            "extensions": {RECEIVE_INTO: self.receive_into, RECEIVED_INTO: self.received_into, CHECKED: True},
        }

    @property
    def finished(self) -> bool:
        """Whether all of the answer was sent."""
        return self._framing is not None and self._framing.finished

    @property
    def keep_alive(self) -> bool:
        """Whether the connection can take the next request, once the answer is finished."""
        return self._framing is not None and self._framing.keep_alive

    @property
    def unread(self) -> bool:
        """Whether there may be more of the body to come."""
        return not self._body.ended

    async def receive(self) -> Message:
        if self._over:
            if not self.finished:
                await self._source.wait_ended()
            return {"type": "http.disconnect"}
        try:
            await self._go_on()
            data = await self._body.some(RECEIVE_MAX)
        except (EOFError, RefusedError):
            self._body = CutBody()
            return {"type": "http.disconnect"}
        self._over = self._body.ended
        return {"type": "http.request", "body": data, "more_body": not self._over}

    async def receive_into(self, view: memoryview) -> int:
        try:
            await self._go_on()
            return await self._body.into(view)
        except (EOFError, RefusedError) as error:
            self._body = CutBody()
            raise EOFError from error

    def received_into(self, view: memoryview) -> int:
        return 0 if self._expects else self._body.held_into(view)

    async def send(self, message: Message) -> None:
        """Raises: ClientGoneError; RuntimeError, ValueError for an application that breaks its word."""
        if message["type"] == "http.response.start" and self._start is None:
            self._start = message
        elif message["type"] == "http.response.body" and self._start is not None and not self.finished:
            await self._send_body(self._start, message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"{message['type']} cannot be sent now")

    async def _send_body(self, start: Message, body: Buffer, *, more: bool) -> None:
        head = b""
        if self._framing is None:
            # What is left of a body that the application did not want is not read to its end: the connection closes.
            keep_alive = self._head.keep_alive and self._body.ended and not self._waiting.closing
            framing = Framing(self._head.method, self._head.version, keep_alive=keep_alive)
            whole = None if more else len(body)
            head = framing.head(start["status"], start.get("headers", ()), whole, time.time())
            if self._expects and self._body.ended and not self._source.holding:
                # There was no body to wait for. Told so all the same, clients do not take this answer for a refusal.
                head = _CONTINUE + head
            self._expects = False
            self._framing = framing
        pieces = self._framing.body(body, more=more)
        self.begun = True
        if more:
            await trio.lowlevel.checkpoint()  # small pieces go to the kernel at once, and others want a turn
        await self._send((head, *pieces))

    async def _send(self, pieces: Sequence[Buffer]) -> None:
        size = sum(map(len, pieces))
        if not size:
            return
        if size <= SEND_JOINED_MAX:
            pieces = (b"".join(pieces),)  # one packet, also where TLS makes one of each piece
        try:
            sent = send_nowait(self._stream, pieces)
            if sent < size:
                await self._send_rest(pieces, sent)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.lost = True
            raise ClientGoneError from error

    async def _send_rest(self, pieces: Sequence[Buffer], sent: int) -> None:
        most = ENCRYPTED_MAX if isinstance(self._stream, trio.SSLStream) else max(map(len, pieces))
        for piece in pieces:
            for start in range(sent, len(piece), most):
                await self._stream.send_all(memoryview(piece)[start : start + most])
            sent = max(0, sent - len(piece))

    async def _go_on(self) -> None:
        """Tell a client that waits with its body to send it. Who is refused first is spared it."""
        if self._expects:
            self._expects = False
            if not self.begun and not self._source.holding:
                await self._send((_CONTINUE,))
