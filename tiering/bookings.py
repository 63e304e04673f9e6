"""In which tier each object is booked, since when, and what is pinned there: the state that a policy decides upon.

A decision books an object where it is to go before it is there. Where it lies is remembered until somebody says that it
has arrived: if it does not go, what is known of its stay is as it was.
"""

import math
from collections.abc import Generator
from typing import Any, NamedTuple, Self

from tiering.forecast import Forecast, class_of
from tiering.prices import PriceList
from tiering.renumber import among
from tiering.residents import Residents
from tiering.signals import HINTS, KINDS, NOWHERE, PINS_MAX, Hint, Signals
from tiering.state import decode, drained, encode
from tiering.worths import PolicySettings, Worths

FORMAT = 2
_CLOCK_AHEAD_S = 3600.0
"""By no more than that a clock goes back by itself."""


class Left(NamedTuple):
    """Where an object lies that is to go elsewhere: what is known of its stay is so again if it does not go.

    moved, fell  as `Signals` has them
    """

    tier: int
    moved: int
    fell: int


class Bookings(Worths):
    """Keys are 64-bit integers; *now* is in seconds and does not go back.

    Whoever carries moves out says of each what came of it, with `arrived` or `moved`.
    """

    def __init__(self, prices: PriceList, now: float, settings: PolicySettings | None = None) -> None:
        if not 2 <= len(prices.tiers) <= PINS_MAX:
            raise ValueError(
                f"{len(prices.tiers)} tiers: there is nothing to decide in one, and {PINS_MAX} are the most"
            )
        super().__init__(prices, now, settings or PolicySettings())
        self._residents = [Residents(self.signals.place, seed) for seed in range(1, len(prices.tiers) + 1)]
        self._hand = 0
        self._pinned = [0.0] * len(prices.tiers)
        """Bytes that are booked in each tier and pinned there."""
        self._left: dict[int, Left] = {}

    @property
    def nbytes(self) -> int:
        """Of memory that grows with the number of objects."""
        return self.signals.nbytes + sum(each.nbytes for each in self._residents)

    @property
    def pressed(self) -> bool:
        """Whether more is booked in any tier than it has room for."""
        return any(used > price.capacity_bytes for used, price in zip(self.used, self.prices.tiers, strict=True))

    def count(self, tier: int) -> int:
        """Objects that are booked there."""
        return len(self._residents[tier])

    def where(self, key: int) -> int | None:
        slot = self.signals.slot(key)
        return None if slot is None else self.signals.tier[slot]

    def landed(self, key: int, size: float, tier: int, now: float, *, kind: int = 0, hint: int = Hint.NONE) -> None:
        """A new object that lies in *tier* already, whatever its worth; `review` makes room if there is too little.

        Raises: ValueError if *key* is known.
        """
        self._book(self._added(key, size, now, kind, hint), tier, now)

    def resized(self, key: int, size: float) -> None:
        slot = self.signals.slot(key)
        if slot is not None:
            tier, more = self.signals.tier[slot], size - self.signals.size[slot]
            self.used[tier] += more
            if self._is_pinned(slot) and self._pinned_to(slot) == tier:
                self._pinned[tier] += more
            self.signals.size[slot] = size

    def removed(self, key: int) -> None:
        slot = self.signals.slot(key)
        if slot is not None:
            self._left.pop(key, None)
            self._leave(slot)
            self.signals.forget(slot)

    def renamed(self, old: int, new: int) -> None:
        """What is known of *old* is known of *new* from now on, and what was known of that is forgotten."""
        slot = self.signals.slot(old)
        if slot is not None:
            self._left.pop(old, None)
            self.removed(new)
            self.signals.rename(slot, new)

    def moved(self, key: int, tier: int, now: float) -> None:
        """It lies in *tier*, by whatever else than a verdict: somebody's command, or a move that could not be done.

        What a verdict was to take away from there has been there all the time.
        """
        slot = self.signals.slot(key)
        left = self._left.pop(key, None)
        if slot is None or self.signals.tier[slot] == tier:
            return
        self._book(slot, tier, now)
        if left is not None and left.tier == tier:
            self.signals.moved[slot], self.signals.fell[slot] = left.moved, left.fell

    def arrived(self, key: int) -> None:
        """A verdict was carried out."""
        self._left.pop(key, None)

    def waits(self, key: int, tier: int, now: float) -> None:
        """It is to go to *tier*, by a verdict of long ago that was taken back meanwhile."""
        slot = self.signals.slot(key)
        if slot is not None:
            self._send(slot, tier, now)

    def kind(self, key: int, kind: int) -> None:
        """What it is has turned out."""
        slot = self.signals.slot(key)
        if slot is not None:
            self.signals.wish[slot] = min(kind, KINDS - 1) * HINTS + self.signals.wish[slot] % HINTS
            self._classify(slot)

    def hint(self, key: int, hint: int) -> None:
        slot = self.signals.slot(key)
        if slot is not None:
            self._count_pinned(slot, -1)
            self.signals.wish[slot] = self.signals.wish[slot] // HINTS * HINTS + hint
            self._count_pinned(slot, 1)
            if self.signals.tier[slot] != NOWHERE:
                self._residents[self.signals.tier[slot]].was_read(slot)  # and is worth something else

    def pin_fits(self, key: int) -> bool:
        """Whether its tier has room for it beside all else that is pinned there; True of what is not pinned."""
        slot = self.signals.slot(key)
        return slot is None or not self._is_pinned(slot) or self._pin_fits(slot)

    def _pinned_to(self, slot: int) -> int:
        return min(len(self.used) - 1, self.signals.wish[slot] % HINTS - Hint.PIN_FIRST)

    def _pin_fits(self, slot: int) -> bool:
        tier = self._pinned_to(slot)
        beside = self._pinned[tier] - (self.signals.size[slot] if self.signals.tier[slot] == tier else 0.0)
        return beside + self.signals.size[slot] <= self.prices.tiers[tier].capacity_bytes

    def _added(self, key: int, size: float, now: float, kind: int, hint: int) -> int:
        if self.signals.slot(key) is not None:
            raise ValueError(f"object {key} has a place")
        slot = self.signals.add(key, size, now, min(kind, KINDS - 1), hint)
        self._classify(slot)
        return slot

    def _classify(self, slot: int) -> None:
        signals = self.signals
        signals.group[slot] = class_of(signals.reads[slot], signals.gap[slot], signals.wish[slot] // HINTS)

    def _leave(self, slot: int) -> None:
        tier = self.signals.tier[slot]
        if tier != NOWHERE:
            self._count_pinned(slot, -1)
            self._residents[tier].remove(slot)
            self.used[tier] -= self.signals.size[slot]

    def _book(self, slot: int, tier: int, now: float) -> None:
        self._leave(slot)
        self.signals.entered(slot, tier, now)
        self._residents[tier].add(slot)
        self.used[tier] += self.signals.size[slot]
        self._count_pinned(slot, 1)

    def _count_pinned(self, slot: int, sign: int) -> None:
        """Where it is booked, if it is pinned there."""
        tier = self.signals.tier[slot]
        if self._is_pinned(slot) and self._pinned_to(slot) == tier:
            self._pinned[tier] += sign * self.signals.size[slot]

    def _send(self, slot: int, tier: int, now: float) -> None:
        """Books it there by a verdict, that may come to nothing."""
        signals = self.signals
        key, source = signals.key[slot], signals.tier[slot]
        if source != NOWHERE and key not in self._left:
            self._left[key] = Left(source, signals.moved[slot], signals.fell[slot])
        self._book(slot, tier, now)
        left = self._left.get(key)
        if left is not None and left.tier == tier:  # it need not go at all
            signals.moved[slot], signals.fell[slot] = left.moved, left.fell
            del self._left[key]

    def dump(self) -> bytes:
        """All of it but the prices and settings, so that heat survives a restart."""
        return encode(self.state())

    def state(self) -> dict[str, Any]:
        """What `dump` encodes: a copy, so that a thread may do that."""
        return drained(self.state_in_steps())

    def state_in_steps(self) -> Generator[None, None, dict[str, Any]]:
        """As `state`, in steps that do not grow with the number of objects. Nothing is told or asked in between."""
        signals = yield from self.signals.dump()
        residents = []
        for each in self._residents:
            residents.append((yield from each.dump()))
        return {
            "format": FORMAT,
            "tiers": [each.name for each in self.prices.tiers],
            "began": self.began,
            "signals": signals,
            "forecast": self.forecast.dump(),
            "used": list(self.used),
            "room_price": list(self.room_price),
            "residents": residents,
            "hand": self._hand,
            "left": [[key, *left] for key, left in self._left.items()],
        }

    @classmethod
    def load(
        cls, data: bytes, prices: PriceList, settings: PolicySettings | None = None, now: float = math.inf
    ) -> Self:
        """*now*: what is known from a later time was written under a clock that was ahead, and counts from now.

        Tiers may have been added since, and horizons changed. Raises: ValueError if *data* is not what `dump` gave, or
        of other tiers.
        """
        state = decode(data)
        if state["format"] != FORMAT:
            raise ValueError("the state is of another format")
        state = among(state, [each.name for each in prices.tiers])
        made = cls(prices, state["began"], settings)
        made.signals = Signals.load(state["signals"])
        made.forecast = Forecast.load(state["forecast"], made.settings.horizons_s)
        made.used, made.room_price = state["used"], state["room_price"]
        made._hand = state["hand"]
        made._residents = [Residents(made.signals.place, seed) for seed in range(1, len(prices.tiers) + 1)]
        for residents, each in zip(made._residents, state["residents"], strict=True):
            if each is not None:
                residents.load(each)
                if made.settings.horizons_s != tuple(state["forecast"]["horizons_s"]):
                    residents.forget_worths()
        made._pinned = made._sum_pinned()
        made._left = {key: Left(*left) for key, *left in state["left"]}
        made._rewind(now)
        return made

    def _sum_pinned(self) -> list[float]:
        found = [0.0] * len(self.used)
        signals = self.signals
        for slot, wish in enumerate(signals.wish):
            if wish % HINTS >= Hint.PIN_FIRST and signals.tier[slot] == self._pinned_to(slot):
                found[signals.tier[slot]] += signals.size[slot]
        return found

    def _rewind(self, now: float) -> None:
        """Ages and the time since it began stay what they were when the newest was known."""
        ahead = max(self.began, self.signals.newest_s()) - now
        if ahead > _CLOCK_AHEAD_S:
            self.began -= ahead
            self.signals.epoch_s -= ahead
            for each in self._residents:
                each.forget_worths()
