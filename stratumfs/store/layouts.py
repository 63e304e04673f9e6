"""Where the bytes of files lie that are read, kept until a transaction touches them or moves their bytes.

Each commit says so in the same step, before anybody sees what it changed; of the reaping of an inode nobody is told,
for who reads one holds it. A file of many extents is not kept, nor one with bytes in the catalog: of those a part is
read at a time.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from stratumfs.catalog.engine import Transaction
from stratumfs.catalog.extents import layout
from stratumfs.catalog.transaction import Touched
from stratumfs.errors import NotFound
from stratumfs.ids import InodeNo
from stratumfs.limits import KNOWN_LAYOUTS_MAX, KNOWN_ROWS_MAX
from stratumfs.values import Extent


@dataclass(frozen=True, slots=True)
class Layout:
    """Of an inode as it is now. extents: all, in order, none with bytes of its own; None if it has no such layout."""

    size: int
    extents: Sequence[Extent] | None

    def over(self, start: int, stop: int) -> list[Extent]:
        """Those that overlap [start, stop)."""
        assert self.extents is not None
        return [each for each in self.extents if each.offset < stop and each.offset + each.length > start]


class Layouts:
    """Bounded by number; those not asked for longest go first. Used on the loop."""

    def __init__(self) -> None:
        self._found: OrderedDict[InodeNo, Layout] = OrderedDict()

    def get(self, ino: InodeNo) -> Layout | None:
        return self._found.get(ino)

    def add(self, ino: InodeNo, found: Layout) -> None:
        """In the same step in which it was read."""
        self._found[ino] = found
        if len(self._found) > KNOWN_LAYOUTS_MAX:
            self._found.popitem(last=False)

    def heed(self, touched: Touched | None) -> None:
        """A transaction was committed; None: the database is another one."""
        if touched is None:
            self._found.clear()
        elif self._found:
            for places in (touched.inodes, touched.moved):
                for ino in places:
                    self._found.pop(ino, None)


def whole_layout(tx: Transaction, ino: InodeNo) -> Layout:
    """Raises: NotFound, CatalogCorrupt."""
    size = size_of(tx, ino)
    extents = layout(tx, ino, 0, size, KNOWN_ROWS_MAX + 1)
    kept = len(extents) <= KNOWN_ROWS_MAX and all(each.location is not None for each in extents)
    return Layout(size, extents if kept else None)


def size_of(tx: Transaction, ino: InodeNo) -> int:
    tx.see_inode(ino)
    row = tx.one("select size from inode where ino = ?", (ino,))
    if row is None:
        raise NotFound(f"no inode {ino}")
    size: int = row[0]
    return size
