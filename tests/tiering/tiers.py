"""A small store for tests of the policy: three tiers with the prices of an appliance and a cloud behind it."""

import random
from collections.abc import Iterable, Iterator

from tiering.policy import Policy
from tiering.prices import DAY_S, PriceList, TierPrice
from tiering.verdict import Verdict
from tiering.worths import PolicySettings

MB = 1e6


def tiers(hot: float, warm: float, cold: float = float("inf")) -> PriceList:
    """Their capacities are in bytes."""
    return PriceList(
        [
            TierPrice("hot", 0.08, 0.0002, 2e9, capacity_bytes=hot),
            TierPrice("warm", 0.015, 0.010, 180e6, capacity_bytes=warm),
            TierPrice(
                "cold", 0.0125, 0.08, 60e6, usd_get=1e-6, usd_put=1e-5, usd_read_gb=0.1, stay_days_min=30,
                billed_bytes_min=128 * 1024, capacity_bytes=cold,
            ),
        ]
    )  # fmt: skip


def policy(hot: float, warm: float, cold: float = float("inf"), warmup_s: float = 0.0) -> Policy:
    return Policy(tiers(hot, warm, cold), 0.0, PolicySettings(warmup_s=warmup_s))


class Places:
    """Where objects are when each verdict is carried out as it is given; what a policy does is checked on the way."""

    def __init__(self, made: Policy) -> None:
        self.policy = made
        self.size: dict[int, float] = {}
        self.tier: dict[int, int] = {}
        self.moves: list[Verdict] = []

    def place(self, key: int, size: float, now: float, hint: int = 0) -> None:
        self.size[key] = size
        self._done(self.policy.place(key, size, now, hint=hint))

    def read(self, key: int, now: float) -> list[Verdict]:
        return self._done(self.policy.read(key, now))

    def review(self, now: float, looks: int = 64) -> list[Verdict]:
        return self._done(self.policy.review(now, looks))

    def remove(self, key: int) -> None:
        self.policy.removed(key)
        del self.size[key], self.tier[key]

    def used(self, tier: int) -> float:
        return sum(self.size[key] for key, at in self.tier.items() if at == tier)

    def _done(self, verdicts: list[Verdict]) -> list[Verdict]:
        for verdict in verdicts:
            assert self.tier.get(verdict.key) == verdict.source
            assert verdict.target != verdict.source
            self.tier[verdict.key] = verdict.target
            self.policy.arrived(verdict.key)
            assert verdict.holds()
        self.moves += verdicts
        self.check()
        return verdicts

    def check(self) -> None:
        for number, price in enumerate(self.policy.prices.tiers):
            used = self.used(number)
            assert used <= price.capacity_bytes * (1 + 1e-9)
            assert abs(self.policy.used[number] - used) <= 1e-6 * max(1.0, used)
        assert {key: self.policy.where(key) for key in self.tier} == self.tier


def popular(count: int, accesses: int, days: float, seed: int = 1) -> Iterator[tuple[float, int, float]]:
    """Time, key and size of each access: a few keys are read often, most hardly ever."""
    rng = random.Random(seed)
    sizes = [min(40 * MB, rng.lognormvariate(14, 1.5)) for _ in range(count)]
    weights = [1 / (rank + 1) for rank in range(count)]
    keys: Iterable[int] = rng.choices(range(count), weights, k=accesses)
    for number, key in enumerate(keys):
        yield number * days * DAY_S / accesses, key, sizes[key]
