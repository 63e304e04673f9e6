"""What every connection to the catalog must be like."""

from pathlib import Path
from typing import Any

import apsw
import pytest

from stratumfs.catalog import schema
from stratumfs.catalog.connection import DATABASE, connect
from stratumfs.catalog.create import create_catalog
from stratumfs.catalog.extents import layout
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.tree import child, names_of
from stratumfs.ids import InodeNo
from stratumfs.limits import CATALOG_PAGE_SIZE


@pytest.fixture
def connection(tmp_path: Path) -> Any:
    tables = (*schema.TABLES, *schema.ROWS)
    create_catalog(tmp_path / "catalog", tables, schema.VERSION, page_size=CATALOG_PAGE_SIZE)
    db = connect(tmp_path / "catalog" / DATABASE)
    yield db
    db.close()


def test_statements_are_prepared_once_whatever_values_they_are_given(connection: apsw.Connection) -> None:
    prepared: list[int] = []

    def asked(action: int, *_: object) -> int:
        """SQLite asks while it prepares, and at no other time."""
        prepared.append(action)
        return apsw.SQLITE_OK

    connection.authorizer = asked
    for number in range(5):
        tx = Transaction(connection, writable=False)
        layout(tx, InodeNo(number), number * 4096, 1 << 20 + number)
        child(tx, InodeNo(number), b"%d" % number)
        names_of(tx, InodeNo(number))
        if number == 0:
            assert prepared
            prepared.clear()
    assert not prepared
