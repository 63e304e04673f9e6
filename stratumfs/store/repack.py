"""The one mover: bytes that extents point at are read, verified, written to another place, and the extents swapped.

The write order is that of all writers: stripes are appended, all shards are synced, and then rows name them. Each
transaction swaps up to 200 extents and leaves a state that is right by itself, so that a move can stop at any step and
be begun again: what was swapped is where it should be, what was not is found again. The bytes that were left stay until
nobody reads them, and go as those of every volume do that nothing points at (``store.maintenance``).
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass, field
from functools import partial

import structlog
import trio

from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.extents import END, layout
from stratumfs.catalog.swap import IDS_PER_SWAP, Place, inline_extents, swap_inline, swap_runs
from stratumfs.catalog.volumes import readable_extents_in
from stratumfs.cold_limits import RECALL_TOGETHER
from stratumfs.errors import CatalogCorrupt, StratumError, TooFewShards, WriteConflict
from stratumfs.ids import Buffer, ExtentId, InodeNo, VolumeId
from stratumfs.limits import REPACK_BYTES, REPACK_RUNS, SWAP_ROWS
from stratumfs.store.reader import Reader, volumes_of
from stratumfs.store.runs import Run, groups, joined, lies_in, moved_runs, packed_extents, pieces, without
from stratumfs.store.target import CopyStream, RepackTarget
from stratumfs.values import Extent, MovedRun, NewExtent, PackedExtent

_log = structlog.get_logger(__name__)

Pace = Callable[[float, int], Awaitable[None]]


@dataclass(slots=True, eq=False)
class _Batch:
    """What is copied in one step, then made safe, and then swapped.

    runs    neighbours are joined
    moved   where each run, and each extent that was inline, begins in the stream
    held    what is kept for it
    """

    runs: Sequence[Run]
    inline: list[Extent]
    moved: list[tuple[int, Run]] = field(default_factory=list)
    packed: list[tuple[int, Extent]] = field(default_factory=list)
    stream: CopyStream | None = None
    held: ExitStack = field(default_factory=ExitStack)


class Repack:
    """Moves extents to the tier of *target*, a batch of up to ``REPACK_BYTES`` at a time. Used by one task.

    Extents of other inodes that share the bytes go along: shared bytes are moved once and stay shared. Inline extents
    lie in the catalog, which is no tier: they stay, but for those that ``inline`` is told to take.

    Short runs and inline extents come to lie side by side in small stripes, for whoever reads one of them verifies a
    cell of the stripe; longer runs fill whole ones.

    move        the catalog's row that the move is recorded under, if it has one
    freeing     more is freed than written: it may use the room that is kept for such
    pace        awaited behind each batch with the seconds that it took and the bytes moved so far
    ahead       whether nobody else is there, so that one batch may be copied while another one is made safe
    taken       bytes that were to move; who overwrites, deletes or moves them meanwhile comes first
    moved       bytes that extents point at in the new place
    unreadable  bytes that could not be read, and stay where they are
    """

    def __init__(
        self,
        catalog: Catalog,
        reader: Reader,
        target: RepackTarget,
        *,
        move: bytes | None = None,
        freeing: bool = False,
        pace: Pace | None = None,
        ahead: Callable[[], bool] = lambda: False,
    ) -> None:
        self.taken = self.moved = self.unreadable = 0
        self._catalog, self._reader, self._target = catalog, reader, target
        self._move, self._freeing, self._pace, self._ahead = move, freeing, pace, ahead
        self._next: _Batch | None = None
        self._copied: _Batch | None = None
        self._runs: list[Run] = []
        self._inline: list[Extent] = []
        self._size = 0
        self._volumes: set[VolumeId] = set()

    @contextmanager
    def running(self) -> Iterator["Repack"]:
        """What is to be read stays there until the context ends. Call ``flush`` before that."""
        with self._reader.keeping(self._volumes):
            try:
                yield self
            finally:
                self._drop()

    async def inode(self, ino: InodeNo) -> CatalogCorrupt | None:
        """Take what of an inode lies in other tiers. Returns why not all of it, if a row of it fails its check.

        Raises: as ``flush``; that is of what was taken before, of whichever inode.
        """
        async with aclosing(foreign(self._catalog, self._reader, ino, self._target.tier)) as extents:
            while True:
                try:
                    extent = await anext(extents, None)
                except CatalogCorrupt as error:
                    return error
                if extent is None:
                    return None
                await self._take(extent)

    async def volume(self, ident: VolumeId) -> None:
        """Take all that lies in a sealed volume, but for rows that fail their check. Raises: as ``flush``."""
        after: tuple[int, int] | None = (-1, -1)
        with self._reader.keeping({ident}):
            while after is not None:
                extents, after = await self._catalog.read(readable_extents_in, ident, after)
                for extent in extents:
                    await self._take(extent)
                await trio.lowlevel.checkpoint()

    async def inline(self, count: int) -> None:
        """Take about *count* bytes of what lies in the catalog, oldest first. Raises: as ``flush``."""
        after: ExtentId | None = ExtentId(0)
        while after is not None and count > 0:
            extents, after = await self._catalog.read(inline_extents, after)
            for extent in extents:
                self.taken += extent.length
                self._inline.append(extent)
                self._size += extent.length
                count -= extent.length
                await self._flush_full()
            await trio.lowlevel.checkpoint()

    async def flush(self) -> None:
        """Copy and swap what was taken. Raises: StoreFull, StoreReadOnly, DeviceError."""
        await self._step(more=False)

    async def _flush_full(self) -> None:
        if self._size >= REPACK_BYTES or len(self._runs) + len(self._inline) >= REPACK_RUNS:
            await self._step(more=True)

    async def _step(self, *, more: bool) -> None:
        """Copy what was taken, and make it safe, and swap it.

        While nobody else is there, and there is *more* to come, this waits: what was taken before is copied, the one
        before that is made safe and swapped meanwhile, and what lies elsewhere of this one is fetched.
        """
        due = [self._next] if self._next is not None else []
        self._next = None
        try:
            if self._runs or self._inline:
                due.append(self._batch())
                await self._reader.expect(due[-1].runs)
                if more and self._ahead():
                    self._next = due.pop()
            for batch in due:
                await self._carry(batch, wait=more or batch is not due[-1])
            if not more and (last := self._copied) is not None:
                await self._settle(last)
        except BaseException:
            self._drop()
            raise
        finally:
            for batch in due:
                if batch is not self._copied or not more:
                    batch.held.close()
        if not more:
            self._drop()

    def _batch(self) -> "_Batch":
        """What was taken."""
        batch = _Batch(joined(self._runs), self._inline)
        batch.held.enter_context(self._reader.keeping(frozenset(self._volumes)))
        batch.inline.sort(key=lambda extent: (extent.ino, extent.offset))
        self._runs, self._inline, self._size = [], [], 0
        self._volumes.clear()
        return batch

    async def _carry(self, batch: "_Batch", *, wait: bool) -> None:
        """Copy one, and meanwhile see to the one before. *wait*: it may wait for the next one in its turn."""
        began = trio.current_time()
        before, self._copied = self._copied, None
        try:
            if before is None:
                await self._copy(batch)
            else:
                await _both(partial(self._copy, batch), partial(self._settle, before))
            if wait and self._ahead():
                self._copied = batch
            else:
                await self._settle(batch)
        finally:
            for each in (before, batch):
                if each is not None and each is not self._copied:
                    each.held.close()
        if self._pace is not None:
            await self._pace(trio.current_time() - began, self.moved)

    def _drop(self) -> None:
        """What was copied and is not safe is not to be named."""
        for batch in (self._next, self._copied):
            if batch is not None:
                batch.held.close()
        self._next = self._copied = None

    async def _take(self, extent: Extent) -> None:
        assert extent.location is not None
        self.taken += extent.length
        at, left = extent.location, extent.length
        while left:
            count = min(left, REPACK_BYTES - self._size)
            if not any(each and lies_in(each.runs, at, count) for each in (self._next, self._copied)):  # of a copy
                self._runs.append((at, count))
                self._volumes.add(at.volume)
                self._size += count
            at, left = at.advanced(count), left - count
            await self._flush_full()

    async def _copy(self, batch: "_Batch") -> None:
        """Long runs in full stripes, and behind them short ones, of which none lies in two stripes."""
        payload = self._target.packed_payload
        runs = batch.runs
        if runs and (there := tuple(await self._target.has(runs))) and await self._swap_there(there):
            runs = without(runs, there)
        if not runs and not batch.inline:
            return
        batch.stream = stream = batch.held.enter_context(self._target.copying(freeing=self._freeing))
        await self._copy_runs(batch, [run for run in runs if run[1] > payload], partial(_write, stream))
        await stream.begin_stripes(payload)
        await self._copy_runs(batch, [run for run in runs if run[1] <= payload], partial(_write_whole, stream))
        for extent in batch.inline:
            assert extent.data is not None
            batch.packed.append((await _write_whole(stream, extent.data), extent))

    async def _copy_runs(self, batch: _Batch, runs: Sequence[Run], write: Callable[[Buffer], Awaitable[int]]) -> None:
        """*write* returns at which byte of the stream something begins."""
        for group in groups(pieces(runs), RECALL_TOGETHER):
            found = await self._together(group)
            for number, piece in enumerate(group):
                data = found[number] if found else await self._read(piece)
                if data is not None:
                    batch.moved.append((await write(data), piece))

    async def _settle(self, batch: "_Batch") -> None:
        """The copy is where it should be and stays there; then rows are swapped.

        Nothing is held for it behind that: an image waits for who is about to name something, and who comes then for
        the image.
        """
        if batch.stream is None:
            return
        stream, moved = batch.stream, batch.moved

        def plan(extents: Sequence[NewExtent]) -> tuple[MovedRun, ...]:
            return moved_runs(moved, extents)

        with batch.held:
            await stream.settle(plan)
            sources = {run[0].volume for _, run in moved}
            with self._target.inheriting(sources, volumes_of(stream.extents), self._sequence):
                await self._swap(moved_runs(moved, stream.extents))
            await self._swap_inline(packed_extents(batch.packed, stream.extents))

    async def _swap_there(self, there: tuple[MovedRun, ...]) -> bool:
        """These lie in the target already. False if a place was freed meanwhile, for nobody keeps it: all of them are
        to be copied then, and rows that were swapped are found no more."""
        sources, to = {run.source.volume for run in there}, {run.target.volume for run in there}
        with self._target.inheriting(sources, to, self._sequence, again=True):
            try:
                await self._swap(there, untold=True)
            except WriteConflict as error:
                _log.info("bytes_not_there_any_more", tier=self._target.tier, reason=str(error))
                return False
        return True

    def _sequence(self) -> int:
        return self._catalog.statistics().sequence

    async def _together(self, group: Sequence[Run]) -> Sequence[Buffer]:
        """Nothing where they are to be read one by one."""
        try:
            return await self._reader.together(group)
        except CatalogCorrupt:
            return ()

    async def _read(self, piece: Run) -> Buffer | None:
        """None if it cannot be read: it stays where it is."""
        try:
            return await self._reader.run(*piece)
        except (TooFewShards, CatalogCorrupt) as error:
            self.unreadable += piece[1]
            _log.error("bytes cannot be moved", volume=piece[0].volume.hex(), error=str(error))
            return None

    async def _swap_inline(self, packed: Sequence[PackedExtent]) -> None:
        for start in range(0, len(packed), SWAP_ROWS):
            chunk = tuple(packed[start : start + SWAP_ROWS])
            swapped = await self._catalog.write(swap_inline, chunk)
            self._target.inline.add(-swapped)
            self.moved += swapped
            await trio.lowlevel.checkpoint()

    async def _swap(self, runs: tuple[MovedRun, ...], *, untold: bool = False) -> None:
        place = Place() if runs else None
        while place is not None:
            first = await self._catalog.ids.extents(IDS_PER_SWAP)
            clean_ns = int(self._target.clean_s * 1e9)
            swapped = await self._catalog.write(
                swap_runs, runs, place, first, self._move, time.time_ns(), clean_ns, untold
            )
            self.moved += swapped.bytes
            place = swapped.resume
            await trio.lowlevel.checkpoint()


async def _both(*steps: Callable[[], Awaitable[None]]) -> None:
    """Side by side; each comes to its end. Raises: what the first of them raised that did."""
    failed: list[StratumError] = []

    async def one(step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except StratumError as error:
            failed.append(error)

    async with trio.open_nursery() as nursery:
        for step in steps:
            nursery.start_soon(one, step)
    if failed:
        raise failed[0]


async def _write(stream: CopyStream, data: Buffer) -> int:
    at = stream.taken
    await stream.write(data)
    return at


async def _write_whole(stream: CopyStream, data: Buffer) -> int:
    """Into one stripe, unless it is longer than those. Returns at which byte of the stream it begins."""
    await stream.make_room(len(data))
    at = stream.taken
    await stream.write(data)
    return at


async def foreign(catalog: Catalog, reader: Reader, ino: InodeNo, tier: str) -> AsyncGenerator[Extent, None]:
    """Extents of an inode that lie in volumes of other tiers than *tier*.

    Their volumes are kept until the next chunk is asked for: whoever takes an extent may be busy with it for long, and
    the file may be overwritten meanwhile.
    """
    at = 0
    kept: set[VolumeId] = set()
    with reader.keeping(kept):
        while chunk := await catalog.read(layout, ino, at, END):
            kept.clear()
            kept |= volumes_of(chunk)
            for extent in chunk:
                if extent.location is not None and (await reader.volume(extent.location.volume)).tier != tier:
                    yield extent
            at = chunk[-1].offset + chunk[-1].length
            await trio.lowlevel.checkpoint()
