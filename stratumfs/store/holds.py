"""Which inodes somebody has open: an unlinked one stays readable until the last of them lets go."""

from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stratumfs.ids import InodeNo

if TYPE_CHECKING:
    from collections.abc import Iterator


class Holds:
    """Counters in memory, owned by the store and used on the loop. *released* is told of each inode let go."""

    def __init__(self, released: Callable[[InodeNo], None]) -> None:
        self._counts: dict[InodeNo, int] = {}
        self._released = released

    def __contains__(self, ino: InodeNo) -> bool:
        return ino in self._counts

    def __len__(self) -> int:
        return len(self._counts)

    def take(self, ino: InodeNo, count: int = 1) -> None:
        self._counts[ino] = self._counts.get(ino, 0) + count

    def drop(self, ino: InodeNo, count: int = 1) -> None:
        left = self._counts[ino] - count
        assert left >= 0, f"inode {ino} was let go more often than taken"
        if left:
            self._counts[ino] = left
        else:
            del self._counts[ino]
            self._released(ino)

    @contextmanager
    def holding(self, ino: InodeNo) -> "Iterator[None]":
        self.take(ino)
        try:
            yield
        finally:
            self.drop(ino)
