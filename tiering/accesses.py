"""What the doors tell, kept until the engine asks for it: a bounded buffer that costs them a microsecond.

It is the store's ``AccessObserver``, and a listener of its catalog: which inodes changed, appeared or went is noted of
each commit, and looked up later. Nothing is lost by that but order: an inode that has changed ten times is looked at
once.
"""

from collections.abc import Callable
from typing import NamedTuple

from stratumfs.catalog.transaction import Touched
from stratumfs.ids import InodeNo
from stratumfs.limits import ACCESSES_MAX, CHANGES_MAX


class Read(NamedTuple):
    """at: seconds since the epoch"""

    ino: InodeNo
    at: float
    size: int
    offset: int


class Accesses:
    """Owned by the owner, filled and emptied on its loop.

    lost       reads that found no room since the start
    all_anew   too much has changed to be looked up one by one, or the database is another one
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.lost = 0
        self.all_anew = False
        self._clock = clock
        self._reads: list[Read] = []
        self._written: set[InodeNo] = set()
        self._changed: set[InodeNo] = set()
        self._directories: set[tuple[InodeNo, bytes]] = set()
        self._replaced: dict[InodeNo, InodeNo] = {}

    def read(self, ino: InodeNo, count: int, offset: int) -> None:
        if len(self._reads) < ACCESSES_MAX:
            self._reads.append(Read(ino, self._clock(), count, offset))
        else:
            self.lost += 1

    def wrote(self, ino: InodeNo, count: int) -> None:
        if len(self._written) < CHANGES_MAX:
            self._written.add(ino)

    def heed(self, touched: Touched | None) -> None:
        """A transaction was committed; None: the database is another one."""
        if touched is None or len(self._changed) > CHANGES_MAX or len(self._directories) > CHANGES_MAX:
            self.all_anew = True
            return
        self._changed |= touched.inodes
        self._changed |= touched.moved
        self._replaced.update(touched.replaced)
        for place in touched.names:
            if place[1].endswith(b"/"):
                self._directories.add(place)

    def note(self, ino: InodeNo) -> None:
        """As if it had changed."""
        if len(self._changed) > CHANGES_MAX:
            self.all_anew = True
        else:
            self._changed.add(ino)

    def take_reads(self) -> list[Read]:
        """In the order in which they ended."""
        taken, self._reads = self._reads, []
        return taken

    def take_changed(self) -> list[InodeNo]:
        """In the order of their numbers, in which they were made."""
        taken, self._changed = self._changed, set()
        return sorted(taken)

    def take_written(self) -> set[InodeNo]:
        taken, self._written = self._written, set()
        return taken

    def take_replaced(self) -> dict[InodeNo, InodeNo]:
        """By the old inode the one that has its name now, in the order in which that happened."""
        taken, self._replaced = self._replaced, {}
        return taken

    def take_directories(self) -> set[tuple[InodeNo, bytes]]:
        """(parent, name) of names of directories that came, went, or mean another one."""
        taken, self._directories = self._directories, set()
        return taken
