"""Reads everything of a volume and says what is not as it should be."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import trio

from stratumfs.erasure.code import Codec, codec_for
from stratumfs.errors import DeviceError, ShardCorrupt, ShardMissing
from stratumfs.ids import CellIndex, DeviceId, StoreId
from stratumfs.shards.backend import ShardBackend
from stratumfs.shards.layout import ShardName
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.cells import read_cell
from stratumfs.volumes.format import StripeAt, VolumeInfo


@dataclass(frozen=True, slots=True)
class Damage:
    """One cell that can't be counted upon."""

    index: CellIndex
    stripe: StripeAt
    reason: str


async def verify_volume(
    store: StoreId,
    volume: VolumeInfo,
    stripes: Iterable[StripeAt],
    devices: Mapping[DeviceId, AttachedDevice],
    threads: trio.CapacityLimiter,
) -> list[Damage]:
    """Read and check all *n* cells of each of *stripes*: each against its own hash, and parity against the data.

    One stripe at a time, its cells side by side; memory is one stripe.
    """
    damage: list[Damage] = []
    codec = codec_for(volume.code)
    for at in stripes:
        cells = await _read_stripe(store, volume, at, devices, damage)
        if len(cells) == volume.code.n:
            wrong = await trio.to_thread.run_sync(_disagreeing, codec, cells, at.cell_size, limiter=threads)
            damage += [Damage(index, at, "the parity is another stripe's") for index in wrong]
    return damage


async def _read_stripe(
    store: StoreId,
    volume: VolumeInfo,
    at: StripeAt,
    devices: Mapping[DeviceId, AttachedDevice],
    damage: list[Damage],
) -> dict[CellIndex, memoryview]:
    cells: dict[CellIndex, memoryview] = {}

    async def one(index: CellIndex) -> None:
        device = devices.get(volume.devices[index])
        if device is None:
            damage.append(Damage(index, at, "its device is not up"))
            return
        try:
            cells[index] = await device.read(read_cell, device.shards, store, volume, index, at)
        except (ShardCorrupt, ShardMissing, DeviceError) as error:
            damage.append(Damage(index, at, str(error)))

    async with trio.open_nursery() as nursery:
        for number in range(volume.code.n):
            nursery.start_soon(one, CellIndex(number))
    return cells


def _disagreeing(codec: Codec, cells: Mapping[CellIndex, memoryview], size: int) -> list[CellIndex]:
    k = codec.code.k
    parity = codec.encode([cells[CellIndex(number)] for number in range(k)], size)
    return [CellIndex(k + row) for row, cell in enumerate(parity) if cell != cells[CellIndex(k + row)]]


def shard_damage(
    shards: ShardBackend, store: StoreId, volume: VolumeInfo, index: CellIndex, stripes: Sequence[StripeAt]
) -> Damage | None:
    """The first of *stripes* whose cell in this one shard is not whole on its disk; None if all are. Blocks.

    Raises: ShardMissing; what the backend raises.
    """
    shards.uncache(ShardName(volume.id, index))  # after a failed sync the page cache shows what no disk has
    for at in stripes:
        try:
            read_cell(shards, store, volume, index, at)
        except ShardCorrupt as error:
            return Damage(index, at, str(error))
    return None
