"""Shards that no row knows."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from stratumfs.ids import CellIndex, DeviceId, VolumeId
from stratumfs.limits import LISTING_S
from stratumfs.repair.quarantine import quarantine_unknown
from stratumfs.shards.layout import QUARANTINE_FOLDER, ShardName
from stratumfs.shards.memory import MemoryShards
from stratumfs.store.writer import PendingStripe
from stratumfs.volumes.attached import AttachedDevice
from tests.stores import running_store
from tests.suites.shard_backend import all_names

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
UNKNOWN = VolumeId(b"u" * 16)


async def test_unknown_shards_move_aside_and_known_ones_stay(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        await store.writer.append(PendingStripe(b"x" * 20_000))
        known = {device.id: all_names(device.shards) for device in store.devices.values()}
        odd = next(iter(store.devices.values()))
        shard = odd.shards.create(ShardName(UNKNOWN, CellIndex(0)))
        shard.write_at(0, [b"what a newer catalog may know"])
        shard.close()

        assert await quarantine_unknown(store.catalog, store.devices) == {}
        assert await quarantine_unknown(store.catalog, store.devices) == {}

        assert {device.id: all_names(device.shards) for device in store.devices.values()} == known
        aside = Path(odd.label) / QUARANTINE_FOLDER / f"{UNKNOWN.hex()}.0"
        assert aside.read_bytes() == b"what a newer catalog may know"


async def test_a_device_that_fails_keeps_its_shards_and_stops_nobody(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        failing, other = list(store.devices.values())[:2]
        for device in (failing, other):
            device.shards.create(ShardName(UNKNOWN, CellIndex(0))).close()
        (Path(failing.label) / QUARANTINE_FOLDER).write_bytes(b"a file where the folder should be")

        assert list(await quarantine_unknown(store.catalog, store.devices)) == [failing.id]

        assert all_names(failing.shards) == [ShardName(UNKNOWN, CellIndex(0))]
        assert all_names(other.shards) == []


async def test_regression_a_device_with_many_shards_is_listed_in_many_calls(tmp_path: Path) -> None:
    """Each has a deadline, and no listing of all would keep it."""
    shards = MemoryShards()
    names = [ShardName(VolumeId(bytes([first]) * 16), CellIndex(0)) for first in range(0, 256, 3)]
    for name in names:
        shards.create(name).close()
    seconds = 0.0

    def took(verb: str, name: ShardName | None) -> None:
        nonlocal seconds
        seconds += 0.4

    class Watched(AttachedDevice):
        longest = 0.0

        def timed(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
            begun = seconds
            try:
                return super().timed(fn, *args)
            finally:
                self.longest = max(self.longest, seconds - begun)

    shards.fault = took
    device = Watched(DeviceId(b"d" * 16), "many", shards, clock=lambda: seconds)
    async with running_store(tmp_path) as store:
        assert await quarantine_unknown(store.catalog, {device.id: device}) == {}
    assert sorted(shards.quarantined()) == names
    assert device.longest < LISTING_S + 1
