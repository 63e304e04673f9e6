"""MD5 of a stream in a thread of its own, beside the coding: it is most of what a write costs."""

import hashlib
from collections import deque
from collections.abc import Sequence

import trio

from stratumfs.errors import DeviceUnasked, StoreClosing
from stratumfs.ids import Buffer
from stratumfs.limits import HASH_INLINE, HASHED_TOGETHER
from stratumfs.volumes.threads import LendingThreads


class StreamDigest:
    """MD5 of buffers in the order in which they are given; at most one thread is at it.

    Owned by one writer, used on the loop. Streams share *threads*.
    """

    def __init__(self, nursery: trio.Nursery, threads: LendingThreads) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._nursery, self._threads = nursery, threads
        self._queue: deque[tuple[Buffer, trio.Event]] = deque()
        self._running = False

    def update(self, data: Buffer) -> trio.Event | None:
        """Returns before *data* is hashed; it stays unchanged until the event is set (None: it is hashed)."""
        if not self._running and len(data) <= HASH_INLINE:
            self._md5.update(data)
            return None
        hashed = trio.Event()
        self._queue.append((data, hashed))
        if not self._running:
            self._running = True
            self._nursery.start_soon(self._hash)
        return hashed

    async def digest(self) -> bytes:
        """16 bytes, of all that was given. Raises: StoreClosing if the nursery was cancelled before all was hashed."""
        while self._queue:
            await self._queue[-1][1].wait()
            if self._queue and not self._running:
                raise StoreClosing("the store closes: some of these bytes were not hashed")
        return self._md5.digest()

    async def _hash(self) -> None:
        try:
            while self._queue:
                batch = self._next()
                with trio.CancelScope(shield=True):  # nobody may ask for the digest while a thread is at it
                    try:
                        await self._threads.run(self._update, batch)
                    except DeviceUnasked:
                        self._update(batch)  # a few milliseconds of the loop, where there is no thread for it
                for _ in batch:
                    self._queue.popleft()[1].set()
                await trio.lowlevel.checkpoint_if_cancelled()
        finally:
            self._running = False
            for _, hashed in self._queue:
                hashed.set()

    def _next(self) -> list[Buffer]:
        """What waits, up to HASHED_TOGETHER, but one buffer at least: a hop for each is much for short ones."""
        batch: list[Buffer] = []
        size = 0
        for data, _ in self._queue:
            size += len(data)
            if batch and size > HASHED_TOGETHER:
                break
            batch.append(data)
        return batch

    def _update(self, batch: Sequence[Buffer]) -> None:
        for data in batch:
            self._md5.update(data)
