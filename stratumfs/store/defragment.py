"""Keeps extent maps short: what was overwritten in small pieces is copied together once nobody writes it any more.

A file of many small extents costs its reader a look-up and a verified cell for each. Which files may be such is noted
as they are published, and found by a slow walk after a start. Extents that follow one another are read, written side by
side as by any stream, and their rows give way to few, a hundred in one guarded transaction: whoever writes there
meanwhile comes first, and a stop at any step leaves rows that are right by themselves.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
import trio

from stratumfs.catalog.defragment import are_shared, extents_from, join_extents, with_many_extents
from stratumfs.catalog.engine import Catalog
from stratumfs.errors import StratumError, TooFewShards
from stratumfs.ids import Buffer, InodeNo, VolumeId
from stratumfs.limits import (
    COMPACT_AGAIN_S,
    DEFRAGMENT_FILES_MAX,
    DEFRAGMENT_FREE,
    DEFRAGMENT_LOOK_S,
    DEFRAGMENT_QUIET_S,
    FRAGMENT_MAX,
    FRAGMENT_MEAN,
    FRAGMENTED_EXTENTS,
    FRAGMENTS_MIN,
    REPACK_BYTES,
    SWAP_ROWS,
)
from stratumfs.repair.work import Work
from stratumfs.store.observer import Foreground
from stratumfs.store.pace import Pace
from stratumfs.store.reader import Reader, volumes_of
from stratumfs.store.runs import located
from stratumfs.store.writer import Writer
from stratumfs.values import Extent, NewExtent

_log = structlog.get_logger(__name__)


class Fragmented:
    """Files that were published in many extents, until nobody has for a while. Pure: told the time, in seconds."""

    def __init__(self) -> None:
        self._files: dict[InodeNo, tuple[int, float]] = {}

    def note(self, ino: InodeNo, extents: int, now: float) -> None:
        """So many more. Of more than ``DEFRAGMENT_FILES_MAX`` files the one not written for longest is left out, and
        rather one that has got few."""
        count, _ = self._files.pop(ino, (0, 0.0))
        self._files[ino] = count + extents, now
        if len(self._files) > DEFRAGMENT_FILES_MAX:
            few = (each for each, (count, _) in self._files.items() if count < FRAGMENTED_EXTENTS)
            del self._files[next(few, next(iter(self._files)))]

    def due(self, now: float) -> list[InodeNo]:
        """Take those that nobody has published for ``DEFRAGMENT_QUIET_S``, and that have got many extents."""
        quiet = [ino for ino, (_, since) in self._files.items() if now - since >= DEFRAGMENT_QUIET_S]
        return [ino for ino in quiet if self._files.pop(ino)[0] >= FRAGMENTED_EXTENTS]


@dataclass(slots=True)
class Fragments:
    """Extents of one tier that follow one another."""

    tier: str
    extents: list[Extent]

    @property
    def size(self) -> int:
        return _size(self.extents)

    @property
    def stop(self) -> int:
        return self.extents[-1].offset + self.extents[-1].length


@dataclass(slots=True)
class _Batch:
    """What of one file is copied in one step."""

    runs: list[Fragments]
    volumes: set[VolumeId]
    size: int = 0


class Defragmenter:
    """One task in the store's nursery.

    writer  of the tier that takes new data, and what lies inline
    work    what is under way, for status
    """

    def __init__(
        self, catalog: Catalog, reader: Reader, writer: Writer, writers: dict[str, Writer], foreground: Foreground
    ) -> None:
        self.work: Work | None = None
        self._catalog, self._reader, self._foreground = catalog, reader, foreground
        self._writer, self._writers = writer, writers
        self._fragmented = Fragmented()

    def note(self, ino: InodeNo, extents: int) -> None:
        """A publication of a file brought so many extents. Never waits."""
        self._fragmented.note(ino, extents, trio.current_time())

    async def serve(self) -> None:
        """Until cancelled. An error is logged and tried again later."""
        recalled = False
        await trio.sleep(DEFRAGMENT_QUIET_S)
        while True:
            try:
                if not recalled:
                    await self._recall()
                    recalled = True
                for ino in self._fragmented.due(trio.current_time()):
                    await self._file_or_later(ino)
            except Exception as error:  # of one file: the store goes on
                unforeseen = None if isinstance(error, StratumError) else error
                _log.warning("defragmentation stopped, and goes on later", error=str(error), exc_info=unforeseen)
            finally:
                self.work = None
            await trio.sleep(DEFRAGMENT_LOOK_S)

    async def _file_or_later(self, ino: InodeNo) -> None:
        try:
            await self.file(ino)
        except StratumError as error:
            _log.warning("an extent map stays long for now", inode=ino, error=str(error))
            self._fragmented.note(ino, FRAGMENTED_EXTENTS, trio.current_time() + COMPACT_AGAIN_S)

    async def file(self, ino: InodeNo) -> int:
        """Join what of a file lies in small pieces. Returns how many rows it took away.

        Raises: CatalogCorrupt, StoreFull, StoreReadOnly, DeviceError.
        """
        if self._catalog.read_only:
            return 0
        work = self.work = Work("defragment", None, f"inode {ino}")

        def told(moved: int) -> None:
            work.done = work.total = moved

        pace, moved, joined, start = Pace(self._foreground, told), 0, 0, 0
        batch = _Batch([], set())
        with self._reader.keeping(batch.volumes):
            while extents := await self._catalog.read(extents_from, ino, start):
                began = trio.current_time()
                runs, start = fragments(extents, await self._tiers(extents), ended=len(extents) < SWAP_ROWS)
                for run in runs:
                    if self._is_worth_it(run) and not await self._catalog.read(are_shared, _some(run.extents)):
                        batch.runs.append(run)
                        batch.volumes |= volumes_of(run.extents)
                        batch.size += run.size
                if batch.size >= REPACK_BYTES:
                    moved += batch.size
                    joined += await self._join(ino, batch)
                await pace(trio.current_time() - began, moved)
            began, moved = trio.current_time(), moved + batch.size
            joined += await self._join(ino, batch)
            await pace(trio.current_time() - began, moved)
        if joined:
            _log.info("defragmented", inode=ino, extents=joined)
        return joined

    def _is_worth_it(self, run: "Fragments") -> bool:
        """Also: where room is scarce it is the users', and what lies elsewhere stays as it is."""
        if run.tier not in self._writers:
            return False
        space = self._writers[run.tier].space.now
        short = len(run.extents) >= FRAGMENTS_MIN and run.size <= FRAGMENT_MEAN * len(run.extents)
        return short and self._writers[run.tier].read_only is None and space.free >= space.total // DEFRAGMENT_FREE

    async def _tiers(self, extents: Sequence[Extent]) -> list[str]:
        """Where each lies; what is inline belongs to the tier that takes new data."""
        found = []
        for extent in extents:
            at = extent.location
            found.append(self._writer.volumes.tier if at is None else (await self._reader.volume(at.volume)).tier)
        return found

    async def _join(self, ino: InodeNo, batch: _Batch) -> int:
        """Copy and swap; then the batch is empty."""
        runs, batch.runs, batch.size = batch.runs, [], 0
        joined = 0
        for tier, writer in self._writers.items():
            mine, payload = [run for run in runs if run.tier == tier], writer.packed_payload
            joined += await self._copy(ino, writer, [run.extents for run in mine if run.size <= payload], payload)
            joined += await self._copy(ino, writer, [run.extents for run in mine if run.size > payload], None)
        batch.volumes.clear()
        return joined

    async def _copy(self, ino: InodeNo, writer: Writer, chunks: Sequence[Sequence[Extent]], payload: int | None) -> int:
        """payload: of small stripes, where what is short has room beside others. Returns how many rows went."""
        if not chunks:
            return 0
        copied: list[tuple[int, Sequence[Extent]]] = []
        joined = 0
        with writer.stream(payload=payload, copying=True) as stream:
            for chunk in chunks:
                data = await self._read(chunk)
                if data is None:
                    continue
                if writer is self._writer and writer.inline.allows(len(data)):
                    joined += await self._swap(ino, chunk, [NewExtent(chunk[0].offset, len(data), data=data)])
                    continue
                if payload is not None:
                    await stream.make_room(len(data))
                copied.append((stream.taken, chunk))
                await stream.write(data)
            await stream.finish()
            sources = set[VolumeId]().union(*(volumes_of(chunk) for _, chunk in copied))
            with writer.inheriting(sources, volumes_of(stream.extents), lambda: self._catalog.statistics().sequence):
                for at, chunk in copied:
                    places = located(at, _size(chunk), stream.extents)
                    new = [NewExtent(chunk[0].offset + start - at, length, place) for start, length, place in places]
                    joined += await self._swap(ino, chunk, new)
        return joined

    async def _read(self, chunk: Sequence[Extent]) -> bytes | None:
        """None if it cannot be read: it stays where it is."""
        parts: list[Buffer] = []
        for extent in chunk:
            try:
                parts.append(await self._reader.extent(extent))
            except TooFewShards:
                return None
        return b"".join(parts)

    async def _swap(self, ino: InodeNo, seen: Sequence[Extent], joined: Sequence[NewExtent]) -> int:
        first = await self._catalog.ids.extents(len(joined))
        if not await self._catalog.write(join_extents, ino, tuple(seen), tuple(joined), first):
            # Whoever was there first, the packer often, left them as short, and tells nobody.
            self._fragmented.note(ino, FRAGMENTED_EXTENTS, trio.current_time())
            return 0
        inline = sum(len(each.data or b"") for each in joined) - sum(len(each.data or b"") for each in seen)
        self._writer.inline.add(inline)
        await trio.lowlevel.checkpoint()
        return len(seen) - len(joined)

    async def _recall(self) -> None:
        """Files that were left as they are by an earlier owner."""
        after: InodeNo | None = InodeNo(0)
        while after is not None:
            began = time.perf_counter()
            found, after = await self._catalog.read(with_many_extents, after)
            for ino, count in found:
                self.note(ino, count)
            await trio.sleep(20 * (time.perf_counter() - began))


def fragments(extents: Sequence[Extent], tiers: Sequence[str], *, ended: bool) -> tuple[list[Fragments], int]:
    """Runs of short extents of one tier that follow one another, out of a chunk of a file's extents, and from where on
    the next chunk is to be read: a run at its end may go on there, unless the file has *ended*."""
    found: list[Fragments] = []
    for extent, tier in zip(extents, tiers, strict=True):
        if extent.length > FRAGMENT_MAX:
            continue
        last = found[-1] if found else None
        if last is None or last.tier != tier or last.stop != extent.offset:
            found.append(Fragments(tier, [extent]))
        else:
            last.extents.append(extent)
    last_extent = extents[-1]
    if found and not ended and found[-1].extents[-1] is last_extent and found[-1].extents[0] is not extents[0]:
        return found[:-1], found[-1].extents[0].offset
    return found, last_extent.offset + last_extent.length


def _some(extents: Sequence[Extent]) -> tuple[Extent, ...]:
    """A copy shares long stretches of its source: some of them tell."""
    return extents[0], extents[len(extents) // 2], extents[-1]


def _size(chunk: Sequence[Extent]) -> int:
    return sum(extent.length for extent in chunk)


assert FRAGMENTS_MIN <= SWAP_ROWS
