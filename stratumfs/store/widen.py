"""Widens volumes that were opened while devices were missing or full: they are repacked once as many are up as their
tier's code has cells, so that what was written meanwhile costs no more space than what was written before.

What is to be done is found by looking at rows, and a stop at any step leaves it to the next look.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing

import structlog
import trio

from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.volumes import OPEN, SEALED, VolumeRow, narrow_volumes
from stratumfs.errors import CatalogCorrupt, StratumError
from stratumfs.ids import VolumeId
from stratumfs.limits import WIDEN_AGAIN_S, WIDEN_LOOK_S
from stratumfs.repair.repairer import Work
from stratumfs.store.fleet import Fleet
from stratumfs.store.reader import Reader
from stratumfs.store.repack import Repack
from stratumfs.store.writer import Writer

_log = structlog.get_logger(__name__)


class Widener:
    """One task in the store's nursery.

    seal  seals a volume that is open
    work  what is under way, for status
    """

    def __init__(
        self,
        catalog: Catalog,
        reader: Reader,
        fleet: Fleet,
        writers: Mapping[str, Writer],
        seal: Callable[[VolumeId], Awaitable[None]],
    ) -> None:
        self.work: Work | None = None
        self._catalog, self._reader, self._fleet, self._writers, self._seal = catalog, reader, fleet, writers, seal
        self._due_at = dict.fromkeys(writers, float("-inf"))

    async def serve(self) -> None:
        """Until cancelled."""
        while True:
            await self.round()
            await trio.sleep(WIDEN_LOOK_S)

    async def round(self) -> None:
        """Widen all that is narrow and can be wider now. An error, of a store that is full as it is, is logged."""
        for tier, writer in self._writers.items():
            if not self._complete(tier):
                self._due_at[tier] = float("-inf")  # volumes that are opened now are narrow
            elif writer.read_only is None and not self._catalog.read_only and trio.current_time() >= self._due_at[tier]:
                self._due_at[tier] = trio.current_time() + WIDEN_AGAIN_S
                try:
                    if not await self._widen_all(tier):
                        self._due_at[tier] = float("-inf")
                except StratumError as error:
                    _log.warning("widening stopped, and goes on later", tier=tier, error=str(error))

    def _complete(self, tier: str) -> bool:
        return len(self._fleet.taking(tier)) >= self._fleet.codes[tier].n

    async def _widen_all(self, tier: str) -> bool:
        """Whether the end was reached before a device went."""
        async with aclosing(self._narrow(tier)) as rows:
            async for row in rows:
                if row.state == OPEN:  # all of these first, so that nothing is repacked into one
                    await self._seal(row.id)
        async with aclosing(self._narrow(tier)) as rows:
            async for row in rows:
                if not self._complete(tier):
                    return False
                if row.state == SEALED:
                    await self._widen(row)
        return True

    async def _narrow(self, tier: str) -> AsyncGenerator[VolumeRow, None]:
        after = b""
        while rows := await self._catalog.read(narrow_volumes, tier, self._fleet.codes[tier].n, after):
            after = rows[-1].id
            for row in rows:
                yield row

    async def _widen(self, row: VolumeRow) -> None:
        repack = Repack(self._catalog, self._reader, self._writers[row.tier], pace=self._pace)
        self.work = Work("widen", row.id, f"tier {row.tier}", total=row.live)
        try:
            with repack.running():
                await repack.volume(row.id)
                await repack.flush()
        except CatalogCorrupt as error:  # of this volume alone: what reads it says so, too
            _log.error("a volume cannot be widened", volume=row.id.hex(), error=str(error))
        else:
            _log.info("volume_widened", volume=row.id.hex(), before=row.k + row.m, bytes=repack.moved)
        finally:
            self.work = None

    async def _pace(self, seconds: float, moved: int) -> None:
        """As much rest as work: the doors come first."""
        if self.work is not None:
            self.work.done = moved
        await trio.sleep(seconds)
