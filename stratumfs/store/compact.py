"""Compaction: volumes that take more room than their bytes need are repacked, and what is left of them is freed.

Half-dead ones hold more bytes that nothing points at than others, so that a repack writes less than it frees. Narrow
ones were opened while devices were missing or full: once as many are up as their tier's code has cells, they come to
full width. Small ones were idle, and are merged when there are enough of them.

What is to be done is found by looking at rows, and a stop at any step leaves it to the next look.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog
import trio

from stratumfs.catalog import compaction
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.volumes import VolumeRow, volume
from stratumfs.errors import StratumError
from stratumfs.ids import VolumeId
from stratumfs.limits import COMPACT_AGAIN_S, COMPACT_LOOK_S
from stratumfs.repair.work import Work
from stratumfs.store.fleet import Fleet
from stratumfs.store.observer import Foreground
from stratumfs.store.pace import Pace
from stratumfs.store.reader import Reader
from stratumfs.store.repack import Repack
from stratumfs.store.writer import Writer

_log = structlog.get_logger(__name__)


class Compactor:
    """One task in the store's nursery.

    seal     seals a volume that is open
    unnamed  volumes with bytes that rows are about to name, of whatever tier
    work     what is under way, for status
    stopped  what was said last of each tier that waits: for room, for a device

    ``_put_off`` has, of volumes that a repack did not empty, the time from which another one may try; ``_widen_at`` the
    same of tiers where what was widened came to lie in narrow volumes again.
    """

    def __init__(
        self,
        catalog: Catalog,
        reader: Reader,
        fleet: Fleet,
        writers: Mapping[str, Writer],
        foreground: Foreground,
        seal: Callable[[VolumeId], Awaitable[None]],
        unnamed: Callable[[], frozenset[VolumeId]],
    ) -> None:
        self.work: Work | None = None
        self._catalog, self._reader, self._fleet, self._writers = catalog, reader, fleet, writers
        self._foreground, self._seal, self._unnamed = foreground, seal, unnamed
        self._put_off: dict[VolumeId, float] = {}
        self._widen_at: dict[str, float] = {}
        self.stopped: dict[str, str] = {}
        self._spared: list[Collection[VolumeId]] = []
        self._turn = trio.Lock()  # two rounds at once would choose the same volumes

    async def serve(self) -> None:
        """Until cancelled. An owner that opened the store for one question does not begin."""
        while True:
            await trio.sleep(COMPACT_LOOK_S)
            await self.round()

    async def round(self) -> None:
        """Repack all that is worth it, of each tier in turn. A tier that is full, or has lost a device, waits."""
        async with self._turn:
            busy = list(self._writers)
            while busy:
                busy = [tier for tier in busy if await self._step(tier)]

    async def _step(self, tier: str) -> bool:
        """One repack in a tier. False if there is nothing to do, or it waits."""
        if self._catalog.read_only or self._writers[tier].read_only is not None:
            return False
        try:
            for what, choose in (("compact", self._half_dead), ("widen", self._narrow), ("merge", self._small)):
                if rows := await choose(tier):
                    await self._repack(what, tier, rows)
                    self.stopped.pop(tier, None)
                    return True
        except StratumError as error:
            if self.stopped.get(tier) != str(error):
                _log.warning("compaction stopped, and goes on later", tier=tier, error=str(error))
            self.stopped[tier] = str(error)
        return False

    async def _half_dead(self, tier: str) -> Sequence[VolumeRow]:
        """Devices that are full are no reason to wait, for this is what empties them."""
        if len(self._fleet.up(tier)) < self._fleet.codes[tier].n:
            return ()
        return await self._catalog.read(compaction.half_dead, tier, self._but())

    async def _narrow(self, tier: str) -> Sequence[VolumeRow]:
        width = self._fleet.codes[tier].n
        if len(self._fleet.taking(tier)) < width:
            self._widen_at.pop(tier, None)  # with the device that is missing it may go better
            return ()
        if trio.current_time() < self._widen_at.get(tier, float("-inf")):
            return ()
        for row in await self._catalog.read(compaction.narrow_open, tier, width):
            await self._seal(row.id)  # or it would go on, and other volumes be repacked into it
        return await self._catalog.read(compaction.narrow, tier, width, self._but())

    async def _small(self, tier: str) -> Sequence[VolumeRow]:
        if len(self._fleet.taking(tier)) < self._fleet.codes[tier].n:
            return ()
        return await self._catalog.read(compaction.small, tier, self._but())

    @contextmanager
    def sparing(self, volumes: Collection[VolumeId]) -> Iterator[None]:
        """These are not repacked meanwhile, which may become more or fewer: who else is emptying them would find their
        bytes elsewhere when it has copied them."""
        self._spared.append(volumes)
        try:
            yield
        finally:
            self._spared.remove(volumes)

    def _but(self) -> frozenset[VolumeId]:
        """Volumes that are spared, and that would not be empty afterwards: those that were not, and those of which
        somebody is about to name bytes that look dead."""
        now = trio.current_time()
        self._put_off = {ident: until for ident, until in self._put_off.items() if until > now}
        return self._unnamed().union(self._put_off, *self._spared)

    async def _repack(self, what: str, tier: str, rows: Sequence[VolumeRow]) -> None:
        work = self.work = Work(what, rows[0].id, f"tier {tier}", total=sum(row.live for row in rows))

        def told(moved: int) -> None:
            work.done = moved

        freeing = what == "compact"
        pace = Pace(self._foreground, told)
        repack = Repack(self._catalog, self._reader, self._writers[tier], freeing=freeing, pace=pace)
        try:
            with repack.running():
                for row in rows:
                    await repack.volume(row.id)
                await repack.flush()
        finally:
            self.work = None
        _log.info("volumes_repacked", why=what, tier=tier, volumes=[row.id.hex() for row in rows], bytes=repack.moved)
        for row in rows:
            await self._look_again(row)
        if await self._catalog.read(compaction.narrow_open, tier, self._fleet.codes[tier].n):
            # Some device has too little room for a new volume: what is widened now would be narrow again.
            self._widen_at[tier] = trio.current_time() + COMPACT_AGAIN_S

    async def _look_again(self, row: VolumeRow) -> None:
        left = await self._catalog.read(volume, row.id)
        if left is not None and left.live:
            self._put_off[row.id] = trio.current_time() + COMPACT_AGAIN_S
            _log.warning("a volume could not be emptied", volume=row.id.hex(), bytes=left.live)
