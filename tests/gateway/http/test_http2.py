"""HTTP/2 where a client takes less than it asked for, or later, and a handler less of a body than comes."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes

from gateway.auth.principal import Authenticated
from gateway.http.http2 import Inbox
from gateway.limits import ANSWER_IDLE_S, REQUEST_WINDOW
from gateway.request import Request
from gateway.response import Buffer, Response
from gateway.serve import Tls
from stratumfs.values import Checksum
from tests.gateway.memory import ACCESS_KEY, SECRET, Running, Stored, running
from tests.gateway.requests import signed

pytestmark = pytest.mark.client
HANG_S = 60
CHUNK = 1 << 20
CHUNKS = 8
WINDOW = 65_535
"""Of a connection, and of a stream, until the client says otherwise."""


class Client:
    """Of a gateway that counts the chunks of answers that were asked for."""

    def __init__(self, gateway: Running, stream: trio.SSLStream[trio.SocketStream], http: H2Connection) -> None:
        self.gateway, self.http = gateway, http
        self._stream = stream
        self.chunks = 0
        self.came: dict[int, int] = {}
        self.over: set[int] = set()

    async def asked_chunks(self, data: bytes) -> AsyncIterator[Buffer]:
        for start in range(0, len(data), CHUNK):
            self.chunks += 1
            yield memoryview(data)[start : start + CHUNK]

    async def request(self, number: int, method: str = "GET", key: str = "k", length: int = 0, **how: Any) -> None:
        authority = f"localhost:{self.gateway.port}"
        found = signed(method, f"https://{authority}/b/{key}", {}, ACCESS_KEY, SECRET, body=bytes(length))
        head = {":method": method, ":scheme": "https", ":authority": authority, ":path": f"/b/{key}"}
        others = [(name.decode(), value.decode()) for name, value in found.raw_headers if name != b"host"]
        others += [("content-length", str(length))] if length else []
        self.http.send_headers(number, [*head.items(), *others], end_stream=not length, **how)
        await self.send()

    async def send_body(self, number: int, most: int) -> int:
        """So many bytes, or as many as the windows allow; how many."""
        size = min(most, self.http.local_flow_control_window(number))
        for start in range(0, size, self.http.max_outbound_frame_size):
            self.http.send_data(number, bytes(min(size - start, self.http.max_outbound_frame_size)))
        await self.send()
        return size

    async def send(self) -> None:
        await self._stream.send_all(self.http.data_to_send())

    async def talk(self, enough: Callable[[], bool], *, taking: bool = False) -> None:
        """Until it is *enough*; *taking*: what comes makes room for more."""
        with trio.fail_after(HANG_S):
            while not enough():
                for event in self.http.receive_data(await self._stream.receive_some()):
                    if isinstance(event, DataReceived):
                        assert event.stream_id is not None
                        self.came[event.stream_id] = self.came.get(event.stream_id, 0) + len(event.data)
                        if taking and event.flow_controlled_length:
                            self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    elif isinstance(event, StreamEnded | StreamReset):
                        self.over.add(event.stream_id)
                await self.send()


@asynccontextmanager
async def talking(tls: Tls) -> AsyncIterator[Client]:
    async with running(tls) as gateway:
        gateway.service.buckets["b"] = {b"k": Stored(bytes(CHUNKS * CHUNK), "e", {}, Checksum("CRC64NVME", ""))}
        context = ssl.create_default_context(cafile=str(tls.certificate))
        context.set_alpn_protocols(["h2"])
        tcp = await trio.open_tcp_stream("127.0.0.1", gateway.port)
        stream = trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True)
        http = H2Connection()
        http.initiate_connection()
        client = Client(gateway, stream, http)
        gateway.service.chunks = client.asked_chunks
        yield client
        await tcp.aclose()


async def test_regression_no_more_of_an_answer_is_read_than_the_client_takes(tls: Tls) -> None:
    """With its window closed it had all of an object gathered for it in memory."""
    async with talking(tls) as client:
        await client.request(1)
        await client.talk(lambda: client.came.get(1) == WINDOW)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert client.chunks == 1
        client.http.increment_flow_control_window(CHUNK, 1)
        client.http.increment_flow_control_window(CHUNK)
        await client.send()
        await client.talk(lambda: client.came.get(1) == WINDOW + CHUNK)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert client.chunks == 2
        client.http.increment_flow_control_window(CHUNKS * CHUNK, 1)
        client.http.increment_flow_control_window(CHUNKS * CHUNK)
        await client.send()
        await client.talk(lambda: 1 in client.over)
        assert client.came == {1: CHUNKS * CHUNK}


async def test_an_answer_that_its_client_takes_behind_others_is_not_given_up(
    tls: Tls, mock_clock: trio.testing.MockClock
) -> None:
    """Browsers want one after the other, and the first may take long."""
    async with talking(tls) as client:

        async def pass_by(seconds: float) -> None:
            await trio.testing.wait_all_tasks_blocked(0.05)
            mock_clock.jump(seconds)
            await trio.testing.wait_all_tasks_blocked(0.05)

        client.http.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 4 * CHUNKS * CHUNK})
        await client.request(1)
        await client.request(3, priority_depends_on=1, priority_exclusive=True)
        await client.talk(lambda: sum(client.came.values()) == WINDOW)
        behind = client.came.get(3, 0)
        for _ in range(4):
            await pass_by(ANSWER_IDLE_S - 1)
            assert client.gateway.door.statistics().in_flight == 2
            before = sum(client.came.values())
            client.http.increment_flow_control_window(WINDOW)
            await client.send()
            await client.talk(lambda: sum(client.came.values()) == before + WINDOW)  # noqa: B023
        assert client.came.get(3, 0) == behind
        await pass_by(ANSWER_IDLE_S + 1)
        await pass_by(ANSWER_IDLE_S + 1)
        assert client.gateway.door.statistics().in_flight == 0
        await client.talk(lambda: client.over == {1, 3})


async def test_regression_a_body_that_nobody_takes_yet_leaves_others_their_way(tls: Tls) -> None:
    """Its connection was not read meanwhile: small requests waited for the turn of a large upload, and so did downloads
    for the windows that the client opened."""
    took: list[int] = []
    wanted = trio.Event()

    async def late(request: Request, caller: Authenticated) -> Response:
        await wanted.wait()
        async for chunk in caller.body:
            took.append(len(chunk))
        return Response(200, {})

    async with talking(tls) as client:
        client.gateway.service._put_object = late  # type: ignore[method-assign]
        size = 8 * REQUEST_WINDOW
        await client.talk(lambda: client.http.outbound_flow_control_window > REQUEST_WINDOW)
        await client.request(1, "PUT", length=size)
        sent = await client.send_body(1, size)
        assert sent == REQUEST_WINDOW
        await client.request(3)
        await client.talk(lambda: 3 in client.over, taking=True)
        assert client.came == {3: CHUNKS * CHUNK}
        assert not took
        assert client.http.local_flow_control_window(1) == 0
        wanted.set()
        while sent < size:
            await client.talk(lambda: client.http.local_flow_control_window(1) > 0)
            sent += await client.send_body(1, size - sent)
        client.http.end_stream(1)
        await client.send()
        await client.talk(lambda: 1 in client.over)
        assert sum(took) == size


async def test_what_comes_in_small_pieces_is_handed_on_together_and_told_once() -> None:
    told: list[int] = []

    async def taken(count: int) -> None:
        told.append(count)

    inbox = Inbox(taken)
    with trio.fail_after(HANG_S):
        for _ in range(2):
            for piece in (b"a", b"", b"b"):
                await inbox.put({"type": "http.request", "body": piece, "more_body": True})
            assert await inbox.receive() == {"type": "http.request", "body": b"ab", "more_body": True}
        await inbox.put({"type": "http.request", "body": b"c", "more_body": True})
        await inbox.put({"type": "http.request", "body": b"", "more_body": False})
        for _ in range(2):
            await inbox.put({"type": "http.disconnect"})
        found = [await inbox.receive() for _ in range(4)]
    assert [each["type"] for each in found] == ["http.request"] * 2 + ["http.disconnect"] * 2
    assert found[:2] == [
        {"type": "http.request", "body": b"c", "more_body": True},
        {"type": "http.request", "body": b"", "more_body": False},
    ]
    assert told == [2, 2, 1]
