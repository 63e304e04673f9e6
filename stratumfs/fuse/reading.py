"""Which of pyfuse3's tasks reads the next request."""

import ctypes
import select
import time
from typing import Any

import trio

from stratumfs.limits import REQUEST_SOON_S, REQUESTS_TURN_S

_ppoll = ctypes.CDLL(None).ppoll


class Reading(trio.abc.Instrument):
    """Takes the place of the lock under which pyfuse3's tasks take turns at reading the session.

    A lock would go to the next of them with each request, at the price of a turn of the scheduler; nearly all requests
    are answered in the step in which they were read. So who has read may read again, and another one does when that
    step has ended with something else to wait for, which an instrument of the loop is told. One of them is hot, too:
    each task has a buffer of its own.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._taken = False
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        if self._taken:
            await self._waiting.park()
        self._taken = True

    async def __aexit__(self, *_: object) -> None:
        self._taken = False

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
        if not self._taken and self._waiting:
            self._taken = True  # until the one that is woken runs
            try:
                self._waiting.unpark()
            except Exception:  # trio would drop the instrument, and nobody would ever read again
                self._taken = False


class _Poll(ctypes.Structure):
    """struct pollfd."""

    _fields_ = (("descriptor", ctypes.c_int), ("events", ctypes.c_short), ("found", ctypes.c_short))


class _Time(ctypes.Structure):
    """struct timespec."""

    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Prompt:
    """``trio.lowlevel`` as pyfuse3 uses it; it waits for the next request.

    A program that makes one call after the other makes the next one some 20 µs after it has its answer, and trio's way
    to it costs several times that: two system calls for the loop's epoll, and a turn of its scheduler. So where the
    last request came soon, and nobody else had anything to do meanwhile, the whole loop waits for the next one, for a
    moment, as long as they come so. Everybody else has a turn after REQUESTS_TURN_S.
    """

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._soon, self._until = False, 0.0
        self._poll = _Poll(0, select.POLLIN, 0)
        self._wait = _Time(0, int(REQUEST_SOON_S * 10**9))
        self._arguments = ctypes.byref(self._poll), 1, ctypes.byref(self._wait), None

    async def wait_readable(self, descriptor: int) -> None:
        """As trio's own. Not always a checkpoint."""
        if self._soon and time.perf_counter() < self._until:
            self._poll.descriptor = descriptor
            if _ppoll(*self._arguments) > 0:
                return
        steps, began = self._reading.steps, time.perf_counter()
        await trio.lowlevel.wait_readable(descriptor)
        now = time.perf_counter()
        # By this way also a request that was there at once takes a while.
        self._soon = now - began < 4 * REQUEST_SOON_S and self._reading.steps - steps <= 1
        self._until = now + REQUESTS_TURN_S

    def __getattr__(self, name: str) -> Any:
        return getattr(trio.lowlevel, name)


class TrioForReading:
    """What pyfuse3 takes for trio (it has a place for another one, see its ``asyncio`` module)."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self.lowlevel = Prompt(reading)

    def Lock(self) -> Reading:  # noqa: N802 - trio's name
        return self._reading

    def __getattr__(self, name: str) -> Any:
        return getattr(trio, name)
