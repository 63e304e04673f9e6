"""What happens in threads to make shards anew: cells read, verified, decoded, and written with headers of their own."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from stratumfs.erasure.checksum import digest
from stratumfs.erasure.code import codec_for
from stratumfs.errors import DeviceError, ShardCorrupt, ShardMissing
from stratumfs.ids import Buffer, CellIndex, StoreId, StripeNo
from stratumfs.repair.stripes import end_of
from stratumfs.shards.backend import OpenShard, ShardBackend
from stratumfs.shards.layout import ShardName
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.cells import verify_cell
from stratumfs.volumes.format import HEADER_SIZE, CellHeader, StripeAt, VolumeInfo, pack_headers, unpack_header

Parts = dict[CellIndex, list[tuple[int, list[Buffer]]]]
"""(position, [header, cell]) of all that was made for each target."""

Whole = Mapping[StripeNo, memoryview]
"""Header and cell of each stripe that one shard has whole."""

Read = Mapping[StripeAt, memoryview | str]
"""What was read where header and cell should be, or why it cannot be read."""

Source = tuple[CellIndex, AttachedDevice]

_PIECES_MAX = 512
"""Of one call that writes: less than systems take."""


@dataclass(frozen=True, slots=True)
class Remake:
    """Makes cells of *volume* for *targets*. Thread-safe."""

    store: StoreId
    volume: VolumeInfo
    targets: Sequence[CellIndex]

    def from_these(self, sources: Sequence[Source], batch: Sequence[StripeAt]) -> tuple[Parts, list[StripeAt]]:
        """What k *sources* give that have all cells whole: each stripe is read, verified and decoded while it is in the
        processor's cache, for memory is slower than all three. Stripes of which a cell cannot be had are left.

        All devices are told first what will be read, so that they read side by side.
        """
        for at in batch:
            for index, device in sources:
                device.shards.will_read(ShardName(self.volume.id, index), at.position, end_of(at) - at.position)
        return self._encode((at, self._read_stripe(sources, at)) for at in batch)

    def from_found(self, found: Mapping[CellIndex, Whole], batch: Sequence[StripeAt]) -> tuple[Parts, list[StripeAt]]:
        """What the *found* cells give, and the stripes that cannot be made of them."""
        return self._encode(
            (at, {index: cells[at.stripe] for index, cells in found.items() if at.stripe in cells}) for at in batch
        )

    def verified(self, read: Mapping[CellIndex, Read]) -> dict[CellIndex, tuple[Whole, dict[StripeAt, str]]]:
        """Of each shard those cells that it has whole, and what is wrong with the others."""
        return {index: self._verified(index, parts) for index, parts in read.items()}

    def _read_stripe(self, sources: Sequence[Source], at: StripeAt) -> Mapping[CellIndex, memoryview]:
        found: dict[CellIndex, memoryview] = {}
        for index, device in sources:
            name = ShardName(self.volume.id, index)
            try:
                data = device.reading(device.shards.read_at, name, at.position, end_of(at) - at.position)
                verify_cell(data, self.store, self.volume, index, at)
            except (DeviceError, ShardMissing, ShardCorrupt):
                return {}  # who asks for it again says what is wrong
            found[index] = memoryview(data)
        return found

    def _verified(self, index: CellIndex, parts: Read) -> tuple[Whole, dict[StripeAt, str]]:
        whole: dict[StripeNo, memoryview] = {}
        wrong: dict[StripeAt, str] = {}
        for at, part in parts.items():
            if isinstance(part, str):
                wrong[at] = part
                continue
            try:
                verify_cell(part, self.store, self.volume, index, at)
                whole[at.stripe] = part
            except ShardCorrupt as error:
                wrong[at] = str(error)
        return whole, wrong

    def _encode(
        self, stripes: Iterable[tuple[StripeAt, Mapping[CellIndex, memoryview]]]
    ) -> tuple[Parts, list[StripeAt]]:
        code, codec = self.volume.code, codec_for(self.volume.code)
        parts: Parts = {index: [] for index in self.targets}
        made: list[tuple[StripeAt, CellIndex, memoryview]] = []
        headers: list[CellHeader] = []
        short = []
        for at, whole in stripes:
            cells: dict[CellIndex, memoryview] = {index: part[HEADER_SIZE:] for index, part in whole.items()}
            wanted = [index for index in self.targets if index not in cells]
            if wanted and len(cells) >= code.k:
                cells |= codec.recover(cells, wanted, at.cell_size)
            elif wanted:
                short.append(at)
            payload = _payload_length(whole.values(), code.k * at.cell_size)
            for index in self.targets:
                if index in cells:
                    made.append((at, index, cells[index]))
                    headers.append(self._header(at, payload, index, cells[index]))
        # Their own parity is made of all at once: of few bytes each, it costs the more the fewer they are.
        for (at, index, cell), header in zip(made, pack_headers(headers) if headers else (), strict=True):
            parts[index].append((at.position, [header, cell]))
        return parts, short

    def _header(self, at: StripeAt, payload: int, index: CellIndex, cell: memoryview) -> CellHeader:
        volume = self.volume
        return CellHeader(
            self.store, volume.id, volume.code, index, at.stripe, at.nonce, payload, at.cell_size, digest(cell)
        )


def read_run(shards: ShardBackend, name: ShardName, batch: Sequence[StripeAt]) -> Read:
    """By one read, or where that fails one for each stripe: a sector that cannot be read costs one cell, not the batch.

    Raises: ShardMissing.
    """
    with suppress(DeviceError):
        return _read_run(shards, name, batch)
    found: dict[StripeAt, memoryview | str] = {}
    for at in batch:
        try:
            found |= _read_run(shards, name, [at])
        except DeviceError as error:
            found[at] = str(error)
    return found


def _read_run(shards: ShardBackend, name: ShardName, batch: Sequence[StripeAt]) -> Read:
    start = batch[0].position
    data = memoryview(shards.read_at(name, start, end_of(batch[-1]) - start))
    return {at: data[at.position - start : end_of(at) - start] for at in batch}


def _payload_length(whole: Iterable[memoryview], most: int) -> int:
    """As a header says. A cell counts although this field of its header is damaged beyond correction; where no header
    has it, the stripe is as good as full: what is behind its payload is zeros."""
    for part in whole:
        with suppress(ShardCorrupt):
            return unpack_header(part[:HEADER_SIZE]).payload_length
    return most


def begin(shards: ShardBackend, name: ShardName, length: int) -> OpenShard:
    """A new shard, with the room that it needs."""
    shard = shards.begin_anew(name)
    try:
        if length:
            shard.preallocate(0, length)  # what does not fit is known before anything is read
    except BaseException:
        shard.close()
        raise
    return shard


def write(shard: OpenShard, parts: Sequence[tuple[int, list[Buffer]]]) -> None:
    """What lies behind one another is written by one call."""
    for position, pieces in _runs(parts):
        shard.write_at(position, pieces)


def _runs(parts: Sequence[tuple[int, list[Buffer]]]) -> Iterator[tuple[int, list[Buffer]]]:
    start = end = 0
    run: list[Buffer] = []
    for position, pieces in parts:
        if run and (position != end or len(run) + len(pieces) > _PIECES_MAX):
            yield start, run
            run = []
        if not run:
            start = end = position
        run += pieces
        end += sum(map(len, pieces))
    if run:
        yield start, run
