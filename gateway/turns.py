"""How many bodies are on their way at once: each holds a stripe in memory as long as its client takes for it."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

import trio

from gateway.errors import S3Error
from gateway.limits import RECEIVE_MAX, TURN_WAIT_S


class Turns:
    """Of one door, first come, first served."""

    def __init__(self, most: int) -> None:
        self._free = trio.Semaphore(most)

    @property
    def waiting(self) -> int:
        """Who has none yet."""
        return self._free.statistics().tasks_waiting

    def turn(self, length: int) -> AbstractAsyncContextManager[None]:
        """Hold one while so many bytes are moved; to be entered before the first, and by who holds none yet. No more
        than a piece needs none.

        Raises: S3Error SlowDown where none is free for ``TURN_WAIT_S``: clients come again then, and those who hold
        theirs may be slow for hours.
        """
        return self._turn() if length > RECEIVE_MAX else nullcontext()

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        with trio.move_on_after(TURN_WAIT_S) as waiting:
            await self._free.acquire()
        if waiting.cancelled_caught:
            raise S3Error("SlowDown")
        try:
            yield
        finally:
            self._free.release()
