"""Repairs volumes, the most exposed first, and lets devices catch up between them.

What is to be done is found by looking: at the rows (where each shard shall lie), at the devices (what is there), and at
the table ``damage`` (what reads met). So nothing is lost by a stop at any step: the next owner looks again.

A shard whose device is up is made anew on it; one whose device is struck, away, gone or drained on another device of
the tier that holds none of that volume, if there is one. Only when the new file is durable its row is swapped, and only
when that is synced an old file may go. A device comes back when each shard that rows place on it was read, cell by
cell, or made anew, and those that they place elsewhere by now are moved aside.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

import structlog
import trio

from stratumfs.catalog.damage import FIRST, clear_damage, damage_rows, move_shard, note_damage, note_rebuilt
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.held import held
from stratumfs.catalog.volumes import FREED, OPEN, SEALED, VolumeRow, volume, volumes
from stratumfs.errors import DeviceFull, DeviceSilent, StratumError
from stratumfs.ids import CellIndex, DeviceId, StoreId, VolumeId
from stratumfs.limits import (
    DAMAGE_NOTED_MAX,
    NEVER_NS,
    REBUILD_READ_S,
    REBUILD_THREADS,
    REBUILDS_MAX,
    REPAIR_AGAIN_S,
    REPAIR_LOOK_S,
    REPAIR_SURVEY_S,
    TRANSACTION_ROWS_MAX,
)
from stratumfs.repair.away import strike_away
from stratumfs.repair.fleet import Fleet, Folders, NoFolders
from stratumfs.repair.homes import new_homes
from stratumfs.repair.look import what_is_wrong
from stratumfs.repair.needs import Needs, needs_of
from stratumfs.repair.paced import Doors, rest_s
from stratumfs.repair.put_off import PutOff
from stratumfs.repair.quarantine import set_aside
from stratumfs.repair.queue import Exposed, RepairQueue
from stratumfs.repair.rebuild import RebuildPlan, Rebuilt, rebuild
from stratumfs.repair.remaking import Remaking
from stratumfs.repair.returns import Returns
from stratumfs.repair.rows import volume_info
from stratumfs.repair.seen import Seen
from stratumfs.repair.stripes import Stripes, named_stripes, sealed_stripes
from stratumfs.repair.waiters import Waiters
from stratumfs.repair.work import Work, Works
from stratumfs.shards.layout import ShardName
from stratumfs.volumes import toc
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.ledger import VolumeLedger
from stratumfs.volumes.threads import LendingThreads

_log = structlog.get_logger(__name__)


class Repairer:
    """One task in the store's nursery; all is done by it but for what others tell: `damaged`, `heed`, `forget`.

    known  damaged shards: what the table says, and what was heard of since
    seen   which files are missing
    put_off  volumes that could not be repaired, and when they are tried again
    remaking  who makes shards of a volume: one that moves to another tier is put off
    seal   seals a volume that is open, if it can be
    moved  told of each volume whose devices changed
    accesses  counts what the doors are asked for: who sees it move leaves them the devices
    kept_since_ns  volumes that were freed since then are kept for backups, and repaired behind all others
    """

    def __init__(
        self,
        store: StoreId,
        catalog: Catalog,
        fleet: Fleet,
        ledger: VolumeLedger,
        *,
        remaking: Remaking | None = None,
        seal: Callable[[VolumeId], Awaitable[None]],
        moved: Callable[[VolumeId], None],
        folders: Folders | None = None,
        accesses: Callable[[], int] = lambda: 0,
        kept_since_ns: Callable[[], int] = lambda: NEVER_NS,
    ) -> None:
        self.known: set[tuple[VolumeId, CellIndex]] = set()
        self.seen = Seen()
        self.queue = RepairQueue()
        self.works = Works()
        self._store, self._catalog, self._fleet, self._ledger = store, catalog, fleet, ledger
        self._seal, self._moved, self.folders = seal, moved, folders or NoFolders()
        self._accesses, self._doors = accesses, Doors(accesses)
        self._kept_since_ns = kept_since_ns
        self._remaking = remaking or Remaking()
        self._catching_up = Work("catch up", None, "")
        self._heard: dict[tuple[VolumeId, CellIndex], str] = {}
        self._wake = trio.Event()
        self._surveyed_at = float("-inf")
        self.returns, self.put_off = Returns(catalog, fleet, self._catch_up_shard), PutOff()
        self._up: set[DeviceId] = set()
        self._settled, self._looking = Waiters(), Waiters()
        self._threads = LendingThreads(REBUILD_THREADS)
        self._turn = trio.Lock()  # of who makes shards anew

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
        await self._looking.wait(self.look_soon)

    async def wait_settled(self) -> None:
        """Return when a look that begins after this call has found nothing that can be done, or has failed."""
        await self._settled.wait(self.look_soon)

    async def mend(self, ident: VolumeId) -> None:
        """Return when all was done for a volume that can be done now, before all others that wait."""
        async with self._turn:
            await self._note_damage()
            self.queue.drop(ident)
            await self._repair(Exposed(ident, 0, 0))

    async def serve(self) -> None:
        """Until cancelled. An error is logged and tried again later."""
        await self.recall()
        while True:
            with self._settled.round():
                try:
                    await self.round()
                except Exception as error:  # of one volume or device: the store goes on
                    unforeseen = None if isinstance(error, StratumError) else error
                    _log.warning("repair stopped, and goes on later", error=str(error), exc_info=unforeseen)
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
        self._wake = trio.Event()  # or who woke it once would keep it awake, whatever is met here
        if self._catalog.read_only:
            if await self._is_survey_due():
                await self._survey()  # what cannot be mended can be said
            return
        await self._offer_again()
        while True:
            self._wake = trio.Event()
            await self._note_damage()
            await strike_away(self._fleet, self.folders)
            await self.returns.look(self.folders)
            if await self._is_survey_due() or (self.queue.more and not len(self.queue)):
                await self._survey()
            if not len(self.queue) and self.returns.under_way is None:
                return
            await self._work_off()

    async def _work_off(self) -> None:
        """Repair volumes, and between two of them let a device catch up by a shard, but for volumes that the next loss
        would destroy: these follow one another. Until nothing is left, or it is time to look again."""
        until = trio.current_time() + REPAIR_LOOK_S
        while len(self.queue) or self.returns.under_way is not None:
            async with self._turn:
                exposed = self.queue.pop() if len(self.queue) else None
                if exposed is not None:
                    await self._repair_beside(exposed, until)
                if self.returns.under_way is not None and (exposed is None or exposed.margin > 0):
                    await self._catch_up()
            if self._is_time(until):
                return

    def _is_time(self, until: float) -> bool:
        """To look again."""
        return self._wake.is_set() or trio.current_time() >= until

    async def _repair_beside(self, first: Exposed, until: float) -> None:
        """*first*, and while nobody asks at the doors others behind it that are as exposed: while the files of one are
        synced and its row is swapped the next is read. No device catches up meanwhile."""
        failed: list[StratumError] = []

        async def in_turn(exposed: Exposed | None) -> None:
            while exposed is not None:
                try:
                    await self._repair(exposed)
                except StratumError as error:  # of one volume: the other one comes to its end
                    failed.append(error)
                    self.put_off.put_off(exposed.volume, trio.current_time())
                exposed = None if failed else self._next_beside(first, until)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_turn, first)
            for _ in range(REBUILDS_MAX - 1):
                nursery.start_soon(in_turn, self._next_beside(first, until))
        for error in failed:
            raise error

    def _next_beside(self, first: Exposed, until: float) -> Exposed | None:
        wanted = self._turn.statistics().tasks_waiting  # a volume, before all others
        if wanted or self._is_time(until) or self.returns.under_way is not None or self._doors.asked:
            return None
        return self.queue.pop_beside(first)

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

    async def _is_survey_due(self) -> bool:
        age_s = trio.current_time() - self._surveyed_at
        if not REPAIR_AGAIN_S <= age_s < REPAIR_SURVEY_S:
            return age_s >= REPAIR_SURVEY_S
        devices = self._fleet.devices
        if any(each in devices and not devices[each].stalled(REBUILD_READ_S) for each in self.seen.silent):
            return True
        # A volume may have been opened on a device while its drain began.
        since_ns = self._kept_since_ns()
        return any([(await held(self._catalog, each, since_ns)).shards for each in self._fleet.draining])

    async def _survey(self) -> None:
        """Look at every volume, also at one that no row names yet: by rows, and by whether the files are there."""
        with self._looking.round():
            await self._look_at_all()

    async def _look_at_all(self) -> None:
        self._surveyed_at = began = trio.current_time()
        self.queue.more = False
        up = {each.id for each in self._fleet.devices.values() if each.struck is None}
        if up != self._up:
            self._up = up
            self.put_off.hurry(self._surveyed_at)
        silent: set[DeviceId] = set()
        for state in (OPEN, SEALED, FREED):
            after = b""
            while rows := await self._catalog.read(volumes, state, after, TRANSACTION_ROWS_MAX):
                after = rows[-1].id
                await self._offer([row for row in rows if self._is_wanted(row)], silent)
        self.seen.looked(silent, trio.current_time() - began)

    async def _offer(self, rows: Sequence[VolumeRow], silent: set[DeviceId] | None = None) -> None:
        now = trio.current_time()
        for row, needs in await self._needs(rows, silent if silent is not None else set()):
            if self.put_off.waits(row.id, now):
                self.queue.drop(row.id)
            elif needs.can_be_met(self._fleet.taking(row.tier), row):
                self.queue.offer(Exposed(row.id, row.m - needs.count, row.created_ns, row.state == FREED))
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
        with self._remaking.one(exposed.volume) as alone:
            if alone:
                await self._repair_alone(exposed)
            else:
                self.put_off.put_off(exposed.volume, trio.current_time())

    async def _repair_alone(self, exposed: Exposed) -> None:
        row = await self._sealed(exposed.volume)
        if row is None:
            return
        full, left = set[DeviceId](), set[CellIndex]()
        while row is not None:
            [(row, needs)] = await self._needs([row], set())
            targets, left = await self._targets(row, needs, full)
            if not targets:
                break
            margin = max(0, min(row.m, row.m - needs.count))
            with self.works.one("rebuild", row.id, ", ".join(each.label for each in targets.values())) as work:
                result = await self._rebuild(row, targets, margin, work)
                await self._settle(row, targets, result)
            left |= result.silent | {cell for cell, error in result.failures.items() if isinstance(error, DeviceSilent)}
            if result.lost:  # until a device is back that has more of it
                left |= targets.keys()
            found = {targets[cell].id for cell in result.without_room}.difference(row.devices)
            if not found:
                break
            full |= found  # another one may have room
            row = await self._sealed(exposed.volume)
        if row is not None:
            self._try_again(row, left)

    async def _sealed(self, ident: VolumeId) -> VolumeRow | None:
        """Its row, if it is sealed, or can be; or freed, and kept."""
        row = await self._catalog.read(volume, ident)
        if row is not None and row.state == OPEN:
            await self._seal(ident)
            row = await self._catalog.read(volume, ident)
        return row if row is not None and row.state != OPEN and self._is_wanted(row) else None

    def _is_wanted(self, row: VolumeRow) -> bool:
        kept = row.state == FREED and row.changed_ns > self._kept_since_ns()
        return not row.remote and (row.state in (OPEN, SEALED) or kept)

    def _try_again(self, row: VolumeRow, left: Collection[CellIndex]) -> None:
        """Later, if some shards are *left*: they could not be made, or nobody knows whether they are bad."""
        if left:
            wait_s = self.put_off.put_off(row.id, trio.current_time())
            _log.warning("repair_put_off", volume=row.id.hex(), cells=sorted(left), seconds=wait_s)
        else:
            self.put_off.drop(row.id)

    async def _targets(
        self, row: VolumeRow, needs: Needs, full: Collection[DeviceId]
    ) -> tuple[dict[CellIndex, AttachedDevice], set[CellIndex]]:
        """Where each shard that is not as it should be shall be made; those that turn out sound are no longer known.
        And those whose devices did not say. No shard is moved to one that was found *full*."""
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
                    if await what_is_wrong(self._store, row, cell, device, stripes.found):  # what cannot be read, too
                        targets[cell] = device
                    elif stripes.silent:
                        silent.add(cell)
                    else:
                        await self._forget(row.id, [cell])
                except DeviceSilent:
                    silent.add(cell)
        back = set(self._fleet.struck)  # may come back with what they hold: those that never will come first
        homeless = sorted(needs.homeless, key=lambda at: (row.devices[at] in back, at))
        targets.update(await new_homes(self._fleet, row, [*homeless, *sorted(needs.leaving)], full))
        return targets, silent

    async def _rebuild(
        self, row: VolumeRow, targets: Mapping[CellIndex, AttachedDevice], margin: int, work: Work
    ) -> Rebuilt:
        stripes, length = await self._stripes(row, targets.values())
        if stripes.silent:
            return Rebuilt(silent=set(stripes.silent))
        packed = await self._threads.run(toc.pack, await self._ledger.contents(row.id))
        named = partial(named_stripes, self._catalog, row.id)
        plan = RebuildPlan(self._store, volume_info(row), stripes.found, named, length, targets, packed)
        work.total, doors = length * len(targets), Doors(self._accesses)

        async def pace(seconds: float, written: int) -> None:
            work.done += written
            await trio.sleep(rest_s(seconds, margin, len(self.works) - 1) if doors.asked else 0.0)

        async def lacks(cells: Collection[CellIndex]) -> None:
            # Before the files are in their places: a look at the devices would find nothing amiss.
            await self._note(row.id, cells, "stripes of it are lost")

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
            cells, took_ns = tuple(result.installed), int(result.took_s * 1e9)
            await self._catalog.write(note_rebuilt, row.id, cells, row.length * len(cells), took_ns)
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
        before, name = row.devices[cell], ShardName(row.id, cell)
        if not await self._catalog.commit(move_shard, row.id, cell, before, target.id, whole):
            await target.write(target.shards.quarantine, [name])  # the volume went meanwhile
            return
        if whole:
            self.known.discard((row.id, cell))
        self._moved(row.id)
        old = self._fleet.devices.get(before)
        if old is not None and old.struck is None:  # others move it aside when they come back
            await set_aside(self._fleet, old, name)

    async def _note(self, ident: VolumeId, cells: Collection[CellIndex], reason: str) -> None:
        """These are damaged, and that is for the table alone: whoever says so has just tried to mend them."""
        await self._catalog.write(note_damage, tuple((ident, cell, reason) for cell in cells), time.time_ns())
        self.known.update((ident, cell) for cell in cells)

    async def _forget(self, ident: VolumeId, cells: list[CellIndex]) -> None:
        for cell in cells:
            self._heard.pop((ident, cell), None)
        await self._catalog.write(clear_damage, ident, tuple(cells))
        self.known -= {(ident, cell) for cell in cells}

    async def _stripes(self, row: VolumeRow, opened: Iterable[AttachedDevice] = ()) -> tuple[Stripes, int]:
        """All that lie in a sealed volume, and where they end. opened: devices that come back, as they are now."""
        devices = {**self._fleet.devices, **{each.id: each for each in opened}}
        return await sealed_stripes(self._store, self._catalog, row, devices)

    # Taking devices back

    async def _catch_up(self) -> None:
        device = self.returns.under_way
        assert device is not None
        with self.works.one("catch up", None, device.label) as self._catching_up:
            if await self.returns.step():
                self.look_soon()

    async def _catch_up_shard(self, device: AttachedDevice, ident: VolumeId, cell: CellIndex) -> None:
        """Verify one shard on a device that is not up yet, and make it anew if it is bad or missing.

        Raises: DeviceError if the device fails in this.
        """
        with self._remaking.one(ident) as alone:
            if alone:
                await self._catch_up_alone(device, ident, cell)
            else:  # looked at when it has moved, or has not
                await self._note(ident, [cell], "it was moving to another tier when its device came back")

    async def _catch_up_alone(self, device: AttachedDevice, ident: VolumeId, cell: CellIndex) -> None:
        row = await self._sealed(ident)
        if row is None or row.devices[cell] != device.id:
            return
        stripes, _ = await self._stripes(row, [device])
        if await what_is_wrong(self._store, row, cell, device, stripes.found) is None:
            if stripes.silent:
                await self._note(ident, [cell], "nobody could say whether it is whole")
            else:
                await self._forget(ident, [cell])
            return
        result = await self._rebuild(row, {cell: device}, row.m, self._catching_up)
        for error in result.failures.values():
            raise error
        await self._settle(row, {cell: device}, result)
        self._try_again(row, result.silent)
        if cell not in result.installed:
            await self._note(ident, [cell], "it could not be made anew")
