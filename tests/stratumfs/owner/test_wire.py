"""Openings of a store some of whose devices are struck, fail, or hang."""

import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import MockClock

from stratumfs.config import SETTINGS_FILE, load
from stratumfs.devices.check import LOCK_FILE, check_device
from stratumfs.devices.health import STRUCK, DeviceState
from stratumfs.devices.identity import DeviceEntry
from stratumfs.errors import DeviceFailed, StoreInUse
from stratumfs.ids import DeviceId, StoreId
from stratumfs.limits import CLOSE_WAIT_S
from stratumfs.owner import attach, create, places, wire
from stratumfs.owner.asking import NO_ANSWER
from stratumfs.owner.folders import Folders
from stratumfs.owner.lock import Locks
from stratumfs.owner.places import place_of
from tests.stratumfs.owner.helpers import KEYS, devices


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    """One whose devices have copies of the catalog, closed in order."""
    create.make_store(tmp_path / "store", devices(tmp_path), 4, 2, KEYS)
    async with _opened(tmp_path / "store"):
        pass
    return tmp_path / "store"


@pytest.fixture(autouse=True)
def nobody_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_: Folders, device: DeviceId) -> NoReturn:
        raise DeviceFailed("not yet")

    monkeypatch.setattr(Folders, "reopen", away)


@asynccontextmanager
async def _opened(folder: Path) -> AsyncIterator[wire.Running]:
    async with wire.locked(folder) as found, wire.opened(found, load(folder / SETTINGS_FILE)) as running:
        yield running


def _slots(running: wire.Running) -> dict[int, DeviceId]:
    return {entry.slot: entry.id for entry in running.folders.identity.devices}


def _members(running: wire.Running) -> Any:
    return running.store.catalog._members


def _hangs(slot: int, fn: Callable[..., Any]) -> Callable[..., Any]:
    def call(store: StoreId, entry: DeviceEntry, path: Path | None = None) -> Any:
        if entry.slot == slot:
            raise NO_ANSWER
        return fn(store, entry, path)

    return call


async def test_what_was_struck_is_no_place_of_the_catalog_after_a_restart(store: Path) -> None:
    async with _opened(store) as running:
        slots = _slots(running)
        await running.store.fleet.strike(slots[0], DeviceFailed("EIO"), DeviceState.READ_ONLY)
    async with _opened(store) as running:
        members = _members(running)
        assert running.store.fleet.state(slots[0])[0] is DeviceState.READ_ONLY
        assert place_of(slots[0]) not in {*members.members, *members.places}
        assert members.struck[place_of(slots[0])] == "EIO"


async def test_a_device_that_does_not_answer_is_refused_and_the_store_opens(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (attach, places):
        monkeypatch.setattr(module, "check_device", _hangs(4, check_device))
    async with _opened(store) as running:
        state, reason = running.store.fleet.state(_slots(running)[4])
        assert state is DeviceState.FAILED
        assert "no answer within 30 s" in str(reason)
        assert not running.store.catalog.read_only


async def test_one_that_hangs_in_a_write_is_not_used_either(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refresh = attach._refresh

    def hangs(folder: Path, identity: Any) -> None:
        if folder.name == "d2":
            raise NO_ANSWER
        refresh(folder, identity)

    monkeypatch.setattr(attach, "_refresh", hangs)
    async with _opened(store) as running:
        device = _slots(running)[2]
        assert device not in running.folders.attached.devices
        assert place_of(device) not in _members(running).places
        assert "no answer" in str(running.store.fleet.state(device)[1])


async def test_a_store_that_can_only_be_read_opens_with_a_device_that_takes_no_writes(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for slot in (3, 4, 5):
        shutil.rmtree(store.with_name(f"d{slot}"))

    def fails(folder: Path, identity: Any) -> None:
        if folder.name == "d2":
            raise DeviceFailed("EIO", str(folder))

    monkeypatch.setattr(attach, "_refresh", fails)
    monkeypatch.setattr(places, "write_identity", fails)
    async with _opened(store) as running:
        assert running.store.catalog.read_only
        state, reason = running.store.fleet.state(_slots(running)[2])
        assert state in STRUCK
        assert reason == "EIO"


async def test_so_does_one_that_has_too_few_places_without_it(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for slot in (3, 4, 5):
        shutil.rmtree(store.with_name(f"d{slot}"))
    refresh = attach._refresh

    def fails(folder: Path, identity: Any) -> None:
        if folder.name == "d2":
            raise DeviceFailed("EIO", str(folder))
        refresh(folder, identity)

    monkeypatch.setattr(attach, "_refresh", fails)
    async with _opened(store) as running:
        assert running.store.catalog.read_only
        assert running.store.fleet.state(_slots(running)[2])[0] in STRUCK


async def test_regression_a_disk_that_hangs_in_close_does_not_keep_the_owner(
    store: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    """Neither its shards nor its lock; those of the others are closed."""
    answer = threading.Event()
    hanging: list[str] = []
    closing, token = trio.Event(), trio.lowlevel.current_trio_token()
    others = trio.Semaphore(0)
    close = os.close

    def hangs(descriptor: int) -> None:
        try:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            path = ""
        if path == str(store.with_name("d2") / LOCK_FILE) and not answer.is_set():
            hanging.append(path)
            token.run_sync_soon(closing.set)
            answer.wait()
        close(descriptor)
        if path.endswith(f"/{LOCK_FILE}") and not answer.is_set():
            token.run_sync_soon(others.release)

    async with trio.open_nursery() as nursery:

        async def pass_time() -> None:
            await closing.wait()
            for _ in range(6):  # the store's and five devices'
                await others.acquire()
            mock_clock.jump(CLOSE_WAIT_S)

        async with wire.locked(store):
            monkeypatch.setattr(os, "close", hangs)
            nursery.start_soon(pass_time)
    monkeypatch.undo()
    assert hanging
    lock = Locks()
    try:
        lock.take(store)
        with pytest.raises(StoreInUse):
            lock.take(store.with_name("d2"))
    finally:
        answer.set()
        lock.release()
