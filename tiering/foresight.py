"""What would be decided if nobody came: the policy itself, run forward on a copy."""

import math
from collections.abc import Sequence
from typing import Any

from tiering.policy import Policy
from tiering.prices import PriceList
from tiering.state import encode
from tiering.verdict import Verdict
from tiering.worths import PolicySettings

_STEP_S = 3600.0


def idle_moves(
    state: dict[str, Any], prices: PriceList, settings: PolicySettings, now: float, seconds: float, limit: int
) -> Sequence[Verdict]:
    """The next *limit* moves that a policy of this `state` decides by itself within *seconds*.

    Each object is looked at once a day, at the latest at the end. Takes seconds of processor where objects are many:
    for a thread.
    """
    policy = Policy.load(encode(state), prices, settings)
    found: list[Verdict] = []
    steps = max(1, math.ceil(seconds / _STEP_S))
    count = len(policy.signals)
    for step in range(1, steps + 1):
        at = now + seconds * step / steps
        found += policy.review(at, math.ceil(count / min(steps, 24)))
        if len(found) >= limit:
            break
    return found[:limit]
