"""Heals what somebody named: reads every row and every cell of it, and mends what is bad before it goes on.

A file, or all below a directory, a key or a bucket. Of each volume only those stripes are read that its bytes lie in,
on every device that has a shard of it: parity too. So one object is looked at in the time that its own bytes take, and
a prefix without what lies beside it. What is moved meanwhile was read and verified by whoever moved it.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import trio

from stratumfs.catalog.below import Named, inode_named, named_below
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.rowcheck import LookedInto, look_into
from stratumfs.catalog.volumes import OPEN, SEALED, VolumeRow, path_of_inode, readable_extents_in, volume
from stratumfs.errors import DeviceSilent, NotFound
from stratumfs.ids import CellIndex, DeviceId, ExtentId, InodeNo, StoreId, VolumeId
from stratumfs.limits import FINDINGS_MAX, HEAL_STRIPES, TRANSACTION_ROWS_MAX
from stratumfs.repair.look import what_is_wrong
from stratumfs.repair.repairer import Repairer
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.format import StripeAt, stripes_of

Pace = Callable[[float, int], Awaitable[None]]
"""Awaited behind each step with the seconds that it took and the payload bytes looked at so far."""


@dataclass(frozen=True, slots=True)
class BadShard:
    """One that is not what was written. mended: it was made anew, and is."""

    volume: VolumeId
    cell: CellIndex
    device: DeviceId
    reason: str
    mended: bool


@dataclass(slots=True)
class Healed:
    """What was looked at, found, and done.

    payload, total bytes, so far and of all that was named
    cells          that were read and are what was written
    rows_left      of bad rows, those that no copy of the catalog had whole
    shards         bad ones, the first `FINDINGS_MAX`; bad, mended: how many in all
    away           shards that could not be looked at, for their devices are not up or do not answer
    unreadable     names of files with stripes of which fewer than k cells are good now, the first `FINDINGS_MAX`
    """

    total: int = 0
    payload: int = 0
    inline_bytes: int = 0
    inodes: int = 0
    volumes: set[VolumeId] = field(default_factory=set)
    cells: int = 0
    rows: int = 0
    bad_rows: int = 0
    rows_left: int = 0
    bad: int = 0
    mended: int = 0
    away: int = 0
    shards: list[BadShard] = field(default_factory=list)
    unreadable: dict[bytes, None] = field(default_factory=dict)


@dataclass(slots=True)
class _Look:
    """At one volume. bad: by shard, why; away: shards that nobody could look at; good: those that are whole."""

    bad: dict[CellIndex, str] = field(default_factory=dict)
    away: set[CellIndex] = field(default_factory=set)
    good: set[CellIndex] = field(default_factory=set)


class Healer:
    """One run. *mend*: else nothing is changed."""

    def __init__(
        self,
        store: StoreId,
        catalog: Catalog,
        devices: Mapping[DeviceId, AttachedDevice],
        repairer: Repairer,
        pace: Pace,
        *,
        mend: bool,
    ) -> None:
        self.found = Healed()
        self._store, self._catalog, self._devices, self._repairer = store, catalog, devices, repairer
        self._pace, self._mend = pace, mend
        self._wanted: dict[VolumeId, dict[int, StripeAt]] = {}
        self._count = 0

    async def run(self, top: InodeNo) -> None:
        """All below *top*, which may be a file. Raises: NotFound if there is none."""
        if await self._catalog.read(inode_named, top) is None:
            raise NotFound(f"there is no inode {top}")
        async with aclosing(self._below(top)) as below:
            async for each in below:
                self.found.total += each.size
        async with aclosing(self._below(top)) as below:
            async for each in below:
                self.found.inodes += 1
                ino = each.body if each.directory else each.ino
                if ino is not None:
                    await self._rows(ino)
        await self._stripes()

    async def _below(self, top: InodeNo) -> AsyncGenerator[Named, None]:
        first = await self._catalog.read(inode_named, top)
        if first is None:  # it went meanwhile
            return
        yield first
        waiting = [(top, b"")] if first.directory else []
        while waiting:
            ino, after = waiting.pop()
            chunk, more = await self._catalog.read(named_below, ino, after)
            if more is not None:
                waiting.append((ino, more))
            for each in chunk:
                yield each
                if each.directory:
                    waiting.append((each.ino, b""))
            await trio.lowlevel.checkpoint()

    # Rows

    async def _rows(self, ino: InodeNo) -> None:
        offset: int | None = -1
        while offset is not None:
            looked = await self._whole_rows(ino, offset)
            for extent in looked.good:
                if extent.location is None:
                    self.found.payload += extent.length
                    self.found.inline_bytes += extent.length
                    continue
                places = self._wanted.setdefault(extent.location.volume, {})
                for at in stripes_of(extent.location, extent.length):
                    self._count += at.position not in places
                    places[at.position] = at
                self.found.payload += extent.length
            if self._count >= HEAL_STRIPES:
                await self._stripes()
            offset = looked.last
            await trio.lowlevel.checkpoint()

    async def _whole_rows(self, ino: InodeNo, after: int) -> LookedInto:
        looked = await self._catalog.read(look_into, ino, after)
        self.found.rows += len(looked.good) + len(looked.bad)
        if looked.bad:
            mender = self._catalog.mender
            before = mender.met
            restored: set[ExtentId] = await mender.mend(looked.bad) if self._mend else set()
            # Those around them, on the same pages, are restored with them.
            self.found.bad_rows += max(len(looked.bad), mender.met - before)
            self.found.rows_left += len(set(looked.bad) - restored)
            looked = await self._catalog.read(look_into, ino, after)
        return looked

    # Cells

    async def _stripes(self) -> None:
        wanted, self._wanted, self._count = self._wanted, {}, 0
        for ident, places in wanted.items():
            row = await self._row(ident)
            if row is not None:
                self.found.volumes.add(ident)
                await self._volume(row, [places[position] for position in sorted(places)])

    async def _row(self, ident: VolumeId) -> VolumeRow | None:
        row = await self._catalog.read(volume, ident)
        return row if row is not None and row.state in (OPEN, SEALED) else None

    async def _volume(self, row: VolumeRow, stripes: Sequence[StripeAt]) -> None:
        before = after = await self._look(row, stripes)
        now: VolumeRow | None = row
        if before.bad or before.away:
            now = await self._row(row.id)
            if self._mend:
                for cell, reason in before.bad.items():
                    self._repairer.damaged(row.id, cell, reason)
                await self._repairer.mend(row.id)
                now = await self._row(row.id)
                after = await self._look(now, stripes) if now is not None else _Look()
        self.found.cells += len(after.good) * len(stripes)
        if now is None:  # what it held was moved or deleted meanwhile
            return
        self.found.away += len(after.away)
        for cell, reason in before.bad.items():
            mended = cell in after.good
            self.found.bad += 1
            self.found.mended += mended
            if len(self.found.shards) < FINDINGS_MAX:
                self.found.shards.append(BadShard(row.id, cell, row.devices[cell], reason, mended))
        if len(after.good) < now.k:
            await self._note_unreadable(now, stripes)

    async def _look(self, row: VolumeRow, stripes: Sequence[StripeAt]) -> _Look:
        """One shard after the other."""
        found = _Look()
        for number, ident in enumerate(row.devices):
            cell, device, began = CellIndex(number), self._devices.get(ident), trio.current_time()
            if device is None or device.struck is not None:
                found.away.add(cell)
                continue
            try:
                reason = await what_is_wrong(self._store, row, cell, device, stripes)
            except DeviceSilent:
                found.away.add(cell)
                continue
            if reason is None:
                found.good.add(cell)
            else:
                found.bad[cell] = reason
            await self._pace(trio.current_time() - began, self.found.payload)
        return found

    async def _note_unreadable(self, row: VolumeRow, stripes: Sequence[StripeAt]) -> None:
        """Fewer than k shards are whole: of which stripes are fewer than k cells, and what has bytes in them?"""
        lost = set[int]()
        for at in stripes:
            if len((await self._look(row, [at])).good) < row.k:
                lost.add(at.position)
        after: tuple[int, int] | None = (-1, -1) if lost else None
        while after is not None:
            chunk, after = await self._catalog.read(readable_extents_in, row.id, after, TRANSACTION_ROWS_MAX)
            for extent in chunk:
                assert extent.location is not None
                if len(self.found.unreadable) < FINDINGS_MAX and any(
                    at.position in lost for at in stripes_of(extent.location, extent.length)
                ):
                    path = await self._catalog.read(path_of_inode, extent.ino)
                    self.found.unreadable[path or f"inode {extent.ino}".encode()] = None
