"""Several threads, one wake-up."""

import threading

import pytest
import trio

from stratumfs.volumes.fanout import in_threads


async def test_all_run_at_once_and_errors_keep_their_place() -> None:
    barrier = threading.Barrier(3)
    error = ValueError("it")

    def good() -> None:
        barrier.wait(60)

    def bad() -> None:
        barrier.wait(60)
        raise error

    assert await in_threads([good, bad, good]) == [None, error, None]
    assert await in_threads([]) == []


async def test_a_cancelled_waiter_goes_on_and_the_threads_to_their_ends() -> None:
    release = threading.Event()
    ended = threading.Semaphore(0)

    def work() -> None:
        assert release.wait(60)
        ended.release()

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_threads, [work, work])
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    release.set()
    for _ in range(2):
        assert await trio.to_thread.run_sync(ended.acquire, True, 60)


@pytest.mark.parametrize("count", [1, 50])
async def test_many_at_once(count: int) -> None:
    assert await in_threads([lambda: None] * count) == [None] * count
