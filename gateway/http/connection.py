"""One connection of HTTP/1.1: its requests one after another, each by the application in the connection's own task.

No task, channel or timer is made for a request: one cancel scope lasts as long as the connection. Who takes too long
for a head is ended by it (``Waiting``); while a request is under way nobody cancels it, for then its handler decides.

Four things stay a client's own trouble: a body that nobody takes holds nothing up, for it waits in the kernel and the
connection ends behind the answer; ``100 Continue`` is said when the body is asked for, so that a refusal costs no
upload; a proposal of HTTP/2 on clear text is refused; and a request that no two readers would understand alike reaches
nobody, and ends the connection.
"""

import time
import traceback

import structlog
import trio

from gateway.asgi import ASGIApp
from gateway.http.exchange import Exchange, Place
from gateway.http.framing import refusal
from gateway.http.head import RefusedError, parse_head
from gateway.http.source import Source, Stream, reset, transport_of
from gateway.http.waiting import Waiting
from gateway.limits import RECEIVE_MAX, REQUEST_DRAIN_MAX, REQUEST_DRAIN_S

_log = structlog.get_logger("gateway")


class Connection:
    """Who made the stream closes it."""

    def __init__(self, app: ASGIApp, stream: Stream, place: Place, waiting: Waiting) -> None:
        self._app, self._stream, self._place, self._waiting = app, stream, place, waiting
        self._source = Source(stream)
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """Until the client ends it, breaks the protocol, is too slow, or the connection is wanted for another."""
        with self._scope:
            while await self._serve_next():
                pass

    async def _serve_next(self) -> bool:
        """Take one request and answer it; whether the connection can take another."""
        try:
            block = await self._next_head()
            if not block:
                return False
            exchange = Exchange(parse_head(block), self._source, self._stream, self._waiting)
        except RefusedError as error:
            await self._refuse(error.status, error.reason)
            return False
        return await self._execute(exchange)

    async def _next_head(self) -> bytes:
        """b"" if there will be none. Raises: RefusedError."""
        self._waiting.add(self._scope)
        try:
            if self._source.holding:
                await trio.lowlevel.checkpoint()  # else a client that does not wait for answers has the loop for itself
            block = await self._source.head()
        finally:
            self._waiting.remove(self._scope)
        # Cancelled when the head had just come: nothing of the request may be begun, for it would be broken off.
        return b"" if self._scope.cancel_called else block

    async def _execute(self, exchange: Exchange) -> bool:
        try:
            await self._app(exchange.scope(self._place), exchange.receive, exchange.send)
        except Exception as error:
            if not exchange.lost:
                _log.error("request failed", traceback="".join(traceback.format_exception(error)))
        if exchange.lost:
            return False
        if not exchange.begun:
            await self._refuse(500, "Internal Server Error")
        elif not exchange.finished:
            # The client must not take the part that it has for the whole.
            reset(self._stream)
        elif exchange.keep_alive:
            return True
        elif exchange.unread:
            await self._linger()
        return False

    async def _refuse(self, status: int, reason: str) -> None:
        with trio.move_on_after(REQUEST_DRAIN_S):
            try:
                await self._stream.send_all(refusal(status, reason, time.time()))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
        await self._linger()

    async def _linger(self) -> None:
        """Take and drop a little of what still comes. A connection that is closed on unread bytes is reset, and the
        reset can overtake the answer."""
        with trio.move_on_after(REQUEST_DRAIN_S):
            try:
                await transport_of(self._stream).send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            left = REQUEST_DRAIN_MAX
            while left > 0 and (data := await self._source.some(RECEIVE_MAX)):
                left -= len(data)
