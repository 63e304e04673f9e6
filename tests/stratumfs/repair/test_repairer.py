"""Repairs of a whole store on real files."""

import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import pytest
import trio

from stratumfs.catalog.damage import damage_rows
from stratumfs.catalog.volumes import SEALED, VolumeRow, volumes
from stratumfs.devices.health import DeviceState
from stratumfs.erasure.code import Code
from stratumfs.errors import DeviceFailed, DeviceRefused, DeviceSilent, TooFewShards
from stratumfs.ids import CellIndex, DeviceId, VolumeId
from stratumfs.repair import answer, repairer, returns
from stratumfs.repair.queue import Exposed
from stratumfs.shards.layout import ShardName, path_of
from stratumfs.shards.local import LocalShards
from stratumfs.store.ledger import CatalogLedger
from stratumfs.store.store import Store
from stratumfs.volumes.attached import AttachedDevice
from tests.faults.audit import audit_rows, audit_shards
from tests.stores import make_store, running_store
from tests.stratumfs.store.helpers import get, put

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

DATA = {f"key {number}".encode(): os.urandom(size) for number, size in enumerate((3_000_000, 20_000, 1_500_000))}


def ident(slot: int) -> DeviceId:
    return DeviceId(f"d{slot}".encode().ljust(16, b"-"))


@asynccontextmanager
async def filled(folder: Path, devices: int = 6) -> AsyncIterator[Store]:
    """A store with a bucket and some objects in one sealed volume."""
    make_store(folder, devices)
    async with running_store(folder, Code(4, 2)) as store:
        await store.objects.create_bucket("bucket", 1)
        for key, data in DATA.items():
            await put(store, key, data)
        await store.writer.volumes.seal_idle(0)
        yield store


async def only_volume(store: Store) -> VolumeRow:
    [row] = await store.catalog.read(volumes, SEALED)
    return row


async def all_is_well(store: Store) -> None:
    for key, data in DATA.items():
        assert await get(store, key) == data
    assert await audit_rows(store) + await audit_shards(store) == []
    assert await store.catalog.read(damage_rows) == []
    assert store.damaged == set()


def file_of(store: Store, row: VolumeRow, cell: int) -> Path:
    return Path(store.devices[row.devices[cell]].label) / path_of(ShardName(row.id, CellIndex(cell)))


class Folders:
    """`Folders` of a store in a test: a device is there as long as its folder is."""

    def __init__(self, root: Path, kind: type[AttachedDevice] = AttachedDevice) -> None:
        self.root, self.kind = root, kind

    def check(self, device: DeviceId) -> None:
        if not self._path(device).exists():
            raise DeviceRefused("it is away", str(self._path(device)))

    def reopen(self, device: DeviceId) -> AttachedDevice:
        self.check(device)
        return self.kind(device, str(self._path(device)), LocalShards(self._path(device)), disk=device)

    def _path(self, device: DeviceId) -> Path:
        return self.root / device.rstrip(b"-").decode()


class Silent(AttachedDevice):
    """A device that is not heard of within any deadline while it is asked for shards, until it wakes."""

    asleep = True
    asked = 0

    async def read(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        if self.asleep and (self.shards in args or fn == self.free):
            self.asked += 1
            raise DeviceSilent(f"device {self.label} does not answer", self.label)
        return await super().read(fn, *args)


def silence(store: Store, device: DeviceId) -> Silent:
    old = store.devices[device]
    silent = store.fleet.devices[device] = Silent(device, old.label, old.shards, old.disk, old.total, old.free)
    return silent


def spoil(store: Store, row: VolumeRow, *cells: int) -> None:
    """In the first stripe."""
    for cell in cells:
        with file_of(store, row, cell).open("r+b") as file:
            file.seek(200)
            file.write(b"damage")


class Another(repairer.Repairer):
    """Another repairer of the store, for whom every struck device may come back at once."""

    def __init__(self, store: Store, folders: Folders) -> None:
        seal, moved = store._seal, store.reader.forget
        ledger = CatalogLedger(store.catalog)
        super().__init__(store.id, store.catalog, store.fleet, ledger, seal=seal, moved=moved, folders=folders)
        self.done: list[int | str] = []


@asynccontextmanager
async def served(store: Store, folders: Folders) -> AsyncIterator[Another]:
    own = Another(store, folders)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(own.serve)
        yield own
        nursery.cancel_scope.cancel()


async def test_damage_that_a_read_meets_is_mended(tmp_path: Path) -> None:
    async with filled(tmp_path) as store:
        row = await only_volume(store)
        for cell in (0, 5):
            with file_of(store, row, cell).open("r+b") as file:
                file.seek(200)
                file.write(b"damage")
        assert await get(store, b"key 0") == DATA[b"key 0"]
        await store.repairer.wait_settled()
        assert store.damaged == set()
        with file_of(store, row, 5).open("rb") as file:
            file.seek(200)
            assert file.read(6) == b"damage"  # nobody has read the parity yet


async def test_damage_is_known_over_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(repairer.Repairer, "_repair", _never)
        async with filled(tmp_path) as store:
            row = await only_volume(store)
            with file_of(store, row, 0).open("r+b") as file:
                file.truncate(100)
            assert await get(store, b"key 0") == DATA[b"key 0"]
            await store.repairer.wait_settled()
            assert store.damaged == {(row.id, 0)}
    async with running_store(tmp_path) as store:
        await store.repairer.wait_settled()
        await all_is_well(store)


async def _never(*_: object) -> None:
    """Somebody was quicker with the power switch."""


async def test_missing_files_are_found_by_looking(tmp_path: Path) -> None:
    async with filled(tmp_path) as store:
        row = await only_volume(store)
        paths = [file_of(store, row, cell) for cell in (1, 4)]
    for path in paths:
        path.unlink()
    async with running_store(tmp_path) as store:
        await store.repairer.wait_settled()
        await all_is_well(store)


async def test_what_was_taken_for_damage_and_is_none_is_forgotten(tmp_path: Path) -> None:
    async with filled(tmp_path) as store:
        row = await only_volume(store)
        before = file_of(store, row, 2).stat()
        assert store.repairer.damaged(row.id, CellIndex(2), "a bad cable")
        assert not store.repairer.damaged(row.id, CellIndex(2), "again")
        await store.repairer.wait_settled()
        await all_is_well(store)
        assert file_of(store, row, 2).stat().st_ino == before.st_ino


async def test_a_struck_devices_shards_are_made_on_another_one(tmp_path: Path) -> None:
    async with filled(tmp_path, devices=7) as store:
        row = await only_volume(store)
        [spare] = [slot for slot in range(7) if ident(slot) not in row.devices]
        await store.fleet.strike(row.devices[3], DeviceFailed("it burns"))
        await store.repairer.wait_settled()
        moved = await only_volume(store)
        assert moved.devices == (*row.devices[:3], ident(spare), *row.devices[4:])
        shutil.rmtree(store.devices[row.devices[3]].label)
        for key, data in DATA.items():
            assert await get(store, key) == data
        assert store.damaged == set()


async def test_without_a_spare_device_the_volume_waits(tmp_path: Path) -> None:
    async with filled(tmp_path) as store:
        row = await only_volume(store)
        await store.fleet.strike(row.devices[3], DeviceFailed("it burns"))
        await store.repairer.wait_settled()
        assert (await only_volume(store)).devices == row.devices
        assert len(store.repairer.queue) == 0


async def test_a_device_that_errs_again_while_it_is_repaired_is_struck(tmp_path: Path) -> None:
    async with filled(tmp_path) as store:
        row = await only_volume(store)
        file_of(store, row, 2).parent.chmod(0o700)
        file_of(store, row, 2).unlink()
        file_of(store, row, 2).with_suffix(".2.new").mkdir()  # what no unlink removes
        await store.repairer.wait_settled()
        assert store.fleet.state(row.devices[2])[0] is DeviceState.FAILED


async def test_a_device_that_is_emptied_is_struck(tmp_path: Path) -> None:
    async with filled(tmp_path) as store:
        store.repairer.folders = Folders(tmp_path)
        await store.repairer.wait_settled()
        assert store.fleet.struck == []
        (tmp_path / "d4").rename(tmp_path / "away")
        await store.repairer.wait_settled()
        assert store.fleet.struck == [ident(4)]


async def test_a_struck_device_comes_back_verified_and_caught_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(returns, "REPAIR_RETURN_S", 0.0)
    async with filled(tmp_path) as store:
        row = await only_volume(store)
        slot = int(row.devices[5][1:2])
        store.repairer.folders = Folders(tmp_path)
        (tmp_path / f"d{slot}").rename(tmp_path / "away")
        await store.repairer.wait_settled()
        await put(store, b"key 3", DATA[b"key 0"])
        await store.writer.volumes.seal_idle(0)
        with (tmp_path / "away" / path_of(ShardName(row.id, CellIndex(5)))).open("r+b") as file:
            file.write(b"damage")
        (tmp_path / "away").rename(tmp_path / f"d{slot}")
        await store.repairer.wait_settled()
        assert store.fleet.struck == []
        assert store.fleet.state(ident(slot)) == (DeviceState.ONLINE, None)
        await all_is_well(store)
        assert await get(store, b"key 3") == DATA[b"key 0"]


async def test_what_moved_elsewhere_meanwhile_is_moved_aside_when_a_device_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with filled(tmp_path, devices=7) as store:
        row = await only_volume(store)
        lost = store.devices[row.devices[1]]
        store.repairer.folders = Folders(tmp_path)
        await store.fleet.strike(lost.id, DeviceFailed("it burns"))
        await store.repairer.wait_settled()
        assert lost.id not in (await only_volume(store)).devices
        monkeypatch.setattr(returns, "REPAIR_RETURN_S", 0.0)
        store.repairer.returns._not_before.clear()
        await store.repairer.wait_settled()
        assert store.fleet.struck == []
        await all_is_well(store)
        assert [path.name for path in (Path(lost.label) / "quarantine").iterdir()] == [f"{row.id.hex()}.1"]


async def test_a_device_that_is_struck_is_not_taken_back_at_once(tmp_path: Path) -> None:
    async with filled(tmp_path) as store:
        store.repairer.folders = Folders(tmp_path)
        await store.fleet.strike(ident(0), DeviceFailed("it was slow"))
        await store.repairer.wait_settled()
        assert store.fleet.struck == [ident(0)]


async def test_a_volume_waits_for_a_device_that_is_silent(tmp_path: Path) -> None:
    """Two shards are gone, and a third one's device sleeps: nothing is lost, and nothing is made as if it were."""
    async with filled(tmp_path, devices=7) as store:
        row = await only_volume(store)
        sleeper = silence(store, row.devices[2])
        for cell in (0, 1):
            file_of(store, row, cell).unlink()
        await store.fleet.strike(row.devices[0], DeviceFailed("it burns"))
        await store.repairer.wait_settled()
        asked = sleeper.asked
        await store.repairer.wait_settled()
        assert sleeper.asked == asked > 0  # it waits for its time, and is not tried at each look
        assert await only_volume(store) == row
        assert not file_of(store, row, 1).exists()
        assert store.damaged == set()
        sleeper.asleep = False
        store.repairer._put_off.hurry(trio.current_time())
        await store.repairer.wait_settled()
        assert (await only_volume(store)).devices[0] != row.devices[0]
        await all_is_well(store)
        assert len(store.repairer._put_off) == 0


async def test_what_is_lost_is_counted_though_the_shard_is_there(tmp_path: Path) -> None:
    async with filled(tmp_path, devices=7) as store:
        row = await only_volume(store)
        spoil(store, row, 1, 2)
        file_of(store, row, 3).unlink()
        await store.fleet.strike(row.devices[0], DeviceFailed("it burns"))
        del store.fleet.devices[row.devices[0]]
        await store.repairer.wait_settled()
        moved = await only_volume(store)
        assert moved.devices[0] != row.devices[0]
        assert {each.cell for each in await store.catalog.read(damage_rows)} >= {0, 3}
        assert store.damaged == {(row.id, cell) for cell in (0, 1, 2, 3)}
        assert (await only_volume(store)).devices == moved.devices
        with pytest.raises(TooFewShards):
            await get(store, b"key 0")
        assert await get(store, b"key 2") == DATA[b"key 2"]


async def test_a_shard_on_a_device_that_takes_no_writes_helps_when_it_moves(tmp_path: Path) -> None:
    async with filled(tmp_path, devices=7) as store:
        row = await only_volume(store)
        spoil(store, row, 3, 4)
        await store.fleet.strike(row.devices[0], DeviceFailed("a sync failed"), DeviceState.READ_ONLY)
        await store.repairer.wait_settled()
        await store.repairer.wait_settled()
        assert (await only_volume(store)).devices[0] != row.devices[0]
        await all_is_well(store)


async def test_a_shard_stays_on_a_device_that_takes_no_writes_while_stripes_are_lost(tmp_path: Path) -> None:
    async with filled(tmp_path, devices=7) as store:
        row = await only_volume(store)
        spoil(store, row, 0, 3, 4)
        await store.fleet.strike(row.devices[0], DeviceFailed("a sync failed"), DeviceState.READ_ONLY)
        await store.repairer.wait_settled()
        assert (await only_volume(store)).devices == row.devices


async def test_a_device_that_is_silent_stops_no_repair_of_others(tmp_path: Path) -> None:
    """Nobody knows whether its doubted shard is bad: that waits, and is neither made anew nor forgotten."""
    async with filled(tmp_path) as store:
        await put(store, b"key 3", DATA[b"key 0"])
        await store.writer.volumes.seal_idle(0)
        first, second = await store.catalog.read(volumes, SEALED)
        hangs = silence(store, first.devices[0])
        cell = next(CellIndex(at) for at, device in enumerate(second.devices) if device != hangs.id)
        file_of(store, second, cell).unlink()
        before = file_of(store, first, 0).stat()
        assert store.repairer.damaged(first.id, CellIndex(0), "a bad cable")
        await store.repairer.wait_settled()
        assert file_of(store, second, cell).exists()
        assert store.damaged == {(first.id, 0)}
        hangs.asleep = False
        store.repairer._put_off.hurry(trio.current_time())
        await store.repairer.wait_settled()
        assert file_of(store, first, 0).stat().st_ino == before.st_ino
        await all_is_well(store)


async def test_a_spare_device_that_is_silent_gets_no_shard(tmp_path: Path) -> None:
    async with filled(tmp_path, devices=8) as store:
        row = await only_volume(store)
        hangs, spare = (ident(slot) for slot in range(8) if ident(slot) not in row.devices)
        silence(store, hangs)
        await store.fleet.strike(row.devices[3], DeviceFailed("it burns"))
        await store.repairer.wait_settled()
        assert (await only_volume(store)).devices[3] == spare


async def test_a_device_that_is_silent_while_it_catches_up_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with filled(tmp_path) as store:
        await store.fleet.strike(ident(0), DeviceFailed("it stalls"))
        store.repairer.folders = Folders(tmp_path, Silent)
        store.repairer.returns._not_before.clear()
        await store.repairer.wait_settled()
        assert store.fleet.struck == [ident(0)]
        assert store.repairer.returns._not_before[ident(0)] > trio.current_time() + returns.REPAIR_RETURN_S
        store.repairer.folders = Folders(tmp_path)
        store.repairer.returns._not_before.clear()
        await store.repairer.wait_settled()
        assert store.fleet.struck == []
        await all_is_well(store)


@pytest.mark.parametrize("verb", ["drop_unfinished", "begin_anew", "install", "names"])
async def test_a_device_that_hangs_in_a_write_while_it_catches_up_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    answers = threading.Event()

    class Hanging(Folders):
        def reopen(self, device: DeviceId) -> AttachedDevice:
            opened = super().reopen(device)
            setattr(opened.shards, verb, lambda *_: answers.wait(600))
            return opened

    async with filled(tmp_path) as store:
        row = await only_volume(store)
        await store.fleet.strike(row.devices[0], DeviceFailed("it stalls"))
        file_of(store, row, 0).unlink()
        with monkeypatch.context() as patch:
            patch.setattr(returns, "DEVICE_DEADLINE_S", 0.05)
            patch.setattr(returns, "DEVICE_LOOK_S", 0.01)
            async with served(store, Hanging(tmp_path)) as own:
                await own.wait_settled()
                assert own.returns.under_way is None
        assert store.fleet.struck == [row.devices[0]]
        answers.set()
        store.repairer.folders = Folders(tmp_path)
        store.repairer.returns._not_before.clear()
        await store.repairer.wait_settled()
        assert store.fleet.struck == []
        await all_is_well(store)


async def test_a_folder_that_hangs_keeps_no_other_device_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "REBUILD_READ_S", 0.1)
    monkeypatch.setattr(returns, "REPAIR_RETURN_S", 0.0)
    answers, opened = threading.Event(), []

    class Hanging(Folders):
        def reopen(self, device: DeviceId) -> AttachedDevice:
            opened.append(device)
            if device == ident(0):
                answers.wait(600)
            return super().reopen(device)

    async with filled(tmp_path) as store:
        (tmp_path / "d1").rename(tmp_path / "away")
        for slot in (0, 1):
            await store.fleet.strike(ident(slot), DeviceFailed("it burns"))
        store.repairer.folders = Hanging(tmp_path)
        for _ in range(6):
            await store.repairer.wait_settled()
        assert (opened.count(ident(0)), store.fleet.struck) == (1, [ident(0), ident(1)])
        (tmp_path / "away").rename(tmp_path / "d1")
        while ident(1) in store.fleet.struck:
            await store.repairer.wait_settled()
        assert (opened.count(ident(0)), store.fleet.struck) == (1, [ident(0)])
        answers.set()
        while store.fleet.struck:
            await store.repairer.wait_settled()
        await all_is_well(store)


class Recorded(Another):
    """Notes what it does, and does nothing."""

    to_do: tuple[int, ...] = ()
    hears_of: tuple[VolumeId, CellIndex] | None = None

    async def _survey(self) -> None:
        self._surveyed_at = trio.current_time()
        for number, margin in enumerate(self.to_do):
            self.queue.offer(Exposed(VolumeId(bytes([number]) * 16), margin, 0))
        self.to_do = ()

    async def _repair(self, exposed: Exposed) -> None:
        self.done.append(exposed.margin)

    async def _is_bad(self, *_: object) -> bool:
        self.done.append("shard")
        if self.hears_of is not None:
            self.damaged(*self.hears_of, "a read met it")
            self.hears_of = None
        return False


async def test_a_device_catches_up_between_repairs_and_behind_urgent_ones(tmp_path: Path) -> None:
    async with filled(tmp_path) as store:
        for _ in range(2):
            await put(store, b"another", DATA[b"key 1"])
            await store.writer.volumes.seal_idle(0)
        await store.fleet.strike(ident(0), DeviceFailed("it burns"))
        own = Recorded(store, Folders(tmp_path))
        own.to_do = (1, 0, 1, -1)
        await own.round()
        assert own.done == [-1, 0, 1, "shard", 1, "shard", "shard"]
        assert store.fleet.struck == []


async def test_what_is_heard_of_while_a_device_catches_up_comes_before_its_next_shard(tmp_path: Path) -> None:
    async with filled(tmp_path) as store:
        row = await only_volume(store)
        for _ in range(2):
            await put(store, b"another", DATA[b"key 1"])
            await store.writer.volumes.seal_idle(0)
        await store.fleet.strike(row.devices[0], DeviceFailed("it burns"))
        own = Recorded(store, Folders(tmp_path))
        own.hears_of = (row.id, CellIndex(1))
        await own.round()
        assert own.done == ["shard", 0, "shard", "shard"]
        assert store.fleet.struck == []
