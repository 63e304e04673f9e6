"""Where the bytes of an object are: tier, volumes, devices, since when, and how many losses they survive.

Observed, not remembered: each shard file of the volumes that are shown is looked for on its device at the time of the
question. Remembered is, of further ones, what the last look at all volumes has found missing, and the last move: who
asked for it, when, and why. What no move took along lies in the tier that takes new data.
"""

import json
import pwd
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from stratumfs.limits import ANSWER_WAIT_S
from stratumfs.store.store import Store
from stratumfs.store.survives import Good, good_shards, look_for, survives

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


@dataclass(frozen=True, slots=True)
class _Found:
    """What a look at the devices said of a volume: cells that are there, and devices that said nothing."""

    part: _Part
    present: set[CellIndex]
    silent: set[DeviceId]

    @property
    def missing(self) -> set[CellIndex]:
        return {CellIndex(cell) for cell in range(len(self.part.row.devices))} - self.present


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
            present, silent = await look_for(self._store, [part.row for part in shown], ANSWER_WAIT_S)
            moved = await self._store.catalog.read(last_move, ino)
        looked = [_Found(part, present[part.row.id], silent) for part in shown]
        tiers = _tiers(content)
        total = survives(self._store, self._good_shards(content, looked), silent)
        return {
            **_about(found),
            "tier": next(iter(tiers), None),
            "tiers": tiers,
            "moved": await _moved(moved) if moved is not None and moved.move.tier in tiers else None,
            "inline_bytes": content.inline_bytes,
            "volumes": [self._volume(each) for each in looked],
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

    def _good_shards(self, content: _Content, found: Sequence[_Found]) -> Iterator[Good]:
        """Of all volumes, those that are not looked at too."""
        for each in found:
            yield good_shards(self._store, each.part.row, each.missing)
        missing = self._store.repairer.seen.missing
        for part in list(content.volumes.values())[len(found) :]:
            yield good_shards(self._store, part.row, missing.get(part.row.id, ()))

    def _volume(self, found: _Found) -> dict[str, Any]:
        part, row = found.part, found.part.row
        survived = survives(self._store, [good_shards(self._store, row, found.missing)])
        return {
            "id": row.id.hex(),
            "tier": row.tier,
            "state": row.state,
            "k": row.k,
            "m": row.m,
            "bytes": part.bytes,
            "extents": part.extents,
            "since": _time(row.created_ns),
            "shards": [self._shard(found, CellIndex(cell), device) for cell, device in enumerate(row.devices)],
            "devices_survived": survived.devices,
            "disks_survived": survived.disks,
        }

    def _shard(self, found: _Found, cell: CellIndex, device: DeviceId) -> dict[str, Any]:
        entry = self._entry(device)
        attached = self._store.devices.get(device)
        if device in self._refused:
            state = self._refused[device]
        elif attached is not None and attached.struck is not None:
            state = str(attached.struck)
        elif device in found.silent:
            state = f"not known: no answer within {ANSWER_WAIT_S:.0f} s"
        elif cell not in found.present:
            state = "missing"
        elif (found.part.row.id, cell) in self._store.damaged:
            state = "damaged"
        else:
            state = "present"
        return {"cell": cell, "device": str(entry.path) if entry else device.hex(), "state": state}


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
