"""Shards that no row knows."""

from pathlib import Path

from stratumfs.ids import CellIndex, VolumeId
from stratumfs.repair.quarantine import quarantine_unknown
from stratumfs.shards.layout import QUARANTINE_FOLDER, ShardName
from stratumfs.store.writer import PendingStripe
from tests.stores import running_store

UNKNOWN = VolumeId(b"u" * 16)


async def test_unknown_shards_move_aside_and_known_ones_stay(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        await store.writer.append(PendingStripe(b"x" * 20_000))
        known = {device.id: list(device.shards.names()) for device in store.devices.values()}
        odd = next(iter(store.devices.values()))
        shard = odd.shards.create(ShardName(UNKNOWN, CellIndex(0)))
        shard.write_at(0, [b"what a newer catalog may know"])
        shard.close()

        assert await quarantine_unknown(store.catalog, store.devices) == {}
        assert await quarantine_unknown(store.catalog, store.devices) == {}

        assert {device.id: list(device.shards.names()) for device in store.devices.values()} == known
        aside = Path(odd.label) / QUARANTINE_FOLDER / f"{UNKNOWN.hex()}.0"
        assert aside.read_bytes() == b"what a newer catalog may know"


async def test_a_device_that_fails_keeps_its_shards_and_stops_nobody(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        failing, other = list(store.devices.values())[:2]
        for device in (failing, other):
            device.shards.create(ShardName(UNKNOWN, CellIndex(0))).close()
        (Path(failing.label) / QUARANTINE_FOLDER).write_bytes(b"a file where the folder should be")

        assert list(await quarantine_unknown(store.catalog, store.devices)) == [failing.id]

        assert list(failing.shards.names()) == [ShardName(UNKNOWN, CellIndex(0))]
        assert list(other.shards.names()) == []
