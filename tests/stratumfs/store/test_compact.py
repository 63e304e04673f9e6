"""Volumes that take more room than their bytes need are repacked, and nobody notices."""

import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest

from stratumfs.catalog import compaction
from stratumfs.catalog.volumes import FREED, OPEN, SEALED, VolumeRow, dead_bytes, volumes
from stratumfs.errors import DeviceFailed
from stratumfs.ids import CellIndex
from stratumfs.limits import MERGE_VOLUMES
from stratumfs.shards.layout import ShardName
from stratumfs.store import maintenance, repack
from stratumfs.store.compact import Compactor
from stratumfs.store.repack import Repack
from stratumfs.store.space import TierSpace
from stratumfs.store.store import Store
from stratumfs.volumes.placement import Candidate
from tests.faults import acts
from tests.faults.audit import audit_rows
from tests.stores import attached, make_warm, running_store
from tests.stratumfs.store.helpers import ANY, MIB, bucket, get, put
from tests.stratumfs.store.racing import Racing, between

DATA = {b"large": os.urandom(3 * MIB), b"small": os.urandom(20_000), b"other": os.urandom(MIB)}


async def widths(store: Store) -> list[int]:
    """Of the volumes that hold something."""
    found = [each for state in (OPEN, SEALED) for each in await store.catalog.read(volumes, state)]
    return [each.k + each.m for each in found if each.live]


async def fill(store: Store) -> None:
    await store.objects.create_bucket("bucket", 1)
    for key, data in DATA.items():
        await put(store, key, data)


async def all_is_well(store: Store) -> None:
    for key, data in DATA.items():
        assert await get(store, key) == data
    assert await audit_rows(store) == []


async def test_they_are_repacked_when_the_device_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 0.0)
    async with running_store(tmp_path) as store:
        first = next(iter(store.devices))
        await store.fleet.strike(first, DeviceFailed("Input/output error", "d0"))
        await fill(store)
        await store.compactor.round()
        assert await widths(store) == [5]
        await store.fleet.restore(attached(tmp_path)[first])
        await store.compactor.round()
        assert await widths(store) == [6]
        await all_is_well(store)
        for _ in range(2):
            await store.maintenance.round()
        left = [each for state in (SEALED, FREED) for each in await store.catalog.read(volumes, state)]
        assert [each.id for each in left if each.k + each.m == 5] == []
        await all_is_well(store)


async def test_what_would_be_narrow_again_is_not_widened_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repacked: list[tuple[str, int]]
) -> None:
    async with running_store(tmp_path) as store:
        first = next(iter(store.devices))
        await store.fleet.strike(first, DeviceFailed("Input/output error", "d0"))
        await fill(store)
        await store.fleet.restore(attached(tmp_path)[first])
        candidates = store.volume_writer._candidates

        async def all_but_one() -> list[Candidate]:
            return [each for each in await candidates() if each.device != first]

        monkeypatch.setattr(store.volume_writer, "_candidates", all_but_one)
        await store.compactor.round()
        assert [what for what, _ in repacked] == ["widen"]
        await all_is_well(store)


async def test_the_next_owner_does_it_by_itself(tmp_path: Path) -> None:
    async with running_store(tmp_path):
        pass  # has made the devices
    some = dict(list(attached(tmp_path).items())[:4])
    async with running_store(tmp_path, devices=some) as store:
        await fill(store)
        assert await widths(store) == [4]
    async with running_store(tmp_path) as store:
        await store.compactor.round()
        assert await widths(store) == [6]
        await all_is_well(store)


async def test_what_is_damaged_stays_and_holds_up_nothing(tmp_path: Path) -> None:
    async with running_store(tmp_path):
        pass
    some = dict(list(attached(tmp_path).items())[:3])
    async with running_store(tmp_path, devices=some) as store:
        await fill(store)
        [row] = await store.catalog.read(volumes, OPEN)
        await store.volume_writer.seal(row.id)
        await put(store, b"behind", DATA[b"other"])
    found = attached(tmp_path)
    for cell, ident in enumerate(row.devices):
        found[ident].shards.unlink(ShardName(row.id, CellIndex(cell)))
    async with running_store(tmp_path) as store:
        await store.compactor.round()
        assert sorted(await widths(store)) == [3, 6]
        assert await get(store, b"behind") == DATA[b"other"]


async def in_use(store: Store) -> list[VolumeRow]:
    """Volumes that hold something, open ones too."""
    found = [each for state in (OPEN, SEALED) for each in await store.catalog.read(volumes, state)]
    return [each for each in found if each.live]


def volumes_on_devices(folder: Path) -> set[str]:
    return {path.name.partition(".")[0] for path in folder.glob("d*/volumes/*/*")}


async def half_dead(store: Store) -> dict[bytes, bytes]:
    """A sealed volume with a small object and a large one, and much that is dead. Returns what is left."""
    data = {b"large": os.urandom(2 * MIB), b"small": os.urandom(20_000), b"gone": os.urandom(4 * MIB)}
    for key, value in data.items():
        await put(store, key, value)
    await store.volume_writer.seal_idle(0)
    await store.objects.delete("bucket", b"gone", ANY, time.time_ns())
    await store.maintenance.round()
    del data[b"gone"]
    return data


@pytest.fixture
def repacked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Why, and how many bytes, of each repack that a compactor makes."""
    found: list[tuple[str, int]] = []
    run = Compactor._repack

    async def told(self: Compactor, what: str, tier: str, rows: Sequence[VolumeRow]) -> None:
        found.append((what, sum(row.live for row in rows)))
        await run(self, what, tier, rows)

    monkeypatch.setattr(Compactor, "_repack", told)
    return found


async def test_a_half_dead_volume_is_repacked_and_freed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repacked: list[tuple[str, int]]
) -> None:
    monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 0.0)
    async with bucket(tmp_path) as store:
        data = await half_dead(store)
        (before,) = await in_use(store)
        assert await store.catalog.read(dead_bytes) >= 4 * MIB
        assert (await store.catalog.read(compaction.waiting, "hot", 6))["half_dead"] == 1
        await store.compactor.round()
        assert repacked == [("compact", 2 * MIB + 20_000)]
        (after,) = await in_use(store)
        assert (after.id != before.id, after.live) == (True, before.live)
        for _ in range(2):
            await store.maintenance.round()
        assert await store.catalog.read(dead_bytes) == 0
        assert volumes_on_devices(tmp_path) == {after.id.hex()}
        store.volume_reader._cache._cells.clear()
        for key, value in data.items():
            assert await get(store, key) == value
        assert await audit_rows(store) == []


async def test_bytes_of_an_upload_that_was_broken_off_are_dead(tmp_path: Path, repacked: list[tuple[str, int]]) -> None:
    async with bucket(tmp_path) as store:
        await put(store, b"k", os.urandom(20_000))
        async with store.objects.put("bucket") as body:
            await body.write(os.urandom(2 * MIB))
            await body.finish()
            await store.volume_writer.seal_idle(0)
            await store.compactor.round()
            assert repacked == []  # somebody may name them yet
        await store.compactor.round()
        assert repacked == [("compact", 20_000)]


async def test_small_volumes_are_merged_once_there_are_enough(tmp_path: Path, repacked: list[tuple[str, int]]) -> None:
    data = {b"%d" % number: os.urandom(20_000) for number in range(MERGE_VOLUMES)}
    async with bucket(tmp_path) as store:
        for number, (key, value) in enumerate(data.items()):
            await store.compactor.round()
            assert (repacked, len(await in_use(store))) == ([], number)
            await put(store, key, value)
            await store.volume_writer.seal_idle(0)
        await store.compactor.round()
        assert repacked == [("merge", MERGE_VOLUMES * 20_000)]
        assert len(await in_use(store)) == 1
        for key, value in data.items():
            assert await get(store, key) == value


async def test_what_trickles_in_is_not_merged_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repacked: list[tuple[str, int]]
) -> None:
    monkeypatch.setattr(compaction, "MERGE_BOUNDS", (1, 160_000, 1_280_000, 10_240_000))
    async with bucket(tmp_path) as store:
        for number in range(64):
            await put(store, b"%d" % number, os.urandom(20_000))
            for _ in range(2):
                await store.volume_writer.seal_idle(0)
                await store.compactor.round()
        assert len(await in_use(store)) == 1
        assert sum(count for _, count in repacked) == 2 * 64 * 20_000  # once for each class


async def test_a_full_store_is_compacted_out_of_what_is_kept_for_it_and_not_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repacked: list[tuple[str, int]]
) -> None:
    async with bucket(tmp_path) as store:
        data = await half_dead(store)

        monkeypatch.setattr(store.space, "_sum_up", lambda: None)  # what the devices say changes nothing
        store.space.now = TierSpace(100 * MIB, 0, 0)
        await store.compactor.round()
        (row,) = await in_use(store)
        store.space.now = TierSpace(100 * MIB, 0, 20 * MIB)
        await store.compactor.round()
        assert [what for what, _ in repacked] == ["compact", "compact"]
        assert row.id not in {each.id for each in await in_use(store)}
        for key, value in data.items():
            assert await get(store, key) == value


async def test_a_read_only_store_is_left_as_it_is(tmp_path: Path, repacked: list[tuple[str, int]]) -> None:
    async with bucket(tmp_path) as store:
        await half_dead(store)
        store.refuse_writes("for a test")
        await store.compactor.round()
        assert repacked == []


async def test_what_could_not_be_emptied_is_put_off_and_holds_up_nothing(
    tmp_path: Path, repacked: list[tuple[str, int]]
) -> None:
    async with bucket(tmp_path) as store:
        await half_dead(store)
        (row,) = await in_use(store)
        await store.catalog.write(
            lambda tx: tx.run("update extent set offset = 1 where volume = ? and length = 20000", (row.id,))
        )
        await put(store, b"other", os.urandom(20_000))
        async with store.objects.put("bucket") as body:
            await body.write(os.urandom(2 * MIB))
            await body.finish()
        await store.volume_writer.seal_idle(0)
        for _ in range(3):
            await store.compactor.round()
        assert repacked == [("compact", 20_000), ("compact", 2 * MIB + 20_000)]
        assert sorted(each.live for each in await in_use(store)) == [20_000, 2 * MIB + 20_000]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
async def test_users_overwrite_and_delete_all_the_time_and_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, repacked: list[tuple[str, int]]
) -> None:
    monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 0.0)
    monkeypatch.setattr(repack, "REPACK_BYTES", 200_000)
    monkeypatch.setattr(repack, "SWAP_ROWS", 3)
    monkeypatch.setattr("stratumfs.catalog.swap.SWAP_ROWS", 3)
    async with bucket(tmp_path) as store:
        store.volume_writer._payload_seal = 300_000
        racing = Racing(store, seed, sizes=(100, 4096, 20_000, 70_000, 150_000))
        for _ in range(6):
            await racing.make()
        with monkeypatch.context() as patched:
            step = between(store, racing.step, patched)
            for _ in range(8):
                for _ in range(3):
                    await step()
                await store.volume_writer.seal_idle(0)
                await store.packer.round(1 << 40)
                await store.compactor.round()
                await store.maintenance.round()
        assert {what for what, _ in repacked} >= {"compact"}
        store.volume_reader._cache._cells.clear()
        await racing.check()
        await store.volume_writer.seal_idle(0)
        await store.compactor.round()
        for _ in range(2):
            await store.maintenance.round()
        assert not any((await store.catalog.read(compaction.waiting, "hot", 6)).values())
        store.volume_reader._cache._cells.clear()
        await racing.check()
        assert await audit_rows(store) == []


@pytest.mark.parametrize("had_begun", [True, False])
async def test_a_move_that_compaction_overtakes_ends_where_it_was_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repacked: list[tuple[str, int]], had_begun: bool
) -> None:
    """Of what a move is to take only a compaction that had begun before makes it look again. (Long moves were overtaken
    again and again, and ended with files that lay in both tiers.)"""
    if had_begun:
        monkeypatch.setattr(Compactor, "sparing", lambda *_: nullcontext())
    make_warm(tmp_path)
    async with bucket(tmp_path) as store:
        data = await half_dead(store)
        swap = Repack._swap

        async def overtaken(self: Repack, *args: object) -> None:
            monkeypatch.setattr(Repack, "_swap", swap)
            await store.compactor.round()
            await swap(self, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(Repack, "_swap", overtaken)
        await acts.move(store, "bucket", "warm")
        assert [what for what, _ in repacked] == ["compact"] * had_begun
        assert {row.tier for row in await in_use(store)} == {"warm"}
        for key, value in data.items():
            assert await get(store, key) == value
