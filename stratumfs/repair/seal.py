"""Seals volumes that an owner who crashed left open."""

from collections.abc import Mapping

import trio

from stratumfs.errors import ShardMissing, StratumError
from stratumfs.ids import CellIndex, DeviceId, StoreId
from stratumfs.shards.layout import ShardName
from stratumfs.volumes import toc
from stratumfs.volumes.append import toc_holders
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.format import VolumeInfo
from stratumfs.volumes.ledger import VolumeLedger


async def seal_left_open(
    store: StoreId,
    volume: VolumeInfo,
    length: int,
    stripes: int,
    devices: Mapping[DeviceId, AttachedDevice],
    ledger: VolumeLedger,
    threads: trio.CapacityLimiter,
) -> dict[DeviceId, StratumError]:
    """Seal *volume* behind the last stripe that any row names: its cells end at *length*, *stripes* is their count.

    Nothing is cut or overwritten: what lies behind *length* may be a stripe whose row is in a catalog that is yet to be
    found. The table of contents goes behind each file's end, and a file that ends too early keeps its gap.

    Returns why, for each device that couldn't take its table: that doesn't keep a volume from being sealed, for a
    missing table costs comfort and no data. Raises: what the ledger raises.
    """
    entries = await ledger.contents(volume.id)
    packed = await trio.to_thread.run_sync(toc.pack, entries, limiter=threads)
    failures: dict[DeviceId, StratumError] = {}

    async def one(index: CellIndex) -> None:
        ident = volume.devices[index]
        device = devices.get(ident)
        try:
            if device is None:
                raise ShardMissing(f"device {ident.hex()} is not up")
            await device.write(_append_toc, device, store, volume, index, length, packed)
        except StratumError as error:
            failures[ident] = error

    async with trio.open_nursery() as nursery:
        for index in toc_holders(volume):
            nursery.start_soon(one, index)
    await ledger.sealed(volume.id, length, stripes)
    return failures


def _append_toc(
    device: AttachedDevice, store: StoreId, volume: VolumeInfo, index: CellIndex, length: int, packed: toc.PackedToc
) -> None:
    shard = device.shards.reopen(ShardName(volume.id, index))
    try:
        end = max(shard.size(), length)
        shard.write_at(end, packed.parts(store, volume, index, end))
        shard.datasync()
    finally:
        shard.close()
