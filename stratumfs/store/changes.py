"""Tell the caches outside (the kernel's) what a commit changed that they cannot know by themselves."""

from collections.abc import Collection, Hashable, Iterable
from itertools import chain
from typing import Protocol

import trio

from stratumfs.catalog.transaction import Seen, Touched
from stratumfs.ids import InodeNo


class NameCache(Protocol):
    """Something that caches names and attributes, and wants to be told."""

    async def invalidate(self, inodes: Collection[InodeNo], names: Collection[tuple[InodeNo, bytes]]) -> None:
        """Return when nothing older than this call can be seen any more, or when a stated bound is over.

        *names* are stored names: a directory's ends in a slash. Never raises; awaits no lock that a request holds.
        """


class Changes:
    """``counter`` moves with each change that was announced: who read before an await compares it after.

    Whoever shows to others what was announced waits until it is told: else they could look through a cache for what
    they have seen, and not find it. So it is for a GET as for the PUT itself.

    Owned by the store, used on the loop; invalidations run in the nursery that it was handed, so that a client that
    goes away does not stop one.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.counter = 0
        self._nursery = nursery
        self._caches: list[NameCache] = []
        self._telling: dict[
            Hashable, trio.Event
        ] = {}  # by inode, name, directory of a name: the last that is under way

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
        places = tuple(_places(touched))
        for place in places:
            self._telling[place] = done
        self._nursery.start_soon(self._tell, touched, tuple(self._caches), places, done)
        return done

    async def wait_told(self, seen: Seen) -> None:
        """Return when all that was announced of these is told."""
        if self._telling:
            for event in {self._telling[place] for place in _places(seen) if place in self._telling}:
                await event.wait()

    async def _tell(
        self, touched: Touched, caches: tuple[NameCache, ...], places: tuple[Hashable, ...], done: trio.Event
    ) -> None:
        try:
            for cache in caches:
                await cache.invalidate(touched.inodes, touched.names)
        finally:
            for place in places:
                if self._telling.get(place) is done:
                    del self._telling[place]
            done.set()


def _places(of: Seen | Touched) -> Iterable[Hashable]:
    """Inodes are numbers, names are pairs, directories have a name of their own: they never meet."""
    directories = of.directories if isinstance(of, Seen) else {parent for parent, _ in of.names}
    return chain(of.inodes, of.names, (("listing", directory) for directory in directories))
