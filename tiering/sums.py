"""What lies in each tier below a directory or in a bucket, what it costs a month, and what of it would move."""

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import trio

from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.residence import Residence, residences
from stratumfs.ids import InodeNo
from stratumfs.limits import RESIDENCES
from tiering.engine import Engine
from tiering.fork import Fork
from tiering.prices import MONTH_S, TierPrice
from tiering.walk import below

Way = tuple[str, str]
"""From tier, to tier."""


@dataclass(slots=True)
class Share:
    """Of one tier: content, and the objects that have most of theirs there. Dollars are None where there are no prices.

    usd_read, wait_read_s  of reading all of it once, one after the other
    """

    objects: int = 0
    bytes: int = 0
    usd_month: float = 0.0
    usd_read: float = 0.0
    wait_read_s: float = 0.0


@dataclass(slots=True)
class Sums:
    """inline: objects that lie in no tier; complete: False where there was no time for all."""

    objects: int = 0
    bytes: int = 0
    inline: int = 0
    complete: bool = True
    usd_month_landed: float = 0.0
    tiers: dict[str, Share] = field(default_factory=dict)
    waiting: Counter[Way] = field(default_factory=Counter)
    would_leave: Counter[Way] = field(default_factory=Counter)

    def plain(self) -> dict[str, Any]:
        """For JSON; tiers with most bytes first."""
        shares = sorted(self.tiers.items(), key=lambda each: -each[1].bytes)
        usd = sum(each.usd_month for each in self.tiers.values())
        return {
            "objects": self.objects,
            "bytes": self.bytes,
            "inline_objects": self.inline,
            "complete": self.complete,
            "tiers": {name: {"objects": s.objects, "bytes": s.bytes, "usd_month": s.usd_month} for name, s in shares},
            "usd_month": usd,
            "usd_month_where_new_data_lands": self.usd_month_landed,
            "usd_month_saved": self.usd_month_landed - usd,
            "waiting": _ways(self.waiting),
            "would_leave": _ways(self.would_leave),
        }


async def sums(
    catalog: Catalog, top: InodeNo, prices: Iterable[TierPrice], engine: Engine | None, wait_s: float
) -> Sums:
    """Of all below *top*, as it is when its turn comes; after *wait_s* what was found by then.

    engine  None: what moves is not asked. What would leave: if all of it were looked at now, as it is within a day
    """
    found = Summing(catalog, prices, engine)
    with trio.move_on_after(wait_s) as scope:
        chunk: list[InodeNo] = []
        async with aclosing(below(catalog, top)) as inos:
            async for ino in inos:
                chunk.append(ino)
                if len(chunk) == RESIDENCES:
                    await found.add(chunk)
                    chunk = []
        await found.add(chunk)
    found.sums.complete = not scope.cancelled_caught
    return found.sums


class Summing:
    """Adds up chunks of inodes; others have their turn in between."""

    def __init__(self, catalog: Catalog, prices: Iterable[TierPrice], engine: Engine | None) -> None:
        self.sums = Sums()
        self._catalog, self._engine = catalog, engine
        self._prices: Mapping[str, TierPrice] = {price.name: price for price in prices}
        self._landed = next(iter(self._prices.values()))

    async def add(self, inos: list[InodeNo]) -> None:
        found = await self._catalog.read(residences, inos)
        # A fork lasts no longer than until others have their turn: the policy changes then.
        fork = Fork(self._engine.policy, frozenset(self._engine.closed())) if self._engine is not None else None
        for each in found:
            if not each.is_directory:
                self._count(each, fork)
        await trio.lowlevel.checkpoint()

    def _count(self, each: Residence, fork: Fork | None) -> None:
        sums, tier = self.sums, each.tier
        sums.objects += 1
        if tier is None:
            sums.inline += 1
            return
        for name, count in each.tiers.items():
            share, price = sums.tiers.setdefault(name, Share()), self._prices.get(name)
            share.bytes += count
            share.objects += name == tier
            sums.bytes += count
            if price is not None:
                share.usd_month += price.hold_usd(count, MONTH_S)
                share.usd_read += price.read_usd(count)
                share.wait_read_s += price.wait_s(count)
                sums.usd_month_landed += self._landed.hold_usd(count, MONTH_S)
        self._foresee(each.ino, fork)

    def _foresee(self, ino: InodeNo, fork: Fork | None) -> None:
        if self._engine is None or fork is None:
            return
        waits, tiers = self._engine.plan.waits(ino), self._engine.tiers
        if waits is not None and waits.source is not None:
            self.sums.waiting[tiers[waits.source], tiers[waits.target]] += int(waits.inputs.use.size)
            return
        for verdict in fork.look(ino, self._engine.now()):
            assert verdict.source is not None
            self.sums.would_leave[tiers[verdict.source], tiers[verdict.target]] += int(verdict.inputs.use.size)


def _ways(bytes_by_way: Mapping[Way, int]) -> list[dict[str, Any]]:
    return [{"from": source, "to": target, "bytes": count} for (source, target), count in bytes_by_way.items()]
