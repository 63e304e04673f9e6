"""Commits that S3 asked for: durable, and known to every cache, before they are answered."""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio

from stratumfs.catalog.engine import Catalog, Touched, Transaction
from stratumfs.store.changes import Changes

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Committer:
    """``catalog.commit``, and beside its sync the invalidation of what it touched; *tidy* hears of each one."""

    def __init__(self, catalog: Catalog, changes: Changes, tidy: Callable[[], None]) -> None:
        self.catalog, self._changes, self._tidy = catalog, changes, tidy

    async def commit(self, fn: Callable[[Transaction, *Ts], T], *args: *Ts) -> T:
        told: list[trio.Event | None] = []

        def committed(touched: Touched) -> None:
            self._tidy()
            told.append(self._changes.announce(touched))

        result = await self.catalog.commit(fn, *args, committed=committed)
        for event in told:
            if event is not None:
                await event.wait()
        return result
