"""What an object is worth in each tier, by signals, forecast and prices: what all decisions compare.

Dollars a byte and second that the faster of two tiers saves over the slower one by the reads that are expected, less
its dearer storage, and more by what the room that is left in the slower one is worth to others (a shadow price: what
the last object displaced there was worth).
"""

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from tiering.forecast import AGE_MAX_S, AGES_S, LOW_S, PER_S, ROW, Forecast, hour_factor
from tiering.prices import DAY_S, PriceList
from tiering.residents import Valued
from tiering.signals import HINT_FACTOR, HINTS, HOUR_GATHERED, NOWHERE, SPIKE_FACTOR, Hint, Signals
from tiering.verdict import Case, Inputs


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """Of margins, and of the first two horizons, the first is of the fastest tier and the second of all others.

    horizons_s  over which reads are expected: a longer memory for slower tiers; the last is for leaving a tier that has
                room, which must be right for as long as the fees of a slower one last
    margins     by which a newcomer must be worth more than what it displaces
    fell_margin times the margin, for an object that came down less than fell_s ago
    payback_s   in which a move must have paid its fees
    warmup_s    from the first use of the policy: only new objects and pressure are acted upon
    """

    horizons_s: tuple[float, float, float] = (1 * DAY_S, 3 * DAY_S, 30 * DAY_S)
    margins: tuple[float, float] = (1.1, 1.25)
    fell_margin: float = 1.2
    fell_s: float = DAY_S
    payback_s: float = 30 * DAY_S
    warmup_s: float = 7 * DAY_S


class Worths:
    """The state that worth follows from. *now* is in seconds and does not go back.

    used        bytes booked in each tier
    room_price  dollars a byte and second that a tier's room is worth at the margin
    """

    def __init__(self, prices: PriceList, now: float, settings: PolicySettings) -> None:
        self.prices = prices
        self.settings = settings
        self.began = now
        self.signals = Signals(now)
        self.forecast = Forecast(settings.horizons_s)
        self.used = [0.0] * len(prices.tiers)
        self.room_price = [0.0] * len(prices.tiers)

    def warming(self, now: float) -> bool:
        return now < self.began + self.settings.warmup_s

    def worth(self, slot: int, tier: int, now: float) -> float:
        """Dollars a byte and second of lying in *tier* and not in the next one."""
        return self._worths((slot,), tier, now)[0][0] + self.room_price[tier + 1]

    def _is_pinned(self, slot: int) -> bool:
        return self.signals.wish[slot] % HINTS >= Hint.PIN_FIRST

    def _stays(self, slot: int) -> bool:
        """Pinned, or restored until a date."""
        return self.signals.wish[slot] % HINTS >= Hint.KEPT

    def _hour_factor(self, slot: int, now: float, horizon_s: float) -> float:
        hour = self.signals.hour(slot)
        return 1.0 if hour is None else hour_factor(hour, now, horizon_s)

    def _worths(self, slots: Iterable[int], tier: int, now: float, horizon: int | None = None) -> list[Valued]:
        """Worth and slot of each, but for what room in the next tier is worth; what stays is worth any price."""
        # Runs for every candidate of every decision: Forecast.rate and Step.gain_usd_s stand in the loop.
        signals, step = self.signals, self.prices.steps[tier]
        horizon = min(tier, 1) if horizon is None else horizon
        horizon_s = self.settings.horizons_s[horizon]
        per_read, per_byte = step.read / horizon_s, step.byte / horizon_s / 256
        lag, ahead = now - signals.epoch_s, self.forecast.ahead[horizon]
        sizes, lasts, groups, wishes, parts = signals.size, signals.last, signals.group, signals.wish, signals.part
        hours_x, hours_y = signals.hour_x, signals.hour_y
        found = []
        for slot in slots:
            size = sizes[slot] or 1.0
            age = lag - lasts[slot]
            if age > AGE_MAX_S:
                age = AGE_MAX_S
            elif age < 0.0:
                age = 0.0
            span = bisect_right(AGES_S, age)
            at = groups[slot] * ROW + span
            first = ahead[at]
            reads = first + (ahead[at + 1] - first) * (age - LOW_S[span]) * PER_S[span]
            if wishes[slot] % HINTS:
                if wishes[slot] % HINTS >= Hint.KEPT:
                    found.append((math.inf, slot, now))
                    continue
                reads *= HINT_FACTOR.get(wishes[slot] % HINTS, 1.0)
            if hours_x[slot] * hours_x[slot] + hours_y[slot] * hours_y[slot] >= HOUR_GATHERED:
                reads *= self._hour_factor(slot, now, horizon_s)
            gain = reads * (per_read / size + per_byte * (parts[slot] + 1))
            found.append((gain - step.hold_usd_s(size) / size, slot, now))
        return found

    def _margin(self, slot: int, tier: int, now: float) -> float:
        signals, settings = self.signals, self.settings
        margin = settings.margins[0 if tier == 0 else 1]
        if signals.fell[slot] and tier < signals.tier[slot] and signals.held_s(slot, now) < settings.fell_s:
            return margin * settings.fell_margin
        if tier < signals.tier[slot] and signals.spike(slot) >= SPIKE_FACTOR:
            return 1.0
        return margin

    def _case(
        self, slot: int, tier: int, worth: float, margin: float, chosen: list[Valued],
        now: float, *, in_hand: bool
    ) -> Case:  # fmt: skip
        signals, prices = self.signals, self.prices
        size = signals.size[slot] or 1.0
        source = signals.tier[slot]
        fees = 0.0
        if source != NOWHERE:
            fees = prices.move_usd(source, tier, size, signals.held_s(slot, now), in_hand=in_hand)
        fees += len(chosen) * prices.tiers[tier + 1].usd_put
        room = self.room_price[tier + 1]
        freed = sum(signals.size[each] for _, each, _ in chosen) or 1.0
        saved = sum(max(0.0, each + room) * signals.size[one] for each, one, _ in chosen)
        return Case(
            gain_usd_s=worth * size,
            displaced_usd_s=saved * min(1.0, size / freed),
            margin=margin,
            fees_usd=fees,
            payback_s=self.settings.payback_s,
        )

    def _inputs(self, slot: int, tier: int, now: float, marginal: float, horizon: int | None = None) -> Inputs:
        signals = self.signals
        tier = min(tier, len(self.prices.steps) - 1)
        age, group = signals.age_s(slot, now), signals.group[slot]
        horizon = min(tier, 1) if horizon is None else horizon
        hint = HINT_FACTOR.get(signals.wish[slot] % HINTS, 1.0)
        factor = hint * self._hour_factor(slot, now, self.settings.horizons_s[horizon])
        return Inputs(
            use=signals.use(slot, now),
            group=group,
            alike=self.forecast.seen(group, age),
            factor=factor,
            reads_day=self.forecast.rate(group, age, horizon) * factor * DAY_S,
            horizon_s=self.settings.horizons_s[horizon],
            worth=self._worths((slot,), tier, now, horizon)[0][0] + self.room_price[tier + 1],
            marginal=marginal,
        )
