"""What tiering costs and saves, how much it moved, and which bytes left the site, where to, under which key."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import trio

from stratumfs.catalog.decisions import DONE, decisions_since
from stratumfs.catalog.moves import moved_since
from stratumfs.catalog.volumes import FREED, OPEN, SEALED, VolumeRow, volumes
from stratumfs.owner.tier_engine import tiers_of
from stratumfs.owner.wire import Running
from stratumfs.shards.remote_shards import object_name
from stratumfs.store.remote_tier import RemoteTier
from tiering.prices import GB
from tiering.reasons import OPERATOR
from tiering.room import tier_bytes

_PAGE = 200
OBJECTS_TOLD_MAX = 1000


async def report(running: Running, since_ns: int) -> dict[str, Any]:
    """Of each tier what it costs a month, and what its bytes would cost in the fastest; bytes moved by cause; which
    bytes are elsewhere."""
    engine = await tiers_of(running.tiers).made()
    used = await tier_bytes(running.store)
    prices = engine.policy.prices.tiers
    tiers = []
    for price in prices:
        live = used.get(price.name, (0, 0))[0]
        usd, fastest = live / GB * price.usd_gb_month, live / GB * prices[0].usd_gb_month
        tiers.append({"name": price.name, "bytes": live, "usd_month": usd, "usd_month_saved": fastest - usd})
    return {
        "tiers": tiers,
        "usd_month": sum(each["usd_month"] for each in tiers),
        "usd_month_saved": sum(each["usd_month_saved"] for each in tiers),
        "moved": await _moved_by_cause(running, since_ns),
        "left_site": [await _left_site(running, remote) for remote in running.store.remotes.values()],
    }


async def _moved_by_cause(running: Running, since_ns: int) -> list[dict[str, Any]]:
    moves: Counter[tuple[str, str, str]] = Counter()
    sizes: Counter[tuple[str, str, str]] = Counter()
    before: int | None = None
    while page := await running.store.catalog.read(decisions_since, since_ns, before, None, _PAGE):
        for each in page:
            if each.outcome == DONE:
                way = each.cause, each.source, each.target
                moves[way] += 1
                sizes[way] += each.size
        before = page[-1].id
        await trio.lowlevel.checkpoint()
    asked = await running.store.catalog.read(moved_since, since_ns)  # each may have come from several tiers
    return [
        {"cause": cause, "from": source, "to": target, "moves": moves[way], "bytes": sizes[way]}
        for way in sorted(moves)
        for cause, source, target in (way,)
    ] + [{"cause": OPERATOR, "from": None, "to": to, "moves": count, "bytes": size} for to, count, size in asked]


async def _left_site(running: Running, remote: RemoteTier) -> dict[str, Any]:
    """Each volume there is one object. What is freed and not deleted yet is there still."""
    master, store = remote.offsite.master, running.store.id
    count = total = 0
    objects: list[dict[str, Any]] = []
    async for row in _volumes(running, remote.tier):
        count += 1
        total += row.length
        if len(objects) < OBJECTS_TOLD_MAX:
            name = object_name(store, master, row.id) if master is not None else None
            objects.append(
                {"object": name, "volume": row.id.hex(), "bytes": row.length, "live": row.live, "state": row.state,
                 "since": _time(row.created_ns)}
            )  # fmt: skip
    return {
        "tier": remote.tier,
        "to": remote.label,
        "key": master.fingerprint if master is not None else None,
        "objects_count": count,
        "bytes": total,
        "objects": objects,
    }


async def _volumes(running: Running, tier: str) -> AsyncIterator[VolumeRow]:
    for state in (OPEN, SEALED, FREED):
        after = b""
        while rows := await running.store.catalog.read(volumes, state, after, _PAGE):
            after = rows[-1].id
            for row in rows:
                if row.tier == tier:
                    yield row
            await trio.lowlevel.checkpoint()


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
