"""A tier engine over a real store of two tiers, with a clock that tests set."""

import math
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from stratumfs.catalog.decisions import Decision, decisions_since
from stratumfs.catalog.residence import residences
from stratumfs.ids import InodeNo
from stratumfs.store.store import Store
from tests.stores import make_store, make_warm, running_store
from tests.stratumfs.store.helpers import get, put
from tiering.accesses import Accesses
from tiering.engine import Engine, opened
from tiering.prices import PriceList, TierPrice
from tiering.room import QUOTA_FILLED
from tiering.worths import PolicySettings

START = 1_700_000_000.0
SIZE = 40_000
"""Of an object: more than lies inline."""


class Clock:
    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def prices(hot: float = math.inf, warm: float = math.inf, *, cold: bool = False) -> PriceList:
    """*hot*, *warm*: what the policy may book there, bytes."""
    tiers = [
        TierPrice("hot", 0.08, 0.0002, 2e9, capacity_bytes=hot / QUOTA_FILLED),
        TierPrice("warm", 0.015, 0.01, 180e6, capacity_bytes=warm / QUOTA_FILLED),
        TierPrice("cold", 0.001, 0.08, 60e6),
    ]
    return PriceList(tiers if cold else tiers[:2])


class Running:
    """A store, its engine, and what a test asks of them."""

    def __init__(self, store: Store, engine: Engine, clock: Clock) -> None:
        self.store, self.engine, self.clock = store, engine, clock

    async def step(self) -> None:
        """Decide, and carry out all that can be."""
        await self.engine.look()
        while await self.engine.carry_out():
            pass
        await self.engine.look()

    async def put(self, key: str, size: int = SIZE, fill: int = 1) -> InodeNo:
        return (await put(self.store, key.encode(), bytes([fill]) * size)).ino

    async def put_bytes(self, key: str, data: bytes) -> InodeNo:
        return (await put(self.store, key.encode(), data)).ino

    async def read(self, key: str) -> bytes:
        return await get(self.store, key.encode())

    async def tier(self, ino: InodeNo) -> str | None:
        found = await self.store.catalog.read(residences, (ino,))
        return found[0].tier if found else None

    async def decisions(self) -> list[Decision]:
        """Oldest first."""
        return list(reversed(await self.store.catalog.read(decisions_since, 0, None)))


@asynccontextmanager
async def running_engine(
    folder: Path,
    clock: Clock,
    hot: float = math.inf,
    warm: float = math.inf,
    *,
    warmup_s: float = 0.0,
    heat: bool = False,
    cold: bool = False,
    names: Collection[str] | None = None,
) -> AsyncIterator[Running]:
    """*heat*: it is remembered in *folder*; *cold*: there is a third tier; *names*: of the tiers that
    the engine knows, if not of all.

    The store is made if it is not there, with one bucket.
    """
    fresh = not (folder / "catalog").exists()
    if fresh:
        make_store(folder)
        make_warm(folder)
        if cold:
            make_warm(folder, letter="c")
    accesses = Accesses(clock)
    async with running_store(folder, observer=accesses) as store:
        if fresh:
            await store.objects.create_bucket("bucket", 1)
        settings = PolicySettings(warmup_s=warmup_s)
        listed = prices(hot, warm, cold=cold).tiers
        known = PriceList([each for each in listed if names is None or each.name in names])
        engine = await opened(store, accesses, known, settings, folder=folder if heat else None, clock=clock)
        await engine.survey()
        await engine.measure()
        yield Running(store, engine, clock)
