"""What waits and is in no list, for that had no end: it is looked for among all objects, a part at a time.

Pins that found their tier closed, or too many moves waiting for it; what was restored until a date, and is to go back
when that has passed. And of what could not be moved so much as there is room for is left alone for a while.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator

import trio

from stratumfs.ids import InodeNo
from stratumfs.limits import TIER_AGAIN_S
from tiering.plan import Plan
from tiering.policy import Policy
from tiering.prices import DAY_S
from tiering.verdict import Verdict

_LOOKS = 500
"""Objects of which one step asks where they are pinned to."""
SLOTS = 10_000
"""Objects that a step only counts over."""
_DRAINED = 0.5
"""Of the moves that may wait for a tier: with fewer it is looked for pins that found no room among them."""

Rest = Callable[[float, int], Awaitable[None]]


class Overlooked:
    """Of one engine. *rest*: awaited behind each step with the seconds that it took; *decide* takes what is found.

    pins  tiers that some objects are pinned to, and do not wait for
    """

    def __init__(self, policy: Policy, plan: Plan, rest: Rest, decide: Callable[[Iterable[Verdict]], None]) -> None:
        self.pins: set[int] = set()
        self._policy, self._plan, self._rest, self._decide = policy, plan, rest, decide
        self._due = 0
        self._day: float | None = None

    def reopened(self) -> None:
        """A tier takes something again."""
        self._day = -1.0

    async def follow_pins(self, now: float, waiting_max: int) -> None:
        """*waiting_max*: moves that may wait for each tier."""
        policy, plan = self._policy, self._plan
        if any(plan.preferred(tier) <= waiting_max * _DRAINED for tier in self.pins - policy.closed):
            self.pins.clear()
            self._due = policy.signals.slots
        while self._due > 0:
            began = trio.current_time()
            full = {tier for tier in range(len(policy.used)) if plan.preferred(tier) >= waiting_max}
            found, skipped = policy.pins(now, _LOOKS, full | policy.closed)
            self._decide(found)
            self.pins |= skipped
            self._due -= _LOOKS
            await self._rest(trio.current_time() - began, 0)

    async def note_restored(self, now: float, note: Callable[[InodeNo], None]) -> None:
        """Dates are midnights: behind each, all that was restored is looked at again."""
        before, self._day = self._day, now // DAY_S
        if before is None or before == self._day:
            return
        for _ in range(0, self._policy.signals.slots, SLOTS):
            for key in self._policy.kept(SLOTS):
                note(InodeNo(key))
            await trio.lowlevel.checkpoint()


class Unmovable(dict[int, float]):
    """Objects, and until when they are left alone, in the order in which that ends."""

    def leave_alone(self, key: int, now: float, count_max: int) -> bool:
        """False if another one had to go for it."""
        self.pop(key, None)
        full = len(self) >= count_max
        if full:
            del self[next(iter(self))]
        self[key] = now + TIER_AGAIN_S
        return not full

    def take_due(self, now: float) -> Iterator[int]:
        """Those that are left alone no longer."""
        while self and next(iter(self.values())) <= now:
            key = next(iter(self))
            del self[key]
            yield key
