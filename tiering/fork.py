"""A policy that can be run forward while the one it comes from stays as it is: what would happen, by the same code.

It is made in a time that does not grow with the number of objects. What is not told to it does not happen: the other
objects hold still, which is to say that they are not read, and age.
"""

import math
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from tiering.policy import Policy
from tiering.residents import Valued
from tiering.verdict import Case, Cause, Inputs


class Answer(StrEnum):
    """What came of a comparison."""

    PAYS = "pays"
    """It moves when it is read next, or sooner."""
    CLOSED = "takes nothing"
    """The tier takes nothing now: it is read-only, or refused something not long ago."""
    TOO_LARGE = "too large"
    """It is larger than the tier."""
    WORTH_NOTHING = "worth nothing there"
    """The reads that are expected are not worth the dearer storage."""
    DISPLACES_TOO_MUCH = "displaces too much"
    """Those that would have to make room are worth more than it, or too few were found that are worth less."""
    FEES = "fees"
    """What it gains does not pay the fees of the moves in time."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What entering *tier* would be worth now, without a further access; dollars a byte and second.

    margin    by which it must be worth more than what it displaces
    need      bytes that are missing in the tier; 0 where there is room
    others    keys of those that would make room, the last one the marginal one; empty where there is room
    marginal  what that one is worth
    """

    tier: int
    answer: Answer
    worth: float
    margin: float
    need: float
    others: tuple[int, ...]
    marginal: float
    case: Case


@dataclass(frozen=True, slots=True)
class Crowd:
    """It leaves its tier when room for more than *bytes* is needed there beyond what is free; where *leaves* is false,
    not for as many either, and more was not looked at."""

    bytes: float
    leaves: bool


class _Enough(Exception):
    """What was asked is known, or it would take too long."""


class Fork(Policy):
    """Of *base*, which is not told of anything while this is used: nobody awaits in between. No object can be added."""

    def __init__(self, base: Policy, closed: frozenset[int] | None = None) -> None:
        """*closed*: tiers that take nothing, if that is known better than *base* knows it."""
        vars(self).update(vars(base))
        self.closed = base.closed if closed is None else closed
        self.signals = base.signals.fork()
        self.forecast = base.forecast.fork()
        self.used, self.room_price = list(base.used), list(base.room_price)
        self._residents = [each.fork(self.signals.place) for each in base._residents]
        self._out, self._left, self._pinned = [], dict(base._left), list(base._pinned)
        self._watched: int | None = None
        self._settled_max = 0

    def inputs(self, key: int, tier: int, now: float) -> Inputs:
        """What a decision between *tier* and the next slower one starts from. Raises: ValueError as `compare`."""
        return self._inputs(self._known(key), tier, now, 0.0)

    def compare(self, key: int, tier: int, now: float) -> Comparison:
        """With what would have to make room for it in *tier*, a faster one than its own.

        Raises: ValueError if the object is not known.
        """
        slot = self._known(key)
        size = self.signals.size[slot] or 1.0
        capacity = self.prices.tiers[tier].capacity_bytes
        worth, margin = self.worth(slot, tier, now), self._margin(slot, tier, now)
        need = max(0.0, self.used[tier] + size - capacity)
        below = worth / margin - self.room_price[tier + 1]
        chosen = self._displaceable(tier, need, below, now) if need else []
        enough = not need or bool(chosen)
        others = chosen if enough else self._first(tier, need, now)
        case = self._case(slot, tier, worth, margin, others, now, in_hand=False)
        if tier in self.closed:
            answer = Answer.CLOSED
        elif size > capacity:
            answer = Answer.TOO_LARGE
        elif worth <= 0:
            answer = Answer.WORTH_NOTHING
        elif not enough:
            answer = Answer.DISPLACES_TOO_MUCH
        else:
            answer = Answer.PAYS if case.pays() else Answer.FEES
        marginal = max(0.0, others[-1][0] + self.room_price[tier + 1]) if others else 0.0
        keys = tuple(self.signals.key[each] for _, each, _ in others)
        return Comparison(tier, answer, worth, margin, need, keys, marginal, case)

    def standing(self, key: int, now: float) -> tuple[int, int]:
        """Of the candidates for leaving its tier that a decision would look at: how many go before it, and of how many.

        Raises: ValueError if the object is not known.
        """
        slot = self._known(key)
        tier = self.signals.tier[slot]
        if tier + 1 >= len(self.used):
            return 0, 0
        worth = self._worths((slot,), tier, now)[0][0]
        others = [each for each in self._least(tier, now) if each[1] != slot]
        return sum(each[0] < worth for each in others), len(others)

    def crowd(self, key: int, now: float, others_max: int) -> Crowd | None:
        """How much room must be needed in its tier before it has to leave; *others_max* that leave first are followed.

        None where nothing is limited. Ends the use of this fork. Raises: ValueError if the object is not known.
        """
        slot = self._known(key)
        tier = self.signals.tier[slot]
        capacity = self.prices.tiers[tier].capacity_bytes
        if tier + 1 >= len(self.used) or capacity == math.inf:
            return None
        # Who has to leave for little has to leave for more too, and before the others: one run tells of all.
        room = [0.0 if at == tier else each.capacity_bytes for at, each in enumerate(self.prices.tiers)]
        self.prices = self.prices.with_capacities(room)
        self._watched, self._settled_max = slot, others_max
        with suppress(_Enough):
            self._relieve(tier, now)
        return Crowd(max(0.0, capacity - self.used[tier]), self._watched is None)

    def _known(self, key: int) -> int:
        slot = self.signals.slot(key)
        if slot is None:
            raise ValueError(f"object {key} is not known")
        return slot

    def _settle(
        self, slot: int, now: float, first: int, cause: Cause, for_key: int | None = None, case: Case | None = None
    ) -> None:
        if slot == self._watched:
            self._watched = None
            raise _Enough
        if self._watched is not None:
            self._settled_max -= 1
            if self._settled_max < 0:
                raise _Enough
        super()._settle(slot, now, first, cause, for_key, case)

    def _first(self, tier: int, need: float, now: float) -> list[Valued]:
        """Those worth least, until *need* bytes are free or no more were looked at."""
        found: list[Valued] = []
        freed = 0.0
        for each in self._least(tier, now):
            if freed >= need:
                break
            found.append(each)
            freed += self.signals.size[each[1]]
        return found
