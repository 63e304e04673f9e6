"""One lock for each inode that somebody is changing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from stratumfs.ids import InodeNo


class InodeLocks:
    """From queueing a durable change of an inode until its transaction whoever else changes it waits.

    Owned by the store, used on the loop. A lock exists while somebody holds or awaits it.
    """

    def __init__(self) -> None:
        self._locks: dict[InodeNo, trio.Lock] = {}

    @asynccontextmanager
    async def holding(self, ino: InodeNo) -> AsyncIterator[None]:
        lock = self._locks.setdefault(ino, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            statistics = lock.statistics()
            if not statistics.locked and not statistics.tasks_waiting:
                self._locks.pop(ino, None)
