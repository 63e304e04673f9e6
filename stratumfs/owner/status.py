"""What ``stratumfs status`` tells: one plain value, made from the store, its devices, and the doors that are open."""

import os
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import trio

from stratumfs.catalog.compaction import waiting as waiting_volumes
from stratumfs.catalog.damage import damaged_on
from stratumfs.catalog.devices import device_rows
from stratumfs.catalog.held import held, placed
from stratumfs.catalog.reap import usage
from stratumfs.catalog.volumes import FREED, OPEN, SEALED, dead_bytes, volume_summary, volumes
from stratumfs.devices.health import DeviceState
from stratumfs.devices.identity import DeviceEntry
from stratumfs.devices.space import Space, space_of, total_space
from stratumfs.errors import DeviceError
from stratumfs.ids import STORE_PLACE, CellIndex, DeviceId, PlaceId, VolumeId
from stratumfs.limits import ANSWER_WAIT_S, TRANSACTION_ROWS_MAX
from stratumfs.owner.doors import Door
from stratumfs.owner.images import about as about_image
from stratumfs.owner.places import place_of
from stratumfs.owner.scrub import scrub_status
from stratumfs.owner.wire import Running
from stratumfs.repair.work import Work
from stratumfs.store.survives import Good, good_shards, survives
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.survival import Survival

SILENT_S = ANSWER_WAIT_S / 2
"""A device in which a read hangs so long counts as lost: a file system may know its room without asking the disk."""
REPAIRS_SHOWN_MAX = 100


async def status(running: Running, doors: Iterable[Door]) -> dict[str, Any]:
    """The whole state as plain values for JSON. A device that hangs delays it by ANSWER_WAIT_S, not for ever.

    Of shards it tells what the last look at all volumes has found; if that is quick, one that begins now.
    """
    store = running.store
    found = await _find(running, look=(store.repairer.seen.took_s or 0) < ANSWER_WAIT_S)
    spaces, shards, total = found.spaces, found.shards, found.total
    used = await store.catalog.read(usage)
    facts, again = running.folders.attached.facts, store.repairer.put_off.next()
    raw = total_space({facts[ident].st_dev: space for ident, space in spaces.items() if ident in facts})
    return {
        "store": str(running.folder),
        "id": store.id.hex(),
        "owner": os.getpid(),
        "read_only": store.read_only,
        "waiting": store.fleet.waiting or store.catalog.waiting,
        "refused": store.space.refused,
        "k": store.code.k,
        "m": store.code.m,
        "devices_survived": total.devices,
        "disks_survived": total.disks,
        "store_folder": _store_folder(running),
        "devices": await _devices(running, found),
        "tiers": await _tiers(running),
        "remote_tiers": await _remotes(running),
        "volumes": await _volume_counts(running),
        "damaged_shards": len(store.damaged),
        "missing_shards": shards.missing.total(),
        "unknown_shards": shards.unknown.total(),
        "space": {
            "raw_total": raw.total,
            "raw_free": raw.free,
            "usable_total": store.space.now.total,
            "usable_free": store.space.now.free,
            "used": used.live_bytes + used.inline_bytes,
            "inline": used.inline_bytes,
            "dead": await store.catalog.read(dead_bytes),
            "unfinished_uploads": used.upload_bytes,
        },
        "inodes": await store.files.count(),
        "uploads": used.uploads,
        "repairs": _repairs(running),
        "put_off": {
            "volumes": len(store.repairer.put_off),
            "again": _at(None if again is None else again - trio.current_time()),
        },
        "compaction": await _compaction(running),
        "scrub": await scrub_status(running),
        "moves": [move.summary() for move in running.mover],
        "doors": [door.summary() for door in doors],
        "catalog": asdict(store.catalog.statistics()),
        "image": about_image(image) if (image := await store.imager.newest()) is not None else None,
        "backup": running.backup.standing(),
    }


async def about_devices(running: Running, device: DeviceId | None = None) -> dict[str, Any]:
    """For who has just changed them: what all data survives, and that *device*. Of shards it tells what the last look
    has found, and waits for none."""
    found = await _find(running, look=False)
    about: dict[str, Any] = {
        "damaged_shards": len(running.store.damaged),
        "missing_shards": found.shards.missing.total(),
        "devices_survived": found.total.devices,
        "disks_survived": found.total.disks,
    }
    for each in await _devices(running, found):
        if device is not None and each["id"] == device.hex():
            about["device"] = each
    return about


@dataclass(slots=True)
class _Shards:
    """Of all volumes with data: good, what their shards are alike in; missing and unknown, how many by device."""

    good: set[Good] = field(default_factory=set)
    missing: Counter[DeviceId] = field(default_factory=Counter)
    unknown: Counter[DeviceId] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Found:
    """silent: devices that do not answer."""

    spaces: Mapping[DeviceId, Space]
    silent: Collection[DeviceId]
    shards: _Shards
    total: Survival


async def _find(running: Running, *, look: bool) -> _Found:
    """look: at all volumes, first."""
    store = running.store
    asked, spaces = store.fleet.counted(), dict[DeviceId, Space]()
    with trio.move_on_after(ANSWER_WAIT_S):
        async with trio.open_nursery() as nursery:
            for device in asked.values():
                nursery.start_soon(_space, device, spaces)
            if look:
                await store.repairer.wait_looked()
    missing = dict(store.repairer.seen.missing)  # before any of them are made anew
    silent = {ident for ident, device in asked.items() if ident not in spaces or device.stalled(SILENT_S)}
    shards = await _shards(running, missing, silent)
    return _Found(spaces, silent, shards, survives(store, shards.good, silent))


async def _shards(
    running: Running, missing: Mapping[VolumeId, Collection[CellIndex]], silent: Collection[DeviceId]
) -> _Shards:
    """By rows, in chunks that yield. Of a device that does not answer, or was not asked yet, nothing is known; until
    it is, what such a one that answers shall hold is counted upon."""
    store, found = running.store, _Shards()
    for state in (OPEN, SEALED):
        after = b""
        while chunk := await store.catalog.read(volumes, state, after, TRANSACTION_ROWS_MAX):
            after = chunk[-1].id
            counted = store.fleet.counted()
            known = {ident for ident in counted if ident not in silent and store.repairer.seen.knows(ident)}
            for row in filter(lambda each: each.live and not each.remote, chunk):
                lost = missing.get(row.id, ())
                found.good.add(good_shards(store, row, lost, silent))
                for cell, device in enumerate(row.devices):
                    if device not in counted or cell in lost:
                        found.missing[device] += 1
                    elif device not in known:
                        found.unknown[device] += 1
            await trio.lowlevel.checkpoint()
    return found


async def _tiers(running: Running) -> list[dict[str, Any]]:
    """Of each tier, the one that takes new data first: its code, and payload bytes that fit and that are there."""
    used: dict[str, int] = {}
    for tier, _, _, _, _, live in await running.store.catalog.read(volume_summary):
        used[tier] = used.get(tier, 0) + live
    return [
        {
            "name": name,
            "k": writer.volumes.code.k,
            "m": writer.volumes.code.m,
            "read_only": writer.read_only,
            "used": used.get(name, 0),
            "usable_free": writer.space.now.free,
            "usable_total": writer.space.now.total,
        }
        for name, writer in running.store.writers.items()
    ]


async def _remotes(running: Running) -> list[dict[str, Any]]:
    """Of each tier that lies on no device: where it is, and how it fares."""
    found = []
    for name, remote in running.store.remotes.items():
        rows = [each for each in await running.store.catalog.read(volume_summary) if each[0] == name]
        found.append(
            {
                "name": name,
                "at": remote.label,
                "read_only": remote.read_only,
                "used": sum(live for _, _, _, _, _, live in rows),
                "volumes": sum(number for _, state, _, _, number, _ in rows if state == SEALED),
                **remote.statistics(),
            }
        )
    return found


async def _volume_counts(running: Running) -> dict[str, int]:
    counts = dict.fromkeys((OPEN, SEALED, FREED), 0)
    for _, state, _, _, number, _ in await running.store.catalog.read(volume_summary):
        counts[state] = counts.get(state, 0) + number
    return counts


async def _space(device: AttachedDevice, spaces: dict[DeviceId, Space]) -> None:
    with suppress(DeviceError):
        spaces[device.id] = await device.read(space_of, Path(device.label))


def _repairs(running: Running) -> list[dict[str, Any]]:
    """What is under way, then what waits, most exposed first."""
    repairer = running.store.repairer
    found = [_work(work) for work in repairer.works]
    for each in repairer.queue.first(REPAIRS_SHOWN_MAX):
        found.append({"state": "queued", "volume": each.volume.hex(), "losses_survived": each.margin})
    return found


def _work(work: Work) -> dict[str, Any]:
    volume = work.volume.hex() if work.volume else None
    return {"state": work.what, "volume": volume, "device": work.device, "done": work.done, "total": work.total}


async def _compaction(running: Running) -> dict[str, Any]:
    """What is under way, and how many volumes of all tiers wait, by reason."""
    store = running.store
    waiting: Counter[str] = Counter()
    for tier, code in store.fleet.codes.items():
        waiting.update(await store.catalog.read(waiting_volumes, tier, code.n))
    compacted = (store.compactor.work, store.remote_compactor.work)
    works = (store.packer.work, *compacted, store.defragmenter.work, store.imager.work)
    under_way = [_work(work) for work in works if work is not None]
    return {"under_way": under_way, "waiting": dict(waiting)}


async def _devices(running: Running, known: _Found) -> list[dict[str, Any]]:
    catalog = running.store.catalog
    since = {row.id: row.since_ns / 1e9 for row in await catalog.read(device_rows)}
    counts, bad = await placed(catalog), await catalog.read(damaged_on)
    found = []
    for entry in running.folders.identity.devices:
        shards, damaged = counts.get(entry.id, 0), bad.get(entry.id, 0)
        about = _device(running, entry, known.spaces, known.silent) | {"since": since.get(entry.id), "shards": shards}
        since_ns = running.store.maintenance.kept_since_ns
        if about["state"] == DeviceState.DRAINING and not (await held(catalog, entry.id, since_ns)).shards:
            about["reason"] = "all that it held is on others: it may be removed"
        missing, unknown = known.shards.missing[entry.id], known.shards.unknown[entry.id]
        lacks = {"missing": missing, "unknown": unknown, "damaged": damaged}
        found.append(about | lacks)
    return found


def _store_folder(running: Running) -> dict[str, str | None]:
    if running.folders.store is None:
        lost = running.folders.identity.store_path
        return {"catalog": None, "catalog_reason": f"{lost} is lost, and {running.folder} stands in for it"}
    return _catalog_at(running, STORE_PLACE)


def _catalog_at(running: Running, place: PlaceId) -> dict[str, str | None]:
    role, struck = running.store.catalog.standing(place)
    return {"catalog": role, "catalog_reason": struck}


def _at(in_s: float | None) -> float | None:
    """In Unix seconds."""
    return None if in_s is None else time.time() + in_s


def _device(
    running: Running, entry: DeviceEntry, spaces: Mapping[DeviceId, Space], silent: Collection[DeviceId]
) -> dict[str, Any]:
    state, reason = running.store.fleet.state(entry.id)
    if state is DeviceState.ONLINE and entry.id in silent:
        state = DeviceState.SUSPECT
        reason = f"no answer within {ANSWER_WAIT_S:.0f} s"
    space = spaces.get(entry.id)
    facts = running.folders.attached.facts.get(entry.id)
    return {
        "id": entry.id.hex(),
        "tier": entry.tier,
        "slot": entry.slot,
        "path": str(entry.path),
        "state": str(state),
        "reason": reason,
        "errors": running.store.fleet.errors(entry.id),
        "smart": asdict(smart) if (smart := running.health.smart.get(entry.id)) is not None else None,
        "again": _at(running.store.repairer.returns.again_in_s(entry.id)),
        **_catalog_at(running, place_of(entry.id)),
        "mount_point": entry.mount_point,
        "disk": facts.st_dev if facts else None,
        "total": space.total if space else None,
        "free": space.free if space else None,
    }
