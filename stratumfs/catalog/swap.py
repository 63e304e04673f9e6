"""Points extents at a copy of their bytes: what every move of bytes ends in.

Volumes are never rewritten in place, so that what was copied is what lies under (volume, stripe, nonce) for ever. The
guard is therefore taken where it cannot be late: the transaction that swaps a row reads it, and swaps what of it lies
in a run that was copied. Rows that an overwrite or a truncate took away meanwhile are not found, what they left of
older ones is, and all that share the bytes (copies of objects) go on sharing them.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from stratumfs.catalog.clean import clean_room, keep_clean
from stratumfs.catalog.extents import (
    COLUMNS,
    SHOWN,
    checked,
    clipped,
    count_gone,
    count_live,
    delete_row,
    has_void,
    insert_row,
    point_at,
)
from stratumfs.catalog.moves import record_moved
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.untold import note_untold
from stratumfs.catalog.volumes import FREED, SEALED
from stratumfs.config import REMOTE_TIERS
from stratumfs.errors import CatalogCorrupt
from stratumfs.ids import ExtentId, InodeNo, StripeNo, VolumeId
from stratumfs.limits import STRIPE_PAYLOAD_MAX, SWAP_ROWS, VOLUME_PAYLOAD_SEAL
from stratumfs.location import NONCE_MASK, Location
from stratumfs.values import Extent, MovedRun, PackedExtent

IDS_PER_SWAP = 3 * SWAP_ROWS
"""An extent that lies in the run in part leaves up to two rests, and its middle is a new row too."""

_REACH_MAX = VOLUME_PAYLOAD_SEAL // STRIPE_PAYLOAD_MAX
"""Stripes of the longest run: so far back may an extent begin that reaches into another one's."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far a swap has come: the run, and behind which extent of those that begin in it (position, id)."""

    run: int = 0
    position: int = -1
    ident: int = -1


@dataclass(frozen=True, slots=True)
class Swapped:
    """bytes: that extents point at in the new place now; resume: where to go on, None at the end."""

    bytes: int
    resume: Place | None


def swap_runs(
    tx: Transaction,
    runs: tuple[MovedRun, ...],
    start: Place,
    first_id: ExtentId,
    move: bytes | None,
    now_ns: int,
    clean_ns: int = 0,
    untold: bool = False,
) -> Swapped:
    """Swap a chunk of the extents that point into *runs*, each in one volume, from *start* on.

    Takes ``IDS_PER_SWAP`` ids. An extent of an inode with a void is left where only a part of it lies in a run: new ids
    could bring to light what the void hides, or hide what it does not.

    move      the row that the move is recorded under; a batch of decisions is no such row, and ends what was recorded
    clean_ns  so long what is brought back from somebody's S3 is remembered to lie there too
    untold    no table of contents will tell of it
    """
    ids = iter(range(first_id, first_id + IDS_PER_SWAP))
    left, moved = SWAP_ROWS, 0
    pointed = _Pointed()
    room: int | None = None
    place: Place | None = start
    while place is not None and left:
        run = runs[place.run]
        if clean_ns and place.position < 0 and _is_remote(tx, run.source.volume):
            room = clean_room(tx) if room is None else room - 1
            if room > 0:
                keep_clean(tx, run, now_ns + clean_ns)
        rows = _rows(tx, run, place, left)
        left -= len(rows)
        found: dict[InodeNo, int] = {}
        for row in rows:
            with suppress(CatalogCorrupt):  # whoever reads the file meets it
                extent = checked(row)
                found[extent.ino] = found.get(extent.ino, 0) + _swap(tx, extent, run, ids, pointed)
        if rows:
            place = replace(place, position=rows[-1][6], ident=rows[-1][0])
        moved += _record(tx, run, found, move, now_ns)
        if left:
            place = Place(place.run + 1) if place.run + 1 < len(runs) else None
    pointed.count(tx)
    if untold and moved:
        note_untold(tx)
    return Swapped(moved, place)


def swap_back(tx: Transaction, run: MovedRun, start: Place, first_id: ExtentId, now_ns: int) -> Swapped:
    """As `swap_runs`, to a place that may be freed: its bytes are there, and whoever unlinks them waits."""
    tx.run(
        "update volume set state = ?, changed_ns = ? where id = ? and state = ?",
        (SEALED, now_ns, run.target.volume, FREED),
    )
    return swap_runs(tx, (run,), start, first_id, None, now_ns, untold=True)


def planned(tx: Transaction, runs: tuple[MovedRun, ...], start: Place) -> tuple[list[Extent], Place | None]:
    """What `swap_runs` would point elsewhere now: a chunk of it as it will be, without what a void hides, and where to
    go on."""
    left, found = SWAP_ROWS, list[Extent]()
    place: Place | None = start
    while place is not None and left:
        run = runs[place.run]
        rows = _rows(tx, run, place, left)
        left -= len(rows)
        for row in rows:
            if tx.one(f"select 1 from extent where id = ?{SHOWN}", (row[0],)) is not None:  # noqa: S608
                with suppress(CatalogCorrupt):
                    found += _as_moved(checked(row), run)
        if rows:
            place = replace(place, position=rows[-1][6], ident=rows[-1][0])
        if left:
            place = Place(place.run + 1) if place.run + 1 < len(runs) else None
    return found, place


def inline_extents(tx: Transaction, after: ExtentId, limit: int = SWAP_ROWS) -> tuple[list[Extent], ExtentId | None]:
    """A chunk of the extents whose bytes lie in the catalog, oldest first, and behind what to go on; None at the end.

    Rows that fail their check are left out: whoever reads the file meets them.
    """
    rows = tx.all(
        f"select {COLUMNS} from extent where volume is null and id > ? order by id limit ?",  # noqa: S608
        (after, limit),
    )
    found = []
    for row in rows:
        with suppress(CatalogCorrupt):
            found.append(checked(row))
    return found, ExtentId(rows[-1][0]) if len(rows) == limit else None


def swap_inline(tx: Transaction, packed: Sequence[PackedExtent]) -> int:
    """Point up to ``SWAP_ROWS`` inline extents at copies of their bytes. Returns how many bytes they have.

    A row is another one, or gone, if anything happened to its bytes meanwhile; it is left as it is then. Those that are
    swapped keep their ids: what a void hides stays hidden.
    """
    assert len(packed) <= SWAP_ROWS
    pointed = _Pointed()
    swapped = 0
    for each in packed:
        row = tx.one("select ino, offset, length, hash from extent where id = ? and volume is null", (each.id,))
        if row == (each.ino, each.offset, each.length, each.hash):
            pointed.add(tx, each, None, each.target)
            swapped += each.length
    pointed.count(tx)
    return swapped


class _Pointed:
    """Whole rows that were pointed elsewhere in one transaction: what is counted of them is written once, for most of
    what a row costs would be that."""

    def __init__(self) -> None:
        self._left: dict[VolumeId | None, int] = {}
        self._reached: dict[VolumeId, tuple[int, StripeNo]] = {}

    def add(self, tx: Transaction, extent: Extent | PackedExtent, old: Location | None, at: Location) -> None:
        """*old*: None of an inline extent."""
        point_at(tx, extent.id, extent.ino, extent.offset, extent.length, at)
        source = old.volume if old is not None else None
        self._left[source] = self._left.get(source, 0) + extent.length
        count, last = self._reached.get(at.volume, (0, at.stripe))
        self._reached[at.volume] = count + extent.length, max(last, at.advanced(extent.length - 1).stripe)

    def count(self, tx: Transaction) -> None:
        """Raises: WriteConflict if a place is there no more."""
        for source, count in self._left.items():
            count_gone(tx, source, count)
        for volume, (count, last) in self._reached.items():
            count_live(tx, volume, count, last)


def _rows(tx: Transaction, run: MovedRun, after: Place, limit: int) -> list[tuple[Any, ...]]:
    """Extents that point into the run, in order of (position, id), those that begin before it first."""
    source = run.source
    last = source.advanced(run.length - 1)
    found = []
    if after.position < source.position and (earlier := _earlier(tx, source)):
        reaching = (STRIPE_PAYLOAD_MAX, source.stride, source.position)
        found = tx.all(
            f"select {COLUMNS} from extent where volume = ? and position in ({', '.join('?' * len(earlier))})"  # noqa: S608
            " and (position, id) > (?, ?) and position + (skip + length - 1) / ? * ? >= ?"
            " order by position, id limit ?",
            (source.volume, *earlier, after.position, after.ident, *reaching, limit),
        )
    if len(found) < limit:
        behind = (after.position, after.ident) if after.position >= source.position else (source.position, -1)
        found += tx.all(
            f"select {COLUMNS} from extent where volume = ? and position <= ? and (position, id) > (?, ?)"  # noqa: S608
            " order by position, id limit ?",
            (source.volume, last.position, *behind, limit - len(found)),
        )
    return found


def _earlier(tx: Transaction, source: Location) -> list[int]:
    """Positions of the stripes that the same run may have before this one: full ones only have others behind them."""
    row = tx.one("select k from volume where id = ?", (source.volume,))
    if row is None or source.cell_size * row[0] < STRIPE_PAYLOAD_MAX:
        return []
    return [source.position - back * source.stride for back in range(1, _REACH_MAX + 1)]


def _swap(tx: Transaction, extent: Extent, run: MovedRun, ids: Iterator[int], pointed: _Pointed) -> int:
    """Returns how many bytes of the extent were swapped."""
    at = _offset_in(run.source, extent)
    if at is None:
        return 0
    start, stop = max(0, at), min(run.length, at + extent.length)
    if start >= stop:
        return 0
    whole = stop - start == extent.length
    if not whole and has_void(tx, extent.ino):
        return 0
    assert extent.location is not None
    if whole:
        pointed.add(tx, extent, extent.location, run.target.advanced(start))
        return extent.length
    end = extent.offset + extent.length
    low, high = extent.offset + start - at, extent.offset + stop - at
    delete_row(tx, extent.id, extent.location.volume, extent.length)
    for first, last in ((extent.offset, low), (high, end)):
        if first < last:
            rest = clipped(extent, first, last)
            insert_row(tx, next(ids), extent.ino, first, last - first, rest.location, None)
    insert_row(tx, next(ids), extent.ino, low, high - low, run.target.advanced(start), None)
    return high - low


def _is_remote(tx: Transaction, volume: VolumeId) -> bool:
    row = tx.one("select tier from volume where id = ?", (volume,))
    return row is not None and row[0] in REMOTE_TIERS


def _as_moved(extent: Extent, run: MovedRun) -> list[Extent]:
    """The part of an extent that lies in a run, as it will lie in the run's target; or none."""
    at = _offset_in(run.source, extent)
    if at is None:
        return []
    start, stop = max(0, at), min(run.length, at + extent.length)
    if start >= stop:
        return []
    part = clipped(extent, extent.offset + start - at, extent.offset + stop - at)
    return [part._replace(location=run.target.advanced(start))]


def _offset_in(source: Location, extent: Extent) -> int | None:
    """Where the extent begins, counted from the run's first byte; None if it is not of the same run."""
    at = extent.location
    assert at is not None
    steps = at.stripe - source.stripe
    same = (
        at.cell_size == source.cell_size
        and at.position - source.position == steps * source.stride
        and (at.nonce - source.nonce - steps) & NONCE_MASK == 0
    )
    return steps * STRIPE_PAYLOAD_MAX + at.skip - source.skip if same else None


def _record(tx: Transaction, run: MovedRun, found: dict[InodeNo, int], move: bytes | None, now_ns: int) -> int:
    row = tx.one("select tier from volume where id = ?", (run.source.volume,)) if move is not None else None
    if move is not None and row is not None:
        record_moved(tx, row[0], found, move, now_ns)
    return sum(found.values())
