"""How many wait for somebody's S3, for how long, and what they are told."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from stratumfs.cold_limits import REMOTE_READS_OF_MOUNT_MAX
from stratumfs.errors import ColdUnavailable, DeviceFailed, StoreBusy, StratumError
from stratumfs.ids import CellIndex, DeviceId, VolumeId
from stratumfs.limits import REMOTE_FAILURES, REMOTE_THREADS
from stratumfs.shards.budget import DAY_S, RecallBudget
from stratumfs.shards.encrypted import MasterKey, encrypt
from stratumfs.shards.layout import ShardName
from stratumfs.shards.memory import MemoryShards
from stratumfs.shards.remote_shards import RemoteShards, object_name
from stratumfs.share import OF_MOUNT
from stratumfs.volumes.remote import RemoteSource
from tests.remotes import MemoryRemote
from tests.stores import STORE

DEADLINE_S = 60.0
PATIENCE_S = 60.0
MASTER = MasterKey(bytes(range(32)))


class Stalled:
    """Calls that return when *go* is set. begun: how many there are."""

    def __init__(self) -> None:
        self.go, self.begun = threading.Event(), threading.Semaphore(0)

    def call(self) -> str:
        self.begun.release()
        assert self.go.wait(PATIENCE_S)
        return "read"

    async def wait_begun(self, count: int) -> None:
        for _ in range(count):
            await trio.to_thread.run_sync(self.begun.acquire)


@contextmanager
def stalled() -> Iterator[Stalled]:
    made = Stalled()
    try:
        yield made
    finally:
        made.go.set()


def source() -> RemoteSource:
    return RemoteSource(DeviceId(bytes(16)), "s3://bucket", MemoryShards(), DEADLINE_S)


async def collect(asked: RemoteSource, call: Stalled, found: list[object]) -> None:
    try:
        found.append(await asked.read(call.call))
    except StratumError as error:
        found.append(error)


async def test_what_had_no_turn_in_time_is_not_held_against_the_service(mock_clock: MockClock) -> None:
    asked, found, late = source(), list[object](), list[object]()
    with stalled() as calls:
        async with trio.open_nursery() as nursery:
            for _ in range(REMOTE_THREADS):
                nursery.start_soon(collect, asked, calls, found)
            await calls.wait_begun(REMOTE_THREADS)
            mock_clock.jump(1.0)
            nursery.start_soon(collect, asked, calls, late)
            await wait_all_tasks_blocked()
            calls.go.set()
        assert found == ["read"] * REMOTE_THREADS
        assert late == ["read"]  # which began when others had ended, and has its own time
        assert asked.failures == 0


async def test_who_waits_longer_for_a_turn_than_a_call_may_take_is_told_that_it_is_crowded(
    mock_clock: MockClock,
) -> None:
    asked, found = source(), list[object]()
    with stalled() as calls:
        async with trio.open_nursery() as nursery:
            for _ in range(REMOTE_THREADS):
                nursery.start_soon(collect, asked, calls, [])
            await calls.wait_begun(REMOTE_THREADS)
            await wait_all_tasks_blocked()
            for turn in (*asked._waiting[False],):
                turn.scope.deadline = float("inf")  # these are answered in the end
            nursery.start_soon(collect, asked, calls, found)
            await wait_all_tasks_blocked()
            mock_clock.jump(DEADLINE_S + 1)
            await wait_all_tasks_blocked()
            [error] = found
            assert isinstance(error, StoreBusy)
            assert asked.failures == 0
            calls.go.set()


async def test_when_the_service_fails_those_that_wait_for_a_turn_are_told_at_once(mock_clock: MockClock) -> None:
    asked, found = source(), list[object]()
    with stalled() as calls:
        async with trio.open_nursery() as nursery:
            for _ in range(REMOTE_THREADS):
                nursery.start_soon(collect, asked, calls, found)
            await calls.wait_begun(REMOTE_THREADS)
            mock_clock.jump(DEADLINE_S - 1)
            for _ in range(200):
                nursery.start_soon(collect, asked, calls, found)
            await wait_all_tasks_blocked()
            mock_clock.jump(2.0)
            await wait_all_tasks_blocked()
            assert len(found) == REMOTE_THREADS + 200
            assert {type(each) for each in found} == {ColdUnavailable}
            calls.go.set()
        with pytest.raises(ColdUnavailable, match="asked again in"):
            await asked.read(calls.call)


async def test_a_thousand_readers_of_a_service_that_answers_are_all_answered() -> None:
    asked, found = source(), list[object]()
    with stalled() as calls:
        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(collect, asked, calls, found)
            await wait_all_tasks_blocked()
            calls.go.set()
    assert found == ["read"] * 1000


async def test_of_a_mount_only_so_many_wait_and_others_go_on() -> None:
    asked, found, others = source(), list[object](), list[object]()

    async def of_mount() -> None:
        OF_MOUNT.set(True)
        await collect(asked, calls, found)

    with stalled() as calls:
        async with trio.open_nursery() as nursery:
            for _ in range(REMOTE_READS_OF_MOUNT_MAX + 1):
                nursery.start_soon(of_mount)
            await wait_all_tasks_blocked()
            [refused] = found
            assert isinstance(refused, StoreBusy)
            nursery.start_soon(collect, asked, calls, others)
            await wait_all_tasks_blocked()
            calls.go.set()
    assert others == ["read"]
    assert found.count("read") == REMOTE_READS_OF_MOUNT_MAX


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


READ = 400_000  # more than is kept for its neighbours
RATE = 10_000.0


async def test_of_a_herd_that_waits_for_the_budget_no_more_read_than_it_has(mock_clock: MockClock) -> None:
    remote, clock, found = MemoryRemote(), Clock(), list[object]()
    budget = RecallBudget(RATE * DAY_S, clock=clock)
    shards = RemoteShards(remote, MASTER, STORE, budget)
    ident = VolumeId(bytes(16))
    remote.put(object_name(STORE, MASTER, ident), encrypt(MASTER, STORE, ident, bytes(READ)))
    asked = RemoteSource(DeviceId(bytes(16)), "s3://bucket", shards, DEADLINE_S, None, budget)
    budget.spend(int(RATE * (DAY_S + 10)))
    before = budget.bytes.spent

    async def read() -> None:
        try:
            found.append(await asked.read(shards.read_at, ShardName(ident, CellIndex(0)), 0, READ))
        except StratumError as error:
            found.append(error)

    async def later(seconds: float) -> None:
        clock.now += seconds
        mock_clock.jump(seconds)
        await wait_all_tasks_blocked()
        while asked._threads.borrowed_tokens:  # a thread's end tells nobody
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(read)
        await wait_all_tasks_blocked()
        assert found == []
        await later(11.5)
        assert found == [bytes(READ)]
        await later(41.0)
    assert found.count(bytes(READ)) == 2
    assert [type(each) for each in found].count(StoreBusy) == 98  # it opens when their time is over
    assert budget.bytes.spent - before < 2.1 * READ
    assert asked.failures == 0


async def test_what_fails_in_a_row_is_refused_and_counted_once_each(mock_clock: MockClock) -> None:
    asked = source()

    def fails() -> None:
        raise DeviceFailed("it refuses")

    for _ in range(REMOTE_FAILURES):
        with pytest.raises(ColdUnavailable, match="it refuses"):
            await asked.read(fails)
    with pytest.raises(ColdUnavailable, match="asked again in"):
        await asked.read(fails)
    assert asked.failures == REMOTE_FAILURES
