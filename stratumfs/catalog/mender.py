"""Restores extent rows that fail their check from copies of the catalog: pages have no checksum of their own.

A row is restored under its id, and only where the one that is there fails its check. A copy is looked into only as it
is after the damage was met and all was synced: rows change by swaps of their location, and an older one may name a
volume that was freed since.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar, TypeVarTuple

import structlog
import trio

from stratumfs.catalog.rowcheck import Row, bad_near, good_extent, restore_extents
from stratumfs.catalog.snapshot import CopyAt, Snapshot
from stratumfs.catalog.transaction import Transaction
from stratumfs.errors import StratumError
from stratumfs.ids import ExtentId
from stratumfs.limits import ROW_MEND_AGAIN_S
from stratumfs.threads import in_thread

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_log = structlog.get_logger(__name__)


class Mended(Protocol):
    """What is wanted of the catalog."""

    @property
    def copies(self) -> Sequence[CopyAt]: ...
    @property
    def read_only(self) -> bool: ...
    async def sync(self) -> None: ...
    async def read(self, fn: Callable[[Transaction, *Ts], T], *args: *Ts) -> T: ...
    async def write(self, fn: Callable[[Transaction, *Ts], T], *args: *Ts) -> T: ...


class RowMender:
    """Used on the loop. Who comes while a copy is looked into is answered by the next look, all together.

    met       rows that failed their check when they were sought
    restored  those of them that a copy had whole
    """

    def __init__(self, catalog: Mended) -> None:
        self._catalog = catalog
        self._turn = trio.Lock()
        self._waiting: set[ExtentId] = set()
        self._refused: dict[ExtentId, float] = {}
        self.met = self.restored = 0

    @property
    def given_up(self) -> int:
        """Rows that no copy had whole when they were last sought."""
        return len(self._refused)

    async def mend(self, idents: Collection[ExtentId]) -> set[ExtentId]:
        """Returns those that pass their check now. One that no copy had is not sought again for a while."""
        now = trio.current_time()
        asked = {ident for ident in idents if self._refused.get(ident, float("-inf")) <= now}
        if not asked or self._catalog.read_only:
            return set()
        self._waiting |= asked
        async with self._turn:
            batch, self._waiting = self._waiting, set()
            if batch:
                await self._mend(batch)
        return {ident for ident in asked if ident not in self._refused}

    async def _mend(self, batch: set[ExtentId]) -> None:
        left = set(batch)
        try:
            await self._catalog.sync()
            left = await self._catalog.read(bad_near, sorted(batch))
            self.met += len(left)
            rows: dict[int, Row] = {}
            for copy in self._catalog.copies:
                if wanted := sorted(left - rows.keys()):
                    rows |= await _rows_of_copy(copy, wanted)
            for row in await self._catalog.write(restore_extents, [rows[ident] for ident in sorted(rows)]):
                self.restored += 1
                _log.warning("row_restored", extent=row[0], inode=row[1], offset=row[2])
            left -= {ExtentId(ident) for ident in rows}
        except StratumError as error:
            _log.warning("rows_not_restored", reason=str(error))
        until = trio.current_time() + ROW_MEND_AGAIN_S
        for ident in batch - left:
            self._refused.pop(ident, None)
        self._refused.update(dict.fromkeys(left, until))
        if left:
            _log.error("rows_damaged", extents=sorted(left), reason="no copy of the catalog has them whole")


async def _rows_of_copy(copy: CopyAt, wanted: Sequence[ExtentId]) -> dict[int, Row]:
    try:
        rows = await in_thread(_rows_of, copy, wanted, limiter=trio.CapacityLimiter(1))
    except (StratumError, OSError) as error:
        _log.warning("copy_not_looked_into", copy=copy.label, reason=str(error))
        return {}
    return {row[0]: row for row in rows}


def _rows_of(copy: CopyAt, idents: Sequence[ExtentId]) -> list[Row]:
    snapshot = Snapshot(copy)
    try:
        found = (snapshot.read(good_extent, ident) for ident in idents)
        return [row for row in found if row is not None]
    finally:
        snapshot.close()
