"""Counting what lies below buckets goes on behind damage of the sums, which can all be counted again."""

from pathlib import Path

import trio

from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.usage import last_walk
from stratumfs.repair.usage import UsageWalk
from tests.stratumfs.repair.stores import DATA, filled


def _damage(tx: Transaction) -> None:
    tx.run("delete from usage")
    tx.run("insert into usage values (?, 1, 0, 0, 0, ?)", (b"bucket/", "no time"))


async def test_regression_a_damaged_row_of_the_sums_ends_no_store(tmp_path: Path) -> None:
    async def no_pace(took_s: float, counted: int) -> None:
        """At once."""

    async with filled(tmp_path) as store:
        await store.usage.wait_walk()
        await store.catalog.write(_damage)
        walk = UsageWalk(store.catalog, no_pace)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(walk.serve)
            await walk.wait_walk()
            nursery.cancel_scope.cancel()
        assert walk.buckets[b"bucket"].objects == len(DATA)
        assert await store.catalog.read(last_walk) is not None
