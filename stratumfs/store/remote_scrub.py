"""Looks now and then at what lies in a tier in somebody's S3, and removes there what nobody needs."""

import math
import time
from collections.abc import Awaitable, Callable

import structlog
import trio

from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.scrubs import looked_at, save_looked, unverified_behind
from stratumfs.catalog.volumes import SEALED, volume_summary
from stratumfs.cold_limits import REMOTE_LOOK_FIRST_S, REMOTE_LOOK_S
from stratumfs.errors import DeviceError, StratumError
from stratumfs.ids import VolumeId
from stratumfs.store.observer import Foreground
from stratumfs.store.pace import Pace
from stratumfs.store.remote_look import Looked, RemoteLook
from stratumfs.store.remote_tier import RemoteTier

_log = structlog.get_logger(__name__)


class RemoteScrubber:
    """One task a tier, in the store's nursery.

    period_s  in which all objects are looked at once; reread_s: in which each is read as a whole, 0: never
    remake    names what a damaged volume holds where it lies on devices too; returns its bytes
    """

    def __init__(
        self,
        tier: RemoteTier,
        catalog: Catalog,
        foreground: Foreground,
        period_s: float,
        remake: Callable[[VolumeId], Awaitable[int]],
    ) -> None:
        self._tier, self._catalog, self._foreground = tier, catalog, foreground
        self._period_s, self._reread_s = period_s, tier.offsite.reread_s
        self._remake = remake
        self._met = trio.Event()
        self._turn = trio.Lock()
        self._after = VolumeId(b"")

    async def serve(self) -> None:
        """Until cancelled. An owner that opened the store for one question does not begin."""
        await self._rest(REMOTE_LOOK_FIRST_S)
        while True:
            try:
                await self.round()
            except StratumError as error:
                _log.warning("remote_tier_not_looked_at", tier=self._tier.tier, error=str(error))
            await self._rest(REMOTE_LOOK_S)

    def met(self) -> None:
        """A reader has met a damaged one: what lies here too is not there for long."""
        self._met.set()

    async def _rest(self, seconds: float) -> None:
        until = trio.current_time() + seconds
        while trio.current_time() < until:
            with trio.move_on_at(until):
                await self._met.wait()
                self._met = trio.Event()
                try:
                    await self.remake()
                except StratumError as error:
                    _log.warning("damaged_volume_not_remade", tier=self._tier.tier, error=str(error))

    async def remake(self) -> None:
        """What can be, of all that are known to be damaged. Raises: what the catalog raises."""
        for ident in tuple(self._tier.bad):
            if not self._catalog.read_only:
                await self._remake(ident)

    async def round(self, *, at_once: bool = False) -> None:
        """What is due; *at_once*: a look at all, whenever the last one was. Raises: DeviceError, StratumError."""
        look = self._tier.look
        if look is None or self._catalog.read_only:
            return
        async with self._turn:
            last_s = await self._catalog.read(looked_at, self._tier.tier)
            if at_once or last_s is None or not 0 <= now_s() - last_s < self._period_s:
                await self._take(look, await look.look(full=False, step=Pace(self._foreground, lambda _: None)))
                # Each look costs money: what cannot be removed is no reason for another one.
                await self._catalog.write(save_looked, self._tier.tier, int(now_s()))
            try:
                await self._sweep(look)
            finally:
                try:
                    if self._reread_s:
                        await self._reread(look)
                finally:
                    await self.remake()

    async def _take(self, look: RemoteLook, found: Looked) -> None:
        for ident in self._tier.bad.look(found.bad):
            self._tell_damaged(ident, found.bad[ident])
        for ident in self._tier.bad.met():
            if not await look.is_sealed(ident):
                self._tier.bad.forget(ident)
        for ident, error in found.withheld.items():
            self._tell_withheld(ident, error)
        self._tier.unknown = found.unknown
        for each in found.unknown:
            _log.warning("unknown_object", tier=self._tier.tier, name=each.name, bytes=each.size, age_s=each.age_s)
        _log.info(
            "remote_tier_looked_at",
            tier=self._tier.tier,
            volumes=found.volumes,
            bad=len(found.bad),
            withheld=len(found.withheld),
            unknown=len(found.unknown),
        )

    def _tell_withheld(self, ident: VolumeId, error: DeviceError) -> None:
        _log.error("remote_volume_withheld", tier=self._tier.tier, volume=ident.hex(), reason=str(error))

    def _tell_damaged(self, ident: VolumeId, reason: str) -> None:
        _log.error("remote_volume_damaged", tier=self._tier.tier, volume=ident.hex(), reason=reason)

    async def _sweep(self, look: RemoteLook) -> None:
        """Of what no row knew at the last look that goes which is ours, and old enough. Raises: what the last one met
        that could not be removed."""
        failed: DeviceError | None = None
        for each in [each for each in self._tier.unknown if each.stale]:
            self._tier.check_writable()
            await self._tier.claim.check()
            try:
                await look.remove(each)
            except DeviceError as error:  # of one that is locked there, say; of a dead service the claim tells
                failed = error
            else:
                self._tier.unknown.remove(each)
        if failed is not None:
            raise failed

    async def _reread(self, look: RemoteLook) -> None:
        """Those whose turn it is, as many as are due in the time until the next round.

        Raises: DeviceError if the service gives none of several that follow one another.
        """
        summary = await self._catalog.read(volume_summary)
        total = sum(count for tier, state, _, _, count, _ in summary if (tier, state) == (self._tier.tier, SEALED))
        left = math.ceil(total * REMOTE_LOOK_S / self._reread_s)
        pace = Pace(self._foreground, lambda _: None)
        before_ns = int((now_s() - self._reread_s) * 1e9)
        wrapped, tried = False, Looked()
        while left > 0:
            rows, last = await self._catalog.read(unverified_behind, self._tier.tier, self._after, before_ns)
            # One that was found damaged is due all the time, and each byte of it costs money.
            rows = [row for row in rows if not self._tier.bad.met_within(row.id, now_s(), self._reread_s)]
            for row in rows[:left]:
                self._after = row.id  # also if it cannot be read: others are to have their turn
                began = trio.current_time()
                try:
                    reason = await look.read(row)
                except DeviceError as error:  # of one that was archived there, say
                    self._tell_withheld(row.id, error)
                    tried.fail(error)
                else:
                    tried.failures = 0
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
