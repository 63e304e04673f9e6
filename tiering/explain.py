"""Where the bytes of an object are, and why: tier, volumes, devices, since when, and how many losses they survive.

Observed, not remembered: each shard file of the volumes that are shown is looked for on its device at the time of the
question. A service is paid for each answer, and not asked: of an object there it is told what those have found who
looked or read last. Remembered is, of further volumes, what the last look at all of them has found missing, and the
last move: who made it, when, and why. What no move took along lies in the tier that takes new data. What the engine
makes of an object says ``reasons.py``, and of all below a directory ``sums.py``.
"""

import json
import pwd
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from stratumfs.catalog.described import Described, described
from stratumfs.catalog.moves import LastMove, last_move, named
from stratumfs.catalog.volumes import VolumeRow, volume
from stratumfs.devices.identity import DeviceEntry
from stratumfs.errors import CatalogCorrupt, ConfigError, NotFound, NotPermitted, StoreBusy
from stratumfs.ids import CellIndex, DeviceId, InodeNo, VolumeId
from stratumfs.limits import ANSWER_WAIT_S, EXPLAINED_TOGETHER, EXPLANATIONS_WAITING, SUMS_WAIT_S
from stratumfs.store.store import Store
from stratumfs.store.survives import Good, good_shards, look_for, survives
from stratumfs.threads import in_thread
from stratumfs.volumes.remote import REMOTE_CODE
from tiering.attribute import discreet, fitted
from tiering.engine import Engine
from tiering.prices import TierPrice
from tiering.reasons import forgotten, landed, placement, reasons, time_text
from tiering.sums import sums

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
    """Answers for one running store.

    entry, refused  what is known of a device, and why some are not there
    prices          of its tiers, fastest first
    engine          None in a store of one tier
    """

    def __init__(
        self,
        store: Store,
        entry: Callable[[DeviceId], DeviceEntry | None],
        refused: Mapping[DeviceId, str],
        prices: Sequence[TierPrice],
        engine: Callable[[], Awaitable[Engine]] | None,
    ) -> None:
        self._store, self._entry, self._refused = store, entry, refused
        self._files, self._directories = trio.Semaphore(EXPLAINED_TOGETHER), trio.Semaphore(EXPLAINED_TOGETHER)
        self.learn(prices, engine)

    def learn(self, prices: Sequence[TierPrice], engine: Callable[[], Awaitable[Engine]] | None) -> None:
        """These are the tiers from now on."""
        self._prices, self._engine = prices, engine

    async def explain(
        self, *, inode: int | None = None, bucket: str | None = None, key: str | None = None, at_ns: int | None = None
    ) -> dict[str, Any]:
        """The explanation of an inode, of an object, or of all below a directory or in a bucket, for JSON.

        at_ns  where it was then, and why, as the log has it; where its bytes are is told as it is now all the same
        Raises: ConfigError for a time of a directory, NotFound, NoSuchBucket, NoSuchObject, StoreBusy.
        """
        ino = await self._inode(inode, bucket, key)
        found = await self._store.catalog.read(described, ino)
        if stat.S_ISDIR(found.mode):
            if at_ns is not None:
                raise ConfigError("a time can be asked for of one file or object")
            async with _turn(self._directories, 0):
                return _about(found) | {"sums": await self._sums(ino, SUMS_WAIT_S)}
        async with _turn(self._files, EXPLANATIONS_WAITING):
            return await self._of_file(ino, at_ns)

    async def explanation_of(self, bucket: str, key: bytes) -> str:
        """As `explain`, of an object, of all below ``key/``, or without a key of the bucket."""
        ino = await self._store.catalog.read(named, bucket, key)
        return json.dumps(await self.explain(inode=ino), ensure_ascii=False)

    async def _sums(self, top: InodeNo, wait_s: float) -> dict[str, Any]:
        engine = await self._engine() if self._engine is not None else None
        looked = engine is None or engine.surveyed.is_set()
        return (await sums(self._store.catalog, top, self._prices, engine, wait_s)).plain() | {"looked": looked}

    async def _of_file(self, ino: InodeNo, at_ns: int | None) -> dict[str, Any]:
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
            **await self._why(found, tiers, at_ns),
            "inline_bytes": content.inline_bytes,
            "volumes": [self._volume(each) for each in looked],
            "volumes_left_off": len(content.volumes) - len(shown),
            "devices_survived": total.devices,
            "disks_survived": total.disks,
        }

    async def _why(self, found: Described, tiers: Mapping[str, int], at_ns: int | None) -> dict[str, Any]:
        """placed: as it is now; then: at *at_ns*; tiering: None in a store of one tier."""
        catalog, landing, ino = self._store.catalog, self._store.tier, found.ino
        placed = await placement(catalog, ino, landing, tiers) if tiers else None
        if placed is not None and placed["tier"] not in tiers:  # overwritten since, or moved by what the log has lost
            placed = landed(landing) if landing in tiers else forgotten(next(iter(tiers)))
        then = None
        if at_ns is not None:
            then = {"at": time_text(at_ns / 1e9), "written_later": at_ns < found.modified_ns}
            then |= await placement(catalog, ino, landing, tiers, at_ns)
        tiering = await reasons(catalog, await self._engine(), ino) if self._engine is not None and tiers else None
        return {"placed": placed, "then": then, "tiering": tiering}

    async def tier(self, ino: InodeNo) -> str:
        with self._store.holds.holding(ino):
            content = await self._content(await self._store.catalog.read(described, ino))
        return ",".join(_tiers(content)) or IN_CATALOG

    async def attribute(self, ino: InodeNo, *, trusted: bool) -> bytes:
        """As `explain`, as much as an attribute holds. Raises: NotFound, NotPermitted, StoreBusy.

        trusted  False: who asks may read this file, and is told no more; of a directory, what lies below may be hidden
        """
        if trusted:
            return fitted(await self.explain(inode=ino))
        if stat.S_ISDIR((await self._store.catalog.read(described, ino)).mode):
            raise NotPermitted("sums of a directory are for the owner's user and root")
        return fitted(discreet(await self.explain(inode=ino)))

    async def _inode(self, inode: int | None, bucket: str | None, key: str | None) -> InodeNo:
        if inode is not None:
            return InodeNo(inode)
        if bucket is None:
            raise NotFound("an explanation is of an inode, or of a bucket, with a key or without")
        return await self._store.catalog.read(named, bucket, (key or "").encode())

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
            if not each.part.row.remote:
                yield good_shards(self._store, each.part.row, each.missing)
        missing = self._store.repairer.seen.missing
        for part in [each for each in list(content.volumes.values())[len(found) :] if not each.row.remote]:
            yield good_shards(self._store, part.row, missing.get(part.row.id, ()))
        if any(part.row.remote and self._is_bad(part.row) for part in content.volumes.values()):
            yield REMOTE_CODE.k, frozenset()  # whoever keeps the others sees to their safety

    def _is_bad(self, row: VolumeRow) -> bool:
        remote = self._store.remotes.get(row.tier)
        return remote is not None and row.id in remote.bad

    def _volume(self, found: _Found) -> dict[str, Any]:
        part, row = found.part, found.part.row
        survived = survives(self._store, [good_shards(self._store, row, found.missing)] if not row.remote else [])
        return {
            "id": row.id.hex(),
            "tier": row.tier,
            "state": row.state,
            "k": row.k,
            "m": row.m,
            "bytes": part.bytes,
            "extents": part.extents,
            "since": time_text(row.created_ns / 1e9),
            "shards": [self._shard(found, CellIndex(cell), device) for cell, device in enumerate(row.devices)],
            "devices_survived": survived.devices if not row.remote else None,
            "disks_survived": survived.disks if not row.remote else None,
        }

    def _shard(self, found: _Found, cell: CellIndex, device: DeviceId) -> dict[str, Any]:
        if found.part.row.remote:
            remote = self._store.remotes.get(found.part.row.tier)
            if remote is None:
                return {"cell": cell, "device": device.hex(), "state": "not known: the settings name no such tier"}
            return {"cell": cell, "device": remote.label, "state": remote.state_of(found.part.row.id)}
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


@asynccontextmanager
async def _turn(turns: trio.Semaphore, waiting_max: int) -> AsyncIterator[None]:
    """Raises: StoreBusy if there is none, and *waiting_max* wait already."""
    if turns.value == 0 and turns.statistics().tasks_waiting >= waiting_max:
        raise StoreBusy("too many explanations are asked for at once")
    async with turns:
        yield


def _tiers(content: _Content) -> dict[str, int]:
    """Bytes in each tier, most first; what is inline lies in none."""
    sizes: dict[str, int] = {}
    for part in content.volumes.values():
        sizes[part.row.tier] = sizes.get(part.row.tier, 0) + part.bytes
    return dict(sorted(sizes.items(), key=lambda each: -each[1]))


async def _moved(last: LastMove) -> dict[str, Any]:
    user = await in_thread(_user, last.move.uid)  # a name service may be slow
    return {
        "from": last.source,
        "to": last.move.tier,
        "at": time_text(last.at_ns / 1e9),
        "uid": last.move.uid,
        "user": user,
        "asked": time_text(last.move.begun_ns / 1e9),
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
        "since": time_text(found.modified_ns / 1e9),
    }


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "link" if stat.S_ISLNK(mode) else "special file"
