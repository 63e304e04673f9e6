"""Makes few extents of many: rows that follow one another give way to rows that point at a copy of their bytes.

As in every swap the guard is the transaction's own look: the rows must be those whose bytes were copied, all of them
and nothing else in between, or all stay as they are.
"""

from collections import Counter
from collections.abc import Sequence

from stratumfs.catalog.extents import END, count_gone, has_void, insert_row, layout
from stratumfs.catalog.transaction import Transaction
from stratumfs.ids import ExtentId, InodeNo
from stratumfs.limits import FRAGMENTED_EXTENTS, SWAP_ROWS
from stratumfs.values import Extent, NewExtent

_WALK_ROWS = 2000


def extents_from(tx: Transaction, ino: InodeNo, start: int) -> list[Extent]:
    """A chunk of the extents from *start* on, in order of offset; none at the end, or where a void is to be cleared.

    Raises: CatalogCorrupt if a row fails its check.
    """
    return [] if has_void(tx, ino) else layout(tx, ino, start, END, SWAP_ROWS)


def are_shared(tx: Transaction, extents: Sequence[Extent]) -> bool:
    """Whether another file has bytes of any of these, too."""
    for extent in extents:
        at = extent.location
        if at is not None and tx.one(
            "select 1 from extent where volume = ? and position = ? and ino != ? and skip < ? and skip + length > ?"
            " limit 1",
            (at.volume, at.position, extent.ino, at.skip + extent.length, at.skip),
        ):
            return True
    return False


def join_extents(
    tx: Transaction, ino: InodeNo, seen: Sequence[Extent], joined: Sequence[NewExtent], first_id: ExtentId
) -> bool:
    """Put *joined* in the place of up to ``SWAP_ROWS`` rows, which have the same bytes. Takes an id for each.

    False if *seen* is not what lies there: something was written, truncated or moved meanwhile. Raises: WriteConflict
    if the copy is there no more.
    """
    assert 0 < len(seen) <= SWAP_ROWS
    start, stop = seen[0].offset, seen[-1].offset + seen[-1].length
    assert sum(each.length for each in joined) == stop - start
    if has_void(tx, ino) or layout(tx, ino, start, stop, SWAP_ROWS + 1) != list(seen):
        return False
    gone: Counter[bytes | None] = Counter()
    for extent in seen:
        tx.run("delete from extent where id = ?", (extent.id,))
        gone[extent.location.volume if extent.location is not None else None] += extent.length
    for volume, count in gone.items():
        count_gone(tx, volume, count)
    for number, new in enumerate(joined):
        insert_row(tx, first_id + number, ino, new.offset, new.length, new.location, new.data)
    return True


def with_many_extents(tx: Transaction, start: InodeNo) -> tuple[list[tuple[InodeNo, int]], InodeNo | None]:
    """A chunk of the files that have ``FRAGMENTED_EXTENTS`` or more from *start* on, with how many, and where to go on;
    None at the end. Of one that has more than a chunk not all are counted."""
    rows = tx.all(
        "select ino, count(*) from (select ino from extent where ino >= ? order by ino limit ?)"
        " group by ino order by ino",
        (start, _WALK_ROWS),
    )
    found = [(InodeNo(ino), count) for ino, count in rows if count >= FRAGMENTED_EXTENTS]
    if sum(count for _, count in rows) < _WALK_ROWS:
        return found, None
    last = rows[-1][0]
    return found, InodeNo(last if last > start else last + 1)
