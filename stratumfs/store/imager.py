"""Writes namespace images: the tables without inline bytes, as one coded volume that the identity files name.

An image is never repacked or repaired but superseded: where a device is lost or drained that holds a part of one that
is kept, another one is written. Two are kept, and one is freed only when every place that is there names a younger one.

So is one of which a shard was found bad.

A stop at any step leaves a volume that is open, which the next owner seals and frees, or an image that nobody names,
which counts all the same: its table of contents says what it is.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial

import structlog
import trio

from stratumfs.catalog.damage import is_damaged
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.epochs import NamedImage
from stratumfs.catalog.image import image_of
from stratumfs.catalog.lines import head_of
from stratumfs.catalog.volumes import IMAGE, free_images, images, seal_image, volume
from stratumfs.errors import StoreReadOnly, StratumError, WriteConflict
from stratumfs.ids import DeviceId, StoreId, VolumeId
from stratumfs.limits import (
    IMAGE_AGAIN_S,
    IMAGE_AGE_MAX_S,
    IMAGE_BYTES_MAX,
    IMAGE_CHANGES,
    IMAGE_FIRST_S,
    IMAGE_INTERVAL_S,
    IMAGE_LOOK_S,
    IMAGES_KEPT,
    UNSYNCED_BYTES_MAX,
)
from stratumfs.repair.work import Work
from stratumfs.store.fleet import Fleet
from stratumfs.store.ledger import CatalogLedger
from stratumfs.store.naming import Naming
from stratumfs.store.observer import Foreground
from stratumfs.store.pace import Pace
from stratumfs.store.writer import Writer, merged
from stratumfs.threads import in_thread
from stratumfs.values import NewExtent
from stratumfs.volumes.pending import PendingStripe
from stratumfs.volumes.toc import NO_INODE, TocEntry, about_entry
from stratumfs.volumes.writer import VolumeWriter

_OWN_CHANGES = 4
"""Transactions that follow an image because of it: what was freed is forgotten."""

_log = structlog.get_logger(__name__)


class _Ledger(CatalogLedger):
    """Seals a volume as an image if it is known to hold a whole one, else as one that is empty, and is freed."""

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog)
        self._of = catalog
        self.whole: Mapping[VolumeId, Sequence[TocEntry]] = {}

    async def sealed(self, volume: VolumeId, length: int, stripes: int) -> None:
        if volume in self.whole:
            await self._of.commit(seal_image, volume, length, stripes, time.time_ns())
        else:
            await super().sealed(volume, length, stripes)

    async def contents(self, volume: VolumeId) -> Sequence[TocEntry]:
        return self.whole.get(volume, ())


class Imager:
    """One task in the store's nursery.

    writer  of the tier that takes new data
    files   small files of the store folder that travel with the catalog, for the image does so too
    freed   told of images that are superseded
    naming  says when one can be begun
    work    what is under way, for status
    named   told of the last transaction that an image shows which every place names
    wanted  somebody waits for one that shows all of now
    """

    def __init__(
        self,
        store: StoreId,
        catalog: Catalog,
        fleet: Fleet,
        writer: Writer,
        foreground: Foreground,
        freed: Callable[[Collection[VolumeId]], None],
        naming: Naming,
    ) -> None:
        self.work: Work | None = None
        self.wanted = False
        self.named: Callable[[int], None] = lambda sequence: None
        self.files: Mapping[str, str] = {}
        self._store, self._catalog, self._fleet = store, catalog, fleet
        self._writer, self._foreground, self._freed = writer, foreground, freed
        self._naming = naming
        self._ledger = _Ledger(catalog)
        tier = writer.volumes.tier
        code = fleet.codes[tier]
        self.volumes = VolumeWriter(store, tier, code, fleet, self._ledger, payload_seal=IMAGE_BYTES_MAX)
        fleet.writers.append(self.volumes)
        self._turn = trio.Lock()
        self._settled = 0  # the last transaction when the newest image was named; not known of an earlier owner's

    async def serve(self) -> None:
        """Until cancelled. An owner that opened the store for one question does not begin."""
        await trio.sleep(IMAGE_FIRST_S)
        not_before = float("-inf")
        while True:
            if trio.current_time() >= not_before and await self._is_due():
                not_before = trio.current_time() + IMAGE_AGAIN_S
                try:
                    await self.write()
                except StratumError as error:
                    _log.warning("a namespace image could not be written", error=str(error))
            await trio.sleep(IMAGE_LOOK_S)

    async def write(self, *, paced: bool = True) -> NamedImage:
        """Write one now. Returns when every place that is there names it.

        Raises: StoreReadOnly, StoreFull, DeviceError; StoreBusy if too much was written, WriteConflict if a device was
        lost meanwhile: later again.
        """
        async with self._turn:
            self._writer.check_writable()
            if self._catalog.read_only:
                raise StoreReadOnly(self._catalog.failure or "the catalog is read-only")
            self.work = Work("image", None, f"tier {self.volumes.tier}")
            try:
                return await self._write(paced)
            finally:
                self.work = None

    async def leave(self, devices: Collection[DeviceId]) -> None:
        """Younger images take the places of those that lie on *devices*; where that cannot be now, `serve` goes on."""
        for _ in range(IMAGES_KEPT):
            if all(set(devices).isdisjoint(row.devices) for row in await self._catalog.read(images)):
                return
            try:
                await self.write()
            except StratumError as error:
                _log.warning("a namespace image could not be written", error=str(error))
                return

    async def newest(self) -> NamedImage | None:
        """The newest that is whole."""
        rows = await self._catalog.read(images)
        named = {each.volume: each for each in self._catalog.aside.images}
        return next((named.get(row.id) or NamedImage(row.id, 0, row.created_ns) for row in rows), None)

    async def _is_due(self) -> bool:
        if self._catalog.read_only or self._writer.read_only is not None:
            return False
        rows = await self._catalog.read(images)
        newest = await self.newest()
        if newest is None or self.wanted or await self._catalog.read(is_damaged, rows[0].id):
            return True
        stays = {device.id for device in self._fleet.up(self.volumes.tier)}.difference(self._fleet.draining)
        if not all(stays.issuperset(row.devices) for row in rows):
            return True
        changes = self._catalog.statistics().sequence - newest.sequence
        age_s = (time.time_ns() - newest.created_ns) / 1e9
        changed = self._catalog.statistics().sequence > self._settled + _OWN_CHANGES
        if not 0 <= age_s < (IMAGE_INTERVAL_S if changed else IMAGE_AGE_MAX_S):
            return True
        return changes >= IMAGE_CHANGES

    async def _write(self, paced: bool) -> NamedImage:
        now_ns = time.time_ns()
        stripes: list[tuple[int, PendingStripe]] = []
        try:
            sequence = await self._append(stripes, now_ns, paced)
            found = {stripe.at.volume for _, stripe in stripes}
            if len(found) != 1:
                raise WriteConflict("a device was lost while an image was written")
            (ident,) = found
            self._ledger.whole = {ident: _contents(ident, stripes, sequence, now_ns)}
        finally:
            # What is not whole is sealed as an empty volume, and freed as such.
            with trio.CancelScope(shield=True):
                for ident in {stripe.location.volume for _, stripe in stripes if stripe.location is not None}:
                    await self.volumes.seal(ident)
        row = await self._catalog.read(volume, ident)
        if row is None or row.state != IMAGE:
            raise WriteConflict("a device was lost while an image was sealed")
        return await self._name(NamedImage(ident, sequence, now_ns), sum(stripe.length for _, stripe in stripes))

    async def _append(self, stripes: list[tuple[int, PendingStripe]], now_ns: int, paced: bool) -> int:
        """All stripes, synced. Returns the last transaction that they show."""
        pace = Pace(self._foreground, self._told)
        thread = trio.CapacityLimiter(1)
        size, unsynced = 0, 0
        async with AsyncExitStack() as stack:
            self.wanted = False
            async with self._naming.nothing_begun():
                view = await stack.enter_async_context(self._catalog.aside.snapshot())
            head = await in_thread(head_of, view, self._store, now_ns, self.files, limiter=thread)
            pieces = image_of(view, head)
            filling = bytearray()
            last = False
            while not last:
                began = trio.current_time()
                piece = await in_thread(partial(next, pieces, None), limiter=thread)
                last = piece is None
                filling += piece or b""
                while len(filling) >= self._writer.stripe_payload or (last and filling):
                    payload = bytes(filling[: self._writer.stripe_payload])
                    del filling[: len(payload)]
                    self._writer.reserve(len(payload))
                    stripe = PendingStripe(payload)
                    before = stripes[-1][1] if stripes else None
                    stripes.append((size, stripe))
                    await self.volumes.append(stripe, before)
                    size += len(payload)
                    unsynced += len(payload)
                if unsynced >= UNSYNCED_BYTES_MAX:
                    await self.volumes.sync(stripe for _, stripe in stripes)
                    unsynced = 0
                if not await self._catalog.aside.check_log() and paced:
                    await pace(trio.current_time() - began, size)
        await self.volumes.sync(stripe for _, stripe in stripes)
        return head.sequence

    async def _name(self, new: NamedImage, size: int) -> NamedImage:
        rows = [row for row in await self._catalog.read(images) if row.id != new.volume]
        named = {each.volume: each for each in self._catalog.aside.images}
        older = [named.get(row.id) or NamedImage(row.id, 0, row.created_ns) for row in rows[: IMAGES_KEPT - 1]]
        named_now = (new, *older)
        kept = {each.volume for each in named_now}
        if await self._catalog.aside.name_images(named_now):
            self.named(new.sequence)
        else:
            kept |= {row.id for row in rows}  # a place may name any of them still
        # Also where nothing is freed: the round strikes a place whose file could not be written.
        self._freed(await self._catalog.commit(free_images, frozenset(kept), time.time_ns()))
        self._settled = self._catalog.statistics().sequence
        _log.info("namespace_image", volume=new.volume.hex(), sequence=new.sequence, bytes=size)
        return new

    def _told(self, done: int) -> None:
        if self.work is not None:
            self.work.done = done


def _contents(
    ident: VolumeId, stripes: Sequence[tuple[int, PendingStripe]], sequence: int, now_ns: int
) -> list[TocEntry]:
    """The image's own bytes are those of inode 0."""
    runs = merged(NewExtent(at, stripe.length, stripe.at) for at, stripe in stripes)
    entries = [about_entry(ident, sequence, now_ns)]
    for run in runs:
        assert run.location is not None
        entries.append(TocEntry(NO_INODE, bytes(16), run.offset, run.length, run.location, b""))
    return entries
