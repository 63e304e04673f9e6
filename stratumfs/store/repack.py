"""The one mover: bytes that extents point at are read, verified, written to another place, and the extents swapped.

The write order is that of all writers: stripes are appended, all shards are synced, and then rows name them. Each
transaction swaps up to 200 extents and leaves a state that is right by itself, so that a move can stop at any step and
be begun again: what was swapped is where it should be, what was not is found again. The bytes that were left stay until
nobody reads them, and go as those of every volume do that nothing points at (``store.maintenance``).
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager

import structlog
import trio

from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.extents import END, layout
from stratumfs.catalog.swap import IDS_PER_SWAP, Place, swap_runs
from stratumfs.catalog.volumes import extents_in
from stratumfs.errors import TooFewShards
from stratumfs.ids import InodeNo, VolumeId
from stratumfs.limits import REPACK_BYTES, REPACK_RUNS, STRIPE_PAYLOAD_MAX
from stratumfs.location import Location
from stratumfs.store.reader import Reader, volumes_of
from stratumfs.store.writer import StripeStream, Writer
from stratumfs.values import Extent, MovedRun, NewExtent

_log = structlog.get_logger(__name__)

Run = tuple[Location, int]
"""Bytes of one volume: where they begin, how many."""
Pace = Callable[[float, int], Awaitable[None]]


class Repack:
    """Moves extents to the tier of *target*, a batch of up to ``REPACK_BYTES`` at a time. Used by one task.

    Extents of other inodes that share the bytes go along: shared bytes are moved once and stay shared. Inline extents
    lie in the catalog, which is no tier: they stay.

    move        the catalog's row that the move is recorded under, if it has one
    pace        awaited behind each batch with the seconds that it took and the bytes moved so far
    moved       bytes that extents point at in the new place
    unreadable  bytes that could not be read, and stay where they are
    """

    def __init__(
        self, catalog: Catalog, reader: Reader, target: Writer, *, move: bytes | None = None, pace: Pace | None = None
    ) -> None:
        self.moved = self.unreadable = 0
        self._catalog, self._reader, self._target, self._move, self._pace = catalog, reader, target, move, pace
        self._batch: list[Run] = []
        self._size = 0
        self._volumes: set[VolumeId] = set()

    @contextmanager
    def running(self) -> Iterator["Repack"]:
        """What is to be read stays there until the context ends. Call ``flush`` before that."""
        with self._reader.keeping(self._volumes):
            yield self

    async def inode(self, ino: InodeNo) -> None:
        """Take what of an inode lies in other tiers.

        Raises: as ``flush``; CatalogCorrupt if a row of it fails its check.
        """
        async with aclosing(foreign(self._catalog, self._reader, ino, self._target.volumes.tier)) as extents:
            async for extent in extents:
                await self._take(extent)

    async def volume(self, ident: VolumeId) -> None:
        """Take all that lies in a sealed volume. Raises: as ``inode``."""
        after = (-1, -1)
        with self._reader.keeping({ident}):
            while chunk := await self._catalog.read(extents_in, ident, after):
                for extent in chunk:
                    assert extent.location is not None
                    after = extent.location.position, extent.id
                    await self._take(extent)
                await trio.lowlevel.checkpoint()

    async def flush(self) -> None:
        """Copy and swap what was taken. Raises: StoreFull, StoreReadOnly, DeviceError."""
        batch, self._batch, self._size = self._batch, [], 0
        if not batch:
            return
        began = trio.current_time()
        with self._target.stream(copying=True) as stream:
            copied = await self._copy(joined(batch), stream)
            await stream.finish()
            await self._swap(moved_runs(copied, stream.extents))
        self._volumes.clear()
        if self._pace is not None:
            await self._pace(trio.current_time() - began, self.moved)

    async def _take(self, extent: Extent) -> None:
        assert extent.location is not None
        at, left = extent.location, extent.length
        while left:
            count = min(left, REPACK_BYTES - self._size)
            self._batch.append((at, count))
            self._volumes.add(at.volume)
            self._size += count
            at, left = at.advanced(count), left - count
            if self._size == REPACK_BYTES or len(self._batch) == REPACK_RUNS:
                await self.flush()

    async def _copy(self, runs: Iterable[Run], stream: StripeStream) -> list[tuple[int, Run]]:
        """Returns what was copied, with the offset in the stream at which it begins."""
        copied: list[tuple[int, Run]] = []
        offset = 0
        for at, length in runs:
            for piece in _pieces(at, length):
                try:
                    data = await self._reader.run(*piece)
                except TooFewShards as error:
                    self.unreadable += piece[1]
                    _log.error("bytes cannot be moved", volume=at.volume.hex(), error=str(error))
                    continue
                await stream.write(data)
                copied.append((offset, piece))
                offset += piece[1]
        return copied

    async def _swap(self, runs: tuple[MovedRun, ...]) -> None:
        place = Place() if runs else None
        while place is not None:
            first = await self._catalog.ids.extents(IDS_PER_SWAP)
            swapped = await self._catalog.write(swap_runs, runs, place, first, self._move, time.time_ns())
            self.moved += swapped.bytes
            place = swapped.resume
            await trio.lowlevel.checkpoint()


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


def joined(batch: Iterable[Run]) -> list[Run]:
    """Runs in the order in which they lie, none twice: neighbours and what overlaps become one."""
    found: list[Run] = []
    for at, length in sorted(batch, key=lambda run: (run[0].volume, run[0].stripe, run[0].skip)):
        if found:
            last, size = found[-1]
            gap = _distance(last, at)
            if last.volume == at.volume and 0 <= gap <= size and last.advanced(gap) == at:
                found[-1] = last, max(size, gap + length)
                continue
        found.append((at, length))
    return found


def moved_runs(copied: Iterable[tuple[int, Run]], written: Iterable[NewExtent]) -> tuple[MovedRun, ...]:
    """Which bytes lie where now: pieces of the stream beside the runs that it was written in."""
    found: list[MovedRun] = []
    targets = iter(written)
    target = next(targets, None)
    for start, (source, length) in copied:
        offset, end = start, start + length
        while offset < end:
            assert target is not None, "the stream has all that was given to it"
            if offset >= target.offset + target.length:
                target = next(targets, None)
                continue
            assert target.location is not None
            count = min(end, target.offset + target.length) - offset
            run = MovedRun(source.advanced(offset - start), count, target.location.advanced(offset - target.offset))
            if found and _continues(found[-1], run):
                found[-1] = MovedRun(found[-1].source, found[-1].length + count, found[-1].target)
            else:
                found.append(run)
            offset += count
    return tuple(found)


def _continues(last: MovedRun, run: MovedRun) -> bool:
    return last.source.advanced(last.length) == run.source and last.target.advanced(last.length) == run.target


def _distance(first: Location, second: Location) -> int:
    """Bytes from one place to another, if both are of one run."""
    return (second.stripe - first.stripe) * STRIPE_PAYLOAD_MAX + second.skip - first.skip


def _pieces(at: Location, length: int) -> Iterator[Run]:
    """A run, cut where stripes end."""
    while length:
        count = min(length, STRIPE_PAYLOAD_MAX - at.skip)
        yield at, count
        at, length = at.advanced(count), length - count
