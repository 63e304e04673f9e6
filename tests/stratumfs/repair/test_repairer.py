"""Repairs of a whole store on real files."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import pytest
import trio
import trio.testing

from stratumfs.catalog.damage import damage_rows
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.volumes import OPEN, SEALED, volume, volumes
from stratumfs.devices.health import DeviceState
from stratumfs.errors import DeviceFailed, DeviceFull, DeviceUnasked, StoreBusy, TooFewShards
from stratumfs.ids import MIB, CellIndex, DeviceId, VolumeId
from stratumfs.limits import REPAIR_AGAIN_S
from stratumfs.repair import needs, repairer
from stratumfs.repair.paced import Doors
from stratumfs.repair.queue import Exposed
from stratumfs.shards.backend import OpenShard
from stratumfs.shards.layout import ShardName
from stratumfs.shards.local import LocalShards
from stratumfs.store import maintenance
from stratumfs.store.store import Store
from stratumfs.store.writer import merged
from stratumfs.values import Conditions, Name, Publication
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.format import VolumeInfo
from tests.faults.acts import holding
from tests.stores import make_store, running_store
from tests.stratumfs.repair.stores import (
    DATA,
    Another,
    Folders,
    all_is_well,
    file_of,
    filled,
    ident,
    only_volume,
    silence,
    spoil,
)
from tests.stratumfs.store.helpers import get, put

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


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


async def test_where_the_device_that_was_chosen_is_full_another_one_takes_the_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with filled(tmp_path, devices=8) as store:
        row = await only_volume(store)
        full: list[DeviceId] = []

        def begin_anew(device: AttachedDevice, begin: Callable[[ShardName], OpenShard], name: ShardName) -> OpenShard:
            if full in ([], [device.id]):
                full[:] = [device.id]
                raise DeviceFull("No space left on device", device.label)
            return begin(name)

        for device in store.devices.values():
            monkeypatch.setattr(device.shards, "begin_anew", partial(begin_anew, device, device.shards.begin_anew))
        store.fleet.listeners.clear()
        await store.fleet.strike(row.devices[3], DeviceFailed("it burns"))
        await Another(store, Folders(tmp_path)).round()
        moved = await only_volume(store)
        assert len(full) == 1
        assert moved.devices[3] not in (*row.devices, *full)
        await all_is_well(store)


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


async def test_a_shard_that_no_descriptor_was_left_for_is_made_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin_anew(name: object) -> None:
        raise DeviceUnasked("Too many open files", "device")

    async with filled(tmp_path) as store:
        row = await only_volume(store)
        file_of(store, row, 2).unlink()
        with monkeypatch.context() as patch:
            patch.setattr(store.devices[row.devices[2]].shards, "begin_anew", begin_anew)
            await store.repairer.wait_settled()
        assert store.fleet.struck == []
        assert len(store.repairer.put_off) == 1
        store.repairer.put_off.hurry(trio.current_time())
        await store.repairer.wait_settled()
        await all_is_well(store)


async def test_a_device_that_is_emptied_is_struck(tmp_path: Path) -> None:
    async with filled(tmp_path) as store:
        store.repairer.folders = Folders(tmp_path)
        await store.repairer.wait_settled()
        assert store.fleet.struck == []
        (tmp_path / "d4").rename(tmp_path / "away")
        await store.repairer.wait_settled()
        assert store.fleet.struck == [ident(4)]


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
        store.repairer.put_off.hurry(trio.current_time())
        await store.repairer.wait_settled()
        assert (await only_volume(store)).devices[0] != row.devices[0]
        await all_is_well(store)
        assert len(store.repairer.put_off) == 0


async def test_what_a_client_has_not_named_yet_is_not_left_out_for_a_silent_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stripes are synced, it goes on, and is answered: then any two devices may go."""
    data = os.urandom(3 * MIB)
    make_store(tmp_path, 8)
    async with running_store(tmp_path) as store, AsyncExitStack() as stack:
        await store.objects.create_bucket("bucket", 1)
        held = stack.enter_context(holding(store.writer))
        gathered = await store.writer.gather([(0, data)], held)
        await store.writer.sync({each.stripe for each in gathered})
        [row] = await store.catalog.read(volumes, OPEN)
        sleeper = silence(store, row.devices[2])
        with monkeypatch.context() as patch:
            patch.setattr(store.repairer, "_repair", _never)  # before both are gone
            for device in row.devices[:2]:
                del store.fleet.devices[device]
                await store.fleet.strike(device, DeviceFailed("it burns"))
            await store.repairer.wait_settled()
        await store.repairer.wait_settled()
        assert len(store.repairer.put_off) == 1
        assert (await only_volume(store)).devices == row.devices
        sleeper.asleep = False
        place = (await store.objects.bucket("bucket")).ino
        ino = (await store.files.make(place, Name(b"file"), 0o100644, 0, 0, 1)).ino
        extents = tuple(merged(each.extent for each in gathered))
        await store.files.publish(ino, Publication(None, extents, len(data), 1), 1, durable=True)
        store.repairer.put_off.hurry(trio.current_time())
        await store.repairer.wait_settled()
        moved = await only_volume(store)
        assert not set(row.devices[:2]) & set(moved.devices)
        for device in moved.devices[2:4]:
            await store.fleet.strike(device, DeviceFailed("it burns"))
            del store.fleet.devices[device]
        store.volume_reader._cache._cells.clear()
        assert await store.reader.read(ino, 0, len(data)) == data


async def test_a_bad_cell_of_a_stripe_that_no_row_names_yet_is_mended(tmp_path: Path) -> None:
    """A mount reads what it wrote before it publishes it."""
    async with filled(tmp_path) as store:
        row = await only_volume(store)
        await store.objects.delete("bucket", b"key 0", Conditions(), 1)
        await store.maintenance.reap()
        spoil(store, row, 0)
        store.repairer.damaged(row.id, CellIndex(0), "a mount read it")
        await store.repairer.wait_settled()
        with file_of(store, row, 0).open("rb") as file:
            file.seek(200)
            assert file.read(6) != b"damage"
        assert store.damaged == set()


async def test_what_rows_name_behind_the_mark_is_made_too(tmp_path: Path) -> None:
    """A volume is sealed behind the last row that can be read, and that may not be the last one."""
    async with filled(tmp_path) as store:
        row = await only_volume(store)
        before = file_of(store, row, 0).read_bytes()
        await store.catalog.write(_seal_earlier, row.id)
        file_of(store, row, 0).unlink()
        await store.repairer.wait_settled()
        assert file_of(store, row, 0).read_bytes()[: row.length] == before[: row.length]


def _seal_earlier(tx: Transaction, ident: VolumeId) -> None:
    tx.run("update volume set length = 1000, stripes = 1 where id = ?", (ident,))


async def test_what_is_lost_is_counted_though_the_shard_is_there(tmp_path: Path) -> None:
    async with filled(tmp_path, devices=7) as store:
        row = await only_volume(store)
        spoil(store, row, 1, 2)
        file_of(store, row, 3).unlink()
        del store.fleet.devices[row.devices[0]]
        await store.fleet.strike(row.devices[0], DeviceFailed("it burns"))
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
        store.repairer.put_off.hurry(trio.current_time())
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


async def test_damage_of_a_volume_that_is_freed_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repairer.Repairer, "_repair", _never)
    monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 0.0)
    async with filled(tmp_path) as store:
        row = await only_volume(store)
        store.repairer.damaged(row.id, CellIndex(0), "a bad cable")
        await store.repairer.wait_settled()
        assert store.damaged == {(row.id, 0)}
        for key in DATA:
            await store.objects.delete("bucket", key, Conditions(), 1)
        for _ in range(2):
            await store.maintenance.round()
        assert await store.catalog.read(volume, row.id) is None
        assert store.damaged == set()


class Slow(AttachedDevice):
    """Says which shards it has when it may; *asked* is set when it was asked."""

    asked: trio.Event
    may: trio.Event

    async def read(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        if self in args:
            self.asked.set()
            await self.may.wait()
        return await super().read(fn, *args)


async def test_a_device_that_is_replaced_in_its_place_during_a_repair_is_none_to_make_shards_on(tmp_path: Path) -> None:
    async with filled(tmp_path) as store:
        row = await only_volume(store)
        old, other = store.devices[row.devices[1]], store.devices[row.devices[4]]
        slow = store.fleet.devices[other.id] = Slow(other.id, other.label, other.shards, other.disk)
        slow.asked, slow.may = trio.Event(), trio.Event()
        own = Another(store, Folders(tmp_path))
        store.fleet.listeners.clear()  # else both repair it
        shutil.rmtree(old.label)
        os.mkdir(old.label)
        new = AttachedDevice(ident(9), old.label, LocalShards(Path(old.label)), disk="new")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(own._repair, Exposed(row.id, 1, 0))
            await slow.asked.wait()
            await store.fleet.replace(old.id, new)
            del store.fleet.devices[old.id]
            slow.may.set()
        await store.repairer.wait_settled()
        assert (await only_volume(store)).devices[1] == new.id
        await all_is_well(store)


class Beside(Another):
    """Repairs that end when all that can be begun has been."""

    def __init__(self, store: Store, folders: Folders) -> None:
        super().__init__(store, folders)
        self.at_once: list[list[int]] = []
        self._there: list[int] = []

    async def _repair(self, exposed: Exposed) -> None:
        self._there.append(exposed.margin)
        await trio.testing.wait_all_tasks_blocked()
        self.at_once.append(sorted(self._there))
        await trio.testing.wait_all_tasks_blocked()
        self._there.remove(exposed.margin)


@pytest.mark.parametrize("busy", [False, True])
async def test_volumes_that_are_as_exposed_are_repaired_side_by_side_while_nobody_is_at_the_doors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    monkeypatch.setattr(repairer, "REPAIR_LOOK_S", float("inf"))
    asked = 0

    def accesses() -> int:
        nonlocal asked
        asked += busy
        return asked

    async with filled(tmp_path) as store:
        own = Beside(store, Folders(tmp_path))
        own._doors = Doors(accesses)
        for number, margin in enumerate((0, 1, 1, 1)):
            own.queue.offer(Exposed(VolumeId(bytes([number]) * 16), margin, number))
        await own._work_off()
        assert own.at_once == ([[0], [1], [1], [1]] if busy else [[0], [1, 1], [1, 1], [1]])


async def test_a_repair_that_fails_ends_no_other_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repairer, "REPAIR_LOOK_S", float("inf"))

    class Fails(Beside):
        async def _repair(self, exposed: Exposed) -> None:
            if exposed.created_ns == 0:
                raise DeviceFailed("no")
            await super()._repair(exposed)

    async with filled(tmp_path) as store:
        own = Fails(store, Folders(tmp_path))
        for number in range(4):
            own.queue.offer(Exposed(VolumeId(bytes([number]) * 16), 1, number))
        with pytest.raises(DeviceFailed):
            await own._work_off()
        assert own.at_once == [[1]]
        assert len(own.queue) == 2
        assert own.put_off.waits(VolumeId(bytes(16)), trio.current_time())


async def test_a_fault_of_the_repairer_does_not_end_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fault(*_: object) -> None:
        raise KeyError("a device")

    async with filled(tmp_path) as store:
        row = await only_volume(store)
        file_of(store, row, 1).unlink()
        with monkeypatch.context() as patch:
            patch.setattr(store.repairer, "_repair", fault)
            await store.repairer.wait_settled()
            assert not file_of(store, row, 1).exists()
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

    async def looks(self, *_: object) -> None:
        self.done.append("shard")
        if self.hears_of is not None:
            self.damaged(*self.hears_of, "a read met it")
            self.hears_of = None


async def test_a_device_catches_up_between_repairs_and_behind_urgent_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with filled(tmp_path) as store:
        for _ in range(2):
            await put(store, b"another", DATA[b"key 1"])
            await store.writer.volumes.seal_idle(0)
        await store.fleet.strike(ident(0), DeviceFailed("it burns"))
        own = Recorded(store, Folders(tmp_path))
        monkeypatch.setattr(repairer, "what_is_wrong", own.looks)
        own.to_do = (1, 0, 1, -1)
        await own.round()
        assert own.done == [-1, 0, 1, "shard", 1, "shard", "shard"]
        assert store.fleet.struck == []


async def test_what_is_heard_of_while_a_device_catches_up_comes_before_its_next_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with filled(tmp_path) as store:
        row = await only_volume(store)
        for _ in range(2):
            await put(store, b"another", DATA[b"key 1"])
            await store.writer.volumes.seal_idle(0)
        await store.fleet.strike(row.devices[0], DeviceFailed("it burns"))
        own = Recorded(store, Folders(tmp_path))
        monkeypatch.setattr(repairer, "what_is_wrong", own.looks)
        own.hears_of = (row.id, CellIndex(1))
        await own.round()
        assert own.done == ["shard", 0, "shard", "shard"]
        assert store.fleet.struck == []


async def test_what_was_put_off_is_tried_at_once_when_a_device_is_back_or_struck(tmp_path: Path) -> None:
    """More can be done then, or less time is left."""
    async with filled(tmp_path) as store:
        row = await only_volume(store)
        for _ in range(2):
            store.repairer.put_off.put_off(row.id, trio.current_time())
        await store.repairer.wait_settled()
        assert store.repairer.put_off.due(trio.current_time()) == []
        await store.fleet.strike(row.devices[0], DeviceFailed("it burns"))
        await store.repairer.wait_settled()
        assert len(store.repairer.put_off) == 0  # it was looked at, and waits for a device
        store.repairer.put_off.put_off(row.id, trio.current_time())
        store.repairer.heed(row.devices[0])  # as at each read that fails there, which is no news
        await store.repairer.wait_settled()
        assert store.repairer.put_off.due(trio.current_time()) == []


async def test_a_device_that_is_silent_is_waited_for_once_a_survey(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many chunks of volumes there are."""
    asked: list[bool] = []

    async def present(devices: Mapping[DeviceId, AttachedDevice], found: Sequence[VolumeInfo], wait_s: float) -> object:
        await trio.lowlevel.checkpoint()
        asked.append(ident(0) in devices)
        return {each.id: {CellIndex(at) for at in range(6)} for each in found}, {ident(0)} & devices.keys()

    async with filled(tmp_path) as store:
        for _ in range(2):
            await put(store, b"another", DATA[b"key 1"])
            await store.writer.volumes.seal_idle(0)
        monkeypatch.setattr(repairer, "TRANSACTION_ROWS_MAX", 1)
        monkeypatch.setattr(needs, "shards_present", present)
        await Another(store, Folders(tmp_path)).round()
        assert asked == [True, False, False]


async def test_regression_damage_of_a_volume_that_is_gone_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 0)
    async with filled(tmp_path) as store:
        row = await only_volume(store)
        monkeypatch.setattr(repairer.Repairer, "_repair", _never)
        assert store.repairer.damaged(row.id, CellIndex(0), "a read met it")
        file_of(store, row, 3).unlink()
        await store.repairer.wait_looked()
        assert store.repairer.seen.missing == {row.id: {CellIndex(3)}}
        for key in DATA:
            await store.objects.delete("bucket", key, Conditions(), 1)
        while await store.catalog.read(volume, row.id) is not None:
            await store.maintenance.round()
        assert store.damaged == set()
        assert store.repairer.seen.missing == {}


async def test_a_device_that_did_not_say_what_it_has_is_asked_when_it_answers_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with filled(tmp_path) as store:
        row = await only_volume(store)
        own = Another(store, Folders(tmp_path))
        own.seen.looked({row.devices[0]}, 1.0)
        own._surveyed_at = trio.current_time() - REPAIR_AGAIN_S
        file_of(store, row, 1).unlink()
        await own.round()
        assert own.seen.knows(row.devices[0])
        assert file_of(store, row, 1).exists()


async def test_regression_who_was_woken_in_a_store_that_is_read_only_sleeps_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_store(tmp_path) as store:
        with monkeypatch.context() as patched:
            patched.setattr(Catalog, "read_only", property(lambda _: True))
            await store.repairer.wait_looked()
            with trio.fail_after(60):
                await trio.testing.wait_all_tasks_blocked(0.01)


async def test_regression_what_fails_at_the_begin_of_a_round_is_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_store(tmp_path) as store:
        tried = 0

        async def fails() -> None:
            nonlocal tried
            tried += 1
            raise StoreBusy("not now")

        monkeypatch.setattr(store.repairer, "_offer_again", fails)
        store.repairer.look_soon()
        with trio.fail_after(60):
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert tried == 1
