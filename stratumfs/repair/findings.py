"""What a check has found, and what became of it."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from stratumfs.limits import FINDINGS_MAX


class Outcome(StrEnum):
    """NOTED is no fault: what a crash leaves, and every owner that opens the store sees to."""

    MENDED = "mended"
    LEFT = "left"
    NOTED = "noted"


@dataclass(frozen=True, slots=True)
class Finding:
    """text: what is wrong, one of a fixed set; where: a row, a shard, a device; done: what was done, or why nothing."""

    text: str
    where: str
    outcome: Outcome
    done: str = ""


@dataclass(slots=True)
class Report:
    """All that was found, the first `FINDINGS_MAX` in words.

    rows, shards, cells, copies, objects: how many were looked at; object_bytes: read of these, and object_usd: what
    that has cost by the price list.
    """

    findings: list[Finding] = field(default_factory=list)
    counts: Counter[Outcome] = field(default_factory=Counter)
    rows: int = 0
    volumes: int = 0
    shards: int = 0
    cells: int = 0
    copies: int = 0
    objects: int = 0
    object_bytes: int = 0
    object_usd: float = 0.0

    def add(self, text: str, where: object, outcome: Outcome, done: str = "") -> None:
        self.counts[outcome] += 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(text, str(where), outcome, done))

    @property
    def mended(self) -> int:
        return self.counts[Outcome.MENDED]

    @property
    def left(self) -> int:
        return self.counts[Outcome.LEFT]

    @property
    def noted(self) -> int:
        return self.counts[Outcome.NOTED]

    @property
    def clean(self) -> bool:
        return not (self.mended or self.left)
