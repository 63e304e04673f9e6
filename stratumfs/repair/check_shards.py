"""Checks what lies on the devices of a store that nobody uses, beside the catalog's rows, and mends it.

Each sealed volume and image has its shards where rows place them; each shard its cells, and m+1 of them a table of
contents. What is bad is handed to the repairer, as a read would do, and looked at once more; a table is written anew
behind the end of its shard, where nothing is lost by it.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import trio

from stratumfs.catalog.damage import is_damaged, note_damage
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.volumes import (
    IMAGE,
    SEALED,
    VolumeRow,
    images,
    lost_volumes,
    misnumbered,
    place_shards,
    remember_volume,
    volume,
    volume_summary,
    volumes,
)
from stratumfs.errors import DeviceError, ShardMissing, StratumError
from stratumfs.ids import CellIndex, DeviceId, StoreId, VolumeId
from stratumfs.limits import TRANSACTION_ROWS_MAX
from stratumfs.repair.check_rows import Told
from stratumfs.repair.findings import Outcome, Report
from stratumfs.repair.inspect import headers_damage, shard_damage, table_damage
from stratumfs.repair.quarantine import unknown_shards
from stratumfs.repair.repairer import Repairer
from stratumfs.repair.rows import volume_info
from stratumfs.repair.seal import append_tables
from stratumfs.repair.stripes import image_stripes, named_stripes
from stratumfs.shards.layout import ShardName
from stratumfs.threads import in_thread
from stratumfs.volumes.append import toc_holders
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.format import StripeAt
from stratumfs.volumes.found import FoundVolume, by_wholeness, code_of, find_volumes
from stratumfs.volumes.ledger import VolumeLedger
from stratumfs.volumes.remote import remote_id

T = TypeVar("T")

_SHARDS = "shards that are damaged or missing"
_IMAGES = "shards of namespace images that are damaged or missing"
_TABLES = "tables of contents that are damaged or missing"


@dataclass(frozen=True, slots=True)
class Bad:
    """A shard, and what is wrong with its cells or its table. harmless: what is missing was perhaps never there."""

    volume: VolumeId
    cell: CellIndex
    reason: str
    table: bool = False
    harmless: bool = False

    @property
    def where(self) -> str:
        return f"{self.volume.hex()}.{self.cell}"


async def check_unknown(
    catalog: Catalog, devices: Mapping[DeviceId, AttachedDevice], report: Report, *, mend: bool
) -> None:
    """Files that no row places where they are: whoever opens the store moves them aside."""
    for device in devices.values():
        try:
            names = await unknown_shards(catalog, device)
        except DeviceError as error:
            report.add("devices that cannot be listed", device.label, Outcome.LEFT, str(error))
            continue
        for name in names:
            done = "moved into the device's quarantine" if mend else "the next owner moves it aside"
            report.add("shards that no row knows", f"{device.label}: {name}", Outcome.NOTED, done)


async def remember_lost(
    store: StoreId, catalog: Catalog, devices: Mapping[DeviceId, AttachedDevice], report: Report
) -> None:
    """Volumes of which the row is lost, but extents name them: headers on the devices tell of their geometry."""
    lost = await catalog.read(lost_volumes)
    if not lost:
        return
    backends = {device.id: device.shards for device in devices.values()}
    found = await _in_thread(partial(find_volumes, backends))
    for ident in lost:
        files = found.get(ident)
        code = await _in_thread(partial(code_of, files, backends, store)) if files is not None else None
        if files is not None and code is not None:
            # Of one that moved whole, some of the files that it left may be there yet, beside all of those that it has.
            tiers = Counter(devices[ident].tier for holders in files.cells.values() for ident in holders)
            tier = max(tiers, key=lambda each: tiers[each])
            await catalog.commit(remember_volume, ident, tier, code.k, code.m, time.time_ns())
            report.add("extents in missing volumes", ident.hex(), Outcome.MENDED, "made anew from its headers")


async def place_lost(
    store: StoreId, catalog: Catalog, devices: Mapping[DeviceId, AttachedDevice], report: Report
) -> None:
    """Volumes of which rows of shards are lost: a shard is where its file is, or of several the one with more whole
    cells; else it is to be made on a device that has none of that volume."""
    backends = {device.id: device.shards for device in devices.values()}
    for row, known in await catalog.read(misnumbered):
        cells = {cell: device for cell, device in known.items() if 0 <= cell < row.k + row.m}
        if row.remote:
            cells = {0: remote_id(store, row.tier)}
        lost = [cell for cell in range(row.k + row.m) if cell not in cells]
        spare = {each.id: each for each in devices.values() if each.tier == row.tier and each.id not in cells.values()}
        for cell in lost:
            there = [each.id for each in spare.values() if await _has(each, ShardName(row.id, CellIndex(cell)))]
            found = FoundVolume(row.id, {CellIndex(cell): there})
            if best := await _in_thread(partial(by_wholeness, found, CellIndex(cell), backends, store, ())):
                cells[cell] = spare.pop(best[0]).id
        for cell in lost:
            if cell not in cells and spare:
                cells[cell] = spare.popitem()[0]
        if len(cells) == row.k + row.m:
            await catalog.commit(place_shards, row.id, tuple(sorted(cells.items())))
            report.add("volumes with a wrong number of shards", row.id.hex(), Outcome.MENDED, "placed where files are")


async def _has(device: AttachedDevice, name: ShardName) -> bool:
    try:
        await device.read(device.shards.size, name)
    except (ShardMissing, DeviceError):
        return False
    return True


class ShardCheck:
    """One look at all volumes. full: every cell is read; else headers, lengths, and heads of tables."""

    def __init__(
        self,
        store: StoreId,
        catalog: Catalog,
        devices: Mapping[DeviceId, AttachedDevice],
        report: Report,
        told: Told,
        *,
        full: bool,
    ) -> None:
        self._store, self._catalog, self._devices = store, catalog, devices
        self._report, self._told, self._full = report, told, full

    async def run(self, repairer: Repairer | None, ledger: VolumeLedger) -> None:
        """*repairer*: mends what is found; None: nothing is to be changed."""
        await self._look_at_images(mend=repairer is not None)
        bad = await self._look()
        if repairer is not None and bad:
            await self._mend(repairer, [each for each in bad if not each.table])
            await self._write_tables(ledger, {each.volume for each in bad if each.table})
        for each in bad:
            text, where = _TABLES if each.table else _SHARDS, f"{each.where}: {each.reason}"
            still = await self._still(each) if repairer is not None else each.reason
            if still is None:
                done = "written behind its end" if each.table else "made anew"
                self._report.add(text, where, Outcome.NOTED if each.harmless else Outcome.MENDED, done)
            else:
                self._report.add(text, where, Outcome.NOTED if each.harmless else Outcome.LEFT)

    async def _look(self) -> list[Bad]:
        summary = await self._catalog.read(volume_summary)
        total = sum(number for _, state, _, _, number, _ in summary if state == SEALED)
        found: list[Bad] = []
        after = b""
        while rows := await self._catalog.read(volumes, SEALED, after, TRANSACTION_ROWS_MAX):
            after = rows[-1].id
            for row in rows:
                self._told("volumes", self._report.volumes, total)
                if len(row.devices) == row.k + row.m:  # else the invariants have said so
                    found += await self._look_at(row)
                self._report.volumes += 1
        return found

    async def _look_at_images(self, *, mend: bool) -> None:
        """None is mended, but another one is made due by what is remembered of it; it supersedes older ones too."""
        for at, row in enumerate(await self._catalog.read(images)):
            known = await self._catalog.read(is_damaged, row.id)
            found = await self._look_at(row)
            if found and mend:
                rows = [(row.id, each.cell, each.reason) for each in found]
                await self._catalog.write(note_damage, rows, time.time_ns())
            for each in found:
                noted = at > 0 or known
                outcome = Outcome.NOTED if noted else Outcome.MENDED if mend else Outcome.LEFT
                done = "the next owner writes another image" if noted or mend else ""
                self._report.add(_IMAGES, f"{each.where}: {each.reason}", outcome, done)

    async def _look_at(self, row: VolumeRow) -> list[Bad]:
        if row.state == IMAGE:
            stripes = await image_stripes(self._store, volume_info(row), row.length, self._devices)
        else:
            stripes = await named_stripes(self._catalog, row.id)
        found: list[Bad] = []

        async def one(cell: CellIndex) -> None:
            device = self._devices.get(row.devices[cell])
            if device is not None:
                found.extend(await self._shard(row, cell, device, stripes))

        async with trio.open_nursery() as nursery:
            for number in range(row.k + row.m):
                nursery.start_soon(one, CellIndex(number))
        return sorted(found, key=lambda each: (each.cell, each.table))

    async def _shard(
        self, row: VolumeRow, cell: CellIndex, device: AttachedDevice, stripes: Sequence[StripeAt]
    ) -> list[Bad]:
        info, found = volume_info(row), list[Bad]()
        self._report.shards += 1
        self._report.cells += len(stripes)
        look = shard_damage if self._full else headers_damage
        try:
            damage = await device.read(look, device.shards, self._store, info, cell, stripes)
            if damage is not None:
                found.append(Bad(row.id, cell, damage.reason))
            if cell in toc_holders(info):
                table = await device.read(table_damage, device.shards, self._store, info, cell, row.length)
                if table is not None:
                    found.append(Bad(row.id, cell, table.reason, table=True, harmless=table.missing))
        except (ShardMissing, DeviceError) as error:
            found.append(Bad(row.id, cell, str(error)))
        return found

    async def _mend(self, repairer: Repairer, bad: Sequence[Bad]) -> None:
        if not bad:
            return
        self._told("repair", 0, None)
        await repairer.recall()
        for each in bad:
            repairer.damaged(each.volume, each.cell, each.reason)
        await repairer.round()

    async def _write_tables(self, ledger: VolumeLedger, idents: set[VolumeId]) -> None:
        threads = trio.CapacityLimiter(1)
        for ident in sorted(idents):
            row = await self._row(ident)
            bad = [each.cell for each in await self._look_at(row) if each.table] if row is not None else []
            if row is not None and bad:
                await append_tables(self._store, volume_info(row), row.length, bad, self._devices, ledger, threads)

    async def _still(self, bad: Bad) -> str | None:
        """What is wrong with it now."""
        row = await self._row(bad.volume)
        device = self._devices.get(row.devices[bad.cell]) if row is not None else None
        if row is None:
            return None
        if device is None:
            return "its device is not there"
        stripes = await named_stripes(self._catalog, row.id)
        try:
            found = await self._shard(row, bad.cell, device, stripes)
        except StratumError as error:
            return str(error)
        return next((each.reason for each in found if each.table == bad.table), None)

    async def _row(self, ident: VolumeId) -> VolumeRow | None:
        return await self._catalog.read(volume, ident)


async def _in_thread(fn: Callable[[], T]) -> T:
    return await in_thread(fn, limiter=trio.CapacityLimiter(1))
