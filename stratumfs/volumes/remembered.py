"""Hashes of the blocks of cells that were verified whole, so that a part of such a cell can be read and verified alone.

The hash in a cell's header is of all its bytes, a quarter of a stripe mostly, and a random read wants 4 KiB of them.
What lies on a device may rot at any time, so each byte that is served again is verified again: by the hash of its
block, which was made of bytes that the cell's own hash vouched for. That is in memory alone; the format knows nothing
of it.
"""

from collections import OrderedDict

from stratumfs.erasure.checksum import digest
from stratumfs.ids import KIB, CellIndex
from stratumfs.room import room
from stratumfs.shards.layout import ShardName
from stratumfs.volumes.cells import CellKey
from stratumfs.volumes.format import HEADER_SIZE
from stratumfs.volumes.gather import StripeSource

BLOCK = 16 * KIB
CELLS_REMEMBERED_MAX = 8192
"""Half a KiB each, if they are of 256 KiB."""
_BLOCKS_MIN = 4
"""A cell of fewer is read whole for hardly more."""
_HASH = 32


class Remembered:
    """Bounded, the least recently read thrown out first. A key names bytes for ever. Lives on the loop."""

    def __init__(self, cells_max: int = CELLS_REMEMBERED_MAX) -> None:
        self._cells_max = cells_max
        self._hashes: OrderedDict[CellKey, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._hashes)

    @staticmethod
    def helps(cell_size: int, length: int) -> bool:
        """Whether a read of *length* bytes of such a cell is better made of blocks."""
        return length <= BLOCK and cell_size >= _BLOCKS_MIN * BLOCK

    def remember(self, key: CellKey, cell: memoryview) -> None:
        """*cell* is verified."""
        self._hashes[key] = b"".join([digest(cell[at : at + BLOCK]) for at in range(0, len(cell), BLOCK)])
        if len(self._hashes) > self._cells_max:
            self._hashes.popitem(last=False)

    def read(self, key: CellKey, source: StripeSource, begin: int, length: int) -> memoryview | None:
        """Bytes of a cell from its byte *begin* on, read-only and verified.

        None if its blocks are not known, if the page cache does not have these, or if one is not as it was: whoever
        then reads the whole cell meets that.
        """
        hashes = self._hashes.get(key)
        device = source.device(CellIndex(key.cell)) if hashes is not None else None
        if hashes is None or device is None:
            return None
        self._hashes.move_to_end(key)
        start = begin - begin % BLOCK
        data = room(min(-(-(begin + length) // BLOCK) * BLOCK, source.at.cell_size) - start)
        if not device.shards.read_nowait(ShardName(key.volume, key.cell), _place(source, start), (data,)):
            return None
        for at in range(0, len(data), BLOCK):
            number = (start + at) // BLOCK
            if digest(data[at : at + BLOCK]) != hashes[number * _HASH : (number + 1) * _HASH]:
                return None
        return data.toreadonly()[begin - start : begin - start + length]


def _place(source: StripeSource, offset: int) -> int:
    """Of a byte of a cell in its shard."""
    return source.at.position + HEADER_SIZE + offset
