"""Copies of the catalog: a base, and the primary's log as it grows, on another place's stable storage.

A copy's log is byte for byte the primary's, in a file of its own for each generation. Closed ones are folded into the
base beside all that, and their blocks are written over by a later one: a sync of blocks that exist costs a fraction of
one that makes the file grow.
"""

import os
import threading
from io import FileIO
from pathlib import Path

from stratumfs.catalog.chains import COPY_CHUNK, COPY_SYNC, SALTS, Copied, CopyFiles, copy_files, fold
from stratumfs.catalog.connection import WAL_HEADER_BYTES, fsync_path, log_bytes, wal_end
from stratumfs.catalog.durability import Mark, Primary
from stratumfs.catalog.logfile import LogFile
from stratumfs.catalog.progress import Step, unwatched
from stratumfs.descriptor import close_soon
from stratumfs.errors import CatalogCorrupt, StoreReadOnly
from stratumfs.ids import Disk, PlaceId
from stratumfs.limits import CHECKPOINT_BYTES


class Copy:
    """A member (`durability.Member`) that follows *primary*.

    Its methods block. `hold` and `follow` are called by one thread at a time, `fold` beside them by another one.

    salt        of generation 0
    generation  the one that is open; ``shipped`` bytes of it are here
    log_bytes   how long the log may be, for this disk; known when one is here
    """

    def __init__(self, place: PlaceId, disk: Disk, folder: Path, primary: Primary, salt: int, generation: int) -> None:
        self.place, self.disk, self.folder = place, disk, folder
        self.salt, self.generation, self.shipped = salt, generation, 0
        self.log_bytes = CHECKPOINT_BYTES
        self._primary = primary
        self._file: LogFile | None = None
        self._folding = threading.Lock()
        self._given_up = False

    def hold(self, mark: Mark) -> bool:
        """See `Member.hold`; a piece is COPY_SYNC. Raises: also PrimaryLost, which says nothing against this copy."""
        try:
            return self._hold(mark)
        finally:
            if self._given_up:  # while it ran: it may have opened a file, which is closed here and not on the loop
                self._file = None

    def _hold(self, mark: Mark) -> bool:
        generation = (mark.salt - self.salt) % SALTS
        file = self._file or self._open()
        if generation != self.generation:
            file = self._turn(generation)
        end = min(mark.end, self.shipped + COPY_SYNC)
        while self.shipped < end:
            data = self._primary.read_wal(self.shipped, min(COPY_CHUNK, end - self.shipped))
            self.shipped += os.pwrite(file.number, data, self.shipped)
        file.hold(self.shipped)
        return self.shipped < mark.end

    def demand_same_log(self, primary: Primary, mark: Mark) -> None:
        """What this was seeded of is *primary*, and its log goes on up to *mark*. Raises: StoreReadOnly."""
        if self._primary is not primary:  # its log has bytes of its own from where the copy took over
            raise StoreReadOnly("another place has become the primary meanwhile: later again")
        if (mark.salt - self.salt) % SALTS != self.generation:
            raise StoreReadOnly("the log was started over meanwhile: later again")

    def follow(self, primary: Primary) -> None:
        """Ship the open generation again, from *primary*, which goes on from this copy's chain or a longer one."""
        self._primary = primary
        self.shipped = 0

    def fold(self, step: Step = unwatched) -> None:
        """Fold what is closed. Raises: CatalogCorrupt, OSError."""
        with self._folding:
            fold(self.folder, step)

    def give_up(self) -> None:
        """Nobody calls `hold` any more; a call that has not come back keeps its file open until it does."""
        self._given_up = True
        close_soon([self])

    def close(self) -> None:
        self._file = None

    def _turn(self, generation: int) -> LogFile:
        """The primary has started its log over: close the open generation and begin the next in recycled blocks."""
        if generation != self.generation + 1:
            raise CatalogCorrupt(f"{self.folder}: the log went from generation {self.generation} to {generation}")
        frames = (self.shipped - WAL_HEADER_BYTES) // (wal_end(1, self._primary.page_size) - WAL_HEADER_BYTES)
        self._file = None
        log = self.folder / f"wal.{self.generation}"
        log.rename(self.folder / f"{log.name}.{frames}")
        self.generation = generation  # at once: should the next one not open, `hold` may be called again
        return self._open()

    def _open(self) -> LogFile:
        path, spare = self.folder / f"wal.{self.generation}", self.folder / "spare"
        if not path.exists() and spare.exists():
            spare.rename(path)
        file = LogFile(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        fsync_path(self.folder)
        self._file, self.shipped, self.log_bytes = file, 0, log_bytes(file.number)
        return file


def seed(folder: Path, primary: Primary, generation: int, step: Step = unwatched) -> None:
    """Copy *primary*'s database into the empty *folder* as the base of *generation*, which is open now.

    A checkpoint may run beside: whatever it has written of that generation, also half a page, is written over by the
    log, which is shipped from its beginning. Durable on return. Raises: PrimaryLost; OSError.
    """
    path = folder / f"base.{generation}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with FileIO(descriptor, "wb") as file:
        copied = Copied(file, step)
        while data := primary.read_database(copied.size, COPY_CHUNK):
            copied.add(data)
        copied.end()
    fsync_path(folder)


def fits(folder: Path, generation: int) -> bool:
    """Whether a copy, its closed generations folded, can go on with the open *generation* of the primary.

    Its own is the same one: it may lack frames of it, or have others, for it is shipped again from the beginning.
    """
    try:
        found: CopyFiles = copy_files(folder)
    except (CatalogCorrupt, OSError):
        return False
    return found.base == generation and not found.closed
