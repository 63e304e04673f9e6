"""What open(2) and opendir(2) gave out, and which inodes the kernel knows."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

from stratumfs.fuse.buffer import FileBuffer
from stratumfs.ids import InodeNo
from stratumfs.limits import HANDLES_MAX, READDIR_CHUNK_MIN
from stratumfs.store.holds import Holds


@dataclass(slots=True, eq=False)
class Handle:
    """An open file.

    buffer      of a file that was opened for writing
    next_read   where the last read ended: one that begins there is sequential
    ahead       end of what was read ahead
    note_read   the first read is to be noted as an access
    """

    ino: InodeNo
    buffer: FileBuffer | None = None
    next_read: int = 0
    ahead: int = 0
    note_read: bool = False
    reading_ahead: bool = False


@dataclass(slots=True, eq=False)
class DirectoryHandle:
    """An open directory; *chunk* is how many entries are fetched at once: what the kernel has room for, and a few."""

    ino: InodeNo
    chunk: int = READDIR_CHUNK_MIN


H = TypeVar("H", Handle, DirectoryHandle)


class Handles(Generic[H]):
    """Open handles by number; a number is not used twice in the life of a mount. Bound: ``HANDLES_MAX``."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._open: dict[int, H] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __getitem__(self, number: int) -> H:
        return self._open[number]

    @property
    def full(self) -> bool:
        return len(self._open) >= HANDLES_MAX

    def add(self, handle: H) -> int:
        number = next(self._numbers)
        self._open[number] = handle
        return number

    def pop(self, number: int) -> H:
        return self._open.pop(number)


class Lookups:
    """How often each inode was handed to the kernel. An inode that it knows is held: unlinked, it stays readable."""

    def __init__(self, holds: Holds, forgotten: Callable[[InodeNo], None]) -> None:
        self._holds, self._forgotten = holds, forgotten
        self._counts: dict[InodeNo, int] = {}

    def __contains__(self, ino: object) -> bool:
        return ino in self._counts

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, ino: InodeNo) -> None:
        known = self._counts.get(ino)
        if known is None:
            self._counts[ino] = 1
            self._holds.take(ino)
        else:
            self._counts[ino] = known + 1

    def forget(self, inodes: Iterable[tuple[InodeNo, int]]) -> None:
        for ino, times in inodes:
            left = self._counts.get(ino, 0) - times
            if left > 0:
                self._counts[ino] = left
            elif self._counts.pop(ino, None) is not None:
                self._forgotten(ino)
                self._holds.drop(ino)

    def forget_all(self) -> None:
        """The kernel is gone; what it knew it does not tell any more."""
        self.forget(list(self._counts.items()))
