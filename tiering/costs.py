"""The price list of a store: what its settings say of each tier, and what is usual where they say nothing.

Usual for own devices is amortised hardware and power with half as much again for parity; for somebody's S3 the list
prices of a tier for infrequent access, behind a network link.

Own devices are bought: as long as their settings give no price, a byte that lies there costs nothing more than one that
does not, and what leaves them leaves for want of room. Who rents them, or wants to sell the room, says what it costs.
"""

import math
from collections.abc import Mapping

from stratumfs.config import Priced
from tiering.prices import PriceList, TierPrice

USUAL: Mapping[str, TierPrice] = {
    "hot": TierPrice("hot", 0.08, 0.0002, 2e9),
    "warm": TierPrice("warm", 0.015, 0.01, 180e6),
    "cold": TierPrice(
        "cold", 0.0125, 0.08, 60e6, usd_get=1e-6, usd_put=1e-5, usd_read_gb=0.1, stay_days_min=30,
        billed_bytes_min=128 * 1024,
    ),
}  # fmt: skip


OWN = frozenset({"hot", "warm"})
"""Tiers of own devices."""


def price_list(tiers: Mapping[str, Priced], usd_wait_hour: float) -> PriceList:
    """*tiers* of the settings, fastest first."""
    return PriceList([_price(name, tier) for name, tier in tiers.items()], usd_wait_hour)


def _price(name: str, tier: Priced) -> TierPrice:
    usual = USUAL[name]

    def said(value: float | None, otherwise: float) -> float:
        return otherwise if value is None else float(value)

    return TierPrice(
        name,
        said(tier.usd_gb_month, usual.usd_gb_month),
        said(tier.latency_s, usual.latency_s),
        said(tier.bandwidth, usual.bandwidth),
        said(tier.usd_get, usual.usd_get),
        said(tier.usd_put, usual.usd_put),
        said(tier.usd_read_gb, usual.usd_read_gb),
        said(tier.stay_days_min, usual.stay_days_min),
        int(said(tier.billed_bytes_min, usual.billed_bytes_min)),
        said(tier.capacity, math.inf),
        bought=name in OWN and tier.usd_gb_month is None,
    )
