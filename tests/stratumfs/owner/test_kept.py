"""Volumes that are freed, and kept because an older catalog that is brought back from a backup names them."""

import time
from pathlib import Path

import pytest

from stratumfs.catalog.held import placed
from stratumfs.catalog.volumes import FREED, SEALED, VolumeRow, volumes
from stratumfs.errors import DeviceFailed
from stratumfs.ids import CellIndex
from stratumfs.owner import create, drain, wire
from stratumfs.shards.layout import ShardName, path_of
from stratumfs.store.store import Store
from stratumfs.values import Conditions
from tests.stratumfs.owner.helpers import DATA, KEYS, devices, filled, opened
from tests.stratumfs.owner.test_drain import drained
from tests.stratumfs.store.helpers import put

DAY_S = 86400.0


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """One device more than a volume is wide."""
    create.make_store(tmp_path / "store", devices(tmp_path, 7), 4, 2, KEYS)
    return tmp_path / "store"


async def freed(running: wire.Running, keep_s: float = DAY_S) -> VolumeRow:
    """The only volume, of which nothing is named any more."""
    running.store.maintenance.keep_s = keep_s
    await filled(running)
    await running.store.objects.delete("bucket", b"key", Conditions(), time.time_ns())
    await running.store.maintenance.reap()
    await running.store.maintenance.round()
    return await only_freed(running.store)


async def only_freed(store: Store) -> VolumeRow:
    [row] = await store.catalog.read(volumes, FREED)
    return row


def shard(running: wire.Running, row: VolumeRow, cell: int) -> Path:
    return running.folders.entry(row.devices[cell]).path / path_of(ShardName(row.id, CellIndex(cell)))


async def test_a_drain_moves_them(store: Path) -> None:
    async with opened(store) as running:
        before = await freed(running)
        data = shard(running, before, 3).read_bytes()
        found = await drained(running, before.devices[3].hex())
        after = await only_freed(running.store)
        assert (found["shards_left"], found["bytes_left"]) == (0, 0)
        assert after.devices[3] not in before.devices
        assert shard(running, after, 3).read_bytes()[: after.length] == data[: after.length]


async def test_they_keep_no_drain_from_beginning_for_want_of_room(store: Path) -> None:
    async with opened(store) as running:
        before = await freed(running)
        for device in running.store.devices.values():
            device.free = lambda: 1
        found = await drained(running, before.devices[3].hex())
        assert (found["shards_left"], found["bytes_left"]) == (1, before.length)


async def test_what_is_not_kept_is_not_moved_and_holds_up_no_drain(store: Path) -> None:
    async with opened(store) as running:
        before = await freed(running, 0)
        found = await drained(running, before.devices[3].hex())
        assert found["shards_left"] == 0
        assert (await only_freed(running.store)).devices == before.devices


async def test_they_are_repaired_behind_all_others(store: Path) -> None:
    async with opened(store) as running:
        before = await freed(running)
        shard(running, before, 1).unlink()
        await running.store.fleet.strike(before.devices[0], DeviceFailed("it burns"))
        await running.store.repairer.wait_settled()
        after = await only_freed(running.store)
        assert after.devices[0] not in before.devices
        for cell in range(6):
            assert shard(running, after, cell).exists()


async def test_one_that_moved_while_it_was_unlinked_is_unlinked_where_it_is(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(store) as running:
        before = await freed(running)
        maintenance, free = running.store.maintenance, running.store._free_shards

        async def moved_meanwhile(row: VolumeRow) -> bool:
            if row.devices == before.devices:
                await drained(running, row.devices[3].hex())
            return await free(row)

        monkeypatch.setattr(maintenance, "_free_shards", moved_meanwhile)
        await maintenance._unlink_freed(time.time_ns(), time.time_ns())
        moved = shard(running, await only_freed(running.store), 3)
        assert moved.exists()
        await maintenance._unlink_freed(time.time_ns(), time.time_ns())
        assert await running.store.catalog.read(volumes, FREED) == []
        assert not moved.exists()


async def test_sums_of_shards_are_made_in_chunks(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop does other things between them."""
    for name in ("SUMMED_ROWS_MAX", "COUNTED_ROWS_MAX"):
        monkeypatch.setattr(f"stratumfs.catalog.held.{name}", 1)
    async with opened(store) as running:
        await filled(running)
        await put(running.store, b"other", DATA)
        await running.store.writer.volumes.seal_idle(0)
        sums = [await drain.held_by(running, each.id) for each in running.folders.identity.devices]
        rows = await running.store.catalog.read(volumes, SEALED)
        assert sum(each.shards for each in sums) == 12
        assert sum((await placed(running.store.catalog)).values()) == 12
        assert sum(each.bytes for each in sums) == 6 * sum(row.length for row in rows)
