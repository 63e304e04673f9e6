"""One connection of HTTP/2: Hypercorn's, but for three things that a client could turn against the door or itself.

- Its channel to a handler waits for room even with the word that the request is over. A handler that answers without
  having taken the whole body waits for itself then, and connection and task stay for ever.
- It takes what comes of a body behind an early answer for an error of its own, and ends the connection with all its
  streams; some clients send everything over one. It does the same for a method or path that is not ASCII, or missing.
- Its idle connections make no room for others.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

import trio
from h2.errors import ErrorCodes
from h2.events import Event as H2Event
from h2.events import RequestReceived
from h2.exceptions import ProtocolError
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.events import Event
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ASGIFramework, ASGIReceiveEvent, ConnectionState, LifespanState
from hypercorn.typing import TaskGroup as AnyTaskGroup

from gateway.asgi import ASGIApp
from gateway.http.exchange import Place
from gateway.http.waiting import Waiting
from stratumfs.limits import REQUEST_PIECES_MAX


class Inbox:
    """What has come of one request."""

    def __init__(self) -> None:
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
        try:
            return await self._receiver.receive()
        except trio.EndOfChannel:
            assert self._end is not None
            return self._end


class _Tasks:
    """Hypercorn's task group, with an inbox for each handler."""

    def __init__(self, group: AnyTaskGroup) -> None:
        self._group = group

    async def spawn_app(
        self, app: AppWrapper, config: Any, scope: Any, send: Any
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        inbox = Inbox()

        async def with_inbox(scope: Any, receive: Any, send: Any, sync_spawn: Any, call_soon: Any) -> None:
            await app(scope, inbox.receive, send, sync_spawn, call_soon)

        await self._group.spawn_app(with_inbox, config, scope, send)
        return inbox.put

    def spawn(self, func: Callable[..., Any], *args: Any) -> None:
        self._group.spawn(func, *args)


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


class _Protocol(H2Protocol):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.task_group = cast(AnyTaskGroup, _Tasks(self.task_group))
        self.streams = _Streams(self)

    async def _handle_events(self, events: list[H2Event]) -> None:
        await super()._handle_events([event for event in events if not self._refused(event)])

    def _refused(self, event: H2Event) -> bool:
        """Answer a request that Hypercorn would fall over; its other frames are met as those of any early answer."""
        if not isinstance(event, RequestReceived):
            return False
        said = dict(event.headers or ())
        if all(said.get(name, b"\xff").isascii() for name in (b":method", b":path")):
            return False
        assert event.stream_id is not None
        self.connection.send_headers(
            event.stream_id, [(b":status", b"400"), (b"content-length", b"0")], end_stream=True
        )
        return True


class Connection(TCPServer):
    """One whose TLS handshake is done, and agreed on HTTP/2."""

    def __init__(
        self,
        app: ASGIApp,
        config: Config,
        context: WorkerContext,
        stream: trio.SSLStream[trio.SocketStream],
        place: Place,
        waiting: Waiting,
    ) -> None:
        wrapped = ASGIWrapper(cast(ASGIFramework, app))
        super().__init__(wrapped, config, context, ConnectionState(LifespanState(dict(place.state))), stream)
        self._place, self._waiting = place, waiting

    async def run(self) -> None:
        try:
            async with TaskGroup() as tasks:
                self._task_group = tasks
                place, state = self._place, ConnectionState(self.state)
                made = _Protocol(
                    self.app,
                    self.config,
                    self.context,
                    tasks,
                    state,
                    True,
                    place.client,
                    place.server,
                    self.protocol_send,
                )
                self.protocol = cast(ProtocolWrapper, made)
                await made.initiate()
                await self.idle_task.restart(tasks, self._idle_timeout)
                await self._read_data()
        except OSError:
            pass
        finally:
            await self._close()

    async def _idle_timeout(self) -> None:
        with trio.CancelScope() as scope, self._waiting.within(scope):
            await trio.sleep_forever()
        with trio.CancelScope(shield=True):
            await self._initiate_server_close()
