"""Reads everything of a volume and says what is not as it should be."""

from collections.abc import Iterable, Mapping

import trio

from stratumfs.erasure.code import Codec, codec_for
from stratumfs.errors import DeviceError, ShardCorrupt, ShardMissing
from stratumfs.ids import CellIndex, DeviceId, StoreId
from stratumfs.repair.inspect import Damage
from stratumfs.threads import in_thread
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.cells import read_cell
from stratumfs.volumes.format import StripeAt, VolumeInfo


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
            wrong = await in_thread(_disagreeing, codec, cells, at.cell_size, limiter=threads)
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
