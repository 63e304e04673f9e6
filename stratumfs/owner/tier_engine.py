"""The tier engine in the owner: made when it is wanted, and what commands ask of it."""

import time
from collections.abc import Sequence
from pathlib import Path

import structlog
import trio

from stratumfs.config import COLD, HOT, WARM, Settings
from stratumfs.errors import ConfigError, StoreBusy
from stratumfs.limits import SURVEY_WAIT_S
from stratumfs.store.observer import NullObserver
from stratumfs.store.store import Store
from tiering import engine
from tiering.accesses import Accesses
from tiering.costs import price_list
from tiering.landing import HintedLanding
from tiering.prices import DAY_S, TierPrice
from tiering.recorder import Recorder
from tiering.recording import RECORDING_FOLDER
from tiering.worths import PolicySettings

_ENDED_LOOK_S = 1.0

_log = structlog.get_logger(__name__)


class Tiers:
    """What a store with more than one tier has besides: who listens to the doors from the beginning, and the engine,
    made once, and anew when a tier is added. Of a store with one tier it is idle.

    recorder  None while there is one tier
    """

    def __init__(self, store: Store, folder: Path, settings: Settings) -> None:
        self.engine: engine.Engine | None = None
        self.recorder: Recorder | None = None
        self._store, self._folder, self._settings = store, folder, settings
        self._accesses = Accesses(time.time)
        self._turn = trio.Lock()
        self._served = False
        self._grown = trio.Event()
        self._ended = trio.Event()  # nobody serves it
        self._ended.set()
        self._heed(settings)

    @property
    def enabled(self) -> bool:
        return self.recorder is not None and self._settings.tiering.enabled

    @property
    def prices(self) -> Sequence[TierPrice]:
        return price_list(self._settings.priced, self._settings.tiering.usd_wait_hour).tiers

    async def grow(self, settings: Settings) -> None:
        """The store has another tier. The engine ends, with its heat written down, and one that knows the tier goes on,
        as that of a next owner would."""
        async with self._turn:
            self._heed(settings)
            self._grown.set()
            await self._ended.wait()
            self.engine = None

    def _heed(self, settings: Settings) -> None:
        self._settings = settings
        if self.recorder is None and len(settings.priced) > 1:
            # What is recorded is of use to who has no engine, too.
            listens = self._accesses if settings.tiering.enabled else NullObserver()
            self.recorder = Recorder(listens, self._folder / RECORDING_FOLDER, time.time)
            self._store.observer.attend(self.recorder)

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
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            while self.recorder is None:
                await self._grown.wait()
            nursery.start_soon(self.recorder.serve, self._store.catalog)
            while self.enabled:
                self._grown = trio.Event()
                async with trio.open_nursery() as serving:
                    serving.start_soon(self._serve_engine)
                    await self._grown.wait()
                    serving.cancel_scope.cancel()

    async def _serve_engine(self) -> None:
        """What nobody foresaw ends the engine, and neither the doors nor the owner."""
        self._served, self._ended = True, trio.Event()
        try:
            await (await self.made()).serve()
        except Exception:
            _log.exception("tier_engine_ended")
        finally:
            self._served = False
            self._ended.set()

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


def land_by_hints(store: Store, tiers: Tiers) -> None:
    """What is new is written where its pin or hint says, of a store with more than one tier on devices."""
    names = [name for name in (HOT, WARM, COLD) if name in store.targets]

    def pins() -> bool:
        return tiers.enabled and tiers.engine is not None and bool(tiers.engine.facts.pins)

    if len(store.writers) > 1:
        store.landing.landing = HintedLanding(store.catalog, names, len(store.writers), pins)


def tiers_of(tiers: Tiers) -> Tiers:
    """Raises: ConfigError if the store has one tier only."""
    if tiers.recorder is None:
        raise ConfigError("this store has one tier: there is nothing to move")
    return tiers
