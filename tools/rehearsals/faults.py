"""Try all faults of three kinds, of which the suite tries a few, and look for what is lost, wrong, or left behind.

Damage: each way in which a shard can be spoilt on each cell of 4+2, and each two ways on each two cells, found and
mended by the scrubber and by reads through both doors; then one cell more than there is parity, every choice of cells,
which must be an error at both doors and never a wrong byte. Reads: each call that reads in an opening and a look at
everything fails, and is short. Cancellation: each operation of the store, each request of S3 (cancelled, and hung up
on), and each of the kernel at each of their checkpoints. Repeatable by its seed.
"""

import argparse
import logging
import random
from pathlib import Path

import structlog
import trio
from rich.console import Console

from stratumfs.owner.blame import cause_of
from tests.faults.base import make_base
from tests.faults.cancel import all_points, cancel_at
from tests.faults.cancel_fuse import OPERATIONS as OF_THE_KERNEL
from tests.faults.cancel_s3 import OPERATIONS as OF_S3
from tests.faults.damage import all_cases, losing_cases
from tests.faults.damaged import Missed, made
from tests.faults.disk import Image
from tests.faults.place import fast_place
from tests.faults.test_cancel import OPERATIONS as OF_THE_STORE
from tests.faults.test_reads import read_all
from tests.faults.tree import Tree

KINDS = ("damage", "reads", "cancellation")
BATCH = 60
"""Volumes that are damaged at once."""


def damage(folder: Path, rng: random.Random, console: Console) -> None:
    """Raises: Missed."""
    damaged = made(folder, BATCH + 1)
    cases = list(all_cases())
    rng.shuffle(cases)
    for start in range(0, len(cases), BATCH):
        batch = cases[start : start + BATCH]
        damaged.scrubbed(batch)
        damaged.read_through_doors(batch)
        console.print(f"damage: {start + len(batch)} of {len(cases)} found, read around through both doors, and mended")
    lost = losing_cases(rng)
    damaged.refused(lost)
    console.print(f"damage of one cell more: {len(lost)} refused by both doors")


def reads(folder: Path, console: Console) -> None:
    """Raises: AssertionError."""
    root = folder / "root"
    base = trio.run(make_base, root, 2, 1)
    for short in (False, True):
        count, wrong = trio.run(_read, root, base, -1, short)
        for number in range(count):
            _, wrong = trio.run(_read, root, base, number, short)
            assert not wrong, "\n".join(wrong)
        console.print(f"reads: {count} {'are short' if short else 'fail'} in turn, and no byte is wrong")


async def _read(root: Path, base: tuple[Image, Tree], number: int, short: bool) -> tuple[int, list[str]]:
    return await read_all(root, base, number, short=short)


def cancellation(folder: Path, console: Console) -> None:
    """Raises: AssertionError."""
    root, total = folder / "root", 0
    base = trio.run(make_base, root, 2, 1)
    operations = {**OF_THE_STORE, **OF_S3, **OF_THE_KERNEL}
    for name, operation in operations.items():
        points = trio.run(cancel_at, operation, root, base, all_points)
        total += points
        console.print(f"cancellation: {name} at {points} points leaves nothing behind")
    console.print(f"cancellation: {len(operations)} operations at {total} points")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/rehearse faults", description=__doc__)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of faults (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    console = Console()
    try:
        for kind in options.kinds:
            with fast_place() as folder:
                if kind == "damage":
                    damage(folder, random.Random(options.seed), console)  # noqa: S311 - repeatable is the point
                elif kind == "reads":
                    reads(folder, console)
                else:
                    cancellation(folder, console)
    except (Missed, AssertionError, BaseExceptionGroup) as error:
        console.print(f"seed {options.seed}: {cause_of(error)}", style="red", markup=False)
        return 1
    return 0
