"""Pending writes of one inode: every handle of the mount sees them at once, the rest of the world when published."""

import time
from collections.abc import Callable, Iterable, Sequence

import trio

from stratumfs.errors import StratumError
from stratumfs.fuse.background import Starter
from stratumfs.fuse.digest import WholeDigest
from stratumfs.fuse.layer import Gap, Layer
from stratumfs.fuse.memory import Memory
from stratumfs.fuse.pieces import Piece
from stratumfs.fuse.sender import StripeSender
from stratumfs.ids import Buffer, ExtentId, InodeNo, VolumeId
from stratumfs.limits import PENDING_BYTES_MAX, PENDING_EXTENTS_MAX
from stratumfs.location import Location
from stratumfs.store.landing import FileWriter
from stratumfs.store.store import Store
from stratumfs.store.writer import PendingStripe, merged
from stratumfs.turn import Turn
from stratumfs.values import Attributes, Extent, NewExtent, Publication


class FileBuffer:
    """Two layers above what is committed: ``_current`` takes writes, ``_frozen`` is being published.

    A publication that fails leaves its layer where it is: it is read as before, and the next publication tries it
    again first. So no write is lost while the buffer lives, and each fsync and close hears of what it could not do.

    Owned by the mount's table, used on the loop. Layers change between awaits only. ``publishing`` is held by whoever
    publishes, or changes attributes that a publication sets; never while waiting for the kernel.

    users       handles and calls that need the buffer
    unlinked    closed by the last who wrote, without a name: not worth publishing
    failure     of the last publication that nobody waited for, until one succeeds
    no_caps     known to have no security.capability, which the kernel asks before each write
    published   called with the new attributes after each publication
    """

    def __init__(
        self,
        store: Store,
        background: Starter,
        memory: Memory,
        ino: InodeNo,
        size: int,
        published: Callable[[Attributes], None],
    ) -> None:
        self.ino = ino
        self.users = 0
        self.unlinked = False
        self.no_caps = False
        self.failure: StratumError | None = None
        self.publishing = Turn()
        self._store, self._memory, self._published = store, memory, published
        self._current = Layer(size)
        self._frozen: Layer | None = None
        self._gathered: list[PendingStripe] = []  # of `_frozen`, until it is published
        self._digest = WholeDigest(store.writer.digest, size)
        self._writer = FileWriter(store.writer)
        self._sender = StripeSender(self._writer, background, memory)
        self._chosen, self._choosing = False, trio.Lock()
        self._full = store.writer.stripe_payload

    @property
    def size(self) -> int:
        return self._current.size

    @property
    def pending(self) -> bool:
        return self._current.changed or self._frozen is not None

    @property
    def since(self) -> float:
        """When the oldest pending change was made; infinity if there is none. On trio's clock."""
        layer = self._frozen or self._current
        return layer.since if layer.changed else float("inf")

    @property
    def times_ns(self) -> tuple[int, int]:
        """(mtime, time of the last change) of what is pending."""
        layer = self._current if self._current.changed or self._frozen is None else self._frozen
        return layer.mtime_ns, layer.changed_ns

    @property
    def pending_bytes(self) -> int:
        return sum(layer.pieces.own_bytes + sum(stripe.wanted for stripe in layer.stripes) for layer in self._layers())

    @property
    def memory_bytes(self) -> int:
        return sum(layer.pieces.own_bytes for layer in self._layers()) + self._sender.held_bytes

    @property
    def volumes(self) -> set[VolumeId]:
        """Those with stripes that only this buffer knows of."""
        places = [stripe.location for layer in self._layers() for stripe in layer.stripes]
        places += [stripe.location for stripe in self._gathered]
        return _volumes(places)

    async def shrink(self) -> None:
        """Let memory come free: full stripes go to the devices unpublished, else all is published."""
        if self._sender.held_bytes * 2 >= self.memory_bytes:
            await self._sender.flush()
        else:
            await self.publish(durable=False)

    async def write(self, offset: int, data: bytes) -> None:
        """Take *data*, which is never changed afterwards. Raises: StoreFull, StoreReadOnly; what publishing raises."""
        if not self._chosen:
            await self._choose_writer()
        self._writer.reserve(len(data))
        layer = self._touch()
        before = layer.pieces.own_bytes
        stripes = layer.write(offset, data, self._full)
        self._memory.take(layer.pieces.own_bytes - before + len(stripes) * self._full)
        self._digest.wrote(offset, data)
        for stripe in stripes:
            stripe.hashed = self._digest.hashed
            self._sender.send(stripe)
        if stripes:
            await self._sender.wait_room()
            layer = self._current
        if layer.extents >= PENDING_EXTENTS_MAX or len(layer.stripes) * self._full >= PENDING_BYTES_MAX:
            await self.publish(durable=False)

    async def _choose_writer(self) -> None:
        """Once, before the first stripe. Raises: what the catalog raises."""
        async with self._choosing:
            if not self._chosen:
                self._writer.land(await self._store.landing.of_file(self.ino))
                self._chosen = True

    def truncate(self, size: int) -> None:
        layer = self._touch()
        before = layer.pieces.own_bytes
        for stripe in layer.truncate(size):
            self._sender.forget(stripe)
        self._memory.take(layer.pieces.own_bytes - before)
        self._digest.truncated(size)

    def set_mtime(self, mtime_ns: int) -> None:
        """What is pending is published with this mtime. Held: ``publishing``."""
        for layer in self._layers():
            layer.mtime_ns = mtime_ns

    async def read(self, offset: int, length: int) -> Buffer:
        """Short at the end of the file. Raises: NotFound, TooFewShards, CatalogCorrupt."""
        stop = min(self.size, offset + length)
        if stop <= offset:
            return b""
        if not self.pending:
            return await self._store.reader.read(self.ino, offset, stop - offset)
        found = bytearray(stop - offset)
        view = memoryview(found)
        # All that is in memory is copied before the first await: a layer may be gone after it.
        gaps, stored = self._current.fill(view, offset, [(offset, stop)])
        if gaps and self._frozen is not None:
            gaps, more = self._frozen.fill(view, offset, gaps)
            stored += more
        places = [piece.stripe.location for piece, _, _ in stored if piece.stripe is not None]
        with self._store.reader.keeping(_volumes(places)):  # their layer may go meanwhile
            await self._fill_stored(view, offset, stored)
        await self._fill_committed(view, offset, gaps)
        return found

    async def publish(self, *, durable: bool) -> None:
        """Make visible all that was written before the call. durable: and return when it is on stable storage.

        Raises: StoreFull, StoreReadOnly, DeviceFailed, DeviceFull, CatalogCorrupt; nothing is lost then.
        """
        if self.pending:
            async with self.publishing:
                await self._publish_frozen(durable)
                if self._current.changed:
                    await self._freeze()
                    await self._publish_frozen(durable)
        if durable:
            # Also what another publication of this inode committed, and changes of its name and attributes.
            await self._store.files.settle([self.ino])

    def discard(self) -> None:
        """Forget what is pending: nobody can see it any more. Not while ``publishing`` is held."""
        for layer in self._layers():
            self._forget(layer)
            for stripe in layer.stripes:
                stripe.wanted = 0
        self._frozen = None
        self._gathered.clear()
        self._current = Layer(self.size)

    def _layers(self) -> Sequence[Layer]:
        return (self._current,) if self._frozen is None else (self._frozen, self._current)

    def _touch(self) -> Layer:
        layer = self._current
        if not layer.changed:
            layer.changed, layer.since = True, trio.current_time()
        layer.mtime_ns = layer.changed_ns = time.time_ns()
        return layer

    async def _freeze(self) -> None:
        """What was written until now is published together; later writes go to a layer above it."""
        layer = self._frozen = self._current
        self._current = Layer(layer.size)
        # First of all: the stream of the digest ends here for this layer, before later writes go on with it.
        layer.etag = await self._digest.value(layer.size)

    async def _publish_frozen(self, durable: bool) -> None:
        layer = self._frozen
        if layer is None:
            return
        extents = await self._stored_extents(layer)
        publication = Publication(layer.cut, tuple(extents), layer.size, layer.mtime_ns, layer.etag, layer.changed_ns)
        attributes = await self._store.files.publish(self.ino, publication, time.time_ns(), durable=durable)
        self._frozen = None
        self._gathered.clear()
        self.failure = None
        self._forget(layer)
        self._published(attributes)

    async def _stored_extents(self, layer: Layer) -> Sequence[NewExtent]:
        """All bytes of a layer as extents in write order; what is in volumes is synced."""
        writer = self._writer
        await self._sender.idle()
        inline: list[NewExtent] = []
        longer: list[tuple[int, Buffer]] = []
        for piece in layer.pieces.own():
            if writer.inline.allows(piece.length):
                inline.append(NewExtent(piece.offset, piece.length, data=bytes(piece.data)))
            else:
                longer.append((piece.offset, piece.data))
        stripes = [stripe.pending for stripe in layer.stripes if stripe.wanted]
        self._gathered.clear()  # what a publication that failed has left, nobody names
        try:
            gathered = await writer.gather(longer, self._gathered) if longer else []
            await writer.sync((*stripes, *dict.fromkeys(each.stripe for each in gathered)))
        except BaseException:
            self._gathered.clear()  # they have their bytes yet
            raise
        self._sender.synced(layer.stripes)
        runs = merged(each.extent for each in layer.stripes if each.wanted)
        return (*runs, *inline, *merged(each.extent for each in gathered))

    def _forget(self, layer: Layer) -> None:
        """Give back the memory of a layer that is not read any more."""
        self._memory.give_back(layer.pieces.own_bytes)
        for stripe in layer.stripes:
            self._sender.forget(stripe)

    async def _fill_stored(self, view: memoryview, base: int, stored: Sequence[tuple[Piece, int, int]]) -> None:
        for piece, start, stop in stored:
            assert piece.stripe is not None
            assert piece.stripe.location is not None
            at = piece.stripe.location.advanced(start - piece.offset + piece.skip)
            extent = Extent(ExtentId(0), self.ino, start, stop - start, at, None)
            view[start - base : stop - base] = await self._store.reader.extent(extent)

    async def _fill_committed(self, view: memoryview, base: int, gaps: Sequence[Gap]) -> None:
        for start, stop in gaps:
            data = await self._store.reader.read(self.ino, start, stop - start)
            view[start - base : start - base + len(data)] = data


def _volumes(places: Iterable[Location | None]) -> set[VolumeId]:
    return {place.volume for place in places if place is not None}
