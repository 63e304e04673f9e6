"""Makes shards anew from the others of their volume.

Stripe after stripe, in batches: any k verified cells are read, the missing ones decoded, and written with headers of
their own at the same positions into a *new file*, which is synced and renamed into place when it is whole. So a stop at
any step leaves the old file or the new one, and a thread that is stuck in the old one harms nobody.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from stratumfs.descriptor import close_soon
from stratumfs.erasure.checksum import digest
from stratumfs.erasure.code import Codec, codec_for
from stratumfs.errors import DeviceError, DeviceSilent, ShardCorrupt, ShardMissing
from stratumfs.ids import Buffer, CellIndex, DeviceId, StoreId, StripeNo
from stratumfs.limits import REBUILD_BYTES
from stratumfs.repair.answer import doubt, in_time
from stratumfs.repair.stripes import end_of
from stratumfs.shards.backend import OpenShard, ShardBackend
from stratumfs.shards.layout import ShardName
from stratumfs.volumes import toc
from stratumfs.volumes.append import finish_shard, toc_holders
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.cells import verify_cell
from stratumfs.volumes.format import HEADER_SIZE, CellHeader, StripeAt, VolumeInfo, pack_headers, unpack_header

Pace = Callable[[float, int], Awaitable[None]]
"""Awaited behind each batch with the seconds that it took and the bytes that it wrote."""

Lacks = Callable[[Collection[CellIndex]], Awaitable[None]]
"""Awaited before shards are installed that lack stripes which rows name: whoever keeps the books notes it first."""

Whole = Mapping[StripeNo, memoryview]
"""Header and cell of each stripe that one shard has whole."""


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
    """

    installed: set[CellIndex] = field(default_factory=set)
    failures: dict[CellIndex, DeviceError] = field(default_factory=dict)
    bad: dict[CellIndex, str] = field(default_factory=dict)
    lost: list[StripeAt] = field(default_factory=list)
    silent: set[CellIndex] = field(default_factory=set)


async def rebuild(
    plan: RebuildPlan,
    devices: Mapping[DeviceId, AttachedDevice],
    threads: trio.CapacityLimiter,
    pace: Pace,
    lacks: Lacks,
) -> Rebuilt:
    """Make the shards of *plan* from what *devices* have; memory is one batch.

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
        threads: trio.CapacityLimiter,
        lacks: Lacks,
    ) -> None:
        self._plan, self._threads, self._lacks = plan, threads, lacks
        # A device that comes back is read by the object that it was opened anew with, too.
        self._devices = {**devices, **{each.id: each for each in plan.targets.values()}}
        self._codec = codec_for(plan.volume.code)
        self._silent: set[CellIndex] = set()
        self._open: dict[CellIndex, OpenShard] = {}
        self._made: set[StripeAt] = set()
        self._wrong: dict[CellIndex, dict[StripeAt, str]] = {}
        self._result = Rebuilt()

    async def run(self, pace: Pace) -> Rebuilt:
        try:
            await self._on_targets(self._begin)
            for batch in _batches(self._plan.stripes, self._plan.volume.code.n):
                if not self._open or self._result.silent:
                    break
                begun = trio.current_time()
                written = await self._make(batch)
                await pace(trio.current_time() - begun, written)
            await self._install()
        finally:
            close_soon(self._open.values())
        return self._result

    async def _make(self, batch: Sequence[StripeAt]) -> int:
        """Read, decode and write some stripes that follow one another. Returns the bytes written."""
        found = await self._gather(batch)
        parts, short = await trio.to_thread.run_sync(
            _encode, self._plan, self._codec, batch, found, tuple(self._open), limiter=self._threads
        )
        if short and self._silent:
            # Not lost, nobody knows; nor left out because no row names it: whoever wrote it may do so in a moment.
            self._result.silent |= self._silent
            return 0
        self._made |= set(batch).difference(short)

        async def write(index: CellIndex, device: AttachedDevice) -> None:
            await device.write(_write, self._open[index], parts[index])

        await self._on_targets(write)
        return sum(len(part) for each in parts.values() for _, pieces in each for part in pieces)

    async def _gather(self, batch: Sequence[StripeAt]) -> dict[CellIndex, Whole]:
        """At least k whole cells of each stripe, if there are so many, and those of shards that are to be replaced.

        Devices that were silent are asked once more before a stripe is given up.
        """
        found: dict[CellIndex, Whole] = {}
        sources = self._sources()
        first = [index for index in sources if index in self._plan.targets and not self._moves(index)]
        others = [index for index in sources if index not in first]
        k = self._plan.volume.code.k
        for asked in (first + others[:k], *([index] for index in others[k:])):
            if asked and _lacking(batch, found, k):
                await self._read_all(asked, batch, found)
        if self._silent and _lacking(batch, found, k):
            await self._read_all(sorted(self._silent), batch, found)
        return found

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

    async def _read_all(
        self, indexes: Sequence[CellIndex], batch: Sequence[StripeAt], found: dict[CellIndex, Whole]
    ) -> None:
        async with trio.open_nursery() as nursery:
            for index in indexes:
                nursery.start_soon(self._read, index, batch, found)

    async def _read(self, index: CellIndex, batch: Sequence[StripeAt], found: dict[CellIndex, Whole]) -> None:
        plan = self._plan
        device = self._devices[plan.volume.devices[index]]
        asked = device.read(_read_whole, device.shards, plan.store, plan.volume, index, batch)
        try:
            found[index], wrong = await in_time(device.label, asked)
        except DeviceSilent:
            self._silent.add(index)  # slow is not damaged: it is asked last for the rest of this shard
            return
        except (DeviceError, ShardMissing) as error:
            wrong = dict.fromkeys(batch, str(error))
        self._silent.discard(index)
        self._wrong.setdefault(index, {}).update(wrong)

    async def _begin(self, index: CellIndex, device: AttachedDevice) -> None:
        plan = self._plan
        self._open[index] = await device.write(_begin, device.shards, ShardName(plan.volume.id, index), plan.length)

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


def _read_whole(
    shards: ShardBackend, store: StoreId, volume: VolumeInfo, index: CellIndex, batch: Sequence[StripeAt]
) -> tuple[Whole, dict[StripeAt, str]]:
    """Those cells of *batch* that this shard has whole, and what is wrong with the others."""
    with suppress(DeviceError):
        return _read_cells(shards, store, volume, index, batch)
    found: dict[StripeNo, memoryview] = {}
    wrong: dict[StripeAt, str] = {}
    for at in batch:  # a sector that cannot be read costs one cell, not the batch
        try:
            cells, why = _read_cells(shards, store, volume, index, [at])
        except DeviceError as error:
            cells, why = {}, {at: str(error)}
        found.update(cells)
        wrong.update(why)
    return found, wrong


def _read_cells(
    shards: ShardBackend, store: StoreId, volume: VolumeInfo, index: CellIndex, batch: Sequence[StripeAt]
) -> tuple[Whole, dict[StripeAt, str]]:
    """The same, by one read."""
    start = batch[0].position
    data = memoryview(shards.read_at(ShardName(volume.id, index), start, end_of(batch[-1]) - start))
    found: dict[StripeNo, memoryview] = {}
    wrong: dict[StripeAt, str] = {}
    for at in batch:
        part = data[at.position - start : end_of(at) - start]
        try:
            verify_cell(part, store, volume, index, at)
            found[at.stripe] = part
        except ShardCorrupt as error:
            wrong[at] = str(error)
    return found, wrong


def _encode(
    plan: RebuildPlan,
    codec: Codec,
    batch: Sequence[StripeAt],
    found: Mapping[CellIndex, Whole],
    targets: Sequence[CellIndex],
) -> tuple[dict[CellIndex, list[tuple[int, list[Buffer]]]], list[StripeAt]]:
    """For each target (position, [header, cell]) of all that can be made; and the stripes that cannot."""
    parts: dict[CellIndex, list[tuple[int, list[Buffer]]]] = {index: [] for index in targets}
    short = []
    for at in batch:
        whole = {index: cells[at.stripe] for index, cells in found.items() if at.stripe in cells}
        cells: dict[CellIndex, memoryview] = {index: part[HEADER_SIZE:] for index, part in whole.items()}
        wanted = [index for index in targets if index not in cells]
        if wanted and len(cells) >= plan.volume.code.k:
            cells |= codec.recover(cells, wanted, at.cell_size)
        elif wanted:
            short.append(at)
        made = [index for index in targets if index in cells]
        if made:
            payload = _payload_length(whole.values(), plan.volume.code.k * at.cell_size)
            for index, header in zip(made, _headers(plan, at, payload, made, cells), strict=True):
                parts[index].append((at.position, [header, cells[index]]))
    return parts, short


def _payload_length(whole: Iterable[memoryview], most: int) -> int:
    """As a header says. A cell counts although this field of its header is damaged beyond correction; where no header
    has it, the stripe is as good as full: what is behind its payload is zeros."""
    for part in whole:
        with suppress(ShardCorrupt):
            return unpack_header(part[:HEADER_SIZE]).payload_length
    return most


def _headers(
    plan: RebuildPlan,
    at: StripeAt,
    payload: int,
    indexes: Sequence[CellIndex],
    cells: Mapping[CellIndex, memoryview],
) -> list[bytes]:
    volume = plan.volume
    return pack_headers(
        [
            CellHeader(
                plan.store,
                volume.id,
                volume.code,
                index,
                at.stripe,
                at.nonce,
                payload,
                at.cell_size,
                digest(cells[index]),
            )
            for index in indexes
        ]
    )


def _begin(shards: ShardBackend, name: ShardName, length: int) -> OpenShard:
    shard = shards.begin_anew(name)
    try:
        if length:
            shard.preallocate(0, length)  # what does not fit is known before anything is read
    except BaseException:
        shard.close()
        raise
    return shard


def _write(shard: OpenShard, parts: Sequence[tuple[int, list[Buffer]]]) -> None:
    for position, pieces in parts:
        shard.write_at(position, pieces)
