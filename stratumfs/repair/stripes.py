"""Which stripes lie in a sealed volume: those that rows name, and in the gaps those that headers tell of.

A row that is gone may be in a catalog that is yet to be found, a copy of an object may name its bytes again, and who
wrote a stripe may be about to name it: so a rebuild makes all stripes up to the volume's mark that can be made, not the
named ones alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import trio

from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.volumes import VolumeRow, readable_extents_in
from stratumfs.errors import DeviceError, DeviceSilent, ShardMissing
from stratumfs.ids import CellIndex, DeviceId, StoreId, VolumeId
from stratumfs.limits import HEADERS_LISTED, REBUILD_BYTES, TRANSACTION_ROWS_MAX
from stratumfs.repair.answer import doubt, in_time
from stratumfs.repair.rows import volume_info
from stratumfs.shards.backend import ShardBackend
from stratumfs.shards.layout import ShardName
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.format import HEADER_SIZE, StripeAt, VolumeInfo, stripes_of
from stratumfs.volumes.walk import next_header, own_header


@dataclass(frozen=True, slots=True)
class Stripes:
    """found: by position; silent: shards whose devices did not say what lies in a gap that no other one tells of."""

    found: Sequence[StripeAt]
    silent: frozenset[CellIndex]


def end_of(at: StripeAt) -> int:
    """Where in each shard the cells of this stripe end."""
    return at.position + HEADER_SIZE + at.cell_size


def cells_end(mark: int, named: Sequence[StripeAt]) -> int:
    """Where the cells of a sealed volume end, of which rows name these stripes, by position.

    Behind its *mark* if it was sealed while a row could not be read.
    """
    return max(mark, end_of(named[-1]) if named else 0)


async def named_stripes(catalog: Catalog, ident: VolumeId) -> list[StripeAt]:
    """Those of a volume that rows name, by position."""
    found: dict[int, StripeAt] = {}
    after: tuple[int, int] | None = (-1, -1)
    while after is not None:
        chunk, after = await catalog.read(readable_extents_in, ident, after, TRANSACTION_ROWS_MAX)
        for extent in chunk:
            assert extent.location is not None
            found.update((at.position, at) for at in stripes_of(extent.location, extent.length))
        await trio.lowlevel.checkpoint()
    return [found[position] for position in sorted(found)]


async def all_stripes(
    store: StoreId,
    volume: VolumeInfo,
    named: Iterable[StripeAt],
    length: int,
    devices: Mapping[DeviceId, AttachedDevice],
) -> Stripes:
    """All stripes of *volume* below *length*: *named* ones, and what the headers on *devices* add.

    A gap may stay: a place was given out, and the volume given up before anything was written there. Devices in doubt
    are asked last, and one that is silent only once.
    """
    found = {at.position: at for at in named}
    asked = [(devices[ident], CellIndex(at)) for at, ident in enumerate(volume.devices) if ident in devices]
    silent: set[CellIndex] = set()
    gaps = _gaps(found, length)
    for device, index in sorted(asked, key=lambda each: doubt(each[0])):
        try:
            for start, stop in gaps:
                found.update({at.position: at for at in await _told(device, store, volume, index, start, stop)})
        except DeviceSilent:
            silent.add(index)
        except (DeviceError, ShardMissing):
            pass
        gaps = gaps and _gaps(found, length)
    return Stripes([found[position] for position in sorted(found)], frozenset(silent if gaps else ()))


async def sealed_stripes(
    store: StoreId, catalog: Catalog, row: VolumeRow, devices: Mapping[DeviceId, AttachedDevice]
) -> tuple[Stripes, int]:
    """All that lie in a sealed volume, and where they end."""
    named = await named_stripes(catalog, row.id)
    end = cells_end(row.length, named)
    return await all_stripes(store, volume_info(row), named, end, devices), end


async def image_stripes(
    store: StoreId, volume: VolumeInfo, length: int, devices: Mapping[DeviceId, AttachedDevice]
) -> Sequence[StripeAt]:
    """Those of a namespace image, of which no row tells, but all headers."""
    return (await all_stripes(store, volume, (), length, devices)).found


def _gaps(found: Mapping[int, StripeAt], length: int) -> list[tuple[int, int]]:
    """From where to where nothing is known."""
    gaps = []
    end = 0
    for position in [*sorted(found), length]:
        if end < position:
            gaps.append((end, position))
        if position in found:
            end = max(end, end_of(found[position]))
    return gaps


async def _told(
    device: AttachedDevice, store: StoreId, volume: VolumeInfo, index: CellIndex, start: int, stop: int
) -> list[StripeAt]:
    found: list[StripeAt] = []
    while start < stop:
        asked = device.read(_headers_between, device.shards, store, volume, index, start, stop)
        more, start = await in_time(device.label, asked)
        found += more
    return found


def _headers_between(
    shards: ShardBackend, store: StoreId, volume: VolumeInfo, index: CellIndex, start: int, stop: int
) -> tuple[list[StripeAt], int]:
    """Stripe after stripe from *start* on, as far as headers follow one another, and where to go on: no more than can
    be read in time. Where there is no header that is the next one's place."""
    name = ShardName(volume.id, index)
    found: list[StripeAt] = []
    while start < stop and len(found) < HEADERS_LISTED:
        header = own_header(memoryview(shards.read_at(name, start, HEADER_SIZE)), name, store)
        at = header.at(start) if header is not None and header.code == volume.code else None
        if at is None or end_of(at) > stop:
            limit = min(stop, start + REBUILD_BYTES)
            behind = next_header(shards, name, store, start + 1, limit)
            return found, limit if behind is None else behind
        found.append(at)
        start = end_of(at)
    return found, start
