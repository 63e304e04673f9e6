"""Which stripes lie in a sealed volume: those that rows name, and in the gaps those that headers tell of.

A row that is gone may be in a catalog that is yet to be found, and a copy of an object may name its bytes again: so a
rebuild makes all stripes up to the volume's mark that can be made, not the named ones alone.
"""

from collections.abc import Iterable, Mapping, Sequence

from stratumfs.errors import DeviceError, DeviceSilent, ShardCorrupt, ShardMissing
from stratumfs.ids import CellIndex, DeviceId, StoreId
from stratumfs.repair.answer import doubt, in_time
from stratumfs.shards.backend import ShardBackend
from stratumfs.shards.layout import ShardName
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.format import HEADER_SIZE, StripeAt, VolumeInfo, unpack_header


def end_of(at: StripeAt) -> int:
    """Where in each shard the cells of this stripe end."""
    return at.position + HEADER_SIZE + at.cell_size


async def all_stripes(
    store: StoreId,
    volume: VolumeInfo,
    named: Iterable[StripeAt],
    length: int,
    devices: Mapping[DeviceId, AttachedDevice],
    sources: Sequence[CellIndex],
) -> list[StripeAt]:
    """All stripes of *volume* below *length*, by position: *named* ones, and what the headers in *sources* add.

    Devices in doubt are asked last, and one that is silent only once.
    """
    found: list[StripeAt] = []
    position = 0
    asked = {index: devices[volume.devices[index]] for index in sources if volume.devices[index] in devices}
    for at in [*sorted({at.position: at for at in named}.values(), key=lambda at: at.position), None]:
        until = length if at is None else at.position
        for index in sorted(asked, key=lambda index: doubt(asked[index])):
            if position < until:
                between = await _told(asked, store, volume, index, position, until)
                found += between
                position = end_of(between[-1]) if between else position
        if at is not None:
            found.append(at)
            position = end_of(at)
    return found


async def _told(
    asked: dict[CellIndex, AttachedDevice], store: StoreId, volume: VolumeInfo, index: CellIndex, start: int, stop: int
) -> list[StripeAt]:
    device = asked[index]
    try:
        return await in_time(
            device.label, device.read(_headers_between, device.shards, store, volume, index, start, stop)
        )
    except DeviceSilent:
        del asked[index]
    except (DeviceError, ShardMissing):
        pass
    return []


def _headers_between(
    shards: ShardBackend, store: StoreId, volume: VolumeInfo, index: CellIndex, start: int, stop: int
) -> list[StripeAt]:
    """Stripe after stripe from *start* on, as far as one shard's headers can be read."""
    found: list[StripeAt] = []
    while start < stop:
        try:
            header = unpack_header(
                shards.read_at(ShardName(volume.id, index), start, HEADER_SIZE).ljust(HEADER_SIZE, b"\0")
            )
        except ShardCorrupt:
            break
        at = header.at(start)
        own = (header.store, header.volume, header.code, header.index) == (store, volume.id, volume.code, index)
        if not own or end_of(at) > stop:
            break
        found.append(at)
        start = end_of(at)
    return found
