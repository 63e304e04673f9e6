"""Who of several tasks reads the next request, and how it is waited for."""

import os
from collections.abc import AsyncIterator

import pyfuse3
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from stratumfs.fuse import session
from stratumfs.fuse.reading import Reading, TrioForReading


class Readers:
    """Three tasks that read requests in turns, as pyfuse3's do. Request 0 is answered at once, another one when told.

    read  which task has read which request, in order
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.reading = Reading()
        self.read: list[tuple[str, int]] = []
        self.scopes = {name: trio.CancelScope() for name in "abc"}
        self._send, self._receive = trio.open_memory_channel[int](9)
        self._answer = {number: trio.Event() for number in range(1, 9)}
        self._nursery = nursery

    async def start(self) -> None:
        trio.lowlevel.add_instrument(self.reading)
        for name in self.scopes:
            self._nursery.start_soon(self._serve, name)
            await wait_all_tasks_blocked()

    async def ask(self, request: int) -> None:
        self._send.send_nowait(request)
        await wait_all_tasks_blocked()

    async def answer(self, request: int) -> None:
        self._answer[request].set()
        await wait_all_tasks_blocked()

    async def _serve(self, name: str) -> None:
        with self.scopes[name]:
            while True:
                async with self.reading:
                    request = await self._receive.receive()
                self.read.append((name, request))
                if request:
                    await self._answer[request].wait()


@pytest.fixture
async def readers() -> AsyncIterator[Readers]:
    async with trio.open_nursery() as nursery:
        found = Readers(nursery)
        await found.start()
        yield found
        nursery.cancel_scope.cancel()
        trio.lowlevel.remove_instrument(found.reading)


async def test_who_answers_at_once_reads_again(readers: Readers) -> None:
    for _ in range(3):
        await readers.ask(0)
    assert readers.read == [("a", 0)] * 3


async def test_while_one_waits_another_reads(readers: Readers) -> None:
    for request in (1, 0, 2, 0, 0):
        await readers.ask(request)
    assert readers.read == [("a", 1), ("b", 0), ("b", 2), ("c", 0), ("c", 0)]


async def test_where_all_wait_the_first_that_is_done_reads(readers: Readers) -> None:
    for request in (1, 2, 3, 0):
        await readers.ask(request)
    assert len(readers.read) == 3
    await readers.answer(2)
    await readers.answer(1)
    await readers.ask(0)
    assert readers.read[3:] == [("b", 0), ("b", 0)]


async def test_a_reader_that_ends_leaves_the_next_request_to_another(readers: Readers) -> None:
    for name in "ab":
        readers.scopes[name].cancel()
        await wait_all_tasks_blocked()
    await readers.ask(0)
    assert readers.read == [("c", 0)]


async def test_one_that_is_cancelled_while_it_waits_for_its_turn_takes_none(readers: Readers) -> None:
    readers.scopes["b"].cancel()
    await readers.ask(1)
    await readers.ask(0)
    assert readers.read == [("a", 1), ("c", 0)]


async def test_a_wake_that_fails_is_made_again_after_the_next_step(
    readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instrument that raises is dropped by trio, and nobody would read any more."""
    unpark = trio.lowlevel.ParkingLot.unpark
    faults = [MemoryError()]

    def failing(lot: trio.lowlevel.ParkingLot) -> object:
        if faults:
            raise faults.pop()
        return unpark(lot)

    monkeypatch.setattr(trio.lowlevel.ParkingLot, "unpark", failing)
    for request in (1, 0):
        await readers.ask(request)
    assert readers.read == [("a", 1), ("b", 0)]


class Session:
    """A pipe for the kernel's requests, each a byte, read as pyfuse3 does."""

    def __init__(self) -> None:
        self.reading = Reading()
        self._trio = TrioForReading(self.reading)
        self._descriptor, self._kernel = os.pipe()

    def ask(self, requests: int) -> None:
        os.write(self._kernel, bytes(requests))

    async def serve(self, requests: int) -> int:
        """Returns in how many steps of the loop they were read."""
        began = self.reading.steps
        for _ in range(requests):
            async with self._trio.Lock():
                await self._trio.lowlevel.wait_readable(self._descriptor)
                os.read(self._descriptor, 1)
        return self.reading.steps - began

    def close(self) -> None:
        for descriptor in (self._descriptor, self._kernel):
            os.close(descriptor)


@pytest.fixture
async def session_() -> AsyncIterator[Session]:
    found = Session()
    trio.lowlevel.add_instrument(found.reading)
    yield found
    trio.lowlevel.remove_instrument(found.reading)
    found.close()


async def test_requests_that_come_one_behind_the_other_are_read_in_few_steps(session_: Session) -> None:
    session_.ask(100)
    assert await session_.serve(100) < 50


async def test_others_have_their_turn_while_requests_come(session_: Session) -> None:
    async def other() -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            while True:
                session_.ask(100)
                await session_.serve(100)
    assert scope.cancelled_caught


async def test_a_request_that_does_not_come_soon_is_waited_for_by_the_scheduler(session_: Session) -> None:
    session_.ask(1)
    await session_.serve(1)
    served = trio.Event()

    async def serve() -> None:
        await session_.serve(1)
        served.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await wait_all_tasks_blocked()  # it would never be, if the loop itself waited
        assert not served.is_set()
        session_.ask(1)
        await served.wait()


async def test_pyfuse3_asks_us_who_reads_as_long_as_its_loop_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    async def main(**options: int) -> None:
        its = pyfuse3.trio  # type: ignore[attr-defined]
        seen.extend((its.Lock(), its.open_nursery, its.lowlevel.current_task))

    monkeypatch.setattr(pyfuse3, "main", main)
    await session._loop("/nowhere", trio.Event(), [])
    assert isinstance(seen[0], Reading)
    assert seen[1] is trio.open_nursery
    assert seen[2] is trio.lowlevel.current_task
    assert pyfuse3.trio is trio  # type: ignore[attr-defined]
