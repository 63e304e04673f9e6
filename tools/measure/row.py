"""What a row of the table is: who is measured for it, round by round, and what has to come out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from tools.measure.load import WrongAnswer

OURS = "stratumfs"
_PEER_TRIES = 5


@dataclass(frozen=True)
class Sample:
    """One measurement. count: requests, MB, files; cpu_s: of the server; busy_s: of who made the load."""

    count: float
    seconds: float
    cpu_s: float
    busy_s: float

    @property
    def rate(self) -> float:
        return self.count / self.seconds

    @property
    def cpu_ms(self) -> float:
        """Of the server, for each that was counted."""
        return self.cpu_s * 1000 / self.count


Measure = Callable[[int], Sample]
"""Takes the number of the round; also what it draws depends on that alone."""


@dataclass(frozen=True)
class Target:
    """Ours beside *beside*: the rate at least *bound* times as high, or the processor time at most so many times."""

    beside: str
    bound: float
    of: Literal["rate", "cpu"] = "rate"

    def holds(self, ratio: float) -> bool:
        return ratio >= self.bound if self.of == "rate" else ratio <= self.bound


@dataclass
class Row:
    """*unit* is what is counted; *samples* has what was measured, by system and round."""

    name: str
    title: str
    unit: str
    lanes: Mapping[str, Measure]
    targets: Sequence[Target] = ()
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def run(self, round_: int) -> None:
        """Everybody once, each round another one first."""
        names = list(self.lanes)
        first = round_ % len(names)
        for name in names[first:] + names[:first]:
            self.samples.setdefault(name, []).append(self._measured(name, round_))

    def _measured(self, name: str, round_: int) -> Sample:
        """A peer that refuses what it was asked for (SeaweedFS does while it grows volumes) is measured again."""
        for _ in range(_PEER_TRIES - 1):
            try:
                return self.lanes[name](round_)
            except WrongAnswer:
                if name == OURS:
                    raise
        return self.lanes[name](round_)

    def rate(self, system: str) -> float:
        return median(sample.rate for sample in self.samples[system])

    def cpu_ms(self, system: str) -> float:
        return median(sample.cpu_ms for sample in self.samples[system])

    def busy(self, system: str) -> float:
        """How much of one core the load took: near 1 it is the load that was measured."""
        return median(sample.busy_s / sample.seconds for sample in self.samples[system])

    def ratio(self, target: Target) -> float | None:
        """Median of the ratios of all rounds; None if the other one was not measured."""
        theirs = self.samples.get(target.beside)
        if theirs is None:
            return None
        pairs = zip(self.samples[OURS], theirs, strict=True)
        if target.of == "rate":
            return median(ours.rate / other.rate for ours, other in pairs)
        return median(ours.cpu_ms / max(other.cpu_ms, 1e-6) for ours, other in pairs)
