"""Reads ranges of extents: only the cells they touch, each verified, around whatever is missing."""

from collections.abc import Collection, Mapping, Sequence

import trio

from stratumfs.config import REMOTE_TIERS
from stratumfs.erasure.code import codec_for
from stratumfs.errors import ColdUnavailable, ShardCorrupt
from stratumfs.ids import CellIndex, StoreId
from stratumfs.limits import CODING_THREADS, HEDGE_DELAY_S, STRIPE_CACHE_BYTES, STRIPE_PAYLOAD_MAX
from stratumfs.location import Location
from stratumfs.room import room
from stratumfs.volumes.cells import Cell, CellCache, CellKey, read_cell_nowait, recalled_cells
from stratumfs.volumes.format import HEADER_SIZE, StripeAt, VolumeInfo, stripe_of
from stratumfs.volumes.gather import Gather, OnDamage, StripeSource
from stratumfs.volumes.remembered import Remembered
from stratumfs.volumes.source import Sources
from stratumfs.volumes.threads import LendingThreads

LOOP_CELLS_MAX = 256 * 1024
"""So many bytes of cells are taken from the page cache and verified on the loop by default: 60 µs. A hop into a thread
costs 40, and where all cores are busy a turn of the scheduler twice."""


class _Loading:
    """Of cells that somebody is getting. unavailable: why a cold tier did not give them."""

    def __init__(self) -> None:
        self.ended = trio.Event()
        self.unavailable = ""


class VolumeReader:
    """Reads from all volumes of a store; lives on one loop.

    devices    those that are up, and what keeps cold volumes; the mapping may change while it is in use
    on_damage  called on the loop for each bad or missing cell met; may be called often for one shard

    Shared state is the cache and `_loading`: a cell that some task is getting already is waited for, not read twice. A
    loader that fails or is cancelled wakes the others, and one of them tries itself; but where it has waited for a cold
    tier in vain, so have they: one after the other they would wait as often as there are readers.
    """

    def __init__(
        self,
        store: StoreId,
        devices: Sources,
        on_damage: OnDamage,
        *,
        cache_bytes: int = STRIPE_CACHE_BYTES,
        hedge_s: float = HEDGE_DELAY_S,
    ) -> None:
        self._store = store
        self._devices = devices
        self._on_damage = on_damage
        self._hedge_s = hedge_s
        self._cache = CellCache(cache_bytes)
        self._remembered = Remembered()
        self._loading: dict[CellKey, _Loading] = {}
        self._threads = LendingThreads(CODING_THREADS)
        self._degraded = self._verified = 0

    async def read(
        self, volume: VolumeInfo, location: Location, start: int, length: int, loop_max: int = LOOP_CELLS_MAX
    ) -> bytes | memoryview:
        """*length* bytes from *start*, counted from the first byte of the extent at *location*.

        The caller knows the extent's length and stays within it; the range may span the stripes of a run. One copy if
        it spans stripes, or cells that were not read together; none else. loop_max: so many bytes of cells are taken
        from the page cache and verified on the loop; more in a thread. Raises: TooFewShards.
        """
        part = self._part_of_cell(volume, location, location.skip + start, length)
        if part is not None:
            return part
        parts = await self.read_parts(volume, location, start, length, loop_max)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def read_parts(
        self, volume: VolumeInfo, location: Location, start: int, length: int, loop_max: int = LOOP_CELLS_MAX
    ) -> list[memoryview]:
        """As `read`, without a copy: read-only views, in order."""
        parts: list[Cell] = []
        size = location.cell_size
        at = location.skip + start
        end = at + length
        while at < end:
            ordinal, offset = divmod(at, STRIPE_PAYLOAD_MAX)
            until = min(offset + end - at, STRIPE_PAYLOAD_MAX)
            first, last = offset // size, (until - 1) // size
            wanted = [CellIndex(number) for number in range(first, last + 1)]
            cells = await self._cells(volume, stripe_of(location, ordinal), wanted, loop_max)
            for index in wanted:
                begin = index * size
                _add(parts, cells[index], max(offset - begin, 0), min(until - begin, size))
            at += until - offset
        return [part.bytes for part in parts]

    def cached(self, volume: VolumeInfo, location: Location, length: int) -> memoryview | None:
        """As `read` of a range in one stripe, if all its cells are in the cache, side by side; else None."""
        ordinal, offset = divmod(location.skip, STRIPE_PAYLOAD_MAX)
        stripe, size = stripe_of(location, ordinal), location.cell_size
        numbers = range(offset // size, -(-(offset + length) // size))
        keys = [CellKey(volume.id, stripe.stripe, stripe.nonce, CellIndex(number)) for number in numbers]
        parts: list[Cell] = []
        if all(key in self._cache for key in keys):
            for key in keys:
                cell = self._cache.get(key)
                assert cell is not None
                begin = key.cell * size
                _add(parts, cell, max(offset - begin, 0), min(offset + length - begin, size))
        return parts[0].bytes if len(parts) == 1 else None

    def expect(self, volume: VolumeInfo, runs: Sequence[tuple[Location, int]]) -> None:
        """These runs, all in *volume*, will be read soon: see `Source`. Of a volume with one shard, that is."""
        source = self._devices.get(volume.devices[0]) if volume.code.n == 1 else None
        if source is None:
            return
        spans = []
        for at, length in runs:
            first, last = stripe_of(at, 0), stripe_of(at, (at.skip + length - 1) // STRIPE_PAYLOAD_MAX)
            spans.append((first.position, last.position + HEADER_SIZE + last.cell_size))
        source.expect(volume.id, spans)

    async def together(self, volume: VolumeInfo, runs: Sequence[tuple[Location, int]]) -> Sequence[memoryview]:
        """Bytes of *runs*, each in one stripe, that were fetched ahead: by one step of one thread, and kept nowhere.

        For who has much to read and reads it once. None of it if some was not, or is not good: `read` sees to that.
        Raises: ColdUnavailable, StoreBusy, DeviceUnasked.
        """
        source = self._devices.get(volume.devices[0]) if volume.code.n == 1 else None
        if source is None or source.recalled is None:
            return ()
        parts = [(stripe_of(at, 0), at.skip, at.skip + length) for at, length in runs]
        try:
            found = await source.read(recalled_cells, source.recalled, self._store, volume, parts)
        except ShardCorrupt:
            return ()
        if found is None:
            return ()
        self._verified += len({at for at, *_ in parts})
        return found

    def statistics(self) -> dict[str, int]:
        """Of the cache (cells, bytes); how many cells were read and verified, how many stripes decoded."""
        return {
            "cells_verified": self._verified,
            "cell_hits": self._cache.hits,
            "cell_misses": self._cache.misses,
            "cache_bytes": self._cache.size,
            "stripes_decoded": self._degraded,
        }

    def _part_of_cell(self, volume: VolumeInfo, location: Location, at: int, length: int) -> memoryview | None:
        """What random reads ask for: *length* bytes from byte *at* of a run, all in one cell that is cached, or in the
        page cache and short enough for the loop; blocks of it alone, where it was read so before. None if it is not
        so, or not known, or the cell is not good."""
        size = location.cell_size
        ordinal, offset = divmod(at, STRIPE_PAYLOAD_MAX)
        number, begin = divmod(offset, size)
        if not length or begin + length > size or offset + length > STRIPE_PAYLOAD_MAX or size > LOOP_CELLS_MAX:
            return None
        stripe, index = stripe_of(location, ordinal), CellIndex(number)
        key = CellKey(volume.id, stripe.stripe, stripe.nonce, index)
        if key in self._loading:
            return None
        cell = self._cache.get(key)
        if cell is None:
            source, by_blocks = StripeSource(self._store, volume, stripe, self._devices), Remembered.helps(size, length)
            if by_blocks and (part := self._remembered.read(key, source, begin, length)) is not None:
                return part
            cell = _read_nowait(source, (index,)).get(index)
            if cell is None:
                return None
            self._verified += 1
            self._cache.put(key, cell)
            if by_blocks:
                self._remembered.remember(key, cell.bytes)
        return cell.bytes[begin : begin + length]

    async def _cells(
        self, volume: VolumeInfo, at: StripeAt, wanted: Sequence[CellIndex], loop_max: int
    ) -> dict[CellIndex, Cell]:
        """The *wanted* data cells of one stripe: cached, on their way already, or read."""
        found: dict[CellIndex, Cell] = {}
        while True:
            missing = []
            coming = None
            for index in wanted:
                if index in found:
                    continue
                key = CellKey(volume.id, at.stripe, at.nonce, index)
                cell = self._cache.get(key)
                if cell is not None:
                    found[index] = cell
                elif key in self._loading:
                    coming = self._loading[key]
                else:
                    missing.append(index)
            if missing:
                found.update(await self._load(volume, at, missing, loop_max))
            elif coming is not None:
                await coming.ended.wait()
                if coming.unavailable:
                    raise ColdUnavailable(coming.unavailable)
            else:
                return found

    async def _load(
        self, volume: VolumeInfo, at: StripeAt, wanted: Sequence[CellIndex], loop_max: int
    ) -> dict[CellIndex, Cell]:
        keys = [CellKey(volume.id, at.stripe, at.nonce, index) for index in wanted]
        loading = _Loading()
        self._loading.update((key, loading) for key in keys)
        try:
            cells = await self._read_stripe(StripeSource(self._store, volume, at, self._devices), wanted, loop_max)
            self._verified += len(cells)
            for index, cell in cells.items():
                if index < volume.code.k:
                    self._cache.put(CellKey(volume.id, at.stripe, at.nonce, index), cell)
            return {index: cells[index] for index in wanted}
        except ColdUnavailable as error:
            loading.unavailable = str(error)
            raise
        finally:
            for key in keys:
                del self._loading[key]
            loading.ended.set()

    async def _read_stripe(
        self, source: StripeSource, wanted: Sequence[CellIndex], loop_max: int
    ) -> dict[CellIndex, Cell]:
        """At least the *wanted* cells: from the page cache if it has them, else by devices' threads, else decoded."""
        if source.volume.tier in REMOTE_TIERS:
            good = {}  # no page cache has it
        elif len(wanted) * source.at.cell_size <= loop_max:
            good = _read_nowait(source, wanted)
        else:
            # Never waits for a device, so that one that stalls can't use up these threads.
            good = await self._threads.run(_read_nowait, source, wanted)
        if len(good) == len(wanted):
            return good
        gather = Gather(source, wanted, self._hedge_s, self._on_damage)
        await gather.run({index: cell.bytes for index, cell in good.items()})
        lost = tuple(index for index in wanted if index not in gather.good)
        if not lost:
            return good | _single(gather.good, good)
        self._degraded += 1
        codec = codec_for(source.volume.code)
        decoded = await self._threads.run(codec.recover, gather.good, lost, source.at.cell_size)
        return good | _single(gather.good | {index: cell.toreadonly() for index, cell in decoded.items()}, good)


def _read_nowait(source: StripeSource, wanted: Sequence[CellIndex]) -> dict[CellIndex, Cell]:
    """Those of the *wanted* cells that the page cache has, verified, side by side in one run."""
    size = source.at.cell_size
    whole = room(size * len(wanted))
    run = whole.toreadonly()
    good = {}
    for start, index in zip(range(0, len(whole), size), wanted, strict=True):
        device = source.device(index)
        if device is not None and read_cell_nowait(
            device.shards, source.store, source.volume, index, source.at, whole[start : start + size]
        ):
            good[index] = Cell(run, start, size)
    return good


def _single(cells: Mapping[CellIndex, memoryview], but: Collection[CellIndex]) -> dict[CellIndex, Cell]:
    """Cells that were read or decoded one by one."""
    return {index: Cell(cell, 0, len(cell)) for index, cell in cells.items() if index not in but}


def _add(parts: list[Cell], cell: Cell, start: int, stop: int) -> None:
    """Bytes [start, stop) of a cell, in one part with what is before them if that ends where they begin."""
    first, last = cell.start + start, parts[-1] if parts else None
    if last is not None and last.run is cell.run and last.start + last.size == first:
        parts[-1] = Cell(last.run, last.start, last.size + stop - start)
    else:
        parts.append(Cell(cell.run, first, stop - start))
