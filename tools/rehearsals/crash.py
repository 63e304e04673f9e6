"""Stop stores at every step of what they do, by kills, power cuts and calls that fail, and look for what is missing.

Rounds of four kinds follow one another: many users of one store at once, recorded and opened again at moments of the
run; the same in a process that ends itself; one write path at every single step; one write path with every single call
failing. Each draws its store's geometry. A round is known by the seed and its number: --first goes on where a run was
stopped, or repeats a round that failed.
"""

import argparse
import errno
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path

import structlog
import trio
from rich.console import Console
from rich.progress import Progress

from tests.faults.base import make_base
from tests.faults.check import wrong_after, wrong_here, wrong_without
from tests.faults.disk import Image
from tests.faults.fail import fail
from tests.faults.kill import Killer
from tests.faults.paths import PATHS
from tests.faults.place import fast_place
from tests.faults.record import Recorded, record, stops_at
from tests.faults.story import after_kill
from tests.faults.traffic import told, traffic
from tests.faults.tree import Tree

CODES = ((4, 2), (4, 2), (2, 1), (1, 2), (3, 3), (8, 2))
MOMENTS_SHARE = 0.05
"""Of a run of traffic."""
KILLS = 12
"""Of processes, a round."""
TRAFFIC_CALLS = 600
"""About so many calls a run of traffic makes."""


class Lost(Exception):
    """The store broke a promise."""


class Rehearsal:
    def __init__(self, folder: Path, seed: int) -> None:
        self._root = folder / "root"
        self._seed = seed
        self._bases: dict[tuple[int, int], tuple[Image, Tree]] = {}
        self.counts: Counter[str] = Counter()

    async def run_round(self, number: int) -> None:
        """Raises: Lost."""
        rng = random.Random(f"{self._seed} {number}")  # noqa: S311 - repeatable is the point
        kinds: Sequence[Callable[[random.Random], Awaitable[None]]] = (
            self._record_traffic,
            self._kill_traffic,
            self._stop_path,
            self._fail_path,
        )
        await kinds[number % len(kinds)](rng)
        self.counts["rounds"] += 1

    async def _record_traffic(self, rng: random.Random) -> None:
        base, seed = await self._base(rng), rng.getrandbits(32)
        chosen = random.Random(seed)  # noqa: S311 - repeatable is the point
        recorded = await record(traffic(seed), self._root, *base, seed, lambda: chosen.random() < MOMENTS_SHARE)
        await self._check_moments("traffic", recorded, rng)

    async def _kill_traffic(self, rng: random.Random) -> None:
        base, seed = await self._base(rng), rng.getrandbits(32)
        stories = told(base[1], seed)
        with closing(Killer(self._root, *base)) as killer:
            for _ in range(KILLS):
                at = rng.randrange(TRAFFIC_CALLS)
                killed = killer.run("traffic", at, seed)
                wrong = await wrong_here(self._root, after_kill(stories, killed.said))
                self._count("killed processes", wrong, f"traffic {seed}, killed before call {at} ({killed.before})")

    async def _stop_path(self, rng: random.Random) -> None:
        base, name, seed = await self._base(rng), rng.choice(sorted(PATHS)), rng.getrandbits(32)
        await self._check_moments(name, await record(PATHS[name], self._root, *base, seed), rng)

    async def _fail_path(self, rng: random.Random) -> None:
        base, name, seed = await self._base(rng), rng.choice(sorted(PATHS)), rng.getrandbits(32)
        calls = len((await record(PATHS[name], self._root, *base, seed)).moments) - 1
        for at in range(calls):
            code, for_good = rng.choice((errno.EIO, errno.ENOSPC)), rng.random() < 0.5
            failed = await fail(PATHS[name], self._root, *base, at, code, for_good=for_good, seed=seed)
            wrong = failed.wrong or await wrong_here(self._root, failed.expected, tables_missing=1)
            what = f"{name} {seed}: {errno.errorcode[code]} of call {at}, {failed.step} (for good: {for_good})"
            self._count("failed calls", wrong, what)

    async def _check_moments(self, name: str, recorded: Recorded, rng: random.Random) -> None:
        for number, moment in enumerate(recorded.moments):
            for stop in stops_at(moment, recorded.stories, rng, number):
                self._count(stop.how, await wrong_after(stop.image, self._root, stop.expected), f"{name}: {stop}")
                if rng.random() < 0.1 and not stop.expected.perhaps_nothing:
                    wrong = await wrong_without(stop.image, self._root, stop.expected, rng)
                    self._count("devices lost besides", wrong, f"{name}: {stop}")

    async def _base(self, rng: random.Random) -> tuple[Image, Tree]:
        code = rng.choice(CODES)
        if code not in self._bases:
            self._bases[code] = await make_base(self._root, *code)
        return self._bases[code]

    def _count(self, what: str, wrong: Sequence[str], about: str) -> None:
        self.counts[what] += 1
        if wrong:
            raise Lost("\n".join([about, *wrong]))


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/rehearse crash", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first round")
    options = parser.parse_args(argv)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    console = Console()
    with fast_place() as folder, Progress(console=console) as progress:
        rehearsal = Rehearsal(folder, options.seed)
        bar = progress.add_task("rounds", total=options.rounds)
        for number in range(options.first, options.first + options.rounds):
            try:
                trio.run(rehearsal.run_round, number)
            except Lost as error:
                console.print(f"round {number}, seed {options.seed}: {error}", style="red", markup=False)
                return 1
            progress.advance(bar)
    console.print(f"{options.rounds} rounds, seed {options.seed}: nothing acknowledged is missing, no byte is wrong")
    for what, count in sorted(rehearsal.counts.items()):
        console.print(f"  {what}: {count}")
    return 0
