"""The catalog's rows of volumes and devices, as the volume writer and the fleet want them kept."""

import time
from collections.abc import Sequence

import trio

from stratumfs.catalog.devices import begin_drain, end_drain, forget_device, strike_device
from stratumfs.catalog.engine import Catalog, Transaction
from stratumfs.catalog.swap import Place, planned
from stratumfs.catalog.volumes import content_row, insert_volume, path_of_inode, readable_extents_in, seal_volume
from stratumfs.devices.health import DeviceState
from stratumfs.ids import DeviceId, InodeNo, VolumeId
from stratumfs.limits import TOC_ENTRIES_MAX
from stratumfs.values import Extent, MovedRun
from stratumfs.volumes.fleet import SealMark
from stratumfs.volumes.format import VolumeInfo
from stratumfs.volumes.toc import Attributes, TocEntry, about_entry, attributes_entry

_NO_VERSION = bytes(16)
_PATH_MAX = 65_535
_CHUNK = 50


class CatalogLedger:
    """A ``VolumeLedger`` and a ``DeviceLedger`` over the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def opened(self, volume: VolumeInfo) -> None:
        code = volume.code
        await self._catalog.commit(
            insert_volume, volume.id, volume.tier, code.k, code.m, volume.devices, time.time_ns()
        )

    async def sealed(self, volume: VolumeId, length: int, stripes: int) -> None:
        await self._catalog.commit(seal_volume, volume, length, stripes, time.time_ns())

    async def struck(self, device: DeviceId, state: DeviceState, reason: str, marks: Sequence[SealMark]) -> None:
        ends = tuple((mark.volume, mark.length, mark.stripes) for mark in marks)
        await self._catalog.commit(strike_device, device, str(state), reason, ends, time.time_ns())

    async def restored(self, device: DeviceId) -> None:
        await self._catalog.commit(forget_device, device)

    async def drained(self, device: DeviceId, wanted: bool) -> None:
        if wanted:
            await self._catalog.commit(begin_drain, device, time.time_ns())
        else:
            await self._catalog.commit(end_drain, device)

    async def contents(self, volume: VolumeId) -> Sequence[TocEntry]:
        """Up to ``TOC_ENTRIES_MAX`` of them: copies of objects share their bytes, a volume can have any number."""
        found = [about_entry(volume, self._catalog.statistics().sequence, time.time_ns())]
        told: set[InodeNo] = set()
        after: tuple[int, int] | None = (-1, -1)
        while after is not None and len(found) - len(told) < TOC_ENTRIES_MAX:
            chunk, after = await self._catalog.read(_contents, volume, after, frozenset(told))
            found += chunk
            told.update(entry.inode for entry in chunk)
            await trio.lowlevel.checkpoint()
        return found

    async def planned(self, volume: VolumeId, runs: tuple[MovedRun, ...]) -> Sequence[TocEntry]:
        """As `contents`, of a volume that is whole before any row names it: what will, if nothing happens meanwhile."""
        # Younger than all that there is: an image of this very transaction has none of these rows.
        found = [about_entry(volume, self._catalog.statistics().sequence + 1, time.time_ns())]
        told: set[InodeNo] = set()
        place = Place() if runs else None
        while place is not None and len(found) - len(told) < TOC_ENTRIES_MAX:
            chunk, place = await self._catalog.read(_planned, volume, runs, place, frozenset(told))
            found += chunk
            told.update(entry.inode for entry in chunk)
            await trio.lowlevel.checkpoint()
        return found


def _contents(
    tx: Transaction, volume: VolumeId, after: tuple[int, int], told: frozenset[InodeNo]
) -> tuple[list[TocEntry], tuple[int, int] | None]:
    extents, behind = readable_extents_in(tx, volume, after, _CHUNK, shown=True)
    return _entries(tx, volume, extents, told), behind


def _planned(
    tx: Transaction, volume: VolumeId, runs: tuple[MovedRun, ...], place: Place, told: frozenset[InodeNo]
) -> tuple[list[TocEntry], Place | None]:
    extents, behind = planned(tx, runs, place)
    return _entries(tx, volume, extents, told), behind


def _entries(tx: Transaction, volume: VolumeId, extents: Sequence[Extent], told: frozenset[InodeNo]) -> list[TocEntry]:
    paths: dict[InodeNo, bytes] = {}
    found = []
    for extent in extents:
        assert extent.location is not None
        if extent.ino not in paths:
            paths[extent.ino] = path_of_inode(tx, extent.ino)[:_PATH_MAX]
            if extent.ino not in told and (row := content_row(tx, extent.ino)) is not None:
                attributes = attributes_entry(volume, extent.ino, Attributes(*row))
                found += [attributes] if attributes is not None else []
        path = paths[extent.ino]
        found.append(TocEntry(extent.ino, _NO_VERSION, extent.offset, extent.length, extent.location, path))
    return found
