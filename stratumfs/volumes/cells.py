"""One cell: read from its shard and verified; and a bounded cache of verified ones."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from stratumfs.erasure.checksum import digest
from stratumfs.errors import ShardCorrupt
from stratumfs.ids import Buffer, CellIndex, Nonce, StoreId, StripeNo, VolumeId
from stratumfs.limits import REMOTE_VERB_S
from stratumfs.shards.backend import ShardReader
from stratumfs.shards.layout import ShardName
from stratumfs.shards.recalled import Recalled
from stratumfs.volumes.block import corrected
from stratumfs.volumes.format import HEADER_SIZE, StripeAt, VolumeInfo, expected_digest, unpack_header


class CellKey(NamedTuple):
    """Names the bytes of one cell for ever: a stripe number is written once, and the nonce tells writes apart."""

    volume: VolumeId
    stripe: StripeNo
    nonce: Nonce
    cell: CellIndex


def read_cell(shards: ShardReader, store: StoreId, volume: VolumeInfo, index: CellIndex, at: StripeAt) -> memoryview:
    """Read cell *index* of the stripe *at* and verify it. Blocks.

    Raises: ShardCorrupt; what the backend raises.
    """
    data = shards.read_at(ShardName(volume.id, index), at.position, HEADER_SIZE + at.cell_size)
    return verify_cell(data, store, volume, index, at)


def read_cell_nowait(
    shards: ShardReader, store: StoreId, volume: VolumeInfo, index: CellIndex, at: StripeAt, room: memoryview
) -> bool:
    """Read the cell into *room*, if the page cache has it whole and good; else False, and *room* holds anything."""
    header = memoryview(bytearray(HEADER_SIZE))
    if not shards.read_nowait(ShardName(volume.id, index), at.position, (header, room)):
        return False
    try:
        _check_cell(header, room, store, volume, index, at)
    except ShardCorrupt:
        return False  # `read_cell` meets it again, and says so
    return True


def recalled_cells(
    recalled: Recalled, store: StoreId, volume: VolumeInfo, parts: Sequence[tuple[StripeAt, int, int]]
) -> list[memoryview] | None:
    """Of each part, a stripe of one cell and bytes from and to in it, what was fetched ahead, verified; each cell once
    where its parts follow one another. None if something was not, or did not come. Blocks, while it is on its way.

    Raises: ShardCorrupt.
    """
    found: list[memoryview] = []
    last: tuple[StripeAt, memoryview] | None = None
    for at, start, stop in parts:
        if last is None or last[0] != at:
            data = recalled.view(volume.id, at.position, HEADER_SIZE + at.cell_size, REMOTE_VERB_S)
            if data is None:
                return None
            last = at, verify_cell(data, store, volume, CellIndex(0), at)
        found.append(last[1][start:stop])
    return found


def verify_cell(data: Buffer, store: StoreId, volume: VolumeInfo, index: CellIndex, at: StripeAt) -> memoryview:
    """The cell in *data*, its header and itself, if it is the one asked for, of the very write asked for, and whole.

    A cell can't vouch for itself: its own hash must agree, *and* store, volume, stripe number, index, geometry, length
    and nonce must be those that the row names. Raises: ShardCorrupt.
    """
    view = memoryview(data).toreadonly()
    if len(view) != HEADER_SIZE + at.cell_size:
        raise ShardCorrupt(f"shard {index} ends within stripe {at.stripe}")
    header, cell = view[:HEADER_SIZE], view[HEADER_SIZE:]
    _check_cell(header, cell, store, volume, index, at)
    return cell


def _check_cell(
    header: memoryview, cell: memoryview, store: StoreId, volume: VolumeInfo, index: CellIndex, at: StripeAt
) -> None:
    """Raises: ShardCorrupt, as `verify_cell` says."""
    expected = expected_digest(header, store, volume, index, at)
    if expected is not None and digest(cell) == expected:
        return
    fixed = corrected(header)  # the header may be what is damaged, its hash included
    if fixed is not None:
        expected = expected_digest(fixed, store, volume, index, at)
        if expected is not None and digest(cell) == expected:
            return
    raise ShardCorrupt(f"shard {index}, stripe {at.stripe}: {_what_is_wrong(header, expected)}")


def _what_is_wrong(header: memoryview, expected: bytes | None) -> str:
    if expected is not None:
        return "the cell does not match its hash"
    try:
        found = unpack_header(header)
    except ShardCorrupt as error:
        return str(error)
    return f"the cell is another one: volume {found.volume.hex()}, stripe {found.stripe}, nonce {found.nonce:#x}"


class Cell(NamedTuple):
    """A verified cell: bytes of *run* from *start* on, which never change again.

    Cells that were read together lie behind one another in one run, so that whoever wants several copies nothing.
    """

    run: memoryview
    start: int
    size: int

    @property
    def bytes(self) -> memoryview:
        return self.run[self.start : self.start + self.size]


class CellCache:
    """Verified cells, the least recently used thrown out first. Lives on the loop; no awaits inside.

    What counts are the bytes of cells; the last one of a run keeps all of it, until it follows the others.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._cells: OrderedDict[CellKey, Cell] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def __contains__(self, key: CellKey) -> bool:
        return key in self._cells

    def get(self, key: CellKey) -> Cell | None:
        """The cell, if it is here."""
        cell = self._cells.get(key)
        if cell is None:
            self.misses += 1
            return None
        self.hits += 1
        self._cells.move_to_end(key)
        return cell

    def put(self, key: CellKey, cell: Cell) -> None:
        old = self._cells.pop(key, None)
        if old is not None:
            self._bytes -= old.size
        self._cells[key] = cell
        self._bytes += cell.size
        while self._bytes > self._bytes_max:
            _, dropped = self._cells.popitem(last=False)
            self._bytes -= dropped.size

    @property
    def size(self) -> int:
        """Bytes of all cells here."""
        return self._bytes
