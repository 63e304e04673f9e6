"""Bytes into stripes: the one way in which anything reaches the volumes.

The write order: stripes are appended to the shards of open volumes; all shards are synced; one transaction makes the
object visible; its round is synced; the door answers. ``finish`` ends after the second step, and nobody names a stripe
in a row before.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import trio

from stratumfs.errors import StoreClosing, StoreReadOnly
from stratumfs.ids import Buffer, VolumeId
from stratumfs.limits import (
    INLINE_BYTES_MAX,
    INLINE_MAX,
    STRIPE_PAYLOAD_MAX,
    STRIPE_UNNAMED_S,
    STRIPES_IN_FLIGHT,
    UNSYNCED_BYTES_MAX,
)
from stratumfs.location import Location
from stratumfs.store.digest import StreamDigest
from stratumfs.store.space import Space
from stratumfs.values import NewExtent, Written
from stratumfs.volumes.writer import VolumeWriter


class Writer:
    """What all writers of a store share: the tier's volumes, threads, space, and whether writing is possible at all.

    Owned by the store, used on the loop. ``read_only`` is the reason why nothing is written any more.
    """

    def __init__(
        self, volumes: VolumeWriter, space: Space, nursery: trio.Nursery, inline_bytes_max: int = INLINE_BYTES_MAX
    ) -> None:
        self.volumes = volumes
        self.space = space
        self.nursery = nursery
        self.read_only: str | None = None
        self.inline_bytes = 0
        self._appended: dict[VolumeId, float] = {}
        self._streams: dict[StripeStream, set[VolumeId]] = {}
        self._inline_bytes_max = inline_bytes_max
        self._hashing = trio.CapacityLimiter(2)
        self.stripe_payload = STRIPE_PAYLOAD_MAX

    def check_writable(self) -> None:
        """Raises: StoreReadOnly."""
        if self.read_only is not None:
            raise StoreReadOnly(self.read_only)

    def reserve(self, count: int) -> None:
        """Make sure before *count* bytes are taken that they fit. Raises: StoreFull, StoreReadOnly."""
        self.check_writable()
        self.space.check(count)

    def inline_allowed(self, length: int) -> bool:
        """Whether a run this long becomes an inline extent rather than a stripe."""
        return length <= INLINE_MAX and self.inline_bytes + length <= self._inline_bytes_max

    def digest(self) -> StreamDigest:
        return StreamDigest(self.nursery, self._hashing)

    async def stripe(self, payload: Buffer, after: Location | None = None) -> Location:
        """Append one stripe. Not safe before ``sync``; *payload* stays alive and unchanged until then.

        Its volume is spared for ``STRIPE_UNNAMED_S``, in which a row has to name the stripe.
        """
        self.check_writable()
        at = await self.volumes.append(payload, after)
        self._appended[at.volume] = trio.current_time()
        return at

    def spare(self, volumes: Iterable[VolumeId]) -> None:
        """Somebody still has stripes in these that he will name: they are spared for another ``STRIPE_UNNAMED_S``."""
        now = trio.current_time()
        self._appended.update((volume, now) for volume in volumes)

    def unnamed(self) -> frozenset[VolumeId]:
        """Volumes that may hold bytes which no row names yet: they are not freed, however empty they look."""
        oldest = trio.current_time() - STRIPE_UNNAMED_S
        self._appended = {volume: when for volume, when in self._appended.items() if when >= oldest}
        return frozenset(self._appended).union(*self._streams.values())

    @contextmanager
    def stream(self) -> Iterator["StripeStream"]:
        """A body of any length; what it wrote is spared until the context ends, for it may take hours."""
        stream = StripeStream(self)
        self._streams[stream] = stream.volumes
        try:
            yield stream
        finally:
            del self._streams[stream]

    async def sync(self, locations: Iterable[Location]) -> None:
        """Every shard has the stripes of these locations on stable storage."""
        await self.volumes.sync({location.volume for location in locations})

    async def gather(self, segments: Sequence[tuple[int, Buffer]]) -> list[NewExtent]:
        """Many short segments, (offset, bytes) each, packed side by side into as few stripes as they need.

        The stripes are not synced yet. Extents come in the order of the segments.
        """
        extents: list[NewExtent] = []
        batch: list[tuple[int, Buffer]] = []
        size = 0
        for offset, data in _pieces(segments, self.stripe_payload):
            if size + len(data) > self.stripe_payload:
                extents += await self._gather_stripe(batch)
                batch, size = [], 0
            batch.append((offset, data))
            size += len(data)
        return extents + await self._gather_stripe(batch) if batch else extents

    async def _gather_stripe(self, batch: list[tuple[int, Buffer]]) -> list[NewExtent]:
        at = await self.stripe(b"".join(data for _, data in batch))
        extents = []
        skip = 0
        for offset, data in batch:
            extents.append(NewExtent(offset, len(data), at.advanced(skip)))
            skip += len(data)
        return extents


class StripeStream:
    """A body from its first byte to its last, cut into stripes that are coded while the next bytes come in.

    Used by one task. Memory: ``STRIPES_IN_FLIGHT`` stripes and the one that fills. Stopping before ``finish`` leaves
    bytes that no row points at.
    """

    def __init__(self, writer: Writer) -> None:
        self.size = 0
        self.extents: list[NewExtent] = []
        self.volumes: set[VolumeId] = set()
        self._writer = writer
        self._digest = writer.digest()
        self._filling = bytearray()
        self._offset = 0  # of the first byte of `_filling`
        self._slots = trio.Semaphore(STRIPES_IN_FLIGHT)
        self._running = 0
        self._quiet = trio.Event()
        self._last: Location | None = None
        self._locations: dict[int, tuple[int, Location]] = {}
        self._unsynced = 0
        self._error: BaseException | None = None

    async def write(self, data: Buffer) -> None:
        """Take more bytes; the buffer is the caller's again on return. Raises: what an earlier stripe met."""
        view = memoryview(data)
        full = self._writer.stripe_payload
        while view:
            self._check()
            count = min(full - len(self._filling), len(view))
            self._writer.reserve(count)
            self._filling += view[:count]
            view = view[count:]
            if len(self._filling) == full:
                await self._send()

    async def finish(self) -> Written:
        """All bytes are hashed and on stable storage, or inline in ``extents``."""
        if self._offset == 0 and self._writer.inline_allowed(len(self._filling)):
            self._check()
            self._writer.check_writable()
            data = bytes(self._filling)
            self._digest.update(data)
            self.size = len(data)
            self.extents = [NewExtent(0, len(data), data=data)] if data else []
            return Written(self.size, await self._digest.digest())
        if self._filling:
            await self._send()
        await self._drained()
        self.size = self._offset
        if sum(length for length, _ in self._locations.values()) != self.size:
            raise StoreClosing("the store closes: some of these bytes were not written")
        self.extents = merged(NewExtent(offset, length, at) for offset, (length, at) in sorted(self._locations.items()))
        await self._writer.sync(extent.location for extent in self.extents if extent.location is not None)
        return Written(self.size, await self._digest.digest())

    async def _send(self) -> None:
        payload, self._filling = self._filling, bytearray()
        offset, self._offset = self._offset, self._offset + len(payload)
        await self._slots.acquire()
        hashed = self._digest.update(payload)
        self._running += 1
        placed = trio.Event()
        self._writer.nursery.start_soon(self._append, offset, payload, placed, hashed)
        await placed.wait()  # the next one may lie behind it
        self._unsynced += len(payload)
        if self._unsynced >= UNSYNCED_BYTES_MAX:
            await self._drained()
            await self._writer.sync(at for _, at in self._locations.values())
            self._unsynced = 0

    async def _append(self, offset: int, payload: bytearray, placed: trio.Event, hashed: trio.Event | None) -> None:
        def place(location: Location) -> None:
            self._last = location
            self.volumes.add(location.volume)
            placed.set()

        try:
            self._check()
            self._writer.check_writable()
            location = await self._writer.volumes.append(payload, self._last, place)
            self._locations[offset] = len(payload), location
            if hashed is not None:
                await hashed.wait()
        except Exception as error:  # whoever finishes the stream raises it
            self._error = self._error or error
        finally:
            placed.set()
            self._slots.release()
            self._running -= 1
            if not self._running:
                self._quiet.set()
                self._quiet = trio.Event()

    async def _drained(self) -> None:
        while self._running:
            await self._quiet.wait()
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error


def merged(extents: Iterable[NewExtent]) -> list[NewExtent]:
    """Neighbours that lie behind one another in one volume become one extent."""
    found: list[NewExtent] = []
    for extent in extents:
        last = found[-1] if found else None
        if (
            last is not None
            and last.location is not None
            and extent.location is not None
            and last.offset + last.length == extent.offset
            and last.location.continues(last.length, extent.location)
        ):
            found[-1] = NewExtent(last.offset, last.length + extent.length, last.location)
        else:
            found.append(extent)
    return found


def _pieces(segments: Sequence[tuple[int, Buffer]], most: int) -> Iterator[tuple[int, memoryview]]:
    """Segments, those over *most* bytes cut up."""
    for offset, data in segments:
        view = memoryview(data)
        for start in range(0, len(view), most):
            yield offset + start, view[start : start + most]
