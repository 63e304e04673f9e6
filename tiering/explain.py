"""Where the bytes of an object are: tier, volumes, devices, since when, and how many losses they survive.

Observed, not remembered: each shard file is looked for on its device at the time of the question. Remembered is the
last move: who asked for it, when, and why. What no move took along lies in the tier that takes new data.
"""

import json
import pwd
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import trio

from stratumfs.catalog.described import Described, described
from stratumfs.catalog.moves import LastMove, last_move
from stratumfs.catalog.volumes import VolumeRow, volume
from stratumfs.devices.identity import DeviceEntry
from stratumfs.errors import CatalogCorrupt, NotFound
from stratumfs.ids import CellIndex, DeviceId, InodeNo, VolumeId
from stratumfs.store.reader import volume_info
from stratumfs.store.store import Store
from stratumfs.volumes.presence import shards_present
from stratumfs.volumes.survival import Shards, Survival, survival

ANSWER_WAIT_S = 5.0
"""A device that does not say by then what it has counts as one that has nothing."""
IN_CATALOG = "catalog"
"""Where bytes are that are in no tier: inline, or none at all."""
VOLUMES_SHOWN_MAX = 1000
_SLICE = 64 << 30
"""Bytes of a file whose extents are read at once."""


@dataclass(slots=True)
class _Part:
    """What lies in one volume, bytes of the file."""

    row: VolumeRow
    bytes: int = 0
    extents: int = 0


@dataclass(slots=True)
class _Content:
    inline_bytes: int = 0
    volumes: dict[VolumeId, _Part] = field(default_factory=dict)


class Explainer:
    """Answers for one running store. *entry* says what is known of a device, *refused* why some are not there."""

    def __init__(
        self, store: Store, entry: Callable[[DeviceId], DeviceEntry | None], refused: Mapping[DeviceId, str]
    ) -> None:
        self._store = store
        self._entry = entry
        self._refused = refused

    async def explain(
        self, *, inode: int | None = None, bucket: str | None = None, key: str | None = None
    ) -> dict[str, Any]:
        """The explanation of an inode, or of an object, as plain values for JSON.

        Raises: NotFound, NoSuchBucket, NoSuchObject.
        """
        ino = await self._inode(inode, bucket, key)
        with self._store.holds.holding(ino):
            found = await self._store.catalog.read(described, ino)
            content = await self._content(found)
            shown = list(content.volumes.values())[:VOLUMES_SHOWN_MAX]
            present, _ = await shards_present(
                self._store.fleet.counted(), [volume_info(part.row) for part in shown], ANSWER_WAIT_S
            )
            moved = await self._store.catalog.read(last_move, ino)
        volumes = [self._volume(part, present[part.row.id]) for part in shown]
        tiers = _tiers(content)
        total = self._survival(shown, present)
        return {
            **_about(found),
            "tier": next(iter(tiers), None),
            "tiers": tiers,
            "moved": await _moved(moved) if moved is not None and moved.move.tier in tiers else None,
            "inline_bytes": content.inline_bytes,
            "volumes": volumes,
            "volumes_left_off": len(content.volumes) - len(shown),
            "devices_survived": total.devices,
            "disks_survived": total.disks,
        }

    async def tier(self, ino: InodeNo) -> str:
        with self._store.holds.holding(ino):
            content = await self._content(await self._store.catalog.read(described, ino))
        return ",".join(_tiers(content)) or IN_CATALOG

    async def explanation(self, ino: InodeNo) -> str:
        return json.dumps(await self.explain(inode=ino), ensure_ascii=False)

    async def _inode(self, inode: int | None, bucket: str | None, key: str | None) -> InodeNo:
        if inode is not None:
            return InodeNo(inode)
        if bucket is None or key is None:
            raise NotFound("an explanation is of an inode, or of a bucket and a key")
        return (await self._store.objects.info(bucket, key.encode())).ino

    async def _content(self, found: Described) -> _Content:
        content = _Content()
        for start in range(0, found.size, _SLICE):
            for extent in await self._store.reader.layout(found.ino, start, min(start + _SLICE, found.size)):
                if extent.location is None:
                    content.inline_bytes += extent.length
                    continue
                part = content.volumes.get(extent.location.volume)
                if part is None:
                    part = _Part(await self._row(extent.location.volume))
                    content.volumes[extent.location.volume] = part
                part.bytes += extent.length
                part.extents += 1
        return content

    async def _row(self, ident: VolumeId) -> VolumeRow:
        row = await self._store.catalog.read(volume, ident)
        if row is None:
            raise CatalogCorrupt(f"an extent names volume {ident.hex()}, which has no row")
        return row

    def _volume(self, part: _Part, present: set[CellIndex]) -> dict[str, Any]:
        row = part.row
        shards = [self._shard(row, CellIndex(cell), device, present) for cell, device in enumerate(row.devices)]
        found = self._survival([part], {row.id: present})
        return {
            "id": row.id.hex(),
            "tier": row.tier,
            "state": row.state,
            "k": row.k,
            "m": row.m,
            "bytes": part.bytes,
            "extents": part.extents,
            "since": _time(row.created_ns),
            "shards": shards,
            "devices_survived": found.devices,
            "disks_survived": found.disks,
        }

    def _shard(self, row: VolumeRow, cell: CellIndex, device: DeviceId, present: set[CellIndex]) -> dict[str, Any]:
        entry = self._entry(device)
        attached = self._store.devices.get(device)
        if device in self._refused:
            state = self._refused[device]
        elif attached is not None and attached.struck is not None:
            state = str(attached.struck)
        elif cell not in present:
            state = "missing"
        elif (row.id, cell) in self._store.damaged:
            state = "damaged"
        else:
            state = "present"
        return {"cell": cell, "device": str(entry.path) if entry else device.hex(), "state": state}

    def _survival(self, parts: Sequence[_Part], present: Mapping[VolumeId, set[CellIndex]]) -> Survival:
        """Of these volumes, beside the catalog; what is inline alone is as safe as the catalog."""
        volumes = []
        for part in parts:
            row = part.row
            good = [row.devices[cell] for cell in present[row.id] if (row.id, cell) not in self._store.damaged]
            there = [self._store.devices[each] for each in good if each in self._store.devices]  # not replaced since
            volumes.append(Shards(row.k, tuple(each.disk for each in there)))
        if not volumes:
            code = self._store.code
            up = [device.disk for device in self._store.fleet.up(self._store.tier)][: code.n]
            volumes.append(Shards(max(1, len(up) - code.m), tuple(up)))
        return survival(volumes, self._store.catalog.disks or (None,))


def _tiers(content: _Content) -> dict[str, int]:
    """Bytes in each tier, most first; what is inline lies in none."""
    sizes: dict[str, int] = {}
    for part in content.volumes.values():
        sizes[part.row.tier] = sizes.get(part.row.tier, 0) + part.bytes
    return dict(sorted(sizes.items(), key=lambda each: -each[1]))


async def _moved(last: LastMove) -> dict[str, Any]:
    user = await trio.to_thread.run_sync(_user, last.move.uid)  # a name service may be slow
    return {
        "from": last.source,
        "to": last.move.tier,
        "at": _time(last.at_ns),
        "uid": last.move.uid,
        "user": user,
        "asked": _time(last.move.begun_ns),
        "named": last.move.path.decode("utf-8", "replace"),
        "reason": last.move.reason,
    }


def _user(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return None


def _about(found: Described) -> dict[str, Any]:
    bucket, _, key = found.path.decode("utf-8", "replace").partition("/")
    return {
        "bucket": bucket or None,
        "key": key or None,
        "inode": found.ino,
        "kind": _kind(found.mode),
        "size": found.size,
        "since": _time(found.modified_ns),
    }


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "link" if stat.S_ISLNK(mode) else "special file"


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
