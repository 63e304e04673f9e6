"""Checks a catalog that nobody uses, and mends it: SQLite's pages, rows beside those of copies, sums, invariants.

In this order: what a copy has whole is restored before anything is concluded from what contradicts it.
"""

import time
from collections import Counter
from collections.abc import Callable

import trio

from stratumfs.catalog import invariants
from stratumfs.catalog.comparing import compare_copies
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.invariants import Invariant
from stratumfs.catalog.mending import part_extents
from stratumfs.catalog.rowcheck import look_at_extents, overlapping
from stratumfs.errors import CatalogRefused, StratumError
from stratumfs.ids import ExtentId
from stratumfs.repair.findings import Outcome, Report

Told = Callable[[str, int, int | None], None]
"""What is being done, how much of it is done, and of how much, if that is known."""

_OVERLAPS = "extents that overlap"
_TRIES = 3
"""Of one mend: it may be needed again when something else was mended, and must not be tried for ever."""
_ROUNDS = 8
"""Of mending: what one round leaves, as a tree of directories without a name, the next one finds."""


async def check_sums(catalog: Catalog, report: Report, told: Told, *, mend: bool) -> bool:
    """What the database is made of, and each row that can be held against something. *mend*: put right what can be.

    Whether all that copies know is known: else nothing may be concluded from what rows contradict, for a name that
    leads nowhere has perhaps its inode in a copy that nobody looked into.
    """
    await _check_pages(catalog, report, told, mend)
    sure = await _check_copies(catalog, report, told, mend)
    await _check_extents(catalog, report, told, mend)
    return sure


async def check_invariants(catalog: Catalog, report: Report, told: Told, *, mend: bool) -> None:
    """How rows go together, and what is left for the next owner to do. *mend*: only if copies left no doubt."""
    await _check_overlaps(catalog, report, mend)
    await _check_all(catalog, report, told, mend)
    for left in invariants.LEFT:
        for row in await catalog.read(invariants.look, left):
            report.add(left.text, _where(row), Outcome.NOTED)


async def _check_pages(catalog: Catalog, report: Report, told: Told, mend: bool) -> None:
    told("pages of the catalog", 0, None)
    wrong = await catalog.read(invariants.integrity)
    if wrong and mend:
        await catalog.write(invariants.index_anew)
        still = await catalog.read(invariants.integrity)
    else:
        still = wrong
    for line in wrong:
        mended = line not in still
        done = "the indexes were made anew" if mended else ""
        report.add("pages of the catalog", line, Outcome.MENDED if mended else Outcome.LEFT, done)


async def _check_copies(catalog: Catalog, report: Report, told: Told, mend: bool) -> bool:
    rows = 0

    async def step(_: float, count: int) -> None:
        nonlocal rows
        rows += count
        told("rows beside those of the copies", rows, None)
        await trio.lowlevel.checkpoint()

    found = await compare_copies(catalog, step, mend=mend)
    report.copies += found.copies
    for what, done in found.wrong:
        outcome = Outcome.MENDED if done else Outcome.LEFT
        report.add("rows that are right in copies of the catalog alone", what, outcome, "restored" if done else "")
    for label, reason in found.bad.items():
        done = label in found.remade
        text = f"{reason}; it is made anew" if done else reason
        report.add("copies of the catalog that are damaged", label, Outcome.MENDED if done else Outcome.LEFT, text)
    for what in found.unknown:
        report.add("rows of which no copy says what is right", what, Outcome.LEFT)
    for label, reason in found.not_looked.items():
        report.add("copies of the catalog that were not looked into", label, Outcome.LEFT, reason)
    return not (found.not_looked or found.unknown or any(not done for _, done in found.wrong))


async def _check_extents(catalog: Catalog, report: Report, told: Told, mend: bool) -> None:
    after: ExtentId | None = ExtentId(0)
    while after is not None:
        looked = await catalog.read(look_at_extents, after)
        report.rows += looked.rows
        told("extents", report.rows, None)
        after = looked.last
        if looked.bad:
            whole = await catalog.mender.mend([bad.id for bad in looked.bad]) if mend else set()
            for bad in looked.bad:
                done = bad.id in whole
                text = "restored from a copy" if done else "no copy of the catalog has it whole" if mend else ""
                outcome = Outcome.MENDED if done else Outcome.LEFT
                report.add("extents that fail their check", f"{bad.id}: {bad.reason}", outcome, text)
        await trio.lowlevel.checkpoint()


async def _check_all(catalog: Catalog, report: Report, told: Told, mend: bool) -> None:
    tried: Counter[tuple[str, str]] = Counter()
    for _ in range(_ROUNDS if mend else 1):
        changed = False
        for at, invariant in enumerate(invariants.INVARIANTS):
            told("invariants", at, len(invariants.INVARIANTS))
            changed |= await _check_invariant(catalog, invariant, report, tried, mend)
        if not changed:
            break


async def _check_invariant(
    catalog: Catalog, invariant: Invariant, report: Report, tried: Counter[tuple[str, str]], mend: bool
) -> bool:
    """Look and mend until nothing new is found: what is right of a directory tells what is of the one above it. What is
    found again and again is left. Whether anything was changed."""
    changed, more, left = False, True, 0
    while more:
        # What is left is found again, and must not fill the list: twice as many, so that few looks find all.
        limit, left = invariants.FOUND_MAX + 2 * left, 0
        rows = await catalog.read(invariants.look, invariant, limit)
        more = len(rows) == limit
        for row in rows:
            where = _where(row)
            tries = tried[invariant.text, where]
            if tries > _TRIES:
                left += 1
                continue
            done, why_not = await _mend(catalog, invariant, row) if mend and tries < _TRIES else ("", "")
            tried[invariant.text, where] = tries + 1 if done else _TRIES + 1
            more = True
            left += not done
            changed |= bool(done)
            report.add(invariant.text, where, Outcome.MENDED if done else Outcome.LEFT, done or why_not)
        await trio.lowlevel.checkpoint()
    return changed


async def _mend(catalog: Catalog, invariant: Invariant, row: tuple[object, ...]) -> tuple[str, str]:
    """What was done, or why nothing."""
    if invariant.mend is None:
        return "", ""
    try:
        return await catalog.write(invariants.mend_row, invariant.mend, row, time.time_ns()), ""
    except CatalogRefused as error:  # a row that says so much nonsense that the schema has no place for it
        return "", str(error)


async def _check_overlaps(catalog: Catalog, report: Report, mend: bool) -> None:
    after: tuple[int, int] | None = (-1, -1)
    seen: set[tuple[int, int]] = set()
    while after is not None:
        rows, last = await catalog.read(overlapping, after)
        new = [(ino, offset, (one, other)) for ino, offset, one, other in rows if (one, other) not in seen]
        for ino, offset, pair in new:
            seen.add(pair)
            done = ""
            if mend:
                try:
                    done = await catalog.write(part_extents, *pair)
                except StratumError as error:
                    report.add(_OVERLAPS, f"inode {ino} at {offset}", Outcome.LEFT, str(error))
                    continue
            report.add(_OVERLAPS, f"inode {ino} at {offset}", Outcome.MENDED if done else Outcome.LEFT, done)
        if mend and new:
            continue  # what was cut may lie over others still
        after = (last[0], last[1]) if last is not None else None
        await trio.lowlevel.checkpoint()


def _where(row: tuple[object, ...]) -> str:
    return ", ".join(_plain(each) for each in row)


def _plain(value: object) -> str:
    if not isinstance(value, bytes):
        return str(value)
    text = value.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else value.hex()
