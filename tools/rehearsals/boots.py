"""Histories of a catalog on several places: boots with any majority, stops at any step, losses, older places, joins.

Each history is several boots of one catalog, drawn by a seed; whatever was answered in one boot must be there in every
later one that may write. Rows are compared with those of the copies all the while, and pages and copies are checked
behind each boot. --first goes on where a run was stopped, or repeats a history that failed.
"""

import argparse
import logging
from collections import Counter

import structlog
import trio
from rich.console import Console
from rich.progress import Progress

from tests.faults.place import fast_place
from tests.stratumfs.catalog.boots import Boots, Lost

BOOTS = 6
"""Of one history."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/rehearse boots", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5000, help="boots in all (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the first history (%(default)s)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="begin with history N (%(default)s)")
    given = parser.parse_args(argv)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    counts: Counter[str] = Counter()
    console = Console()
    number = given.first
    with Progress(console=console) as progress:
        task = progress.add_task("boots", total=given.rounds)
        while counts["boots"] < given.rounds:
            try:
                counts += _history(given.seed * 1_000_000 + number)
            except Lost as error:
                console.print(f"history {number} of seed {given.seed}: {error}", style="bold red")
                return 1
            number += 1
            progress.update(task, completed=counts["boots"], description=f"history {number}")
    for what, count in sorted(counts.items()):
        console.print(f"{count:7,}  {what}")
    return 0


def _history(seed: int) -> Counter[str]:
    with fast_place() as folder:
        history = Boots(folder, seed)
        try:
            trio.run(history.run, BOOTS)
        except BaseExceptionGroup as group:
            raise _first_of(group) from group
        return history.counts


def _first_of(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
