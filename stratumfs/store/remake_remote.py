"""What a damaged volume of the cold tier held is named where it lies on devices too.

So it is where something went there again by a swap alone, and what it came from is not removed yet: it waits for an
image, or is kept for backups. Nothing is copied: the bytes here are read and verified, and the rows are swapped back,
to a volume that may be freed already, while nobody unlinks any; what goes there the next time is uploaded anew.
"""

import time
from collections.abc import Callable, Mapping

import structlog
import trio

from stratumfs.catalog.clean import copies_of
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.swap import IDS_PER_SWAP, Place, swap_back
from stratumfs.catalog.volumes import volume
from stratumfs.errors import StratumError
from stratumfs.ids import VolumeId
from stratumfs.store.reader import Reader
from stratumfs.store.runs import pieces
from stratumfs.store.writer import Writer
from stratumfs.values import MovedRun

_log = structlog.get_logger(__name__)


class RemoteRemaker:
    """One a store, on its loop. writers: of all tiers on devices; unlinking: held by who removes freed volumes."""

    def __init__(
        self, catalog: Catalog, reader: Reader, writers: Mapping[str, Writer], unlinking: Callable[[], trio.Lock]
    ) -> None:
        self._catalog, self._reader, self._writers, self._unlinking = catalog, reader, writers, unlinking

    async def remake(self, ident: VolumeId) -> int:
        """Name what lies here too of a damaged volume. Returns how many bytes extents have here now. Raises: what the
        catalog raises."""
        row = await self._catalog.read(volume, ident)
        if row is None or not row.live:
            return 0
        async with self._unlinking():
            moved = await self._remake(ident)
        if moved:
            _log.warning("damaged_volume_remade", volume=ident.hex(), bytes=moved)
        return moved

    async def _remake(self, ident: VolumeId) -> int:
        moved = 0
        after: tuple[bytes, int, int] | None = (b"", -1, -1)
        while after is not None:
            runs, after = await self._catalog.read(copies_of, ident, after)
            for run in runs:
                with self._reader.keeping({run.target.volume}):
                    if await self._is_whole(run):
                        moved += await self._swap(run)
            await trio.lowlevel.checkpoint()
        return moved

    async def _is_whole(self, run: MovedRun) -> bool:
        try:
            for at, length in pieces([(run.target, run.length)]):
                await self._reader.run(at, length)
        except StratumError as error:
            _log.warning("copy_not_used", volume=run.target.volume.hex(), reason=str(error))
            return False
        return True

    async def _swap(self, run: MovedRun) -> int:
        writer = self._writers[(await self._reader.volume(run.target.volume)).tier]
        moved = 0
        with writer.inheriting({run.source.volume}, {run.target.volume}, self._sequence):
            place: Place | None = Place()
            while place is not None:
                first = await self._catalog.ids.extents(IDS_PER_SWAP)
                swapped = await self._catalog.write(swap_back, run, place, first, time.time_ns())
                moved += swapped.bytes
                place = swapped.resume
                await trio.lowlevel.checkpoint()
        return moved

    def _sequence(self) -> int:
        return self._catalog.statistics().sequence
