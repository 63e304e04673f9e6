"""Opening an existing catalog: everything that blocks, in the order in which it is safe."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from stratumfs.catalog.connection import DATABASE, connect, translate
from stratumfs.catalog.durability import Checkpointer, Primary
from stratumfs.catalog.ids import reserve_first
from stratumfs.catalog.migrations import Migration, due
from stratumfs.catalog.state import GET_STATE, SET_STATE, TICK
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.unsynced import Unsynced
from stratumfs.catalog.writer import Slot, Writer
from stratumfs.errors import CatalogCorrupt, ConfigError


@dataclass(slots=True)
class Opened:
    """What an opening yields, to be closed in one go."""

    primary: Primary
    connection: apsw.Connection
    """The loop's."""
    checkpointer: Checkpointer | None
    """None: opened read-only."""
    sequence: int
    ids: dict[str, int]
    """Where the first block of each kind of id begins."""

    def close(self) -> None:
        """Connections first: our own descriptors hold SQLite's locks together until then."""
        if self.checkpointer is not None:
            self.checkpointer.close()
        self.connection.close()
        self.primary.close()


def open_blocking(folder: Path, version: int, migrations: Sequence[Migration], read_only: bool) -> Opened:
    """Connect, migrate, reserve ids, sync.

    Raises: ConfigError, CatalogCorrupt, StoreFull, OSError. Nothing stays open then.
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
        steps = due(_state(connection, "schema_version"), version, migrations)
        if checkpointer is None:
            _refuse(steps)
            return Opened(primary, connection, None, _state(connection, "sequence"), {})
        writer = Writer(connection, Unsynced(), _state(connection, "sequence"))
        for step in steps:
            _demand(writer.write(_migrate, (step,)))
        ids = _demand(writer.write(_begin, ()))
        # Covers also what an owner that was killed had committed and not synced: we are about to show it.
        primary.hold(primary.mark(writer.sequence))
        return Opened(primary, connection, checkpointer, writer.sequence, ids)
    except BaseException as error:
        if checkpointer is not None:
            checkpointer.close()
        if connection is not None:
            connection.close()
        primary.close()
        if isinstance(error, apsw.Error):
            raise translate(error) from error
        raise


def _state(connection: apsw.Connection, key: str) -> int:
    row: Any = connection.execute(GET_STATE, (key,)).fetchone()
    if row is None:
        raise CatalogCorrupt(f"the catalog has lost its {key}")
    return int(row[0])


def _refuse(steps: Sequence[Migration]) -> None:
    if steps:
        raise ConfigError("the catalog must be opened for writing once: its tables are of an older version")


def _demand(slot: Slot) -> Any:
    if slot.error is not None:
        raise slot.error
    return slot.result


def _begin(tx: Transaction) -> dict[str, int]:
    tx.run(TICK)
    return reserve_first(tx)


def _migrate(tx: Transaction, step: Migration) -> None:
    step.run(tx)
    tx.run(SET_STATE, (step.version, "schema_version"))
