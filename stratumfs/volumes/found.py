"""What lies on devices by the word of the shards alone, where no row says it.

All of it blocks, and reads: call it in a thread of nobody's.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from stratumfs.erasure.checksum import digest
from stratumfs.erasure.code import Code
from stratumfs.errors import DeviceError, ShardCorrupt, ShardMissing
from stratumfs.ids import CellIndex, DeviceId, StoreId, VolumeId
from stratumfs.limits import STRIPE_PAYLOAD_MAX
from stratumfs.location import Location
from stratumfs.shards.backend import ShardBackend, ShardReader
from stratumfs.shards.layout import FOLDERS, ShardName
from stratumfs.volumes.format import HEADER_SIZE, CellHeader
from stratumfs.volumes.toc import TocEntry, about
from stratumfs.volumes.walk import next_header, own_header, read_toc


@dataclass(slots=True)
class FoundVolume:
    """Shards of one volume. cells: on which devices each lies, most often one."""

    id: VolumeId
    cells: dict[CellIndex, list[DeviceId]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FoundStripe:
    """A stripe by the header of one of its cells; whether the cells agree with their hashes nobody has looked."""

    location: Location
    length: int


def find_volumes(devices: Mapping[DeviceId, ShardBackend]) -> dict[VolumeId, FoundVolume]:
    """By the names of files. A device that fails in this tells nothing more."""
    found: dict[VolumeId, FoundVolume] = {}
    for ident, shards in devices.items():
        for folder in FOLDERS:
            try:
                names = shards.names(folder)
            except DeviceError:
                break
            for name in names:
                volume = found.setdefault(name.volume, FoundVolume(name.volume))
                volume.cells.setdefault(name.index, []).append(ident)
    return found


def take_back(
    wanted: Container[VolumeId], found: dict[VolumeId, FoundVolume], devices: Mapping[DeviceId, ShardBackend]
) -> int:
    """Shards of *wanted* volumes come back out of the quarantine where no device has their cell; *found* tells of them
    then. Returns how many. A device that fails in this keeps the rest where it is."""
    count = 0
    for ident, shards in devices.items():
        with suppress(DeviceError):
            for name in shards.quarantined():
                if name.volume in wanted and name.index not in found.get(name.volume, FoundVolume(name.volume)).cells:
                    shards.take_back([name])
                    volume = found.setdefault(name.volume, FoundVolume(name.volume))
                    volume.cells.setdefault(name.index, []).append(ident)
                    count += 1
    return count


def code_of(volume: FoundVolume, devices: Mapping[DeviceId, ShardReader], store: StoreId) -> Code | None:
    """By the first header that can be read; None if there is none of this store."""
    for name, shards in _copies(volume, devices):
        header = next(_headers(shards, name, store), None)
        if header is not None:
            return header[1].code
    return None


def table_of(volume: FoundVolume, code: Code, devices: Mapping[DeviceId, ShardReader]) -> list[TocEntry] | None:
    """The newest table of contents that can be read of those that have one, m+1 of the shards; None if there is none.

    A volume that was sealed by a strike has none. A device that was away when a later one was written has an older one.
    """
    found: list[list[TocEntry]] = []
    for name, shards in _copies(volume, devices):
        if name.index >= code.k - 1:
            with suppress(ShardCorrupt, ShardMissing, DeviceError):
                found.append(read_toc(shards, name))
    return max(found, key=_sequence, default=None)


def _sequence(table: Sequence[TocEntry]) -> int:
    said = about(table)
    return said.sequence if said is not None else -1


def stripes_of_headers(
    volume: FoundVolume, devices: Mapping[DeviceId, ShardReader], store: StoreId
) -> list[FoundStripe]:
    """All stripes that some shard has a header of, in the order of their positions."""
    found: dict[int, FoundStripe] = {}
    for name, shards in _copies(volume, devices):
        for position, header in _headers(shards, name, store):
            at = Location(volume.id, header.stripe, position, header.cell_length, 0, header.nonce)
            found.setdefault(position, FoundStripe(at, header.payload_length))
    return [found[position] for position in sorted(found)]


def by_wholeness(
    volume: FoundVolume,
    index: CellIndex,
    devices: Mapping[DeviceId, ShardReader],
    store: StoreId,
    liked: Container[DeviceId],
) -> list[DeviceId]:
    """The devices that have this shard, those first whose file has more whole cells, then those that are *liked*.

    A device that was away while the shard was made anew on another one has an old file, and nobody can trust the times
    of files: so where there are several all their cells are read.
    """
    there, name = volume.cells.get(index, []), ShardName(volume.id, index)
    if len(there) < 2:
        return there
    return sorted(there, key=lambda ident: (-_whole_cells(devices[ident], name, store), ident not in liked))


def _whole_cells(shards: ShardReader, name: ShardName, store: StoreId) -> int:
    count = 0
    with suppress(ShardMissing, DeviceError):
        for position, header in _headers(shards, name, store):
            cell = shards.read_at(name, position + HEADER_SIZE, header.cell_length)
            count += digest(cell) == header.digest
    return count


def runs_of_table(entries: Sequence[TocEntry]) -> list[FoundStripe]:
    """Where the bytes of inode 0 lie, in their order, a stripe at most at a time."""
    found = []
    for entry in sorted((each for each in entries if each.inode == 0 and each.length), key=lambda each: each.offset):
        at, left = entry.location, entry.length
        while left:
            count = min(left, STRIPE_PAYLOAD_MAX - at.skip)
            found.append(FoundStripe(at, count))
            left -= count
            if left:
                at = at.advanced(count)
    return found


def _headers(shards: ShardReader, name: ShardName, store: StoreId) -> Iterator[tuple[int, CellHeader]]:
    """Headers of a shard and where they begin; ends early where the device fails."""
    position: int | None = 0
    try:
        while position is not None:
            header = own_header(memoryview(shards.read_at(name, position, HEADER_SIZE)), name, store)
            if header is not None:
                yield position, header
                position += HEADER_SIZE + header.cell_length
            else:
                position = next_header(shards, name, store, position + 1)
    except (ShardMissing, DeviceError):
        return


def _copies(volume: FoundVolume, devices: Mapping[DeviceId, ShardReader]) -> Iterator[tuple[ShardName, ShardReader]]:
    """Those of the highest index first, which have the tables of contents."""
    for index in sorted(volume.cells, reverse=True):
        for ident in volume.cells[index]:
            yield ShardName(volume.id, index), devices[ident]
