"""Makes shards anew from the others of their volume.

Stripe after stripe, in batches of which some are under way at once: any k verified cells are read, the missing ones
decoded, and written with headers of their own at the same positions into a *new file*, which is synced and renamed into
place when it is whole. So a stop at any step leaves the old file or the new one, and a thread that is stuck in the old
one harms nobody.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter

import trio

from stratumfs.descriptor import close_soon
from stratumfs.errors import DeviceError, DeviceFull, DeviceSilent, ShardMissing
from stratumfs.ids import CellIndex, DeviceId, StoreId
from stratumfs.limits import REBUILD_BATCHES, REBUILD_BYTES, REBUILD_READ_S, REBUILD_SYNC_BYTES
from stratumfs.repair.answer import doubt, in_time
from stratumfs.repair.remake import Parts, Read, Remake, Whole, begin, read_run, write
from stratumfs.repair.stripes import end_of
from stratumfs.shards.backend import OpenShard
from stratumfs.shards.layout import ShardName
from stratumfs.volumes import toc
from stratumfs.volumes.append import finish_shard, toc_holders
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.format import StripeAt, VolumeInfo
from stratumfs.volumes.threads import LendingThreads

Pace = Callable[[float, int], Awaitable[None]]
"""Awaited behind each batch with the seconds that it took and the bytes that it wrote."""

Lacks = Callable[[Collection[CellIndex]], Awaitable[None]]
"""Awaited before shards are installed that lack stripes which rows name: whoever keeps the books notes it first."""


@dataclass(frozen=True, slots=True)
class RebuildPlan:
    """What shall be made.

    stripes  all of the volume that are known of, by position
    named    those that rows name by now: each must be made
    length   where the cells end
    targets  where each shard goes: the device that it lies on already, or another one
    table    of contents, for shards that hold it
    """

    store: StoreId
    volume: VolumeInfo
    stripes: Sequence[StripeAt]
    named: Callable[[], Awaitable[Sequence[StripeAt]]]
    length: int
    targets: Mapping[CellIndex, AttachedDevice]
    table: toc.PackedToc


@dataclass(slots=True)
class Rebuilt:
    """What became of it.

    installed  shards that are in their place now, durably
    failures   targets that failed; their shards are as they were
    bad        other shards that were met with a bad or missing cell of what is named or can be made, and why
    lost       named stripes that fewer than k good cells were found of, though every source answered: what they held
               cannot be read any more
    silent     shards whose devices did not answer, where without them some stripe cannot be made, or nobody knows
               whether an old file is there. Then nothing was installed, and it is worth another try
    took_s     the rests of its pace included
    """

    installed: set[CellIndex] = field(default_factory=set)
    failures: dict[CellIndex, DeviceError] = field(default_factory=dict)
    bad: dict[CellIndex, str] = field(default_factory=dict)
    lost: list[StripeAt] = field(default_factory=list)
    silent: set[CellIndex] = field(default_factory=set)
    took_s: float = 0.0

    @property
    def without_room(self) -> list[CellIndex]:
        """Those of *failures* whose targets are only full."""
        return [cell for cell, error in self.failures.items() if isinstance(error, DeviceFull)]


async def rebuild(
    plan: RebuildPlan,
    devices: Mapping[DeviceId, AttachedDevice],
    threads: LendingThreads,
    pace: Pace,
    lacks: Lacks,
) -> Rebuilt:
    """Make the shards of *plan* from what *devices* have; memory is REBUILD_BATCHES of them.

    A shard that is there, on its target or on the device that it shall move from, is replaced only if all that rows
    name was made: else its old file stays, for whoever can get more out of it. A new one is installed with what could
    be made, once *lacks* was told.
    """
    return await _Rebuild(plan, devices, threads, lacks).run(pace)


class _Rebuild:
    def __init__(
        self,
        plan: RebuildPlan,
        devices: Mapping[DeviceId, AttachedDevice],
        threads: LendingThreads,
        lacks: Lacks,
    ) -> None:
        self._plan, self._threads, self._lacks = plan, threads, lacks
        # A device that comes back is read by the object that it was opened anew with, too.
        self._devices = {**devices, **{each.id: each for each in plan.targets.values()}}
        self._silent: set[CellIndex] = set()
        self._open: dict[CellIndex, OpenShard] = {}
        self._unsynced: Counter[CellIndex] = Counter()
        # Or a disk that is busy had more to sync than REBUILD_SYNC_BYTES and what is in flight.
        self._writing: dict[CellIndex, trio.Lock] = {}
        self._syncing: dict[CellIndex, trio.Lock] = {}
        self._made: set[StripeAt] = set()
        self._wrong: dict[CellIndex, dict[StripeAt, str]] = {}
        self._result = Rebuilt()

    async def run(self, pace: Pace) -> Rebuilt:
        started = trio.current_time()
        try:
            await self._on_targets(self._begin)
            await self._make_all(pace)
            await self._install()
            self._result.took_s = trio.current_time() - started
        finally:
            close_soon(self._open.values())
        return self._result

    async def _make_all(self, pace: Pace) -> None:
        """Some batches side by side: while one is decoded others are read and written."""
        flight = trio.CapacityLimiter(REBUILD_BATCHES)
        async with trio.open_nursery() as nursery:
            for batch in _batches(self._plan.stripes, self._plan.volume.code.n):
                begun = trio.current_time()
                async with flight:
                    if not self._open or self._result.silent:
                        break
                await nursery.start(self._make_and_write, batch, flight)
                written = len(self._open) * (end_of(batch[-1]) - batch[0].position)
                await pace(trio.current_time() - begun, written)

    async def _make_and_write(
        self,
        batch: Sequence[StripeAt],
        flight: trio.CapacityLimiter,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        async with flight:
            task_status.started()
            parts = await self._make(batch)
            await self._on_targets(partial(self._write, parts))

    async def _make(self, batch: Sequence[StripeAt]) -> Parts:
        """Read and decode some stripes that follow one another."""
        make = Remake(self._plan.store, self._plan.volume, tuple(self._open))
        parts, short = await self._make_of_sound(make, batch)
        if short:
            found = await self._gather(make, short)
            others, short = await self._threads.run(make.from_found, found, short)
            for index, more in others.items():
                parts[index] = sorted(parts.get(index, []) + more, key=itemgetter(0))
        if short and self._silent:
            # Not lost, nobody knows; nor left out because no row names it: whoever wrote it may do so in a moment.
            self._result.silent |= self._silent
            return {}
        self._made |= set(batch).difference(short)
        return parts

    async def _make_of_sound(self, make: Remake, batch: Sequence[StripeAt]) -> tuple[Parts, Sequence[StripeAt]]:
        """From the first k shards that nothing is known against, if there are so many, and what is left then."""
        k, ids = self._plan.volume.code.k, self._plan.volume.devices
        sound = [index for index in self._sources() if index not in self._plan.targets and not self._wrong.get(index)]
        sources = [(index, device) for index in sound if not any(doubt(device := self._devices[ids[index]]))][:k]
        if len(sources) == k and not self._copies:
            with trio.move_on_after(REBUILD_READ_S):
                return await self._threads.run(make.from_these, sources, batch)
            self._silent |= {index for index, device in sources if device.stalled(REBUILD_READ_S / 2)}
        return {}, batch

    async def _write(self, parts: Parts, index: CellIndex, device: AttachedDevice) -> None:
        async with self._writing.setdefault(index, trio.Lock()):
            shard = self._open.get(index)
            if shard is None or index not in parts:
                return
            await device.write(write, shard, parts[index])
            self._unsynced[index] += sum(len(part) for _, pieces in parts[index] for part in pieces)
            if self._unsynced[index] < REBUILD_SYNC_BYTES:
                return
            self._unsynced[index] = 0
        async with self._syncing.setdefault(index, trio.Lock()):  # the next batches are written beside it
            if self._open.get(index) is shard:
                await device.write(shard.datasync)

    async def _gather(self, make: Remake, batch: Sequence[StripeAt]) -> dict[CellIndex, Whole]:
        """At least k whole cells of each stripe, if there are so many, and those of shards that are to be replaced; no
        others where all that is to be made is there to be copied.

        Devices that were silent are asked once more before a stripe is given up.
        """
        found: dict[CellIndex, Whole] = {}
        if self._copies:
            await self._read_all(make, sorted(self._open), batch, found)
            if all(at.stripe in found.get(index, ()) for at in batch for index in self._open):
                return found
        sources = self._sources()
        first = [index for index in sources if index in self._plan.targets and not self._moves(index)]
        others = [index for index in sources if index not in first and index not in found]
        k = self._plan.volume.code.k
        for asked in (first + others[:k], *([index] for index in others[k:])):
            if asked and _lacking(batch, found, k):
                await self._read_all(make, asked, batch, found)
        if self._silent and _lacking(batch, found, k):
            await self._read_all(make, sorted(self._silent), batch, found)
        return found

    @property
    def _copies(self) -> bool:
        """Whether all that is to be made is there to be copied."""
        return self._open.keys() <= {index for index in self._sources() if self._leaves(index)}

    def _sources(self) -> list[CellIndex]:
        """Shards that can be asked and were not silent; those last that are on devices in doubt, as one is that a shard
        moves from, or on devices that stall."""
        usable = []
        for number, ident in enumerate(self._plan.volume.devices):
            device, index = self._devices.get(ident), CellIndex(number)
            if device is not None and index not in self._silent:
                usable.append((doubt(device), self._moves(index), index))
        return [index for *_, index in sorted(usable)]

    def _moves(self, index: CellIndex) -> bool:
        """Whether this shard is made on another device than rows say."""
        target = self._plan.targets.get(index)
        return target is not None and target.id != self._plan.volume.devices[index]

    def _leaves(self, index: CellIndex) -> bool:
        """Whether this shard is made on another device though nothing is known against the one that it is on."""
        device = self._devices.get(self._plan.volume.devices[index])
        return self._moves(index) and device is not None and not any(doubt(device))

    async def _read_all(
        self, make: Remake, indexes: Sequence[CellIndex], batch: Sequence[StripeAt], found: dict[CellIndex, Whole]
    ) -> None:
        """Devices are asked side by side, and what they say is verified by one thread: many that hash at once take
        Python's lock from one another all the time."""
        read: dict[CellIndex, Read] = {}
        async with trio.open_nursery() as nursery:
            for index in indexes:
                nursery.start_soon(self._read, index, batch, read)
        for index, (whole, wrong) in (await self._threads.run(make.verified, read)).items():
            found[index] = whole
            self._wrong.setdefault(index, {}).update(wrong)

    async def _read(self, index: CellIndex, batch: Sequence[StripeAt], read: dict[CellIndex, Read]) -> None:
        device = self._devices[self._plan.volume.devices[index]]
        asked = device.read(read_run, device.shards, ShardName(self._plan.volume.id, index), batch)
        try:
            read[index] = await in_time(device.label, asked)
        except DeviceSilent:
            self._silent.add(index)  # slow is not damaged: it is asked last for the rest of this shard
            return
        except (DeviceError, ShardMissing) as error:
            read[index] = dict.fromkeys(batch, str(error))
        self._silent.discard(index)

    async def _begin(self, index: CellIndex, device: AttachedDevice) -> None:
        plan = self._plan
        self._open[index] = await device.write(begin, device.shards, ShardName(plan.volume.id, index), plan.length)

    async def _install(self) -> None:
        # Asked only now: what was written before the volume was sealed may have got its row while this was made.
        named = await self._plan.named()
        self._tell_bad(self._made.union(named))
        if self._open and not self._result.silent:
            self._result.lost = [at for at in named if at not in self._made]
        if self._result.lost:
            await self._on_targets(self._keep_old)
        if self._result.silent:
            await self._on_targets(self._drop)
        elif self._result.lost and self._open:
            await self._lacks(sorted(self._open))
        await self._on_targets(self._finish)

    def _tell_bad(self, wanted: Set[StripeAt]) -> None:
        """Of a stripe that was written in part, and never named, no shard owes a cell."""
        for index in self._wrong.keys() - self._plan.targets.keys():
            wrong = [why for at, why in self._wrong[index].items() if at in wanted]
            if wrong:
                self._result.bad[index] = wrong[0]

    async def _keep_old(self, index: CellIndex, device: AttachedDevice) -> None:
        """Make nothing in the place of a shard that is there; of a device that cannot say whether it is, it is not."""
        old = self._devices.get(self._plan.volume.devices[index])
        if old is None or index not in self._open:
            return
        try:
            await in_time(old.label, old.read(old.shards.size, ShardName(self._plan.volume.id, index)))
        except DeviceSilent:
            self._result.silent.add(index)
        except ShardMissing:
            return
        except DeviceError:
            if not self._moves(index):
                raise
            return
        await self._drop(index, device)

    async def _drop(self, index: CellIndex, device: AttachedDevice) -> None:
        """Give the room of a shard that is not installed back; the empty file goes when the next one is begun."""
        if index in self._open:
            shard = self._open.pop(index)
            try:
                await device.write(shard.cut, 0)
            finally:
                close_soon([shard])

    async def _finish(self, index: CellIndex, device: AttachedDevice) -> None:
        if index not in self._open:
            return
        plan = self._plan
        table = plan.table if index in toc_holders(plan.volume) else None
        shard = self._open.pop(index)
        try:
            await device.write(finish_shard, shard, plan.length, table, plan.store, plan.volume, index)
        finally:
            close_soon([shard])
        await device.write(device.shards.install, ShardName(plan.volume.id, index))
        self._result.installed.add(index)

    async def _on_targets(self, step: Callable[[CellIndex, AttachedDevice], Awaitable[None]]) -> None:
        """*step* for each target that has not failed, side by side; one that fails takes part no more."""

        async def one(index: CellIndex) -> None:
            try:
                await step(index, self._plan.targets[index])
            except DeviceError as error:
                self._result.failures[index] = error
                if index in self._open:
                    close_soon([self._open.pop(index)])

        async with trio.open_nursery() as nursery:
            for index in self._plan.targets.keys() - self._result.failures.keys():
                nursery.start_soon(one, index)


def _batches(stripes: Sequence[StripeAt], n: int) -> Iterator[list[StripeAt]]:
    """Runs of stripes that follow one another in their shards, as long as REBUILD_BYTES allow, one at least."""
    batch: list[StripeAt] = []
    for at in stripes:
        if batch and (at.position != end_of(batch[-1]) or end_of(at) - batch[0].position > REBUILD_BYTES // n):
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


def _lacking(batch: Sequence[StripeAt], found: Mapping[CellIndex, Whole], k: int) -> bool:
    return any(sum(at.stripe in whole for whole in found.values()) < k for at in batch)
