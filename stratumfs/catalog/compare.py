"""Compares copies of the catalog with the database that is written to, row by row, and says which of them is right.

A row that a copy has otherwise is no fault while it may have been changed meanwhile; so who is right is judged of rows
and copies at one transaction. What most of the members have is right, the primary being one of them. An extent row that
fails its check has no voice; but that a row passes proves only that it was right once, for a page that was not written
says what was deleted since: who has none is heard as well.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from stratumfs.catalog.extents import checked, count_gone
from stratumfs.catalog.transaction import Transaction
from stratumfs.errors import ExtentCorrupt
from stratumfs.ids import ROOT_INODE

Row = tuple[Any, ...]
Key = tuple[Any, ...]
_OWN = {("catalog_state", ("sequence",)), ("catalog_state", ("tick",))}
"""Rows that move with every transaction."""
_LENGTH, _VOLUME = 3, 4
"""Columns of an extent."""


@dataclass(frozen=True, slots=True)
class Table:
    """key: the columns of its primary key; places: where these are in a row."""

    name: str
    key: tuple[str, ...]
    places: tuple[int, ...]

    def key_of(self, row: Row) -> Key:
        return tuple(row[at] for at in self.places)


def tables(tx: Transaction) -> list[Table]:
    """All that are there."""
    names = tx.all("select name from sqlite_schema where type = 'table' and name not like 'sqlite_%' order by name")
    return [_table(tx, name) for (name,) in names]


def _table(tx: Transaction, name: str) -> Table:
    columns = [(row[5], row[0], row[1]) for row in tx.all(f"pragma table_info({name})") if row[5]]
    columns.sort()
    return Table(name, tuple(column for _, _, column in columns), tuple(at for _, at, _ in columns))


def chunk(tx: Transaction, table: Table, after: Key | None, upto: Key | None, limit: int) -> list[Row]:
    """Rows behind a key, up to and including another one if that is given, by key."""
    key, marks = ", ".join(table.key), ", ".join("?" * len(table.key))
    conditions, args = [], list[Any]()
    for bound, sign in ((after, ">"), (upto, "<=")):
        if bound is not None:
            conditions.append(f"({key}) {sign} ({marks})")
            args += bound
    where = f" where {' and '.join(conditions)}" if conditions else ""
    return tx.all(f"select * from {table.name}{where} order by {key} limit ?", (*args, limit))  # noqa: S608


def row_at(tx: Transaction, table: Table, key: Key) -> Row | None:
    where = " and ".join(f"{column} = ?" for column in table.key)
    return tx.one(f"select * from {table.name} where {where}", key)  # noqa: S608


def differing(table: Table, ours: Sequence[Row], theirs: Sequence[Row]) -> list[Key]:
    """Keys of rows that only one of the two has, or that are not alike."""
    one = {table.key_of(row): row for row in ours}
    other = {table.key_of(row): row for row in theirs}
    keys = [key for key in one.keys() | other.keys() if one.get(key) != other.get(key)]
    return [key for key in keys if (table.name, key) not in _OWN]


def right_one(table: Table, found: Sequence[Row | None]) -> tuple[Row | None, bool]:
    """Of what the members have under one key, the primary's first: the row that is right, None if there should be
    none; and whether that can be known."""
    heard = [row for row in found if row is None or table.name != "extent" or _is_whole(row)]
    if not heard:
        return found[0], False
    [(row, count), *_] = Counter(heard).most_common(1)
    # A row that fails its check says that something was there: it must not become a hole by less than most of all.
    return row, 2 * count > len(found if row is None else heard)


Change = tuple[str, Key, Row | None, Row | None]
"""Table and key, what lies there, and what should."""


_OWNERS = {
    "bucket": ("inode", (0,)),
    "damage": ("volume", (0,)),
    "entry": ("inode", (0, 2)),
    "extent": ("inode", (1,)),
    "parts": ("inode", (0,)),
    "shard": ("volume", (0,)),
    "void": ("inode", (0,)),
    "xattr": ("inode", (0,)),
}
"""Rows that go with others, and where they name these: what belongs to something deleted was deleted as well."""

Versions = dict[int, tuple[int, ...]]
"""Of inodes: what moves with each change of their content, names and attributes."""


def owners(table: str, row: Row) -> list[int]:
    """Inodes that a row belongs to."""
    name, places = _OWNERS.get(table, ("", ()))
    return [row[at] for at in places if name == "inode" and row[at] is not None]


def versions(tx: Transaction, inodes: Iterable[int]) -> Versions:
    """Of those that there are."""
    found = {ino: tx.one("select content, ctime_ns from inode where ino = ?", (ino,)) for ino in set(inodes)}
    return {ino: version for ino, version in found.items() if version is not None}


def put_right(tx: Transaction, changes: Sequence[Change], judged: Versions) -> list[bool]:
    """Replace rows of the primary that are still as they were, in one step: copies are told of pages, and a page that
    is right in part must not come to them. Returns which were.

    A row that is missing says nothing of its file, whose bytes may have come anew: none is made of one that has another
    version than when it was *judged*.
    """
    known = {each.name: each for each in tables(tx)}
    anew = {key[0] for name, key, _, _ in changes if name == "inode"}
    judged = {ino: version for ino, version in judged.items() if ino not in anew}
    done = [False] * len(changes)
    for at in sorted(range(len(changes)), key=lambda at: changes[at][0] in _OWNERS):
        name, key, was, row = changes[at]
        table = known[name]
        done[at] = row_at(tx, table, key) == was
        if done[at] and row is not None:
            if not _has_owners(tx, known, name, row):
                done[at] = False
                if was is None and name == "extent":  # who deleted its file did not see it: it counts yet
                    count_gone(tx, row[_VOLUME], row[_LENGTH])
            elif was is None:
                inodes = [ino for ino in owners(name, row) if ino in judged]
                done[at] = versions(tx, inodes) == {ino: judged[ino] for ino in inodes}
        if done[at]:
            where = " and ".join(f"{column} = ?" for column in table.key)
            tx.run(f"delete from {name} where {where}", key)  # noqa: S608
            if row is not None:
                tx.run(f"insert into {name} values ({', '.join('?' * len(row))})", row)  # noqa: S608
            _tell(tx, name, [each for each in (was, row) if each is not None])
    return done


def _has_owners(tx: Transaction, known: dict[str, Table], name: str, row: Row) -> bool:
    if name not in _OWNERS:
        return True
    owner, places = _OWNERS[name]
    return all(row_at(tx, known[owner], (row[at],)) is not None for at in places if row[at] is not None)


def _tell(tx: Transaction, table: str, rows: Iterable[Row]) -> None:
    """Who remembers what such a row says reads it anew."""
    for first, second, *_ in rows:
        if table in ("inode", "parts", "void", "xattr"):
            tx.touch_inode(first)
        elif table == "extent":
            tx.touch_inode(second)
        elif table == "entry" and isinstance(second, bytes):
            tx.touch_name(first, second)
        elif table == "bucket" and isinstance(second, str):
            tx.touch_name(ROOT_INODE, second.encode(errors="surrogateescape") + b"/")


def described(table: Table, key: Key) -> str:
    """In words, for a report."""
    return f"{table.name} {', '.join(each.hex() if isinstance(each, bytes) else str(each) for each in key)}"


def _is_whole(row: Row) -> bool:
    try:
        checked(row)
    except ExtentCorrupt:
        return False
    return True
