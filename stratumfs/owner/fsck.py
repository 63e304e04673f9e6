"""Checks a store as an owner without doors that does nothing else, and mends what can be mended: fsck.stratumfs(8).

The catalog first, before anything that a crash left is seen to, for that goes by its rows.
"""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog
import trio

from stratumfs.config import HOT, SETTINGS_FILE, load
from stratumfs.errors import CatalogCorrupt
from stratumfs.ids import VolumeId
from stratumfs.owner import wire
from stratumfs.owner.blame import cause_of
from stratumfs.owner.check_cold import check_cold
from stratumfs.repair.check_rows import Told, check_invariants, check_sums
from stratumfs.repair.check_shards import ShardCheck, check_unknown, place_lost, remember_lost
from stratumfs.repair.findings import Outcome, Report
from stratumfs.repair.repairer import Repairer
from stratumfs.store.ledger import CatalogLedger

_NOTHING = "nothing is to be changed"
_DOUBT = "a catalog of which copies know perhaps more"


@dataclass(frozen=True, slots=True)
class Wanted:
    """mend: what is found is put right; full: every cell is read, and every object of the cold tier."""

    mend: bool
    full: bool


def fsck(store: Path, wanted: Wanted, told: Told) -> dict[str, Any]:
    """Check it, and say what was found as plain values. Blocking.

    Raises: StoreInUse if somebody has it open; what opening a store raises.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        report = trio.run(_fsck, store, wanted, told)
    except BaseExceptionGroup as group:
        raise cause_of(group) from group
    return {"store": str(store), **facts_of(report)}


def facts_of(report: Report) -> dict[str, Any]:
    """As plain values for JSON."""
    return {
        "clean": report.clean,
        "mended": report.mended,
        "left": report.left,
        "noted": report.noted,
        "rows": report.rows,
        "copies": report.copies,
        "volumes": report.volumes,
        "shards": report.shards,
        "cells": report.cells,
        "objects": report.objects,
        "object_bytes": report.object_bytes,
        "object_usd": report.object_usd,
        "findings": [asdict(each) for each in report.findings],
    }


async def _fsck(store: Path, wanted: Wanted, told: Told) -> Report:
    report = Report()
    settings = load(store / SETTINGS_FILE)
    async with wire.locked(store, untouched=not wanted.mend) as locked:
        opening = wire.parts(locked, settings, doubted=wanted.mend, read_only="" if wanted.mend else _NOTHING)
        async with opening as parts:
            await examine(parts, wanted, report, told)
            await check_cold(parts, settings, report, told, full=wanted.full)
    return report


async def examine(parts: wire.Parts, wanted: Wanted, report: Report, told: Told) -> None:
    """All checks, on what is open."""
    catalog, fleet = parts.catalog, parts.fleet
    mend = wanted.mend and not catalog.read_only
    if wanted.mend and not mend:
        report.add("a store that cannot be written to", catalog.failure, Outcome.LEFT)
    for why in parts.folders.attached.refused.values():
        report.add("devices that are not used", why, Outcome.LEFT)
    for ident in fleet.struck:
        if ident not in parts.folders.attached.refused:
            report.add("devices that are not used", f"{fleet.label(ident)}: {fleet.state(ident)[1]}", Outcome.LEFT)
    for why in parts.damaged:
        outcome, done = (Outcome.MENDED, "it is made anew") if mend else (Outcome.LEFT, "")
        report.add("copies of the catalog that are damaged", why, outcome, done)
    up = {device.id: device for tier in fleet.codes for device in fleet.up(tier)}
    try:
        sure = await check_sums(catalog, report, told, mend=mend)
        if mend and not sure:
            report.add(_DOUBT, "what contradicts another row, and shards", Outcome.LEFT, "not mended")
        mend = mend and sure
        if mend:
            await remember_lost(parts.folders.identity.store, catalog, up, report)
            await place_lost(parts.folders.identity.store, catalog, up, report)
        await check_invariants(catalog, report, told, mend=mend)
    except CatalogCorrupt as error:
        report.add("a catalog that cannot be read", error, Outcome.LEFT)
        return
    told("files of the devices", 0, None)
    await check_unknown(catalog, up, report, mend=mend)
    writable = mend and fleet.refusal(HOT) is None
    if writable:
        await wire.mend_all(parts)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fleet.watch)
        ledger = CatalogLedger(catalog)
        check = ShardCheck(parts.folders.identity.store, catalog, fleet.devices, report, told, full=wanted.full)
        await check.run(_repairer(parts, ledger) if writable else None, ledger)
        nursery.cancel_scope.cancel()


def _repairer(parts: wire.Parts, ledger: CatalogLedger) -> Repairer:
    async def seal(_: VolumeId) -> None:
        """None is open any more."""

    def moved(_: VolumeId) -> None:
        """Nobody reads."""

    ident = parts.folders.identity.store
    return Repairer(ident, parts.catalog, parts.fleet, ledger, seal=seal, moved=moved, folders=parts.folders)
