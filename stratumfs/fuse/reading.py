"""Which of pyfuse3's tasks reads the next request."""

from typing import Any

import trio


class Reading(trio.abc.Instrument):
    """Takes the place of the lock under which pyfuse3's tasks take turns at reading the session.

    A lock would go to the next of them with each request, at the price of a turn of the scheduler; nearly all requests
    are answered in the step in which they were read. So who has read may read again, and another one does when that
    step has ended with something else to wait for, which an instrument of the loop is told. One of them is hot, too:
    each task has a buffer of its own.
    """

    def __init__(self) -> None:
        self._taken = False
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        if self._taken:
            await self._waiting.park()
        self._taken = True

    async def __aexit__(self, *_: object) -> None:
        self._taken = False

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if not self._taken and self._waiting:
            self._taken = True  # until the one that is woken runs
            try:
                self._waiting.unpark()
            except Exception:  # trio would drop the instrument, and nobody would ever read again
                self._taken = False


class TrioForReading:
    """What pyfuse3 takes for trio (it has a place for another one, see its ``asyncio`` module)."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def Lock(self) -> Reading:  # noqa: N802 - trio's name
        return self._reading

    def __getattr__(self, name: str) -> Any:
        return getattr(trio, name)
