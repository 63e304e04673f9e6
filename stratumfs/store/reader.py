"""Bytes out of the store: extents, and for each the verified cells that it needs."""

from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from itertools import repeat

import trio

from stratumfs.catalog.engine import Catalog, Transaction
from stratumfs.catalog.extents import clipped, layout
from stratumfs.catalog.objects import unchanged_layout
from stratumfs.catalog.volumes import volume
from stratumfs.cold_limits import RECALL_AHEAD
from stratumfs.errors import CatalogCorrupt, StoreClosing
from stratumfs.ids import Buffer, InodeNo, VolumeId
from stratumfs.limits import (
    READAHEAD_STREAMS_MAX,
    READAHEAD_STRIPES,
    STRIPE_PAYLOAD_MAX,
    TRANSACTION_ROWS_MAX,
    VOLUMES_KNOWN_MAX,
)
from stratumfs.location import Location
from stratumfs.repair.rows import volume_info
from stratumfs.store.layouts import Layouts, size_of, whole_layout
from stratumfs.values import Extent, NewExtent, ObjectInfo
from stratumfs.volumes.format import VolumeInfo
from stratumfs.volumes.reader import VolumeReader

_ZEROS = bytes(STRIPE_PAYLOAD_MAX)
LOOP_STRIPE = 2 * STRIPE_PAYLOAD_MAX
"""What a mount reads is verified on the loop, whole stripes too (with what pads their cells): pyfuse3 copies requests
and answers with Python's lock held, and a thread beside it would wait for that lock between any two of its cells."""


def volumes_of(extents: Iterable[Extent | NewExtent]) -> set[VolumeId]:
    return {each.location.volume for each in extents if each.location is not None}


class Reader:
    """Reads committed content. Whoever reads an inode holds it (``Holds``), so that its bytes stay.

    Owned by the store, used on the loop. ``_infos`` is a bounded cache; who moves a shard to another device says so by
    ``forget``.
    """

    def __init__(self, catalog: Catalog, volumes: VolumeReader, nursery: trio.Nursery) -> None:
        self._catalog, self._volumes, self._nursery = catalog, volumes, nursery
        self._infos: OrderedDict[VolumeId, VolumeInfo] = OrderedDict()
        self._kept: dict[object, Set[VolumeId]] = {}
        self._layouts = Layouts()
        self._streams = 0
        catalog.listen(self._layouts.heed)

    async def read(self, ino: InodeNo, offset: int, length: int) -> Buffer:
        """Up to *length* bytes from *offset* on: zeros in holes, short at the end of the file.

        Raises: NotFound; TooFewShards, CatalogCorrupt.
        """
        size, extents = await self._size_and_extents(ino, offset, length)
        stop = min(size, offset + length)
        if stop <= offset:
            return b""
        volumes = volumes_of(extents)
        key = self.keep(volumes)
        try:
            if len(extents) >= TRANSACTION_ROWS_MAX:
                extents = await self._rest(ino, extents, stop, volumes)
            return await self._bytes(extents, offset, stop)
        finally:
            self.let_go(key)

    async def prefetch(self, ino: InodeNo, offset: int, length: int) -> None:
        """Bring verified cells of this range into the cache. Raises: as ``read``."""
        size, extents = await self._size_and_extents(ino, offset, max(length, RECALL_AHEAD))
        with self.keeping(volumes_of(extents)):
            await self._expect_range(extents, offset, min(size, offset + RECALL_AHEAD))
            stop = min(size, offset + length)
            for part in neighbours(clipped(each, offset, stop) for each in extents if each.offset < stop):
                if part.location is not None:
                    info = await self.volume(part.location.volume)
                    await self._volumes.read_parts(info, part.location, 0, part.length, LOOP_STRIPE)

    async def expect(self, runs: Iterable[tuple[Location, int]]) -> None:
        """These runs will be read soon, by whoever asks: what can be fetched ahead is. Who reads meets its errors."""
        of: dict[VolumeId, list[tuple[Location, int]]] = {}
        for at, length in runs:
            of.setdefault(at.volume, []).append((at, length))
        for ident, mine in of.items():
            with suppress(CatalogCorrupt):
                self._volumes.expect(await self.volume(ident), mine)

    async def layout(self, ino: InodeNo, start: int, stop: int, keep: set[VolumeId] | None = None) -> list[Extent]:
        """All extents that overlap [start, stop), in order; *keep* gets their volumes before anything is awaited."""
        keep = set() if keep is None else keep
        extents = await self._catalog.read(layout, ino, start, stop)
        keep |= volumes_of(extents)
        return await self._rest(ino, extents, stop, keep)

    def at_once(self, piece: Extent | int) -> Buffer | None:
        """The bytes of up to one stripe, or so many zeros, where nobody is waited for; else None."""
        if isinstance(piece, int):
            return _ZEROS if piece == len(_ZEROS) else _ZEROS[:piece]
        if piece.location is None:
            return piece.data
        info = self._infos.get(piece.location.volume)
        return self._volumes.cached(info, piece.location, piece.length) if info is not None else None

    async def extent(self, extent: Extent) -> Buffer:
        """The bytes of one extent, verified."""
        if extent.location is None:
            assert extent.data is not None
            return extent.data
        return await self.run(extent.location, extent.length)

    async def run(self, location: Location, length: int) -> Buffer:
        """Bytes of one run in a volume, verified."""
        return await self._volumes.read(await self.volume(location.volume), location, 0, length)

    async def together(self, runs: Sequence[tuple[Location, int]]) -> Sequence[Buffer]:
        """Bytes of *runs* in one volume, each in one stripe, verified, where they were fetched ahead; else nothing."""
        return await self._volumes.together(await self.volume(runs[0][0].volume), runs)

    @contextmanager
    def keeping(self, volumes: Set[VolumeId]) -> Iterator[None]:
        """Keep these volumes while the context lasts, also when no row points at them any more; the set may change.

        For who goes by extents that a rewrite or a repack may take away: enter it before anything is awaited.
        """
        key = self.keep(volumes)
        try:
            yield
        finally:
            self.let_go(key)

    def keep(self, volumes: Set[VolumeId]) -> object:
        """As ``keeping``, until what is returned is given to ``let_go``."""
        key = object()
        self._kept[key] = volumes
        return key

    def let_go(self, key: object) -> None:
        del self._kept[key]

    def kept(self) -> frozenset[VolumeId]:
        """Volumes that somebody may still read, or name, by extents that are gone."""
        return frozenset().union(*self._kept.values())

    def forget(self, ident: VolumeId) -> None:
        """Its shards lie elsewhere now. Who reads by the old places meanwhile reads around the one that moved."""
        self._infos.pop(ident, None)

    async def extents(self, content: "OpenContent", start: int, stop: int) -> list[Extent]:
        """All extents of an open object that overlap [start, stop), in order. Raises: WriteConflict."""
        found: list[Extent] = []
        while start < stop:
            chunk, start = await self._chunk(content, start, stop)
            found += chunk
            await trio.lowlevel.checkpoint()
        return found

    async def whole(self, content: "OpenContent", start: int, stop: int) -> Buffer | None:
        """[start, stop) if it is one chunk; None if it takes several. Raises: TooFewShards, CatalogCorrupt."""
        first = content.head[0] if content.head else None
        if first is not None and first.data is not None and first.offset == start and first.length == stop - start:
            return first.data  # what most small objects are
        if stop > content.head_end or stop - start > STRIPE_PAYLOAD_MAX:
            return None
        extents, _ = await self._chunk(content, start, stop)
        pieces = _pieces(extents, start, stop)
        if len(pieces) > 1:
            return None
        piece = pieces[0] if pieces else 0
        return _ZEROS[:piece] if isinstance(piece, int) else await self.extent(piece)

    async def chunks(self, content: "OpenContent", start: int, stop: int) -> AsyncGenerator[Buffer, None]:
        """[start, stop) in order, in chunks of up to one stripe; the next ones are read while one is sent.

        Close it (``aclosing``) if you stop early. Raises: WriteConflict if the file was rewritten and no longer has
        the extents; TooFewShards, CatalogCorrupt.
        """
        ahead: deque[_Pending] = deque()
        expected = start
        self._streams += 1
        try:
            while start < stop:
                extents, until = await self._chunk(content, start, stop)
                at = start
                for piece in _pieces(extents, start, until):
                    if at >= expected - RECALL_AHEAD // 2 and expected < until and until - start > STRIPE_PAYLOAD_MAX:
                        before, expected = max(expected, at), min(until, max(expected, at) + RECALL_AHEAD)
                        await self._expect_range(extents, before, expected)
                    at += piece if isinstance(piece, int) else piece.length
                    ahead.append(_Pending(self, piece, self._nursery))
                    while len(ahead) > (READAHEAD_STRIPES if self._streams <= READAHEAD_STREAMS_MAX else 0):
                        yield await ahead.popleft().result()
                start = until
            while ahead:
                yield await ahead.popleft().result()
        finally:
            self._streams -= 1
            for pending in ahead:
                pending.cancel()

    async def _expect_range(self, extents: Sequence[Extent], start: int, stop: int) -> None:
        parts = [
            clipped(each, start, stop) for each in extents if each.offset < stop and each.offset + each.length > start
        ]
        await self.expect((part.location, part.length) for part in parts if part.location is not None)

    async def _size_and_extents(self, ino: InodeNo, offset: int, length: int) -> tuple[int, list[Extent]]:
        """The size, and the first extents that overlap the range, as many as one transaction gives.

        Raises: NotFound, CatalogCorrupt.
        """
        found = self._layouts.get(ino) if self._catalog.steady else None
        if found is None:
            try:
                found = await self._catalog.read(whole_layout, ino)
            except CatalogCorrupt:  # it may be another part's row that is damaged
                return await self._catalog.read(_size_and_layout, ino, offset, length)
            self._layouts.add(ino, found)
        if found.extents is None:
            return await self._catalog.read(_size_and_layout, ino, offset, length)
        return found.size, found.over(offset, min(found.size, offset + length))

    async def _bytes(self, extents: Sequence[Extent], offset: int, stop: int) -> Buffer:
        if len(extents) == 1 and extents[0].offset <= offset and extents[0].offset + extents[0].length >= stop:
            extent, location = extents[0], extents[0].location
            if location is None:
                return await self.extent(clipped(extent, offset, stop))
            info = await self.volume(location.volume)
            return await self._volumes.read(info, location, offset - extent.offset, stop - offset, LOOP_STRIPE)
        found = bytearray(stop - offset)
        for part in neighbours(clipped(each, offset, stop) for each in extents):
            data = part.data if part.data is not None else await self.extent(part)
            found[part.offset - offset : part.offset - offset + part.length] = data
        return found

    async def _chunk(self, content: "OpenContent", start: int, stop: int) -> tuple[list[Extent], int]:
        """The extents from *start* on that one transaction gives, and up to where they say all."""
        if start < content.head_end:
            stop = min(stop, content.head_end)
            return [each for each in content.head if each.offset < stop and each.offset + each.length > start], stop
        found = _from(start, await self._catalog.read(unchanged_layout, content.ino, content.number, start, stop))
        content.keep(found)
        return found, stop if len(found) < TRANSACTION_ROWS_MAX else found[-1].offset + found[-1].length

    async def _rest(self, ino: InodeNo, extents: list[Extent], stop: int, keep: set[VolumeId]) -> list[Extent]:
        """A layout that filled one transaction goes on."""
        chunk = extents
        while len(chunk) >= TRANSACTION_ROWS_MAX:
            await trio.lowlevel.checkpoint()
            start = chunk[-1].offset + chunk[-1].length
            chunk = _from(start, await self._catalog.read(layout, ino, start, stop))
            keep |= volumes_of(chunk)
            extents = extents + chunk
        return extents

    async def volume(self, ident: VolumeId) -> VolumeInfo:
        """Raises: CatalogCorrupt if there is no such volume."""
        info = self._infos.get(ident)
        if info is None:
            row = await self._catalog.read(volume, ident)
            if row is None:
                raise CatalogCorrupt(f"an extent names volume {ident.hex()}, which has no row")
            info = self._infos[ident] = volume_info(row)
            if len(self._infos) > VOLUMES_KNOWN_MAX:
                self._infos.popitem(last=False)
        else:
            self._infos.move_to_end(ident)
        return info


class OpenContent:
    """What an object was when it was opened. A mount may rewrite the file; these bytes stay.

    Made of a transaction's answer: what the object was, and the first chunk of its layout. The inode is to be held, and
    the volumes kept, as long as it is read.

    head      its first extents, which say all of [0, head_end)
    volumes   those that it was seen to lie in
    """

    def __init__(self, info: ObjectInfo, head: Sequence[Extent]) -> None:
        self.ino, self.number, self.head = info.ino, info.content, head
        self.head_end = info.size if len(head) < TRANSACTION_ROWS_MAX else head[-1].offset + head[-1].length
        self.volumes = volumes_of(head)

    def keep(self, extents: Sequence[Extent]) -> None:
        self.volumes |= volumes_of(extents)


class _Pending:
    """One chunk on its way."""

    def __init__(self, reader: Reader, piece: Extent | int, nursery: trio.Nursery) -> None:
        self._data: Buffer | None = reader.at_once(piece)
        self._error: Exception | None = None
        if self._data is None:
            assert not isinstance(piece, int)
            self._done, self._scope = trio.Event(), trio.CancelScope()
            nursery.start_soon(self._read, reader, piece)

    async def result(self) -> Buffer:
        if self._data is None:
            await self._done.wait()
        if self._error is not None:
            raise self._error
        if self._data is None:
            raise StoreClosing("the store closes: some of these bytes were not read")
        return self._data

    def cancel(self) -> None:
        if self._data is None:
            self._scope.cancel()

    async def _read(self, reader: Reader, piece: Extent) -> None:
        try:
            with self._scope:
                self._data = await reader.extent(piece)
        except Exception as error:  # whoever wants the chunk raises it
            self._error = error
        finally:
            self._done.set()


def _size_and_layout(tx: Transaction, ino: InodeNo, offset: int, length: int) -> tuple[int, list[Extent]]:
    size = size_of(tx, ino)
    return size, layout(tx, ino, offset, min(size, offset + length))


def _pieces(extents: Sequence[Extent], start: int, stop: int) -> list[Extent | int]:
    """[start, stop) as extents of at most one stripe each; a number stands for so many zeros."""
    pieces: list[Extent | int] = []
    for part in neighbours(clipped(each, start, stop) for each in extents):
        pieces += _holes(part.offset - start)
        end = part.offset + part.length
        at = part.offset
        while at < end:
            room = STRIPE_PAYLOAD_MAX
            if part.location is not None:
                location = part.location.advanced(at - part.offset)
                room = STRIPE_PAYLOAD_MAX - location.skip
            pieces.append(clipped(part, at, min(end, at + room)))
            at = min(end, at + room)
        start = end
    pieces += _holes(stop - start)
    return pieces


def neighbours(extents: Iterable[Extent]) -> Iterator[Extent]:
    """The same bytes in fewer extents: those that lie behind one another in a volume, as what was joined in the
    background does, are read together."""
    last: Extent | None = None
    for extent in extents:
        if last is not None and _continues(last, extent):
            last = last._replace(length=last.length + extent.length)
        else:
            if last is not None:
                yield last
            last = extent
    if last is not None:
        yield last


def _continues(one: Extent, other: Extent) -> bool:
    return (
        one.location is not None
        and one.offset + one.length == other.offset
        and one.location.advanced(one.length) == other.location
    )


def _from(start: int, extents: list[Extent]) -> list[Extent]:
    """What of them lies at or behind *start*: rows may have been joined since those before it were read."""
    if extents and extents[0].offset < start:
        extents[0] = clipped(extents[0], start, extents[0].offset + extents[0].length)
    return extents


def _holes(length: int) -> Iterator[int]:
    assert length >= 0, "extents overlap"
    whole, rest = divmod(length, STRIPE_PAYLOAD_MAX)
    yield from repeat(STRIPE_PAYLOAD_MAX, whole)
    if rest:
        yield rest
