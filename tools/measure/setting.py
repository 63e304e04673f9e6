"""Where rows are measured: a folder on one disk, and the systems that run there beside one another."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.measure.load import Load
from tools.measure.row import Measure, Sample
from tools.measure.systems import System

Say = Callable[[str], None]
"""Told what is being done, for whoever waits."""

MB = 1e6


@dataclass
class Setting:
    """systems: by name, those that run; keys: in the bucket that is listed; say: the progress line."""

    folder: Path
    systems: dict[str, System]
    seed: int
    keys: int
    say: Say

    def with_place(self) -> list[System]:
        return [system for system in self.systems.values() if system.place is not None]

    def random(self, *what: object) -> random.Random:
        """The same for the same words and seed."""
        return random.Random(repr((self.seed, *what)))  # noqa: S311 - drawn, not secret


def measured(call: Callable[[int], tuple[float, Load]]) -> Measure:
    """*call* does it once, and says how much that was."""

    def measure(round_: int) -> Sample:
        count, load = call(round_)
        return Sample(count, load.seconds, load.cpu_s, load.busy_s)

    return measure


def distinct(source: random.Random, size: int, count: int) -> list[bytes]:
    """So many blocks of bytes, none like another, cheaply."""
    block = source.randbytes(size)
    return [number.to_bytes(8, "big") + block[8:] for number in range(count)]
