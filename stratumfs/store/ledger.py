"""The catalog's rows of volumes, as the volume writer wants them kept."""

import time
from collections.abc import Sequence

from stratumfs.catalog.engine import Catalog, Transaction
from stratumfs.catalog.volumes import extents_in, insert_volume, path_of_inode, seal_volume
from stratumfs.ids import VolumeId
from stratumfs.values import Extent
from stratumfs.volumes.format import VolumeInfo
from stratumfs.volumes.toc import TocEntry

_NO_VERSION = bytes(16)
_PATH_MAX = 65_535
_CHUNK = 200


class CatalogLedger:
    """A ``VolumeLedger`` over the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def opened(self, volume: VolumeInfo) -> None:
        code = volume.code
        await self._catalog.commit(
            insert_volume, volume.id, volume.tier, code.k, code.m, volume.devices, time.time_ns()
        )

    async def sealed(self, volume: VolumeId, length: int, stripes: int) -> None:
        await self._catalog.commit(seal_volume, volume, length, stripes, time.time_ns())

    async def contents(self, volume: VolumeId) -> Sequence[TocEntry]:
        found: list[TocEntry] = []
        after = (-1, -1)
        while True:
            chunk = await self._catalog.read(_contents, volume, after)
            found += [entry for _, entry in chunk]
            if len(chunk) < _CHUNK:
                return found
            last, entry = chunk[-1]
            after = entry.location.position, last.id


def _contents(tx: Transaction, volume: VolumeId, after: tuple[int, int]) -> list[tuple[Extent, TocEntry]]:
    found = []
    for extent in extents_in(tx, volume, after, _CHUNK):
        assert extent.location is not None
        path = path_of_inode(tx, extent.ino)[:_PATH_MAX]
        found.append((extent, TocEntry(extent.ino, _NO_VERSION, extent.offset, extent.length, extent.location, path)))
    return found
