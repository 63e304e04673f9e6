"""Whether extent rows are what was written, and what puts one right from a copy of the catalog."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stratumfs.catalog.extents import COLUMNS, SHOWN, checked
from stratumfs.catalog.transaction import Transaction
from stratumfs.errors import ExtentCorrupt
from stratumfs.ids import ExtentId, InodeNo
from stratumfs.limits import PAGE_ROWS_MAX, SWAP_ROWS
from stratumfs.values import Extent

Row = tuple[Any, ...]

_HIDDEN = (
    "exists (select 1 from void where void.ino = extent.ino"
    " and extent.offset >= start and extent.offset < stop and extent.id <= upto)"
)
"""Of an extent: a large truncate or overwrite has voided it, and its row is not cleared yet."""


_RESTORE = f"update extent set {' = ?, '.join(COLUMNS.split(', ')[1:])} = ? where id = ?"  # noqa: S608
"""Not deleted and inserted: that could move rows of other pages."""


@dataclass(frozen=True, slots=True)
class BadExtent:
    """A row that fails its check. ino: as the row says, which may be what is wrong."""

    id: ExtentId
    ino: Any
    reason: str


@dataclass(frozen=True, slots=True)
class Looked:
    """A chunk of rows: how many, bytes that lie in them, those that are bad, and the last id; None at the end."""

    rows: int
    bytes: int
    bad: Sequence[BadExtent]
    last: ExtentId | None


def look_at_extents(tx: Transaction, after: ExtentId, limit: int = SWAP_ROWS) -> Looked:
    """The next rows behind an id, each against its own sum, inline bytes against their hash."""
    rows = tx.all(f"select {COLUMNS} from extent where id > ? order by id limit ?", (after, limit))  # noqa: S608
    bad, inline = [], 0
    for row in rows:
        try:
            extent = checked(row)
        except ExtentCorrupt as error:
            bad.append(BadExtent(ExtentId(row[0]), row[1], str(error)))
        else:
            inline += len(extent.data) if extent.data is not None else 0
    return Looked(len(rows), inline, bad, ExtentId(rows[-1][0]) if len(rows) == limit else None)


@dataclass(frozen=True, slots=True)
class LookedInto:
    """A chunk of the rows of an inode that no void hides: those that pass their check, the ids of those that do not,
    and behind which offset to go on; None at the end."""

    good: Sequence[Extent]
    bad: Sequence[ExtentId]
    last: int | None


def look_into(tx: Transaction, ino: InodeNo, after: int, limit: int = SWAP_ROWS) -> LookedInto:
    """The extents of an inode that begin behind an offset, each against its sum, inline bytes against their hash."""
    rows = tx.all(
        f"select {COLUMNS} from extent where ino = ? and offset > ?{SHOWN} order by offset limit ?",  # noqa: S608
        (ino, after, limit),
    )
    good, bad = list[Extent](), list[ExtentId]()
    for row in rows:
        try:
            good.append(checked(row))
        except ExtentCorrupt:
            bad.append(ExtentId(row[0]))
    return LookedInto(good, bad, rows[-1][2] if len(rows) == limit else None)


def good_extent(tx: Transaction, ident: ExtentId) -> Row | None:
    """The row of a copy, if it passes its check."""
    row = tx.one(f"select {COLUMNS} from extent where id = ?", (ident,))  # noqa: S608
    if row is None:
        return None
    try:
        checked(row)
    except ExtentCorrupt:
        return None
    return row


def bad_near(tx: Transaction, idents: Sequence[ExtentId]) -> set[ExtentId]:
    """Those of *idents*, and of the rows that may lie on one page with them, that fail their check.

    What is restored alone would take what is still bad on its page along into the copies: they are told of pages.
    """
    found: set[ExtentId] = set()
    around = list(idents)
    while around:
        ident = around.pop()
        looked = look_at_extents(tx, ExtentId(ident - PAGE_ROWS_MAX - 1), 2 * PAGE_ROWS_MAX + 1)
        new = {bad.id for bad in looked.bad} - found
        found |= new
        around += new.difference(idents)  # which may lie on the next page, too
    return found


def restore_extents(tx: Transaction, rows: Sequence[Row]) -> list[Row]:
    """Put rows of a copy in the place of those with their ids that are there and fail their check, in one step.

    What is counted of them was counted when they were written. Returns those that were restored.
    """
    done = []
    for row in rows:
        found = tx.one(f"select {COLUMNS} from extent where id = ?", (row[0],))  # noqa: S608
        if found is None:
            continue
        try:
            checked(found)
        except ExtentCorrupt:
            tx.run(_RESTORE, (*row[1:], row[0]))
            tx.move_inode(InodeNo(row[1]))
            done.append(row)
    return done


def overlapping(tx: Transaction, after: tuple[int, int] = (-1, -1), limit: int = 1000) -> tuple[list[Row], Row | None]:
    """Of a chunk of rows by (ino, offset), those that no void hides and that begin before the one before them ends.

    Returns (ino, offset, id of the earlier one, id of the later one) of each, and behind what to go on; None at the
    end. Rows that fail their check are passed over.
    """
    rows = tx.all(
        f"select {COLUMNS}, {_HIDDEN} from extent where (ino, offset) >= (?, ?) order by ino, offset, id limit ?",  # noqa: S608
        (*after, limit),
    )
    found: list[Row] = []
    before: tuple[int, int, int] | None = None
    for *row, hidden in rows:
        if hidden:
            continue
        try:
            extent = checked(tuple(row))
        except ExtentCorrupt:
            continue
        if before is not None and before[0] == extent.ino and extent.offset < before[1]:
            found.append((extent.ino, extent.offset, before[2], extent.id))
        end = extent.offset + extent.length
        if before is None or before[0] != extent.ino or end > before[1]:
            before = extent.ino, end, extent.id
    more = len(rows) == limit and (rows[-1][1], rows[-1][2]) != after
    return found, (rows[-1][1], rows[-1][2]) if more else None
