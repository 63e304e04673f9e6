"""Volumes that move to another tier whole."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from stratumfs.catalog.damage import note_damage
from stratumfs.catalog.moves import last_move
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.vacated import Vacated, vacated
from stratumfs.catalog.volumes import SEALED, VolumeRow, place_shards, volume, volumes
from stratumfs.erasure.code import Code
from stratumfs.errors import DeviceFailed, DeviceFull, StoreFull
from stratumfs.ids import CellIndex, DeviceId, VolumeId
from stratumfs.limits import TRANSACTION_ROWS_MAX
from stratumfs.repair.check_shards import place_lost, remember_lost
from stratumfs.repair.findings import Report
from stratumfs.repair.homes import new_homes
from stratumfs.repair.rebuild import Rebuilt
from stratumfs.repair.repairer import Repairer
from stratumfs.shards.layout import ShardName, folder_of, path_of
from stratumfs.shards.local import LocalShards
from stratumfs.store import maintenance
from stratumfs.store.relocate import Homes, Relocator
from stratumfs.store.repack import Pace
from stratumfs.store.space import keep_free
from stratumfs.store.store import Store
from stratumfs.values import Extent, ObjectInfo, ObjectSpec
from stratumfs.volumes.attached import AttachedDevice
from tests.faults import acts
from tests.faults.audit import audit_rows, audit_shards
from tests.stores import STORE, make_store, make_warm, running_store
from tests.stratumfs.store.helpers import ANY, MIB, get, put
from tests.stratumfs.store.racing import write_at

KEYS = [b"a", b"b", b"c"]


@asynccontextmanager
async def twins(folder: Path) -> AsyncIterator[Store]:
    """A store with two tiers of one code."""
    if not (folder / "catalog").exists():
        make_store(folder, 3)
        make_warm(folder)
    async with running_store(folder, Code(2, 1)) as store:
        if not await store.objects.buckets():
            await store.objects.create_bucket("bucket", time.time_ns())
        yield store


async def furnished(store: Store) -> tuple[dict[bytes, bytes], VolumeId]:
    """Objects of several sizes in one volume, which is sealed."""
    data = {key: os.urandom(size) for key, size in zip(KEYS, (2 * MIB + 77, 40_000, 18_000), strict=True)}
    for key, each in data.items():
        await put(store, key, each)
    await sealed(store)
    [row] = await store.catalog.read(volumes, SEALED)
    return data, row.id


async def sealed(store: Store) -> None:
    await store.volume_writer.seal_idle(0)


def files(folder: Path, letter: str) -> int:
    return sum(each.is_file() for each in folder.glob(f"{letter}*/**/*") if "volumes" in each.parts)


async def layout(store: Store, info: ObjectInfo) -> list[Extent]:
    return await store.reader.layout(info.ino, 0, 1 << 40)


async def tidied(store: Store) -> None:
    for _ in range(2):
        await store.maintenance.round()
    assert await store.catalog.read(vacated) == []
    assert not await audit_rows(store, tidy=True)
    assert not await audit_shards(store)


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 0.0)


async def test_a_volume_moves_whole_there_and_back_and_no_extent_is_touched(tmp_path: Path) -> None:
    async with twins(tmp_path) as store:
        data, ident = await furnished(store)
        infos = {key: await store.objects.info("bucket", key) for key in data}
        before = {key: await layout(store, info) for key, info in infos.items()}
        for tier, other in (("warm", "d"), ("hot", "w")):
            await acts.move(store, "bucket", tier)
            row = await store.catalog.read(volume, ident)
            assert row is not None
            assert (row.tier, row.state) == (tier, SEALED)
            assert {key: await layout(store, info) for key, info in infos.items()} == before
            store.volume_reader._cache._cells.clear()
            for key, each in data.items():
                assert await get(store, key) == each
                last = await store.catalog.read(last_move, infos[key].ino)
                assert last is not None
                assert (last.move.tier, last.move.bytes) == (tier, sum(map(len, data.values())))
            await tidied(store)
            assert files(tmp_path, other) == 0
    async with twins(tmp_path) as store:
        for key, each in data.items():
            assert await get(store, key) == each


async def test_what_is_overwritten_deleted_and_copied_meanwhile_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with twins(tmp_path) as store:
        data, ident = await furnished(store)
        ino = (await store.objects.info("bucket", b"a")).ino
        copy = Relocator._copy
        patch = os.urandom(30_000)

        async def raced(self: Relocator, *args: object) -> bool:
            done = await copy(self, *args)  # type: ignore[arg-type]
            await write_at(store, ino, 1000, patch)
            assert await store.objects.delete("bucket", b"b", ANY, time.time_ns())
            await store.objects.copy("bucket", b"c", None, "bucket", b"d", ObjectSpec(), ANY, time.time_ns())
            return done

        monkeypatch.setattr(Relocator, "_copy", raced)
        await acts.move(store, "bucket", "warm")
        row = await store.catalog.read(volume, ident)
        assert row is not None
        assert row.tier == "warm"
        store.volume_reader._cache._cells.clear()
        wanted = data[b"a"][:1000] + patch + data[b"a"][1000 + len(patch) :]
        assert await get(store, b"a") == wanted
        assert await get(store, b"c") == await get(store, b"d") == data[b"c"]
        await sealed(store)
        await tidied(store)


async def test_a_volume_that_is_deleted_meanwhile_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with twins(tmp_path) as store:
        data, _ = await furnished(store)
        copy = Relocator._copy

        async def raced(self: Relocator, *args: object) -> bool:
            done = await copy(self, *args)  # type: ignore[arg-type]
            for key in data:
                await store.objects.delete("bucket", key, ANY, time.time_ns())
            await store.maintenance.round()
            assert not await store.catalog.read(volumes, SEALED)
            return done

        monkeypatch.setattr(Relocator, "_copy", raced)
        await acts.move(store, "bucket", "warm")
        await tidied(store)
        assert files(tmp_path, "w") == files(tmp_path, "d") == 0


@pytest.mark.parametrize("why", ["others live there", "most of it is dead", "it lacks a shard", "a device is full"])
async def test_where_it_cannot_move_whole_its_bytes_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    async with twins(tmp_path) as store:
        data, ident = await furnished(store)
        await store.objects.create_bucket("other", 1)
        if why == "others live there":
            await store.objects.copy("bucket", b"b", None, "other", b"k", ObjectSpec(), ANY, time.time_ns())
        if why == "most of it is dead":
            await store.objects.delete("bucket", b"a", ANY, time.time_ns())
            del data[b"a"]
        if why == "it lacks a shard":
            await store.catalog.write(note_damage, [(ident, CellIndex(0), "a bad cell")], 1)
        if why == "a device is full":
            install, refusing = LocalShards.install, [True]

            def full(self: LocalShards, name: object) -> None:
                if "w1" in str(self.root) and refusing:
                    refusing.clear()
                    raise DeviceFull("no room")
                install(self, name)  # type: ignore[arg-type]

            monkeypatch.setattr(LocalShards, "install", full)
        await acts.move(store, "bucket", "warm")
        row = await store.catalog.read(volume, ident)
        assert row is None or row.tier == "hot"
        for key, each in data.items():
            assert await get(store, key) == each
            extents = await layout(store, await store.objects.info("bucket", key))
            if why != "a device is full":
                assert {(await store.reader.volume(e.location.volume)).tier for e in extents if e.location} == {"warm"}
        await store.reader.volume(ident)
        assert not await audit_rows(store)
        assert not await audit_shards(store)


async def test_what_is_read_by_its_old_place_is_there_until_it_was_read(tmp_path: Path) -> None:
    async with twins(tmp_path) as store:
        _, ident = await furnished(store)
        with store.reader.keeping({ident}):
            old = await store.reader.volume(ident)
            await acts.move(store, "bucket", "warm")
            for _ in range(2):
                await store.maintenance.round()
            assert len(await store.catalog.read(vacated)) == 3
            assert files(tmp_path, "d") == 3
            assert await store.reader.volume(ident) != old
        await tidied(store)
        assert files(tmp_path, "d") == 0


async def test_one_that_is_stopped_leaves_nothing_and_goes_back_only_when_all_that_it_left_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with twins(tmp_path) as store:
        data, ident = await furnished(store)
        with trio.CancelScope() as scope:

            async def stopping(_: float, moved: int) -> None:
                scope.cancel()
                await trio.lowlevel.checkpoint()

            await store.relocator.move({ident: 1 << 40}, "warm", None, stopping)
        assert scope.cancelled_caught
        assert files(tmp_path, "w") == 0
        await acts.move(store, "bucket", "warm")
        monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 60.0)
        await store.maintenance.round()
        assert await store.relocator.move({ident: 1 << 40}, "hot", None, stopping) == 0
        await acts.move(store, "bucket", "hot")
        for key, each in data.items():
            assert await get(store, key) == each


async def test_regression_what_a_device_that_is_away_keeps_holds_up_no_other(tmp_path: Path) -> None:
    """Its files could not be unlinked, and were all that was looked at, as soon as they filled a chunk."""
    async with twins(tmp_path) as store:
        _, ident = await furnished(store)
        row = await store.catalog.read(volume, ident)
        assert row is not None
        away = row.devices[0]
        await store.catalog.write(leave_behind, away, 2 * TRANSACTION_ROWS_MAX + 1)
        await acts.move(store, "bucket", "warm")
        await store.fleet.strike(away, DeviceFailed("it burns"))
        for _ in range(2):
            await store.maintenance.round()
        assert {each.device for each in await every_vacated(store)} == {away}
        assert files(tmp_path, "d") == 1


def leave_behind(tx: Transaction, device: DeviceId, count: int) -> None:
    for number in range(count):
        tx.run("insert into vacated values (?, 0, ?, 1)", (number.to_bytes(16, "big"), device))


async def every_vacated(store: Store) -> list[Vacated]:
    return await store.catalog.read(vacated, None, 10_000)


async def test_regression_a_shard_that_lies_in_the_other_tier_already_is_not_given_up_with_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does whose row was made again of what lies where, in the middle of what was being vacated."""
    async with twins(tmp_path) as store:
        data, ident = await furnished(store)
        row = await store.catalog.read(volume, ident)
        assert row is not None
        cells = [CellIndex(cell) for cell in range(3)]
        homes = await new_homes(store.fleet, replace(row, tier="warm", devices=()), cells, ())
        name = ShardName(ident, cells[0])
        path = Path(homes[cells[0]].label) / path_of(name)
        path.parent.mkdir(parents=True)
        (Path(store.devices[row.devices[0]].label) / path_of(name)).rename(path)
        placed = tuple(enumerate([homes[cells[0]].id, *row.devices[1:]]))
        await store.catalog.commit(place_shards, ident, placed)
        store.reader.forget(ident)
        copy = Relocator._copy

        async def fails(self: Relocator, *args: object) -> bool:
            await copy(self, *args)  # type: ignore[arg-type]
            return False

        monkeypatch.setattr(Relocator, "_copy", fails)
        await acts.move(store, "bucket", "warm")
        now = await store.catalog.read(volume, ident)
        assert now is None or now.devices[0] != homes[cells[0]].id or path.exists(), "unless repair has moved it back"
        for key, each in data.items():
            assert await get(store, key) == each
        assert not await audit_shards(store)


async def test_regression_no_volume_moves_to_a_device_that_failed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was whole, and what it left would have been removed while a shard was missing."""
    async with twins(tmp_path) as store:
        data, ident = await furnished(store)
        copy = Relocator._copy

        async def raced(self: Relocator, row: VolumeRow, homes: Homes, pace: Pace) -> bool:
            done = await copy(self, row, homes, pace)
            await store.fleet.strike(homes[CellIndex(1)].id, DeviceFailed("it burns"))
            return done

        monkeypatch.setattr(Relocator, "_copy", raced)
        await store.relocator.move({ident: 1 << 40}, "warm", None, rests_not)
        row = await store.catalog.read(volume, ident)
        assert row is not None
        assert row.tier == "hot"
        assert files(tmp_path, "w") == 1, "that it left on the device that failed, until that comes back"
        for key, each in data.items():
            assert await get(store, key) == each


async def rests_not(_: float, moved: int) -> None:
    await trio.lowlevel.checkpoint()


async def test_regression_no_room_is_taken_that_a_tier_keeps(tmp_path: Path) -> None:
    async with twins(tmp_path) as store:
        _, ident = await furnished(store)
        for device in store.fleet.of("warm"):
            device.free = lambda: keep_free(1 << 40)
        await store.writers["warm"].space.refresh()
        with pytest.raises(ExceptionGroup) as met:
            await acts.move(store, "bucket", "warm")
        assert met.value.subgroup(StoreFull) is not None
        row = await store.catalog.read(volume, ident)
        assert row is not None
        assert row.tier == "hot"
        assert files(tmp_path, "w") == 0


async def test_regression_one_whose_rows_are_lost_is_where_it_lies_not_where_it_left_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 60.0)
    async with twins(tmp_path) as store:
        data, ident = await furnished(store)
        await acts.move(store, "bucket", "warm")
        row = await store.catalog.read(volume, ident)
        assert row is not None
        for cell in (1, 2):
            (device,) = (each for each in store.fleet.of("hot") if present(each, ShardName(ident, CellIndex(cell))))
            device.shards.unlink(ShardName(ident, CellIndex(cell)))
        await store.catalog.write(lose, ident)
        await remember_lost(STORE, store.catalog, store.devices, Report())
        await place_lost(STORE, store.catalog, store.devices, Report())
        found = await store.catalog.read(volume, ident)
        assert found is not None
        assert (found.tier, found.devices) == (row.tier, row.devices)
        store.reader.forget(ident)
        for key, each in data.items():
            assert await get(store, key) == each


def present(device: AttachedDevice, name: ShardName) -> bool:
    return name in device.shards.names(folder_of(name).name)


def lose(tx: Transaction, ident: VolumeId) -> None:
    tx.run("delete from shard where volume = ?", (ident,))
    tx.run("delete from volume where id = ?", (ident,))


async def test_regression_what_is_repaired_moves_whole_later_and_what_moves_is_repaired_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard was installed where its volume had been, and stayed there until the next opening."""
    async with twins(tmp_path) as store:
        data, ident = await furnished(store)
        row = await store.catalog.read(volume, ident)
        assert row is not None
        name = ShardName(ident, CellIndex(1))
        device, install, moved = store.devices[row.devices[1]], Repairer._rebuild, list[int]()

        async def raced(self: Repairer, *args: object) -> Rebuilt:
            moved.append(await store.relocator.move({ident: 1 << 40}, "warm", None, rests_not))
            for _ in range(2):
                await store.maintenance.round()
            return await install(self, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(Repairer, "_rebuild", raced)
        device.shards.unlink(name)
        await store.repairer.mend(ident)
        assert present(device, name)
        assert moved == [0]
        device.shards.unlink(name)
        copy = Relocator._copy

        async def asked(self: Relocator, *args: object) -> bool:
            await store.repairer.mend(ident)
            assert not present(device, name)
            return await copy(self, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(Relocator, "_copy", asked)
        assert await store.relocator.move({ident: 1 << 40}, "warm", None, rests_not) == sum(map(len, data.values()))
        assert moved == [0]
        await tidied(store)
        assert files(tmp_path, "d") == 0
        for key, each in data.items():
            assert await get(store, key) == each


async def test_regression_a_volume_that_moves_when_a_device_comes_back_there_is_verified_behind_the_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with twins(tmp_path) as store:
        _, ident = await furnished(store)
        row = await store.catalog.read(volume, ident)
        assert row is not None

        async def fails(self: Relocator, *_: object) -> bool:
            await store.repairer._catch_up_shard(store.devices[row.devices[0]], ident, CellIndex(0))
            assert store.damaged == {(ident, 0)}
            return False

        monkeypatch.setattr(Relocator, "_copy", fails)
        assert await store.relocator.move({ident: 1 << 40}, "warm", None, rests_not) == 0
        await store.repairer.mend(ident)
        assert not store.damaged
        await tidied(store)
