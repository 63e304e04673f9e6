"""Devices that come back while the store runs."""

import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stratumfs.config import SETTINGS_FILE, load
from stratumfs.devices.health import STRUCK
from stratumfs.devices.identity import DEVICE_FILE, read_identity
from stratumfs.errors import AnotherHistory, DeviceFailed
from stratumfs.ids import DeviceId
from stratumfs.owner import asking, create, wire
from stratumfs.owner.places import place_of
from tests.stratumfs.owner.helpers import KEYS
from tests.stratumfs.owner.test_create import tree


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    create.make_embedded(tmp_path / "store", KEYS)
    await _opened_once(tmp_path / "store")
    return tmp_path / "store"


@asynccontextmanager
async def _opened(folder: Path) -> AsyncIterator[wire.Running]:
    async with wire.locked(folder) as found, wire.opened(found, load(folder / SETTINGS_FILE)) as running:
        assert not running.store.catalog.read_only
        yield running


async def _opened_once(folder: Path) -> None:
    async with _opened(folder):
        pass


def _device(store: Path) -> Path:
    return store / "devices" / "5"


def _own(device: Path) -> DeviceId:
    own = read_identity(device).own
    assert own is not None
    return own.id


def _clone(store: Path) -> Path:
    return shutil.copytree(store, store.with_name("clone"))


def _away(store: Path) -> Path:
    """Its last device."""
    return _device(store).rename(store.with_name("away"))


def _back(store: Path, device: Path) -> dict[str, bytes | None]:
    """Put *device* in the place of the last one. Returns what is on it."""
    before = tree(device)
    device.rename(_device(store))
    return before


async def test_a_device_of_a_clone_of_the_store_does_not_come_back(store: Path) -> None:
    clone = _clone(store)
    await _opened_once(clone)
    await _opened_once(store)
    ident = _own(_away(store))
    async with _opened(store) as running:
        before = _back(store, _device(clone))
        await running.store.repairer.wait_settled()
        state, reason = running.store.fleet.state(ident)
        assert state in STRUCK
        assert "two histories" in str(reason)
        with pytest.raises(AnotherHistory):
            running.folders.reopen(ident)
    assert tree(_device(store)) == before


async def test_a_device_that_was_away_comes_back_with_its_own_word(store: Path) -> None:
    device = _away(store)
    ident, said = _own(device), read_identity(device)
    async with _opened(store) as running:
        _back(store, device)
        await running.store.repairer.wait_settled()
        state, _ = running.store.fleet.state(ident)
        assert state not in STRUCK
    found = read_identity(_device(store))
    assert found.epoch_in_force is not None
    assert said.epoch_in_force is not None
    assert found.sequence > said.sequence
    assert place_of(ident).hex() in found.epoch_in_force["places"]
    assert (_device(store) / DEVICE_FILE).exists()


async def test_regression_a_device_whose_identity_file_may_be_written_yet_does_not_come_back(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What hung at the opening would have put back what the file said then, behind an epoch that it was told of."""
    device, answer = _device(store), threading.Event()
    async with _opened(store) as running:
        ident = _own(device)
        monkeypatch.setattr(asking, "DEVICE_DEADLINE_S", 0.0)
        asking.ask({ident: answer.wait})
        with pytest.raises(DeviceFailed, match="has not come back"):
            running.folders.reopen(ident)
        answer.set()
        asking._stuck[ident].join()
        monkeypatch.undo()
        running.folders.reopen(ident).shards.close()
