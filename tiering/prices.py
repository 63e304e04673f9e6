"""What a tier costs: storage, requests, retrieval, and the waiting of whoever reads from it, all in dollars.

Pure. Prices come from the settings of a store; the figures of a service's price list go in as they are printed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

DAY_S = 86_400.0
MONTH_S = 30 * DAY_S
GB = 1e9


@dataclass(frozen=True, slots=True)
class TierPrice:
    """One tier. Dollars, seconds and bytes; a GB has 10**9 bytes, a month 30 days, as in price lists.

    bought            its storage is paid for, whatever lies there: what it costs is told, and decides nothing
    stay_days_min     billed at least, for each object that enters
    billed_bytes_min  billed at least, for each object that lies there
    """

    name: str
    usd_gb_month: float
    latency_s: float
    bandwidth: float
    usd_get: float = 0.0
    usd_put: float = 0.0
    usd_read_gb: float = 0.0
    stay_days_min: float = 0.0
    billed_bytes_min: int = 0
    capacity_bytes: float = math.inf
    bought: bool = False

    def read_usd(self, count: float) -> float:
        """One read of *count* bytes: request, retrieval and egress."""
        return self.usd_get + self.usd_read_gb * count / GB

    def wait_s(self, count: float) -> float:
        return self.latency_s + count / self.bandwidth

    def hold_usd(self, size: float, seconds: float) -> float:
        return self.usd_gb_month * max(size, self.billed_bytes_min) / GB * seconds / MONTH_S

    @property
    def usd_byte_s(self) -> float:
        """What a byte that lies there costs more a second than one that does not."""
        return 0.0 if self.bought else self.usd_gb_month / GB / MONTH_S

    def early_usd(self, size: float, held_s: float) -> float:
        """Billed when it leaves after *held_s*, for the rest of the stay that is billed at least."""
        if self.bought:
            return 0.0
        return self.hold_usd(size, max(0.0, self.stay_days_min * DAY_S - held_s))


@dataclass(frozen=True, slots=True)
class Step:
    """What a read costs more in the slower of two tiers, waiting counted: a part for each read, and one for each byte.

    A linear form, for it is evaluated for every candidate of every decision.
    """

    read: float
    byte: float
    fast_byte_s: float
    slow_byte_s: float
    fast_billed_min: float
    slow_billed_min: float

    def gain_usd_s(self, reads_s: float, count: float, size: float) -> float:
        """Dollars a second that lying in the faster tier saves: *reads_s* reads a second of *count* bytes each."""
        return reads_s * (self.read + self.byte * count) - self.hold_usd_s(size)

    def hold_usd_s(self, size: float) -> float:
        """Dollars a second that the faster tier's storage costs more; below 0 where the slower one bills a minimum."""
        if size >= self.slow_billed_min and size >= self.fast_billed_min:
            return (self.fast_byte_s - self.slow_byte_s) * size
        fast, slow = max(size, self.fast_billed_min), max(size, self.slow_billed_min)
        return self.fast_byte_s * fast - self.slow_byte_s * slow


class PriceList:
    """The tiers of a store, fastest first. *usd_wait_hour* is what an hour of a user's waiting is worth."""

    def __init__(self, tiers: Sequence[TierPrice], usd_wait_hour: float = 1.0) -> None:
        self.tiers = tuple(tiers)
        self.usd_wait_hour = usd_wait_hour
        self.steps = tuple(self.step(i, i + 1) for i in range(len(self.tiers) - 1))

    def with_capacities(self, capacities: Sequence[float]) -> "PriceList":
        tiers = [replace(each, capacity_bytes=room) for each, room in zip(self.tiers, capacities, strict=True)]
        return PriceList(tiers, self.usd_wait_hour)

    def read_usd(self, tier: int, count: float) -> float:
        """One read and the waiting for it."""
        one = self.tiers[tier]
        return one.read_usd(count) + self.usd_wait_hour * one.wait_s(count) / 3600

    def step(self, fast: int, slow: int) -> Step:
        a, b = self.tiers[fast], self.tiers[slow]
        per_read = self.read_usd(slow, 0) - self.read_usd(fast, 0)
        wait_byte = self.usd_wait_hour / 3600 * (1 / b.bandwidth - 1 / a.bandwidth)
        return Step(
            per_read,
            (b.usd_read_gb - a.usd_read_gb) / GB + wait_byte,
            a.usd_byte_s,
            b.usd_byte_s,
            a.billed_bytes_min,
            b.billed_bytes_min,
        )

    def move_usd(self, source: int, target: int, size: float, held_s: float, *, in_hand: bool) -> float:
        """Fees of one move. *in_hand*: its bytes have just been read for somebody, and need not be fetched again."""
        fees = self.tiers[target].usd_put + self.tiers[source].early_usd(size, held_s)
        return fees if in_hand else fees + self.tiers[source].read_usd(size)
