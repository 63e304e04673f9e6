"""What ``stratum-tier`` asks of the owner: status, log, plan, pins, the report."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import trio

from stratumfs.catalog.decisions import Decision, decisions_since
from stratumfs.catalog.moves import MoveRow, moves_since
from stratumfs.catalog.volumes import path_of_inode
from stratumfs.catalog.xattrs import PIN
from stratumfs.errors import ConfigError, NoSuchAttribute
from stratumfs.ids import InodeNo
from stratumfs.owner.inventory import inventory
from stratumfs.owner.messages import (
    TierInventory,
    TierLog,
    TierPin,
    TierPlan,
    TierPrice,
    TierQuestion,
    TierReport,
    TierStatus,
)
from stratumfs.owner.recall_price import recall_price
from stratumfs.owner.tier_engine import tiers_of
from stratumfs.owner.tier_report import report
from stratumfs.owner.wire import Running
from stratumfs.threads import in_thread
from tiering.engine import Engine
from tiering.foresight import idle_moves
from tiering.prices import GB
from tiering.record import from_text, to_plain
from tiering.room import tier_bytes
from tiering.verdict import Verdict

_PAGE = 200
OPERATOR = "operator"
"""The cause of what somebody asked for."""


async def answer_of_tiers(running: Running, request: TierQuestion) -> dict[str, Any]:
    """Raises: ConfigError if the store has one tier, or not the one that is named; NotFound, NoSuchObject, ..."""
    tiers_of(running.tiers)
    match request:
        case TierStatus():
            return await tier_status(running)
        case TierLog():
            return await _log(running, request)
        case TierPlan():
            return await _plan(running, request)
        case TierPin():
            return await _pin(running, request)
        case TierReport():
            return await report(running, request.since_ns)
        case TierPrice():
            return await recall_price(running, request)
        case TierInventory():
            return await inventory(running, request.since_ns)


async def tier_status(running: Running) -> dict[str, Any]:
    """Of each tier: bytes, capacity, objects, dollars a month; and what the engine is about to do."""
    tiers = tiers_of(running.tiers)
    engine = await tiers.made()
    used = await tier_bytes(running.store)
    policy, now = engine.policy, engine.now()
    left = policy.began + policy.settings.warmup_s - now
    return {
        "enabled": tiers.enabled,
        "surveyed": engine.surveyed.is_set(),
        "warmup_left_s": max(0.0, left),
        "tiers": [_tier(running, engine, number, used) for number in range(len(engine.tiers))],
        "waiting": _counted(engine, engine.plan.waiting),
        "under_way": _counted(engine, engine.plan.under_way),
        "decided": engine.decided,
        "reads_not_counted": engine.reads_not_counted,
    }


def _tier(running: Running, engine: Engine, number: int, used: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    price = engine.policy.prices.tiers[number]
    live, dead = used.get(price.name, (0, 0))
    until = engine.refused.get(number)
    return {
        "name": price.name,
        "used": live,
        "dead": dead,
        "booked": int(engine.policy.used[number]),
        "capacity": _finite(price.capacity_bytes),
        "objects": engine.policy.count(number) if engine.surveyed.is_set() else None,
        "usd_month": live / GB * price.usd_gb_month,
        "read_only": running.store.targets[price.name].read_only,
        "refused_until": None if until is None else _time(until),
        "bytes_moved_here": engine.carrier.moved[price.name],
    }


def _counted(engine: Engine, verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    """Moves and bytes of each way."""
    moves: Counter[tuple[int, int]] = Counter()
    sizes: Counter[tuple[int, int]] = Counter()
    for each in verdicts:
        assert each.source is not None
        moves[each.source, each.target] += 1
        sizes[each.source, each.target] += int(each.inputs.use.size)
    return [
        {"from": engine.tiers[a], "to": engine.tiers[b], "moves": moves[a, b], "bytes": sizes[a, b]}
        for a, b in sorted(moves)
    ]


async def _log(running: Running, request: TierLog) -> dict[str, Any]:
    """Newest first."""
    ino = await _named(running, request)
    catalog = running.store.catalog
    found: list[Decision] = []
    before: int | None = None
    while len(found) < request.limit:
        page = await catalog.read(decisions_since, request.since_ns, before, ino, min(_PAGE, request.limit))
        found += page
        if len(page) < min(_PAGE, request.limit):
            break
        before = page[-1].id
        await trio.lowlevel.checkpoint()
    asked = await catalog.read(moves_since, request.since_ns, request.limit, ino)
    rows = [(each.at_ns, _decision(each)) for each in found] + [(each.begun_ns, _asked(each)) for each in asked]
    rows.sort(key=lambda row: -row[0])
    return {"moves": [row for _, row in rows[: request.limit]]}


def _decision(row: Decision) -> dict[str, Any]:
    plain: dict[str, Any] | None = None
    reason = "its inputs cannot be read"
    with suppress(ValueError):
        verdict = from_text(row.inputs)
        plain, reason = to_plain(verdict), verdict.reason()
    return {
        "id": row.id,
        "path": row.path.decode("utf-8", "replace"),
        "inode": row.ino,
        "at": _time(row.at_ns / 1e9),
        "from": row.source,
        "to": row.target,
        "cause": row.cause,
        "bytes": row.size,
        "reason": reason,
        "ended": _time(row.ended_ns / 1e9) if row.ended_ns is not None else None,
        "outcome": row.outcome or None,
        "verdict": plain,
    }


def _asked(row: MoveRow) -> dict[str, Any]:
    return {
        "id": row.id.hex(),
        "path": row.path.decode("utf-8", "replace"),
        "inode": row.ino,
        "at": _time(row.begun_ns / 1e9),
        "from": None,
        "to": row.tier,
        "cause": OPERATOR,
        "bytes": row.bytes,
        "reason": row.reason,
        "ended": _time(row.ended_ns / 1e9) if row.ended_ns is not None else None,
        "outcome": row.outcome or None,
        "verdict": None,
    }


async def _plan(running: Running, request: TierPlan) -> dict[str, Any]:
    """Waiting moves, and those that the policy would decide by itself: run forward on a copy, in a thread."""
    engine = await tiers_of(running.tiers).opened()
    now, seconds, limit = engine.now(), request.hours * 3600, request.limit
    waiting = [*engine.plan.under_way, *engine.plan.waiting]

    async def coming(*, warmup: bool) -> Sequence[Verdict]:
        policy = engine.policy
        settings = policy.settings if warmup else replace(policy.settings, warmup_s=0.0)
        return await in_thread(idle_moves, await engine.state(), policy.prices, settings, now, seconds, limit)

    after = await coming(warmup=False) if engine.policy.warming(now) else ()
    return {
        "hours": request.hours,
        "warmup_left_s": max(0.0, engine.policy.began + engine.policy.settings.warmup_s - now),
        "waiting": await _told(running, engine, waiting[:limit]),
        "coming": await _told(running, engine, await coming(warmup=True)),
        "if_warmup_were_over": await _told(running, engine, after),
    }


async def _told(running: Running, engine: Engine, verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    found = []
    for each in verdicts:
        path = await running.store.catalog.read(path_of_inode, InodeNo(each.key))
        found.append(
            {
                "path": path.decode("utf-8", "replace"),
                "inode": each.key,
                "at": _time(each.now),
                "from": None if each.source is None else engine.tiers[each.source],
                "to": engine.tiers[each.target],
                "cause": str(each.cause),
                "bytes": int(each.inputs.use.size),
                "reason": each.reason(),
            }
        )
        await trio.lowlevel.checkpoint()
    return found


async def _pin(running: Running, request: TierPin) -> dict[str, Any]:
    """Durable when it returns; what it makes necessary is moved by the engine."""
    store = running.store
    if request.to is not None and request.to not in store.targets:
        raise ConfigError(f"this store has no tier {request.to}: it has {', '.join(store.targets)}")
    ino = await running.mover.find(request.inode, request.bucket, request.key)
    before: str | None = None
    with suppress(NoSuchAttribute):
        before = (await store.files.xattr(ino, PIN)).decode("ascii", "replace")
    if request.to is not None:
        await store.files.set_xattr(ino, PIN, request.to.encode(), time.time_ns())
    elif before is not None:
        await store.files.remove_xattr(ino, PIN, time.time_ns())
    await store.catalog.sync()
    path = await store.catalog.read(path_of_inode, ino)
    return {"path": path.decode("utf-8", "replace"), "inode": ino, "pin": request.to, "before": before}


async def _named(running: Running, request: TierLog) -> InodeNo | None:
    if request.inode is None and request.bucket is None:
        return None
    return await running.mover.find(request.inode, request.bucket, request.key)


def _finite(value: float) -> int | None:
    return int(value) if value != float("inf") else None


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
