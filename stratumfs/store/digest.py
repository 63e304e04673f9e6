"""MD5 of a stream in a thread of its own, beside the coding: it is most of what a write costs."""

import hashlib
from collections import deque

import trio

from stratumfs.ids import Buffer
from stratumfs.limits import HASH_INLINE


class StreamDigest:
    """MD5 of buffers in the order in which they are given; at most one of them is in a thread.

    Owned by one writer, used on the loop. Threads of all streams share a limiter.
    """

    def __init__(self, nursery: trio.Nursery, threads: trio.CapacityLimiter) -> None:
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
        """16 bytes, of all that was given."""
        while self._queue:
            await self._queue[-1][1].wait()
        return self._md5.digest()

    async def _hash(self) -> None:
        try:
            while self._queue:
                data, hashed = self._queue[0]
                await trio.to_thread.run_sync(self._md5.update, data, limiter=self._threads)
                self._queue.popleft()
                hashed.set()
        finally:
            self._running = False
            for _, hashed in self._queue:
                hashed.set()
