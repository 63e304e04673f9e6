"""Compaction of a tier in somebody's S3, where reading and early removal cost money: only what pays is done.

What pays is asked of whoever knows the prices. Half-dead volumes are gone through by their live bytes, of which there
are fewest in those that pay most, and as many of them as make one new volume are written anew together.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
import trio

from stratumfs.catalog.compaction import half_dead_behind
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.volumes import VolumeRow, volume
from stratumfs.cold_limits import COMPACT_REMOTE_LOOK_S
from stratumfs.errors import StratumError
from stratumfs.ids import VolumeId
from stratumfs.limits import COMPACT_AGAIN_S, REPACK_BYTES
from stratumfs.repair.work import Work
from stratumfs.store.observer import Foreground
from stratumfs.store.pace import Pace
from stratumfs.store.reader import Reader
from stratumfs.store.repack import Repack
from stratumfs.store.target import RepackTarget

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    """A volume. live: bytes that extents point at, of *size*; held_s: how long it has been there."""

    live: int
    size: int
    held_s: float


Gain = Callable[[Sequence[Held]], float]
"""Dollars that it saves to write anew, as one volume, what lives in these; of none, what that one costs."""


def never(volumes: Sequence[Held]) -> float:
    """Of whom no prices are known."""
    return -1.0


class RemoteCompactor:
    """One task in the store's nursery.

    targets  tiers in somebody's S3, and what pays in each
    work     what is under way, for status
    stopped  what the last round of each tier has met
    """

    def __init__(
        self,
        catalog: Catalog,
        reader: Reader,
        targets: Mapping[str, tuple[RepackTarget, Gain]],
        foreground: Foreground,
    ) -> None:
        self.work: Work | None = None
        self.stopped: dict[str, str] = {}
        self._catalog, self._reader, self._targets, self._foreground = catalog, reader, targets, foreground
        self._put_off: dict[VolumeId, float] = {}
        self._turn = trio.Lock()  # two rounds at once would choose the same volumes

    async def serve(self) -> None:
        """Until cancelled. An owner that opened the store for one question does not begin."""
        while True:
            await trio.sleep(COMPACT_REMOTE_LOOK_S)
            await self.round()

    async def round(self) -> None:
        """All that pays, of each tier. What meets an error waits for the next round."""
        async with self._turn:
            for tier, (target, gain) in tuple(self._targets.items()):
                self.stopped.pop(tier, None)
                try:
                    if not self._catalog.read_only and target.read_only is None:
                        await self._tier(tier, target, gain)
                except StratumError as error:
                    self.stopped[tier] = str(error)
                    _log.warning("compaction stopped, and goes on later", tier=tier, error=str(error))

    async def _tier(self, tier: str, target: RepackTarget, gain: Gain) -> None:
        now = trio.current_time()
        self._put_off = {ident: until for ident, until in self._put_off.items() if until > now}
        chosen: list[VolumeRow] = []
        held: list[Held] = []
        after = (0, b"")
        while rows := await self._catalog.read(half_dead_behind, tier, after):
            after = rows[-1].live, rows[-1].id
            now_ns = time.time_ns()
            for row in rows:
                one = Held(row.live, row.length, max(0.0, (now_ns - row.changed_ns) / 1e9))
                if row.id in self._put_off or gain([*held, one]) <= gain(held):
                    continue
                if held and sum(each.live for each in (*held, one)) > REPACK_BYTES:
                    await self._repack(tier, target, gain, chosen, held)
                    chosen, held = [], []
                chosen.append(row)
                held.append(one)
            await trio.lowlevel.checkpoint()
        await self._repack(tier, target, gain, chosen, held)

    async def _repack(
        self, tier: str, target: RepackTarget, gain: Gain, rows: Sequence[VolumeRow], held: Sequence[Held]
    ) -> None:
        usd = gain(held)
        if not rows or usd <= 0:
            return
        work = self.work = Work("compact", rows[0].id, f"tier {tier}", total=sum(row.live for row in rows))

        def told(moved: int) -> None:
            work.done = moved

        repack = Repack(self._catalog, self._reader, target, freeing=True, pace=Pace(self._foreground, told))
        try:
            with repack.running():
                for row in rows:
                    await repack.volume(row.id)
                await repack.flush()
        finally:
            self.work = None
        _log.info("volumes_repacked", why="pays", tier=tier, volumes=len(rows), bytes=repack.moved, usd=usd)
        for row in rows:
            left = await self._catalog.read(volume, row.id)
            if left is not None and left.live:
                self._put_off[row.id] = trio.current_time() + COMPACT_AGAIN_S
                _log.warning("a volume could not be emptied", volume=row.id.hex(), bytes=left.live)
