"""Repairs volumes, one after the other, the most exposed first, and lets devices catch up between them.

What is to be done is found by looking: at the rows (where each shard shall lie), at the devices (what is there), and at
the table ``damage`` (what reads met). So nothing is lost by a stop at any step: the next owner looks again.

A shard whose device is up is made anew on it; one whose device is struck, away or gone on another device of the tier
that holds none of that volume, if there is one. Only when the new file is durable its row is swapped, and only when
that is synced an old file may go. A device comes back when each shard that rows place on it was read, cell by cell, or
made anew, and those that they place elsewhere by now are moved aside.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import structlog
import trio

from stratumfs.catalog.damage import (
    FIRST,
    clear_damage,
    damage_rows,
    move_shard,
    note_damage,
)
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.volumes import OPEN, SEALED, VolumeRow, volume, volumes
from stratumfs.errors import DeviceError, DeviceFailed, DeviceFull, DeviceSilent, ShardMissing, StratumError
from stratumfs.ids import CellIndex, DeviceId, StoreId, VolumeId
from stratumfs.limits import (
    CODING_THREADS,
    DAMAGE_NOTED_MAX,
    REBUILD_READ_S,
    REPAIR_AGAIN_S,
    REPAIR_LOOK_S,
    REPAIR_SURVEY_S,
    TRANSACTION_ROWS_MAX,
    VERIFY_STRIPES,
)
from stratumfs.repair.answer import ask
from stratumfs.repair.fleet import Fleet, Folders, NoFolders
from stratumfs.repair.needs import Needs, needs_of
from stratumfs.repair.put_off import PutOff
from stratumfs.repair.queue import Exposed, RepairQueue
from stratumfs.repair.rebuild import RebuildPlan, Rebuilt, rebuild
from stratumfs.repair.returns import Returns
from stratumfs.repair.rows import volume_info
from stratumfs.repair.seen import Seen
from stratumfs.repair.stripes import Stripes, all_stripes, cells_end, named_stripes
from stratumfs.repair.verify import shard_damage
from stratumfs.shards.layout import ShardName
from stratumfs.volumes import toc
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.format import StripeAt
from stratumfs.volumes.ledger import VolumeLedger
from stratumfs.volumes.placement import Candidate, choose_devices

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Work:
    """What is being done, for status. done, total: bytes of the shards concerned; 0 where that is not known."""

    what: str
    volume: VolumeId | None
    device: str
    done: int = 0
    total: int = 0


class Repairer:
    """One task in the store's nursery; all is done by it but for what others tell: `damaged`, `heed`, `forget`.

    known  damaged shards: what the table says, and what was heard of since
    seen   which files are missing
    put_off  volumes that could not be repaired, and when they are tried again
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
        self.seen = Seen()
        self.queue = RepairQueue()
        self.work: Work | None = None
        self._store, self._catalog, self._fleet, self._ledger = store, catalog, fleet, ledger
        self._seal, self._moved, self.folders = seal, moved, folders or NoFolders()
        self._heard: dict[tuple[VolumeId, CellIndex], str] = {}
        self._wake = trio.Event()
        self._surveyed_at = float("-inf")
        self.returns = Returns(catalog, fleet, self._catch_up_shard)
        self.put_off = PutOff()
        self._up: set[DeviceId] = set()
        self._settled: list[trio.Event] = []
        self._looking: set[trio.Event] = set()
        self._threads = trio.CapacityLimiter(CODING_THREADS)

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
        self.returns.heed(device)
        self.look_soon()

    def look_soon(self) -> None:
        """Something changed about devices: look at all volumes again."""
        self._surveyed_at = float("-inf")
        self._wake.set()

    def forget(self, ident: VolumeId) -> None:
        """A volume that nothing named is gone from the catalog, too."""
        self.known = {shard for shard in self.known if shard[0] != ident}
        self._heard = {shard: reason for shard, reason in self._heard.items() if shard[0] != ident}
        self.seen.forget(ident)
        self.queue.drop(ident)
        self.put_off.drop(ident)

    async def wait_looked(self) -> None:
        """Return when a look at all volumes that begins after this call has ended, or has failed."""
        event = trio.Event()
        self._looking.add(event)
        self.look_soon()
        try:
            await event.wait()
        finally:
            self._looking.discard(event)

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
            except Exception as error:  # of one volume or device: the store goes on
                unforeseen = None if isinstance(error, StratumError) else error
                _log.warning("repair stopped, and goes on later", error=str(error), exc_info=unforeseen)
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
            if self._is_survey_due():
                await self._survey()  # what cannot be mended can be said
            return
        await self._offer_again()
        while True:
            self._wake = trio.Event()
            await self._note_damage()
            await self._check_folders()
            await self.returns.look(self.folders)
            if self._is_survey_due() or (self.queue.more and not len(self.queue)):
                await self._survey()
            if not len(self.queue) and self.returns.under_way is None:
                return
            await self._work_off()

    async def _work_off(self) -> None:
        """Repair volumes, and between two of them let a device catch up by a shard, but for volumes that the next loss
        would destroy: these follow one another. Until nothing is left, or it is time to look again."""
        until = trio.current_time() + REPAIR_LOOK_S
        while len(self.queue) or self.returns.under_way is not None:
            exposed = self.queue.pop() if len(self.queue) else None
            if exposed is not None:
                await self._repair(exposed)
            if self.returns.under_way is not None and (exposed is None or exposed.margin > 0):
                await self._catch_up()
            if self._wake.is_set() or trio.current_time() >= until:
                return

    # Finding what is to be done

    async def _note_damage(self) -> None:
        while self._heard:
            chunk = list(self._heard.items())[:TRANSACTION_ROWS_MAX]
            rows = tuple((*shard, reason) for shard, reason in chunk)
            await self._catalog.write(note_damage, rows, time.time_ns())
            for shard, _ in chunk:
                self._heard.pop(shard, None)
            idents = {ident for (ident, _), _ in chunk}
            rows_of = {ident: await self._catalog.read(volume, ident) for ident in idents}
            self.known = {shard for shard in self.known if rows_of.get(shard[0], shard) is not None}
            await self._offer([row for row in rows_of.values() if row is not None])

    async def _check_folders(self) -> None:
        """Strike devices that are up and whose folders are theirs no more: emptied, or their disk unmounted."""
        for device in list(self._fleet.devices.values()):
            if device.struck is None:
                try:
                    await ask(device, self.folders.check, device.id)
                except DeviceSilent:
                    continue  # a hang is for others to judge; and where this process could not ask, nobody knows
                except DeviceError as error:
                    with trio.CancelScope(shield=True):
                        await self._fleet.strike(device.id, DeviceFailed(str(error), device.label))

    def _is_survey_due(self) -> bool:
        age_s = trio.current_time() - self._surveyed_at
        devices = self._fleet.devices
        answers = any(each in devices and not devices[each].stalled(REBUILD_READ_S) for each in self.seen.silent)
        return age_s >= (REPAIR_AGAIN_S if answers else REPAIR_SURVEY_S)

    async def _survey(self) -> None:
        """Look at every volume, also at one that no row names yet: by rows, and by whether the files are there."""
        looking, self._looking = self._looking, set()
        try:
            await self._look_at_all()
        finally:
            for event in looking:
                event.set()

    async def _look_at_all(self) -> None:
        self._surveyed_at = began = trio.current_time()
        self.queue.more = False
        up = {each.id for each in self._fleet.devices.values() if each.struck is None}
        if up != self._up:
            self._up = up
            self.put_off.hurry(self._surveyed_at)
        silent: set[DeviceId] = set()
        for state in (OPEN, SEALED):
            after = b""
            while rows := await self._catalog.read(volumes, state, after, TRANSACTION_ROWS_MAX):
                after = rows[-1].id
                await self._offer(rows, silent)
        self.seen.looked(silent, trio.current_time() - began)

    async def _offer(self, rows: Sequence[VolumeRow], silent: set[DeviceId] | None = None) -> None:
        now = trio.current_time()
        for row, needs in await self._needs(rows, silent if silent is not None else set()):
            if self.put_off.waits(row.id, now):
                self.queue.drop(row.id)
            elif needs.can_be_met(self._fleet.taking(row.tier), row):
                self.queue.offer(Exposed(row.id, row.m - needs.count, row.created_ns))
            else:
                self.queue.drop(row.id)
                self.put_off.drop(row.id)

    async def _offer_again(self) -> None:
        """Volumes that were put off, and whose time has come."""
        due = self.put_off.due(trio.current_time())
        for start in range(0, len(due), TRANSACTION_ROWS_MAX):
            rows = [(ident, await self._catalog.read(volume, ident)) for ident in due[start:][:TRANSACTION_ROWS_MAX]]
            for ident, row in rows:
                if row is None:
                    self.put_off.drop(ident)
            await self._offer([row for _, row in rows if row is not None])

    async def _needs(self, rows: Sequence[VolumeRow], silent: set[DeviceId]) -> list[tuple[VolumeRow, Needs]]:
        found = await needs_of(self._fleet, rows, silent, self.known)
        for row, needs in found:
            self.seen.note(row.id, needs.missing)
        return found

    # Repairing one volume

    async def _repair(self, exposed: Exposed) -> None:
        row = await self._sealed(exposed.volume)
        if row is None:
            return
        [(row, needs)] = await self._needs([row], set())
        targets, left = await self._targets(row, needs)
        if targets:
            self.work = Work("rebuild", row.id, ", ".join(each.label for each in targets.values()))
            margin = max(0, min(row.m, row.m - needs.count))
            result = await self._rebuild(row, targets, margin)
            await self._settle(row, targets, result)
            left |= result.silent | {cell for cell, error in result.failures.items() if isinstance(error, DeviceSilent)}
            if result.lost:  # until a device is back that has more of it
                left |= targets.keys()
        self._try_again(row, left)
        self.work = None

    async def _sealed(self, ident: VolumeId) -> VolumeRow | None:
        """Its row, if it is sealed, or can be."""
        row = await self._catalog.read(volume, ident)
        if row is not None and row.state == OPEN:
            await self._seal(ident)
            row = await self._catalog.read(volume, ident)
        return row if row is not None and row.state == SEALED else None

    def _try_again(self, row: VolumeRow, left: Collection[CellIndex]) -> None:
        """Later, if some shards are *left*: they could not be made, or nobody knows whether they are bad."""
        if left:
            wait_s = self.put_off.put_off(row.id, trio.current_time())
            _log.warning("repair_put_off", volume=row.id.hex(), cells=sorted(left), seconds=wait_s)
        else:
            self.put_off.drop(row.id)

    async def _targets(self, row: VolumeRow, needs: Needs) -> tuple[dict[CellIndex, AttachedDevice], set[CellIndex]]:
        """Where each shard that is not as it should be shall be made; those that turn out sound are no longer known.
        And those whose devices did not say."""
        silent: set[CellIndex] = set()
        here = self._fleet.devices  # asked again after each wait: one may be replaced meanwhile
        targets = {cell: here[row.devices[cell]] for cell in needs.missing if row.devices[cell] in here}
        if needs.doubted:
            stripes, _ = await self._stripes(row)
            for cell in needs.doubted:
                device = here.get(row.devices[cell])
                if device is None:
                    continue
                try:
                    if await self._is_bad(row, cell, device, stripes.found):
                        targets[cell] = device
                    elif stripes.silent:
                        silent.add(cell)
                    else:
                        await self._forget(row.id, [cell])
                except DeviceSilent:
                    silent.add(cell)
        back = set(self._fleet.struck)  # may come back with what they hold: those that never will come first
        targets.update(await self._new_homes(row, sorted(needs.homeless, key=lambda at: (row.devices[at] in back, at))))
        return targets, silent

    async def _is_bad(
        self, row: VolumeRow, cell: CellIndex, device: AttachedDevice, stripes: Sequence[StripeAt]
    ) -> bool:
        """Whether it lacks a cell of *stripes*, of which some have no row yet: a mount reads those, too.

        Raises: DeviceSilent.
        """
        for start in range(0, max(1, len(stripes)), VERIFY_STRIPES):
            part = stripes[start : start + VERIFY_STRIPES]
            try:
                if (
                    await ask(device, shard_damage, device.shards, self._store, volume_info(row), cell, part)
                    is not None
                ):
                    return True
            except DeviceSilent:
                raise
            except (ShardMissing, DeviceError):
                return True  # what cannot be read is made anew; if that fails too, the device is struck
        return False

    async def _new_homes(self, row: VolumeRow, cells: list[CellIndex]) -> dict[CellIndex, AttachedDevice]:
        spare = {each.id: each for each in self._fleet.taking(row.tier) if each.id not in row.devices}
        candidates = []
        for device in spare.values():
            try:
                free = await ask(device, device.free)
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
        stripes, length = await self._stripes(row, targets.values())
        if stripes.silent:
            return Rebuilt(silent=set(stripes.silent))
        packed = await trio.to_thread.run_sync(toc.pack, await self._ledger.contents(row.id), limiter=self._threads)
        named = partial(named_stripes, self._catalog, row.id)
        plan = RebuildPlan(self._store, volume_info(row), stripes.found, named, length, targets, packed)
        work = self.work
        if work is not None:
            work.total = length * len(targets)

        async def pace(seconds: float, written: int) -> None:
            # The doors come first, but for a volume that the next loss would destroy.
            if work is not None:
                work.done += written
            await trio.sleep(seconds * margin)

        async def lacks(cells: Collection[CellIndex]) -> None:
            # Before the files are in their places: a look at the devices would find nothing amiss.
            await self._note(row, cells, "stripes of it are lost")

        return await rebuild(plan, self._fleet.devices, self._threads, pace, lacks)

    async def _settle(self, row: VolumeRow, targets: Mapping[CellIndex, AttachedDevice], result: Rebuilt) -> None:
        """Make what was built count, and see to what failed."""
        whole = not result.lost
        for cell in sorted(result.installed):
            self.seen.made(row.id, cell)
            if targets[cell].id != row.devices[cell]:
                await self._swap(row, cell, targets[cell], whole)
            elif whole:
                await self._forget(row.id, [cell])
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
            elif not isinstance(error, DeviceSilent):  # nobody could ask it: that is tried again
                await self._fleet.strike(targets[cell].id, error)

    async def _swap(self, row: VolumeRow, cell: CellIndex, target: AttachedDevice, whole: bool) -> None:
        before = row.devices[cell]
        name = ShardName(row.id, cell)
        if not await self._catalog.commit(move_shard, row.id, cell, before, target.id, whole):
            await target.write(target.shards.quarantine, [name])  # the volume went meanwhile
            return
        if whole:
            self.known.discard((row.id, cell))
        self._moved(row.id)  # what the old device has is moved aside when it comes back

    async def _note(self, row: VolumeRow, cells: Collection[CellIndex], reason: str) -> None:
        """These are damaged, and that is for the table alone: whoever says so has just tried to mend them."""
        await self._catalog.write(note_damage, tuple((row.id, cell, reason) for cell in cells), time.time_ns())
        self.known.update((row.id, cell) for cell in cells)

    async def _forget(self, ident: VolumeId, cells: list[CellIndex]) -> None:
        for cell in cells:
            self._heard.pop((ident, cell), None)
        await self._catalog.write(clear_damage, ident, tuple(cells))
        self.known -= {(ident, cell) for cell in cells}

    async def _stripes(self, row: VolumeRow, opened: Iterable[AttachedDevice] = ()) -> tuple[Stripes, int]:
        """All that lie in a sealed volume, and where they end. opened: devices that come back, as they are now."""
        named = await named_stripes(self._catalog, row.id)
        end = cells_end(row.length, named)
        devices = {**self._fleet.devices, **{each.id: each for each in opened}}
        return await all_stripes(self._store, volume_info(row), named, end, devices), end

    # Taking devices back

    async def _catch_up(self) -> None:
        device = self.returns.under_way
        assert device is not None
        self.work = Work("catch up", None, device.label)
        if await self.returns.step():
            self.look_soon()
        self.work = None

    async def _catch_up_shard(self, device: AttachedDevice, ident: VolumeId, cell: CellIndex) -> None:
        """Verify one shard on a device that is not up yet, and make it anew if it is bad or missing.

        Raises: DeviceError if the device fails in this.
        """
        row = await self._sealed(ident)
        if row is None or row.devices[cell] != device.id:
            return
        stripes, _ = await self._stripes(row, [device])
        if not await self._is_bad(row, cell, device, stripes.found):
            if stripes.silent:
                await self._note(row, [cell], "nobody could say whether it is whole")
            else:
                await self._forget(ident, [cell])
            return
        result = await self._rebuild(row, {cell: device}, row.m)
        for error in result.failures.values():
            raise error
        await self._settle(row, {cell: device}, result)
        self._try_again(row, result.silent)
        if cell not in result.installed:
            await self._note(row, [cell], "it could not be made anew")
