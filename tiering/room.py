"""How much may lie in each tier, and how much can begin to move there: from settings, and from what devices have."""

import math
from collections.abc import Mapping, Sequence

import trio

from stratumfs.catalog.residence import tier_bytes_behind
from stratumfs.catalog.vacated import Vacated, vacated_bytes_behind
from stratumfs.store.store import Store
from tiering.plan import Plan
from tiering.policy import Policy
from tiering.prices import PriceList

DEVICES_FILLED = 0.9
"""Of what devices have; the rest is for what is written before the next decision, and for bytes that are dead but not
freed yet."""
_DEAD_WEIGHT = 0.5
"""Of the capacity that bytes take which nothing points at. Moves make more of them, and compaction frees them: with a
full weight one move would be the reason of the next."""
QUOTA_FILLED = 0.98
"""Of a capacity that the settings give: two objects can change places only where some room is free."""


async def tier_bytes(store: Store) -> dict[str, tuple[int, int]]:
    """Live and dead bytes of each tier, as ``tier_bytes_behind``; others have their turn in between.

    What a volume has left that moved whole is dead until it is removed: else it would be the room of somebody else that
    a tier lacks, and one move the reason of the next.
    """
    catalog = store.catalog
    found: dict[str, tuple[int, int]] = {}
    after: bytes | None = b""
    while after is not None:
        chunk, after = await catalog.read(tier_bytes_behind, after)
        for tier, (live, dead) in chunk.items():
            before = found.get(tier, (0, 0))
            found[tier] = before[0] + live, before[1] + dead
        await trio.lowlevel.checkpoint()
    left: Vacated | None = None
    while True:
        gone, left = await catalog.read(vacated_bytes_behind, left)
        for ident, count in gone.items():
            if (device := store.devices.get(ident)) is not None and device.struck is None:
                live, dead = found.get(device.tier, (0, 0))
                found[device.tier] = live, dead + int(count)
        await trio.lowlevel.checkpoint()
        if left is None:
            return found


def decided_capacity(settings: float) -> float:
    """What the policy may book of a capacity in the settings."""
    return settings * QUOTA_FILLED


def capacities(
    store: Store, prices: PriceList, used: Mapping[str, tuple[int, int]], lies: Sequence[float]
) -> PriceList:
    """The same prices with the room that there is now.

    used  live and dead bytes of each tier
    lies  bytes of each that the policy knows of; others take room too (parts of uploads, what was written just now)

    Where tiers share a disk, what one has less the other has more: there the disk says nothing.
    """
    disks = {each.name: _disks(store, each.name) for each in prices.tiers}
    found = []
    for each, known in zip(prices.tiers, lies, strict=True):
        others = set().union(*(disks[name] for name in disks if name != each.name))
        there = _from_devices(store, each.name, used.get(each.name, (0, 0)), alone=not disks[each.name] & others)
        unknown = max(0.0, used.get(each.name, (0, 0))[0] - known)
        found.append(max(0.0, min(each.capacity_bytes, there) - unknown))
    return prices.with_capacities(found)


def closed(store: Store, tiers: Sequence[str], refused: Mapping[int, float], now: float) -> dict[int, str]:
    """Tiers that take nothing now, and why: read-only ones, and those left alone until the time in *refused*."""
    found: dict[int, str] = {}
    for number, name in enumerate(tiers):
        left_s = refused.get(number, -math.inf) - now
        if (reason := store.targets[name].read_only) is not None:
            found[number] = reason
        elif left_s > 0:
            found[number] = f"it could not take something, and is left alone for {left_s:.0f} s more"
    return found


def room(store: Store, policy: Policy, plan: Plan, quotas: Sequence[float], shut: frozenset[int]) -> list[float]:
    """Bytes that can begin to move to each tier now; none to those that are *shut*.

    quotas  capacities of the settings
    """
    lies = lying(policy, plan)
    coming = [0.0] * len(lies)
    for verdict in plan.under_way:
        coming[verdict.target] += verdict.inputs.use.size
    left = []
    for number, price in enumerate(policy.prices.tiers):
        there = store.writers.get(price.name)
        free = float(there.space.now.free) if there is not None else math.inf  # somebody's S3 has room
        quota = quotas[number] - lies[number]
        left.append(0.0 if number in shut else max(0.0, min(free, quota) - coming[number]))
    return left


def lying(policy: Policy, plan: Plan) -> list[float]:
    """Bytes that lie in each tier now: what was decided is booked already."""
    lies = list(policy.used)
    for verdict in (*plan.waiting, *plan.under_way):
        lies[verdict.target] -= verdict.inputs.use.size
        if verdict.source is not None:
            lies[verdict.source] += verdict.inputs.use.size
    return lies


def _from_devices(store: Store, tier: str, used: tuple[int, int], *, alone: bool) -> float:
    if tier not in store.writers:
        return math.inf
    now = store.writers[tier].space.now
    if not now.total:
        return math.inf  # nothing is known of them yet
    if not alone:
        return now.total * DEVICES_FILLED
    live, dead = used
    others = max(0, now.total - now.free - live - dead)
    return max(0.0, (now.total - others) * DEVICES_FILLED - dead * _DEAD_WEIGHT)


def _disks(store: Store, tier: str) -> set[object]:
    return {device.disk for device in store.fleet.up(tier)} if tier in store.writers else set()
