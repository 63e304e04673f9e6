"""Looks now and then at what lies in a tier in somebody's S3, and removes there what nobody needs."""

import math
import time

import structlog
import trio

from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.scrubs import looked_at, save_looked, unverified_behind
from stratumfs.catalog.volumes import SEALED, volume_summary
from stratumfs.cold_limits import REMOTE_LOOK_FIRST_S, REMOTE_LOOK_S
from stratumfs.errors import StratumError
from stratumfs.ids import VolumeId
from stratumfs.store.observer import Foreground
from stratumfs.store.pace import Pace
from stratumfs.store.remote_look import Looked, RemoteLook
from stratumfs.store.remote_tier import RemoteTier

_log = structlog.get_logger(__name__)


class RemoteScrubber:
    """One task a tier, in the store's nursery.

    period_s  in which all objects are looked at once; reread_s: in which each is read as a whole, 0: never
    """

    def __init__(self, tier: RemoteTier, catalog: Catalog, foreground: Foreground, period_s: float) -> None:
        self._tier, self._catalog, self._foreground = tier, catalog, foreground
        self._period_s, self._reread_s = period_s, tier.offsite.reread_s
        self._turn = trio.Lock()
        self._after = VolumeId(b"")

    async def serve(self) -> None:
        """Until cancelled. An owner that opened the store for one question does not begin."""
        await trio.sleep(REMOTE_LOOK_FIRST_S)
        while True:
            try:
                await self.round()
            except StratumError as error:
                _log.warning("remote_tier_not_looked_at", tier=self._tier.tier, error=str(error))
            await trio.sleep(REMOTE_LOOK_S)

    async def round(self, *, at_once: bool = False) -> None:
        """What is due; *at_once*: a look at all, whenever the last one was. Raises: DeviceError, StratumError."""
        look = self._tier.look
        if look is None or self._catalog.read_only:
            return
        async with self._turn:
            last_s = await self._catalog.read(looked_at, self._tier.tier)
            if at_once or last_s is None or not 0 <= now_s() - last_s < self._period_s:
                await self._take(look, await look.look(full=False, step=Pace(self._foreground, lambda _: None)))
                await self._sweep(look)
                await self._catalog.write(save_looked, self._tier.tier, int(now_s()))
            if self._reread_s:
                await self._reread(look)

    async def _take(self, look: RemoteLook, found: Looked) -> None:
        for ident in self._tier.bad.look(found.bad):
            self._tell_damaged(ident, found.bad[ident])
        for ident in self._tier.bad.met():
            if not await look.is_sealed(ident):
                self._tier.bad.forget(ident)
        self._tier.unknown = found.unknown
        for each in found.unknown:
            _log.warning("unknown_object", tier=self._tier.tier, name=each.name, bytes=each.size, age_s=each.age_s)
        _log.info(
            "remote_tier_looked_at",
            tier=self._tier.tier,
            volumes=found.volumes,
            bad=len(found.bad),
            unknown=len(found.unknown),
        )

    def _tell_damaged(self, ident: VolumeId, reason: str) -> None:
        _log.error("remote_volume_damaged", tier=self._tier.tier, volume=ident.hex(), reason=reason)

    async def _sweep(self, look: RemoteLook) -> None:
        """Of what no row knows that goes which is ours, and old enough."""
        for each in [each for each in self._tier.unknown if each.stale]:
            self._tier.check_writable()
            await self._tier.claim.check()
            if await look.remove(each):
                self._tier.unknown.remove(each)

    async def _reread(self, look: RemoteLook) -> None:
        """Those whose turn it is, as many as are due in the time until the next round."""
        summary = await self._catalog.read(volume_summary)
        total = sum(count for tier, state, _, _, count, _ in summary if (tier, state) == (self._tier.tier, SEALED))
        left = math.ceil(total * REMOTE_LOOK_S / self._reread_s)
        pace = Pace(self._foreground, lambda _: None)
        before_ns = int((now_s() - self._reread_s) * 1e9)
        wrapped = False
        while left > 0:
            rows, last = await self._catalog.read(unverified_behind, self._tier.tier, self._after, before_ns)
            # One that was found damaged is due all the time, and each byte of it costs money.
            rows = [row for row in rows if not self._tier.bad.met_within(row.id, now_s(), self._reread_s)]
            for row in rows[:left]:
                self._after = row.id  # also if it cannot be read: others are to have their turn
                began = trio.current_time()
                reason = await look.read(row)
                if reason is None:
                    self._tier.bad.forget(row.id)
                elif self._tier.bad.meet(row.id, reason, now_s()):
                    self._tell_damaged(row.id, reason)
                await pace(trio.current_time() - began, 0)
            left -= len(rows)
            if left > 0:
                if last is None and wrapped:
                    return
                wrapped |= last is None
                self._after = last or VolumeId(b"")
            await trio.lowlevel.checkpoint()


def now_s() -> float:
    return time.time()
