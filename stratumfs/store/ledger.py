"""The catalog's rows of volumes and devices, as the volume writer and the fleet want them kept."""

import time
from collections.abc import Sequence

import trio

from stratumfs.catalog.devices import forget_device, strike_device
from stratumfs.catalog.engine import Catalog, Transaction
from stratumfs.catalog.volumes import insert_volume, path_of_inode, readable_extents_in, seal_volume
from stratumfs.devices.health import DeviceState
from stratumfs.ids import DeviceId, InodeNo, VolumeId
from stratumfs.limits import TOC_ENTRIES_MAX
from stratumfs.volumes.fleet import SealMark
from stratumfs.volumes.format import VolumeInfo
from stratumfs.volumes.toc import TocEntry

_NO_VERSION = bytes(16)
_PATH_MAX = 65_535
_CHUNK = 100


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

    async def contents(self, volume: VolumeId) -> Sequence[TocEntry]:
        """Up to ``TOC_ENTRIES_MAX`` of them: copies of objects share their bytes, a volume can have any number."""
        found: list[TocEntry] = []
        after: tuple[int, int] | None = (-1, -1)
        while after is not None and len(found) < TOC_ENTRIES_MAX:
            chunk, after = await self._catalog.read(_contents, volume, after)
            found += chunk
            await trio.lowlevel.checkpoint()
        return found


def _contents(
    tx: Transaction, volume: VolumeId, after: tuple[int, int]
) -> tuple[list[TocEntry], tuple[int, int] | None]:
    extents, behind = readable_extents_in(tx, volume, after, _CHUNK)
    paths: dict[InodeNo, bytes] = {}
    found = []
    for extent in extents:
        assert extent.location is not None
        if extent.ino not in paths:
            paths[extent.ino] = path_of_inode(tx, extent.ino)[:_PATH_MAX]
        path = paths[extent.ino]
        found.append(TocEntry(extent.ino, _NO_VERSION, extent.offset, extent.length, extent.location, path))
    return found, behind
