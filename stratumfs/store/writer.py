"""Bytes into stripes: the one way in which anything reaches the volumes.

The write order: stripes are appended to the shards of open volumes; all shards are synced; one transaction makes the
object visible; its round is synced; the door answers. ``finish`` ends after the second step, and nobody names a stripe
in a row before.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol, Self

import trio

from stratumfs.errors import StoreClosing, StoreFull, StoreReadOnly
from stratumfs.ids import Buffer, VolumeId
from stratumfs.limits import (
    PACKED_CELL,
    STRIPE_PAYLOAD_MAX,
    STRIPES_IN_FLIGHT,
    SYNC_AHEAD_BYTES,
    SYNC_CROWDED_BYTES,
    UNSYNCED_BYTES_MAX,
    UNSYNCED_TOTAL_MAX,
)
from stratumfs.room import room
from stratumfs.store.digest import StreamDigest
from stratumfs.store.fleet import Fleet
from stratumfs.store.heirs import Heirs
from stratumfs.store.inline import InlineBytes
from stratumfs.store.runs import Run
from stratumfs.store.space import Space
from stratumfs.store.target import Plan
from stratumfs.values import MovedRun, NewExtent, Written
from stratumfs.volumes.pending import PendingStripe
from stratumfs.volumes.threads import LendingThreads
from stratumfs.volumes.writer import VolumeWriter

__all__ = ["ByteSource", "Gathered", "PendingStripe", "StripeHolder", "StripeStream", "Writer", "merged"]


class ByteSource(Protocol):
    """Where the bytes of a stream come from."""

    async def read_into(self, view: memoryview) -> int:
        """Put the next bytes into *view*, at least one; how many, 0 at the end. The memory stays the source's to read
        until then."""
        ...


class StripeHolder(Protocol):
    """Somebody who has stripes that no row names yet."""

    @property
    def volumes(self) -> Set[VolumeId]:
        """Where they lie."""
        ...


@dataclass(frozen=True, slots=True)
class Gathered:
    """Bytes of a file that lie in a stripe with others, *skip* bytes behind its first."""

    offset: int
    length: int
    stripe: PendingStripe
    skip: int

    @property
    def extent(self) -> NewExtent:
        """Once the stripe is synced."""
        return NewExtent(self.offset, self.length, self.stripe.at.advanced(self.skip))


class Writer:
    """What all writers of a store share: the tier's volumes, threads, space, and whether writing is possible at all.

    Owned by the store, used on the loop. ``unsynced_bytes`` is the payload that all streams keep until it is synced.
    """

    def __init__(
        self,
        volumes: VolumeWriter,
        space: Space,
        fleet: Fleet,
        nursery: trio.Nursery,
        heirs: Heirs,
    ) -> None:
        self.volumes = volumes
        self.space = space
        self.nursery = nursery
        self.inline = InlineBytes()
        self.clean_s = 0.0
        self._heirs = heirs
        volumes.ended = heirs.ended
        self.unsynced_bytes = 0
        self._fleet = fleet
        self._refused: str | None = None
        self._holders: set[StripeHolder] = set()
        self._hashing = LendingThreads(2)
        self.stripe_payload = STRIPE_PAYLOAD_MAX
        self.packed_payload = min(STRIPE_PAYLOAD_MAX, volumes.code.k * PACKED_CELL)

    @property
    def tier(self) -> str:
        return self.volumes.tier

    @property
    def read_only(self) -> str | None:
        """Why nothing is written: for good, or as long as too few devices are up."""
        return self._refused or self._fleet.refusal(self.volumes.tier)

    def refuse(self, reason: str) -> None:
        """Write nothing from now on. The first reason stays."""
        self._refused = self._refused or reason

    def check_writable(self) -> None:
        """Raises: StoreReadOnly."""
        if (reason := self.read_only) is not None:
            raise StoreReadOnly(reason)

    def reserve(self, count: int, *, freeing: bool = False) -> None:
        """Make sure before *count* bytes are taken that they fit; *freeing*: by a repack that frees more.

        Raises: StoreFull, StoreReadOnly.
        """
        self.check_writable()
        self.space.check(count, freeing=freeing)

    def admit(self, count: int) -> None:
        """Before the first of *count* bytes is taken: they fit as it is now. Takes nothing.

        Who sends a gibibyte should not hear of it at the last stripe. Raises: StoreFull, StoreReadOnly.
        """
        self.reserve(0)
        free = self.space.now.free
        if count > free:
            raise StoreFull(f"{count} bytes do not fit into the {free} that are left for new data")

    def digest(self) -> StreamDigest:
        return StreamDigest(self.nursery, self._hashing)

    async def append(self, stripe: PendingStripe, after: PendingStripe | None = None) -> None:
        """Write one stripe. Not safe before ``sync``, and it may move until then.

        Its volume is spared as long as a holder of the stripe that was given to `keep` has it.
        """
        self.check_writable()
        await self.volumes.append(stripe, after)

    async def sync(self, stripes: Iterable[PendingStripe]) -> None:
        """Every shard has these stripes on stable storage; where that went wrong they were written again elsewhere."""
        await self.volumes.sync(stripes)

    def holds(self, stripe: PendingStripe) -> bool:
        """Whether it lies here, and a sync is to come yet."""
        return not (stripe.synced or stripe.lost) and self.volumes.is_open(stripe.at.volume)

    def keep(self, holder: StripeHolder) -> None:
        """Spare the volumes of *holder*, however long, until `let_go`."""
        self._holders.add(holder)

    def let_go(self, holder: StripeHolder) -> None:
        """What it had is named, or nobody will name it."""
        self._holders.discard(holder)

    def unnamed(self) -> frozenset[VolumeId]:
        """Volumes that may hold bytes which no row names yet: they are not freed, however empty they look."""
        return frozenset[VolumeId]().union(*(holder.volumes for holder in self._holders))

    def stream(self, *, payload: int | None = None, copying: bool = False, freeing: bool = False) -> "StripeStream":
        """A body of any length, as a context; what it wrote is spared until that ends, for it may take hours.

        payload: bytes of a stripe, if not as many as there can be.
        copying: of bytes that the store has already. They are not hashed (the digest is that of nothing), and never
        become inline.
        freeing: as of ``reserve``.
        """
        return StripeStream(self, payload or self.stripe_payload, copying, freeing)

    def copying(self, *, freeing: bool = False) -> "StripeStream":
        """See `RepackTarget`."""
        return self.stream(copying=True, freeing=freeing)

    def inheriting(
        self,
        sources: Collection[VolumeId],
        to: Collection[VolumeId],
        sequence: Callable[[], int],
        *,
        again: bool = False,
    ) -> AbstractContextManager[None]:
        """See `RepackTarget`."""
        return self._heirs.moving(sources, to, self.volumes.untold, sequence)

    async def has(self, runs: Sequence[Run]) -> Sequence[MovedRun]:
        """See `RepackTarget`."""
        return ()

    async def gather(self, segments: Sequence[tuple[int, Buffer]], held: list[PendingStripe]) -> list[Gathered]:
        """Many short segments, (offset, bytes) each, packed side by side into as few stripes as they need.

        The last stripes are not synced yet. What is gathered comes in the order of the segments.
        held: of a holder, which has each stripe from before it is appended.
        """
        gathered: list[Gathered] = []
        unsynced: list[PendingStripe] = []
        for batch in _batches(segments, self.stripe_payload):
            if len(unsynced) * self.stripe_payload >= UNSYNCED_BYTES_MAX:
                await self.sync(unsynced)
                unsynced.clear()
            stripe = PendingStripe(b"".join(data for _, data in batch))
            held.append(stripe)
            await self.append(stripe)
            unsynced.append(stripe)
            skip = 0
            for offset, data in batch:
                gathered.append(Gathered(offset, len(data), stripe, skip))
                skip += len(data)
        return gathered


class StripeStream(AbstractContextManager["StripeStream"]):
    """A body from its first byte to its last, cut into stripes that are coded while the next bytes come in.

    Used by one task. Memory: ``STRIPES_IN_FLIGHT`` stripes, the one that fills, and up to ``UNSYNCED_BYTES_MAX`` that
    are not synced yet. Stopping before ``finish`` leaves bytes that no row points at.
    """

    def __init__(self, writer: Writer, payload: int, copying: bool, freeing: bool) -> None:
        self.size = 0
        self.extents: list[NewExtent] = []
        self._writer, self._payload, self._copying, self._freeing = writer, payload, copying, freeing
        self._digest = writer.digest()
        self._filling: bytearray | memoryview = bytearray()
        self._offset = 0  # of the first byte of `_filling`
        self._slots: trio.Semaphore | None = None  # of most objects there is nothing to send
        self._running = 0
        self._quiet: trio.Event | None = None
        self._last: PendingStripe | None = None
        self._stripes: dict[int, PendingStripe] = {}
        self._unsynced: list[PendingStripe] = []
        self._unsynced_bytes = 0
        self._appended: set[PendingStripe] = set()  # of these, what no sync has been begun for
        self._syncing = False
        self._error: BaseException | None = None
        self._left = False

    def __enter__(self) -> Self:
        self._writer.keep(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.let_go(self)
        self.let_go()
        self._left = True
        self._drop()

    @property
    def taken(self) -> int:
        """Bytes so far."""
        return self._offset + len(self._filling)

    @property
    def volumes(self) -> frozenset[VolumeId]:
        """Those that hold bytes of it."""
        return frozenset(stripe.location.volume for stripe in self._stripes.values() if stripe.location is not None)

    async def write(self, data: Buffer) -> None:
        """Take more bytes; the buffer is the caller's again on return, but for one that is copied and read-only.

        Raises: what an earlier stripe met.
        """
        view = memoryview(data)
        while view:
            self._check()
            filling = self._filling
            assert isinstance(filling, bytearray), "a stream is filled by one source, or written"
            count = min(self._payload - len(filling), len(view))
            self._writer.reserve(count, freeing=self._freeing)
            if self._copying and count == self._payload and view.readonly:  # verified bytes, which nobody changes
                self._filling = view[:count]
            else:
                filling += view[:count]
            view = view[count:]
            if len(self._filling) == self._payload:
                await self._send()

    async def make_room(self, count: int) -> None:
        """Up to a stripe's bytes that are written next come to lie in one stripe. Raises: as ``write``."""
        if self._filling and len(self._filling) + count > self._payload:
            self._check()
            await self._send()

    async def begin_stripes(self, payload: int) -> None:
        """What is written from here on lies in stripes of up to so many bytes. Raises: as ``write``."""
        if self._filling:
            self._check()
            await self._send()
        self._payload = payload

    async def settle(self, plan: Plan) -> None:
        """See `CopyStream`. Raises: as ``finish``."""
        await self.finish()

    async def fill(self, source: ByteSource, length: int) -> None:
        """Take all of *source*, which has up to *length* bytes, and puts them where they are coded from.

        In place of ``write``. Raises: what *source* raises, and what an earlier stripe met.
        """
        while True:
            # One byte more than there should be: with no room left it could not be seen that the source has ended.
            free = room(min(self._payload, length - self._offset + 1))
            used = 0
            while used < len(free) and (count := await source.read_into(free[used:])):
                self._check()
                self._writer.reserve(count)
                used += count
            self._filling = free[:used]
            if used < len(free):
                return
            assert used == self._payload, "a source has more bytes than it said"
            await self._send()

    async def finish(self) -> Written:
        """All bytes are hashed and on stable storage, or inline in ``extents``."""
        if self._offset == 0 and not self._copying and self._writer.inline.allows(len(self._filling)):
            self._check()
            self._writer.check_writable()
            data = bytes(self._filling)
            self._digest.update(data)
            self.size = len(data)
            self.extents = [NewExtent(0, len(data), data=data)] if data else []
            return Written(self.size, await self._digest.digest())
        if self._filling:
            await self._send()
        await self._sync()
        self.size = self._offset
        self.extents = merged(NewExtent(at, each.length, each.at) for at, each in sorted(self._stripes.items()))
        if sum(extent.length for extent in self.extents) != self.size:
            raise StoreClosing("the store closes: some of these bytes were not written")
        return Written(self.size, await self._digest.digest())

    def let_go(self) -> None:
        """Nobody syncs what is not synced by now: its memory counts no more."""
        self._count_synced(self._unsynced_bytes)

    def _drop(self) -> None:
        """An error that it has raised holds it by the traceback: all bytes would stay until the collector of cycles
        comes by."""
        self._stripes.clear()
        self._unsynced.clear()
        self._appended.clear()
        self._filling, self._last, self._error = bytearray(), None, None

    async def _send(self) -> None:
        payload, self._filling = self._filling, bytearray()
        offset, self._offset = self._offset, self._offset + len(payload)
        slots = self._slots = self._slots or trio.Semaphore(STRIPES_IN_FLIGHT)
        await slots.acquire()
        hashed = None if self._copying else self._digest.update(payload)
        self._running += 1
        placed = trio.Event()
        self._writer.nursery.start_soon(self._append, offset, payload, slots, placed, hashed)
        await placed.wait()  # the next one may lie behind it
        self._unsynced_bytes += len(payload)
        self._writer.unsynced_bytes += len(payload)
        if self._unsynced_bytes >= UNSYNCED_BYTES_MAX or self._writer.unsynced_bytes >= UNSYNCED_TOTAL_MAX:
            await self._sync()

    async def _append(
        self, offset: int, payload: Buffer, slots: trio.Semaphore, placed: trio.Event, hashed: trio.Event | None
    ) -> None:
        stripe, before = PendingStripe(payload, lambda _: placed.set()), self._last
        self._stripes[offset] = self._last = stripe
        self._unsynced.append(stripe)
        try:
            self._check()
            self._writer.check_writable()
            await self._writer.volumes.append(stripe, before)
            self._appended.add(stripe)
            self._sync_beside()
            if hashed is not None:
                await hashed.wait()
        except Exception as error:  # whoever finishes the stream raises it
            self._error = self._error or error
        finally:
            placed.set()
            slots.release()
            self._ended()

    def _ended(self) -> None:
        self._running -= 1
        if not self._running and self._quiet is not None:
            self._quiet.set()
        if self._left:
            self._drop()

    def _sync_beside(self) -> None:
        """Devices write while more comes in, so that the last sync has little left to wait for."""
        crowded = self._writer.unsynced_bytes * 2 >= UNSYNCED_TOTAL_MAX
        due = SYNC_CROWDED_BYTES if crowded else SYNC_AHEAD_BYTES
        if self._syncing or len(self._appended) * self._payload < due:
            return
        # Without gaps, in the order of the stream: what must be written again is one run again.
        stripes = list(takewhile(self._appended.__contains__, self._unsynced))
        if stripes:
            self._appended.difference_update(stripes)
            self._syncing = True
            self._running += 1
            self._writer.nursery.start_soon(self._sync_appended, stripes)

    async def _sync_appended(self, stripes: Sequence[PendingStripe]) -> None:
        try:
            await self._writer.sync(stripes)
        except Exception as error:  # whoever finishes the stream raises it
            self._error = self._error or error
        else:
            # Those that another's sync has covered keep their payload until they are in one of ours.
            self._unsynced = [stripe for stripe in self._unsynced if stripe.payload is not None]
            # What was let go of meanwhile counts no more.
            self._count_synced(min(self._unsynced_bytes, sum(stripe.length for stripe in stripes)))
        finally:
            self._syncing = False
            self._ended()

    async def _sync(self) -> None:
        while self._running:
            self._quiet = trio.Event()
            await self._quiet.wait()
        self._check()
        await self._writer.sync(self._unsynced)
        self._unsynced.clear()
        self._appended.clear()
        self.let_go()

    def _count_synced(self, count: int) -> None:
        self._unsynced_bytes -= count
        self._writer.unsynced_bytes -= count

    def _check(self) -> None:
        if self._error is not None:
            raise self._error


def merged(extents: Iterable[NewExtent]) -> list[NewExtent]:
    """Neighbours that lie behind one another in one volume become one extent."""
    found: list[NewExtent] = []
    for extent in extents:
        last = found[-1] if found else None
        if last is not None and last.continued_by(extent):
            found[-1] = NewExtent(last.offset, last.length + extent.length, last.location)
        else:
            found.append(extent)
    return found


def _batches(segments: Sequence[tuple[int, Buffer]], most: int) -> Iterator[list[tuple[int, memoryview]]]:
    """Segments, those over *most* bytes cut up, together up to *most* bytes each time."""
    batch: list[tuple[int, memoryview]] = []
    size = 0
    for offset, data in segments:
        view = memoryview(data)
        for start in range(0, len(view), most):
            piece = view[start : start + most]
            if size + len(piece) > most:
                yield batch
                batch, size = [], 0
            batch.append((offset + start, piece))
            size += len(piece)
    if batch:
        yield batch
