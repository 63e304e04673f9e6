"""One connection of HTTP/2: Hypercorn's, but for five things that a client could turn against the door or itself.

- Its channel to a handler waits for room, and all that comes on the connection behind it: a body that nobody takes yet
  keeps up other requests, and the windows for answers. It waits even with the word that the request is over: a handler
  that answers without having taken the whole body waits for itself then, and connection and task stay for ever.
- It takes what comes of a body behind an early answer for an error of its own, and ends the connection with all its
  streams; some clients send everything over one. It does the same for a method or path that is not ASCII, or missing.
- An answer waits for its client without an end, for one that is gone too: its handler stays, and all that it holds.
- An answer that the client does not take as fast as it is read is gathered in memory, to its end.
- Its idle connections make no room for others, and stay when their client is gone until they have idled long enough.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, cast

import trio
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived
from h2.events import Event as H2Event
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.events import Body
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import BUFFER_HIGH_WATER, BufferCompleteError, H2Protocol, StreamBuffer
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ASGIFramework, ASGIReceiveEvent, ConnectionState, LifespanState
from hypercorn.typing import Event as IOEvent
from hypercorn.typing import TaskGroup as AnyTaskGroup

from gateway.asgi import ASGIApp
from gateway.http.exchange import Place
from gateway.http.waiting import Waiting
from gateway.limits import ANSWER_IDLE_S, REQUEST_WINDOW, SEND_JOINED_MAX


class Inbox:
    """What has come of one request. Its client has no more under way than its window, so that nobody waits for room.

    taken  told how many bytes of the body are here no more
    """

    def __init__(self, taken: Callable[[int], Awaitable[None]]) -> None:
        self._taken = taken
        self._body = bytearray()
        self._others: deque[ASGIReceiveEvent] = deque()
        self._end: ASGIReceiveEvent | None = None
        self._came = trio.Event()

    async def put(self, message: ASGIReceiveEvent) -> None:
        """ "disconnect" is the last one; what comes behind it is dropped."""
        if self._end is not None:
            return
        if message["type"] == "http.request" and message["more_body"]:
            self._body += message["body"]  # in pieces of a byte they would take hundreds of times as much
        elif message["type"].endswith(".disconnect"):
            await self._taken(len(self._body))
            self._end = message
        else:
            self._others.append(message)
        if self._body or self._others or self._end:
            self._came.set()

    async def receive(self) -> ASGIReceiveEvent:
        """ASGI's; after the end "disconnect", again and again."""
        await self._came.wait()
        if self._body:
            body, self._body = bytes(self._body), bytearray()
            self._look()
            if self._end is None:
                await self._taken(len(body))
            return {"type": "http.request", "body": body, "more_body": True}
        if self._others:
            message = self._others.popleft()
            self._look()
            return message
        assert self._end is not None
        return self._end

    def _look(self) -> None:
        if not (self._body or self._others or self._end):
            self._came = trio.Event()


class _Tasks:
    """Hypercorn's task group, with an inbox for each handler."""

    def __init__(self, group: AnyTaskGroup, http: "_Protocol") -> None:
        self._group, self._http = group, http

    async def spawn_app(
        self, app: AppWrapper, config: Any, scope: Any, send: Any
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        stream = send.__self__.stream_id  # Hypercorn gives us a method of the stream
        inbox = Inbox(partial(self._http.taken, stream))

        async def with_inbox(scope: Any, receive: Any, send: Any, sync_spawn: Any, call_soon: Any) -> None:
            await app(scope, inbox.receive, partial(_send_in_pieces, send), sync_spawn, call_soon)

        await self._group.spawn_app(with_inbox, config, scope, send)
        return inbox.put

    def spawn(self, func: Callable[..., Any], *args: Any) -> None:
        self._group.spawn(func, *args)


async def _send_in_pieces(send: Callable[[Any], Awaitable[None]], message: Any) -> None:
    """As ``send``, which keeps two copies of what it is given."""
    body = memoryview(message.get("body", b""))
    while len(body) > SEND_JOINED_MAX:
        await send({"type": message["type"], "body": body[:SEND_JOINED_MAX], "more_body": True})
        body = body[SEND_JOINED_MAX:]
        message = {**message, "body": body}
    await send(message)


class _Streams(dict[int, HTTPStream | WSStream]):
    """Of one HTTP/2 connection. Who sends to a stream that was answered is asked to stop (RFC 9113, 8.1)."""

    def __init__(self, http: H2Protocol) -> None:
        super().__init__(http.streams)
        self._http = http

    def __missing__(self, stream: int) -> HTTPStream | WSStream:
        return cast(HTTPStream, self)

    async def handle(self, event: StreamEvent) -> None:
        # While there is a buffer, the end of the answer is not sent yet, and a reset would cut it off.
        if event.stream_id not in self._http.stream_buffers:
            with suppress(ProtocolError):
                self._http.connection.reset_stream(event.stream_id, ErrorCodes.NO_ERROR)


class _Buffer(StreamBuffer):
    """What of an answer the client has not taken: a chunk, and up to ``BUFFER_HIGH_WATER`` of the one before it.

    Hypercorn's takes a closed window for room, and each time the next chunk: clients that took nothing, or were slower
    than the disks, had whole objects wait for them in memory. One that takes nothing for ``ANSWER_IDLE_S`` gets no
    more, but where its connection moves and it would take something: then it stands behind others.
    """

    def __init__(self, http: "_Protocol", stream: int) -> None:
        super().__init__(http.context.event_class)
        self._http, self._stream = http, stream
        self._waiting = trio.CancelScope()

    async def push(self, data: bytes) -> None:
        if self._complete:
            raise BufferCompleteError
        self.buffer.extend(data)
        await self._is_empty.clear()
        if len(self.buffer) >= BUFFER_HIGH_WATER:
            await self._paused.clear()
            await self._patiently(self._paused)

    async def drain(self) -> None:
        await self._patiently(self._is_empty)

    async def pop(self, max_length: int) -> bytes:
        data = bytes(memoryview(self.buffer)[:max_length])
        del self.buffer[: len(data)]
        if len(self.buffer) < BUFFER_HIGH_WATER:
            await self._paused.set()
        if not self.buffer:
            await self._is_empty.set()
        if data:
            self._http.moved = trio.current_time()
            self._waiting.deadline = self._http.moved + ANSWER_IDLE_S
        return data

    async def _patiently(self, event: IOEvent) -> None:
        while True:
            with trio.CancelScope(deadline=trio.current_time() + ANSWER_IDLE_S) as self._waiting:
                await event.wait()
            if not self._waiting.cancelled_caught:
                return
            if not self._http.behind_others(self._stream):
                await self._http.give_up(self._stream)
                return


class _Buffers(dict[int, StreamBuffer]):
    """Of one HTTP/2 connection. Hypercorn makes them."""

    def __init__(self, http: "_Protocol") -> None:
        super().__init__(http.stream_buffers)
        self._http = http

    def __setitem__(self, stream: int, made: StreamBuffer) -> None:
        super().__setitem__(stream, _Buffer(self._http, stream))


class _Protocol(H2Protocol):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.task_group = cast(AnyTaskGroup, _Tasks(self.task_group, self))
        self.streams = _Streams(self)
        self.stream_buffers = _Buffers(self)
        settings: dict[Any, int] = {**self.connection.local_settings, SettingCodes.INITIAL_WINDOW_SIZE: REQUEST_WINDOW}
        self.connection.local_settings = Settings(client=False, initial_values=settings)
        self.moved = 0.0
        """When something of any answer went out."""

    async def handle(self, event: Event) -> None:
        await super().handle(event)
        if isinstance(event, Closed):
            for buffer in list(self.stream_buffers.values()):
                await buffer.close()

    def behind_others(self, stream: int) -> bool:
        """Whether its client has room for it, and takes others first: in the order that it asked for, or that its line
        allows."""
        known = self.connection.streams.get(stream)
        wanted = known is not None and known.outbound_flow_control_window > 0
        return wanted and trio.current_time() - self.moved < ANSWER_IDLE_S

    async def give_up(self, stream: int) -> None:
        """End a stream whose client does not take its answer, as if the client had."""
        with suppress(ProtocolError):
            self.connection.reset_stream(stream, ErrorCodes.CANCEL)
        if (buffer := self.stream_buffers.get(stream)) is not None:
            await buffer.close()
        await self._flush()
        await self._close_stream(stream)
        await self._window_updated(stream)

    async def initiate(self, *arguments: Any) -> None:
        await super().initiate(*arguments)
        # Bodies that nobody takes yet leave the others their way.
        self.connection.increment_flow_control_window(REQUEST_WINDOW * self.config.h2_max_concurrent_streams)
        await self._flush()

    async def taken(self, stream: int, count: int) -> None:
        """So many bytes of a request's body are held no more: its client may send as many again."""
        with suppress(ProtocolError):
            self.connection.acknowledge_received_data(count, stream)
        if not self.closed:
            await self._flush()

    async def _handle_events(self, events: list[H2Event]) -> None:
        for event in events:
            if isinstance(event, DataReceived):
                await self._received(event)
            elif not self._refused(event):
                await super()._handle_events([event])
        await super()._handle_events([])

    async def _received(self, event: DataReceived) -> None:
        """Hypercorn makes room when it has handed the bytes on, and hands them on when there is room."""
        number, data = event.stream_id, event.data or b""
        assert number is not None
        stream = self.streams.get(number)
        kept = len(data) if isinstance(stream, HTTPStream) and not stream.closed else 0
        await self.streams[number].handle(Body(stream_id=number, data=data))
        await self.taken(number, (event.flow_controlled_length or 0) - kept)

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
                self.protocol, self._http = cast(ProtocolWrapper, made), made
                await made.initiate()
                await self.idle_task.restart(tasks, self._idle_timeout)
                await self._read_data()
                await self.idle_task.stop()
        except OSError:
            pass
        finally:
            await self._close()

    async def _idle_timeout(self) -> None:
        if self._http.closed:  # a last answer has ended behind the client's end, and nothing is waited for
            return
        with trio.CancelScope() as scope, self._waiting.within(scope):
            await trio.sleep_forever()
        with trio.CancelScope(shield=True):
            await self._initiate_server_close()
