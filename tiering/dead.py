"""Whether it pays to write anew what is left in volumes of a tier that charges for more than storage. Pure."""

import math
from collections.abc import Sequence

from stratumfs.ids import MIB
from stratumfs.store.compact_remote import Held
from tiering.prices import DAY_S, TierPrice


def gain_usd(price: TierPrice, volumes: Sequence[Held], payback_days: float) -> float:
    """Dollars that it saves to have what lives in *volumes* in one instead of these, until *payback_days* are over.

    What is dead in them is not stored any more. It costs to read what lives, a request for each MiB, to put it, and
    what a volume that goes early owes of the stay that is billed at least.
    """
    span_s = payback_days * DAY_S
    live = sum(each.live for each in volumes)
    held = sum(price.hold_usd(each.size, span_s) for each in volumes)
    reads = sum(price.usd_read_gb * each.live / 1e9 + price.usd_get * math.ceil(each.live / MIB) for each in volumes)
    early = sum(price.early_usd(each.size, each.held_s) for each in volumes)
    return held - (price.hold_usd(live, span_s) if volumes else 0.0) - reads - early - price.usd_put
