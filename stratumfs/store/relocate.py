"""Moves volumes to another tier whole: their shards are copied cell by cell, verified, and one row says where they lie.

So it goes where all that lives in a volume moves, and the other tier's code is the same: what names a stripe names it
wherever its volume lies, so that no extent is touched, and small objects lie side by side as they did. The new files
are durable before the row is changed; what is left is unlinked a grace period and a sync later, by rows that say so
(``catalog.vacated``). A stop before that leaves files that no row knows, which the next opening moves aside.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial

import structlog
import trio

from stratumfs.catalog.damage import is_damaged
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.vacated import has_left_any, move_volume, tell_moved
from stratumfs.catalog.volumes import SEALED, VolumeRow, volume
from stratumfs.config import REMOTE_TIERS
from stratumfs.errors import CatalogCorrupt, DeviceError, DeviceFull, DeviceSilent, StoreFull
from stratumfs.ids import CellIndex, StoreId, VolumeId
from stratumfs.limits import REBUILD_THREADS
from stratumfs.location import CELL_HEADER_SIZE
from stratumfs.repair.homes import new_homes
from stratumfs.repair.rebuild import RebuildPlan, Rebuilt, rebuild
from stratumfs.repair.remake import begin
from stratumfs.repair.remaking import Remaking
from stratumfs.repair.rows import volume_info
from stratumfs.repair.stripes import named_stripes, sealed_stripes
from stratumfs.shards.layout import ShardName
from stratumfs.store.fleet import Fleet
from stratumfs.store.ledger import CatalogLedger
from stratumfs.store.repack import Pace
from stratumfs.volumes import toc
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.threads import LendingThreads

_log = structlog.get_logger(__name__)

WHOLE_LIVE_MIN = 0.75
"""Of what a volume has room for, that must be named if it is to move as it is: a repack leaves what is dead behind."""

Homes = Mapping[CellIndex, AttachedDevice]


class Relocator:
    """One a store, on its loop.

    remaking  who makes shards of a volume, repair or this
    unnamed  volumes that rows may be about to name bytes of
    moved    told of each volume that lies elsewhere now
    reserve  so many payload bytes fit in a tier, beside what it keeps free, or StoreFull, StoreReadOnly
    """

    def __init__(
        self,
        store: StoreId,
        catalog: Catalog,
        fleet: Fleet,
        remaking: Remaking,
        unnamed: Callable[[], Collection[VolumeId]],
        moved: Callable[[VolumeId], None],
        reserve: Callable[[str, int], None],
    ) -> None:
        self._store, self._catalog, self._fleet = store, catalog, fleet
        self._ledger = CatalogLedger(catalog)
        self._unnamed, self._moved, self._reserve = unnamed, moved, reserve
        self._threads = LendingThreads(REBUILD_THREADS)
        self._remaking = remaking

    async def move(self, leaving: Mapping[VolumeId, int], tier: str, move: bytes | None, pace: Pace) -> int:
        """Move what can be moved whole to *tier*: of *leaving* volumes, of which so many bytes that are named are to go
        there. Returns how many have gone, those of files that share them with it; the rest is a repack's.

        *move*: as of a repack; *pace* is awaited behind each step with its seconds and the bytes that have gone.
        Raises: StoreReadOnly.
        """
        gone = 0
        for ident, count in leaving.items():
            with self._remaking.one(ident) as alone:
                row = await self._catalog.read(volume, ident)
                if row is None or not alone or not await self._fits(row, count, tier):
                    continue
                try:
                    gone += await self._move(row, tier, move, partial(_told, pace, gone))
                except (CatalogCorrupt, DeviceError, StoreFull) as error:
                    _log.warning("volume_not_moved_whole", volume=ident.hex(), tier=tier, error=str(error))
        return gone

    def can_take(self, tier: str) -> bool:
        """Whether volumes of another tier could come to *tier* whole."""
        code = self._fleet.codes.get(tier)
        return tier not in REMOTE_TIERS and any(
            other != tier and each == code for other, each in self._fleet.codes.items()
        )

    async def _fits(self, row: VolumeRow, count: int, tier: str) -> bool:
        code = self._fleet.codes.get(tier)
        if code is None or tier in REMOTE_TIERS or row.tier in REMOTE_TIERS or row.tier == tier:
            return False
        if row.state != SEALED or not row.placed or (row.k, row.m) != (code.k, code.m) or row.id in self._unnamed():
            return False
        if any(device.id in row.devices for device in self._fleet.of(tier)):
            return False  # of one that is in two tiers a copy may come to lie over the shard itself: repair ends that
        room = row.k * (row.length - CELL_HEADER_SIZE * row.stripes)
        if count < row.live or row.live < WHOLE_LIVE_MIN * room:
            return False
        left = await self._catalog.read(has_left_any, row.id)
        return not left and not await self._catalog.read(is_damaged, row.id)

    async def _move(self, row: VolumeRow, tier: str, move: bytes | None, pace: Pace) -> int:
        cells = [CellIndex(cell) for cell in range(row.k + row.m)]
        homes = await new_homes(self._fleet, replace(row, tier=tier, devices=()), cells, ())
        if len(homes) < len(cells):
            return 0
        self._reserve(tier, row.k * row.length)
        copied = False
        try:
            copied = await self._copy(row, homes, pace) and self._are_up(homes, tier)
        finally:
            if not copied:
                await self._give_up(row, homes)
        if not copied:
            return 0
        devices, now_ns = [homes[cell].id for cell in cells], time.time_ns()
        with trio.CancelScope(shield=True):  # and where it raises the files stay: perhaps they are the volume's by now
            told = await self._catalog.commit(move_volume, row, tier, devices, move, now_ns)
        if told is None:
            await self._give_up(row, homes)
            return 0
        self._moved(row.id)
        _log.info("volume_moved_whole", volume=row.id.hex(), source=row.tier, target=tier, bytes=row.live)
        count = told.bytes
        while told.resume is not None:
            told = await self._catalog.write(tell_moved, row.id, row.tier, told.resume, move, now_ns)
            count += told.bytes
            await trio.lowlevel.checkpoint()
        return count

    def _are_up(self, homes: Homes, tier: str) -> bool:
        """Still: else a volume that was whole would lack what one of them has."""
        up = self._fleet.up(tier)
        return all(device in up for device in homes.values())

    async def _copy(self, row: VolumeRow, homes: Homes, pace: Pace) -> bool:
        """Whether all shards are there, whole and durable."""
        stripes, length = await sealed_stripes(self._store, self._catalog, row, self._fleet.devices)
        if stripes.silent:
            return False
        table = await self._threads.run(toc.pack, await self._ledger.contents(row.id))
        named = partial(named_stripes, self._catalog, row.id)
        plan = RebuildPlan(self._store, volume_info(row), stripes.found, named, length, homes, table)

        async def paced(seconds: float, written: int) -> None:
            await pace(seconds, 0)

        result = await rebuild(plan, self._fleet.devices, self._threads, paced, _lacks)
        await self._see_to(result, homes)
        return len(result.installed) == len(homes) and not result.lost

    async def _see_to(self, result: Rebuilt, homes: Homes) -> None:
        for cell, error in result.failures.items():
            if isinstance(error, DeviceFull):
                self._fleet.full(homes[cell].id, error)
            elif not isinstance(error, DeviceSilent):
                await self._fleet.strike(homes[cell].id, error)

    async def _give_up(self, row: VolumeRow, homes: Homes) -> None:
        """No row can say that it lies there. What cannot be removed here the next opening moves aside."""
        for cell, device in homes.items():
            try:
                await device.write(_clear, device, ShardName(row.id, cell))
            except DeviceError as error:
                _log.warning("shard_not_removed", device=device.label, volume=row.id.hex(), error=str(error))


def _clear(device: AttachedDevice, name: ShardName) -> None:
    """What was begun there, or is whole, goes."""
    begin(device.shards, name, 0).close()
    device.shards.install(name)
    device.shards.unlink(name)


async def _lacks(cells: Collection[CellIndex]) -> None:
    """A volume that lacks anything does not move whole."""


async def _told(pace: Pace, gone: int, seconds: float, moved: int) -> None:
    await pace(seconds, gone + moved)
