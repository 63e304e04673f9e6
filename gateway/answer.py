"""Sending the one answer of a request over ASGI."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import trio

from gateway.asgi import RECEIVE_INTO, RECEIVED_INTO, Message, Receive, ReceivedInto, ReceiveInto, Send
from gateway.limits import REQUEST_DRAIN_MAX, REQUEST_DRAIN_S
from gateway.request import RequestIds
from gateway.response import Buffer, Response

_BODILESS = (204, 304)
_WHOLE = (bytes, bytearray, memoryview)


class ConnectionLostError(Exception):
    """The client is gone: nobody is left to answer. Handlers let it pass."""


class Incoming:
    """ASGI's *receive*, which remembers whether the body was asked for, and whether the request has ended.

    into, at_once  RECEIVE_INTO and RECEIVED_INTO, if the server has them
    """

    def __init__(self, receive: Receive, extensions: Mapping[str, Any]) -> None:
        self._receive = receive
        self._receive_into: ReceiveInto | None = extensions.get(RECEIVE_INTO)
        self._received_into: ReceivedInto | None = extensions.get(RECEIVED_INTO)
        self.into = None if self._receive_into is None else self._into
        self.at_once = None if self._received_into is None else self._at_once
        self.begun = False
        self.ended = False
        self.received_bytes = 0

    async def __call__(self) -> Message:
        self.begun = True
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self.ended = True
        self.received_bytes += len(message.get("body", b""))
        return message

    async def _into(self, view: memoryview) -> int:
        assert self._receive_into is not None
        self.begun = True
        count = await self._receive_into(view)
        self.ended = not count
        self.received_bytes += count
        return count

    def _at_once(self, view: memoryview) -> int:
        assert self._received_into is not None
        self.begun = True
        count = self._received_into(view)
        self.received_bytes += count
        return count

    async def drain(self) -> None:
        """Take a little of a body that nobody read. A connection that is closed on unread bytes is reset, and the reset
        can overtake the answer; a client that sends much more than this must look for the answer while it sends."""
        left = REQUEST_DRAIN_MAX
        with trio.move_on_after(REQUEST_DRAIN_S):
            while not self.ended and left > 0:
                message = await self()
                left -= len(message.get("body", b""))

    async def wait_disconnected(self) -> None:
        """Return when the client is gone; what it still sends is dropped."""
        while (await self())["type"] != "http.disconnect":
            pass


class Answer:
    """Sends one response; of one task. ``status`` is None until then."""

    def __init__(self, method: str, ids: RequestIds, incoming: Incoming, send: Send) -> None:
        self._head_only = method == "HEAD"
        self.ids = ids
        self._incoming = incoming
        self._send = send
        self.status: int | None = None
        self.sent_bytes = 0

    def check_sent(self) -> None:
        """Raises: RuntimeError if the handler has returned without an answer."""
        if self.status is None:
            raise RuntimeError("a request was not answered")

    async def send(self, response: Response) -> None:
        """Raises: ConnectionLostError; RuntimeError for a second answer, or an iterator that breaks its word."""
        if self.status is not None:
            raise RuntimeError("a request has one answer")
        if self._head_only or response.status in _BODILESS:
            await self._send_whole(response, b"")
        elif isinstance(response.body, _WHOLE):
            await self._send_whole(response, response.body)
        else:
            await self._send_chunks(response, response.body)

    async def _send_chunks(self, response: Response, chunks: AsyncIterator[Buffer]) -> None:
        """Nothing is sent before there is a chunk: if that cannot be read, the client is told so by a status."""
        try:
            first = await anext(chunks, b"")
            if len(first) == response.length:
                if await anext(chunks, None) is not None:
                    raise RuntimeError("an answer is longer than was promised")
                await self._send_whole(response, first)
            else:
                await self._send_start(response)
                await self._stream(first, chunks, response.length)
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()

    async def _send_whole(self, response: Response, body: Buffer) -> None:
        self.sent_bytes = len(body)
        await self._send_start(response)
        await self._send_body(body)

    async def _send_start(self, response: Response) -> None:
        headers = self._headers(response)
        self.status = response.status
        await self._send({"type": "http.response.start", "status": response.status, "headers": headers})

    async def _send_body(self, body: Buffer, *, more: bool = False) -> None:
        try:
            await self._send({"type": "http.response.body", "body": body, "more_body": more})
        except OSError as error:
            raise ConnectionLostError from error

    def _headers(self, response: Response) -> list[tuple[bytes, bytes]]:
        headers = [(name.lower().encode("latin-1"), value.encode()) for name, value in response.headers.items()]
        headers.append((b"x-amz-request-id", self.ids.request_id.encode()))
        headers.append((b"x-amz-id-2", self.ids.host_id.encode()))
        headers.append((b"server", b"stratumfs"))
        length = content_length(response)
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        return headers

    async def _stream(self, first: Buffer, rest: AsyncIterator[Buffer], length: int | None) -> None:
        """Send chunk by chunk. When the client goes, stop: the server would take and drop all the rest."""
        failure: Exception | None = None
        done = False
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await self._incoming.wait_disconnected()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            try:
                await self._send_each(first, rest, length)
                done = True
            except Exception as error:
                # Raised below, out of the nursery, which would wrap it in a group.
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if not done:
            raise ConnectionLostError
        # Without the watcher: on the end of an answer servers report "disconnected", and must not be cancelled while
        # they make the connection ready for its next request.
        await self._send_body(b"")

    async def _send_each(self, first: Buffer, rest: AsyncIterator[Buffer], length: int | None) -> None:
        chunk: Buffer | None = first
        while chunk is not None:
            self.sent_bytes += len(chunk)
            if length is not None and self.sent_bytes > length:
                raise RuntimeError("an answer is longer than was promised")
            await self._send_body(chunk, more=True)
            chunk = await anext(rest, None)
        if length is not None and self.sent_bytes != length:
            raise RuntimeError("an answer is shorter than was promised")


def content_length(response: Response) -> int | None:
    """What Content-Length says: nothing for 204 and 304 (RFC 9110, 8.6), nor for a stream whose end is not known."""
    if response.status in _BODILESS:
        return None
    if response.length is not None:
        return response.length
    if isinstance(response.body, _WHOLE):
        return len(response.body)
    return None
