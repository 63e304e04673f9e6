"""From committed to durable: the end of the WAL, who must hold it, and how a checkpoint folds it.

A *mark* is one moment of the WAL, taken on the loop in one step. A round is answered when every *member* holds its
mark; the primary, whose WAL the connections write, is the first of them.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import apsw

from stratumfs.catalog.connection import DATABASE, WAL, WAL_HEADER_BYTES, connect, log_bytes, rollback, wal_end
from stratumfs.catalog.logfile import LogFile
from stratumfs.catalog.state import TICK
from stratumfs.descriptor import Descriptor
from stratumfs.errors import CatalogCorrupt
from stratumfs.limits import CHECKPOINT_BUSY_TRIES_MAX

_SALT_OFFSET = 16


@dataclass(frozen=True, slots=True)
class Mark:
    """Transactions up to *sequence* lie in the WAL of generation *salt* before the byte *end*, or were folded."""

    sequence: int
    salt: int
    """Salt-1 of the WAL's header: SQLite adds 1 (mod 2**32) each time it starts the file over."""
    end: int


class PrimaryLost(CatalogCorrupt):
    """The database that is written to, or its log, cannot be used any more: its copies can."""


def primary_lost(error: Exception) -> PrimaryLost:
    """What an error at the primary's place means for its database."""
    if isinstance(error, PrimaryLost):
        return error
    lost = PrimaryLost(str(error))
    lost.__cause__ = error
    return lost


class Member(Protocol):
    """One place that must hold what is answered."""

    def hold(self, mark: Mark) -> bool:
        """Return when everything up to *mark* is on this member's stable storage, or a piece more of it, and then True:
        it is called again. A piece takes a bounded time.

        Called in a thread, by one round at a time, with marks that never go back; *mark* may be the last one again.
        Raises: OSError or CatalogCorrupt, which are final: a failed fdatasync may have dropped the very pages that
        the next one would find clean. It is never retried.
        """
        ...


class Primary:
    """The database and its ``-wal``: our own descriptors on both, and the WAL's committed end.

    Order of life: constructed *before* the first connection and closed after the last one, because closing any
    descriptor of the database drops the process's POSIX locks, SQLite's included.
    """

    def __init__(self, folder: Path) -> None:
        """Raises: FileNotFoundError; CatalogCorrupt if the ``-wal`` is missing."""
        self.folder = folder
        self._wal_path = folder / WAL
        self.frames = 0
        """Committed frames, as the WAL hook said last. Written by whichever connection commits: the loop's, or the
        checkpoint's while the gate is closed."""
        self.page_size = 0
        self._salt: int | None = None
        self.log_bytes = log_bytes(folder)
        """How long the log may be, for its disk."""
        self._database = Descriptor(os.open(folder / DATABASE, os.O_RDONLY | os.O_CLOEXEC))
        try:
            self._wal = LogFile(self._wal_path, os.open(self._wal_path, os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError as error:
            self._database.close()
            # Never deleted by us, so it was lost, and with it what was acknowledged since the last checkpoint.
            raise CatalogCorrupt(f"{self._wal_path} is missing") from error
        if os.fstat(self._wal.number).st_size < WAL_HEADER_BYTES:
            self.close()
            raise CatalogCorrupt(f"{self._wal_path} was cut")

    def watch(self, *connections: apsw.Connection) -> None:
        """Count the frames that these commit."""
        for connection in connections:
            self.page_size = int(connection.pragma("page_size"))
            connection.set_wal_hook(self._hook)

    def _hook(self, connection: apsw.Connection, name: str, frames: int) -> int:
        self.frames = frames
        return apsw.SQLITE_OK

    def mark(self, sequence: int) -> Mark:
        """On the loop, in the same step as the commit it marks or any later one, never beside a checkpoint's tick.

        Raises: PrimaryLost, also if the header is no longer SQLite's: each life of the file has the salt after that of
        the one before, and between two marks lies one checkpoint at most.
        """
        salt = self.salt()
        if self._salt is not None and (salt - self._salt) % (1 << 32) > 1:
            raise PrimaryLost(f"{self._wal_path} was overwritten")
        self._salt = salt
        return Mark(sequence, salt, self.wal_bytes())

    def salt(self) -> int:
        """Of the WAL's present life; see `Mark`. Raises: as `mark`."""
        header = self.read_wal(0, WAL_HEADER_BYTES)
        if len(header) < WAL_HEADER_BYTES:
            raise PrimaryLost(f"{self._wal_path} was cut")
        return int.from_bytes(header[_SALT_OFFSET : _SALT_OFFSET + 4], "big")

    def wal_bytes(self) -> int:
        return wal_end(self.frames, self.page_size)

    def hold(self, mark: Mark) -> bool:
        self._wal.hold(mark.end)
        return False

    def read_wal(self, position: int, length: int) -> bytes:
        """Bytes of the log. Raises: PrimaryLost: it is not a copy's doing."""
        try:
            data = os.pread(self._wal.number, length, position)
        except OSError as error:
            raise PrimaryLost(f"{self._wal_path} cannot be read: {error.strerror}") from error
        if not data:
            raise PrimaryLost(f"{self._wal_path} was cut")
        return data

    def read_database(self, position: int, length: int) -> bytes:
        """Bytes of the database, by our own descriptor: closing another one would drop SQLite's locks. Empty at its
        end. Raises: PrimaryLost."""
        try:
            return os.pread(self._database.number, length, position)
        except OSError as error:
            raise PrimaryLost(f"{self.folder / DATABASE} cannot be read: {error.strerror}") from error

    def database_bytes(self) -> int:
        """How long the database is, without its log. Raises: PrimaryLost."""
        try:
            return os.fstat(self._database.number).st_size
        except OSError as error:
            raise PrimaryLost(f"{self.folder / DATABASE} cannot be read: {error.strerror}") from error

    def sync_database(self) -> None:
        """A PASSIVE checkpoint that stops short does not; paid beside the writers, the end phase is short."""
        os.fdatasync(self._database.number)

    def close(self) -> None:
        """A thread that hangs in a call keeps the file it is about, and its next call fails."""
        self._wal.close()
        self._database.close()


class Checkpointer:
    """Folds the WAL into the database on connections of its own, in threads; used by one checkpoint at a time."""

    def __init__(self, folder: Path, primary: Primary) -> None:
        self._primary = primary
        self._bulk = connect(folder / DATABASE)
        try:
            self._pin = connect(folder / DATABASE)
        except BaseException:
            self._bulk.close()
            raise
        primary.watch(self._bulk)

    def pin(self) -> None:
        """Begin a read: until `unpin` nobody starts the WAL over."""
        self._pin.execute("begin")
        self._pin.execute("select count(*) from catalog_state").fetchall()

    def unpin(self) -> None:
        rollback(self._pin)

    def bulk(self) -> None:
        """Fold what is there when it is called, beside running writers.

        Raises: apsw.Error; OSError.
        """
        self._passive()
        self._primary.sync_database()

    def finish(self) -> bool:
        """Fold the rest and start the WAL over, while nobody writes. Returns whether it started over.

        Raises: apsw.Error; PrimaryLost.
        """
        self._passive()
        before = self._primary.salt()
        self._bulk.execute(TICK)  # the first commit after a whole checkpoint starts over; the header's fsync is here
        return self._primary.salt() != before

    def close(self) -> None:
        self._pin.close()
        self._bulk.close()

    def _passive(self) -> None:
        for _ in range(CHECKPOINT_BUSY_TRIES_MAX):
            try:
                self._bulk.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            except apsw.BusyError:  # seen once in some 10,000, beside a busy writer: it passes
                time.sleep(0.001)
            else:
                return
        raise apsw.BusyError("checkpoint")
