"""Which objects lie in each tier, and a few of those that are worth least there.

The least of all would need an order that changes with every object's age; the least of a sample, kept together with the
least of the samples before, are nearly those, and cost the same for ten objects and for ten million.
Source: Redis, "Using Redis as an LRU cache" (samples, and a pool of candidates); LHD samples as well.
Tried: a heap by worth as it was when it was last looked at. What has fallen since is not found in it, and large
objects are then refused for want of enough to displace: 8 % more cost on a trace of a web server.
"""

import math
import sys
from array import array
from collections.abc import Callable, Generator
from typing import Any, TypeAlias

from tiering.layered import layered
from tiering.signals import in_steps

POOL_MAX = 64
"""Candidates of a tier that are remembered."""
SAMPLE = 40
"""Objects that are drawn for one decision."""
_MULTIPLIER = 6_364_136_223_846_793_005
_INCREMENT = 1_442_695_040_888_963_407
_MASK = (1 << 64) - 1

Valued: TypeAlias = tuple[float, int, float]
"""Worth, slot, and when that was its worth."""


class Residents:
    """Of one tier. *place* is shared by all tiers: slot to its position in the tier's members."""

    def __init__(self, place: "array[int]", seed: int) -> None:
        self._place = place
        self._members = array("I")
        self._pool: dict[int, Valued] = {}
        self._state = seed
        self.floor: tuple[float, float] = (-math.inf, -math.inf)
        """What the least was worth, and when, as far as was seen."""

    def __len__(self) -> int:
        return len(self._members)

    @property
    def nbytes(self) -> int:
        return sys.getsizeof(self._members)

    def add(self, slot: int) -> None:
        self._place[slot] = len(self._members)
        self._members.append(slot)

    def remove(self, slot: int) -> None:
        at, last = self._place[slot], self._members.pop()
        if last != slot:
            self._members[at] = last
            self._place[last] = at
        self._pool.pop(slot, None)

    def was_read(self, slot: int) -> None:
        """What it was worth is old."""
        self._pool.pop(slot, None)

    def forget_worths(self) -> None:
        """The time of each is another one."""
        self._pool.clear()
        self.floor = (-math.inf, -math.inf)

    def least(self, value: Callable[[list[int]], list[Valued]], since: float) -> list[Valued]:
        """The pool and a new sample, least first. *value* is asked about what was valued before *since*, or never."""
        pool = self._pool
        stale = [slot for slot, (_, _, at) in pool.items() if at < since]
        found = [valued for valued in pool.values() if valued[2] >= since]
        found += value(stale + self._draw())
        found.sort()
        self._pool = {valued[1]: valued for valued in found[:POOL_MAX]}
        if found:
            self.floor = (found[0][0], found[0][2])
        return found

    def _draw(self) -> list[int]:
        """None of the pool."""
        members, pool = self._members, self._pool
        count = len(members)
        if count <= SAMPLE + len(pool):
            return [slot for slot in members if slot not in pool]
        drawn = set()
        state = self._state
        for _ in range(SAMPLE):
            state = (state * _MULTIPLIER + _INCREMENT) & _MASK
            drawn.add(members[(state >> 32) * count >> 32])
        self._state = state
        return [slot for slot in drawn if slot not in pool]

    def fork(self, place: "array[int]") -> "Residents":
        """*place*: that of the forked signals."""
        made = Residents(place, self._state)
        made._members = layered(self._members)
        made._pool = dict(self._pool)
        made.floor = self.floor
        return made

    def dump(self) -> Generator[None, None, dict[str, Any]]:
        """In steps, as of `in_steps`."""
        members = yield from in_steps(self._members)
        pool = [list(valued) for valued in self._pool.values()]
        return {"members": members, "pool": pool, "state": self._state, "floor": list(self.floor)}

    def load(self, state: dict[str, Any]) -> None:
        self._members = array("I", b"".join(state["members"]))
        self._pool = {slot: (worth, slot, at) for worth, slot, at in state["pool"]}
        self._state = state["state"]
        self.floor = (state["floor"][0], state["floor"][1])
        for at, slot in enumerate(self._members):
            self._place[slot] = at
