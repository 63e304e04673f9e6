"""Which devices are slow beside their peers. Pure."""

import statistics
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from stratumfs.limits import SLOW_CALLS_MIN, SLOW_S, SLOW_TIMES

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Calls:
    """Of one kind, to one device, since some moment; *seconds* of all together."""

    count: int
    seconds: float

    def since(self, before: "Calls") -> "Calls":
        return Calls(self.count - before.count, self.seconds - before.seconds)

    @property
    def mean_s(self) -> float:
        return self.seconds / self.count


NO_CALLS = Calls(0, 0.0)


def slow_beside(found: Mapping[K, Calls]) -> dict[K, tuple[float, float]]:
    """Those whose calls take SLOW_TIMES as long as the others' do, and no less than SLOW_S: the mean of each, and what
    is the median of the others' means.

    Who had few calls says nothing, and one peer is nobody to compare with.
    """
    means = {key: calls.mean_s for key, calls in found.items() if calls.count >= SLOW_CALLS_MIN}
    slow = {}
    for key, mean in means.items():
        others = [each for other, each in means.items() if other != key]
        if len(others) >= 2 and mean >= max(SLOW_S, SLOW_TIMES * statistics.median(others)):
            slow[key] = mean, statistics.median(others)
    return slow
