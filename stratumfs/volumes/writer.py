"""Appends stripes to the volumes of one tier: opens, rotates, syncs and seals them."""

import contextlib
from collections.abc import Callable, Iterable, Sequence

import trio

from stratumfs.descriptor import close_soon
from stratumfs.erasure.code import Code
from stratumfs.erasure.stripe import cell_size_for
from stratumfs.errors import DeviceError, DeviceFull, DeviceUnasked, StoreClosing, StoreReadOnly, StratumError
from stratumfs.ids import CellIndex, DeviceId, StoreId, VolumeId, random_id
from stratumfs.limits import (
    CODING_THREADS,
    SHARD_PREALLOCATE,
    VOLUME_IDLE_SEAL_S,
    VOLUME_PAYLOAD_SEAL,
    VOLUMES_OPEN_MAX,
)
from stratumfs.shards.backend import OpenShard
from stratumfs.shards.layout import ShardName
from stratumfs.volumes import toc
from stratumfs.volumes.append import ShardFailure
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.fleet import Devices, SealMark
from stratumfs.volumes.format import HEADER_SIZE, VolumeInfo
from stratumfs.volumes.ledger import VolumeLedger
from stratumfs.volumes.open import GivenUp, OpenVolume
from stratumfs.volumes.pending import PendingStripe, release
from stratumfs.volumes.placement import Candidate, choose_devices
from stratumfs.volumes.threads import LendingThreads


class VolumeWriter:
    """The one writer of a tier.

    A device that fails or stalls is struck, and its callers see only a write that takes longer: an append goes to
    another volume, and what was not synced yet is written again by whoever waits for its sync. A device that is full is
    not struck; its volumes are sealed as they are when idle.

    ended  told of each volume that takes no more stripes, and whether it has its table of contents

    All state lives on the loop. `_opening` is held over the awaits that open a volume, `_again` over those that write
    again; everything else changes between awaits. ``_telling`` are those whose table is made of what rows say by now.
    """

    def __init__(
        self,
        store: StoreId,
        tier: str,
        code: Code,
        devices: Devices,
        ledger: VolumeLedger,
        *,
        payload_seal: int = VOLUME_PAYLOAD_SEAL,
        preallocate: int = SHARD_PREALLOCATE,
    ) -> None:
        self.tier, self.code = tier, code
        self._store = store
        self._devices = devices
        self._ledger = ledger
        self._payload_seal = payload_seal
        self._step = preallocate
        self._volumes: dict[VolumeId, OpenVolume] = {}
        self._current: OpenVolume | None = None
        self._opening = trio.Lock()
        self._again = trio.Lock()
        self._sealing: dict[VolumeId, trio.Lock] = {}
        self._ends: dict[VolumeId, SealMark] = {}  # of volumes that were given up, until the ledger has them
        self._telling: set[VolumeId] = set()
        self.ended: Callable[[VolumeId, bool], None] = lambda volume, tabled: None
        self._threads = LendingThreads(CODING_THREADS)
        self._stripes = self._payload = self._written = 0
        self._closed = False

    async def append(self, stripe: PendingStripe, after: PendingStripe | None = None) -> None:
        """Write *stripe*, 1 to STRIPE_PAYLOAD_MAX bytes. It is safe only after `sync`.

        after: the same stream's previous stripe; if that is full, and this one comes to lie directly behind it with
        cells of the same size, its nonce is the next one, and one row can name both.

        Raises: GeometryError; DeviceFull; StoreReadOnly if too few devices are left; DeviceUnasked; what the ledger
        raises; StoreClosing.
        """
        cell_size_for(stripe.length, self.code)
        await trio.lowlevel.checkpoint_if_cancelled()
        with stripe.appending():
            await self._append(stripe, after)

    async def sync(self, stripes: Iterable[PendingStripe]) -> None:
        """Return when all of *stripes* are on stable storage on every shard of their volumes; payloads are let go.

        What a volume that was given up has not synced is written again, in the order given, to another one; so are
        stripes that were never written. Not while somebody appends one of them. Read their locations afterwards. May be
        called again after an error.

        Raises: as `append`.
        """
        stripes = list(stripes)
        while left := [stripe for stripe in stripes if not stripe.synced]:
            if any(stripe.lost for stripe in left):
                await self._write_again(left)
            # Who is neither lost nor in an open volume would never be synced, and this would go round for ever.
            assert all(each.synced or each.lost or each.at.volume in self._volumes for each in left)
            await self._sync_volumes({stripe.at.volume for stripe in left})
            await trio.lowlevel.checkpoint()
        release(stripes)

    async def seal(self, volume: VolumeId) -> None:
        """Take no more appends to *volume*, wait for those under way, write its table of contents, tell the ledger.

        Not an error for one that is sealed already. Raises: what the ledger raises.
        """
        opened = self._volumes.get(volume)
        if opened is None:
            await self._tell_end(volume)
            return
        if self._current is opened:
            self._current = None
        async with self._sealing.setdefault(volume, trio.Lock()):
            if volume in self._volumes:
                await self._seal(opened)
        self._sealing.pop(volume, None)

    async def seal_idle(self, idle_s: float = VOLUME_IDLE_SEAL_S) -> None:
        """Seal what nobody has appended to for *idle_s* seconds. To be called every few seconds.

        Full volumes wait as long as others: what was written to them may be in a row only now, and only rows get into
        the table of contents.
        """
        for opened in list(self._volumes.values()):
            if trio.current_time() - opened.used_at >= idle_s and not opened.appending:
                await self.seal(opened.info.id)
        for ident in tuple(self._ends):
            await self._tell_end(ident)

    def is_open(self, volume: VolumeId) -> bool:
        """Whether it is one of its own that is not sealed, nor given up."""
        return volume in self._volumes

    def untold(self) -> frozenset[VolumeId]:
        """Volumes whose table of contents will have what rows say now."""
        return frozenset(self._volumes.keys() - self._telling)

    def give_up(self, device: DeviceId) -> list[SealMark]:
        """Write no more to volumes that have a shard on *device*, which is struck. Returns their ends."""
        found = [opened for opened in self._volumes.values() if device in opened.info.devices]
        for opened in found:
            self._let_go(opened)
        return [opened.mark for opened in found]

    async def close(self) -> None:
        """Seal all volumes that can be sealed, and let go of the others. Further appends raise StoreClosing.

        Raises: the first error, after all have been tried.
        """
        self._closed = True
        async with self._opening:
            self._current = None
        errors: list[StratumError] = []
        for opened in list(self._volumes.values()):
            try:
                await self.seal(opened.info.id)
            except StratumError as error:
                errors.append(error)
                opened.give_up()  # whoever syncs what is not synced must fail, not succeed
        if errors:
            raise errors[0]

    def statistics(self) -> dict[str, int]:
        """Open volumes, those waiting for their sealing included; stripes that were appended, and their bytes."""
        return {
            "volumes_open": len(self._volumes),
            "stripes_encoded": self._stripes,
            "encoded_bytes": self._payload,
            "shard_bytes": self._written,
        }

    def _accepting(self) -> OpenVolume | None:
        current = self._current
        return current if current is not None and current.accepts() else None

    async def _append(self, stripe: PendingStripe, after: PendingStripe | None) -> None:
        while True:
            volume = self._accepting() or await self._open_next()
            if volume.payload + stripe.length >= self._payload_seal and self._current is volume:
                self._current = None  # this one fills it; it is sealed when it has been idle
            try:
                failures = await volume.append(stripe, after, self._step, self._threads)
            except GivenUp:
                await self._devices.settle()
                continue
            if not failures:
                self._stripes += 1
                self._payload += stripe.length
                self._written += volume.info.code.n * (HEADER_SIZE + stripe.at.cell_size)
                return
            await self._failed(volume, failures)

    async def _write_again(self, stripes: Sequence[PendingStripe]) -> None:
        """Those of *stripes* that are lost, behind one another. Whoever failed is struck before."""
        await self._devices.settle()
        async with self._again:
            before: PendingStripe | None = None
            for stripe in stripes:
                if stripe.lost:
                    await self.append(stripe, before)
                before = stripe

    async def _sync_volumes(self, volumes: Iterable[VolumeId]) -> None:
        found = [self._volumes[each] for each in volumes if each in self._volumes]  # others are sealed, or given up
        if len(found) == 1:
            await self._sync_one(found[0])
            return
        errors: list[StratumError] = []
        async with trio.open_nursery() as nursery:
            for volume in found:
                nursery.start_soon(self._sync_collecting, volume, errors)
        if errors:
            raise errors[0]

    async def _sync_one(self, volume: OpenVolume) -> None:
        """All that is finished in *volume* is synced, or it is given up, and whoever failed is struck."""
        try:
            failures = await volume.sync()
        except GivenUp:
            await self._devices.settle()
        else:
            if failures:
                await self._failed(volume, failures)

    async def _sync_collecting(self, volume: OpenVolume, errors: list[StratumError]) -> None:
        try:
            await self._sync_one(volume)
        except StratumError as error:
            errors.append(error)

    async def _seal(self, opened: OpenVolume) -> None:
        await opened.wait_quiet()
        if not opened.closed:  # else only the ledger is behind, for it failed the last time
            await self._sync_one(opened)
            self._telling.add(opened.info.id)
            entries = await self._ledger.contents(opened.info.id)
            packed = await self._threads.run(toc.pack, entries)
            try:
                failures = await opened.finish(packed)
            except GivenUp:
                return
            if failures:
                await self._failed(opened, failures)
                return
        await self._ledger.sealed(opened.info.id, opened.end, opened.stripes)
        self._volumes.pop(opened.info.id, None)  # a strike may have given it up meanwhile
        self._telling.discard(opened.info.id)
        self.ended(opened.info.id, True)

    async def _open_next(self) -> OpenVolume:
        async with self._opening:
            while (found := self._accepting()) is None:
                if self._closed:
                    raise StoreClosing("the store is closing: no new volumes")
                await self._make_place()
                self._current = await self._open()
            return found

    async def _make_place(self) -> None:
        """Seal volumes that wait for it, oldest first, until one more may be opened."""
        for opened in list(self._volumes.values()):
            if len(self._volumes) < VOLUMES_OPEN_MAX:
                return
            await self.seal(opened.info.id)

    async def _open(self) -> OpenVolume | None:
        """A new volume; None if a device failed, was full or was struck meanwhile: then others are chosen."""
        ident = VolumeId(random_id())
        candidates = await self._candidates()
        width = min(self.code.n, len(candidates))
        code = Code(width - self.code.m, self.code.m)
        info = VolumeInfo(ident, self.tier, code, choose_devices(ident, width, candidates))
        up = {device.id: device for device in self._devices.up(self.tier)}
        if not all(each in up for each in info.devices):
            return None
        devices = [up[each] for each in info.devices]
        shards = await self._create(info, devices)
        if shards is None:
            return None
        try:
            with trio.CancelScope(shield=True):  # else there were files, and perhaps a row, that this writer forgets
                await self._ledger.opened(info)
        except BaseException:
            close_soon(shards)  # the files stay, for nobody knows whether the row was written; no row: quarantine
            raise
        opened = self._volumes[ident] = OpenVolume(self._store, info, devices, shards, self._step)
        if any(device.struck for device in devices):
            await self._end(opened)
            return None
        return opened

    async def _candidates(self) -> list[Candidate]:
        """Devices that are up and have room for a step of preallocation and one more: 1 + m of them at least.

        Raises: StoreReadOnly if fewer are up, DeviceFull if fewer have room.
        """
        if (why := self._devices.refusal(self.tier)) is not None:
            raise StoreReadOnly(why)
        found: list[Candidate] = []

        async def ask(device: AttachedDevice) -> None:
            try:
                free = await device.write(device.free)
            except (OSError, DeviceError):
                free = 2 * self._step  # whoever writes to it meets the error, and strikes it
            if free >= 2 * self._step:
                found.append(Candidate(device.id, device.disk, free))

        async with trio.open_nursery() as nursery:
            for device in self._devices.taking(self.tier):
                nursery.start_soon(ask, device)
        if len(found) <= self.code.m:
            needed = 1 + self.code.m
            raise DeviceFull(f"{len(found)} devices of tier {self.tier} have room for a new volume, {needed} must")
        return found

    async def _create(self, info: VolumeInfo, devices: Sequence[AttachedDevice]) -> list[OpenShard] | None:
        """All shards of a new volume, durable in their folders; None if one could not be made, and none is left."""
        made: dict[CellIndex, OpenShard] = {}
        failures: list[ShardFailure] = []

        async def create(index: CellIndex, device: AttachedDevice) -> None:
            try:
                made[index] = await device.write(_create_shard, device, ShardName(info.id, index), self._step)
            except DeviceError as error:
                failures.append(ShardFailure(index, error))

        try:
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:
                    for number, device in enumerate(devices):
                        nursery.start_soon(create, CellIndex(number), device)
        finally:
            if len(made) < len(devices):
                close_soon(made.values())
                with trio.CancelScope(shield=True):
                    for index in made:
                        await _remove_shard(devices[index], ShardName(info.id, index))
        if failures:
            await self._note(info, failures)
            _raise_unasked(failures)
            return None
        return [made[CellIndex(number)] for number in range(len(devices))]

    async def _failed(self, volume: OpenVolume, failures: Sequence[ShardFailure]) -> None:
        """Return when whoever failed is struck, and the volume ended if nothing more of it can be synced.

        Raises: DeviceUnasked if nobody failed but this process: it would meet the same again at once.
        """
        await self._note(volume.info, failures)
        if volume.given_up and volume.info.id in self._volumes:
            await self._end(volume)
        _raise_unasked(failures)

    async def _note(self, info: VolumeInfo, failures: Sequence[ShardFailure]) -> None:
        for failure in failures:
            device = info.devices[failure.index]
            if isinstance(failure.error, DeviceFull):
                self._devices.full(device, failure.error)
            elif not isinstance(failure.error, DeviceUnasked):
                await self._devices.strike(device, failure.error, failure.state)

    async def _end(self, volume: OpenVolume) -> None:
        """It is given up and nobody was struck for it who would have sealed it."""
        self._let_go(volume)
        self._ends[volume.info.id] = volume.mark
        await self._tell_end(volume.info.id)

    async def _tell_end(self, ident: VolumeId) -> None:
        """If that is owed. Not where rows say that it ends: stripes that are safe may be about to be named."""
        if (mark := self._ends.get(ident)) is not None:
            await self._ledger.sealed(mark.volume, mark.length, mark.stripes)
            self._ends.pop(ident, None)

    def _let_go(self, volume: OpenVolume) -> None:
        volume.give_up()
        del self._volumes[volume.info.id]
        self._telling.discard(volume.info.id)
        self.ended(volume.info.id, False)
        if self._current is volume:
            self._current = None


def _raise_unasked(failures: Sequence[ShardFailure]) -> None:
    for failure in failures:
        if isinstance(failure.error, DeviceUnasked):
            raise failure.error


def _create_shard(device: AttachedDevice, name: ShardName, step: int) -> OpenShard:
    shard = device.shards.create(name)
    try:
        shard.preallocate(0, step)
        device.shards.sync_folder(name)
    except BaseException:
        shard.close()
        device.shards.unlink(name)
        raise
    return shard


async def _remove_shard(device: AttachedDevice, name: ShardName) -> None:
    with contextlib.suppress(StratumError):  # no row names it: else it is quarantined later
        await device.write(device.shards.unlink, name)
