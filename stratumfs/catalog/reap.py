"""What has no name any more goes in chunks, and what the store holds in sum."""

from dataclasses import dataclass

from stratumfs.catalog.extents import END, delete_extents
from stratumfs.catalog.transaction import Transaction
from stratumfs.ids import InodeNo


@dataclass(frozen=True, slots=True)
class Usage:
    """inline_bytes: in the catalog itself; live_bytes: payload in volumes; upload_bytes: of unfinished uploads."""

    inodes: int
    inline_bytes: int
    live_bytes: int
    upload_bytes: int
    uploads: int


def orphans(tx: Transaction, after: InodeNo, limit: int = 200) -> list[InodeNo]:
    return [
        InodeNo(ino) for (ino,) in tx.all("select ino from orphan where ino > ? order by ino limit ?", (after, limit))
    ]


def reap_chunk(tx: Transaction, ino: InodeNo) -> bool:
    """Delete a chunk of an orphan, its row last. True if there is more to do."""
    if tx.one("select 1 from orphan where ino = ?", (ino,)) is None:
        return False  # it has a name again, or is gone
    if delete_extents(tx, ino, 0, END, END):
        return True
    for table in ("void", "xattr", "parts", "inode", "orphan"):
        tx.run(f"delete from {table} where ino = ?", (ino,))  # noqa: S608 - our own names
    return False


def reap(tx: Transaction, inos: tuple[InodeNo, ...]) -> list[InodeNo]:
    """A chunk of several orphans. Returns those that want another round."""
    return [ino for ino in inos if reap_chunk(tx, ino)]


def usage(tx: Transaction) -> Usage:
    counters = dict(tx.all("select name, value from counter"))
    live = tx.one("select coalesce(sum(live), 0) from volume")
    uploads = tx.one("select count(*) from upload where state = 'open'")
    inodes = tx.one("select count(*) from inode")
    assert live is not None
    assert uploads is not None
    assert inodes is not None
    return Usage(inodes[0], counters["inline_bytes"], live[0], counters["upload_bytes"], uploads[0])


def inline_bytes(tx: Transaction) -> int:
    row = tx.one("select value from counter where name = 'inline_bytes'")
    assert row is not None
    return int(row[0])
