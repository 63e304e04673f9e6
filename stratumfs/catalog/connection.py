"""Connections to the database, and its errors in our words. What only SQLite knows stands here."""

import ctypes
import os
from pathlib import Path

import apsw

from stratumfs.errors import CatalogCorrupt, CatalogRefused, StoreBusy, StoreFull, StratumError
from stratumfs.ids import KIB
from stratumfs.limits import CATALOG_CACHE_BYTES, CHECKPOINT_BYTES, CHECKPOINT_BYTES_MIN, CHECKPOINT_SHARE

DATABASE = "catalog.db"
WAL = f"{DATABASE}-wal"
VFS = "unix-excl"
"""The log's index lies in memory that our connections share, not in a mapped file: a page of that which the disk cannot
give would kill the process, where all else that fails is an error. Other processes are kept out."""
WAL_HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24

_FATAL = (
    apsw.IOError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.CantOpenError,
    apsw.FormatError,
    apsw.InternalError,
    apsw.ProtocolError,
    apsw.ReadOnlyError,  # of a file that we opened for writing: it was moved, or its file system turned read-only
)
_PASSING = (apsw.FullError, apsw.NoMemError, apsw.InterruptError, apsw.BusyError, apsw.LockedError)


def connect(path: Path, *, read_only: bool = False) -> apsw.Connection:
    """A connection to an existing database in WAL mode that never folds or deletes the ``-wal`` by itself.

    Raises: StratumError, as `translate` says.
    """
    try:
        db = bare(path)
    except apsw.Error as error:
        raise translate(error) from error
    try:
        # First of all: a last close without these two deletes the -wal, and the next one starts with random salts.
        keep_wal(db)
        db.set_busy_timeout(0)  # waiting is the loop's business
        # Else a statement is prepared anew for each value that it is given, wherever a table has a partial index.
        db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        for pragma in (
            "synchronous = normal",  # durability is the round's fdatasync
            "wal_autocheckpoint = 0",  # removes the WAL hook: set it afterwards
            "temp_store = memory",  # else savepoints spill into a temporary file, on the loop
            "trusted_schema = off",
            f"cache_size = -{CATALOG_CACHE_BYTES // KIB}",
            f"journal_size_limit = {log_bytes_kept(path.parent)}",
            f"query_only = {int(read_only)}",
        ):
            db.execute(f"pragma {pragma}").fetchall()
    except BaseException as error:
        db.close()
        if isinstance(error, apsw.Error):
            raise translate(error) from error
        raise
    return db


def log_bytes(place: Path | int) -> int:
    """How long the log may be before it is folded, by the size of the disk of a folder or of an open file."""
    found = os.statvfs(place)
    return max(CHECKPOINT_BYTES_MIN, min(CHECKPOINT_BYTES, found.f_blocks * found.f_frsize // CHECKPOINT_SHARE))


def log_bytes_kept(folder: Path) -> int:
    """Of the log's file, when it is started over: what a late checkpoint made longer goes back to the disk."""
    return log_bytes(folder) * 3 // 2


def stable_view(folder: Path) -> apsw.Connection:
    """A connection to the database in *folder*, in a transaction that has begun to read: it shows this moment.

    Raises: StratumError.
    """
    db = connect(folder / DATABASE, read_only=True)
    try:
        db.execute("begin")
        db.execute("select count(*) from sqlite_schema").fetchall()
    except BaseException as error:
        db.close()
        if isinstance(error, apsw.Error):
            raise translate(error) from error
        raise
    return db


def private_view(path: Path) -> apsw.Connection:
    """A connection that has read the database at *path* and its log, and shows this moment: without locks, and with an
    index of the log of its own, for the same files may be open under other names.

    Raises: StratumError; StoreBusy also where the system did not open them.
    """
    try:
        db = apsw.Connection(os.fspath(path), apsw.SQLITE_OPEN_READONLY, vfs="unix-none")
    except apsw.Error as error:
        raise translate(error) from error
    try:
        for pragma in (
            "locking_mode = exclusive",  # else the index would have to be shared
            "query_only = 1",
            "temp_store = memory",
            "trusted_schema = off",
            f"cache_size = -{CATALOG_CACHE_BYTES // KIB}",
        ):
            db.execute(f"pragma {pragma}").fetchall()
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        db.execute("select count(*) from sqlite_schema").fetchall()
    except apsw.CantOpenError as error:
        db.close()
        raise StoreBusy(f"{path} cannot be opened now: {error}") from error
    except BaseException as error:
        db.close()
        if isinstance(error, apsw.Error):
            raise translate(error) from error
        raise
    return db


def bare(path: Path) -> apsw.Connection:
    """A connection as SQLite makes it."""
    return apsw.Connection(os.fspath(path), apsw.SQLITE_OPEN_READWRITE, vfs=VFS, statementcachesize=400)


def keep_wal(db: apsw.Connection) -> None:
    """Closing *db* leaves the ``-wal`` as it is."""
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    one = ctypes.c_int(1)
    db.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(one))


def rollback(db: apsw.Connection) -> None:
    """End the transaction, if SQLite did not do so already."""
    if db.in_transaction:
        db.execute("rollback")


def is_fatal(error: BaseException | None) -> bool:
    """Is the database itself in doubt, so that nothing may be written to it again?"""
    return isinstance(error, _FATAL) and getattr(error, "extendedresult", 0) != apsw.SQLITE_IOERR_NOMEM


def is_passing(error: BaseException | None) -> bool:
    """Did SQLite give up, perhaps with the whole transaction, on what may work a little later?"""
    return isinstance(error, _FATAL + _PASSING) and not is_fatal(error)


def translate(error: apsw.Error) -> StratumError:
    """The error to raise ``from`` *error*."""
    if isinstance(error, apsw.FullError):
        return StoreFull(f"the catalog has no room: {error}")
    if is_passing(error):
        return StoreBusy(f"the catalog cannot do it now: {error}")
    if is_fatal(error):
        return CatalogCorrupt(f"the catalog's database fails: {error}")
    return CatalogRefused(f"the catalog refuses: {error}")


def wal_end(frames: int, page_size: int) -> int:
    """Bytes of a log with so many frames."""
    return WAL_HEADER_BYTES + frames * (FRAME_HEADER_BYTES + page_size)


def fsync_path(path: Path) -> None:
    """Put a file or a folder on stable storage. Not for an open database: closing it would drop SQLite's locks."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
