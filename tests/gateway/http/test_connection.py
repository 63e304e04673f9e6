"""Connections: what a client does to one must stay its own trouble."""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from h2.connection import H2Connection
from h2.events import ResponseReceived, StreamEnded, StreamReset

from gateway.auth.principal import Authenticated
from gateway.http.http2 import Inbox
from gateway.request import Request
from gateway.response import Response
from gateway.serve import Tls, bind, serve
from stratumfs.limits import ANSWER_IDLE_S
from tests.gateway.memory import Running, running
from tests.gateway.test_app import lines

HANG_S = 20
LIVE = b"GET /stratum/health/live HTTP/1.1\r\nhost: x\r\n"


@pytest.fixture
async def gateway() -> AsyncIterator[Running]:
    async with running() as found:
        yield found


async def read_until(stream: trio.SocketStream, end: bytes) -> bytes:
    received = b""
    while not received.endswith(end) and (more := await stream.receive_some()):
        received += more
    return received


async def test_a_body_that_nobody_takes_holds_nothing_up(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes no body waits for its commit meanwhile, and the client sends and sends."""

    async def delete(request: Request, caller: Authenticated) -> Response:
        await trio.testing.wait_all_tasks_blocked(0.05)
        return Response(204)

    monkeypatch.setattr(gateway.service, "_delete_object", delete, raising=True)
    stream = await trio.open_tcp_stream("127.0.0.1", gateway.port)
    async with stream:
        with suppress(trio.BrokenResourceError):
            await stream.send_all(lines(gateway, "DELETE", "/b/k", bytes(8 << 20)))
        with trio.fail_after(HANG_S):
            while gateway.door.statistics().requests != {("DeleteObject", 204): 1}:
                await trio.lowlevel.checkpoint()


async def test_the_word_that_all_is_over_needs_no_room() -> None:
    inbox = Inbox()
    with trio.fail_after(HANG_S):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(inbox.put, {"type": "http.request", "body": b"x", "more_body": True})
            await trio.testing.wait_all_tasks_blocked()
            await inbox.put({"type": "http.disconnect"})
    types = [(await inbox.receive())["type"] for _ in range(13)]
    assert types == ["http.request"] * 10 + ["http.disconnect"] * 3


async def test_who_asks_before_sending_a_body_is_told_to_when_the_body_is_wanted(gateway: Running) -> None:
    gateway.service.buckets["b"] = {}
    head, _, body = lines(gateway, "PUT", "/b/k", b"hello", expect="100-continue").partition(b"\r\n\r\n")
    stream = await trio.open_tcp_stream("127.0.0.1", gateway.port)
    async with stream:
        await stream.send_all(head + b"\r\n\r\n")
        assert await read_until(stream, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await stream.send_all(body)
        assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    assert gateway.service.buckets["b"][b"k"].data == b"hello"


async def test_regression_who_asks_before_sending_an_empty_body_is_told_to_go_on_too(gateway: Running) -> None:
    """The aws command keeps the status of an answer that came without a 100, takes it for that of the next answer on
    the connection, and then waits for the end of a body whose headers it did not see."""
    gateway.service.buckets["b"] = {}
    stream = await trio.open_tcp_stream("127.0.0.1", gateway.port)
    async with stream:
        head = lines(gateway, "PUT", "/b/k", expect="100-continue").removesuffix(b"\r\n")
        await stream.send_all(head + b"content-length: 0\r\n\r\n")
        said = await read_until(stream, b"content-length: 0\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


async def test_who_asks_before_sending_a_body_is_spared_it_by_a_refusal(gateway: Running) -> None:
    for request in (
        b"PUT /b/k HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n",
        lines(gateway, "PUT", "/missing/k", b"hello", expect="100-continue").removesuffix(b"hello"),
    ):
        stream = await trio.open_tcp_stream("127.0.0.1", gateway.port)
        async with stream:
            await stream.send_all(request)
            answer = await read_until(stream, b"</Error>")
            assert await stream.receive_some() == b""
        assert answer.startswith(b"HTTP/1.1 40")
        assert b"connection: close" in answer


async def test_clear_text_is_never_upgraded(gateway: Running) -> None:
    upgrade = LIVE + b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n"
    for data in (upgrade, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
        stream = await trio.open_tcp_stream("127.0.0.1", gateway.port)
        async with stream:
            await stream.send_all(data)
            with trio.fail_after(HANG_S):
                assert (await read_until(stream, b"never")).startswith(b"HTTP/1.1 400")


@pytest.mark.client
async def test_a_body_behind_its_answer_ends_no_other_stream_of_the_connection(tls: Tls) -> None:
    async with running(tls) as gateway:
        context = ssl.create_default_context(cafile=str(tls.certificate))
        context.set_alpn_protocols(["h2"])
        tcp = await trio.open_tcp_stream("127.0.0.1", gateway.port)
        stream = trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True)
        client = H2Connection()
        client.initiate_connection()
        head = [(":scheme", "https"), (":authority", "localhost"), (":path", "/b/k")]

        async def talk(wanted: type[object], number: int) -> None:
            """To the first event of a kind on a stream."""
            while True:
                await stream.send_all(client.data_to_send())
                for event in client.receive_data(await stream.receive_some()):
                    if isinstance(event, wanted) and getattr(event, "stream_id", None) == number:
                        return

        with trio.fail_after(HANG_S):
            client.send_headers(1, [(":method", "PUT"), *head])
            await talk(StreamEnded, 1)
            client.send_data(1, b"x" * 1000)
            client.send_data(1, b"x" * 1000)
            client.send_headers(3, [(":method", "GET"), *head], end_stream=True)
            await talk(StreamReset, 1)
            client.send_headers(5, [(":method", "GET"), *head], end_stream=True)
            await talk(StreamEnded, 5)
        assert gateway.door.statistics().requests == {("PutObject", 403): 1, ("GetObject", 403): 2}
        await tcp.aclose()


@pytest.mark.client
@pytest.mark.parametrize("wrong", [(":path", "/b/ü"), (":path", b"/b/\xff"), (":method", "GÜT")])
async def test_http_2_refuses_what_is_no_ascii_and_goes_on(
    tls: Tls, wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(tls) as gateway:
        context = ssl.create_default_context(cafile=str(tls.certificate))
        context.set_alpn_protocols(["h2"])
        tcp = await trio.open_tcp_stream("127.0.0.1", gateway.port)
        stream = trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True)
        client = H2Connection()
        client.initiate_connection()
        sound = {":method": "PUT", ":scheme": "https", ":authority": "localhost", ":path": "/b/k"}
        client.send_headers(1, list((sound | dict([wrong])).items()))
        client.send_data(1, b"x" * 1000, end_stream=True)
        client.send_headers(3, list((sound | {":method": "GET"}).items()), end_stream=True)
        statuses: dict[int, bytes] = {}
        with trio.fail_after(HANG_S):
            while len(statuses) < 2:
                await stream.send_all(client.data_to_send())
                for event in client.receive_data(await stream.receive_some()):
                    if isinstance(event, ResponseReceived):
                        statuses[event.stream_id] = dict(event.headers)[b":status"]
        assert statuses == {1: b"400", 3: b"403"}
        while gateway.door.statistics().requests != {("GetObject", 403): 1}:
            await trio.lowlevel.checkpoint()
        await tcp.aclose()
    assert "Traceback" not in capsys.readouterr().out


async def test_an_answer_up_to_the_end_that_breaks_off_is_no_end() -> None:
    """HTTP/1.0 has no chunks: where an answer of unknown length breaks off, the connection must, too."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("a bug")

    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        [url] = await nursery.start(partial(serve, app, ["127.0.0.1:0"], None, stop.wait))
        stream = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
        async with stream:
            await stream.send_all(b"GET / HTTP/1.0\r\nhost: x\r\n\r\n")
            with pytest.raises(trio.BrokenResourceError):
                await read_until(stream, b"never")
        stop.set()


async def test_a_client_that_takes_nothing_is_given_up_by_the_kernel() -> None:
    [listening] = await bind(["127.0.0.1:0"])
    with listening, socket.create_connection(listening.getsockname()):
        accepted, _ = await listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == ANSWER_IDLE_S * 1000
