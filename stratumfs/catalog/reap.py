"""What has no name any more goes in chunks, and what the store holds in sum."""

from dataclasses import dataclass

from stratumfs.catalog.extents import END, delete_extents
from stratumfs.catalog.transaction import Transaction
from stratumfs.ids import InodeNo
from stratumfs.limits import TRANSACTION_ROWS_MAX


@dataclass(frozen=True, slots=True)
class Usage:
    """inline_bytes: in the catalog itself; live_bytes: payload in volumes; upload_bytes: of unfinished uploads."""

    inline_bytes: int
    live_bytes: int
    upload_bytes: int
    uploads: int


def orphans(tx: Transaction, after: InodeNo, limit: int = 200) -> list[InodeNo]:
    return [
        InodeNo(ino) for (ino,) in tx.all("select ino from orphan where ino > ? order by ino limit ?", (after, limit))
    ]


def reap(tx: Transaction, inos: tuple[InodeNo, ...], limit: int = TRANSACTION_ROWS_MAX) -> list[InodeNo]:
    """Delete orphans, up to *limit* extents of them, each one's row last. Returns those that want another round."""
    for at, ino in enumerate(inos):
        if tx.one("select 1 from orphan where ino = ?", (ino,)) is None:
            continue  # it has a name again, or is gone
        count, more = delete_extents(tx, ino, 0, END, END, limit)
        limit -= count
        if more:
            return list(inos[at:])
        for table in ("void", "xattr", "parts", "moved", "inode", "orphan"):
            tx.run(f"delete from {table} where ino = ?", (ino,))  # noqa: S608 - our own names
    return []


def usage(tx: Transaction) -> Usage:
    counters = dict(tx.all("select name, value from counter"))
    live = tx.one("select coalesce(sum(live), 0) from volume")
    uploads = tx.one("select count(*) from upload where state = 'open'")
    assert live is not None
    assert uploads is not None
    return Usage(counters["inline_bytes"], live[0], counters["upload_bytes"], uploads[0])


def count_inodes(tx: Transaction, after: InodeNo, limit: int) -> tuple[int, InodeNo | None]:
    """How many of the next *limit* inodes behind one there are, and the last of them; None at the end."""
    row = tx.one(
        "select count(*), max(ino) from (select ino from inode where ino > ? order by ino limit ?)", (after, limit)
    )
    assert row is not None
    return row[0], InodeNo(row[1]) if row[0] == limit else None


def reusable_bytes(tx: Transaction) -> int:
    """Of the database's file: pages that hold nothing, and are written again before it grows."""
    row = tx.one("select freelist_count * page_size from pragma_freelist_count, pragma_page_size")
    assert row is not None
    return int(row[0])


def inline_bytes(tx: Transaction) -> int:
    row = tx.one("select value from counter where name = 'inline_bytes'")
    assert row is not None
    return int(row[0])
