"""Rounds of ``tools/rehearse crash``: each stops a store again and again, and looks at what is left."""

import logging
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import structlog
import trio

from stratumfs.limits import SHARDS_MAX
from tests.faults.base import make_base
from tests.faults.check import wrong_after, wrong_here, wrong_without
from tests.faults.disk import Image
from tests.faults.fail import ERRORS, IN_PART, NEEDED, fail
from tests.faults.kill import Killer
from tests.faults.paths import LACKING, PATHS
from tests.faults.record import Moment, Recorded, record, stops
from tests.faults.story import after_kill
from tests.faults.traffic import told, traffic
from tests.faults.tree import Tree

CODES = ((4, 2), (4, 2), (2, 1), (2, 2), (3, 3), (8, 2))
MOMENTS_SHARE = 0.05
"""Of a run of traffic."""
TEARS = 4
"""Power cuts that take some of what was not synced, at each moment."""
DEVICES_LOST_SHARE = 0.1
"""Of the stops."""
KILLS = 12
"""Of processes, a round."""
TRAFFIC_CALLS = 600
"""About so many calls a run of traffic makes."""
TRAFFIC = "many users"
"""The path of those that follow none of the others."""

Counts = dict[str, dict[str, int]]
"""States that were opened and held what they must, by path and by what led to them."""


class Lost(Exception):
    """The store broke a promise."""


def prepare(folder: Path) -> None:
    """What a process does before its first round; *folder* is for all of them."""
    global _rounds
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    place = folder / str(os.getpid())
    place.mkdir()
    _rounds = Rounds(place)


KINDS = ("traffic", "kills", "stops", "failures")
"""Of rounds; see the head of ``tools/rehearse crash``, which has them in this order."""
SHORT = "steps"
"""As stops, but at one call of each kind: what a run of all paths takes minutes for."""


def run_round(seed: int, number: int, kinds: Sequence[str]) -> Counts:
    """Round *number* of these *kinds* in turn, which draws everything from that and *seed*.

    Raises: Lost.
    """
    return trio.run(_rounds.run, seed, number, kinds)


class Rounds:
    """What rounds of one process share: a place, and the stores that they begin with."""

    def __init__(self, folder: Path) -> None:
        self._root = folder / "root"
        self._bases: dict[tuple[int, int], tuple[Image, Tree]] = {}
        self._counts: dict[str, Counter[str]] = {}
        self._path = ""

    async def run(self, seed: int, number: int, kinds: Sequence[str]) -> Counts:
        """Raises: Lost."""
        rng = random.Random(f"{seed} {number}")  # noqa: S311 - repeatable is the point
        rounds: Mapping[str, Callable[[random.Random], Awaitable[None]]] = {
            "traffic": self._record_traffic,
            "kills": self._kill_traffic,
            "stops": self._stop_path,
            SHORT: self._stop_steps,
            "failures": self._fail_path,
        }
        self._counts = {}
        self._path = sorted(PATHS)[number // len(kinds) % len(PATHS)]
        await rounds[kinds[number % len(kinds)]](rng)
        return {path: dict(counts) for path, counts in self._counts.items()}

    async def _record_traffic(self, rng: random.Random) -> None:
        base, seed = await self._base(rng), rng.getrandbits(32)
        chosen = random.Random(seed)  # noqa: S311 - repeatable is the point
        recorded = await record(traffic(seed), self._root, *base, seed, lambda: chosen.random() < MOMENTS_SHARE)
        await self._check_stops(TRAFFIC, recorded, recorded.moments, rng)

    async def _kill_traffic(self, rng: random.Random) -> None:
        base, seed = await self._base(rng), rng.getrandbits(32)
        stories = told(base[1], seed)
        with closing(Killer(self._root, *base)) as killer:
            for _ in range(KILLS):
                at = rng.randrange(TRAFFIC_CALLS)
                killed = killer.run("traffic", at, seed)
                wrong = await wrong_here(self._root, after_kill(stories, killed.said))
                about = f"{seed}, killed before call {at} ({killed.before})"
                self._count(TRAFFIC, "a killed process", wrong, about)

    async def _stop_path(self, rng: random.Random) -> None:
        recorded = await self._record_path(rng)
        await self._check_stops(self._path, recorded, recorded.moments, rng)

    async def _stop_steps(self, rng: random.Random) -> None:
        recorded = await self._record_path(rng)
        await self._check_stops(self._path, recorded, recorded.thinned(rng), rng)

    async def _record_path(self, rng: random.Random) -> Recorded:
        base, seed = await self._base(rng), rng.getrandbits(32)
        return await record(PATHS[self._path], self._root, *base, seed)

    async def _fail_path(self, rng: random.Random) -> None:
        base, name, seed = await self._base(rng), self._path, rng.getrandbits(32)
        run = (await record(PATHS[name], self._root, *base, seed)).outline()
        for error, code in ERRORS.items():
            for at in range((run.writing if code == IN_PART else run).count):
                for_good = rng.random() < 0.5
                failed = await fail(PATHS[name], self._root, *base, at, code, for_good=for_good, seed=seed)
                # What strikes a device seals its volumes without their tables of contents.
                tables = SHARDS_MAX if failed.step is not None and failed.step.verb in NEEDED else 1
                wrong = failed.wrong or await wrong_here(self._root, failed.expected, tables_missing=tables)
                about = f"{seed}: {error} of call {at}, {failed.step} (for good: {for_good})"
                self._count(name, "a failed call", wrong, about)

    async def _check_stops(self, name: str, recorded: Recorded, moments: Iterable[Moment], rng: random.Random) -> None:
        for stop in stops(recorded, moments, rng, TEARS):
            self._count(name, stop.how, await wrong_after(stop.image, self._root, stop.expected), str(stop))
            # What is repaired lacks something already, and may lose no more.
            lost = rng.random() < DEVICES_LOST_SHARE and name not in LACKING
            if lost and not stop.expected.perhaps_nothing:
                wrong = await wrong_without(stop.image, self._root, stop.expected, rng)
                self._count(name, "devices lost besides", wrong, str(stop))

    async def _base(self, rng: random.Random) -> tuple[Image, Tree]:
        code = rng.choice(CODES)
        if code not in self._bases:
            self._bases[code] = await make_base(self._root, *code)
        return self._bases[code]

    def _count(self, path: str, how: str, wrong: Sequence[str], about: str) -> None:
        if wrong:
            raise Lost("\n".join([f"{path}: {about}", *wrong]))
        self._counts.setdefault(path, Counter())[how] += 1
