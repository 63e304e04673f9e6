"""Looks at what lies in a tier in somebody's S3, beside the rows that say what should.

All objects are listed, a request for a thousand of them; of each volume the header is read, which says how long its
object must be. That each byte is what was written is seen only by reading all of it, which costs money: whoever wants
that says so. Nothing can be made anew here: there is one shard of a volume, and whoever keeps it sees to its safety.

Objects of ours that no row knows are left of puts that came to their end behind a delete, or are another catalog's: one
that was brought back or made again knows less than lies there. The former are younger than the claim of this catalog,
and only those go by themselves.
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import structlog
import trio

from stratumfs.catalog.claims import claimed_since
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.scrubs import save_verified
from stratumfs.catalog.volumes import FREED, OPEN, SEALED, VolumeRow, volume, volumes
from stratumfs.cold_limits import LOOK_FAILURES, SWEEP_GRACE_S, SWEEP_SKEW_S
from stratumfs.errors import CatalogCorrupt, DataError, DeviceError, DeviceUnasked, ShardCorrupt, ShardMissing
from stratumfs.ids import CellIndex, StoreId, VolumeId
from stratumfs.limits import LIST_MAX, TRANSACTION_ROWS_MAX
from stratumfs.repair.inspect import shard_damage, table_damage
from stratumfs.repair.rows import volume_info
from stratumfs.repair.stripes import named_stripes
from stratumfs.shards.encrypted import HEADER_SIZE, SEGMENT, TAG, MasterKey
from stratumfs.shards.layout import ShardName
from stratumfs.shards.remote import Listed, Remote
from stratumfs.shards.remote_shards import VOLUMES, RemoteShards, folder
from stratumfs.threads import in_thread
from stratumfs.volumes.format import StripeAt, VolumeInfo

_CELL = CellIndex(0)

_log = structlog.get_logger(__name__)

Step = Callable[[float, int], Awaitable[None]]
"""Awaited behind each step, with the seconds that it took and the volumes looked at so far."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """An object that no row knows.

    volume  that it is of, by its own word; None: it is none of ours, or damaged
    ours    it was put there since this catalog has claimed the tier, and nobody needs it
    """

    name: str
    size: int
    age_s: float
    volume: VolumeId | None
    ours: bool

    @property
    def stale(self) -> bool:
        return self.ours and self.age_s >= SWEEP_GRACE_S


@dataclass(slots=True)
class Looked:
    """What one look has found.

    volumes   that were looked at; bytes: read of objects; requests: for that, listings included
    bad       sealed ones whose object is not there, has another length, or is damaged, and why
    withheld  those whose object the service does not give, though it gives others: of its bytes nothing is known
    unknown   objects that no row knows
    failures  objects that were not given since the last one that was
    """

    volumes: int = 0
    bytes: int = 0
    requests: int = 0
    bad: dict[VolumeId, str] = field(default_factory=dict)
    withheld: dict[VolumeId, DeviceError] = field(default_factory=dict)
    unknown: list[Unknown] = field(default_factory=list)
    failures: int = 0

    def fail(self, error: DeviceError) -> None:
        """One was not given. Raises: *error*, if that is the service's doing, or this process's."""
        self.failures += 1
        if self.failures >= LOOK_FAILURES or isinstance(error, DeviceUnasked):
            raise error


class _Row(NamedTuple):
    volume: VolumeId
    state: str
    length: int


class _Plain:
    """A shard in memory, for whoever inspects shards."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_at(self, name: ShardName, position: int, length: int) -> bytes:
        return self._data[position : position + length]

    def read_nowait(self, name: ShardName, position: int, parts: Sequence[memoryview]) -> bool:
        return False

    def size(self, name: ShardName) -> int:
        return len(self._data)

    def uncache(self, name: ShardName) -> None:
        """There is nothing else than what was just read."""


class RemoteLook:
    """Of one tier; on the loop, with one thread of its own. Who uses it lets one look end before the next."""

    def __init__(self, store: StoreId, tier: str, catalog: Catalog, remote: Remote, master: MasterKey) -> None:
        self._store, self._tier, self._catalog, self._remote, self._master = store, tier, catalog, remote, master
        self._shards = RemoteShards(remote, master, store)
        self._thread = trio.CapacityLimiter(1)
        self._place = f"{folder(store)}{VOLUMES}/"

    async def look(self, *, full: bool, step: Step) -> Looked:
        """At all of it; *full*: at each byte. Raises: DeviceError; what the catalog raises."""
        found = Looked()
        rows = await self._rows()
        strange: list[Listed] = []
        entries = self._remote.listed(self._place)
        while chunk := await in_thread(_some, entries, limiter=self._thread, abandon_on_cancel=True):
            found.requests += 1
            for entry in chunk:
                row = rows.pop(entry.name.removeprefix(self._place), None)
                if row is None:
                    strange.append(entry)
                elif row.state == SEALED:
                    began = trio.current_time()
                    await self._one(row, entry.size, found, full=full)
                    await step(trio.current_time() - began, found.volumes)
            await trio.lowlevel.checkpoint()
        for row in rows.values():
            if row.state == SEALED and await self.is_sealed(row.volume):
                # Listings are not vouched for: each that is missing there is asked for once more.
                await self._one(row, None, found, full=full)
        for entry in strange:
            if (unknown := await self._unknown(entry, found)) is not None:
                found.unknown.append(unknown)
        return found

    async def read(self, row: VolumeRow) -> str | None:
        """What is wrong with one of them, all of it read; it is noted when nothing is. Raises: DeviceError."""
        found = Looked()
        await self._one(_Row(row.id, row.state, row.length), None, found, full=True)
        for error in found.withheld.values():
            raise error
        return found.bad.get(row.id)

    async def is_there(self, ident: VolumeId) -> bool:
        """Whether the object of a volume is there, and as long as its header says. Raises: DeviceError."""
        try:
            await in_thread(self._length, ident, None, limiter=self._thread, abandon_on_cancel=True)
        except (ShardMissing, ShardCorrupt):
            return False
        return True

    async def is_sealed(self, ident: VolumeId) -> bool:
        row = await self._catalog.read(volume, ident)
        return row is not None and row.state == SEALED

    async def remove(self, unknown: Unknown) -> None:
        """If no row knows it still. The caller has looked that the tier is ours. Raises: DeviceError."""
        if unknown.volume is None or await self._catalog.read(volume, unknown.volume) is not None:
            return
        await in_thread(self._remote.delete, unknown.name, limiter=self._thread)
        _log.warning("unknown_object_removed", tier=self._tier, name=unknown.name, age_s=unknown.age_s)

    async def _rows(self) -> dict[str, _Row]:
        """Of all volumes of the tier, by the names of their objects."""
        found: dict[str, _Row] = {}
        for state in (OPEN, SEALED, FREED):
            after = b""
            while rows := await self._catalog.read(volumes, state, after, TRANSACTION_ROWS_MAX):
                after = rows[-1].id
                for row in rows:
                    if row.tier == self._tier:
                        found[self._master.name(row.id)] = _Row(row.id, state, row.length)
                await trio.lowlevel.checkpoint()
        return found

    async def _one(self, row: _Row, size: int | None, found: Looked, *, full: bool) -> None:
        """*size*: by the listing; None: it did not have it."""
        found.volumes += 1
        reason = None
        try:
            length = await in_thread(self._length, row.volume, size, limiter=self._thread, abandon_on_cancel=True)
            found.requests += 1 if size is not None else 2
            if length < row.length:
                reason = f"it has {length} bytes where {row.length} were written"
            elif full:
                reason = await self._damage(row, length, found)
        except DeviceError as error:  # of one that was archived there, say
            found.withheld[row.volume] = error
            found.fail(error)
            return
        except (ShardMissing, ShardCorrupt, CatalogCorrupt) as error:  # of rows that are lost, too
            reason = str(error)
        found.failures = 0
        if reason is not None and await self.is_sealed(row.volume):
            found.bad[row.volume] = reason

    async def _damage(self, row: _Row, length: int, found: Looked) -> str | None:
        now = await self._catalog.read(volume, row.volume)
        if now is None:
            return None
        stripes = await named_stripes(self._catalog, row.volume)
        info = volume_info(now)
        reason = await in_thread(
            self._inspect, info, row.length, length, stripes, limiter=self._thread, abandon_on_cancel=True
        )
        found.bytes += length
        found.requests += 1
        if reason is None and not self._catalog.read_only:
            await self._catalog.write(save_verified, row.volume, _CELL, info.devices[0], time.time_ns())
        return reason

    def _length(self, ident: VolumeId, size: int | None) -> int:
        """Of the plaintext. Blocking. Raises: ShardMissing; ShardCorrupt if the object has another length."""
        self._shards.forget(ident)
        there = self._shards.object_size(ident) if size is None else size
        if there < HEADER_SIZE:
            raise ShardCorrupt(f"the object of volume {ident.hex()} has {there} bytes")
        length = self._shards.size(ShardName(ident, _CELL))
        wanted = HEADER_SIZE + length + max(1, -(-length // SEGMENT)) * TAG
        if there != wanted:
            raise ShardCorrupt(f"the object of volume {ident.hex()} has {there} bytes where {wanted} were put")
        return length

    def _inspect(self, info: VolumeInfo, end: int, length: int, stripes: Sequence[StripeAt]) -> str | None:
        """All of its segments, then its cells and its table. Blocking."""
        name = ShardName(info.id, _CELL)
        plain = _Plain(self._shards.read_at(name, 0, length))
        damage = shard_damage(plain, self._store, info, _CELL, stripes)
        if damage is not None:
            return damage.reason
        table = table_damage(plain, self._store, info, _CELL, end)
        return table.reason if table is not None else None

    async def _unknown(self, entry: Listed, found: Looked) -> Unknown | None:
        """None if a row knows it, which came while others were looked at, or if it is gone."""
        found.requests += 1
        ident = None
        try:
            if entry.size < HEADER_SIZE:
                raise ShardCorrupt("it is too short")
            name = entry.name.removeprefix(self._place)
            ident = await in_thread(self._shards.volume_of, name, limiter=self._thread, abandon_on_cancel=True)
        except DeviceError as error:
            found.fail(error)
            return None
        except ShardMissing:
            return None
        except DataError:
            pass
        found.failures = 0
        if ident is not None and await self._catalog.read(volume, ident) is not None:
            return None
        since_s = await self._catalog.read(claimed_since, self._tier)
        ours = since_s is not None and entry.put_s > since_s + SWEEP_SKEW_S
        return Unknown(entry.name, entry.size, entry.age_s, ident, ours and ident is not None)


def _some(entries: Iterator[Listed]) -> list[Listed]:
    return list(islice(entries, LIST_MAX))
