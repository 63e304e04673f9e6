"""The policy as a simulator of tiers calls it: the same classes as in a store, with moves that take effect at once."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from tiering.policy import Policy
from tiering.prices import PriceList, TierPrice
from tiering.verdict import Verdict
from tiering.worths import PolicySettings


class SimulatedTier(Protocol):
    """A tier of the simulator: dollars, seconds and bytes."""

    name: str
    usd_gb_month: float
    latency: float
    bandwidth: float
    usd_get: float
    usd_put: float
    usd_read_gb: float
    min_days: float
    min_bytes: int
    capacity: float


class Context(Protocol):
    """What the simulator lets a policy see."""

    tiers: Sequence[SimulatedTier]
    tick: float

    def where(self, key: int) -> int | None: ...


class Simulated:
    """*eager*: asked for decisions after each access as well as at each tick."""

    eager = True

    def __init__(self, context: Context, settings: PolicySettings) -> None:
        self._context = context
        self._settings = settings
        self._policy: Policy | None = None
        self._prices = PriceList([_price(tier) for tier in context.tiers])
        self._waiting: list[Verdict] = []
        self._reviewed = 0.0

    @property
    def policy(self) -> Policy | None:
        """None before the first access."""
        return self._policy

    def place(self, key: int, size: float, t: float) -> int:
        *room, own = self._begun(t).place(key, size, t)
        self._take(room)
        return own.target

    def on_access(self, key: int, size: float, op: str, t: float) -> None:
        policy = self._begun(t)
        if policy.where(key) is None:  # preloaded: it was there before
            policy.landed(key, size, self._context.where(key) or 0, t)
            self._take(policy.consider(key, t, in_hand=op == "get"))
        elif op == "get":
            self._take(policy.read(key, t))

    def decisions(self, t: float) -> list[tuple[int, int, str]]:
        if self._policy is not None and t - self._reviewed >= self._context.tick:
            self._reviewed = t
            self._take(self._policy.review(t, looks=max(64, len(self._policy.signals) // 24)))
        verdicts, self._waiting = self._waiting, []
        return [(verdict.key, verdict.target, verdict.reason()) for verdict in verdicts]

    def moved(self, key: int, src: int, dst: int, size: float, t: float, cause: str) -> None:
        if cause == "forced" and self._policy is not None:
            self._policy.moved(key, dst, t)

    def _take(self, verdicts: Iterable[Verdict]) -> None:
        """The simulator carries out whatever it is told."""
        assert self._policy is not None
        for verdict in verdicts:
            self._policy.arrived(verdict.key)
            self._waiting.append(verdict)

    def _begun(self, t: float) -> Policy:
        if self._policy is None:
            self._policy = Policy(self._prices, t, self._settings)
            self._reviewed = t
        return self._policy


def factory(context: Context) -> Simulated:
    """For ``tiersim.py --policy tiering.simulation:factory``. No warm-up: a trace has no time for it."""
    return Simulated(context, PolicySettings(warmup_s=0.0))


def _price(tier: SimulatedTier) -> TierPrice:
    return TierPrice(
        name=tier.name,
        usd_gb_month=tier.usd_gb_month,
        latency_s=tier.latency,
        bandwidth=tier.bandwidth,
        usd_get=tier.usd_get,
        usd_put=tier.usd_put,
        usd_read_gb=tier.usd_read_gb,
        stay_days_min=tier.min_days,
        billed_bytes_min=tier.min_bytes,
        capacity_bytes=tier.capacity,
    )
