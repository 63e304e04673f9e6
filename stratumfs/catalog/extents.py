"""Where the bytes of an inode are: rows that are only ever inserted, deleted, or swapped to another place."""

import struct
from collections.abc import Iterator, Sequence
from typing import Any

from blake3 import blake3

from stratumfs.catalog.transaction import Transaction
from stratumfs.errors import ExtentCorrupt, StaleIds, WriteConflict
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
    tx: Transaction,
    ino: InodeNo,
    extents: Sequence[NewExtent],
    first_id: ExtentId,
    *,
    fresh: bool = False,
    empty: bool = False,
) -> bool:
    """Add extents in order, later ones over earlier ones. *fresh*: nothing lies below them, nothing is cleared.
    *empty*: nor is there any other, for the inode is of this transaction.

    Takes ids from *first_id*: ``IDS_PER_EXTENT`` for each extent, or one each if fresh. They were drawn by whoever may
    alone change the inode, so that they are above all of its older ones, but for those of a move that came in between.
    True if a void was left to clear. Raises: StaleIds.
    """
    if fresh:
        _check_fresh(extents, 0 if empty else _end_of(tx, ino))
    drawn = range(first_id, first_id + len(extents) * (1 if fresh else IDS_PER_EXTENT))
    ids = iter(drawn)
    left = False
    nothing_below = fresh or tx.one("select 1 from extent where ino = ? limit 1", (ino,)) is None
    for extent in extents:
        if not nothing_below:
            left |= _clear(tx, ino, extent.offset, extent.offset + extent.length, drawn.stop, ids)
        insert_row(tx, next(ids), ino, extent.offset, extent.length, extent.location, extent.data)
        nothing_below = fresh
    return left


def _end_of(tx: Transaction, ino: InodeNo) -> int:
    last = tx.one("select offset + length from extent where ino = ? order by offset desc limit 1", (ino,))
    return last[0] if last is not None else 0


def _check_fresh(extents: Sequence[NewExtent], end: int) -> None:
    """Nothing is cleared for them, so they must lie behind one another, and behind *end*, where what is there ends.

    Raises: WriteConflict.
    """
    for extent in extents:
        if extent.offset < end:
            raise WriteConflict(f"an extent at {extent.offset} of a new file overlaps one that ends at {end}")
        end = extent.offset + extent.length


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

    Raises: ExtentCorrupt if a row fails its check.
    """
    shown = SHOWN if has_void(tx, ino) else ""
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
    if high - low == extent.length:
        return extent
    skip = low - extent.offset
    data = extent.data[skip : skip + high - low] if extent.data is not None else None
    return Extent(extent.id, extent.ino, low, high - low, extent.location and extent.location.advanced(skip), data)


def checked(row: tuple[Any, ...]) -> Extent:
    """A row of COLUMNS as a value, verified: SQLite's pages have no checksum of their own. Raises: ExtentCorrupt."""
    ident, ino, offset, length, volume, stripe, position, cell_size, skip, nonce, data, hash_, sum_ = row
    location = None
    try:
        if volume is not None:
            location = Location(
                VolumeId(volume), StripeNo(stripe), position, cell_size, skip, Nonce(nonce & NONCE_MASK)
            )
        elif data is None or len(data) != length or blake3(data).digest() != hash_:
            raise ExtentCorrupt(f"inline bytes of inode {ino} at {offset} fail their checksum", ident)
        good = extent_sum(ident, ino, offset, length, location) == sum_
    except (struct.error, TypeError):  # a flipped bit can make a column negative, or of another type
        good = False
    if not good:
        raise ExtentCorrupt(f"the extent of inode {ino} at {offset} fails its checksum", ident)
    return Extent(ident, ino, offset, length, location, data)


SHOWN = (
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
    shown = SHOWN if has_void(tx, ino) else ""
    for edge in (start, stop):
        for row in _row_over(tx, ino, edge, shown) if edge < END else []:
            if row[2] < start or row[2] + row[3] > stop:  # else it goes as it is, damaged or not
                cut_out(tx, checked(row), start, stop, ids)
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


def cut_out(tx: Transaction, old: Extent, start: int, stop: int, ids: Iterator[int]) -> None:
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
    tx.move_inode(ino)
    columns: tuple[Any, ...]
    if at is not None:
        count_live(tx, at.volume, length, at.advanced(length - 1).stripe)
        columns = (*_place(at), None, None)
    else:
        assert data is not None
        assert len(data) == length
        tx.run("update counter set value = value + ? where name = 'inline_bytes'", (length,))
        columns = (None, None, None, None, None, None, data, blake3(data).digest())
    tx.run(
        "insert into extent values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (ident, ino, offset, length, *columns, extent_sum(ident, ino, offset, length, at)),
    )


def delete_row(tx: Transaction, ident: int, volume: bytes | None, length: int) -> None:
    """Take one extent away, and what is counted of it."""
    tx.run("delete from extent where id = ?", (ident,))
    count_gone(tx, volume, length)


def point_at(tx: Transaction, ident: int, ino: InodeNo, offset: int, length: int, at: Location) -> None:
    """The bytes of an extent lie at a place in a volume, wherever they lay before; what is counted of that is the
    caller's. The one update of a row that there is."""
    tx.move_inode(ino)
    tx.run(
        "update extent set volume = ?, stripe = ?, position = ?, cell_size = ?, skip = ?, nonce = ?, data = null,"
        " hash = null, sum = ? where id = ?",
        (*_place(at), extent_sum(ident, ino, offset, length, at), ident),
    )


def count_live(tx: Transaction, volume: VolumeId, count: int, last: StripeNo) -> None:
    """So many more bytes of a volume are named, up to stripe *last*. Raises: WriteConflict if they are not there."""
    if not tx.run(
        "update volume set live = live + ? where id = ? and (state = 'open' or (state = 'sealed' and stripes > ?))",
        (count, volume, last),
    ):
        raise WriteConflict(
            f"volume {volume.hex()} was freed, or sealed before stripe {last}, when these bytes were to be named"
        )


def count_gone(tx: Transaction, volume: bytes | None, count: int) -> None:
    """So many bytes of a volume are named no more, or inline no more."""
    if volume is not None:
        tx.run("update volume set live = live - ? where id = ?", (count, volume))
    else:
        tx.run("update counter set value = value - ? where name = 'inline_bytes'", (count,))


def _place(at: Location) -> tuple[Any, ...]:
    nonce = at.nonce - (1 << 64) if at.nonce & _SIGN else at.nonce
    return at.volume, at.stripe, at.position, at.cell_size, at.skip, nonce


def extent_sum(ident: int, ino: int, offset: int, length: int, at: Location | None) -> int:
    place = (at.volume, at.stripe, at.position, at.cell_size, at.skip, at.nonce) if at else (bytes(16), 0, 0, 0, 0, 0)
    return int.from_bytes(blake3(_SUM.pack(ident, ino, offset, length, *place)).digest(8), "little", signed=True)
