"""Threads that hash, code and write; one that is stuck in the kernel does not take a place from the others."""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import TypeVar, TypeVarTuple

import outcome
import trio

from stratumfs.threads import start_thread

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class LendingThreads:
    """At most *count* threads, without those that their waiters left behind: these keep what they hold until they
    return, and another slot stands in for theirs.

    Threads of trio's cache, without what ``to_thread.run_sync`` does beside: two system calls that name the thread,
    a copy of the context and a limiter that knows its borrowers cost as much as all else of a hop.
    """

    def __init__(self, count: int) -> None:
        self._slots = trio.Semaphore(count)

    async def run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """*fn* in a thread. A cancelled waiter goes on, and the thread to its end; one that is cancelled already begins
        none."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._slots.acquire_nowait()
        except trio.WouldBlock:
            await self._slots.acquire()
        try:
            result: T = await _in_thread(partial(fn, *args))
        finally:
            self._slots.release()
        return result


async def _in_thread(call: Callable[[], T]) -> T:
    token, task = trio.lowlevel.current_trio_token(), trio.lowlevel.current_task()
    waiting = True

    def deliver(result: outcome.Outcome[T]) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(go_on, result)

    def go_on(result: outcome.Outcome[T]) -> None:
        nonlocal waiting
        if waiting:
            waiting = False
            trio.lowlevel.reschedule(task, result)

    def leave(_: object) -> trio.lowlevel.Abort:
        nonlocal waiting
        waiting = False
        return trio.lowlevel.Abort.SUCCEEDED

    start_thread(call, deliver)
    returned: T = await trio.lowlevel.wait_task_rescheduled(leave)
    return returned
