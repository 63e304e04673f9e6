"""Goes through all rows of the catalog beside each of its copies, at a pace, and puts right whoever is wrong."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import structlog
import trio

from stratumfs.catalog.chains import ChainDamaged
from stratumfs.catalog.compare import (
    Key,
    Row,
    Table,
    Versions,
    chunk,
    described,
    differing,
    owners,
    put_right,
    right_one,
    row_at,
    tables,
    versions,
)
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.snapshot import CopyAt, Snapshot
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.writer import Committed
from stratumfs.errors import StoreBusy, StratumError
from stratumfs.ids import PlaceId
from stratumfs.limits import COMPARED_MAX, SWAP_ROWS
from stratumfs.threads import in_thread

T = TypeVar("T")

Step = Callable[[float, int], Awaitable[None]]
"""Awaited behind each chunk with the seconds that it took and the rows that it had."""

_log = structlog.get_logger(__name__)

_THEIRS = 2 * SWAP_ROWS
"""Rows of a copy in one chunk."""
_HEARD_S = 5.0
"""How long copies may take to say what they have of some rows while commits wait for that …"""
_TRIES = 3
"""… and how often they are asked before nobody knows."""

_Suspect = tuple[Table, Key]
_Voices = dict[PlaceId, tuple[CopyAt, list[Row | None]]]


@dataclass(slots=True)
class Compared:
    """wrong: rows of the primary that were not right, and what became of them; bad: copies that were not, and why;
    unknown: rows of which nobody can say what is right; not_looked: copies that could not be looked into, and why."""

    copies: int = 0
    rows: int = 0
    wrong: list[tuple[str, bool]] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    not_looked: dict[str, str] = field(default_factory=dict)
    remade: set[str] = field(default_factory=set)


async def compare_copies(catalog: Catalog, step: Step, *, mend: bool, committed: Committed | None = None) -> Compared:
    """Each copy that there is. *mend*: rows of the primary are put right, and bad copies made anew. *committed* is told
    of the rows, as of a commit's."""
    comparison = _Comparison(catalog, step, mend and not catalog.read_only, committed)
    for copy in catalog.copies:
        await comparison.look_into(copy)
    return await comparison.end()


class _Comparison:
    """One look at all copies. What differs is noted as a suspicion, and judged whenever many are.

    A copy that is not right in one row has its voice in others still; one that cannot be read has none.
    """

    def __init__(self, catalog: Catalog, step: Step, mend: bool, committed: Committed | None) -> None:
        self._catalog, self._step, self._mend, self._committed = catalog, step, mend, committed
        self._found = Compared()
        self._suspects: dict[_Suspect, None] = {}
        self._judged: set[_Suspect] = set()
        self._bad: dict[PlaceId, tuple[CopyAt, str]] = {}
        self._unreadable: set[PlaceId] = set()
        self._kept: set[PlaceId] = set()
        self._threads: dict[PlaceId, trio.CapacityLimiter] = {}
        self._changes: list[tuple[Table, Key, Row | None, Row | None]] = []
        self._versions: Versions = {}

    async def look_into(self, copy: CopyAt) -> None:
        try:
            await self._walk(copy)
            self._found.copies += 1
        except ChainDamaged as error:
            self._unread(copy, error)
        except StratumError as error:
            self._found.not_looked[copy.label] = str(error)

    async def end(self) -> Compared:
        """Judge the rest. A copy that says something else where nobody knows what is right is kept, for that may be."""
        for _ in range(_TRIES):
            await self._judge()
            if not self._suspects:
                break
        self._found.unknown += [described(table, key) for table, key in self._suspects]
        await self._put_right()
        for place, (copy, reason) in self._bad.items():
            self._found.bad[copy.label] = reason
            _log.warning("copy_of_the_catalog_damaged", copy=copy.label, reason=reason)
            may_go = copy in self._catalog.copies and (place in self._unreadable or place not in self._kept)
            if self._mend and may_go:
                await self._catalog.make_copy_anew(place, reason)
                self._found.remade.add(copy.label)
        return self._found

    async def _walk(self, copy: CopyAt) -> None:
        """Note what differs. Raises: ChainDamaged, StoreBusy."""
        snapshot = await self._snapshot(copy)
        try:
            for table in await _in_thread(partial(snapshot.read, tables)):
                after: Key | None = None
                while True:
                    began = trio.current_time()
                    ours, theirs, upto = await self._rows_behind(snapshot, table, after)
                    self._suspects |= dict.fromkeys((table, key) for key in differing(table, ours, theirs))
                    self._found.rows += len(ours)
                    if len(self._suspects) >= COMPARED_MAX:
                        # What was merely changed since the snapshot was taken would be met again and again.
                        await _close(snapshot)
                        await self._judge()
                        snapshot = await self._snapshot(copy)
                    await self._step(trio.current_time() - began, len(ours))
                    if upto is None:
                        break
                    after = upto
        finally:
            await _close(snapshot)

    async def _snapshot(self, copy: CopyAt) -> Snapshot:
        """Raises: ChainDamaged, StoreBusy."""
        if len(self._found.unknown) >= COMPARED_MAX:
            raise StoreBusy(f"{copy.folder}: nobody knows of {len(self._found.unknown)} rows what is right")
        await _synced(self._catalog)
        return await _in_thread(partial(Snapshot, copy))

    async def _rows_behind(
        self, snapshot: Snapshot, table: Table, after: Key | None
    ) -> tuple[list[Row], list[Row], Key | None]:
        """All rows of both up to a key; None: up to the end."""
        ours = await self._catalog.read(chunk, table, after, None, SWAP_ROWS)
        upto = table.key_of(ours[-1]) if len(ours) == SWAP_ROWS else None
        theirs = await _in_thread(partial(snapshot.read, chunk, table, after, upto, _THEIRS))
        if len(theirs) == _THEIRS:  # rows between that the primary has lost, or all behind its last one
            upto = table.key_of(theirs[-1])
            ours = await self._catalog.read(chunk, table, after, upto, SWAP_ROWS)
        return ours, theirs, upto

    async def _judge(self) -> None:
        """Who is right, of rows that are not merely changed meanwhile."""
        suspects = [each for each in self._suspects if each not in self._judged]
        self._suspects.clear()
        suspects, before = await self._still_differing(suspects)
        if not suspects:
            return
        theirs: _Voices | None
        if self._catalog.read_only:  # and no commit waits
            mine, theirs = await self._catalog.read(_rows_at, suspects), await self._voices(suspects)
        else:
            ask: Callable[[], Awaitable[_Voices | None]] = partial(self._heard, suspects)
            mine, theirs = await self._catalog.aside.read_beside(ask, _rows_at, suspects)
        if theirs is None:
            self._suspects |= dict.fromkeys(suspects)
            return
        for at, (table, key) in enumerate(suspects):
            rows = [mine[at], *(each[at] for _, each in theirs.values())]
            if all(row == mine[at] for row in rows):
                continue
            self._judged.add((table, key))
            right, known = right_one(table, rows)
            what = described(table, key)
            if not known:
                self._found.unknown.append(what)
                self._kept |= {place for place, (_, each) in theirs.items() if each[at] != mine[at]}
                continue
            for place, (copy, each) in theirs.items():
                if each[at] != right:
                    self._bad.setdefault(place, (copy, f"{what} differs"))
            if mine[at] != right:
                self._changes.append((table, key, mine[at], right))
                for ino in owners(table.name, right) if right is not None else ():
                    if ino in before:
                        self._versions.setdefault(ino, before[ino])

    async def _still_differing(self, suspects: Sequence[_Suspect]) -> tuple[list[_Suspect], Versions]:
        """Of *suspects*, those of which some copy says something else than the primary before and after. The others
        were merely changed, most of them; and one that came and went meanwhile is still here.

        And the versions of the inodes that they may belong to, read before they are judged: what was changed by then,
        or later, is not what was judged.
        """
        if not suspects:
            return [], {}
        before = await self._catalog.read(_rows_at, suspects)
        await _synced(self._catalog)
        theirs = await self._voices(suspects)
        inodes = {
            ino
            for _, rows in theirs.values()
            for (table, _), row in zip(suspects, rows, strict=True)
            if row is not None
            for ino in owners(table.name, row)
        }
        found = await self._catalog.read(versions, inodes)
        after = await self._catalog.read(_rows_at, suspects)
        left = [
            each
            for at, each in enumerate(suspects)
            if before[at] == after[at] and any(rows[at] != after[at] for _, rows in theirs.values())
        ]
        return left, found

    async def _put_right(self) -> None:
        """All in one step, when nothing is left to be compared: copies are told of whole pages, and what is still wrong
        on one must not come to those that have it right."""
        if self._changes and self._mend:
            changes = [(table.name, key, was, row) for table, key, was, row in self._changes]
            done = await self._catalog.commit(put_right, changes, self._versions, committed=self._committed)
        else:
            done = [False] * len(self._changes)
        for (table, key, _, _), restored in zip(self._changes, done, strict=True):
            what = described(table, key)
            self._found.wrong.append((what, restored))
            _log.warning("row_of_the_catalog_damaged", row=what, restored=restored)

    async def _heard(self, suspects: Sequence[_Suspect]) -> _Voices | None:
        """What all copies say, if they do in time."""
        with trio.move_on_after(_HEARD_S):
            return await self._voices(suspects, abandon=True)
        return None

    async def _voices(self, suspects: Sequence[_Suspect], *, abandon: bool = False) -> _Voices:
        """What each copy that can be read has. *abandon*: whoever is cancelled leaves a thread behind, one a copy."""
        found: _Voices = {}
        for copy in self._catalog.copies:
            if copy.place not in self._unreadable:
                thread = self._threads.setdefault(copy.place, trio.CapacityLimiter(1))
                rows = partial(_rows, copy, suspects)
                try:
                    found[copy.place] = copy, await in_thread(rows, limiter=thread, abandon_on_cancel=abandon)
                except ChainDamaged as error:
                    self._unread(copy, error)
                except StoreBusy as error:
                    self._found.not_looked[copy.label] = str(error)
        return found

    def _unread(self, copy: CopyAt, error: ChainDamaged) -> None:
        if copy not in self._catalog.copies:  # it has become the primary, or was given up
            self._found.not_looked[copy.label] = str(error)
            return
        self._unreadable.add(copy.place)
        self._bad[copy.place] = copy, str(error)


async def _synced(catalog: Catalog) -> None:
    if not catalog.read_only:
        await catalog.sync()


def _rows_at(tx: Transaction, suspects: Sequence[_Suspect]) -> list[Row | None]:
    return [row_at(tx, table, key) for table, key in suspects]


def _rows(copy: CopyAt, suspects: Sequence[_Suspect]) -> list[Row | None]:
    snapshot = Snapshot(copy)
    try:
        return snapshot.read(_rows_at, suspects)
    finally:
        snapshot.close()


async def _close(snapshot: Snapshot) -> None:
    """Also if the store ends meanwhile: else the copy would stay in the folder for temporary files."""
    with trio.CancelScope(shield=True):
        await _in_thread(snapshot.close)


async def _in_thread(fn: Callable[[], T]) -> T:
    return await in_thread(fn, limiter=trio.CapacityLimiter(1))
