"""What a function of the catalog is given, and what the engine learns of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import apsw

from stratumfs.catalog.connection import is_fatal, is_passing, translate
from stratumfs.errors import CatalogRefused
from stratumfs.ids import InodeNo

Value = int | float | str | bytes | bytearray | memoryview | None
"""What a column holds and a statement is given."""

ROW_BYTES = 256
"""What a changed row counts for, besides its blobs, when the dirty bytes of a round are estimated."""
STATEMENT_BYTES = 4096
"""What each statement that changes something counts for: it dirties one page, at least."""


@dataclass(frozen=True, slots=True)
class Touched:
    """What a transaction changed."""

    inodes: frozenset[InodeNo] = frozenset()
    names: frozenset[tuple[InodeNo, bytes]] = frozenset()
    """(parent, name)"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a read relied upon, also where it found nothing."""

    inodes: frozenset[InodeNo] = frozenset()
    names: frozenset[tuple[InodeNo, bytes]] = frozenset()
    directories: frozenset[InodeNo] = frozenset()


class Transaction:
    """One run of one function. Used on one thread, never across an await, and dead once the function has returned.

    No cursor stays open between calls. A statement that SQLite itself could not do (no room, no memory, I/O) may have
    rolled back the whole transaction: from then on every call raises that error again, for a function that caught it
    and went on would commit what follows by itself.

    Each statement raises CatalogRefused for what the schema or the syntax forbids (only that statement is undone),
    StoreFull, StoreBusy or CatalogCorrupt for what SQLite could not do.
    """

    __slots__ = (
        "_connection",
        "_writable",
        "directories_seen",
        "failure",
        "inodes_seen",
        "inodes_touched",
        "names_seen",
        "names_touched",
        "weight_bytes",
    )

    def __init__(self, connection: apsw.Connection, *, writable: bool) -> None:
        self._connection: apsw.Connection | None = connection
        self._writable = writable
        self.failure: apsw.Error | None = None
        self.weight_bytes = 0
        self.inodes_touched: set[InodeNo] = set()
        self.names_touched: set[tuple[InodeNo, bytes]] = set()
        self.inodes_seen: set[InodeNo] = set()
        self.names_seen: set[tuple[InodeNo, bytes]] = set()
        self.directories_seen: set[InodeNo] = set()

    def all(self, sql: str, args: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        """Every row of the answer."""
        connection = self._live()
        try:
            return connection.execute(sql, args).fetchall()
        except apsw.Error as error:
            raise self._failed(error) from error

    def one(self, sql: str, args: Sequence[Value] = ()) -> tuple[Any, ...] | None:
        """The first row of the answer, if there is one."""
        connection = self._live()
        try:
            cursor = connection.execute(sql, args)
            row: tuple[Any, ...] | None = cursor.fetchone()
            cursor.close()
        except apsw.Error as error:
            raise self._failed(error) from error
        return row

    def run(self, sql: str, args: Sequence[Value] = ()) -> int:
        """Change something. Returns the number of rows that the statement inserted, updated or deleted."""
        connection = self._live()
        if not self._writable:
            raise CatalogRefused(f"a read changes nothing: {sql}")
        before = connection.total_changes()
        try:
            connection.execute(sql, args).close()
        except apsw.Error as error:
            raise self._failed(error) from error
        self.weight_bytes += STATEMENT_BYTES + ROW_BYTES * (connection.total_changes() - before)
        for value in args:
            if isinstance(value, bytes | bytearray | memoryview):
                self.weight_bytes += len(value)
        return connection.changes() if connection.total_changes() != before else 0

    def touch_inode(self, ino: InodeNo) -> None:
        """This transaction changes the inode: its attributes, bytes, xattrs, links."""
        self.inodes_touched.add(ino)

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
        self._connection = None

    def touched(self) -> Touched:
        return Touched(frozenset(self.inodes_touched), frozenset(self.names_touched))

    def seen(self) -> Seen:
        return Seen(frozenset(self.inodes_seen), frozenset(self.names_seen), frozenset(self.directories_seen))

    def _live(self) -> apsw.Connection:
        if self._connection is None:
            raise CatalogRefused("this transaction has ended")
        if self.failure is not None:
            raise translate(self.failure) from self.failure
        return self._connection

    def _failed(self, error: apsw.Error) -> Exception:
        if is_fatal(error) or is_passing(error):
            self.failure = error
        return translate(error)
