"""Where the bytes of an inode are: rows that are only ever inserted, deleted, or swapped to another place."""

import struct
from collections.abc import Iterator, Sequence
from typing import Any

from blake3 import blake3

from stratumfs.catalog.transaction import Transaction
from stratumfs.errors import CatalogCorrupt, StaleIds, WriteConflict
from stratumfs.ids import ExtentId, InodeNo, Nonce, StripeNo, VolumeId
from stratumfs.limits import TRANSACTION_ROWS_MAX
from stratumfs.location import NONCE_MASK, Location
from stratumfs.values import Extent, NewExtent

COLUMNS = "id, ino, offset, length, volume, stripe, position, cell_size, skip, nonce, data, hash, sum"

_SUM = struct.Struct("<QQQQ16sQQQQQ")
_SIGN = 1 << 63
END = (1 << 63) - 1
"""Behind every byte of every file."""

IDS_PER_EXTENT = 3
"""An inserted extent takes one id, and one for each end of an older one that it cuts."""


def insert_extents(
    tx: Transaction, ino: InodeNo, extents: Sequence[NewExtent], first_id: ExtentId, *, fresh: bool = False
) -> bool:
    """Add extents in order, later ones over earlier ones. *fresh*: nothing lies below them, nothing is cleared.

    Takes ids from *first_id*: ``IDS_PER_EXTENT`` for each extent, or one each if fresh. They were drawn by whoever may
    alone change the inode, so that they are above all of its older ones, but for those of a move that came in between.
    True if a void was left to clear. Raises: StaleIds.
    """
    drawn = range(first_id, first_id + len(extents) * (1 if fresh else IDS_PER_EXTENT))
    ids = iter(drawn)
    left = False
    for extent in extents:
        if not fresh:
            left |= _clear(tx, ino, extent.offset, extent.offset + extent.length, drawn.stop, ids)
        insert_row(tx, next(ids), ino, extent.offset, extent.length, extent.location, extent.data)
    return left


def cut_extents(tx: Transaction, ino: InodeNo, size: int, first_id: ExtentId) -> bool:
    """Forget all bytes at or behind *size*. Takes one id. True if a void was left to clear. Raises: StaleIds."""
    return _clear(tx, ino, size, END, first_id + 1, iter((first_id,)))


def delete_extents(
    tx: Transaction, ino: InodeNo, start: int, stop: int, upto: int, limit: int = TRANSACTION_ROWS_MAX
) -> tuple[int, bool]:
    """Delete a chunk of the extents that begin in [start, stop) and have ids up to *upto*.

    Returns how many went, and whether there are more.
    """
    rows = tx.all(
        "select id, volume, length from extent where ino = ? and offset >= ? and offset < ? and id <= ? limit ?",
        (ino, start, stop, upto, limit + 1),
    )
    for row in rows[:limit]:
        delete_row(tx, *row)
    return min(len(rows), limit), len(rows) > limit


def clear_void(tx: Transaction, ino: InodeNo) -> bool:
    """Delete a chunk of what a void hides, then the void. True if there is more to do."""
    row = tx.one("select start, stop, upto from void where ino = ? limit 1", (ino,))
    if row is None:
        return False
    if delete_extents(tx, ino, *row)[1]:
        return True
    tx.run("delete from void where ino = ? and start = ? and stop = ? and upto = ?", (ino, *row))
    return tx.one("select 1 from void where ino = ? limit 1", (ino,)) is not None


def voided_inodes(tx: Transaction) -> list[InodeNo]:
    """Inodes with a large truncate or overwrite that is not cleared yet."""
    return [ino for (ino,) in tx.all("select distinct ino from void")]


def layout(tx: Transaction, ino: InodeNo, start: int, stop: int, limit: int = TRANSACTION_ROWS_MAX) -> list[Extent]:
    """The extents that overlap [start, stop), in order of offset, at most *limit* of them.

    Raises: CatalogCorrupt if a row fails its check.
    """
    shown = _SHOWN if has_void(tx, ino) else ""
    at_start = _row_over(tx, ino, start, shown)
    if at_start and at_start[0][2] + at_start[0][3] >= stop:
        return [checked(at_start[0])]  # all of a small file: nothing lies behind it
    inner = tx.all(
        f"select {COLUMNS} from extent where ino = ? and offset > ? and offset < ?{shown} order by offset limit ?",  # noqa: S608
        (ino, start, stop, limit),
    )
    return [checked(row) for row in (*at_start, *inner)][:limit]


def clipped(extent: Extent, start: int, stop: int) -> Extent:
    """The part of an extent inside [start, stop)."""
    low, high = max(start, extent.offset), min(stop, extent.offset + extent.length)
    skip = low - extent.offset
    data = extent.data[skip : skip + high - low] if extent.data is not None else None
    return Extent(extent.id, extent.ino, low, high - low, extent.location and extent.location.advanced(skip), data)


def checked(row: tuple[Any, ...]) -> Extent:
    """A row of COLUMNS as a value, verified: SQLite's pages have no checksum of their own."""
    ident, ino, offset, length, volume, stripe, position, cell_size, skip, nonce, data, hash_, sum_ = row
    location = None
    if volume is not None:
        location = Location(VolumeId(volume), StripeNo(stripe), position, cell_size, skip, Nonce(nonce & NONCE_MASK))
    elif data is None or len(data) != length or blake3(data).digest() != hash_:
        raise CatalogCorrupt(f"inline bytes of inode {ino} at {offset} fail their checksum")
    if _sum(ident, ino, offset, length, location) != sum_:
        raise CatalogCorrupt(f"the extent of inode {ino} at {offset} fails its checksum")
    return Extent(ident, ino, offset, length, location, data)


_SHOWN = (
    " and not exists (select 1 from void where void.ino = extent.ino and extent.offset >= void.start"
    " and extent.offset < void.stop and extent.id <= void.upto)"
)
"""Rows that a void hides may lie below others; without them, the rows of an inode do not overlap each other."""

_CLEAR_MAX = 64
"""More rows than this below one new extent are hidden by a void and cleared later."""


def has_void(tx: Transaction, ino: InodeNo) -> bool:
    """Whether rows of the inode may lie below others."""
    return tx.one("select 1 from void where ino = ? limit 1", (ino,)) is not None


def _row_over(tx: Transaction, ino: InodeNo, offset: int, shown: str) -> list[tuple[Any, ...]]:
    """The row whose bytes include *offset*, if any: rows do not overlap, so it is the last one at or before it."""
    row = tx.one(
        f"select {COLUMNS} from extent where ino = ? and offset <= ?{shown} order by offset desc limit 1",  # noqa: S608
        (ino, offset),
    )
    return [row] if row is not None and row[2] + row[3] > offset else []


def _clear(tx: Transaction, ino: InodeNo, start: int, stop: int, behind: int, ids: Iterator[int]) -> bool:
    """Make room in [start, stop): what sticks out is kept under new ids. True if a void was left to clear.

    behind: the first id after those that were drawn. What was inserted with earlier ones in this transaction lies
    beneath, and is hidden too. Raises: StaleIds if the void would hide extents with ids from there on.
    """
    shown = _SHOWN if has_void(tx, ino) else ""
    for edge in (start, stop):
        for row in _row_over(tx, ino, edge, shown) if edge < END else []:
            if row[2] < start or row[2] + row[3] > stop:  # else it goes as it is, damaged or not
                _cut(tx, checked(row), start, stop, ids)
    rows = tx.all(
        f"select id, volume, length from extent where ino = ? and offset >= ? and offset < ?{shown} limit ?",  # noqa: S608
        (ino, start, stop, _CLEAR_MAX + 1),
    )
    if len(rows) <= _CLEAR_MAX:
        for row in rows:
            delete_row(tx, *row)
        return False
    newest = tx.one("select max(id) from extent where ino = ? and offset >= ? and offset < ?", (ino, start, stop))
    assert newest is not None
    if newest[0] >= behind:
        raise StaleIds(f"inode {ino} has extent {newest[0]}, and ids were drawn up to {behind} only")
    tx.run("insert into void values (?, ?, ?, ?)", (ino, start, stop, newest[0]))
    return True


def _cut(tx: Transaction, old: Extent, start: int, stop: int, ids: Iterator[int]) -> None:
    """Replace a row by what of it lies outside [start, stop), if anything lies inside."""
    end = old.offset + old.length
    if end <= start or old.offset >= stop:
        return
    delete_row(tx, old.id, old.location.volume if old.location else None, old.length)
    for low, high in ((old.offset, min(start, end)), (max(stop, old.offset), end)):
        if low < high:
            rest = clipped(old, low, high)
            insert_row(tx, next(ids), old.ino, rest.offset, rest.length, rest.location, rest.data)


def insert_row(
    tx: Transaction, ident: int, ino: InodeNo, offset: int, length: int, at: Location | None, data: bytes | None
) -> None:
    """One extent as it is, and what is counted of it. Raises: WriteConflict if its volume was freed."""
    assert length > 0
    columns: tuple[Any, ...]
    if at is not None:
        last = at.advanced(length - 1).stripe
        if not tx.run(
            "update volume set live = live + ? where id = ? and (state = 'open' or (state = 'sealed' and stripes > ?))",
            (length, at.volume, last),
        ):
            raise WriteConflict(
                f"volume {at.volume.hex()} was freed, or sealed before stripe {last}, when these bytes were to be named"
            )
        nonce = at.nonce - (1 << 64) if at.nonce & _SIGN else at.nonce
        columns = (at.volume, at.stripe, at.position, at.cell_size, at.skip, nonce, None, None)
    else:
        assert data is not None
        assert len(data) == length
        tx.run("update counter set value = value + ? where name = 'inline_bytes'", (length,))
        columns = (None, None, None, None, None, None, data, blake3(data).digest())
    tx.run(
        "insert into extent values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (ident, ino, offset, length, *columns, _sum(ident, ino, offset, length, at)),
    )


def delete_row(tx: Transaction, ident: int, volume: bytes | None, length: int) -> None:
    """Take one extent away, and what is counted of it."""
    tx.run("delete from extent where id = ?", (ident,))
    if volume is not None:
        tx.run("update volume set live = live - ? where id = ?", (length, volume))
    else:
        tx.run("update counter set value = value - ? where name = 'inline_bytes'", (length,))


def _sum(ident: int, ino: int, offset: int, length: int, at: Location | None) -> int:
    place = (at.volume, at.stripe, at.position, at.cell_size, at.skip, at.nonce) if at else (bytes(16), 0, 0, 0, 0, 0)
    return int.from_bytes(blake3(_SUM.pack(ident, ino, offset, length, *place)).digest(8), "little", signed=True)
