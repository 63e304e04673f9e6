"""Devices that were struck and come back."""

import threading
from pathlib import Path

import pytest
import trio

from stratumfs.devices.health import DeviceState
from stratumfs.errors import DeviceFailed
from stratumfs.ids import CellIndex, DeviceId
from stratumfs.limits import DEVICE_DEADLINE_S
from stratumfs.repair import answer, returns
from stratumfs.shards.layout import ShardName, path_of
from stratumfs.volumes.attached import AttachedDevice
from tests.stratumfs.repair.stores import (
    DATA,
    Folders,
    Silent,
    all_is_well,
    file_of,
    filled,
    ident,
    only_volume,
    served,
)
from tests.stratumfs.store.helpers import get, put
from tests.stratumfs.store.test_fleet import until


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


async def test_a_device_that_is_struck_is_not_taken_back_at_once_unless_somebody_says_so(tmp_path: Path) -> None:
    async with filled(tmp_path) as store:
        store.repairer.folders = Folders(tmp_path)
        await store.fleet.strike(ident(0), DeviceFailed("it was slow"))
        await store.repairer.wait_settled()
        assert store.fleet.struck == [ident(0)]
        store.repairer.returns.try_soon(ident(0))
        await store.repairer.wait_settled()
        assert store.fleet.struck == []
        await all_is_well(store)


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
async def test_a_device_that_hangs_in_a_write_while_it_catches_up_is_given_up(tmp_path: Path, verb: str) -> None:
    hangs, answers, now = threading.Event(), threading.Event(), 0.0

    def hang(*_: object) -> None:
        hangs.set()
        answers.wait(600)

    class Hanging(Folders):
        def reopen(self, device: DeviceId) -> AttachedDevice:
            opened = super().reopen(device)
            opened.clock = lambda: now
            setattr(opened.shards, verb, hang)
            return opened

    async with filled(tmp_path) as store, trio.open_nursery() as nursery:
        row = await only_volume(store)
        for device in store.devices.values():
            device.clock, device.answered = lambda: now, now
        await store.fleet.strike(row.devices[0], DeviceFailed("it stalls"))
        file_of(store, row, 0).unlink()
        async with served(store, Hanging(tmp_path)) as own:
            await until(hangs.is_set)
            back = own.returns.under_way
            assert back is not None
            while back.struck is None:
                now += 1
                store.fleet.look(nursery)
                await until(lambda: not store.fleet.stalls.probing)
            assert DEVICE_DEADLINE_S <= now <= DEVICE_DEADLINE_S + 1  # once the others were asked
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
    monkeypatch.setattr(answer, "REBUILD_READ_S", 2)
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
