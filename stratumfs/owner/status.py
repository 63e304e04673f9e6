"""What ``stratumfs status`` tells: one plain value, made from the store, its devices, and the doors that are open."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from stratumfs.catalog.damage import shard_counts
from stratumfs.catalog.devices import device_rows
from stratumfs.catalog.reap import usage
from stratumfs.catalog.volumes import FREED, OPEN, SEALED, VolumeRow, volume_summary, volumes
from stratumfs.devices.health import DeviceState
from stratumfs.devices.identity import DeviceEntry
from stratumfs.devices.space import Space, space_of, total_space
from stratumfs.errors import DeviceError
from stratumfs.ids import CellIndex, DeviceId, VolumeId
from stratumfs.limits import TRANSACTION_ROWS_MAX
from stratumfs.owner.doors import Door
from stratumfs.owner.wire import Running
from stratumfs.store.reader import volume_info
from stratumfs.volumes.presence import Present, shards_present
from stratumfs.volumes.survival import Shards, Survival, survival

ANSWER_WAIT_S = 5.0
"""A device that does not say by then what it has counts as one that has nothing."""
REPAIRS_SHOWN_MAX = 100


async def status(running: Running, doors: Iterable[Door]) -> dict[str, Any]:
    """The whole state as plain values for JSON. A device that hangs delays it by ANSWER_WAIT_S, not for ever."""
    store = running.store
    rows = [*await _rows(running, OPEN), *await _rows(running, SEALED)]
    infos = [volume_info(row) for row in rows]
    present, silent = await shards_present(store.fleet.counted(), infos, ANSWER_WAIT_S)
    spaces = await _spaces(running, silent)
    total = _survival(running, rows, present, silent)
    used = await store.catalog.read(usage)
    raw = total_space({running.folders.attached.facts[ident].st_dev: space for ident, space in spaces.items()})
    return {
        "store": str(running.folder),
        "id": store.id.hex(),
        "owner": os.getpid(),
        "read_only": store.read_only,
        "waiting": store.fleet.waiting,
        "k": store.code.k,
        "m": store.code.m,
        "devices_survived": total.devices,
        "disks_survived": total.disks,
        "devices": await _devices(running, rows, present, spaces, silent),
        "tiers": await _tiers(running),
        "volumes": await _volume_counts(running),
        "damaged_shards": len(store.damaged),
        "missing_shards": sum(len(row.devices) - len(present[row.id]) for row in rows),
        "space": {
            "raw_total": raw.total,
            "raw_free": raw.free,
            "usable_total": store.space.now.total,
            "usable_free": store.space.now.free,
            "used": used.live_bytes + used.inline_bytes,
            "inline": used.inline_bytes,
            "unfinished_uploads": used.upload_bytes,
        },
        "inodes": await store.files.count(),
        "uploads": used.uploads,
        "repairs": _repairs(running),
        "moves": [move.summary() for move in running.mover],
        "doors": [door.summary() for door in doors],
        "catalog": asdict(store.catalog.statistics()),
    }


async def _rows(running: Running, state: str) -> list[VolumeRow]:
    """All volumes in one state that hold data."""
    found: list[VolumeRow] = []
    after = b""
    while chunk := await running.store.catalog.read(volumes, state, after, TRANSACTION_ROWS_MAX):
        found += [row for row in chunk if row.live]
        after = chunk[-1].id
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


async def _volume_counts(running: Running) -> dict[str, int]:
    counts = dict.fromkeys((OPEN, SEALED, FREED), 0)
    for _, state, _, _, number, _ in await running.store.catalog.read(volume_summary):
        counts[state] = counts.get(state, 0) + number
    return counts


async def _spaces(running: Running, silent: set[DeviceId]) -> dict[DeviceId, Space]:
    spaces = {}
    for ident, device in running.store.fleet.counted().items():
        if ident in silent:
            continue
        try:
            spaces[ident] = await device.read(space_of, running.folders.attached.facts[ident].path)
        except DeviceError:
            continue
    return spaces


def _survival(running: Running, rows: list[VolumeRow], present: Present, silent: set[DeviceId]) -> Survival:
    """Over all volumes with data, struck devices counted as lost; of an empty store, what its next volume survives."""
    store = running.store
    found = [Shards(row.k, tuple(_disks(running, row, present[row.id]))) for row in rows]
    if not found:
        up = [device.disk for device in store.fleet.up(store.tier) if device.id not in silent][: store.code.n]
        found.append(Shards(max(1, len(up) - store.code.m), tuple(up)))
    return survival(found, store.catalog.disks or (None,))


def _disks(running: Running, row: VolumeRow, cells: set[CellIndex]) -> Iterable[Any]:
    ident: VolumeId = row.id
    for cell in cells:
        device = running.store.devices.get(row.devices[cell])  # replaced since it was asked: lost
        if device is not None and (ident, cell) not in running.store.damaged:
            yield device.disk


def _repairs(running: Running) -> list[dict[str, Any]]:
    """What is under way, then what waits, most exposed first."""
    repairer = running.store.repairer
    found: list[dict[str, Any]] = []
    for work in (repairer.work, running.store.widener.work):
        if work is not None:
            volume = work.volume.hex() if work.volume else None
            found.append(
                {"state": work.what, "volume": volume, "device": work.device, "done": work.done, "total": work.total}
            )
    for each in repairer.queue.first(REPAIRS_SHOWN_MAX):
        found.append({"state": "queued", "volume": each.volume.hex(), "losses_survived": each.margin})
    return found


async def _devices(
    running: Running, rows: list[VolumeRow], present: Present, spaces: dict[DeviceId, Space], silent: set[DeviceId]
) -> list[dict[str, Any]]:
    catalog = running.store.catalog
    missing = Counter(device for row in rows for cell, device in enumerate(row.devices) if cell not in present[row.id])
    since = {row.id: row.since_ns / 1e9 for row in await catalog.read(device_rows)}
    counts = {ident: (held, damaged) for ident, held, damaged in await catalog.read(shard_counts)}
    found = []
    for entry in running.folders.identity.devices:
        held, damaged = counts.get(entry.id, (0, 0))
        shards = {"shards": held, "missing": missing[entry.id], "damaged": damaged}
        found.append(_device(running, entry, spaces, silent) | {"since": since.get(entry.id)} | shards)
    return found


def _device(
    running: Running, entry: DeviceEntry, spaces: dict[DeviceId, Space], silent: set[DeviceId]
) -> dict[str, Any]:
    state, reason = running.store.fleet.state(entry.id)
    if state is DeviceState.ONLINE and entry.id in silent:
        state = DeviceState.SUSPECT
        reason = f"no answer within {ANSWER_WAIT_S:.0f} s"
    space = spaces.get(entry.id)
    return {
        "id": entry.id.hex(),
        "tier": entry.tier,
        "slot": entry.slot,
        "path": str(entry.path),
        "state": str(state),
        "reason": reason,
        "mount_point": entry.mount_point,
        "disk": running.folders.attached.facts[entry.id].st_dev if entry.id in running.folders.attached.facts else None,
        "total": space.total if space else None,
        "free": space.free if space else None,
    }
