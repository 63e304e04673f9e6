"""What is known of each object's use, in packed arrays: one slot an object, under 64 bytes with its share of the index.

Told of accesses and of the time; decides nothing. What is kept is what the forecast needs (how often, how regularly,
how long ago), how much of an object one access reads, the time of day, what it is and what its owner wished.
Two memories: *gap* follows the last few accesses, *reads* forgets half in 20 days, so a sudden spike shows as a gap
far below the usual one, and 48 idle hours as an age far above it.
"""

import math
import sys
from array import array
from collections.abc import Generator
from copy import copy
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from tiering.index import KeyIndex
from tiering.layered import layered
from tiering.prices import DAY_S
from tiering.runs import Runs

READS_HALF_LIFE_S = 20 * DAY_S
GAP_WEIGHT = 0.3
"""Of the newest gap in the mean: the last five make up five sixths of it."""
SPIKE_FACTOR = 10.0
SPIKE_READS_MIN = 4.0
"""Fewer are no usual rate that something could stand out from."""
KINDS = 16
"""Classes of content that are told apart; 0 is unknown."""
NOWHERE = 255
"""The tier of what is in none."""
_PART_FULL = 255
_HOUR_WEIGHT = 0.2
_HOUR_FULL = 100
HOUR_GATHERED = 75 * 75
"""Square of the mean vector's length, from which the hours of accesses gather: seven visits in a row at least; random
hours come so far once in 170 times."""
_COPIED = 100_000
"""Values that one step of a dump copies: less than a millisecond."""
_VISIT_S = 4 * 3600.0
"""What follows sooner belongs to the same visit, and says nothing new of the time of day."""


class Hint(IntEnum):
    """What the owner of an object wished, in four bits."""

    NONE = 0
    HOT = 1
    COLD = 2
    KEPT = 3
    """It was restored, and stays where it is until its date."""
    PIN_FIRST = 4
    """Pinned to tier 0; PIN_FIRST + i is pinned to tier i."""


HINTS = 16
PINS_MAX = HINTS - Hint.PIN_FIRST
HINT_FACTOR: dict[int, float] = {Hint.HOT: 8.0, Hint.COLD: 1 / 8}
"""By which a hint scales the rate that is expected."""


@dataclass(frozen=True, slots=True)
class Use:
    """The signals of one object at one time, for a verdict and its explanation.

    age_s    since the last access, or since it was created
    reads    decayed count of accesses, its creation being the first
    gap_s    mean of the last few gaps between accesses; None before the second
    part     of its bytes, that one access reads
    hour     of the day (UTC) around which accesses lie, None where they do not gather
    spike    how many times the usual rate the last few accesses came at, 1 where that says nothing
    """

    size: float
    age_s: float
    reads: float
    gap_s: float | None
    part: float
    hour: float | None
    spike: float
    kind: int
    hint: int


def in_steps(column: "array[Any]") -> Generator[None, None, list[bytes]]:
    """Its bytes, of which each step copies a part: nothing may change in between."""
    chunks = []
    for start in range(0, len(column), _COPIED):
        chunks.append(column[start : start + _COPIED].tobytes())
        yield
    return chunks


class Signals:
    """Columns by slot. Slots of what was forgotten are used again. Times are whole seconds since *epoch_s*."""

    def __init__(self, epoch_s: float) -> None:
        self.epoch_s = epoch_s
        self.key = array("q")
        self.size = array("d")
        self.last = array("I")
        self.gap = array("f")
        self.reads = array("f")
        self.moved = array("I")
        self.tier = array("B")
        self.credited = array("B")
        self.part = array("B")
        self.wish = array("B")
        self.hour_x = array("b")
        self.hour_y = array("b")
        self.place = array("I")
        self.group = array("B")
        self.fell = array("B")
        self._free = array("I")
        self._index = KeyIndex(self.key)
        self._runs = Runs()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def slots(self) -> int:
        """Used and free ones."""
        return len(self.key)

    @property
    def nbytes(self) -> int:
        """Of memory, for all objects."""
        columns = [getattr(self, name) for name in (*_COLUMNS, "_free")]
        return self._index.nbytes + sum(sys.getsizeof(column) for column in columns)

    def slot(self, key: int) -> int | None:
        return self._index.get(key)

    def add(self, key: int, size: float, now: float, kind: int = 0, hint: int = Hint.NONE) -> int:
        """A new object, in no tier yet. Its creation counts as its first access."""
        row = (key, size, self._clock(now), 0.0, 1.0, 0, NOWHERE, 0, _PART_FULL, kind * HINTS + hint, 0, 0, 0, 0, 0)
        if self._free:
            slot = self._free.pop()
            for name, value in zip(_COLUMNS, row, strict=True):
                getattr(self, name)[slot] = value
        else:
            slot = len(self.key)
            for name, value in zip(_COLUMNS, row, strict=True):
                getattr(self, name).append(value)
        self._index.add(slot)
        return slot

    def forget(self, slot: int) -> None:
        self._index.remove(slot)
        self._runs.drop(slot)
        self.tier[slot] = NOWHERE
        self._free.append(slot)

    def rename(self, slot: int, key: int) -> None:
        """The object has another key, which is not known yet."""
        self._index.remove(slot)
        self.key[slot] = key
        self._index.add(slot)

    def age_s(self, slot: int, now: float) -> float:
        return max(0.0, now - self.epoch_s - self.last[slot])

    def held_s(self, slot: int, now: float) -> float:
        """Since it came into its tier."""
        return max(0.0, now - self.epoch_s - self.moved[slot])

    def newest_s(self) -> float:
        """When the last of all accesses and moves was."""
        return self.epoch_s + max(max(self.last, default=0), max(self.moved, default=0))

    def entered(self, slot: int, tier: int, now: float) -> None:
        """It is in *tier* now; ``fell`` says whether it came from a faster one."""
        before = self.tier[slot]
        self.fell[slot] = before != NOWHERE and before < tier
        self.tier[slot] = tier
        self.moved[slot] = self._clock(now)

    def touch(self, slot: int, now: float, count: float | None, offset: int | None) -> bool:
        """It was read. False: this goes on with the access that was counted before (a sequential reader).

        count   bytes; None means all of it
        """
        size = self.size[slot]
        if count is None or count >= size:
            self._read_part(slot, 1.0)
        else:
            began, ended = self._runs.read(slot, count, offset, now)
            for each, total in ended:
                self._read_part(each, total / max(1.0, self.size[each]))
            if not began:
                return False
        self._count(slot, now)
        return True

    def use(self, slot: int, now: float) -> Use:
        kind, hint = divmod(self.wish[slot], HINTS)
        gap = self.gap[slot]
        return Use(
            size=self.size[slot],
            age_s=self.age_s(slot, now),
            reads=self.reads[slot],
            gap_s=gap or None,
            part=self.part_read(slot),
            hour=self.hour(slot),
            spike=self.spike(slot),
            kind=kind,
            hint=hint,
        )

    def part_read(self, slot: int) -> float:
        return (self.part[slot] + 1) / (_PART_FULL + 1)

    def spike(self, slot: int) -> float:
        """The rate of the last few accesses over that of the last weeks; 1 where there are too few."""
        gap, reads = self.gap[slot], self.reads[slot]
        if gap <= 0 or reads < SPIKE_READS_MIN:
            return 1.0
        return max(1.0, READS_HALF_LIFE_S / math.log(2) / (reads * gap))

    def hour(self, slot: int) -> float | None:
        x, y = self.hour_x[slot], self.hour_y[slot]
        if x * x + y * y < HOUR_GATHERED:
            return None
        return math.atan2(y, x) / math.tau * 24 % 24

    def _clock(self, now: float) -> int:
        return max(0, int(now - self.epoch_s))

    def _count(self, slot: int, now: float) -> None:
        age = self.age_s(slot, now)
        old = self.gap[slot]
        # A gap of nothing would mean that there was none yet.
        self.gap[slot] = max(1.0, old + GAP_WEIGHT * (age - old) if old else age)
        self.reads[slot] = self.reads[slot] * 2.0 ** (-age / READS_HALF_LIFE_S) + 1
        self.last[slot] = self._clock(now)
        self.credited[slot] = 0
        if age >= _VISIT_S:
            self._visit(slot, now)

    def _visit(self, slot: int, now: float) -> None:
        angle = now % DAY_S / DAY_S * math.tau
        x, y = self.hour_x[slot], self.hour_y[slot]
        self.hour_x[slot] = round(x + _HOUR_WEIGHT * (_HOUR_FULL * math.cos(angle) - x))
        self.hour_y[slot] = round(y + _HOUR_WEIGHT * (_HOUR_FULL * math.sin(angle) - y))

    def _read_part(self, slot: int, part: float) -> None:
        old = self.part[slot]
        self.part[slot] = round(old + GAP_WEIGHT * (min(1.0, part) * _PART_FULL - old))

    def fork(self) -> "Signals":
        """The same objects, to which things may happen that do not happen here. No object can be added or forgotten."""
        made = copy(self)
        for name in _COLUMNS:
            setattr(made, name, layered(getattr(self, name)))
        made._runs = self._runs.fork()
        return made

    def dump(self) -> Generator[None, None, dict[str, Any]]:
        """Plain values, in steps as of `in_steps`; what is being read at the moment is left out."""
        columns = {}
        for name in (*_COLUMNS, "_free"):
            columns[name] = yield from in_steps(getattr(self, name))
        return {"epoch_s": self.epoch_s, "columns": columns}

    @classmethod
    def load(cls, state: dict[str, Any]) -> "Signals":
        made = cls(state["epoch_s"])
        for name, chunks in state["columns"].items():
            for data in chunks:
                getattr(made, name).frombytes(data)
        free = set(made._free)
        for slot in range(made.slots):
            if slot not in free:
                made._index.add(slot)
        return made


_COLUMNS = ("key", "size", "last", "gap", "reads", "moved", "tier", "credited", "part", "wish", "hour_x", "hour_y",
            "place", "group", "fell")  # fmt: skip
