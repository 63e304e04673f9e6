"""What a function of the catalog is given, and what the engine learns of it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import apsw

from stratumfs.catalog.connection import is_fatal, is_passing, translate
from stratumfs.errors import CatalogRefused
from stratumfs.ids import InodeNo

Value = int | float | str | bytes | bytearray | memoryview | None
"""What a column holds and a statement is given."""

_BLOBS = (bytes, bytearray, memoryview)

ROW_BYTES = 256
"""What a changed row counts for, besides its blobs, when the dirty bytes of a round are estimated."""
STATEMENT_BYTES = 4096
"""What each statement that changes something counts for: it dirties one page, at least."""


class Touched(NamedTuple):
    """What a transaction changed."""

    inodes: frozenset[InodeNo] = frozenset()
    names: frozenset[tuple[InodeNo, bytes]] = frozenset()
    """(parent, name)"""
    moved: frozenset[InodeNo] = frozenset()
    """Whose bytes lie elsewhere now, also where they are what they were, for which no answer waits."""
    replaced: frozenset[tuple[InodeNo, InodeNo]] = frozenset()
    """(old, new) of files whose name means another inode now."""


class Seen(NamedTuple):
    """What a read relied upon, also where it found nothing."""

    inodes: frozenset[InodeNo] = frozenset()
    names: frozenset[tuple[InodeNo, bytes]] = frozenset()
    directories: frozenset[InodeNo] = frozenset()


class Transaction:
    """One run of one function. Used on one thread, never across an await, and dead once the function has returned.

    No statement stays open between calls, so that all of them share a cursor. One that SQLite itself could not do (no
    room, no memory, I/O) may have rolled back the whole transaction: from then on every call raises that error again,
    for a function that caught it and went on would commit what follows by itself.

    Each statement raises CatalogRefused for what the schema or the syntax forbids (only that statement is undone),
    StoreFull, StoreBusy or CatalogCorrupt for what SQLite could not do.
    """

    __slots__ = (
        "_connection",
        "_cursor",
        "_writable",
        "directories_seen",
        "failure",
        "inodes_moved",
        "inodes_replaced",
        "inodes_seen",
        "inodes_touched",
        "names_seen",
        "names_touched",
        "weight_bytes",
    )

    def __init__(self, connection: apsw.Connection, *, writable: bool) -> None:
        self._connection = connection
        self._cursor: apsw.Cursor | None = connection.cursor()
        self._writable = writable
        self.failure: apsw.Error | None = None
        self.weight_bytes = 0
        self.inodes_touched: set[InodeNo] = set()
        self.names_touched: set[tuple[InodeNo, bytes]] = set()
        self.inodes_moved: set[InodeNo] = set()
        self.inodes_replaced: set[tuple[InodeNo, InodeNo]] = set()
        self.inodes_seen: set[InodeNo] = set()
        self.names_seen: set[tuple[InodeNo, bytes]] = set()
        self.directories_seen: set[InodeNo] = set()

    def all(self, sql: str, args: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        """Every row of the answer."""
        cursor = self._live()
        try:
            return cursor.execute(sql, args).fetchall()
        except apsw.Error as error:
            raise self._failed(error) from error

    def one(self, sql: str, args: Sequence[Value] = ()) -> tuple[Any, ...] | None:
        """The first row of the answer, if there is one. All of them are read: the statement says how many there are."""
        rows = self.all(sql, args)
        return rows[0] if rows else None

    def run(self, sql: str, args: Sequence[Value] = ()) -> int:
        """Change something. Returns the number of rows that the statement inserted, updated or deleted."""
        cursor, connection = self._live(), self._connection
        if not self._writable:
            raise CatalogRefused(f"a read changes nothing: {sql}")
        before = connection.total_changes()
        try:
            cursor.execute(sql, args).fetchall()
        except apsw.Error as error:
            raise self._failed(error) from error
        changed = connection.total_changes() - before
        self.weight_bytes += STATEMENT_BYTES + ROW_BYTES * changed
        for value in args:
            if isinstance(value, _BLOBS):
                self.weight_bytes += len(value)
        return connection.changes() if changed else 0

    def touch_inode(self, ino: InodeNo) -> None:
        """This transaction changes the inode: its attributes, bytes, xattrs, links."""
        self.inodes_touched.add(ino)

    def move_inode(self, ino: InodeNo) -> None:
        """This transaction changes where bytes of the inode lie."""
        self.inodes_moved.add(ino)

    def replace_inode(self, old: InodeNo, new: InodeNo) -> None:
        """This transaction gives a file's name to another one."""
        self.inodes_replaced.add((old, new))

    def touch_name(self, parent: InodeNo, name: bytes) -> None:
        """This transaction changes what *name* means in *parent*, and with it the listing of *parent*."""
        self.names_touched.add((parent, name))

    def see_inode(self, ino: InodeNo) -> None:
        """The answer relies on the inode."""
        self.inodes_seen.add(ino)

    def see_name(self, parent: InodeNo, name: bytes) -> None:
        """The answer relies on what *name* means in *parent*, also if that is nothing."""
        self.names_seen.add((parent, name))

    def see_directory(self, parent: InodeNo) -> None:
        """The answer relies on which names *parent* has."""
        self.directories_seen.add(parent)

    def end(self) -> None:
        """The function has returned: whoever kept the transaction cannot use it any more."""
        self._cursor = None

    def touched(self) -> Touched:
        return Touched(
            frozenset(self.inodes_touched),
            frozenset(self.names_touched),
            frozenset(self.inodes_moved),
            frozenset(self.inodes_replaced),
        )

    def seen(self) -> Seen:
        return Seen(frozenset(self.inodes_seen), frozenset(self.names_seen), frozenset(self.directories_seen))

    def _live(self) -> apsw.Cursor:
        if self._cursor is None:
            raise CatalogRefused("this transaction has ended")
        if self.failure is not None:
            raise translate(self.failure) from self.failure
        return self._cursor

    def _failed(self, error: apsw.Error) -> Exception:
        if is_fatal(error) or is_passing(error):
            self.failure = error
        return translate(error)
