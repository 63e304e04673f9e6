"""Reads everything that the store holds, over and over, within a period, and hands what is bad to who mends it.

A pass goes through the rows that say where bytes are, then beside the copies of the catalog, then through all shards of
sealed volumes and of namespace images, cell by cell as the disks have them. Its steps are spread over the period;
behind schedule, or when somebody asked for a pass at once, it goes on as fast as its pace lets it, and the doors come
first in any case. Where it is is remembered, so that an owner goes on where the one before it was. What is sealed
behind it is the next pass's.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog
import trio

from stratumfs.catalog.comparing import compare_copies
from stratumfs.catalog.damage import clear_damage, note_damage
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.rowcheck import look_at_extents
from stratumfs.catalog.scrubs import (
    DONE,
    Pass,
    Stage,
    at_row,
    begin_pass,
    count_rows,
    last_passes,
    looks,
    row_position,
    save_pass,
)
from stratumfs.catalog.volumes import SEALED, VolumeRow, images, volume, volumes
from stratumfs.catalog.writer import Committed
from stratumfs.errors import DeviceError, DeviceSilent, ShardMissing, StratumError
from stratumfs.ids import CellIndex, DeviceId, ExtentId, StoreId, VolumeId
from stratumfs.limits import SCRUB_AGAIN_S, SCRUB_ROW_BYTES, SCRUB_ROWS_SAVED, SWAP_ROWS, VERIFY_STRIPES
from stratumfs.repair.answer import ask
from stratumfs.repair.inspect import TableDamage, shard_damage, table_damage
from stratumfs.repair.rows import volume_info
from stratumfs.repair.seal import append_tables
from stratumfs.repair.stripes import end_of, image_stripes, named_stripes
from stratumfs.repair.work import Work
from stratumfs.shards.layout import ShardName
from stratumfs.volumes.append import toc_holders
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.format import StripeAt
from stratumfs.volumes.ledger import VolumeLedger

Pace = Callable[[float, int], Awaitable[None]]
"""Awaited behind each step with the seconds that it took and the bytes read so far."""
Damaged = Callable[[VolumeId, CellIndex, str], bool]
"""Told of a shard that is to be mended."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Counts:
    """Since the owner began. shards, bytes: read as a whole; rows: of extents."""

    shards: int = 0
    bad_shards: int = 0
    bytes: int = 0
    rows: int = 0


class Scrubber:
    """One task in the store's nursery.

    work  what is under way, for status: bytes of shards
    """

    def __init__(
        self,
        store: StoreId,
        catalog: Catalog,
        devices: Mapping[DeviceId, AttachedDevice],
        ledger: VolumeLedger,
        *,
        damaged: Damaged,
        restored: Committed,
        pace: Pace,
        period_s: float,
    ) -> None:
        """*restored* is told of rows that were put right."""
        self.work: Work | None = None
        self.counts = Counts()
        self.period_s = period_s
        self._store, self._catalog, self._devices, self._ledger = store, catalog, devices, ledger
        self._damaged, self._restored, self._pace = damaged, restored, pace
        self._threads = trio.CapacityLimiter(1)
        self._wake = trio.Event()
        self._asked: list[trio.Event] = []
        self._hurried = False
        self._reading: VolumeId | None = None
        self._anew: set[CellIndex] = set()
        self._total = 0

    def made_anew(self, ident: VolumeId, cell: CellIndex) -> None:
        """A shard was rebuilt where it lay, or elsewhere: what was read of it so far is another file."""
        if ident == self._reading:
            self._anew.add(cell)

    async def wait_pass(self) -> None:
        """Return when a pass that begins now, and does not wait for its time, has ended, or has failed."""
        event = trio.Event()
        self._asked.append(event)
        self._wake.set()
        await event.wait()

    async def serve(self) -> None:
        """Until cancelled. An error is logged, and the pass goes on later."""
        while True:
            asked, self._asked = self._asked, []
            self._wake = trio.Event()
            try:
                ended = await self.round(at_once=bool(asked))
            except Exception as error:  # of one volume or device: the store goes on
                ended = False
                unforeseen = None if isinstance(error, StratumError) else error
                _log.warning("scrub stopped, and goes on later", error=str(error), exc_info=unforeseen)
            finally:
                self.work = None
                for event in asked:
                    event.set()
            if not ended and not self._asked:
                await self._rest(SCRUB_AGAIN_S)

    async def round(self, *, at_once: bool) -> bool:
        """Go on with the pass, or begin one when it is time; *at_once*: a new one, without waiting for anything.

        False if nothing can be done now.
        """
        if self._catalog.read_only:
            return False
        self._hurried = at_once
        current = next(iter(await self._catalog.read(last_passes, 1)), None)
        if at_once or current is None:
            current = await self._catalog.write(begin_pass, time.time_ns())
        elif current.ended_ns is not None:
            await self._rest(self.period_s - (time.time_ns() - current.began_ns) / 1e9)
            if self._asked:
                return True
            current = await self._catalog.write(begin_pass, time.time_ns())
        self._total = await self._size()
        self.work = Work("scrub", None, current.stage, total=self._total)
        for stage, step in ((Stage.ROWS, self._rows), (Stage.COPIES, self._copies), (Stage.VOLUMES, self._volumes)):
            if current.stage is stage:
                found = await step(current)
                if found is None:
                    return True
                current = found
        ended = replace(current, ended_ns=time.time_ns(), outcome=DONE)
        await self._catalog.write(save_pass, ended)
        _log.info("scrubbed", shards=ended.shards, bad=ended.bad_shards, rows=ended.rows, bad_rows=ended.bad_rows)
        return True

    def late_s(self, current: Pass, now_ns: int) -> float:
        """How far a pass that has not ended is behind its schedule; negative: it is before it."""
        if current.ended_ns is not None or not self._total:
            return 0.0
        return -due_in_s(current, self._done(current), self._total, self.period_s, now_ns)

    # The stages: each returns the pass behind it; None if another one was asked for

    async def _rows(self, current: Pass) -> Pass | None:
        saved = current.rows
        while True:
            if await self._due(replace(current, rows=current.rows + SWAP_ROWS)):
                return None
            began = trio.current_time()
            looked = await self._catalog.read(look_at_extents, row_position(current))
            bad = len(looked.bad) and await self._mend_rows([each.id for each in looked.bad])
            self.counts.rows += looked.rows
            current = replace(current, rows=current.rows + looked.rows, bad_rows=current.bad_rows + bad)
            if looked.last is None:
                current = replace(current, stage=Stage.COPIES, position=b"")
                await self._catalog.write(save_pass, current)
                return current
            current = at_row(current, looked.last)
            if current.rows - saved >= SCRUB_ROWS_SAVED:
                saved = current.rows
                await self._catalog.write(save_pass, current)
            await self._pace(trio.current_time() - began, self._done(current))

    async def _mend_rows(self, idents: Sequence[ExtentId]) -> int:
        """How many were bad: those around them, on the same pages, are mended with them."""
        mender = self._catalog.mender
        before = mender.met
        whole = await mender.mend(idents)
        _log.warning("scrub_met_bad_rows", extents=list(idents), restored=len(whole))
        return max(len(idents), mender.met - before)

    async def _copies(self, current: Pass) -> Pass | None:
        async def step(seconds: float, _: int) -> None:
            await self._pace(seconds, self._done(current))

        if await self._due(current):
            return None
        found = await compare_copies(self._catalog, step, mend=True, committed=self._restored)
        for what in found.unknown:
            _log.error("row_of_the_catalog_unknown", row=what, reason="its copies differ, and none is right")
        for label, reason in found.not_looked.items():
            _log.warning("copy_not_compared", copy=label, reason=reason)
        current = replace(
            current,
            stage=Stage.VOLUMES,
            copies=found.copies,
            bad_copies=len(found.bad),
            bad_rows=current.bad_rows + len(found.wrong) + len(found.unknown),
        )
        return await self._catalog.write(save_pass, current)

    async def _volumes(self, current: Pass) -> Pass | None:
        while rows := await self._catalog.read(volumes, SEALED, current.position, 1):
            row = rows[0]
            if not row.placed:
                _log.error("scrub_passed_over", volume=row.id.hex(), reason="rows of where its shards lie are lost")
                current = replace(current, position=row.id)
                continue
            if row.remote:  # to read it back costs money, and whoever keeps it looks after it
                current = replace(current, position=row.id)
                continue
            if await self._due(replace(current, bytes=current.bytes + row.length * (row.k + row.m))):
                return None
            current = await self._volume(current, row)
        for row in await self._catalog.read(images):
            if await self._due(replace(current, bytes=current.bytes + row.length * (row.k + row.m))):
                return None
            current = await self._image(current, row)
        return current

    async def _image(self, current: Pass, row: VolumeRow) -> Pass:
        """It is not mended: what is bad of it makes another one due."""
        stripes = await image_stripes(self._store, volume_info(row), row.length, self._devices)
        bad, whole = list[tuple[VolumeId, CellIndex, str]](), list[CellIndex]()
        for number in range(row.k + row.m):
            cell = CellIndex(number)
            device = self._devices.get(row.devices[cell])
            if device is None or device.struck is not None:
                continue
            try:
                await ask(device, device.shards.size, ShardName(row.id, cell))  # nobody else looks whether it is there
                reason = await self._shard(row, cell, device, stripes, current)
                table = await self._table(row, cell, device) if reason is None else None
            except DeviceSilent:
                continue
            except (ShardMissing, DeviceError) as error:
                reason, table = str(error), None
            reason = table.reason if reason is None and table is not None else reason
            current = replace(current, shards=current.shards + 1, bytes=current.bytes + row.length)
            self.counts.shards += 1
            self.counts.bytes += row.length
            if reason is None:
                whole.append(cell)
            else:
                bad.append((row.id, cell, reason))
        current = replace(current, bad_shards=current.bad_shards + len(bad))
        self.counts.bad_shards += len(bad)
        await self._catalog.write(clear_damage, row.id, whole)
        if bad:
            _log.warning("scrub_met_damage", image=row.id.hex(), cells=[cell for _, cell, _ in bad], reason=bad[0][2])
            await self._catalog.write(note_damage, bad, time.time_ns())
        return await self._catalog.write(save_pass, current)

    async def _volume(self, current: Pass, row: VolumeRow) -> Pass:
        """All its shards, one after the other: a disk reads on, and no stripe is wanted at once."""
        self._reading, self._anew = row.id, set()
        stripes = await named_stripes(self._catalog, row.id)
        whole, tables = list[CellIndex](), list[CellIndex]()
        for number in range(row.k + row.m):
            cell = CellIndex(number)
            device = self._devices.get(row.devices[cell])
            if device is None or device.struck is not None:
                continue
            try:
                bad = await self._shard(row, cell, device, stripes, current)
                table = await self._table(row, cell, device) if bad is None else None
            except DeviceSilent:
                continue
            except (ShardMissing, DeviceError) as error:
                bad, table = str(error), None
            current = replace(current, shards=current.shards + 1, bytes=current.bytes + row.length)
            self.counts.shards += 1
            self.counts.bytes += row.length
            if bad is not None:
                if not await self._is_there(row, cell):
                    continue
                self._damaged(row.id, cell, bad)
                _log.warning("scrub_met_damage", volume=row.id.hex(), cell=cell, reason=bad)
            elif table is not None:
                tables.append(cell)
            else:
                whole.append(cell)
            wrong = not _is_well(bad, table)
            current = replace(current, bad_shards=current.bad_shards + wrong)
            self.counts.bad_shards += wrong
        if tables and await self._is_there(row, tables[0]):
            whole += await self._write_tables(row, tables)
        current = replace(current, volumes=current.volumes + 1, position=row.id)
        found = tuple((row.id, cell, row.devices[cell]) for cell in whole if cell not in self._anew)
        return await self._catalog.write(save_pass, current, found, time.time_ns())

    async def _shard(
        self, row: VolumeRow, cell: CellIndex, device: AttachedDevice, stripes: Sequence[StripeAt], current: Pass
    ) -> str | None:
        """What is wrong with it; None if nothing is. Raises: ShardMissing, DeviceError, DeviceSilent."""
        info, read = volume_info(row), 0
        for start in range(0, max(1, len(stripes)), VERIFY_STRIPES):
            part = stripes[start : start + VERIFY_STRIPES]
            began = trio.current_time()
            damage = await ask(device, shard_damage, device.shards, self._store, info, cell, part)
            read += sum(end_of(at) - at.position for at in part)
            await self._pace(trio.current_time() - began, self._done(current) + read)
            if damage is not None:
                return damage.reason
        return None

    async def _table(self, row: VolumeRow, cell: CellIndex, device: AttachedDevice) -> TableDamage | None:
        info = volume_info(row)
        if cell not in toc_holders(info):
            return None
        return await ask(device, table_damage, device.shards, self._store, info, cell, row.length)

    async def _write_tables(self, row: VolumeRow, cells: Sequence[CellIndex]) -> list[CellIndex]:
        """Behind the ends of their shards: nothing is written over. Returns those that are whole then."""
        info = volume_info(row)
        failed = await append_tables(self._store, info, row.length, cells, self._devices, self._ledger, self._threads)
        for device, error in failed.items():
            _log.warning("table_not_written", volume=row.id.hex(), device=device.hex(), reason=str(error))
        return [cell for cell in cells if row.devices[cell] not in failed]

    async def _is_there(self, row: VolumeRow, cell: CellIndex) -> bool:
        """Whether it was to be found there still: else a volume was freed, or a shard was moved, while it was read."""
        now = await self._catalog.read(volume, row.id)
        return now is not None and now.state == SEALED and now.devices[cell] == row.devices[cell]

    # Time

    async def _size(self) -> int:
        """Of a pass, as of now."""
        size, after, behind = 0, VolumeId(b""), ExtentId(0)
        while True:
            chunk = await self._catalog.read(looks, after)
            size += chunk.bytes
            await trio.lowlevel.checkpoint()
            if chunk.last is None:
                break
            after = chunk.last
        while True:
            rows, last = await self._catalog.read(count_rows, behind)
            size += rows * SCRUB_ROW_BYTES
            await trio.lowlevel.checkpoint()
            if last is None:
                return size
            behind = last

    async def _due(self, behind: Pass) -> bool:
        """Return when the step that leads to *behind* is due; true if somebody asks for another pass meanwhile."""
        if self.work is not None:
            self.work.device, self.work.done = behind.stage, self._done(behind)
        if not self._hurried:
            await self._rest(due_in_s(behind, self._done(behind), self._total, self.period_s, time.time_ns()))
        return bool(self._asked) and not self._hurried

    async def _rest(self, seconds: float) -> None:
        with trio.move_on_after(max(0.0, seconds)):
            await self._wake.wait()

    def _done(self, current: Pass) -> int:
        return current.bytes + current.rows * SCRUB_ROW_BYTES


def due_in_s(behind: Pass, done: int, total: int, period_s: float, now_ns: int) -> float:
    """When a pass should be where it has *done* so much of *total*, from now on; negative: it is late."""
    share = min(1.0, done / total) if total else 1.0
    return period_s * share - (now_ns - behind.began_ns) / 1e9


def _is_well(bad: str | None, table: TableDamage | None) -> bool:
    """A table that was perhaps never written is no damage."""
    return bad is None and (table is None or table.missing)
