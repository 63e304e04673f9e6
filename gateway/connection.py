"""One connection: Hypercorn's, but for four things that a client could turn against the door or against itself.

- Its channel to a handler waits for room even with the word that the request is over. A handler that answers without
  having taken the whole body waits for itself then, and connection and task stay for ever.
- It says ``100 Continue`` to everybody at once. Here a client is told to go on when its body is asked for: a refusal
  costs it no upload, and finds it listening.
- On clear text it changes to HTTP/2 where a client proposes that, and stops its idle timer while no stream is open.
  Here HTTP/1.1 stays HTTP/1.1, which RFC 9110 (7.8) leaves to the server; HTTP/2 is spoken where TLS agreed on it.
- On HTTP/2 it takes what comes of a body behind an early answer for an error of its own, and ends the connection with
  all its streams; some clients send everything over one.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

import h11
import trio
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from hypercorn.protocol.events import Event
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, H11SendableEvent, TaskGroup

from stratumfs.limits import REQUEST_PIECES_MAX


class Inbox:
    """What has come of one request. *begin* is awaited before each look for more."""

    def __init__(self, begin: Callable[[], Awaitable[None]] | None = None) -> None:
        self._begin = begin
        self._end: ASGIReceiveEvent | None = None
        self._sender, self._receiver = trio.open_memory_channel[ASGIReceiveEvent](REQUEST_PIECES_MAX)

    async def put(self, message: ASGIReceiveEvent) -> None:
        """Waits for room, except with the last one, "disconnect"; what comes or waits after that is dropped."""
        if message["type"].endswith(".disconnect"):
            self._end = message
            self._sender.close()
        else:
            with suppress(trio.ClosedResourceError):
                await self._sender.send(message)

    async def receive(self) -> ASGIReceiveEvent:
        """ASGI's; after the end "disconnect", again and again."""
        if self._begin is not None:
            await self._begin()
        try:
            return await self._receiver.receive()
        except trio.EndOfChannel:
            assert self._end is not None
            return self._end


class _Tasks:
    """Hypercorn's task group, with an inbox for each handler."""

    def __init__(self, group: TaskGroup, begin: Callable[[], Awaitable[None]] | None = None) -> None:
        self._group, self._begin = group, begin

    async def spawn_app(
        self, app: AppWrapper, config: Any, scope: Any, send: Any
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        inbox = Inbox(self._begin)

        async def with_inbox(scope: Any, receive: Any, send: Any, sync_spawn: Any, call_soon: Any) -> None:
            await app(scope, inbox.receive, send, sync_spawn, call_soon)

        await self._group.spawn_app(with_inbox, config, scope, send)
        return inbox.put

    def spawn(self, func: Callable[..., Any], *args: Any) -> None:
        self._group.spawn(func, *args)


class _Patient(h11.Connection):
    """Hypercorn looks here whether to say ``100 Continue`` at once."""

    @property
    def they_are_waiting_for_100_continue(self) -> bool:
        return False


class _Http11(H11Protocol):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.connection = _Patient(h11.SERVER, max_incomplete_event_size=self.config.h11_max_incomplete_size)
        self.task_group = cast(TaskGroup, _Tasks(self.task_group, self._go_on))

    async def _go_on(self) -> None:
        """Tell a client that waits with its body to send it; h11 forgets that it waits once anything was answered."""
        if isinstance(self.connection, _Patient) and self.connection.client_is_waiting_for_100_continue:
            await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        """With a reason in the status line: clients that asked before sending a body take an answer without one for
        none (botocore, ``AWSConnection._handle_expect_response``)."""
        if isinstance(event, h11.Response | h11.InformationalResponse):
            reason = HTTPStatus(event.status_code).phrase.encode()
            event = type(event)(status_code=event.status_code, headers=event.headers, reason=reason)
        await super()._send_h11_event(event)

    async def _check_protocol(self, event: h11.Request) -> None:
        """Proposals of another protocol are ignored."""


class _Streams(dict[int, HTTPStream | WSStream]):
    """Of one HTTP/2 connection. Who sends to a stream that was answered is asked to stop (RFC 9113, 8.1)."""

    def __init__(self, http: H2Protocol) -> None:
        super().__init__(http.streams)
        self._http = http

    def __missing__(self, stream: int) -> HTTPStream | WSStream:
        return cast(HTTPStream, self)

    async def handle(self, event: Event) -> None:
        # While there is a buffer, the end of the answer is not sent yet, and a reset would cut it off.
        if event.stream_id not in self._http.stream_buffers:
            with suppress(ProtocolError):
                self._http.connection.reset_stream(event.stream_id, ErrorCodes.NO_ERROR)


class Connection(TCPServer):
    async def _read_data(self) -> None:
        wrapper = self.protocol
        found = wrapper.protocol
        if isinstance(found, H11Protocol):
            wrapper.protocol = _Http11(
                found.app,
                found.config,
                found.context,
                found.task_group,
                found.connection_state,
                found.ssl,
                found.client,
                found.server,
                found.send,
            )
        else:
            found.task_group = cast(TaskGroup, _Tasks(found.task_group))
            found.streams = _Streams(found)
        await super()._read_data()
