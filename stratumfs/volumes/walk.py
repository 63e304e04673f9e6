"""Reads a shard by what it says of itself, cell by cell, without any row: for rebuilds, rescue, tables of contents.

Blocking: call it in a thread of the device.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from stratumfs.erasure.checksum import digest
from stratumfs.errors import ShardCorrupt
from stratumfs.ids import StoreId
from stratumfs.shards.backend import ShardReader
from stratumfs.shards.layout import ShardName
from stratumfs.volumes.block import BLOCK_SIZE
from stratumfs.volumes.format import CELL_MAGIC, HEADER_SIZE, CellHeader, unpack_header
from stratumfs.volumes.toc import TOC_CODE, TOC_MAGIC, TocEntry, TocHead, unpack, unpack_head

SCAN_SIZE = 1 << 20
_END = 1 << 63
"""Behind all that a shard can hold."""


@dataclass(frozen=True, slots=True)
class WalkedCell:
    """A cell that was met at *position*. whole: it agrees with the hash in its header."""

    position: int
    header: CellHeader
    whole: bool


def walk_cells(shards: ShardReader, name: ShardName, store: StoreId, start: int = 0) -> Iterator[WalkedCell]:
    """All cells of a shard from *start* (where one begins) on, in order of position.

    After bytes that are no header (damage, a stripe that was never written, preallocated zeros) it goes on at the next
    header of this very shard. Tables of contents are stepped over.

    Raises: what the backend raises.
    """
    position: int | None = start
    guess = 0
    while position is not None:
        data = memoryview(shards.read_at(name, position, HEADER_SIZE + guess))
        if len(data) < HEADER_SIZE:
            return
        header = own_header(data[:HEADER_SIZE], name, store)
        if header is not None:
            guess = header.cell_length
            cell = data[HEADER_SIZE : HEADER_SIZE + guess]
            if len(cell) < guess:
                cell = memoryview(shards.read_at(name, position + HEADER_SIZE, guess))
            yield WalkedCell(position, header, len(cell) == guess and digest(cell) == header.digest)
            position += HEADER_SIZE + guess
        else:
            position = next_header(shards, name, store, position + _step_over(data[:HEADER_SIZE], name, position))


def read_toc(shards: ShardReader, name: ShardName) -> list[TocEntry]:
    """The newest table of contents of a shard, by its trailer or, if that is damaged, by a search for its head.

    Raises: ShardCorrupt if there is none that can be read; what the backend raises.
    """
    size = shards.size(name)
    head = _toc_head(shards.read_at(name, max(size - BLOCK_SIZE, 0), BLOCK_SIZE), name)
    heads = [head] if head is not None else []
    if not heads:
        found = [_toc_head(shards.read_at(name, at, BLOCK_SIZE), name) for at in _scan(shards, name, TOC_MAGIC, 0)]
        heads = sorted((each for each in found if each is not None), key=lambda each: -each.position)
    for each in heads:
        try:
            return unpack(each, shards.read_at(name, each.position + BLOCK_SIZE, TOC_CODE.n * each.row))
        except ShardCorrupt:
            continue
    raise ShardCorrupt(f"shard {name} has no table of contents that can be read")


def has_table(shards: ShardReader, name: ShardName, start: int) -> bool:
    """Whether the head of a table of contents lies anywhere from *start* on. Raises: what the backend raises."""
    found = (_toc_head(shards.read_at(name, at, BLOCK_SIZE), name) for at in _scan(shards, name, TOC_MAGIC, start))
    return any(head is not None for head in found)


def own_header(block: memoryview, name: ShardName, store: StoreId) -> CellHeader | None:
    """The header in *block*, if it is one of this very shard."""
    try:
        header = unpack_header(block)
    except ShardCorrupt:
        return None
    own = header.store == store and header.volume == name.volume and header.index == name.index
    return header if own else None


def _toc_head(block: bytes, name: ShardName) -> TocHead | None:
    try:
        head = unpack_head(block)
    except ShardCorrupt:
        return None
    return head if head.volume == name.volume and head.index == name.index else None


def _step_over(block: memoryview, name: ShardName, position: int) -> int:
    """How far behind *position*, where no cell begins, the next one may begin."""
    head = _toc_head(bytes(block), name)
    return head.total if head is not None and head.position == position else 1


def next_header(shards: ShardReader, name: ShardName, store: StoreId, start: int, stop: int = _END) -> int | None:
    """Where the next header of this very shard begins, from *start* on and before *stop*. Raises: as `walk_cells`."""
    for position in _scan(shards, name, CELL_MAGIC, start, stop):
        if own_header(memoryview(shards.read_at(name, position, HEADER_SIZE)), name, store) is not None:
            return position
    return None


def _scan(shards: ShardReader, name: ShardName, magic: bytes, start: int, stop: int = _END) -> Iterator[int]:
    """Every place from *start* on and before *stop* where *magic* stands."""
    while start < stop:
        size = min(SCAN_SIZE, stop - start)
        data = shards.read_at(name, start, size + len(magic) - 1)
        at = data.find(magic)
        while at >= 0:
            yield start + at
            at = data.find(magic, at + 1)
        if len(data) < size + len(magic) - 1:
            return
        start += size
