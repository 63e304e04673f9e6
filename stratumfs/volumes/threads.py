"""Threads that code and write; one that is stuck in the kernel does not take a place from the others."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@dataclass(slots=True)
class _Call:
    begun: bool = False
    ended: bool = False
    lent: bool = False


class LendingThreads:
    """At most *count* threads, without those that their waiters left behind: these keep what they hold until they
    return, and another slot stands in for theirs."""

    def __init__(self, count: int) -> None:
        self._limiter = trio.CapacityLimiter(count)
        self._lock = threading.Lock()  # guards the fields of each call; held for no longer than it takes to set them

    async def run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """*fn* in a thread. A cancelled waiter goes on, and the thread to its end."""
        call = _Call()
        token = trio.lowlevel.current_trio_token()

        def run() -> T:
            call.begun = True
            try:
                return fn(*args)
            finally:
                with self._lock:
                    call.ended = True
                if call.lent:
                    token.run_sync_soon(self._returned)

        try:
            return await trio.to_thread.run_sync(run, limiter=self._limiter, abandon_on_cancel=True)
        except trio.Cancelled:
            with self._lock:
                call.lent = call.begun and not call.ended
            if call.lent:
                self._limiter.total_tokens += 1
            raise

    def _returned(self) -> None:
        self._limiter.total_tokens -= 1
