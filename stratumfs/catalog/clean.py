"""Where, in the cold tier, bytes lie yet that were brought back: for a while, so that going there again costs nothing.

A row says of a run of bytes on devices that a run in a cold volume has the same. Both are places whose bytes never
change, so that a row is right as long as both volumes are there; what became of the files meanwhile does not matter.
"""

import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from blake3 import blake3

from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.volumes import FREED, SEALED
from stratumfs.cold_limits import CLEAN_ROWS_MAX, CLEAN_RUN_MIN
from stratumfs.errors import CatalogCorrupt
from stratumfs.ids import Nonce, StripeNo, VolumeId
from stratumfs.limits import STRIPE_PAYLOAD_MAX, TRANSACTION_ROWS_MAX
from stratumfs.location import NONCE_MASK, Location
from stratumfs.values import MovedRun

_PLACE = "16sqqqqq"
_SUM = struct.Struct(f"<{_PLACE}q{_PLACE}q")
_SIGN = 1 << 63
_RUN_ROWS = 5
"""Rows that are looked at in the time that a statement takes by itself."""

Run = tuple[Location, int]


def clean_room(tx: Transaction) -> int:
    """How many rows more there may be."""
    row = tx.one("select count(*) from (select 1 from clean limit ?)", (CLEAN_ROWS_MAX,))
    assert row is not None
    return CLEAN_ROWS_MAX - int(row[0])


def keep_clean(tx: Transaction, run: MovedRun, until_ns: int) -> None:
    """The bytes of *run*, which lies in a cold volume, lie on devices too from now on. Short ones are not
    remembered."""
    if run.length < CLEAN_RUN_MIN:
        return
    here, there = _place(run.target), _place(run.source)
    tx.run("delete from clean where volume = ? and stripe = ? and skip = ?", (here[0], here[1], here[4]))
    tx.run(
        f"insert into clean values ({', '.join('?' * 15)})",  # noqa: S608
        (*here, run.length, *there, until_ns, _sum(here, run.length, there, until_ns)),
    )


def clean_runs(
    tx: Transaction, runs: Sequence[Run], now_ns: int, limit: int = TRANSACTION_ROWS_MAX
) -> tuple[list[MovedRun], list[Run]]:
    """What of *runs* lies in sealed cold volumes too, in order; and what of them is to be asked for yet.

    About *limit* rows are looked at, where each run counts for _RUN_ROWS more.
    """
    found: list[MovedRun] = []
    for number, (at, length) in enumerate(runs):
        if limit <= 0:
            return found, list(runs[number:])
        rows = _rows(tx, at, length, limit)
        stop = _stop(at, length, rows, limit)
        limit -= _RUN_ROWS + len(rows)
        done = 0
        for offset, clean in _good(at, rows, now_ns):
            first, last = max(done, offset), min(stop, offset + clean.length)
            if first < last:
                found.append(MovedRun(at.advanced(first), last - first, clean.target.advanced(first - offset)))
                done = last
        if stop < length:
            return found, [(at.advanced(stop), length - stop), *runs[number + 1 :]]
    return found, []


def _rows(tx: Transaction, at: Location, length: int, limit: int) -> list[tuple[Any, ...]]:
    """Those that may have some of a run, in order. Rows of a volume do not overlap, so no more than one of them begins
    before it."""
    last = at.advanced(length - 1)
    rows = tx.all(
        "select c.*, v.state from (select * from (select * from clean where volume = ?1 and (stripe, skip) <= (?2, ?3)"
        " order by stripe desc, skip desc limit 1) union all select * from (select * from clean where volume = ?1"
        " and (stripe, skip) > (?2, ?3) and (stripe, skip) <= (?4, ?5) order by stripe, skip limit ?6)) c"
        " left join volume v on v.id = c.cold",
        (at.volume, at.stripe, at.skip, last.stripe, last.skip, limit),
    )
    return sorted(rows, key=lambda row: row[1:5:3])


def _stop(at: Location, length: int, rows: Sequence[tuple[Any, ...]], limit: int) -> int:
    """Up to which byte of a run these are all; where there may be more, up to the last of them. What a damaged row
    hides is only uploaded anew."""
    behind = [row for row in rows if row[1:5:3] > (at.stripe, at.skip)]
    if len(behind) < limit:
        return length
    offset = (behind[-1][1] - at.stripe) * STRIPE_PAYLOAD_MAX + behind[-1][4] - at.skip
    return offset if 0 < offset < length else length


def _good(at: Location, rows: Sequence[tuple[Any, ...]], now_ns: int) -> Iterator[tuple[int, MovedRun]]:
    """With the distance of each from the beginning of the run."""
    for *row, state in rows:
        with suppress(CatalogCorrupt):
            clean = _checked(tuple(row))
            offset = _distance(at, clean.source)
            if offset is not None and state == SEALED and row[13] > now_ns:
                yield offset, clean


def forget_clean(tx: Transaction, now_ns: int, limit: int = 200) -> int:
    """Those whose time is over. Returns how many."""
    rows = tx.all("select volume, stripe, skip from clean where until_ns <= ? limit ?", (now_ns, limit))
    for row in rows:
        tx.run("delete from clean where volume = ? and stripe = ? and skip = ?", row)
    return len(rows)


def copies_of(
    tx: Transaction, cold: VolumeId, after: tuple[bytes, int, int] = (b"", -1, -1), limit: int = 200
) -> tuple[list[MovedRun], tuple[bytes, int, int] | None]:
    """A chunk of what lies on devices too of a volume of the cold tier, from there to here, in volumes that are sealed,
    or freed and perhaps there yet; and behind what to go on, None at the end."""
    rows = tx.all(
        "select c.*, v.state from clean c left join volume v on v.id = c.volume"
        " where c.cold = ? and (c.volume, c.stripe, c.skip) > (?, ?, ?) order by c.volume, c.stripe, c.skip limit ?",
        (cold, *after, limit),
    )
    found = []
    for *row, state in rows:
        with suppress(CatalogCorrupt):
            clean = _checked(tuple(row))
            if state in (SEALED, FREED):
                found.append(MovedRun(clean.target, clean.length, clean.source))
    return found, (rows[-1][0], rows[-1][1], rows[-1][4]) if len(rows) == limit else None


def has_stale(tx: Transaction, now_ns: int) -> bool:
    """Whether the time of some is over."""
    return tx.one("select 1 from clean where until_ns <= ? limit 1", (now_ns,)) is not None


def _distance(at: Location, other: Location) -> int | None:
    """How many bytes behind the first of a run another one begins, if it is of the same; negative: before it."""
    steps = other.stripe - at.stripe
    same = (
        other.cell_size == at.cell_size
        and other.position - at.position == steps * at.stride
        and (other.nonce - at.nonce - steps) & NONCE_MASK == 0
    )
    return steps * STRIPE_PAYLOAD_MAX + other.skip - at.skip if same else None


def _checked(row: tuple[Any, ...]) -> MovedRun:
    """Raises: CatalogCorrupt."""
    here, length, there, until_ns, found = row[:6], row[6], row[7:13], row[13], row[14]
    try:
        right = _sum(here, length, there, until_ns) == found
    except (struct.error, TypeError):
        right = False
    if not right:
        raise CatalogCorrupt("a row of a clean copy fails its check")
    return MovedRun(_location(here), length, _location(there))


def _place(at: Location) -> tuple[Any, ...]:
    nonce = at.nonce - (1 << 64) if at.nonce & _SIGN else at.nonce
    return at.volume, at.stripe, at.position, at.cell_size, at.skip, nonce


def _location(place: tuple[Any, ...]) -> Location:
    volume, stripe, position, cell_size, skip, nonce = place
    return Location(VolumeId(volume), StripeNo(stripe), position, cell_size, skip, Nonce(nonce & NONCE_MASK))


def _sum(here: tuple[Any, ...], length: int, there: tuple[Any, ...], until_ns: int) -> int:
    packed = _SUM.pack(*here, length, *there, until_ns)
    return int.from_bytes(blake3(packed).digest(8), "little", signed=True)
