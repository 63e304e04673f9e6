"""How often an object will be read, learned from how objects like it were: no constant of any workload is built in.

Objects are alike if they were read about as often (decayed count), at about the same gaps, and are idle for about as
long; those that were never read again, if they are of one kind of content. For each such class and each span of idle
time a table counts how many got through the span and how many were read in it: a life table. From it follows the
number of reads to come, discounted by how far they lie ahead, over a short horizon (what makes a fast tier worth its
room changes within the day) and a longer one. Popularity that drifts shortens what the table says of long idle
objects; a backup that reads all once shows as a class that is not read again; what comes back every day or every week
shows as a peak at that age.

Sources: Beckmann, Chen and Cidon, "LHD: Improving Cache Hit Rate by Maximizing Hit Density", NSDI 2018 (classes by
age, learned online); Kaplan and Meier, "Nonparametric Estimation from Incomplete Observations", 1958 (who was not read
yet counts as at risk until now); Song et al., "Learning Relaxed Belady for Content Distribution Network Caching", NSDI
2020 (features: past gaps, decayed counts, age). Rejected: experts of fixed half-lives weighed by regret (Vietri et al.,
"Driving Cache Replacement with ML-based LeCaR", HotStorage 2018; Rodriguez et al., "Learning Cache Replacement with
CACHEUS", FAST 2021): they choose between memories, where the table learns what each memory is worth.
"""

import math
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from copy import copy
from functools import lru_cache
from typing import Any

from tiering.prices import DAY_S
from tiering.signals import GAP_WEIGHT, KINDS, READS_HALF_LIFE_S

_HOUR_S = 3600.0
_HOUR_SPREAD_H = 2.0
AGES_S = (
    *(60.0, 300.0, 900.0, 1800.0),
    *(hours * _HOUR_S for hours in (1, 2, 4, 8, 12, 16, 20, 24, 30, 36, 48, 60, 72)),
    *(days * DAY_S for days in (4, 5, 6, 7, 8, 10, 12, 15, 18, 21, 28, 42, 60, 90, 180)),
)
"""Where spans of idle time end: finer around a day and a week."""
SPANS = len(AGES_S) + 1
LOW_S = (0.0, *AGES_S)
HIGH_S = (*AGES_S, 400 * DAY_S)
PER_S = tuple(1 / (high - low) for low, high in zip(LOW_S, HIGH_S, strict=True))
AGE_MAX_S = HIGH_S[-1] - 1
ROW = SPANS + 1
"""Values of a class in ``Forecast.ahead``: at the beginning of each span, and nothing behind the last."""

_COUNTS = 12
_GAPS = 8
CLASSES = _COUNTS * _GAPS + KINDS
_GAP_FIRST_S = 1800.0
_GAP_STEPS = 0.6
"""Classes of gaps for each doubling."""
ACCESSES_SOLVE = 2000
ACCESSES_SOLVE_FIRST = 200
_SOLVES_FIRST = 20
"""The table is new: what it says changes quickly."""
ACCESSES_AGE = 20_000
AGE_FACTOR = 0.9
"""By which all counts shrink after so many accesses, so that what has changed is learned anew."""
_SWEEPS = 1
_SWEEPS_FIRST = 4
_PRIOR_CLASS = 8.0
_PRIOR_GUESS = 2.0
"""Objects that a class's parent (all gaps of one count), and before it a guess from the gap, weigh as much as."""


def class_of(reads: float, gap_s: float, kind: int) -> int:
    """Of *reads* (decayed, at least 1) with a mean gap of *gap_s*, 0 if there was none yet."""
    if gap_s <= 0:
        return _COUNTS * _GAPS + kind
    count = min(_COUNTS - 1, max(0, int(2 * math.log2(1 + reads)) - 2))
    gap = 0 if gap_s < _GAP_FIRST_S else min(_GAPS - 1, 1 + int(_GAP_STEPS * math.log2(gap_s / _GAP_FIRST_S)))
    return count * _GAPS + gap


class Forecast:
    """The life table, and the discounted reads to come for each horizon. *horizons_s*, shortest first."""

    def __init__(self, horizons_s: Sequence[float]) -> None:
        self.horizons_s = tuple(horizons_s)
        self._risk = _zeros(CLASSES * SPANS)
        self._read = _zeros(CLASSES * SPANS)
        self.ahead = [_zeros(CLASSES * ROW) for _ in self.horizons_s]
        """For each horizon: reads to come, discounted, by class and beginning of a span."""
        self._accesses = 0
        self._solved = 0
        self._solves = 0
        self._aged = 0
        for ahead, first in zip(self.ahead, _first(self.horizons_s), strict=True):
            ahead[:] = array("d", first)

    def survived(self, group: int, credited: int, age_s: float) -> int:
        """An object of class *group* was not read for *age_s*; returns how many spans it has got through.

        credited  what this has returned for it last since its last access, 0 at first
        """
        span = bisect_right(AGES_S, age_s)
        base = group * SPANS
        for at in range(base + credited, base + span):
            self._risk[at] += 1
        return max(span, credited)

    def happened(self, group: int, credited: int, age_s: float) -> None:
        """One was read after *age_s*."""
        span = self.survived(group, credited, age_s)
        at = group * SPANS + min(span, SPANS - 1)
        if credited <= span:
            self._risk[at] += 1
        self._read[at] += 1
        self._accesses += 1

    def rate(self, group: int, age_s: float, horizon: int) -> float:
        """Reads a second that are expected of an object of this class and age, over the horizon of that number."""
        age_s = min(age_s, AGE_MAX_S)
        span = bisect_right(AGES_S, age_s)
        ahead = self.ahead[horizon]
        at = group * ROW + span
        first = ahead[at]
        return (first + (ahead[at + 1] - first) * (age_s - LOW_S[span]) * PER_S[span]) / self.horizons_s[horizon]

    def seen(self, group: int, age_s: float) -> tuple[float, float]:
        """What the table says of the span: how many objects like this one got there, how many were read in it."""
        at = group * SPANS + bisect_right(AGES_S, age_s)
        return self._risk[at], self._read[at]

    def keep_up(self) -> None:
        """Works out what is to come anew, when enough was seen since; takes some milliseconds then."""
        due = ACCESSES_SOLVE if self._solves >= _SOLVES_FIRST else ACCESSES_SOLVE_FIRST
        if self._accesses - self._solved < due:
            return
        self._solved = self._accesses
        self._solves += 1
        if self._accesses - self._aged >= ACCESSES_AGE:
            self._aged = self._accesses
            for table in (self._risk, self._read):
                table[:] = array("d", (value * AGE_FACTOR for value in table))
        self.solve()

    def solve(self) -> None:
        """By iteration from the values that were: a read may lead to a class whose value is used before it is right."""
        hazards: list[list[float]] = []
        parents: dict[int, tuple[list[float], list[float]]] = {}
        for group in range(CLASSES):
            parent = min(group // _GAPS, _COUNTS)
            if parent not in parents:
                parents[parent] = self._parent(parent)
            hazards.append(self._hazard(group, parents[parent]))
        for ahead, horizon_s in zip(self.ahead, self.horizons_s, strict=True):
            for _ in range(_SWEEPS):
                _sweep(ahead, hazards, horizon_s)

    def _parent(self, parent: int) -> tuple[list[float], list[float]]:
        """At risk and read in each span, of all classes of one count."""
        groups = range(_COUNTS * _GAPS, CLASSES) if parent == _COUNTS else range(parent * _GAPS, (parent + 1) * _GAPS)
        risk = [sum(self._risk[group * SPANS + span] for group in groups) for span in range(SPANS)]
        read = [sum(self._read[group * SPANS + span] for group in groups) for span in range(SPANS)]
        return risk, read

    def _hazard(self, group: int, parent: tuple[list[float], list[float]]) -> list[float]:
        """The share of those that get to each span that is read in it."""
        base = group * SPANS
        shares = []
        for span, (risk, read) in enumerate(zip(*parent, strict=True)):
            prior = (read + _PRIOR_GUESS * _GUESS[group][span]) / (risk + _PRIOR_GUESS)
            share = (self._read[base + span] + _PRIOR_CLASS * prior) / (self._risk[base + span] + _PRIOR_CLASS)
            shares.append(share)
        return shares

    def fork(self) -> "Forecast":
        """A copy: its size does not grow with the number of objects."""
        made = copy(self)
        made._risk, made._read = self._risk[:], self._read[:]
        made.ahead = [each[:] for each in self.ahead]
        return made

    def dump(self) -> dict[str, Any]:
        return {
            "horizons_s": list(self.horizons_s),
            "counts": [self._accesses, self._solved, self._solves, self._aged],
            "tables": [table.tobytes() for table in self._tables()],
        }

    @classmethod
    def load(cls, state: dict[str, Any], horizons_s: Sequence[float] | None = None) -> "Forecast":
        """*horizons_s*: those from now on, None: as they were. What was seen stays."""
        made = cls(horizons_s or state["horizons_s"])
        made._accesses, made._solved, made._solves, made._aged = state["counts"]
        same = made.horizons_s == tuple(state["horizons_s"])
        tables, packed = made._tables(), state["tables"]
        for table, data in zip(*((tables, packed) if same else (tables[:2], packed[:2])), strict=True):
            table[:] = array("d", data)
        for _ in range(0 if same else _SWEEPS_FIRST):
            made.solve()
        return made

    def _tables(self) -> list["array[float]"]:
        return [self._risk, self._read, *self.ahead]


def _zeros(count: int) -> "array[float]":
    return array("d", bytes(8 * count))


def _usual_gap_s(group: int) -> float:
    """In the middle of a class; of what was read once, as long as its read is remembered."""
    if group >= _COUNTS * _GAPS:
        return READS_HALF_LIFE_S / math.log(2)
    return _GAP_FIRST_S * 2 ** ((group % _GAPS - 0.5) / _GAP_STEPS)


_GUESS = [
    [1 - ((gap + low) / (gap + high)) ** 2 for low, high in zip(LOW_S, HIGH_S, strict=True)]
    for gap in map(_usual_gap_s, range(CLASSES))
]
"""Read in each span, before anything was seen: a Lomax law of shape 2, whose mean is the usual gap (exponential gaps of
rates that are not known), so that what is idle for longer is expected later."""


def _next_classes(group: int) -> list[int]:
    """Of an object in the middle of the class, read in the middle of each span."""
    reads, gap_s = 1.0, 0.0
    if group < _COUNTS * _GAPS:
        reads, gap_s = 2 ** ((group // _GAPS + 2.5) / 2) - 1, _usual_gap_s(group)
    found = []
    for low, high in zip(LOW_S, HIGH_S, strict=True):
        age_s = (low + high) / 2
        after = reads * 2 ** (-age_s / READS_HALF_LIFE_S) + 1
        found.append(class_of(after, gap_s + GAP_WEIGHT * (age_s - gap_s) if gap_s else age_s, 0))
    return found


_NEXT = [_next_classes(group) for group in range(CLASSES)]


def _sweep(ahead: "array[float]", hazards: list[list[float]], horizon_s: float) -> None:
    """Each class from the oldest span back: a read in the span and what follows it, or none and the next span.

    Most reads lead to the class itself: its value is ``fixed + again * value``, solved at once, for by iteration an
    object that is read hourly would take a hundred sweeps to be worth its reads.
    """
    widths = [high - low for low, high in zip(LOW_S, HIGH_S, strict=True)]
    # What a read in the middle of each span, and one behind it, is worth at its beginning.
    spans = [
        (span, math.exp(-width / 2 / horizon_s), math.exp(-width / horizon_s)) for span, width in enumerate(widths)
    ]
    spans.reverse()
    for group in range(CLASSES - 1, -1, -1):
        hazard, following = hazards[group], _NEXT[group]
        fixed = again = 0.0
        parts = []
        for span, middle, whole in spans:
            read, rest = hazard[span] * middle, (1 - hazard[span]) * whole
            after = following[span]
            fixed = read + rest * fixed
            again = rest * again
            if after == group:
                again += read
            else:
                fixed += read * ahead[after * ROW]
            parts.append((fixed, again))
        value = fixed / (1 - again)
        parts.reverse()
        ahead[group * ROW : group * ROW + SPANS] = array("d", [each + more * value for each, more in parts])


@lru_cache
def _first(horizons_s: tuple[float, ...]) -> tuple[bytes, ...]:
    """Before anything was seen; every table begins with it."""
    found = []
    for horizon_s in horizons_s:
        ahead = _zeros(CLASSES * ROW)
        for _ in range(_SWEEPS_FIRST):
            _sweep(ahead, _GUESS, horizon_s)
        found.append(ahead.tobytes())
    return tuple(found)


def hour_factor(hour: float, now: float, horizon_s: float) -> float:
    """What the time until *hour* comes makes of a rate: reads lie there, not anywhere in the day.

    By how far they then lie ahead they are discounted more or less than the mean of the day is; 1 on average.
    """
    ahead_h = (hour - now % DAY_S / _HOUR_S) % 24
    wait_s = 0.0 if min(ahead_h, 24 - ahead_h) < _HOUR_SPREAD_H else (ahead_h - _HOUR_SPREAD_H) * _HOUR_S
    return math.exp(-wait_s / horizon_s) * DAY_S / horizon_s / -math.expm1(-DAY_S / horizon_s)
