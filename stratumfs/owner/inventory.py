"""All objects and where they were at a time, for a replay under another policy: the log of decisions is gone back."""

from typing import Any

import trio

from stratumfs.catalog.decisions import DONE, decisions_since
from stratumfs.catalog.residence import residences_behind
from stratumfs.ids import InodeNo
from stratumfs.limits import INVENTORY_MAX, RESIDENCES
from stratumfs.owner.tier_engine import tiers_of
from stratumfs.owner.wire import Running

_PAGE = 200


async def inventory(running: Running, since_ns: int) -> dict[str, Any]:
    """``objects``: inode, bytes, number of the tier; ``left_off``: there are more. Raises: ConfigError (one tier)."""
    engine = await tiers_of(running.tiers).made()
    before = await _sources(running, since_ns)
    numbers = {name: number for number, name in enumerate(engine.tiers)}
    objects: list[tuple[int, int, int]] = []
    after: InodeNo | None = InodeNo(0)
    while after is not None and len(objects) < INVENTORY_MAX:
        found, after = await running.store.catalog.read(residences_behind, after, RESIDENCES)
        for each in found:
            tier = before.get(each.ino, each.tier)
            if tier in numbers:
                objects.append((each.ino, each.size, numbers[tier]))
        await trio.lowlevel.checkpoint()
    capacities = {price.name: price.capacity_bytes for price in engine.policy.prices.tiers}
    return {
        "tiers": list(engine.tiers),
        "capacities": {name: int(room) for name, room in capacities.items() if room != float("inf")},
        "objects": objects,
        "left_off": after is not None,
    }


async def _sources(running: Running, since_ns: int) -> dict[InodeNo, str]:
    """Of those that were moved by a decision since then, where each was before."""
    sources: dict[InodeNo, str] = {}
    before: int | None = None
    while page := await running.store.catalog.read(decisions_since, since_ns, before, None, _PAGE):
        for each in page:  # the newest first: the oldest has the last word
            if each.outcome == DONE:
                sources[each.ino] = each.source
        before = page[-1].id
        await trio.lowlevel.checkpoint()
    return sources
