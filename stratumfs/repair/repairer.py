"""Repairs volumes, one after the other, and takes devices back that were struck.

What is to be done is found by looking: at the rows (where each shard shall lie), at the devices (what is there), and at
the table ``damage`` (what reads met). So nothing is lost by a stop at any step: the next owner looks again.

A shard whose device is up is made anew on it; one whose device is struck, away or gone on another device of the tier
that holds none of that volume, if there is one. Only when the new file is durable its row is swapped, and only when
that is synced an old file may go. A device comes back when each shard that rows place on it was read, cell by cell, or
made anew, and those that they place elsewhere by now are moved aside.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
import trio

from stratumfs.catalog.damage import (
    FIRST,
    clear_damage,
    damage_rows,
    move_shard,
    note_damage,
    shards_on,
)
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.volumes import OPEN, SEALED, VolumeRow, readable_extents_in, volume, volumes
from stratumfs.erasure.code import Code
from stratumfs.errors import AnotherHistory, DeviceError, DeviceFailed, DeviceFull, ShardMissing, StratumError
from stratumfs.ids import CellIndex, DeviceId, StoreId, StripeNo, VolumeId
from stratumfs.limits import (
    CODING_THREADS,
    DAMAGE_NOTED_MAX,
    REBUILD_READ_S,
    REPAIR_LOOK_S,
    REPAIR_RETURN_S,
    REPAIR_SURVEY_S,
    TRANSACTION_ROWS_MAX,
)
from stratumfs.repair.quarantine import quarantine_unknown
from stratumfs.repair.queue import Exposed, RepairQueue
from stratumfs.repair.rebuild import RebuildPlan, Rebuilt, rebuild
from stratumfs.repair.stripes import all_stripes
from stratumfs.repair.verify import shard_damage
from stratumfs.shards.layout import ShardName
from stratumfs.volumes import toc
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.format import StripeAt, VolumeInfo, stripes_of
from stratumfs.volumes.ledger import VolumeLedger
from stratumfs.volumes.placement import Candidate, choose_devices
from stratumfs.volumes.presence import shards_present

_log = structlog.get_logger(__name__)


class Fleet(Protocol):
    """What repair wants of whoever knows the devices' states."""

    @property
    def devices(self) -> Mapping[DeviceId, AttachedDevice]: ...
    @property
    def struck(self) -> list[DeviceId]:
        """Those that are not up, and may come back."""
        ...

    def up(self, tier: str) -> list[AttachedDevice]: ...
    def taking(self, tier: str) -> list[AttachedDevice]: ...
    def full(self, device: DeviceId, error: DeviceError) -> None: ...
    def refuse(self, device: DeviceId, error: DeviceError) -> None: ...
    async def strike(self, device: DeviceId, error: DeviceError) -> None: ...
    async def restore(self, device: AttachedDevice) -> None:
        """It takes writes again, durably, by this object from now on."""
        ...


class Folders(Protocol):
    """Looks at the folders of devices. Blocking."""

    def check(self, device: DeviceId) -> None:
        """Raises: DeviceError if its folder is not this device any more."""
        ...

    def reopen(self, device: DeviceId) -> AttachedDevice:
        """A device that was struck or away, opened anew: its disk may be another mount by now.

        Raises: DeviceError if it is not there, does not take writes, or is locked by somebody; AnotherHistory.
        """
        ...


class NoFolders:
    """Of a store whose devices are what they are."""

    def check(self, device: DeviceId) -> None:
        pass

    def reopen(self, device: DeviceId) -> AttachedDevice:
        raise DeviceFailed("nobody can open it again")


@dataclass(slots=True)
class Work:
    """What is being done, for status. done, total: bytes of the shards concerned; 0 where that is not known."""

    what: str
    volume: VolumeId | None
    device: str
    done: int = 0
    total: int = 0


class Repairer:
    """One task in the store's nursery; everything here is done by it but for `damaged` and `heed`, which only note.

    known  damaged shards: what the table says, and what was heard of since
    seal   seals a volume that is open, if it can be
    moved  told of each volume whose devices changed
    """

    def __init__(
        self,
        store: StoreId,
        catalog: Catalog,
        fleet: Fleet,
        ledger: VolumeLedger,
        *,
        seal: Callable[[VolumeId], Awaitable[None]],
        moved: Callable[[VolumeId], None],
        folders: Folders | None = None,
    ) -> None:
        self.known: set[tuple[VolumeId, CellIndex]] = set()
        self.queue = RepairQueue()
        self.work: Work | None = None
        self._store, self._catalog, self._fleet, self._ledger = store, catalog, fleet, ledger
        self._seal, self._moved, self.folders = seal, moved, folders or NoFolders()
        self._heard: dict[tuple[VolumeId, CellIndex], str] = {}
        self._wake = trio.Event()
        self._surveyed_at = float("-inf")
        self._returns: dict[DeviceId, int] = {}
        self._not_before: dict[DeviceId, float] = {}
        self._settled: list[trio.Event] = []
        self._threads = trio.CapacityLimiter(CODING_THREADS)
        self._looking = trio.CapacityLimiter(4)

    def damaged(self, ident: VolumeId, index: CellIndex, reason: str) -> bool:
        """A read met a bad or missing cell. Returns whether that is news. Never waits."""
        shard = (ident, index)
        if shard in self.known or len(self._heard) >= DAMAGE_NOTED_MAX:
            return False  # what is left out is met again
        self.known.add(shard)
        self._heard[shard] = reason
        self._wake.set()
        return True

    def heed(self, device: DeviceId) -> None:
        """A device was struck, or errs: look at everything."""
        if device in self._fleet.struck:
            delay = REPAIR_RETURN_S * 2 ** min(self._returns.get(device, 0), 10)
            self._not_before.setdefault(device, trio.current_time() + delay)
        self.look_soon()

    def look_soon(self) -> None:
        """Something changed about devices: look at all volumes again."""
        self._surveyed_at = float("-inf")
        self._wake.set()

    async def wait_settled(self) -> None:
        """Return when a look that begins after this call has found nothing that can be done, or has failed."""
        event = trio.Event()
        self._settled.append(event)
        self.look_soon()
        await event.wait()

    async def serve(self) -> None:
        """Until cancelled. An error is logged and tried again later."""
        await self.recall()
        while True:
            settled, self._settled = self._settled, []
            try:
                await self.round()
            except StratumError as error:
                _log.warning("repair stopped, and goes on later", error=str(error))
            finally:
                self.work = None
                for event in settled:
                    event.set()
            if not self._settled:  # who asked in the middle of a round wants another one
                with trio.move_on_after(REPAIR_LOOK_S):
                    await self._wake.wait()

    async def recall(self) -> None:
        """Learn what earlier owners knew."""
        after = FIRST
        while rows := await self._catalog.read(damage_rows, after):
            self.known.update((row.volume, row.cell) for row in rows)
            after = (rows[-1].volume, rows[-1].cell)

    async def round(self) -> None:
        """Look, and do all that can be done now."""
        if self._catalog.read_only:
            return
        while True:
            self._wake = trio.Event()
            await self._note_damage()
            await self._check_folders()
            await self._take_back()
            if trio.current_time() - self._surveyed_at >= REPAIR_SURVEY_S or (self.queue.more and not len(self.queue)):
                await self._survey()
            if not len(self.queue):
                return
            while len(self.queue) and not self._wake.is_set():
                await self._repair(self.queue.pop())

    # Finding what is to be done

    async def _note_damage(self) -> None:
        while self._heard:
            chunk = list(self._heard.items())[:TRANSACTION_ROWS_MAX]
            rows = tuple((*shard, reason) for shard, reason in chunk)
            await self._catalog.write(note_damage, rows, time.time_ns())
            for shard, _ in chunk:
                del self._heard[shard]
            idents = {ident for (ident, _), _ in chunk}
            rows_of = {ident: await self._catalog.read(volume, ident) for ident in idents}
            self.known = {shard for shard in self.known if rows_of.get(shard[0], shard) is not None}
            await self._offer([row for row in rows_of.values() if row is not None])

    async def _check_folders(self) -> None:
        """Strike devices that are up and whose folders are theirs no more: emptied, or their disk unmounted."""
        for device in list(self._fleet.devices.values()):
            if device.struck is None:
                with trio.move_on_after(REBUILD_READ_S):  # a hang is for others to judge
                    try:
                        await device.read(self.folders.check, device.id)
                    except DeviceError as error:
                        with trio.CancelScope(shield=True):
                            await self._fleet.strike(device.id, DeviceFailed(str(error), device.label))

    async def _survey(self) -> None:
        """Look at every volume, also at one that no row names yet: by rows, and by whether the files are there."""
        self._surveyed_at = trio.current_time()
        self.queue.more = False
        for state in (OPEN, SEALED):
            after = b""
            while rows := await self._catalog.read(volumes, state, after, TRANSACTION_ROWS_MAX):
                after = rows[-1].id
                await self._offer(rows)

    async def _offer(self, rows: Sequence[VolumeRow]) -> None:
        for row, needs in await self._needs(rows):
            if needs.can_be_met(self._fleet.taking(row.tier), row):
                self.queue.offer(Exposed(row.id, row.m - needs.count, row.created_ns))
            else:
                self.queue.drop(row.id)

    async def _needs(self, rows: Sequence[VolumeRow]) -> "list[tuple[VolumeRow, _Needs]]":
        """What each of a chunk of volumes lacks."""
        up = {each.id: each for tier in {row.tier for row in rows} for each in self._fleet.up(tier)}
        present, silent = await shards_present(up, [_info(row) for row in rows], REBUILD_READ_S)
        found = []
        for row in rows:
            needs = _Needs(set(), set(), set())
            for number, ident in enumerate(row.devices):
                cell = CellIndex(number)
                if ident not in up:
                    needs.homeless.add(cell)
                elif cell not in present[row.id] and ident not in silent:
                    needs.missing.add(cell)
                elif (row.id, cell) in self.known:
                    needs.doubted.add(cell)
            found.append((row, needs))
        return found

    # Repairing one volume

    async def _repair(self, exposed: Exposed) -> None:
        row = await self._catalog.read(volume, exposed.volume)
        if row is not None and row.state == OPEN:
            await self._seal(row.id)
            row = await self._catalog.read(volume, exposed.volume)
        if row is None or row.state != SEALED:
            return
        [(row, needs)] = await self._needs([row])
        targets = await self._targets(row, needs)
        if targets:
            self.work = Work("rebuild", row.id, ", ".join(each.label for each in targets.values()))
            margin = max(0, min(row.m, row.m - needs.count))
            await self._settle(row, targets, await self._rebuild(row, targets, margin))
        self.work = None

    async def _targets(self, row: VolumeRow, needs: "_Needs") -> dict[CellIndex, AttachedDevice]:
        """Where each shard that is not as it should be shall be made; those that turn out sound are no longer known."""
        devices = self._fleet.devices
        targets = {cell: devices[row.devices[cell]] for cell in needs.missing}
        doubted = {cell: devices[row.devices[cell]] for cell in needs.doubted}
        if doubted:
            named = await self._named(row)
            for cell, device in doubted.items():
                if await self._is_bad(row, cell, device, named):
                    targets[cell] = device
                else:
                    await self._forget(row.id, [cell])
        back = set(self._fleet.struck)  # may come back with what they hold: those that never will come first
        targets.update(await self._new_homes(row, sorted(needs.homeless, key=lambda at: (row.devices[at] in back, at))))
        return targets

    async def _is_bad(self, row: VolumeRow, cell: CellIndex, device: AttachedDevice, named: Iterable[StripeAt]) -> bool:
        try:
            found = await device.read(shard_damage, device.shards, self._store, _info(row), cell, tuple(named))
        except (ShardMissing, DeviceError):
            return True  # what cannot be read is made anew; if that fails too, the device is struck
        return found is not None

    async def _new_homes(self, row: VolumeRow, cells: list[CellIndex]) -> dict[CellIndex, AttachedDevice]:
        spare = {each.id: each for each in self._fleet.taking(row.tier) if each.id not in row.devices}
        candidates = []
        for device in spare.values():
            try:
                free = await device.read(device.free)
            except DeviceError:
                continue
            if free > 2 * row.length:
                candidates.append(Candidate(device.id, device.disk, free))
        number = min(len(cells), len(candidates))
        if not number:
            return {}
        used = [each.disk for ident, each in self._fleet.devices.items() if ident in row.devices and not each.struck]
        chosen = choose_devices(row.id, number, candidates, used)
        return {cell: spare[ident] for cell, ident in zip(cells, chosen, strict=False)}

    async def _rebuild(self, row: VolumeRow, targets: Mapping[CellIndex, AttachedDevice], margin: int) -> Rebuilt:
        info = _info(row)
        named = await self._named(row)
        sources = [CellIndex(at) for at in range(row.k + row.m) if CellIndex(at) not in targets]
        stripes = await all_stripes(self._store, info, named, row.length, self._fleet.devices, sources)
        packed = await trio.to_thread.run_sync(toc.pack, await self._ledger.contents(row.id), limiter=self._threads)
        names = frozenset(StripeNo(at.stripe) for at in named)
        plan = RebuildPlan(self._store, info, stripes, names, row.length, targets, packed)
        work = self.work
        if work is not None:
            work.total = row.length * len(targets)

        async def pace(seconds: float, written: int) -> None:
            # The doors come first, but for a volume that the next loss would destroy.
            if work is not None:
                work.done += written
            await trio.sleep(seconds * margin)

        return await rebuild(plan, self._fleet.devices, self._threads, pace)

    async def _settle(self, row: VolumeRow, targets: Mapping[CellIndex, AttachedDevice], result: Rebuilt) -> None:
        """Make what was built count, and see to what failed."""
        for cell in sorted(result.installed):
            if targets[cell].id == row.devices[cell]:
                await self._forget(row.id, [cell])
            else:
                await self._swap(row, cell, targets[cell])
        if result.installed:
            _log.info("shards_rebuilt", volume=row.id.hex(), cells=sorted(result.installed))
        if result.lost:
            _log.error("stripes_lost", volume=row.id.hex(), stripes=[at.stripe for at in result.lost])
        for cell, reason in result.bad.items():
            self.damaged(row.id, cell, reason)
        for cell, error in result.failures.items():
            _log.warning("shard_not_rebuilt", volume=row.id.hex(), cell=cell, error=str(error))
            if isinstance(error, DeviceFull):
                self._fleet.full(targets[cell].id, error)
            else:
                await self._fleet.strike(targets[cell].id, error)

    async def _swap(self, row: VolumeRow, cell: CellIndex, target: AttachedDevice) -> None:
        before = row.devices[cell]
        name = ShardName(row.id, cell)
        if not await self._catalog.commit(move_shard, row.id, cell, before, target.id):
            await target.write(target.shards.quarantine, [name])  # the volume went meanwhile
            return
        self.known.discard((row.id, cell))
        self._moved(row.id)
        old = self._fleet.devices.get(before)
        if old is not None and old.struck is None:
            await old.write(old.shards.unlink, name)

    async def _forget(self, ident: VolumeId, cells: list[CellIndex]) -> None:
        for cell in cells:
            self._heard.pop((ident, cell), None)
        await self._catalog.write(clear_damage, ident, tuple(cells))
        self.known -= {(ident, cell) for cell in cells}

    async def _named(self, row: VolumeRow) -> list[StripeAt]:
        found: dict[int, StripeAt] = {}
        after: tuple[int, int] | None = (-1, -1)
        while after is not None:
            chunk, after = await self._catalog.read(readable_extents_in, row.id, after, TRANSACTION_ROWS_MAX)
            for extent in chunk:
                assert extent.location is not None
                found.update((at.position, at) for at in stripes_of(extent.location, extent.length))
            await trio.lowlevel.checkpoint()
        return [found[position] for position in sorted(found)]

    # Taking devices back

    async def _take_back(self) -> None:
        for ident in self._fleet.struck:
            if self._not_before.get(ident, float("-inf")) > trio.current_time():
                continue
            with trio.move_on_after(REBUILD_READ_S) as waiting:
                try:
                    fresh = await trio.to_thread.run_sync(
                        self.folders.reopen, ident, limiter=self._looking, abandon_on_cancel=True
                    )
                except AnotherHistory as error:
                    self._fleet.refuse(ident, error)
                    continue
                except DeviceError:
                    continue
            if waiting.cancelled_caught:
                continue
            try:
                await self._catch_up(fresh)
            except DeviceError as error:
                _log.warning("device_not_caught_up", device=fresh.label, error=str(error))
                self._not_before.pop(ident, None)
                self._returns[ident] = self._returns.get(ident, 0) + 1
                self.heed(ident)

    async def _catch_up(self, fresh: AttachedDevice) -> None:
        """Verify each shard that shall lie on the device, make anew what is bad or missing; then it is up.

        Raises: DeviceError if it fails in this.
        """
        _log.info("device_catches_up", device=fresh.label)
        self.work = Work("catch up", None, fresh.label)
        await fresh.write(fresh.shards.drop_unfinished)
        after: VolumeId | bytes = b""
        while chunk := await self._catalog.read(shards_on, fresh.id, after):
            after = chunk[-1][0]
            for ident, cell in chunk:
                await self._catch_up_shard(fresh, ident, cell)
        for error in (await quarantine_unknown(self._catalog, {fresh.id: fresh})).values():
            raise error
        await self._fleet.restore(fresh)
        self._returns[fresh.id] = self._returns.get(fresh.id, 0) + 1
        self._not_before.pop(fresh.id, None)
        self.look_soon()
        self.work = None
        _log.info("device_caught_up", device=fresh.label)

    async def _catch_up_shard(self, fresh: AttachedDevice, ident: VolumeId, cell: CellIndex) -> None:
        row = await self._catalog.read(volume, ident)
        if row is not None and row.state == OPEN:
            await self._seal(ident)
            row = await self._catalog.read(volume, ident)
        if row is None or row.state != SEALED:
            return
        if not await self._is_bad(row, cell, fresh, await self._named(row)):
            await self._forget(ident, [cell])
            return
        result = await self._rebuild(row, {cell: fresh}, row.m)
        for error in result.failures.values():
            raise error
        await self._settle(row, {cell: fresh}, result)


@dataclass(frozen=True, slots=True)
class _Needs:
    """missing: their device is up, their file is not there; doubted: a read met a bad cell; homeless: their device is
    not up."""

    missing: set[CellIndex]
    doubted: set[CellIndex]
    homeless: set[CellIndex]

    @property
    def count(self) -> int:
        return len(self.missing) + len(self.doubted) + len(self.homeless)

    def can_be_met(self, taking: Iterable[AttachedDevice], row: VolumeRow) -> bool:
        """Whether anything can be done now: where no device is spare, homeless shards wait for one."""
        if self.missing or self.doubted:
            return True
        return bool(self.homeless) and any(each.id not in row.devices for each in taking)


def _info(row: VolumeRow) -> VolumeInfo:
    return VolumeInfo(row.id, row.tier, Code(row.k, row.m), row.devices)
