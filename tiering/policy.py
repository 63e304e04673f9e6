"""Which tier an object belongs into: pure decisions over signals, forecast, prices and room.

An object enters a tier if it is worth more there (``worths.py``) than those that must make room for it, by a margin,
and if the gain pays the fees of all the moves.

- Admission: on a read, an object that is not in the fastest tier tries each faster one. What was read for the first
  time in a scan is expected to be read as others like it: hardly ever.
- Hysteresis: the margin, and one above it for a day behind a demotion.
- Room: what an object displaces goes to the next tier that takes it, so no tier is ever above its capacity by a
  decision of ours.
- Pressure, from writes and shrunken tiers, is relieved whatever else holds: past tiers that take nothing now, into the
  next one that does.

All is booked when it is decided; who carries a move out and fails says so with `Policy.moved`.
"""

import math
from collections.abc import Collection
from dataclasses import replace

from tiering.bookings import Bookings
from tiering.forecast import AGES_S
from tiering.prices import PriceList
from tiering.residents import Valued
from tiering.signals import HINTS, NOWHERE, Hint
from tiering.verdict import Case, Cause, Verdict
from tiering.worths import PolicySettings

_IDLE_LOOKS = 2
"""Objects that each access credits with what they were not read."""
_STALE_PART = 1 / 48
"""Of a horizon, after which the worth of a candidate is looked at again."""
_PRICE_WEIGHT = 0.1
_RELIEF_MAX = 50
"""Objects that one call relieves a tier of; the next one goes on."""
_SAMPLES_MAX = 3
"""That are drawn for one newcomer, as long as each has more of what is worth less: one alone has too few small objects
to make room for a large one, whatever they are worth, which would be fetched from afar each time. More of them move
more for little."""
_FREE_PART = 0.05
"""A tier with more of its room free than this has room for nothing's sake."""


class Policy(Bookings):
    """State of all decisions of one store. Keys are 64-bit integers; *now* is in seconds and does not go back.

    Whoever carries moves out sets, and neither is dumped:

    closed  tiers that take nothing now: nothing is sent there but what is pinned
    stuck   keys of objects that cannot be moved now: they make no room for others
    """

    def __init__(self, prices: PriceList, now: float, settings: PolicySettings | None = None) -> None:
        super().__init__(prices, now, settings)
        self._promised = 0.0
        """Bytes that must still find room in the slowest open tier."""
        self.closed: frozenset[int] = frozenset()
        self.stuck: Collection[int] = ()
        self._pin_hand = self._kept_hand = 0
        self._out: list[Verdict] = []

    def place(self, key: int, size: float, now: float, *, kind: int = 0, hint: int = Hint.NONE) -> list[Verdict]:
        """A new object. The last verdict is its own; those before it make room for it.

        Raises: ValueError if *key* is known.
        """
        self._settle(self._added(key, size, now, kind, hint), now, 0, Cause.PLACED)
        return self._taken()

    def read(self, key: int, now: float, *, count: float | None = None, offset: int | None = None) -> list[Verdict]:
        """It was read: *count* bytes from *offset* on, all if None. Returns the moves that this makes worth it.

        In order: each has room once those before it are done, but that two objects may have to change places.
        """
        signals = self.signals
        slot = signals.slot(key)
        if slot is None:
            return []
        if not self._touched(slot, now, count, offset):
            return []
        self._climb(slot, now, in_hand=count is None or count >= signals.size[slot])
        return self._taken()

    def consider(self, key: int, now: float, *, in_hand: bool = False) -> list[Verdict]:
        """The moves that are worth it for this object without a new access: none, unless facts have changed."""
        slot = self.signals.slot(key)
        if slot is not None:
            self._climb(slot, now, in_hand=in_hand)
        return self._taken()

    def wrote(self, key: int, size: float, now: float) -> None:
        """It was overwritten or extended, which is an access too, and has *size* bytes now."""
        slot = self.signals.slot(key)
        if slot is not None:
            self.resized(key, size)
            self._touched(slot, now, None, None)

    def pin(self, key: int, tier: int, now: float) -> list[Verdict]:
        """It goes to *tier* and stays there, until `hint` says otherwise; what must make room does."""
        slot = self.signals.slot(key)
        if slot is None:
            return []
        self.hint(key, Hint.PIN_FIRST + tier)
        self._follow_pin(slot, now)
        return self._taken()

    def pins(self, now: float, looks: int, but: Collection[int]) -> tuple[list[Verdict], set[int]]:
        """As `pin`, of those of the next *looks* objects that lie elsewhere than they are pinned to; *but* not of such
        as are to go to these tiers: which of them that were is returned too."""
        signals, skipped = self.signals, set[int]()
        count = signals.slots
        for _ in range(min(looks, count)):
            self._pin_hand = slot = self._pin_hand + 1 if self._pin_hand + 1 < count else 0
            if signals.tier[slot] == NOWHERE or not self._is_pinned(slot):
                continue
            target = self._pinned_to(slot)
            if target != signals.tier[slot] and target in but:
                skipped.add(target)
            else:
                self._follow_pin(slot, now)
        return self._taken(), skipped

    def kept(self, looks: int) -> list[int]:
        """Keys of those of the next *looks* objects that were restored until a date, on a hand of its own."""
        signals, count = self.signals, self.signals.slots
        found = []
        for _ in range(min(looks, count)):
            self._kept_hand = slot = self._kept_hand + 1 if self._kept_hand + 1 < count else 0
            if signals.wish[slot] % HINTS == Hint.KEPT and signals.tier[slot] != NOWHERE:
                found.append(signals.key[slot])
        return found

    def back(self, key: int, tier: int, now: float) -> list[Verdict]:
        """The date has passed until which it was restored: it goes back to *tier*, if that takes something."""
        slot = self.signals.slot(key)
        if slot is None or self.signals.tier[slot] >= tier or tier in self.closed:
            return []
        source = self.signals.tier[slot]
        inputs = self._inputs(slot, source, now, 0.0)
        self._send(slot, tier, now)
        return [Verdict(key, source, tier, now, Cause.RESTORED, inputs, None)]

    def _nearest(self, slot: int) -> int:
        """To where it is pinned: the first tier from there on that it fits in without making room."""
        if self._pin_fits(slot):
            return self._pinned_to(slot)
        size = self.signals.size[slot]
        for tier in range(self._pinned_to(slot) + 1, len(self.used) - 1):
            if tier not in self.closed and self.used[tier] + size <= self.prices.tiers[tier].capacity_bytes:
                return tier
        return len(self.used) - 1

    def _follow_pin(self, slot: int, now: float) -> None:
        """Not where it does not fit: then it would push out all others, and wait for room for ever."""
        source, tier = self.signals.tier[slot], self._pinned_to(slot)
        if source != tier and self._pin_fits(slot):
            inputs = self._inputs(slot, min(tier, source), now, 0.0)
            self._send(slot, tier, now)
            if tier not in self.closed:
                self._relieve(tier, now)
            self._out.append(Verdict(self.signals.key[slot], source, tier, now, Cause.PIN, inputs, None))

    def gathered(self, key: int, stray: int, count: float, now: float, *, idle_s: float) -> Verdict | None:
        """The *count* bytes of it in tier *stray* go where it is booked, if it was idle for so long. Books nothing: it
        is booked as a whole. Of the verdict the size is what moves."""
        slot = self.signals.slot(key)
        if slot is None or self.signals.age_s(slot, now) < idle_s or self.signals.tier[slot] == stray:
            return None
        tier = self.signals.tier[slot]
        inputs = self._inputs(slot, min(stray, tier), now, 0.0)
        inputs = replace(inputs, use=replace(inputs.use, size=count))
        return Verdict(key, stray, tier, now, Cause.GATHERED, inputs, None)

    def review(self, now: float, looks: int = 64) -> list[Verdict]:
        """What pressure demands, and of the next *looks* objects what a slower tier holds more cheaply."""
        for tier in range(len(self.used) - 1):
            self._relieve(tier, now)
        for slot in self._credit(now, looks):
            if self._is_pinned(slot):
                self._follow_pin(slot, now)  # there may be room for it now
            self._retire(slot, now)
        return self._taken()

    def look(self, key: int, now: float) -> list[Verdict]:
        """As `review` when its turn comes, of this object alone."""
        slot = self.signals.slot(key)
        if slot is not None:
            self._retire(slot, now)
        return self._taken()

    def _taken(self) -> list[Verdict]:
        out, self._out = self._out, []
        return out

    def _touched(self, slot: int, now: float, count: float | None, offset: int | None) -> bool:
        """Counts an access. False: it goes on with the one before."""
        signals = self.signals
        age, group, credited = signals.age_s(slot, now), signals.group[slot], signals.credited[slot]
        if not signals.touch(slot, now, count, offset):
            return False
        self._classify(slot)
        self.forecast.happened(group, credited, age)
        self._credit(now, _IDLE_LOOKS)
        self.forecast.keep_up()
        self._residents[signals.tier[slot]].was_read(slot)
        return True

    def _climb(self, slot: int, now: float, *, in_hand: bool) -> None:
        if self.warming(now) or self._stays(slot):
            return
        for target in range(self.signals.tier[slot]):
            if self._enter(slot, target, now, Cause.POLICY, in_hand=in_hand):
                return

    def _credit(self, now: float, looks: int) -> list[int]:
        """Goes on around all objects; tells the forecast of those that were not read. Returns whom it looked at."""
        signals, seen = self.signals, []
        count, lag = signals.slots, now - signals.epoch_s
        for _ in range(min(looks, count)):
            self._hand = slot = self._hand + 1 if self._hand + 1 < count else 0
            if signals.tier[slot] == NOWHERE:
                continue
            seen.append(slot)
            age, credited = lag - signals.last[slot], signals.credited[slot]
            if credited < len(AGES_S) and age >= AGES_S[credited]:
                signals.credited[slot] = self.forecast.survived(signals.group[slot], credited, age)
        return seen

    def _settle(
        self, slot: int, now: float, first: int, cause: Cause, for_key: int | None = None, case: Case | None = None
    ) -> None:
        """Into the first tier from *first* on that takes it, the slowest if none does. *case*: why it has to go."""
        signals = self.signals
        last = self._slowest()
        if cause is Cause.PLACED and self._is_pinned(slot):
            first = last = self._nearest(slot)
        for tier in range(first, last):
            if self._enter(slot, tier, now, cause, in_hand=False, for_key=for_key):
                return
        source = signals.tier[slot]
        inputs = self._inputs(slot, max(0, last - 1), now, 0.0)
        self._send(slot, last, now)
        origin = None if source == NOWHERE else source
        self._out.append(Verdict(signals.key[slot], origin, last, now, cause, inputs, case, for_key))

    def _enter(
        self, slot: int, tier: int, now: float, cause: Cause, *, in_hand: bool, for_key: int | None = None
    ) -> bool:
        """Into *tier* if that pays; those displaced go down. False: nothing has changed."""
        if tier in self.closed:
            return False
        signals = self.signals
        size = signals.size[slot] or 1.0
        capacity = self.prices.tiers[tier].capacity_bytes
        worth = self.worth(slot, tier, now)
        if size > capacity or worth <= 0:
            return False
        source = signals.tier[slot]
        need = self.used[tier] + size - capacity
        margin = self._margin(slot, tier, now)
        chosen: list[Valued] = []
        if need > 0:
            chosen = self._displaceable(tier, need, worth / margin - self.room_price[tier + 1], now)
            if not chosen:
                return False
        elif -need > _FREE_PART * capacity:
            self.room_price[tier] *= 1 - _PRICE_WEIGHT
        case = self._case(slot, tier, worth, margin, chosen, now, in_hand=in_hand)
        if not case.pays():
            return False
        marginal = 0.0
        if chosen:
            marginal = max(0.0, chosen[-1][0] + self.room_price[tier + 1])
            self.room_price[tier] += _PRICE_WEIGHT * (marginal - self.room_price[tier])
        inputs = self._inputs(slot, tier, now, marginal)
        self._send(slot, tier, now)
        key = signals.key[slot]
        sizes = sum(signals.size[each] for _, each, _ in chosen)
        self._promised += sizes
        for _, each, _ in chosen:
            self._promised -= signals.size[each]
            self._settle(each, now, tier + 1, Cause.PRESSURE if cause is Cause.PRESSURE else Cause.POLICY, key, case)
        origin = None if source == NOWHERE else source
        self._out.append(Verdict(key, origin, tier, now, cause, inputs, case, for_key))
        return True

    def _displaceable(self, tier: int, need: float, below: float, now: float) -> list[Valued]:
        """Worth and slot of those that make *need* bytes free, each worth less than *below*; none if too few are."""
        sizes = self.signals.size
        least, at = self._residents[tier].floor
        if below <= least and at >= now - self._stale_s(tier):
            return []
        chosen: list[Valued] = []
        freed = before = 0.0
        found: dict[int, Valued] = {}
        for _ in range(_SAMPLES_MAX):
            found |= {each[1]: each for each in self._least(tier, now)}
            chosen, before, freed = [], freed, 0.0
            for each in sorted(found.values()):
                if freed >= need or each[0] >= below:
                    break
                chosen.append(each)
                freed += sizes[each[1]]
            if freed >= need or freed <= before:
                break
        if freed < need or freed > self._room_below(tier):
            return []
        for each in reversed(chosen[:-1]):
            # One that came last may be so large that others need not go.
            if freed - sizes[each[1]] >= need:
                freed -= sizes[each[1]]
                chosen.remove(each)
        return chosen

    def _least(self, tier: int, now: float) -> list[Valued]:
        """Of those that can be moved; least first, and empty if none was found."""
        residents, keys = self._residents[tier], self.signals.key
        found = residents.least(lambda slots: self._worths(slots, tier, now), now - self._stale_s(tier))
        return [each for each in found if keys[each[1]] not in self.stuck] if self.stuck else found

    def _stale_s(self, tier: int) -> float:
        return _STALE_PART * self.settings.horizons_s[0 if tier == 0 else 1]

    def _slowest(self) -> int:
        """Of the tiers that take something."""
        last = len(self.used) - 1
        if not self.closed:
            return last
        return max((tier for tier in range(last + 1) if tier not in self.closed), default=0)

    def _room_below(self, tier: int) -> float:
        """Bytes that the slowest open tier can surely take."""
        last = self._slowest()
        if tier >= last:
            return 0.0
        return self.prices.tiers[last].capacity_bytes - self.used[last] - self._promised

    def _relieve(self, tier: int, now: float) -> None:
        """Down from *tier* until it is within its capacity, those worth least first."""
        if tier >= self._slowest():
            return
        capacity = self.prices.tiers[tier].capacity_bytes
        most = len(self._out) + _RELIEF_MAX
        while self.used[tier] > capacity * (1 + 1e-12) and (found := self._least(tier, now)):
            for worth, slot, _ in found:
                if self.used[tier] <= capacity:
                    break
                if len(self._out) >= most:
                    return
                if worth == math.inf or self.signals.size[slot] > self._room_below(tier):
                    return
                self._settle(slot, now, tier + 1, Cause.PRESSURE)

    def _retire(self, slot: int, now: float) -> None:
        """To the next tier if what that saves in storage is worth the slower reads, and the way back.

        By the short horizon as well as by the long one: what has just come up by the short one does not go back.
        """
        signals, prices = self.signals, self.prices
        tier = signals.tier[slot]
        if tier + 1 >= len(self.used) or tier + 1 in self.closed or self.warming(now) or self._stays(slot):
            return
        size = signals.size[slot] or 1.0
        if self.used[tier + 1] + size > prices.tiers[tier + 1].capacity_bytes or self.worth(slot, tier, now) >= 0:
            return
        long = len(self.settings.horizons_s) - 1
        worth = self._worths((slot,), tier, now, long)[0][0] + self.room_price[tier + 1]
        if worth >= 0:
            return
        fees = prices.move_usd(tier, tier + 1, size, signals.held_s(slot, now), in_hand=False)
        fees += prices.move_usd(tier + 1, tier, size, 0.0, in_hand=True)
        case = Case(-worth * size, fees_usd=fees, payback_s=self.settings.payback_s)
        if case.pays():
            inputs = self._inputs(slot, tier, now, 0.0, long)
            self._send(slot, tier + 1, now)
            self._out.append(Verdict(signals.key[slot], tier, tier + 1, now, Cause.POLICY, inputs, case))
