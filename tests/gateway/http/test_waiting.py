"""Many connections: those that only wait make room, and nobody is kept out by them."""

import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing

from gateway.http.waiting import Waiting
from gateway.limits import CONNECTION_IDLE_S
from gateway.serve import Tls
from stratumfs.limits import CONNECTIONS_MAX
from tests.gateway.http.test_table import GET, H, connect
from tests.gateway.memory import Running, running
from tests.gateway.test_app import exchange, lines

HANG_S = 60
IDLE = 2000
LIVE = b"GET /stratum/health/live HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture
def files() -> Iterator[None]:
    """Descriptors for both ends of so many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, 2 * IDLE + 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
async def gateway() -> AsyncIterator[Running]:
    async with running() as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize(("count", "most"), [(IDLE, CONNECTIONS_MAX), (300, 64)])
async def test_idle_connections_keep_no_working_client_out(count: int, most: int, files: None) -> None:
    """Half of them have sent a part of a head. With room for all, and with room for few."""
    async with running(connections_max=most) as gateway, AsyncExitStack() as idle:
        gateway.service.buckets["b"] = {}
        for number in range(count):
            stream = await idle.enter_async_context(await trio.open_tcp_stream("127.0.0.1", gateway.port))
            if number % 2:
                await stream.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n")
        served = []

        async def work(number: int) -> None:
            for turn in range(5):
                path = f"/b/{number}-{turn}"
                assert b" 200 " in (await exchange(gateway, lines(gateway, "PUT", path, b"hello")))[:15]
                served.append((await exchange(gateway, lines(gateway, "GET", path)))[-5:])

        with trio.fail_after(HANG_S):
            async with trio.open_nursery() as nursery:
                for number in range(8):
                    nursery.start_soon(work, number)
        assert served == [b"hello"] * 40


async def test_the_one_that_waited_longest_makes_room() -> None:
    async with running(connections_max=2) as gateway:
        first, second = [await trio.open_tcp_stream("127.0.0.1", gateway.port) for _ in range(2)]
        for stream in (first, second, first):
            await stream.send_all(LIVE)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        third = await trio.open_tcp_stream("127.0.0.1", gateway.port)
        with trio.fail_after(HANG_S):
            assert await second.receive_some() == b""
            for stream in (first, third):
                await stream.send_all(LIVE)
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        for stream in (first, second, third):
            await stream.aclose()


async def test_a_request_under_way_makes_no_room() -> None:
    async with running(connections_max=1) as gateway:
        gateway.service.buckets["b"] = {}
        working = await trio.open_tcp_stream("127.0.0.1", gateway.port)
        request = lines(gateway, "PUT", "/b/k", b"hello")
        await working.send_all(request[:-1])
        while not gateway.door.statistics().in_flight:
            await trio.lowlevel.checkpoint()
        late = await trio.open_tcp_stream("127.0.0.1", gateway.port)
        with trio.fail_after(HANG_S):
            assert await late.receive_some() == b""
            await working.send_all(request[-1:])
            assert (await working.receive_some()).startswith(b"HTTP/1.1 200")
        await late.aclose()
        await working.aclose()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", LIVE])
async def test_who_takes_too_long_for_a_head_is_given_up(
    gateway: Running, sent: bytes, mock_clock: trio.testing.MockClock
) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", gateway.port)
    async with stream:
        if sent:
            await stream.send_all(sent)
        if sent == LIVE:
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        await trio.testing.wait_all_tasks_blocked(0.05)
        mock_clock.jump(CONNECTION_IDLE_S - 1)
        await trio.testing.wait_all_tasks_blocked(0.05)
        mock_clock.jump(2)
        assert await stream.receive_some() == b""


async def test_who_does_not_shake_hands_makes_room_too(tls: Tls) -> None:
    async with running(tls, connections_max=1) as gateway:
        silent = await trio.open_tcp_stream("127.0.0.1", gateway.port)
        stream = await connect(gateway.port, tls)
        with trio.fail_after(HANG_S):
            await stream.send_all(b"GET / HTTP/1.1\r\n" + H + b"\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 403")
            assert await silent.receive_some() == b""
        await trio.aclose_forcefully(stream)
        await silent.aclose()


async def test_what_comes_late_to_the_end_is_ended() -> None:
    waiting = Waiting()
    waiting.end_all()
    with trio.CancelScope() as scope, waiting.within(scope):
        await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not waiting.end_oldest()


async def test_requests_that_come_before_their_turn_wait_in_the_kernel(gateway: Running) -> None:
    """A client sends and sends behind a download that it does not take: the connection stops reading."""
    gateway.service.buckets["b"] = {}
    await exchange(gateway, lines(gateway, "PUT", "/b/k", bytes(3 << 20)))
    stream = await trio.open_tcp_stream("127.0.0.1", gateway.port)
    async with stream:
        await stream.send_all(lines(gateway, "GET", "/b/k"))
        await trio.testing.wait_all_tasks_blocked(0.05)
        sent = 0
        with trio.move_on_after(1):
            while sent < 64 << 20:
                await stream.send_all(GET * 4000)
                sent += len(GET) * 4000
        assert sent < 64 << 20
        assert gateway.door.statistics().in_flight == 1
