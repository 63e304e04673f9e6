"""Stop stores at every step of what they do, by kills, power cuts and calls that fail, and look for what is missing.

Rounds of four kinds follow one another: many users of one store at once, recorded and opened again at moments of the
run; the same in a process that ends itself; one write path at every single step; one write path with every single call
failing, with each error that it can meet. Each draws its store's geometry. What a stop leaves is a state; each is
opened, compared with what was promised, used, tidied, and audited. A round is known by the seed and its number: --first
repeats one that failed. A run is known by its --state: the same file goes on where it was stopped.
"""

import argparse
import json
import multiprocessing
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import count
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from tests.faults.place import fast_place
from tests.faults.table import write_matrix
from tools.rehearsals._crash_rounds import KINDS, SHORT, Counts, Lost, prepare, run_round


class Tally:
    """States by path and kind, and the round that comes next; kept in a file, if one is named."""

    def __init__(self, seed: int, kinds: Sequence[str], first: int, file: Path | None) -> None:
        self.next = first
        self.counts: dict[str, Counter[str]] = {}
        self._run, self._file = {"seed": seed, "kinds": list(kinds)}, file
        if file is not None and file.exists():
            found = json.loads(file.read_text())
            if (found["seed"], found["kinds"]) != (seed, list(kinds)):
                raise SystemExit(f"{file} is a run of --seed {found['seed']} --kinds {' '.join(found['kinds'])}")
            self.next = found["next"]
            self.add(found["counts"])

    @property
    def states(self) -> int:
        return sum(counts.total() for counts in self.counts.values())

    def add(self, counts: Counts) -> None:
        for path, found in counts.items():
            self.counts.setdefault(path, Counter()).update(found)

    def keep(self) -> None:
        if self._file is not None:
            new = self._file.with_name(f"{self._file.name}.new")
            new.write_text(json.dumps({**self._run, "next": self.next, "counts": self.counts}))
            new.replace(self._file)


def _results(seed: int, numbers: Iterable[int], kinds: Sequence[str], workers: int, folder: Path) -> Iterator[Counts]:
    """Of one round after the other, several of which run at once.

    Raises: Lost.
    """
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), prepare, (folder,))
    running: deque[Future[Counts]] = deque()
    try:
        for number in numbers:
            running.append(pool.submit(run_round, seed, number, kinds))
            if len(running) > workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/rehearse crash", description=__doc__)
    parser.add_argument("--states", type=int, default=10_000, help="how many to open at least (default: %(default)s)")
    parser.add_argument("--rounds", type=int, help="how many to run, instead")
    parser.add_argument(
        "--kinds", nargs="+", choices=(*KINDS, SHORT), default=KINDS, help="of rounds (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first round")
    parser.add_argument("--state", type=Path, metavar="FILE", help="where the run is noted, and gone on with")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: one a core)")
    parser.add_argument("--matrix", action="store_true", help="write the counts into stratumfs-durability(7)")
    options = parser.parse_args(argv)
    console = Console()
    tally = Tally(options.seed, options.kinds, options.first, options.state)
    with fast_place() as folder, Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("states", total=None if options.rounds else options.states, completed=tally.states)
        last = options.first + options.rounds if options.rounds else None
        numbers = count(tally.next) if last is None else range(tally.next, last)
        results = _results(options.seed, numbers, options.kinds, options.workers, folder)
        while tally.next < last if last is not None else tally.states < options.states:
            try:
                tally.add(next(results))
            except Lost as error:
                console.print(f"round {tally.next}, seed {options.seed}: {error}", style="red", markup=False)
                return 1
            tally.next += 1
            tally.keep()
            bar.update(task, completed=tally.states, description=f"states, round {tally.next}")
        results.close()
    console.print(
        f"{tally.states} states of {tally.next - options.first} rounds, seed {options.seed}: "
        "nothing acknowledged is missing, no byte is wrong"
    )
    for how, number in sorted(sum(tally.counts.values(), Counter()).items()):
        console.print(f"  {how}: {number}")
    if options.matrix:
        much = f"--rounds {options.rounds}" if options.rounds else f"--states {options.states}"
        kinds = "" if tuple(options.kinds) == KINDS else f" --kinds {' '.join(options.kinds)}"
        write_matrix(tally.counts, f"tools/rehearse crash {much}{kinds} --seed {options.seed}")
    return 0
