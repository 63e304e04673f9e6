"""A tier of devices in memory, and a ledger that remembers: what tests of volumes stand on."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from stratumfs.devices.health import DeviceState
from stratumfs.erasure.code import Code
from stratumfs.ids import Buffer, CellIndex, DeviceId, StoreId, VolumeId
from stratumfs.location import Location
from stratumfs.shards.layout import ShardName
from stratumfs.shards.memory import MemoryShards
from stratumfs.store.fleet import Fleet
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.fleet import SealMark
from stratumfs.volumes.format import VolumeInfo
from stratumfs.volumes.pending import PendingStripe
from stratumfs.volumes.reader import VolumeReader
from stratumfs.volumes.toc import TocEntry
from stratumfs.volumes.writer import VolumeWriter

STORE = StoreId(b"the tested store")
STEP = 4096


@dataclass
class Ledger:
    """A `VolumeLedger` and a `DeviceLedger` in memory."""

    volumes: dict[VolumeId, VolumeInfo] = field(default_factory=dict)
    ends: dict[VolumeId, tuple[int, int]] = field(default_factory=dict)
    entries: dict[VolumeId, list[TocEntry]] = field(default_factory=dict)
    failure: Exception | None = None
    states: dict[DeviceId, DeviceState] = field(default_factory=dict)
    drains: set[DeviceId] = field(default_factory=set)

    async def opened(self, volume: VolumeInfo) -> None:
        self._fail()
        self.volumes[volume.id] = volume

    async def sealed(self, volume: VolumeId, length: int, stripes: int) -> None:
        self._fail()
        self.ends[volume] = (length, stripes)

    async def struck(self, device: DeviceId, state: DeviceState, reason: str, marks: Sequence[SealMark]) -> None:
        self._fail()
        self.states[device] = state
        self.ends.update((mark.volume, (mark.length, mark.stripes)) for mark in marks)

    async def restored(self, device: DeviceId) -> None:
        self._fail()
        del self.states[device]

    async def drained(self, device: DeviceId, wanted: bool) -> None:
        self._fail()
        (self.drains.add if wanted else self.drains.discard)(device)

    async def contents(self, volume: VolumeId) -> Sequence[TocEntry]:
        return self.entries.get(volume, [])

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


class Tier:
    """Devices, a writer and a reader over them, and all that they reported.

    now      on the devices' clock, which stands still but for who sets it
    stripes  by where they lay when they were appended
    """

    def __init__(self, k: int = 4, m: int = 2, *, devices: int | None = None, payload_seal: int = 1 << 20) -> None:
        self.code = Code(k, m)
        self.shards = [MemoryShards(f"device {at}") for at in range(devices or self.code.n)]
        self.now = 1000.0
        attached = [
            AttachedDevice(DeviceId(bytes([at]) * 16), each.device, each, clock=lambda: self.now)
            for at, each in enumerate(self.shards)
        ]
        self.devices = {device.id: device for device in attached}
        self.ledger = Ledger()
        self.fleet = Fleet(self.devices, {"hot": self.code}, self.ledger)
        self.damage: list[tuple[VolumeId, CellIndex, str]] = []
        self.stripes: dict[Location, PendingStripe] = {}
        self.payload_seal = payload_seal
        self.writer = self.new_writer()
        self.reader = self.new_reader()

    def new_writer(self) -> VolumeWriter:
        writer = VolumeWriter(
            STORE, "hot", self.code, self.fleet, self.ledger, payload_seal=self.payload_seal, preallocate=STEP
        )
        self.fleet.writers.append(writer)
        return writer

    def new_reader(self, *, cache_bytes: int = 1 << 20, hedge_s: float = 10.0) -> VolumeReader:
        return VolumeReader(
            STORE,
            self.devices,
            lambda volume, index, error: self.damage.append((volume.id, index, str(error))),
            cache_bytes=cache_bytes,
            hedge_s=hedge_s,
        )

    @property
    def struck(self) -> list[int]:
        """Numbers of the devices that are recorded as struck."""
        return sorted(ident[0] for ident in self.ledger.states)

    async def append(self, data: Buffer, after: Location | None = None) -> Location:
        """Write one stripe; where it lies."""
        stripe = PendingStripe(data)
        await self.writer.append(stripe, self.stripes[after] if after is not None else None)
        self.stripes[stripe.at] = stripe
        return stripe.at

    async def sync(self, *locations: Location) -> list[Location]:
        """Sync the stripes that were appended there; where they lie now."""
        stripes = [self.stripes[each] for each in locations]
        await self.writer.sync(stripes)
        return [stripe.at for stripe in stripes]

    def info(self, location: Location) -> VolumeInfo:
        return self.ledger.volumes[location.volume]

    def shards_of(self, volume: VolumeId, index: int) -> MemoryShards:
        """The shards of the device that holds shard *index*."""
        shards = self.devices[self.ledger.volumes[volume].devices[index]].shards
        assert isinstance(shards, MemoryShards)
        return shards

    def shard(self, volume: VolumeId, index: int) -> bytearray:
        """The bytes of one shard, to be damaged."""
        return self.shards_of(volume, index).contents[ShardName(volume, CellIndex(index))]

    async def read(self, location: Location, start: int, length: int) -> bytes:
        return bytes(await self.reader.read(self.info(location), location, start, length))


def payload(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)
