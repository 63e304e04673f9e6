"""What S3 asked for: durable, and known to every cache, before it is answered."""

from collections.abc import Callable, Iterable
from typing import TypeVar, TypeVarTuple

import trio

from stratumfs.catalog.engine import Catalog, Touched, Transaction
from stratumfs.catalog.transaction import Seen
from stratumfs.store.changes import Changes

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Committer:
    """``catalog.commit``, and beside its sync the invalidation of what it touched; *tidy* hears of each one.

    An answer that shows what somebody else has changed, an error too, waits for his invalidation.
    """

    def __init__(self, catalog: Catalog, changes: Changes, tidy: Callable[[], None]) -> None:
        self.catalog, self._changes, self._tidy = catalog, changes, tidy

    async def commit(self, fn: Callable[[Transaction, *Ts], T], *args: *Ts) -> T:
        told: list[trio.Event | None] = []
        seen: list[Seen] = []

        def committed(touched: Touched) -> None:
            self._tidy()
            told.append(self._changes.announce(touched))

        try:
            result = await self.catalog.commit(fn, *args, committed=committed, seen=seen)
        finally:
            await self._wait_told(seen)
        for event in told:
            if event is not None:
                await event.wait()
        return result

    async def read(
        self, fn: Callable[[Transaction, *Ts], T], *args: *Ts, at_once: Callable[[T], None] | None = None
    ) -> T:
        """As ``catalog.read_settled``."""
        seen: list[Seen] = []
        try:
            return await self.catalog.read_settled(fn, *args, at_once=at_once, seen=seen)
        finally:
            await self._wait_told(seen)

    async def _wait_told(self, seen: Iterable[Seen]) -> None:
        for each in seen:
            await self._changes.wait_told(each)
