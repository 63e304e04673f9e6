"""One cell: read from its shard and verified; and a bounded cache of verified ones."""

from collections import OrderedDict
from dataclasses import dataclass

from stratumfs.erasure.checksum import digest
from stratumfs.errors import ShardCorrupt
from stratumfs.ids import Buffer, CellIndex, Nonce, StoreId, StripeNo, VolumeId
from stratumfs.shards.backend import ShardBackend
from stratumfs.shards.layout import ShardName
from stratumfs.volumes.block import corrected
from stratumfs.volumes.format import HEADER_SIZE, StripeAt, VolumeInfo, expected_digest, unpack_header


@dataclass(frozen=True, slots=True)
class CellKey:
    """Names the bytes of one cell for ever: a stripe number is written once, and the nonce tells writes apart."""

    volume: VolumeId
    stripe: StripeNo
    nonce: Nonce
    index: CellIndex


def read_cell(shards: ShardBackend, store: StoreId, volume: VolumeInfo, index: CellIndex, at: StripeAt) -> memoryview:
    """Read cell *index* of the stripe *at* and verify it. Blocks.

    Raises: ShardCorrupt; what the backend raises.
    """
    data = shards.read_at(ShardName(volume.id, index), at.position, HEADER_SIZE + at.cell_size)
    return verify_cell(data, store, volume, index, at)


def read_cell_nowait(
    shards: ShardBackend, store: StoreId, volume: VolumeInfo, index: CellIndex, at: StripeAt
) -> memoryview | None:
    """As `read_cell` if the page cache has it whole and good, else None."""
    data = shards.read_nowait(ShardName(volume.id, index), at.position, HEADER_SIZE + at.cell_size)
    if data is None:
        return None
    try:
        return verify_cell(data, store, volume, index, at)
    except ShardCorrupt:
        return None  # `read_cell` meets it again, and says so


def verify_cell(data: Buffer, store: StoreId, volume: VolumeInfo, index: CellIndex, at: StripeAt) -> memoryview:
    """The cell in *data*, its header and itself, if it is the one asked for, of the very write asked for, and whole.

    A cell can't vouch for itself: its own hash must agree, *and* store, volume, stripe number, index, geometry, length
    and nonce must be those that the row names. Raises: ShardCorrupt.
    """
    view = memoryview(data).toreadonly()
    if len(view) != HEADER_SIZE + at.cell_size:
        raise ShardCorrupt(f"shard {index} ends within stripe {at.stripe}")
    header, cell = view[:HEADER_SIZE], view[HEADER_SIZE:]
    expected = expected_digest(header, store, volume, index, at)
    if expected is not None and digest(cell) == expected:
        return cell
    fixed = corrected(header)  # the header may be what is damaged, its hash included
    if fixed is not None:
        expected = expected_digest(fixed, store, volume, index, at)
        if expected is not None and digest(cell) == expected:
            return cell
    raise ShardCorrupt(f"shard {index}, stripe {at.stripe}: {_what_is_wrong(header, expected)}")


def _what_is_wrong(header: memoryview, expected: bytes | None) -> str:
    if expected is not None:
        return "the cell does not match its hash"
    try:
        found = unpack_header(header)
    except ShardCorrupt as error:
        return str(error)
    return f"the cell is another one: volume {found.volume.hex()}, stripe {found.stripe}, nonce {found.nonce:#x}"


class CellCache:
    """Verified cells, the least recently used thrown out first. Lives on the loop; no awaits inside."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._cells: OrderedDict[CellKey, memoryview] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def get(self, key: CellKey) -> memoryview | None:
        """The cell, if it is here."""
        cell = self._cells.get(key)
        if cell is None:
            self.misses += 1
            return None
        self.hits += 1
        self._cells.move_to_end(key)
        return cell

    def put(self, key: CellKey, cell: memoryview) -> None:
        """Keep *cell*, whose bytes never change again."""
        old = self._cells.pop(key, None)
        if old is not None:
            self._bytes -= len(old)
        self._cells[key] = cell
        self._bytes += len(cell)
        while self._bytes > self._bytes_max:
            _, dropped = self._cells.popitem(last=False)
            self._bytes -= len(dropped)

    @property
    def size(self) -> int:
        """Bytes of all cells here."""
        return self._bytes
