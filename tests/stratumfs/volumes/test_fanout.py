"""Several threads, one wake-up."""

import threading

import pytest
import trio

from stratumfs.volumes.fanout import in_threads


async def test_all_run_at_once_and_errors_keep_their_place() -> None:
    barrier = threading.Barrier(3)
    error = ValueError("it")

    def good() -> None:
        barrier.wait(10)

    def bad() -> None:
        barrier.wait(10)
        raise error

    assert await in_threads([good, bad, good]) == [None, error, None]
    assert await in_threads([]) == []


async def test_cancellation_waits_for_all() -> None:
    release = threading.Event()
    ran: list[int] = []

    def work() -> None:
        assert release.wait(10)
        ran.append(1)

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_threads, [work, work])
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            release.set()
    assert ran == [1, 1]


@pytest.mark.parametrize("count", [1, 50])
async def test_many_at_once(count: int) -> None:
    assert await in_threads([lambda: None] * count) == [None] * count
