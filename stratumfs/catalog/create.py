"""A new catalog. What can never be changed later is decided here: page size, auto_vacuum, where ids begin."""

import os
from collections.abc import Sequence
from pathlib import Path

import apsw

from stratumfs.catalog.connection import DATABASE, WAL, bare, fsync_path, keep_wal, translate
from stratumfs.catalog.ids import FIRST
from stratumfs.catalog.state import STATE_DDL
from stratumfs.errors import AlreadyExists

_OWN_FILES = (DATABASE, WAL)


def create_catalog(folder: Path, schema: Sequence[str], version: int, *, page_size: int) -> None:
    """Make the database in *folder* (made if missing, its parent is not), whole and on stable storage.

    *schema* is run statement by statement, tables and first rows alike; *page_size* in bytes, a power of two.
    Blocking. Raises: AlreadyExists if a catalog is there; OSError. What was begun is removed again.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    present = [name for name in _OWN_FILES if (folder / name).exists()]
    if present:
        raise AlreadyExists(f"{folder / present[0]} exists")
    try:
        _build(folder / DATABASE, schema, version, page_size)
        for name in (DATABASE, WAL):
            fsync_path(folder / name)
        fsync_path(folder)
        fsync_path(folder.parent)
    except BaseException as error:
        for name in _OWN_FILES:
            (folder / name).unlink(missing_ok=True)
        if isinstance(error, apsw.Error):
            raise translate(error) from error
        raise


def _build(path: Path, schema: Sequence[str], version: int, page_size: int) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    db = bare(path)
    try:
        # Page size and auto_vacuum first: both are fixed by the first page that is written.
        for pragma in (f"page_size = {page_size}", "auto_vacuum = incremental", "journal_mode = wal"):
            db.execute(f"pragma {pragma}").fetchall()
        keep_wal(db)
        db.execute("begin immediate")
        db.execute(STATE_DDL)
        state = {"schema_version": version, "sequence": 0, "tick": 0, **FIRST}
        db.executemany("insert into catalog_state values (?, ?)", list(state.items()))
        for statement in schema:
            db.execute(statement)
        db.execute("commit")
    finally:
        db.close()
