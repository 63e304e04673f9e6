"""What happens in a thread to write: one stripe to all shards, room for more, a table of contents."""

from collections.abc import Sequence
from dataclasses import dataclass

from stratumfs.devices.health import DeviceState
from stratumfs.erasure.checksum import digest
from stratumfs.erasure.code import Codec
from stratumfs.erasure.stripe import encode
from stratumfs.errors import DeviceError, DeviceFull
from stratumfs.ids import Buffer, CellIndex, StoreId
from stratumfs.shards.backend import OpenShard
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.format import CellHeader, StripeAt, VolumeInfo, pack_headers
from stratumfs.volumes.toc import PackedToc


@dataclass(frozen=True, slots=True)
class ShardFailure:
    """What went wrong on the device of one shard. state: what it makes of the device, if that is not just full."""

    index: CellIndex
    error: DeviceError
    state: DeviceState = DeviceState.FAILED


def append_stripe(
    store: StoreId,
    volume: VolumeInfo,
    codec: Codec,
    at: StripeAt,
    payload: Buffer,
    shards: Sequence[OpenShard],
    devices: Sequence[AttachedDevice],
) -> list[ShardFailure]:
    """Hash and encode *payload* and write its cells, all *n* of them even if some fail; returns which did.

    One thread does all writes of a stripe: they land in the page cache, so that n hops cost more than they save.
    """
    cells = encode(payload, codec)
    assert len(cells[0]) == at.cell_size
    headers = pack_headers(
        [
            CellHeader(
                store,
                volume.id,
                volume.code,
                CellIndex(number),
                at.stripe,
                at.nonce,
                len(payload),
                at.cell_size,
                digest(cell),
            )
            for number, cell in enumerate(cells)
        ]
    )
    failures = []
    for number, (shard, device) in enumerate(zip(shards, devices, strict=True)):
        try:
            device.timed(shard.write_at, at.position, (headers[number], cells[number]))
        except DeviceError as error:
            failures.append(ShardFailure(CellIndex(number), error))
    return failures


def preallocate(
    shards: Sequence[OpenShard], devices: Sequence[AttachedDevice], start: int, end: int
) -> list[ShardFailure]:
    """Make room from *start* to *end* in all *shards*; returns where that failed."""
    failures = []
    for number, (shard, device) in enumerate(zip(shards, devices, strict=True)):
        try:
            device.timed(shard.preallocate, start, end)
        except DeviceError as error:
            failures.append(ShardFailure(CellIndex(number), error))
    return failures


def toc_holders(volume: VolumeInfo) -> tuple[CellIndex, ...]:
    """The shards that get the table of contents: m+1, so that one is left when m are lost; parity shards first."""
    n, m = volume.code.n, volume.code.m
    return tuple(CellIndex(index) for index in range(n - 1, n - m - 2, -1))


def finish_shard(
    shard: OpenShard, end: int, toc: PackedToc | None, store: StoreId, volume: VolumeInfo, index: CellIndex
) -> None:
    """Seal one shard whose cells end at *end*: add the table if it holds one, cut what was preallocated, sync."""
    size = end
    if toc is not None:
        try:
            shard.write_at(end, toc.parts(store, volume, index, end))
            size += toc.total
        except DeviceFull:
            pass  # a full device is sealed without: its cells are what counts
    shard.cut(size)
    shard.datasync()
