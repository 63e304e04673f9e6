"""Looks at one shard where its device has it, a part at a time, so that no call keeps the device for long."""

from collections.abc import Sequence

from stratumfs.catalog.volumes import VolumeRow
from stratumfs.errors import DeviceError, DeviceSilent, ShardMissing
from stratumfs.ids import CellIndex, StoreId
from stratumfs.limits import VERIFY_STRIPES
from stratumfs.repair.answer import ask
from stratumfs.repair.inspect import shard_damage
from stratumfs.repair.rows import volume_info
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.format import StripeAt


async def what_is_wrong(
    store: StoreId, row: VolumeRow, cell: CellIndex, device: AttachedDevice, stripes: Sequence[StripeAt]
) -> str | None:
    """Of a shard, the first of *stripes* that is not what was written, or why it cannot be read; None if all are.

    Raises: DeviceSilent.
    """
    info = volume_info(row)
    for start in range(0, max(1, len(stripes)), VERIFY_STRIPES):
        part = stripes[start : start + VERIFY_STRIPES]
        try:
            damage = await ask(device, shard_damage, device.shards, store, info, cell, part)
        except DeviceSilent:
            raise
        except (ShardMissing, DeviceError) as error:
            return str(error)
        if damage is not None:
            return damage.reason
    return None
