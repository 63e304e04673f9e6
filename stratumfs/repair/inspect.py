"""Looks at one shard as its disk has it: nothing that could be corrected is let pass. Blocks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from stratumfs.errors import ShardCorrupt
from stratumfs.ids import CellIndex, StoreId
from stratumfs.limits import INSPECT_BYTES
from stratumfs.repair.stripes import end_of
from stratumfs.shards.backend import ShardReader
from stratumfs.shards.layout import ShardName
from stratumfs.volumes.block import BLOCK_SIZE, intact
from stratumfs.volumes.cells import verify_cell
from stratumfs.volumes.format import HEADER_SIZE, StripeAt, VolumeInfo, expected_digest
from stratumfs.volumes.toc import TOC_CODE, TocHead, is_whole, unpack_head
from stratumfs.volumes.walk import has_table


class Inspected(ShardReader, Protocol):
    """Shards that can be looked at as they are."""

    def uncache(self, name: ShardName) -> None:
        """See `ShardBackend`."""
        ...


@dataclass(frozen=True, slots=True)
class Damage:
    """One cell that can't be counted upon."""

    index: CellIndex
    stripe: StripeAt
    reason: str


def shard_damage(
    shards: Inspected, store: StoreId, volume: VolumeInfo, index: CellIndex, stripes: Sequence[StripeAt]
) -> Damage | None:
    """The first of *stripes*, by position, whose header and cell in this shard are not what was written; None if all
    are. Raises: ShardMissing; what the backend raises."""
    name = ShardName(volume.id, index)
    shards.uncache(name)  # after a failed sync the page cache shows what no disk has
    for batch in batches(stripes):
        start = batch[0].position
        data = memoryview(shards.read_at(name, start, end_of(batch[-1]) - start))
        parts = [data[at.position - start : end_of(at) - start] for at in batch]
        for at, part, whole in zip(batch, parts, _intact(parts), strict=True):
            try:
                verify_cell(part, store, volume, index, at)
            except ShardCorrupt as error:
                return Damage(index, at, str(error))
            if not whole:
                return Damage(index, at, f"shard {index}, stripe {at.stripe}: its header has flipped bits")
    return None


def headers_damage(
    shards: Inspected, store: StoreId, volume: VolumeInfo, index: CellIndex, stripes: Sequence[StripeAt]
) -> Damage | None:
    """A quick look: the headers of *stripes*, and that their cells are not cut off. Raises: as `shard_damage`."""
    name = ShardName(volume.id, index)
    size = shards.size(name)
    for at in stripes:
        header = shards.read_at(name, at.position, HEADER_SIZE)
        if end_of(at) > size or len(header) < HEADER_SIZE:
            return Damage(index, at, f"shard {index} ends within stripe {at.stripe}")
        if not intact([header])[0] or expected_digest(header, store, volume, index, at) is None:
            return Damage(index, at, f"shard {index}, stripe {at.stripe}: its header is not the one that was written")
    return None


@dataclass(frozen=True, slots=True)
class TableDamage:
    """missing: there is none, as in what a strike has sealed; that costs comfort, and no data."""

    reason: str
    missing: bool = False


def table_damage(
    shards: Inspected, store: StoreId, volume: VolumeInfo, index: CellIndex, end: int
) -> TableDamage | None:
    """What is wrong with the newest table of contents of a shard whose cells end at *end*; None if it is as it was
    written. Raises: ShardMissing; what the backend raises."""
    name = ShardName(volume.id, index)
    size = shards.size(name)
    trailer = shards.read_at(name, max(0, size - BLOCK_SIZE), BLOCK_SIZE)
    head = _own_head(trailer, store, volume, index)
    if head is None or head.position + head.total != size:
        if not has_table(shards, name, end):
            return TableDamage(f"shard {index} has no table of contents", missing=True)
        return TableDamage(f"shard {index} does not end with its table of contents")
    table = memoryview(shards.read_at(name, head.position, size - head.position))
    if not intact([trailer])[0] or table[:BLOCK_SIZE] != trailer:
        return TableDamage(f"shard {index}: the head of its table of contents has flipped bits")
    if not is_whole(head, table[BLOCK_SIZE : BLOCK_SIZE + TOC_CODE.n * head.row]):
        return TableDamage(f"shard {index}: its table of contents has flipped bits")
    return None


def batches(stripes: Sequence[StripeAt]) -> Iterator[list[StripeAt]]:
    """Runs of stripes that follow one another in a shard, as long as INSPECT_BYTES allow, one at least."""
    batch: list[StripeAt] = []
    for at in stripes:
        if batch and (at.position != end_of(batch[-1]) or end_of(at) - batch[0].position > INSPECT_BYTES):
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


def _intact(parts: Sequence[memoryview]) -> list[bool]:
    """One that is cut off is told by its cell."""
    headers = [bytes(part[:HEADER_SIZE]) for part in parts]
    return intact([header.ljust(HEADER_SIZE, b"\0") for header in headers])


def _own_head(block: bytes, store: StoreId, volume: VolumeInfo, index: CellIndex) -> TocHead | None:
    try:
        head = unpack_head(block)
    except ShardCorrupt:
        return None
    return head if (head.store, head.volume, head.index) == (store, volume.id, index) else None
