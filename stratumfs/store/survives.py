"""How many losses data survives now: by rows, by which devices are up, and by what looks at these have found."""

from collections.abc import Collection, Iterable, Sequence

from stratumfs.catalog.volumes import VolumeRow
from stratumfs.ids import CellIndex, DeviceId
from stratumfs.repair.rows import volume_info
from stratumfs.store.store import Store
from stratumfs.volumes.presence import Present, shards_present
from stratumfs.volumes.survival import Shards, Survival, survival

Good = tuple[int, frozenset[DeviceId]]
"""k of a volume, and the devices whose shards of it are counted upon. Many volumes are alike."""


async def look_for(store: Store, rows: Sequence[VolumeRow], wait_s: float) -> tuple[Present, set[DeviceId]]:
    """As `shards_present`, of devices that are not struck."""
    return await shards_present(store.fleet.counted(), [volume_info(row) for row in rows], wait_s)


def good_shards(store: Store, row: VolumeRow, missing: Collection[CellIndex], away: Collection[DeviceId] = ()) -> Good:
    """Of one volume: those whose device is up and not *away*, that are not *missing*, and not known to be damaged."""
    counted = store.fleet.counted()
    return row.k, frozenset(
        device
        for cell, device in enumerate(row.devices)
        if device in counted
        and device not in away
        and cell not in missing
        and (row.id, CellIndex(cell)) not in store.damaged
    )


def survives(store: Store, volumes: Iterable[Good], away: Collection[DeviceId] = ()) -> Survival:
    """Of these volumes, beside the catalog. Where there are none: what the next one of the store survives."""
    disks = {ident: device.disk for ident, device in store.fleet.counted().items()}
    found = [Shards(k, tuple(disks[device] for device in devices if device in disks)) for k, devices in volumes]
    if not found:
        up = [device.disk for device in store.fleet.up(store.tier) if device.id not in away][: store.code.n]
        found.append(Shards(max(1, len(up) - store.code.m), tuple(up)))
    return survival(found, store.catalog.disks or (None,))
