"""A bounded number of threads, and what their waiters leave behind."""

import threading

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from stratumfs.volumes.threads import LendingThreads


async def test_a_call_gives_what_it_returns_or_raises() -> None:
    threads = LendingThreads(1)
    assert await threads.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 7, 0)
    assert await threads.run(threading.current_thread) is not threading.current_thread()


async def test_no_more_than_so_many_run_at_once() -> None:
    threads = LendingThreads(2)
    release = threading.Event()
    running = threading.Semaphore(0)
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        running.release()
        assert release.wait(60)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(threads.run, work, number)
        await wait_all_tasks_blocked()
        for _ in range(2):
            assert running.acquire(timeout=60)
        assert len(begun) == 2
        release.set()
    assert len(begun) == 3


async def test_a_thread_that_its_waiter_left_takes_no_place_from_others() -> None:
    threads = LendingThreads(1)
    release = threading.Event()
    ended = threading.Event()

    def stuck() -> None:
        assert release.wait(60)
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(threads.run, stuck)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    with trio.fail_after(60):
        assert await threads.run(len, b"abc") == 3
    release.set()
    assert ended.wait(60)
    with trio.fail_after(60):
        assert await threads.run(len, b"abcd") == 4


async def test_regression_a_waiter_that_is_cancelled_already_begins_no_call() -> None:
    """A write of a stream that was given up went to a device after all."""
    threads = LendingThreads(1)
    begun: list[int] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        await threads.run(begun.append, 1)
    assert scope.cancelled_caught
    await threads.run(begun.append, 2)
    assert begun == [2]
