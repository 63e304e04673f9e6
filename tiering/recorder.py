"""Writes down who was read and written, beside the engine, so that another policy can be tried on it later.

Pieces that follow each other count as one access, as they do for the policy. What was noted is written in a thread,
once a minute; a crash loses the last minute of it. Too many accesses at once, or a disk that fails, lose some, and that
is counted.
"""

from collections.abc import Callable
from pathlib import Path

import structlog
import trio

from stratumfs.catalog.described import sizes
from stratumfs.catalog.engine import Catalog
from stratumfs.errors import StratumError
from stratumfs.ids import InodeNo
from stratumfs.limits import RECORDED_MAX, RECORDING_S, RESIDENCES
from stratumfs.store.observer import AccessObserver
from stratumfs.threads import in_thread
from tiering.recording import Access, Kind, Recording
from tiering.runs import RUN_IDLE_S

_LAST_S = 5.0

_log = structlog.get_logger(__name__)


class _Noted:
    """One access so far; *end*: of its last piece, None of one that was written."""

    __slots__ = ("at", "count", "end", "ino", "last")

    def __init__(self, ino: InodeNo, at: float, count: int, end: int | None) -> None:
        self.ino, self.at, self.last, self.count, self.end = ino, at, at, count, end


class Recorder:
    """An observer that tells *next_observer* too. Owned by the owner, on its loop."""

    def __init__(self, next_observer: AccessObserver, folder: Path, clock: Callable[[], float]) -> None:
        self.lost = 0
        """Accesses that were not written down, since the start."""
        self._next, self._clock = next_observer, clock
        self._recording = Recording(folder)
        self._noted: list[_Noted] = []
        self._reads: dict[InodeNo, _Noted] = {}
        self._writes: dict[InodeNo, _Noted] = {}
        self._failing = False

    def read(self, ino: InodeNo, count: int, offset: int) -> None:
        self._next.read(ino, count, offset)
        now, noted = self._clock(), self._reads.get(ino)
        if noted is not None and noted.end == offset and now - noted.last <= RUN_IDLE_S:
            noted.count += count
            noted.end, noted.last = offset + count, now
        else:
            self._note(self._reads, _Noted(ino, now, count, offset + count))

    def wrote(self, ino: InodeNo, count: int) -> None:
        self._next.wrote(ino, count)
        noted = self._writes.get(ino)
        if noted is not None:
            noted.count += count
        else:
            self._note(self._writes, _Noted(ino, self._clock(), count, None))

    def _note(self, kind: dict[InodeNo, _Noted], noted: _Noted) -> None:
        if len(self._noted) >= RECORDED_MAX:
            self.lost += 1
            return
        kind[noted.ino] = noted
        self._noted.append(noted)

    async def serve(self, catalog: Catalog) -> None:
        """Until cancelled; then what is noted is written once more."""
        try:
            while True:
                await trio.sleep(RECORDING_S)
                await self.write(catalog)
        finally:
            with trio.move_on_after(_LAST_S, shield=True):
                await self.write(catalog)

    async def write(self, catalog: Catalog) -> None:
        """Write down what is noted; what fails is counted, and said once."""
        noted, self._noted = self._noted, []
        self._reads, self._writes = {}, {}
        try:
            accesses = await self._described(catalog, noted)
            # A disk that hangs holds nobody up who wants to end.
            await in_thread(self._recording.append, accesses, abandon_on_cancel=True)
            self._failing = False
        except Exception as error:  # of whatever kind: no store ends for its recording
            self.lost += len(noted)
            if not self._failing:
                unforeseen = not isinstance(error, (StratumError, OSError))
                _log.warning("accesses_not_recorded", error=str(error), exc_info=unforeseen)
            self._failing = True

    async def _described(self, catalog: Catalog, noted: list[_Noted]) -> list[Access]:
        found: dict[InodeNo, int] = {}
        inos = list({each.ino for each in noted})
        for start in range(0, len(inos), RESIDENCES):
            found |= await catalog.read(sizes, inos[start : start + RESIDENCES])
            await trio.lowlevel.checkpoint()
        kinds = {True: Kind.READ, False: Kind.WRITE}
        accesses = [
            Access(each.at, each.ino, each.count, found.get(each.ino, 0), kinds[each.end is not None]) for each in noted
        ]
        now = self._clock()
        return accesses + [Access(now, ino, 0, 0, Kind.GONE) for ino in inos if ino not in found]
