"""Packs inline extents: what lies in the catalog is written out to volumes before there is too much of it.

Nothing is noted of what is under way: what is inline is in the catalog, and a stop at any step leaves it there.
"""

import structlog
import trio

from stratumfs.catalog.engine import Catalog
from stratumfs.errors import StratumError
from stratumfs.limits import PACK_AGAIN_S
from stratumfs.repair.work import Work
from stratumfs.store.observer import Foreground
from stratumfs.store.pace import Pace
from stratumfs.store.reader import Reader
from stratumfs.store.repack import Repack
from stratumfs.store.writer import Writer

_log = structlog.get_logger(__name__)


class Packer:
    """One task in the store's nursery.

    writer  of the tier that takes new data
    work    what is under way, for status
    """

    def __init__(self, catalog: Catalog, reader: Reader, writer: Writer, foreground: Foreground) -> None:
        self.work: Work | None = None
        self._catalog, self._reader, self._writer, self._foreground = catalog, reader, writer, foreground

    async def serve(self) -> None:
        """Until cancelled."""
        while True:
            await self._writer.inline.wait_many()
            try:
                await self.round(self._writer.inline.surplus)
            except StratumError as error:
                _log.warning("packing stopped, and goes on later", error=str(error))
            await trio.sleep(PACK_AGAIN_S if self._writer.inline.many else 0)

    async def round(self, count: int) -> None:
        """Pack about *count* bytes, oldest first. Raises: StoreFull, DeviceError, WriteConflict."""
        if self._writer.read_only is not None or self._catalog.read_only:
            return
        work = self.work = Work("pack", None, f"tier {self._writer.volumes.tier}", total=count)

        def told(moved: int) -> None:
            work.done = moved

        repack = Repack(self._catalog, self._reader, self._writer, pace=Pace(self._foreground, told))
        try:
            with repack.running():
                await repack.inline(count)
                await repack.flush()
        finally:
            self.work = None
        _log.info("packed", bytes=repack.moved)
