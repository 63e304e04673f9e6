"""A catalog in memory for tests of its functions: the real tables, without the engine."""

import apsw

from stratumfs.catalog import schema
from stratumfs.catalog.buckets import create_bucket
from stratumfs.catalog.state import STATE_DDL
from stratumfs.catalog.transaction import Transaction
from stratumfs.ids import Cookie, InodeNo


class Tables:
    """Hands out ids that are never used twice."""

    def __init__(self) -> None:
        self._connection = apsw.Connection(":memory:")
        for statement in (STATE_DDL, *schema.TABLES, *schema.ROWS):
            self._connection.execute(statement)
        self._connection.execute("insert into catalog_state values ('sequence', 1)")
        self._next = 2

    @property
    def tx(self) -> Transaction:
        return Transaction(self._connection, writable=True)

    def ids(self, count: int = 1) -> int:
        self._next += count
        return self._next - count

    def bucket(self, name: str = "bucket") -> InodeNo:
        return create_bucket(self.tx, name, InodeNo(self.ids()), Cookie(self.ids()), 1).ino
