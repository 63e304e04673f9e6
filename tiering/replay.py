"""Recorded accesses under a policy: what they would have cost, how long they would have taken, what would have moved.

Pure. Moves take effect at once and are paid for as the price list says; what is written counts as one request of the
tier that takes it. Objects that were not accessed at all lie where they lie, and are paid for too. The policy knows
nothing of the time before, and does not wait to learn: so does the one that it is compared with.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tiering.policy import Policy
from tiering.prices import MONTH_S, PriceList
from tiering.recording import Access, Kind
from tiering.verdict import Verdict
from tiering.worths import PolicySettings

REVIEW_S = 3600.0
_REVIEWS = 24
"""In so many reviews each object has its turn, and 64 in each at least: as in the engine."""
_LOOKS_MIN = 64


class Stored(NamedTuple):
    """An object that was there when the recording began; *tier* is a number, the fastest is 0."""

    key: int
    size: int
    tier: int


@dataclass(slots=True)
class Outcome:
    """Dollars, seconds and bytes. Of lists each item is of one tier.

    usd_early  for stays that were shorter than what is billed at least
    wait_s     of all reads together
    """

    seconds: float
    usd_storage: list[float]
    usd_requests: float = 0.0
    usd_early: float = 0.0
    wait_s: float = 0.0
    usd_waiting: float = 0.0
    reads: list[int] = field(default_factory=list)
    read_bytes: list[float] = field(default_factory=list)
    moves: int = 0
    moved_bytes: float = 0.0
    stored_bytes: list[float] = field(default_factory=list)

    @property
    def usd(self) -> float:
        """Paid; waiting is not."""
        return sum(self.usd_storage) + self.usd_requests + self.usd_early

    @property
    def usd_month(self) -> float:
        return self.usd * MONTH_S / self.seconds if self.seconds else 0.0

    @property
    def wait_mean_s(self) -> float:
        count = sum(self.reads)
        return self.wait_s / count if count else 0.0


def replay(
    stored: Iterable[Stored], accesses: Iterable[Access], prices: PriceList, settings: PolicySettings, since: float,
    until: float,
) -> Outcome:  # fmt: skip
    """*accesses* in the order of their times, which lie from *since* to *until*."""
    replayed = _Replay(prices, settings, since)
    for each in stored:
        replayed.landed(each)
    replayed.relieve()
    for access in accesses:
        replayed.pass_time(access.at)
        replayed.accessed(access)
    replayed.pass_time(until)
    return replayed.outcome(until)


class _Replay:
    def __init__(self, prices: PriceList, settings: PolicySettings, since: float) -> None:
        count = len(prices.tiers)
        self._prices, self._since, self._reviewed = prices, since, since
        self._policy = Policy(prices, since, settings)
        self._sizes: dict[int, int] = {}
        self._tier: dict[int, int] = {}
        self._entered: dict[int, float] = {}
        self._billed = [0.0] * count
        self._billed_at = [since] * count
        self._out = Outcome(0.0, [0.0] * count, reads=[0] * count, read_bytes=[0.0] * count)

    def landed(self, each: Stored) -> None:
        self._policy.landed(each.key, each.size, each.tier, self._since)
        self._put(each.key, each.size, each.tier, self._since)

    def relieve(self) -> None:
        """Of what lies in tiers that are smaller under this policy."""
        while verdicts := self._policy.review(self._since, 0):
            self._carry_out(verdicts, self._since)

    def pass_time(self, now: float) -> None:
        """Reviews that are due."""
        while now - self._reviewed >= REVIEW_S:
            self._reviewed += REVIEW_S
            looks = max(_LOOKS_MIN, len(self._policy.signals) // _REVIEWS)
            self._carry_out(self._policy.review(self._reviewed, looks), self._reviewed)

    def accessed(self, access: Access) -> None:
        now, key = access.at, access.ino
        if access.kind == Kind.GONE:
            self._policy.removed(key)
            self._take(key, now)
        elif access.kind == Kind.WRITE:
            self._written(key, access.size or access.length, now)
        else:
            self._read(key, min(access.length, access.size or access.length), access.size or access.length, now)

    def outcome(self, until: float) -> Outcome:
        for tier in range(len(self._billed)):
            self._bill(tier, 0.0, until)
        out = self._out
        out.seconds = until - self._since
        out.usd_waiting = out.wait_s / 3600 * self._prices.usd_wait_hour
        out.stored_bytes = [0.0] * len(self._billed)
        for key, tier in self._tier.items():
            out.stored_bytes[tier] += self._sizes[key]
        return out

    def _read(self, key: int, count: int, size: int, now: float) -> None:
        if key not in self._tier:
            self.landed(Stored(key, size, 0))  # it was there, and is there no more
        tier = self._tier[key]
        price, out = self._prices.tiers[tier], self._out
        out.usd_requests += price.read_usd(count)
        out.wait_s += price.wait_s(count)
        out.reads[tier] += 1
        out.read_bytes[tier] += count
        whole = count >= self._sizes[key]
        self._carry_out(
            self._policy.read(key, now, count=None if whole else count), now, in_hand=key if whole else None
        )

    def _written(self, key: int, size: int, now: float) -> None:
        if key in self._tier:
            tier, entered = self._tier[key], self._entered[key]
            self._take(key, now, early=False)
            self._policy.wrote(key, size, now)
            self._put(key, size, tier, entered, billed_from=now)
        else:
            tier = 0
            self._appeared(key, size, now)
        self._out.usd_requests += self._prices.tiers[tier].usd_put
        self._carry_out(self._policy.review(now, 0), now)

    def _appeared(self, key: int, size: int, now: float) -> None:
        """New data lands in the fastest tier, and stays there if there is room."""
        policy = self._policy
        fits = policy.used[0] + size <= self._prices.tiers[0].capacity_bytes
        *room, own = policy.place(key, size, now)
        self._put(key, size, 0, now)
        self._carry_out(room, now)
        if own.target and fits:
            policy.moved(key, 0, now)
        elif own.target:
            self._carry_out((own,), now)

    def _carry_out(self, verdicts: Iterable[Verdict], now: float, in_hand: int | None = None) -> None:
        for verdict in verdicts:
            size, source, target = self._sizes[verdict.key], self._tier[verdict.key], verdict.target
            if verdict.key != in_hand:
                self._out.usd_requests += self._prices.tiers[source].read_usd(size)
            self._out.usd_requests += self._prices.tiers[target].usd_put
            self._take(verdict.key, now)
            self._put(verdict.key, size, target, now)
            self._policy.arrived(verdict.key)
            self._out.moves += 1
            self._out.moved_bytes += size

    def _put(self, key: int, size: int, tier: int, entered: float, billed_from: float | None = None) -> None:
        self._sizes[key], self._tier[key], self._entered[key] = size, tier, entered
        billed = max(size, self._prices.tiers[tier].billed_bytes_min)
        self._bill(tier, billed, entered if billed_from is None else billed_from)

    def _take(self, key: int, now: float, *, early: bool = True) -> None:
        tier = self._tier.pop(key, None)
        if tier is None:
            return
        price, size = self._prices.tiers[tier], self._sizes[key]
        if early:
            self._out.usd_early += price.early_usd(size, now - self._entered[key])
        self._bill(tier, -max(size, price.billed_bytes_min), now)

    def _bill(self, tier: int, more: float, now: float) -> None:
        """Storage until *now*; *more* bytes are billed from then on."""
        price = self._prices.tiers[tier].usd_byte_s
        self._out.usd_storage[tier] += self._billed[tier] * price * (now - self._billed_at[tier])
        self._billed[tier] += more
        self._billed_at[tier] = now


def compared(names: Sequence[str], now: Outcome, other_names: Sequence[str], other: Outcome) -> dict[str, Any]:
    """Both as plain values for JSON; *names* of the tiers of each, fastest first."""
    saved = now.usd_month - other.usd_month
    return {"now": _plain(names, now), "other": _plain(other_names, other), "saved_usd_month": saved}


def _plain(tiers: Sequence[str], out: Outcome) -> dict[str, Any]:
    def by_tier(values: Iterable[float]) -> dict[str, float]:
        return dict(zip(tiers, values, strict=True))

    return {
        "seconds": out.seconds,
        "usd": out.usd,
        "usd_month": out.usd_month,
        "usd_storage": by_tier(out.usd_storage),
        "usd_requests": out.usd_requests,
        "usd_early": out.usd_early,
        "usd_waiting": out.usd_waiting,
        "wait_mean_s": out.wait_mean_s,
        "reads": by_tier(out.reads),
        "read_bytes": by_tier(out.read_bytes),
        "moves": out.moves,
        "moved_bytes": out.moved_bytes,
        "stored_bytes": by_tier(out.stored_bytes),
    }
