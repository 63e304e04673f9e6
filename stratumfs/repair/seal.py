"""Seals volumes that an owner who crashed left open."""

from collections.abc import Collection, Mapping

import trio

from stratumfs.errors import ShardMissing, StratumError
from stratumfs.ids import CellIndex, DeviceId, StoreId
from stratumfs.shards.layout import ShardName
from stratumfs.threads import in_thread
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
    failures = await append_tables(store, volume, length, toc_holders(volume), devices, ledger, threads)
    await ledger.sealed(volume.id, length, stripes)
    return failures


async def append_tables(
    store: StoreId,
    volume: VolumeInfo,
    length: int,
    cells: Collection[CellIndex],
    devices: Mapping[DeviceId, AttachedDevice],
    ledger: VolumeLedger,
    threads: trio.CapacityLimiter,
) -> dict[DeviceId, StratumError]:
    """Write a table of contents of what rows name now behind the ends of these shards. Returns as `seal_left_open`."""
    entries = await ledger.contents(volume.id)
    packed = await in_thread(toc.pack, entries, limiter=threads)
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
        for index in cells:
            nursery.start_soon(one, index)
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
