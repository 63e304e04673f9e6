"""Sending the one answer of a request over ASGI."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import trio

from gateway.auth.body import Receive
from gateway.request import RequestIds
from gateway.response import Buffer, Response
from stratumfs.limits import REQUEST_DRAIN_MAX, REQUEST_DRAIN_S

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

ABORT = "stratum.abort"
"""An ASGI extension of our server: a function that ends the connection at once. HTTP/2 needs it: where an answer is
broken off, Hypercorn neither resets the stream nor closes the connection, and the client would wait for ever."""

_BODILESS = (204, 304)


class ConnectionLostError(Exception):
    """The client is gone: nobody is left to answer. Handlers let it pass."""


class Incoming:
    """ASGI's *receive*, which remembers whether the body was asked for, and whether the request has ended."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.begun = False
        self.ended = False

    async def __call__(self) -> MutableMapping[str, Any]:
        self.begun = True
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self.ended = True
        return message

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
        bodiless = self._head_only or response.status in _BODILESS
        headers = self._headers(response)
        self.status = response.status
        await self._send({"type": "http.response.start", "status": response.status, "headers": headers})
        if bodiless:
            await self._send({"type": "http.response.body", "body": b""})
        elif isinstance(response.body, bytes | bytearray | memoryview):
            self.sent_bytes = len(response.body)
            await self._send({"type": "http.response.body", "body": response.body})
        else:
            await self._stream(response.body, response.length)

    def _headers(self, response: Response) -> list[tuple[bytes, bytes]]:
        headers = [(name.lower().encode("latin-1"), value.encode()) for name, value in response.headers.items()]
        headers.append((b"x-amz-request-id", self.ids.request_id.encode()))
        headers.append((b"x-amz-id-2", self.ids.host_id.encode()))
        headers.append((b"server", b"stratumfs"))
        length = content_length(response)
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        return headers

    async def _stream(self, body: AsyncIterator[Buffer], length: int | None) -> None:
        """Send chunk by chunk. When the client goes, stop: the server would take and drop all the rest."""
        failure: Exception | None = None
        done = False
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await self._incoming.wait_disconnected()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            try:
                await self._send_chunks(body, length)
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
        await self._send({"type": "http.response.body", "body": b""})

    async def _send_chunks(self, body: AsyncIterator[Buffer], length: int | None) -> None:
        try:
            async for chunk in body:
                self.sent_bytes += len(chunk)
                if length is not None and self.sent_bytes > length:
                    raise RuntimeError("an answer is longer than was promised")
                await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        finally:
            if isinstance(body, AsyncGenerator):
                await body.aclose()
        if length is not None and self.sent_bytes != length:
            raise RuntimeError("an answer is shorter than was promised")


def content_length(response: Response) -> int | None:
    """What Content-Length says: nothing for 204 and 304 (RFC 9110, 8.6), nor for a stream whose end is not known."""
    if response.status in _BODILESS:
        return None
    if response.length is not None:
        return response.length
    if isinstance(response.body, bytes | bytearray | memoryview):
        return len(response.body)
    return None
