"""Appends stripes to the volumes of one tier: opens, rotates, syncs and seals them."""

import contextlib
from collections.abc import Callable, Collection, Mapping

import trio

from stratumfs.erasure.code import Code
from stratumfs.erasure.stripe import cell_size_for
from stratumfs.errors import DeviceError, DeviceFailed, DeviceFull, StoreClosing, StratumError
from stratumfs.ids import Buffer, CellIndex, DeviceId, StoreId, VolumeId, random_id
from stratumfs.limits import (
    CODING_THREADS,
    SHARD_PREALLOCATE,
    VOLUME_IDLE_SEAL_S,
    VOLUME_PAYLOAD_SEAL,
    VOLUMES_OPEN_MAX,
)
from stratumfs.location import Location
from stratumfs.shards.backend import OpenShard
from stratumfs.shards.layout import ShardName
from stratumfs.volumes import toc
from stratumfs.volumes.append import ShardFailure, worst
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.format import VolumeInfo
from stratumfs.volumes.ledger import VolumeLedger
from stratumfs.volumes.open import OpenVolume
from stratumfs.volumes.placement import Candidate, choose_devices

OnFailure = Callable[[DeviceId, DeviceError], None]


class VolumeWriter:
    """The one writer of a tier.

    All state lives on the loop. `_opening` is held over the awaits that open a volume; everything else changes between
    awaits. Volumes that met an error stay in `_volumes`, closed to appends, so that whoever has yet to sync them hears
    of it; the next owner seals them.

    devices       those that are up; new volumes are placed on them
    on_failure    told once of each device that fails a write or a sync; the writer puts nothing on it again
    """

    def __init__(
        self,
        store: StoreId,
        tier: str,
        code: Code,
        devices: Mapping[DeviceId, AttachedDevice],
        ledger: VolumeLedger,
        on_failure: OnFailure,
        *,
        payload_seal: int = VOLUME_PAYLOAD_SEAL,
        preallocate: int = SHARD_PREALLOCATE,
    ) -> None:
        self.code = code
        self._store = store
        self._tier = tier
        self._devices = devices
        self._ledger = ledger
        self._on_failure = on_failure
        self._payload_seal = payload_seal
        self._step = preallocate
        self._volumes: dict[VolumeId, OpenVolume] = {}
        self._current: OpenVolume | None = None
        self._opening = trio.Lock()
        self._sealing: dict[VolumeId, trio.Lock] = {}
        self._failed: dict[DeviceId, DeviceError] = {}
        self._threads = trio.CapacityLimiter(CODING_THREADS)
        self._closed = False

    async def append(
        self,
        payload: Buffer,
        after: Location | None = None,
        placed: Callable[[Location], None] | None = None,
    ) -> Location:
        """Write *payload*, 1 to STRIPE_PAYLOAD_MAX bytes, as one stripe. It is safe only after `sync`.

        The caller keeps *payload* alive and unchanged until then. after: where the same stream's previous stripe lies;
        if that was full, and this one comes to lie directly behind it with cells of the same size, its nonce is the
        next one, and one row can name both. placed: told where the stripe will lie before it is written, for who sends
        several at once.

        Raises: GeometryError; DeviceFull; DeviceFailed; what the ledger raises; StoreClosing.
        """
        cell_size_for(len(payload), self.code)
        await trio.lowlevel.checkpoint_if_cancelled()
        volume = self._accepting() or await self._open_next()
        location, failures = await self._append_to(volume, payload, after, placed)
        if failures:
            raise self._report(volume, failures)
        return location

    async def sync(self, volumes: Collection[VolumeId]) -> None:
        """Return when all appends to *volumes* that finished before the call are on stable storage on every shard.

        Raises: DeviceFailed or DeviceFull, naming the device; then nothing is known of what was not synced before.
        """
        found = [self._volumes[each] for each in set(volumes) if each in self._volumes]  # others are sealed: synced
        if len(found) < 2:  # none, as of every small file: not even a turn of the loop is due
            for volume in found:
                await self._sync_one(volume)
            return
        errors: list[DeviceError] = []
        async with trio.open_nursery() as nursery:
            for volume in found:
                nursery.start_soon(self._sync_collecting, volume, errors)
        if errors:
            raise errors[0]

    async def seal(self, volume: VolumeId) -> None:
        """Take no more appends to *volume*, wait for those under way, write its table of contents, tell the ledger.

        Not an error for one that is sealed already. Raises: DeviceFailed, DeviceFull; what the ledger raises.
        """
        opened = self._volumes.get(volume)
        if opened is None:
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
        the table of contents. Volumes that met an error are left to the next owner.
        """
        for opened in list(self._volumes.values()):
            idle = trio.current_time() - opened.used_at >= idle_s
            if idle and not opened.appending and opened.sealable():
                await self.seal(opened.info.id)

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
                if opened.sealable():
                    await self.seal(opened.info.id)
            except StratumError as error:
                errors.append(error)
            finally:
                opened.close()  # what could not be sealed stays here: a sync of it must fail, not succeed
        if errors:
            raise errors[0]

    @property
    def failed(self) -> Mapping[DeviceId, DeviceError]:
        """Devices that failed a write or a sync, with what they failed by."""
        return self._failed

    def statistics(self) -> dict[str, int]:
        """Open volumes (those waiting for their sealing included) and devices struck out."""
        return {"volumes_open": len(self._volumes), "devices_failed": len(self._failed)}

    def _accepting(self) -> OpenVolume | None:
        current = self._current
        return current if current is not None and current.accepts() else None

    async def _append_to(
        self,
        volume: OpenVolume,
        payload: Buffer,
        after: Location | None,
        placed: Callable[[Location], None] | None,
    ) -> tuple[Location, list[ShardFailure]]:
        if volume.payload + len(payload) >= self._payload_seal and self._current is volume:
            self._current = None  # this one fills it; it is sealed when it has been idle
        return await volume.append(payload, after, self._step, self._threads, placed)

    async def _sync_one(self, volume: OpenVolume) -> None:
        failures = await volume.sync()
        if failures:
            raise self._report(volume, failures)

    async def _sync_collecting(self, volume: OpenVolume, errors: list[DeviceError]) -> None:
        try:
            await self._sync_one(volume)
        except DeviceError as error:
            errors.append(error)

    async def _seal(self, opened: OpenVolume) -> None:
        await opened.wait_quiet()
        if not opened.closed:  # else only the ledger is behind, for it failed the last time
            await self._sync_one(opened)
            entries = await self._ledger.contents(opened.info.id)
            packed = await trio.to_thread.run_sync(toc.pack, entries, limiter=self._threads)
            failures = await opened.finish(packed)
            if failures:
                raise self._report(opened, failures)
        await self._ledger.sealed(opened.info.id, opened.end, opened.stripes)
        del self._volumes[opened.info.id]

    async def _open_next(self) -> OpenVolume:
        async with self._opening:
            found = self._accepting()
            if found is not None:
                return found
            if self._closed:
                raise StoreClosing("the store is closing: no new volumes")
            await self._make_place()
            opened = await self._open()
            self._volumes[opened.info.id] = self._current = opened
            return opened

    async def _make_place(self) -> None:
        """Seal volumes that wait for it, oldest first, until one more may be opened."""
        for opened in list(self._volumes.values()):
            if len(self._volumes) < VOLUMES_OPEN_MAX:
                return
            if opened.sealable():
                await self.seal(opened.info.id)
        if len(self._volumes) >= VOLUMES_OPEN_MAX:
            error = next(iter(self._failed.values()), None)
            raise DeviceFailed(f"too many volumes failed to be written: {error}", error.device if error else "")

    async def _open(self) -> OpenVolume:
        volume = VolumeId(random_id())
        chosen = choose_devices(volume, self.code.n, await self._candidates())
        info = VolumeInfo(volume, self._tier, self.code, chosen)
        devices = [self._devices[each] for each in chosen]
        shards = await self._create(info, devices)
        try:
            await self._ledger.opened(info)
        except BaseException:
            for shard in shards:
                shard.close()  # the files stay, for nobody knows whether the row was written; no row: quarantine
            raise
        return OpenVolume(self._store, info, devices, shards, self._step)

    async def _candidates(self) -> list[Candidate]:
        """Devices that are up and have room for a step of preallocation and one more."""
        up = [device for device in self._devices.values() if device.id not in self._failed]
        if len(up) < self.code.n:
            why = "; ".join(map(str, self._failed.values())) or "the others are not attached"
            label = next((error.device for error in self._failed.values()), "")
            message = f"{len(up)} devices of tier {self._tier} are up, a volume needs {self.code.n}: {why}"
            raise DeviceFailed(message, label)
        found: list[Candidate] = []

        async def ask(device: AttachedDevice) -> None:
            try:
                free = await device.write(device.free)
            except (OSError, DeviceError):
                return  # whoever writes to it will meet the error, and name it
            if free >= 2 * self._step:
                found.append(Candidate(device.id, device.disk, free))

        async with trio.open_nursery() as nursery:
            for device in up:
                nursery.start_soon(ask, device)
        return found

    async def _create(self, info: VolumeInfo, devices: list[AttachedDevice]) -> list[OpenShard]:
        """All shards of a new volume, durable in their folders."""
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
                for index, shard in made.items():
                    shard.close()
                    with trio.CancelScope(shield=True):
                        await devices[index].write(_remove_shard, devices[index], ShardName(info.id, index))
        if failures:
            raise self._note(info, failures)
        return [made[CellIndex(number)] for number in range(len(devices))]

    def _report(self, volume: OpenVolume, failures: list[ShardFailure]) -> DeviceError:
        if self._current is volume:
            self._current = None
        return self._note(volume.info, failures)

    def _note(self, info: VolumeInfo, failures: list[ShardFailure]) -> DeviceError:
        """Strike out the devices that failed (a full one has not), and choose the error that says most."""
        for failure in failures:
            device = info.devices[failure.index]
            if not isinstance(failure.error, DeviceFull) and device not in self._failed:
                self._failed[device] = failure.error
                if self._current is not None and device in self._current.info.devices:
                    self._current = None
                self._on_failure(device, failure.error)
        error = worst(failures)
        assert error is not None
        return type(error)(str(error), error.device)


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


def _remove_shard(device: AttachedDevice, name: ShardName) -> None:
    with contextlib.suppress(StratumError):  # no row names it: else it is quarantined later
        device.shards.unlink(name)
