"""Counts objects and bytes below each bucket and prefix, so that whoever asks need not walk.

One walk of all names, in their order and a chunk at a time, every few hours. The sums of a directory are written down
when all below it was counted, each with its own time, in the place of those before it: so there are always some, also
while a walk is under way or was stopped. What changes behind a walk is the next one's.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
import trio

from stratumfs.catalog.below import Named, named_below
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.usage import UsageRow, drop_usage, keep_usage, last_walk, usage_below
from stratumfs.errors import StratumError
from stratumfs.ids import ROOT_INODE, InodeNo
from stratumfs.limits import SCRUB_AGAIN_S, TRANSACTION_ROWS_MAX, USAGE_DEPTH, USAGE_PERIOD_S, USAGE_ROWS_MAX

Pace = Callable[[float, int], Awaitable[None]]
"""Awaited behind each step with the seconds that it took and the names counted so far."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Sums:
    """Of a directory whose names are being counted. after: the last of them, None: all were."""

    ino: InodeNo
    path: bytes = b""
    above: "_Sums | None" = None
    depth: int = 0
    after: bytes | None = b""
    objects: int = 0
    directories: int = 0
    bytes: int = 0

    def add(self, other: "_Sums") -> None:
        self.objects += other.objects
        self.directories += other.directories
        self.bytes += other.bytes


class UsageWalk:
    """One task in the store's nursery.

    counted  names, by the walk under way; None: there is none
    buckets  the sums of the last walk by bucket, for who cannot wait
    """

    def __init__(self, catalog: Catalog, pace: Pace) -> None:
        self.counted: int | None = None
        self.buckets: dict[bytes, UsageRow] = {}
        self._catalog, self._pace = catalog, pace
        self._wake = trio.Event()
        self._asked: list[trio.Event] = []
        self._kept = 0

    async def wait_walk(self) -> None:
        """Return when a walk that begins now has ended, or has failed."""
        event = trio.Event()
        self._asked.append(event)
        self._wake.set()
        await event.wait()

    async def serve(self) -> None:
        """Until cancelled. An error, of whatever kind, is logged, and a walk begins later: no store ends for sums."""
        wait_s = await self._first_wait_s()
        while True:
            with trio.move_on_after(max(0.0, wait_s)):
                await self._wake.wait()
            asked, self._asked, self._wake = self._asked, [], trio.Event()
            wait_s = USAGE_PERIOD_S
            try:
                if not self._catalog.read_only:
                    await self.walk()
            except Exception as error:
                wait_s = _put_off(error)
            finally:
                self.counted = None
                for event in asked:
                    event.set()
            if self._asked:
                wait_s = 0.0

    async def _first_wait_s(self) -> float:
        try:
            await self._learn_buckets()
            last_ns = await self._catalog.read(last_walk)
        except Exception as error:
            return _put_off(error)
        return 0.0 if last_ns is None else USAGE_PERIOD_S - (time.time_ns() - last_ns) / 1e9

    async def walk(self) -> None:
        """Raises: StratumError, StoreReadOnly among them."""
        began_ns = time.time_ns()
        self.counted, self._kept = 0, 0
        done: list[UsageRow] = []
        stack = [_Sums(ROOT_INODE)]
        while stack:
            top = stack[-1]
            if top.after is not None:
                stack += await self._chunk(top)
                continue
            stack.pop()
            if top.above is not None:
                top.above.add(top)
            if self._is_kept(top):
                done.append(UsageRow(top.path, top.depth, top.objects, top.directories, top.bytes, time.time_ns()))
            if done and (not stack or len(done) >= TRANSACTION_ROWS_MAX):
                await self._catalog.write(keep_usage, tuple(done))
                done.clear()
        while await self._catalog.write(drop_usage, began_ns):
            await trio.lowlevel.checkpoint()
        await self._learn_buckets()

    async def _chunk(self, top: _Sums) -> list[_Sums]:
        """Count the next names of a directory. Returns the directories among them, the first one last."""
        began = trio.current_time()
        assert top.after is not None
        assert self.counted is not None
        names, top.after = await self._catalog.read(named_below, top.ino, top.after)
        below = []
        for each in names:
            if each.directory:
                top.directories += top.above is not None  # a bucket is none
                below.append(_sums(top, each))
            elif each.key:
                top.objects += 1
                top.bytes += each.size
        self.counted += len(names)
        await self._pace(trio.current_time() - began, self.counted)
        return below[::-1]

    def _is_kept(self, sums: _Sums) -> bool:
        if not 1 < sums.depth <= USAGE_DEPTH:
            return sums.depth == 1
        self._kept += 1
        return self._kept <= USAGE_ROWS_MAX

    async def _learn_buckets(self) -> None:
        found, after = dict[bytes, UsageRow](), b""
        while rows := await self._catalog.read(usage_below, b"", 0, after):
            found.update((row.path.removesuffix(b"/"), row) for row in rows)
            after = rows[-1].path
        self.buckets = found


def _put_off(error: Exception) -> float:
    """Seconds until the next walk. A defect of ours is logged with its traceback."""
    unforeseen = not isinstance(error, StratumError)
    _log.warning("names are not counted, and will be later", error=str(error), exc_info=unforeseen)
    return SCRUB_AGAIN_S


def _sums(top: _Sums, each: Named) -> _Sums:
    """Of a directory: its own key lies below its prefix. A bucket is no key."""
    path = top.path + each.name if top.depth < USAGE_DEPTH else b""
    found = _Sums(each.ino, path, top, top.depth + 1)
    if each.key and top.above is not None:
        found.objects, found.bytes = 1, each.size
    return found
