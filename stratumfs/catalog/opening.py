"""Opening a database: everything that blocks, in the order in which it is safe."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from stratumfs.catalog.connection import DATABASE, connect, translate
from stratumfs.catalog.durability import Checkpointer, Mark, Primary
from stratumfs.catalog.ids import reserve_first
from stratumfs.catalog.migrations import Migration, due
from stratumfs.catalog.state import GET_STATE, SET_STATE, TICK
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.unsynced import Unsynced
from stratumfs.catalog.writer import Slot, Writer
from stratumfs.errors import CatalogCorrupt, ConfigError


@dataclass(slots=True)
class Database:
    """The database that is written to, as it is open now. One object for all who use it: a fail-over puts another
    database in its place.

    connection    the loop's
    checkpointer  None: opened read-only
    sequence      of the last transaction when it was opened
    """

    primary: Primary
    connection: apsw.Connection
    checkpointer: Checkpointer | None
    sequence: int

    def become(self, other: "Database") -> "Database":
        """Put *other* in the place of this one. Returns this one as it was, to be closed."""
        before = Database(self.primary, self.connection, self.checkpointer, self.sequence)
        self.primary, self.connection, self.checkpointer = other.primary, other.connection, other.checkpointer
        self.sequence = other.sequence
        return before

    def close(self) -> None:
        """Connections first: our own descriptors hold SQLite's locks together until then."""
        if self.checkpointer is not None:
            self.checkpointer.close()
        self.connection.close()
        self.primary.close()


def open_database(folder: Path, *, read_only: bool = False) -> Database:
    """Connect to the database in *folder*; what it shows, its primary holds.

    Raises: ConfigError if there is none; CatalogCorrupt, StoreFull, OSError. Nothing stays open then.
    """
    try:
        primary = Primary(folder)
    except FileNotFoundError as error:
        raise ConfigError(f"{folder} holds no catalog") from error
    connection: apsw.Connection | None = None
    checkpointer: Checkpointer | None = None
    try:
        connection = connect(folder / DATABASE, read_only=read_only)
        primary.watch(connection)
        checkpointer = None if read_only else Checkpointer(folder, primary)
        found = Database(primary, connection, checkpointer, _state(connection, "sequence"))
        if checkpointer is not None:
            connection.execute(TICK)  # from here on the hook has told where the log ends
            # Covers also what an owner that was killed had committed and not synced: we are about to show it.
            primary.hold(primary.mark(found.sequence))
    except BaseException as error:
        if checkpointer is not None:
            checkpointer.close()
        if connection is not None:
            connection.close()
        primary.close()
        if isinstance(error, apsw.Error):
            raise translate(error) from error
        raise
    return found


def check_version(database: Database, version: int) -> None:
    """Of one that is opened read-only. Raises: ConfigError if its tables are not of this version."""
    found = _state(database.connection, "schema_version")
    if found < version:
        raise ConfigError("the catalog must be opened for writing once: its tables are of an older version")
    due(found, version, ())


def begin(database: Database, version: int, migrations: Sequence[Migration]) -> tuple[dict[str, int], Mark]:
    """Migrate, and reserve a block of each kind of id behind all that were ever reserved.

    Returns where the blocks begin, and the mark that every member must hold before anybody draws from them.
    Raises: ConfigError, CatalogCorrupt, StoreFull.
    """
    steps = due(_state(database.connection, "schema_version"), version, migrations)
    writer = Writer(database, Unsynced(), database.sequence)
    for step in steps:
        _demand(writer.write(_migrate, (step,)))
    ids = _demand(writer.write(reserve_first, ()))
    database.sequence = writer.sequence
    return ids, database.primary.mark(writer.sequence)


def open_alone(
    folder: Path, version: int, migrations: Sequence[Migration], read_only: bool
) -> tuple[Database, dict[str, int]]:
    """A catalog that lies in one folder alone, and where its blocks of ids begin; none if it is read-only.

    Raises: as `open_database`, `begin`.
    """
    database = open_database(folder, read_only=read_only)
    try:
        if read_only:
            check_version(database, version)
            return database, {}
        ids, mark = begin(database, version, migrations)
        database.primary.hold(mark)
    except BaseException:
        database.close()
        raise
    return database, ids


def _state(connection: apsw.Connection, key: str) -> int:
    row: Any = connection.execute(GET_STATE, (key,)).fetchone()
    if row is None:
        raise CatalogCorrupt(f"the catalog has lost its {key}")
    return int(row[0])


def _demand(slot: Slot) -> Any:
    if slot.error is not None:
        raise slot.error
    return slot.result


def _migrate(tx: Transaction, step: Migration) -> None:
    step.run(tx)
    tx.run(SET_STATE, (step.version, "schema_version"))
