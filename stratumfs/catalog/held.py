"""How much a device is to hold: sums over all its shards, of which a store may have millions, a chunk at a time."""

import trio

from stratumfs.catalog.damage import Held, devices_named, held_behind, placed_behind
from stratumfs.catalog.engine import Catalog
from stratumfs.ids import DeviceId, VolumeId
from stratumfs.limits import COUNTED_ROWS_MAX, SUMMED_ROWS_MAX


async def held(catalog: Catalog, device: DeviceId, kept_since_ns: int) -> Held:
    """What *device* shall hold and is wanted: see `held_behind`. What changes meanwhile may be counted or not."""
    total, after = Held(0, 0), VolumeId(b"")
    while True:
        more, behind = await catalog.read(held_behind, device, kept_since_ns, after, SUMMED_ROWS_MAX)
        total = Held(total.shards + more.shards, total.bytes + more.bytes)
        if behind is None:
            return total
        after = behind
        await trio.lowlevel.checkpoint()


async def placed(catalog: Catalog) -> dict[DeviceId, int]:
    """How many shards rows place on each device, freed ones too. What changes meanwhile may be counted or not."""
    found: dict[DeviceId, int] = {}
    for device in await catalog.read(devices_named):
        found[device] = 0
        behind: VolumeId | None = VolumeId(b"")
        while behind is not None:
            count, behind = await catalog.read(placed_behind, device, behind, COUNTED_ROWS_MAX)
            found[device] += count
            await trio.lowlevel.checkpoint()
    return found
