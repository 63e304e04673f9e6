"""Why an object is in its tier, what happens next, and what would change it: of the numbers that the engine decides by.

What was decided stands in the log with its inputs, and is told as it was. What is to come is found by running the
policy forward (``outlook.py``). Nothing here is worked out by a rule of its own.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from stratumfs.catalog.decisions import Decision, decision_after, last_decision
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.moves import LastMove, last_move, may_have_moved
from stratumfs.catalog.volumes import path_of_inode
from stratumfs.ids import InodeNo
from tiering.engine import Engine
from tiering.fork import Comparison
from tiering.outlook import Outlook, outlook
from tiering.prices import DAY_S, MONTH_S
from tiering.record import from_text, to_plain
from tiering.signals import Hint
from tiering.verdict import Inputs, Verdict

OPERATOR = "operator"
"""Who moved what somebody asked to be moved."""


async def placement(
    catalog: Catalog, ino: InodeNo, landing: str, lies: Collection[str], at_ns: int | None = None
) -> dict[str, Any]:
    """Who brought it where it was at *at_ns* (now if None), when, and why, as far as the log goes back.

    *landing*: the tier that takes new data; *lies*: those in which it is now. Of the answer ``decision`` is the verdict
    with all its inputs, of what the engine decided; ``since`` is None of what nobody moved, or nobody knows when.
    """
    decision = await catalog.read(last_decision, ino, at_ns)
    asked = await catalog.read(last_move, ino)
    later: LastMove | None = None
    if asked is not None and at_ns is not None and asked.at_ns > at_ns:
        later, asked = asked, None
    if asked is not None and (decision is None or (decision.ended_ns or 0) < asked.at_ns):
        return _asked(asked)
    after = await catalog.read(decision_after, ino, at_ns) if at_ns is not None else None
    if later is not None and (after is None or later.at_ns < (after.ended_ns or 0)):
        return await _before(catalog, later, at_ns or 0, landing, decision)
    if decision is not None:
        return await _decided(catalog, decision)
    was = after.source if after is not None else None
    if was is None and lies and landing not in lies:
        return forgotten(None)
    return landed(landing) if was in (None, landing) else forgotten(was)


async def _before(
    catalog: Catalog, later: LastMove, at_ns: int, landing: str, decision: Decision | None
) -> dict[str, Any]:
    """At a time before somebody's last move, which alone is known of those that somebody asked for: where that one came
    from it was then too, unless another one may have brought it there since."""
    if decision is not None and decision.target == later.source:
        return await _decided(catalog, decision)
    if await catalog.read(may_have_moved, later.source, at_ns, later.at_ns):
        return forgotten(None)
    return landed(landing) if later.source == landing else forgotten(later.source)


def landed(tier: str) -> dict[str, Any]:
    """Of what nobody moved."""
    reason = f"new data lands in tier {tier}"
    return {"tier": tier, "since": None, "by": "placed", "reason": reason, "decision": None}


def forgotten(tier: str | None) -> dict[str, Any]:
    """Of what was moved, in days of which the log knows no more. *tier*: None if that is not known either."""
    reason = "written there by a hint or a pin, or moved when the log does not go back to"
    return {"tier": tier, "since": None, "by": "moved", "reason": reason, "decision": None}


def _asked(asked: LastMove) -> dict[str, Any]:
    move = asked.move
    return {
        "tier": move.tier,
        "since": time_text(asked.at_ns / 1e9),
        "by": OPERATOR,
        "reason": move.reason,
        "decision": None,
    }


async def _decided(catalog: Catalog, decision: Decision) -> dict[str, Any]:
    told: dict[str, Any] | None = None
    reason = "its inputs cannot be read"
    with suppress(ValueError):
        verdict = from_text(decision.inputs)
        told, reason = to_plain(verdict), verdict.reason()
        if verdict.for_key is not None:
            told["for"] = await _path(catalog, verdict.for_key)
    return {
        "tier": decision.target,
        "since": time_text((decision.ended_ns or decision.at_ns) / 1e9),
        "by": decision.cause,
        "reason": reason,
        "decision": told,
    }


async def reasons(catalog: Catalog, engine: Engine, ino: InodeNo) -> dict[str, Any]:
    """Inputs, comparisons, outlook and money of an object as they are now; nothing of one that is not ``known``.

    looked  False: the engine of this owner has not looked at the catalog (yet): this is what an earlier one remembered
    """
    policy, now, looked = engine.policy, engine.now(), engine.surveyed.is_set()
    slot = policy.signals.slot(ino)
    if slot is None:
        return {"known": False, "looked": looked}
    # Together: when others have had their turn the slot may be another object's.
    closed = engine.closed()
    found, waits, money = (
        outlook(policy, ino, now, frozenset(closed)),
        engine.plan.waits(ino),
        _money(engine, slot, now),
    )
    return {
        "known": True,
        "looked": looked,
        "booked": engine.tiers[found.tier],
        "left_alone_s": engine.left_alone_s(ino),
        "waits": None if waits is None else _waiting(engine, waits),
        "inputs": _inputs(engine, found.inputs),
        "compared": [await _compared(catalog, engine, each) for each in found.compared],
        "outlook": _outlook(engine, found, closed),
        "money": money,
    }


def _waiting(engine: Engine, verdict: Verdict) -> dict[str, Any]:
    return {"to": engine.tiers[verdict.target], "by": str(verdict.cause), "reason": verdict.reason()}


def _inputs(engine: Engine, known: Sequence[Inputs]) -> dict[str, Any]:
    """What is known of it, what objects like it were, and what follows from that in each pair of tiers."""
    use = known[0].use
    return {
        "size": use.size,
        "idle_s": use.age_s,
        "reads": use.reads,
        "gap_s": use.gap_s,
        "part": use.part,
        "hour": use.hour,
        "spike": use.spike,
        "kind": use.kind,
        "hint": _hint(engine, use.hint),
        "class": known[0].group,
        "alike": list(known[0].alike),
        "tiers": [
            {
                "tier": engine.tiers[tier],
                "rather_than": engine.tiers[tier + 1],
                "reads_day": each.reads_day,
                "horizon_s": each.horizon_s,
                "factor": each.factor,
                "usd_gb_month": _per_gb_month(each.worth),
            }
            for tier, each in enumerate(known)
        ],
    }


def _hint(engine: Engine, hint: int) -> str | None:
    if hint >= Hint.PIN_FIRST:
        return f"pinned to {engine.tiers[min(hint - Hint.PIN_FIRST, len(engine.tiers) - 1)]}"
    return {Hint.HOT: "hot", Hint.COLD: "cold", Hint.KEPT: "restored"}.get(Hint(hint))


async def _compared(catalog: Catalog, engine: Engine, each: Comparison) -> dict[str, Any]:
    """With the marginal object of a faster tier: the last of those that would have to make room."""
    marginal = None
    if each.others:
        marginal = {
            "path": await _path(catalog, each.others[-1]),
            "inode": each.others[-1],
            "usd_gb_month": _per_gb_month(each.marginal),
        }
    return {
        "tier": engine.tiers[each.tier],
        "answer": str(each.answer),
        "usd_gb_month": _per_gb_month(each.worth),
        "margin": each.margin,
        "bytes_missing": int(each.need),
        "make_room": len(each.others),
        "marginal": marginal,
        "case": {name: _finite(value) for name, value in asdict(each.case).items()},
    }


def _outlook(engine: Engine, found: Outlook, closed: Mapping[int, str]) -> dict[str, Any]:
    tiers = engine.tiers
    return {
        "at": time_text(found.now),
        "pinned": found.pinned,
        "restored": found.kept,
        "pin_fits": found.pin_fits,
        "closed": [{"tier": tiers[tier], "reason": reason} for tier, reason in closed.items()],
        "observes_until": None if found.warming is None else time_text(found.warming),
        "reads": [
            {
                "count": each.count,
                "bytes": int(each.bytes),
                "gap_s": each.gap_s,
                "usual": each.usual,
                "by": time_text(each.at),
                "to": None if each.target is None else tiers[each.target],
            }
            for each in found.reads
        ],
        "idle": [
            {"days": (each.at - found.now) / DAY_S, "at": time_text(each.at), "to": tiers[each.target]}
            for each in found.idle
        ],
        "horizon_days": found.horizon_s / DAY_S,
        "leave_first": {"worth_less": found.standing[0], "of": found.standing[1]},
        "room": None if found.crowd is None else {"bytes": int(found.crowd.bytes), "leaves": found.crowd.leaves},
    }


def _money(engine: Engine, slot: int, now: float) -> dict[str, Any]:
    """What its bytes have cost since they came to their tier, and would have where new data lands; by price list."""
    signals, prices = engine.policy.signals, engine.policy.prices.tiers
    size, held_s, price = signals.size[slot], signals.held_s(slot, now), prices[signals.tier[slot]]
    usd, landed = price.hold_usd(size, held_s), prices[0].hold_usd(size, held_s)
    return {
        "held_s": held_s,
        "usd": usd,
        "usd_where_new_data_lands": landed,
        "usd_saved": landed - usd,
        "usd_month": price.hold_usd(size, MONTH_S),
        "usd_read": price.read_usd(size),
        "wait_read_s": price.wait_s(size),
    }


def _per_gb_month(usd_byte_s: float) -> float | None:
    """As price lists say it; None of what is pinned, which is worth any price."""
    return None if math.isinf(usd_byte_s) else usd_byte_s * 1e9 * MONTH_S


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


async def _path(catalog: Catalog, key: int) -> str:
    return (await catalog.read(path_of_inode, InodeNo(key))).decode("utf-8", "replace")


def time_text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
