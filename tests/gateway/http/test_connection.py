"""Connections: what a client does to one must stay its own trouble."""

import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes

from gateway.auth.principal import Authenticated
from gateway.limits import ANSWER_IDLE_S, BODY_WINDOW_MIN, BODY_WINDOW_S, ENCRYPTED_MAX
from gateway.request import Request
from gateway.response import Response
from gateway.serve import Tls, bind, serve
from stratumfs.values import Checksum
from tests.gateway.memory import ACCESS_KEY, SECRET, Running, Stored, running
from tests.gateway.requests import signed
from tests.gateway.test_app import lines

HANG_S = 60
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


async def test_a_body_that_makes_no_progress_is_answered_and_one_that_moves_lives(
    gateway: Running, mock_clock: trio.testing.MockClock
) -> None:
    gateway.service.buckets["b"] = {}
    size = 4 * BODY_WINDOW_MIN

    async def sent(piece: int) -> bytes:
        """The answer where so many bytes come in just less than each window."""
        stream = await trio.open_tcp_stream("127.0.0.1", gateway.port)
        request = lines(gateway, "PUT", "/b/k", bytes(size))
        async with stream:
            await stream.send_all(request[:-size])
            for start in range(0, size, piece):
                # The gateway has taken what came before by then: the window begins with its last byte.
                await trio.testing.wait_all_tasks_blocked(0.05)
                mock_clock.jump(BODY_WINDOW_S - 1)
                await trio.testing.wait_all_tasks_blocked(0.05)
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(bytes(min(piece, size - start)))
                with trio.move_on_after(0):
                    if answer := await stream.receive_some():
                        return answer
            return bytes(await stream.receive_some())

    assert (await sent(BODY_WINDOW_MIN)).startswith(b"HTTP/1.1 200")
    answer = await sent(BODY_WINDOW_MIN // 3)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"<Code>RequestTimeout</Code>" in answer
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


@pytest.mark.client
async def test_regression_an_answer_that_a_client_of_http_2_does_not_take_is_given_up(
    tls: Tls, mock_clock: trio.testing.MockClock
) -> None:
    """A stranger could have any number of them: TCP knows nothing of the windows within a connection."""
    async with running(tls) as gateway:
        context = ssl.create_default_context(cafile=str(tls.certificate))
        context.set_alpn_protocols(["h2"])
        tcp = await trio.open_tcp_stream("127.0.0.1", gateway.port)
        stream = trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True)
        client = H2Connection()
        client.initiate_connection()
        client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 100})
        head = {":method": "GET", ":scheme": "https", ":authority": "localhost", ":path": "/b/k"}
        seen: list[object] = []

        async def talk(wanted: type[object]) -> None:
            """Until there is an event of that kind."""
            await stream.send_all(client.data_to_send())
            while not any(isinstance(each, wanted) for each in seen):
                seen.extend(client.receive_data(await stream.receive_some()))
                await stream.send_all(client.data_to_send())
            seen.clear()

        async def pass_by(seconds: float) -> None:
            await trio.testing.wait_all_tasks_blocked(0.05)
            mock_clock.jump(seconds)
            await trio.testing.wait_all_tasks_blocked(0.05)

        client.send_headers(1, list(head.items()), end_stream=True)
        await talk(DataReceived)
        await pass_by(ANSWER_IDLE_S - 1)
        client.increment_flow_control_window(50, 1)
        await talk(DataReceived)
        await pass_by(ANSWER_IDLE_S - 1)
        assert gateway.door.statistics().in_flight == 1
        await pass_by(2)
        assert gateway.door.statistics().in_flight == 0
        await talk(StreamReset)
        client.send_headers(3, list(head.items()), end_stream=True)
        client.increment_flow_control_window(5000, 3)
        await talk(StreamEnded)
        await tcp.aclose()


@pytest.mark.client
@pytest.mark.parametrize("reset", [False, True])
async def test_a_download_over_http_2_that_is_broken_off_ends(tls: Tls, reset: bool) -> None:
    async with running(tls) as gateway:
        gateway.service.buckets["b"] = {b"k": Stored(bytes(8 << 20), "e", {}, Checksum("CRC64NVME", ""))}
        context = ssl.create_default_context(cafile=str(tls.certificate))
        context.set_alpn_protocols(["h2"])
        tcp = await trio.open_tcp_stream("127.0.0.1", gateway.port)
        stream = trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True)
        client = H2Connection()
        client.initiate_connection()
        authority = f"localhost:{gateway.port}"
        found = signed("GET", f"https://{authority}/b/k", {}, ACCESS_KEY, SECRET)
        head = {":method": "GET", ":scheme": "https", ":authority": authority, ":path": "/b/k"}
        others = [(name.decode(), value.decode()) for name, value in found.raw_headers if name != b"host"]
        client.send_headers(1, [*head.items(), *others], end_stream=True)
        met = False
        while not met:
            await stream.send_all(client.data_to_send())
            met = any(isinstance(each, DataReceived) for each in client.receive_data(await stream.receive_some()))
        assert gateway.door.statistics().in_flight == 1
        if reset:
            client.reset_stream(1)
            await stream.send_all(client.data_to_send())
        else:
            await tcp.aclose()
        with trio.fail_after(HANG_S):
            while gateway.door.statistics().in_flight:
                await trio.lowlevel.checkpoint()
        assert gateway.door.statistics().unexpected_errors == 0
        await tcp.aclose()


@pytest.mark.client
@pytest.mark.parametrize("seen", [ResponseReceived, StreamEnded])
async def test_regression_a_client_of_http_2_that_is_gone_leaves_nothing(tls: Tls, seen: type[object]) -> None:
    """Its connection stayed with its tasks until it had idled for 75 seconds, and with an answer that it had not taken
    for ever."""
    async with running(tls) as gateway:
        await trio.testing.wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().tasks_living
        context = ssl.create_default_context(cafile=str(tls.certificate))
        context.set_alpn_protocols(["h2"])
        for _ in range(3):
            tcp = await trio.open_tcp_stream("127.0.0.1", gateway.port)
            stream = trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True)
            client = H2Connection()
            client.initiate_connection()
            head = {":method": "GET", ":scheme": "https", ":authority": "localhost", ":path": "/b/k"}
            for number in (1, 3):
                client.send_headers(number, list(head.items()), end_stream=True)
            met = False
            while not met:
                await stream.send_all(client.data_to_send())
                met = any(isinstance(each, seen) for each in client.receive_data(await stream.receive_some()))
            await tcp.aclose()
        with trio.fail_after(HANG_S):
            while trio.lowlevel.current_statistics().tasks_living > before:
                await trio.lowlevel.checkpoint()


@pytest.mark.client
@pytest.mark.parametrize(
    "wrong",
    [
        [("authorization", "a"), ("authorization", "b")],
        [("content-length", "0"), ("content-length", "0")],
        [(":path", "/b/%zz")],
        [(":path", "/b/a%00b")],
        [(":path", "/b/%ff")],
        [(":path", "https://localhost/b/k")],
        [(":path", "/b/k#f")],
    ],
)
async def test_http_2_refuses_what_http_1_refuses(tls: Tls, wrong: list[tuple[str, str]]) -> None:
    async with running(tls) as gateway:
        context = ssl.create_default_context(cafile=str(tls.certificate))
        context.set_alpn_protocols(["h2"])
        tcp = await trio.open_tcp_stream("127.0.0.1", gateway.port)
        stream = trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True)
        client = H2Connection(H2Configuration(validate_outbound_headers=False))
        client.initiate_connection()
        sound = {":method": "GET", ":scheme": "https", ":authority": "localhost", ":path": "/b/k"}
        pseudo = dict(each for each in wrong if each[0] in sound)
        client.send_headers(1, [*(sound | pseudo).items(), *(each for each in wrong if each[0] not in sound)], True)
        client.send_headers(3, list(sound.items()), end_stream=True)
        statuses: dict[int, bytes] = {}
        with trio.fail_after(HANG_S):
            while len(statuses) < 2:
                await stream.send_all(client.data_to_send())
                for event in client.receive_data(await stream.receive_some()):
                    if isinstance(event, ResponseReceived):
                        statuses[event.stream_id] = dict(event.headers)[b":status"]
        assert statuses == {1: b"400", 3: b"403"}
        assert not gateway.service.seen
        await tcp.aclose()


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


@pytest.mark.client
async def test_regression_no_more_of_an_answer_is_encrypted_at_once_than_a_slow_client_may_hold(
    tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS made two copies of each chunk: a download that stood still held three MiB in place of one."""
    sizes: list[int] = []
    send_all = trio.SSLStream.send_all

    async def noted(stream: trio.SSLStream[Any], data: bytes | memoryview) -> None:
        sizes.append(len(data))
        await send_all(stream, data)

    monkeypatch.setattr(trio.SSLStream, "send_all", noted)
    data = os.urandom(3 << 20)
    async with running(tls) as gateway:
        gateway.service.buckets["b"] = {b"k": Stored(data, "e", {}, Checksum("CRC64NVME", ""))}
        context = ssl.create_default_context(cafile=str(tls.certificate))
        tcp = await trio.open_tcp_stream("127.0.0.1", gateway.port)
        stream = trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True)
        async with stream:
            request = lines(gateway, "GET", "/b/k", connection="close")
            await stream.send_all(request)
            answer = b"".join([piece async for piece in stream])
        assert answer.endswith(data)
        assert max(sizes) <= ENCRYPTED_MAX
        assert sum(sizes) == len(request) + len(answer)
