"""Where the bytes of an inode are: rows that are only ever inserted, deleted, or swapped to another place."""

import struct
from collections.abc import Iterator, Sequence
from typing import Any

from blake3 import blake3

from stratumfs.catalog.transaction import Transaction
from stratumfs.errors import CatalogCorrupt
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
) -> None:
    """Add extents in order, later ones over earlier ones. *fresh*: nothing lies below them, nothing is trimmed.

    Takes ids from *first_id*: ``IDS_PER_EXTENT`` for each extent, or one each if fresh.
    """
    ids = _ids(first_id, len(extents) * (1 if fresh else IDS_PER_EXTENT))
    for extent in extents:
        if not fresh:
            _trim(tx, ino, extent.offset, extent.offset + extent.length, ids)
        _insert(tx, next(ids), ino, extent.offset, extent.length, extent.location, extent.data)


def cut_extents(tx: Transaction, ino: InodeNo, size: int, first_id: ExtentId) -> bool:
    """Forget all bytes at or behind *size*. Takes one id. True if a ``void`` was left for chunks to clear."""
    ids = _ids(first_id, 2)
    edge = tx.one(
        "select offset, length from extent where ino = ? and offset < ? order by offset desc, id desc limit 1",
        (ino, size),
    )
    if edge is not None and edge[0] + edge[1] > size:
        _trim(tx, ino, size, edge[0] + edge[1], ids)
    if delete_extents(tx, ino, size, END):
        row = tx.one("select max(id) from extent where ino = ? and offset >= ?", (ino, size))
        assert row is not None
        tx.run("insert into void values (?, ?, ?)", (ino, size, row[0]))
        return True
    return False


def delete_extents(tx: Transaction, ino: InodeNo, start: int, upto: int) -> bool:
    """Delete a chunk of the extents at or behind *start* with ids up to *upto*. True if there are more."""
    rows = tx.all(
        "select id, volume, length from extent where ino = ? and offset >= ? and id <= ? limit ?",
        (ino, start, upto, TRANSACTION_ROWS_MAX + 1),
    )
    for row in rows[:TRANSACTION_ROWS_MAX]:
        _delete(tx, *row)
    return len(rows) > TRANSACTION_ROWS_MAX


def clear_void(tx: Transaction, ino: InodeNo) -> bool:
    """Delete a chunk of what a void hides, then the void. True if there is more to do."""
    row = tx.one("select start, upto from void where ino = ? limit 1", (ino,))
    if row is None:
        return False
    if delete_extents(tx, ino, *row):
        return True
    tx.run("delete from void where ino = ? and start = ? and upto = ?", (ino, *row))
    return tx.one("select 1 from void where ino = ? limit 1", (ino,)) is not None


def voided_inodes(tx: Transaction) -> list[InodeNo]:
    """Inodes with a truncate that an owner left half cleared."""
    return [ino for (ino,) in tx.all("select distinct ino from void")]


def layout(tx: Transaction, ino: InodeNo, start: int, stop: int, limit: int = TRANSACTION_ROWS_MAX) -> list[Extent]:
    """The extents that overlap [start, stop), in order of offset, at most *limit* of them.

    Raises: CatalogCorrupt if a row fails its check.
    """
    rows = _overlapping(tx, ino, start, stop, limit)
    voids = tx.all("select start, upto from void where ino = ?", (ino,))
    return [checked(row) for row in rows if not _hidden(row, voids)]


def swap_location(tx: Transaction, old: Extent, location: Location) -> bool:
    """Point an extent at a copy of its bytes, if it is still the one that was read. False if it is not."""
    row = tx.one(f"select {COLUMNS} from extent where id = ?", (old.id,))  # noqa: S608 - our own columns
    if row is None or checked(row) != old:
        return False
    tx.touch_inode(old.ino)
    _delete(tx, old.id, old.location.volume if old.location else None, old.length)
    _insert(tx, old.id, old.ino, old.offset, old.length, location, None)
    return True


def copy_rows(tx: Transaction, extents: Sequence[Extent], ino: InodeNo, shift: int, first_id: ExtentId) -> None:
    """Let *ino* share the bytes of *extents*, each *shift* bytes further on. Takes one id each."""
    for ident, extent in enumerate(extents, first_id):
        _insert(tx, ident, ino, extent.offset + shift, extent.length, extent.location, extent.data)


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


def _ids(first: int, count: int) -> Iterator[int]:
    return iter(range(first, first + count))


def _overlapping(tx: Transaction, ino: InodeNo, start: int, stop: int, limit: int) -> list[tuple[Any, ...]]:
    # Rows do not overlap each other, so only the last one at or before `start` can reach into the range; the rows of
    # one offset (a voided one and its successor) are all taken.
    before = tx.one("select max(offset) from extent where ino = ? and offset <= ?", (ino, start))
    low = before[0] if before is not None and before[0] is not None else start
    rows = tx.all(
        f"select {COLUMNS} from extent where ino = ? and offset >= ? and offset < ? order by offset, id limit ?",  # noqa: S608
        (ino, low, stop, limit + 1),
    )
    return [row for row in rows if row[2] + row[3] > start][:limit]


def _hidden(row: tuple[Any, ...], voids: Sequence[tuple[int, int]]) -> bool:
    return any(row[2] >= start and row[0] <= upto for start, upto in voids)


def _trim(tx: Transaction, ino: InodeNo, start: int, stop: int, ids: Iterator[int]) -> None:
    """Make room in [start, stop): delete what lies in it, keep what sticks out under new ids."""
    voids = tx.all("select start, upto from void where ino = ?", (ino,))
    while rows := _overlapping(tx, ino, start, stop, TRANSACTION_ROWS_MAX):
        for row in rows:
            old = checked(row)
            _delete(tx, old.id, old.location.volume if old.location else None, old.length)
            if _hidden(row, voids):  # an overwritten past: nothing of it may come back under a new id
                continue
            for low, high in ((old.offset, start), (stop, old.offset + old.length)):
                if low < high:
                    rest = clipped(old, low, high)
                    _insert(tx, next(ids), ino, rest.offset, rest.length, rest.location, rest.data)


def _insert(
    tx: Transaction, ident: int, ino: InodeNo, offset: int, length: int, at: Location | None, data: bytes | None
) -> None:
    assert length > 0
    columns: tuple[Any, ...]
    if at is not None:
        tx.run("update volume set live = live + ? where id = ?", (length, at.volume))
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


def _delete(tx: Transaction, ident: int, volume: bytes | None, length: int) -> None:
    tx.run("delete from extent where id = ?", (ident,))
    if volume is not None:
        tx.run("update volume set live = live - ? where id = ?", (length, volume))
    else:
        tx.run("update counter set value = value - ? where name = 'inline_bytes'", (length,))


def _sum(ident: int, ino: int, offset: int, length: int, at: Location | None) -> int:
    place = (at.volume, at.stripe, at.position, at.cell_size, at.skip, at.nonce) if at else (bytes(16), 0, 0, 0, 0, 0)
    return int.from_bytes(blake3(_SUM.pack(ident, ino, offset, length, *place)).digest(8), "little", signed=True)
