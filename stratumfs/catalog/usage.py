"""What lies below each bucket and prefix, as the last walk of all names has counted it."""

from collections.abc import Sequence
from dataclasses import dataclass

from stratumfs.catalog.transaction import Transaction
from stratumfs.limits import TRANSACTION_ROWS_MAX


@dataclass(frozen=True, slots=True)
class UsageRow:
    """A row of ``usage``. path: ends in a slash; objects: that S3 lists; bytes: their sizes."""

    path: bytes
    depth: int
    objects: int
    directories: int
    bytes: int
    at_ns: int


def keep_usage(tx: Transaction, rows: Sequence[UsageRow]) -> None:
    """In the place of what was counted before."""
    for row in rows:
        tx.run("delete from usage where path = ?", (row.path,))
        tx.run(
            "insert into usage values (?, ?, ?, ?, ?, ?)",
            (row.path, row.depth, row.objects, row.directories, row.bytes, row.at_ns),
        )


def drop_usage(tx: Transaction, before_ns: int) -> bool:
    """A chunk of what was counted before a walk that has ended, and is not there any more. True if there is more."""
    gone = tx.all("select path from usage where at_ns < ? limit ?", (before_ns, TRANSACTION_ROWS_MAX))
    for (path,) in gone:
        tx.run("delete from usage where path = ?", (path,))
    return len(gone) == TRANSACTION_ROWS_MAX


def usage_of(tx: Transaction, path: bytes) -> UsageRow | None:
    row = tx.one("select * from usage where path = ?", (path,))
    return UsageRow(*row) if row is not None else None


def usage_below(
    tx: Transaction, path: bytes, depth: int, after: bytes, limit: int = TRANSACTION_ROWS_MAX
) -> list[UsageRow]:
    """A chunk of those right below a path, which has that depth: of the empty one, buckets."""
    rows = tx.all(
        "select * from usage where path > ? and path < ? and depth = ? order by path limit ?",
        (max(path, after), path[:-1] + b"0" if path else b"\xff", depth + 1, limit),  # 0 comes behind the slash
    )
    return [UsageRow(*row) for row in rows]


def last_walk(tx: Transaction) -> int | None:
    """When the oldest of the sums was counted, in ns; None if there are none."""
    row = tx.one("select min(at_ns) from usage")
    assert row is not None
    return row[0] if row[0] is None else int(row[0])
