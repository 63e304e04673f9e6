"""Tell the caches outside (the kernel's) what a commit changed that they cannot know by themselves."""

from collections.abc import Collection
from typing import Protocol

import trio

from stratumfs.catalog.transaction import Touched
from stratumfs.ids import InodeNo


class NameCache(Protocol):
    """Something that caches names and attributes, and wants to be told."""

    async def invalidate(self, inodes: Collection[InodeNo], names: Collection[tuple[InodeNo, bytes]]) -> None:
        """Return when nothing older than this call can be seen any more, or when a stated bound is over.

        *names* are stored names: a directory's ends in a slash. Never raises; awaits no lock that a request holds.
        """


class Changes:
    """``counter`` moves with each change that was announced: who read before an await compares it after.

    Owned by the store, used on the loop; invalidations run in the nursery that it was handed, so that a client that
    goes away does not stop one.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.counter = 0
        self._nursery = nursery
        self._caches: list[NameCache] = []

    def attach(self, cache: NameCache) -> None:
        self._caches.append(cache)

    def detach(self, cache: NameCache) -> None:
        self._caches.remove(cache)

    def announce(self, touched: Touched) -> trio.Event | None:
        """Begin to tell every cache. The event is set when all know; None where nobody listens."""
        self.counter += 1
        if not self._caches or not (touched.inodes or touched.names):
            return None
        done = trio.Event()
        self._nursery.start_soon(self._tell, touched, tuple(self._caches), done)
        return done

    async def _tell(self, touched: Touched, caches: tuple[NameCache, ...], done: trio.Event) -> None:
        try:
            for cache in caches:
                await cache.invalidate(touched.inodes, touched.names)
        finally:
            done.set()
