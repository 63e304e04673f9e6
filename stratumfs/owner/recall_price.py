"""What a recall costs before it is made: bytes of each slower tier, dollars by the price list, and time."""

from typing import Any

from stratumfs.limits import SUMS_WAIT_S
from stratumfs.owner.messages import TierPrice
from stratumfs.owner.tier_engine import tiers_of
from stratumfs.owner.wire import Running
from tiering.sums import sums


async def recall_price(running: Running, request: TierPrice) -> dict[str, Any]:
    """``seconds``: one reader after the other; ``complete``: False where there was no time to look at all of it.

    Raises: ConfigError if the store has one tier; NotFound, NoSuchBucket, NoSuchObject.
    """
    engine = await tiers_of(running.tiers).made()
    ino = await running.mover.find(request.inode, request.bucket, request.key)
    store = running.store
    found = await sums(store.catalog, ino, engine.policy.prices.tiers, None, SUMS_WAIT_S)
    slower = {name: share for name, share in found.tiers.items() if name != store.tier}
    landing = next(each for each in engine.policy.prices.tiers if each.name == store.tier)
    objects = sum(share.objects for share in slower.values())
    return {
        "to": store.tier,
        "bytes": sum(share.bytes for share in slower.values()),
        "objects": objects,
        "from": {name: {"bytes": share.bytes, "objects": share.objects} for name, share in slower.items()},
        "usd": sum(share.usd_read for share in slower.values()) + objects * landing.usd_put,
        "seconds": sum(share.wait_read_s for share in slower.values()),
        "complete": found.complete,
    }
