"""The tier engine in the owner: made when it is wanted, and what commands ask of it."""

from pathlib import Path

import structlog
import trio

from stratumfs.config import COLD, HOT, WARM, Settings
from stratumfs.errors import ConfigError, StoreBusy
from stratumfs.limits import SURVEY_WAIT_S
from stratumfs.store.store import Store
from tiering import engine
from tiering.accesses import Accesses
from tiering.costs import price_list
from tiering.landing import HintedLanding
from tiering.prices import DAY_S
from tiering.worths import PolicySettings

_ENDED_LOOK_S = 1.0

_log = structlog.get_logger(__name__)


class Tiers:
    """Of a store with more than one tier. `Accesses` listen from the beginning; the engine is made once.

    A tier that is added later is the next owner's.
    """

    def __init__(self, accesses: Accesses, store: Store, folder: Path, settings: Settings) -> None:
        self.engine: engine.Engine | None = None
        self.enabled = settings.tiering.enabled
        self._accesses, self._store, self._folder = accesses, store, folder
        self._settings = settings
        self._turn = trio.Lock()
        self._served = False

    async def opened(self) -> engine.Engine:
        """It knows all that the catalog has: where nobody serves it, that is looked at now.

        Raises: StratumError; StoreBusy if whoever serves it has not seen all within a while.
        """
        found = await self.made()
        with trio.move_on_after(SURVEY_WAIT_S):
            while self._served and not found.surveyed.is_set():
                with trio.move_on_after(_ENDED_LOOK_S):  # it may end instead
                    await found.surveyed.wait()
        if not self._served:
            await found.survey()
            await found.measure()
        elif not found.surveyed.is_set():
            raise StoreBusy("the tier engine has not seen all objects yet: ask again later")
        return found

    async def serve(self) -> None:
        """Until cancelled. What nobody foresaw ends the engine, and neither the doors nor the owner."""
        if not self.enabled:
            return
        self._served = True
        try:
            await (await self.made()).serve()
        except Exception:
            _log.exception("tier_engine_ended")
            self._served = False

    async def made(self) -> engine.Engine:
        """It may not have looked at the catalog yet. Raises: StratumError."""
        async with self._turn:
            if self.engine is None:
                settings = self._settings.tiering
                self.engine = await engine.opened(
                    self._store,
                    self._accesses,
                    price_list(self._settings.priced, settings.usd_wait_hour),
                    PolicySettings(warmup_s=settings.warmup_days * DAY_S, payback_s=settings.payback_days * DAY_S),
                    folder=self._folder,
                    tick_s=settings.tick_s,
                )
                await self.engine.measure()
            return self.engine


def land_by_hints(store: Store, tiers: Tiers | None) -> None:
    """What is new is written where its pin or hint says, of a store with more than one tier on devices."""
    names = [name for name in (HOT, WARM, COLD) if name in store.targets]

    def pins() -> bool:
        return tiers is not None and tiers.enabled and tiers.engine is not None and bool(tiers.engine.facts.pins)

    if len(store.writers) > 1:
        store.landing.landing = HintedLanding(store.catalog, names, len(store.writers), pins)


def tiers_of(tiers: Tiers | None) -> Tiers:
    """Raises: ConfigError if the store has one tier only."""
    if tiers is None:
        raise ConfigError("this store has one tier: there is nothing to move")
    return tiers
