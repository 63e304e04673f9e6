"""A store that lives is given a warm tier."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import trio
import trio.testing

import stratumfs.owner.tiers
from stratumfs.catalog.decisions import decisions_since
from stratumfs.catalog.residence import residences
from stratumfs.catalog.xattrs import PIN
from stratumfs.config import SETTINGS_FILE, load
from stratumfs.errors import ConfigError, DeviceRefused, StoreFull
from stratumfs.ids import InodeNo
from stratumfs.owner import create
from stratumfs.owner.messages import AddDevice, AddWarm
from stratumfs.owner.status import status
from stratumfs.owner.tier_engine import tiers_of
from stratumfs.owner.tiers import change_tiers
from stratumfs.owner.wire import Running
from tests.stratumfs.owner.helpers import KEYS, devices, opened
from tests.stratumfs.store.helpers import get, put

DATA = bytes(range(256)) * 1000


@pytest.fixture
def store(tmp_path: Path) -> Path:
    create.make_store(tmp_path / "store", devices(tmp_path), 4, 2, KEYS)
    return tmp_path / "store"


def folders(store: Path, count: int) -> tuple[str, ...]:
    found = [store.with_name(f"warm{number}") for number in range(count)]
    for each in found:
        each.mkdir(exist_ok=True)
    return tuple(map(str, found))


async def moved(running: Running) -> InodeNo:
    ino = (await put(running.store, b"key", DATA)).ino
    move = await running.mover.ask(ino, "warm", 0, "by hand")
    await running.mover._carry_out(move)
    return ino


async def lies_in(running: Running, ino: InodeNo) -> str | None:
    [found] = await running.store.catalog.read(residences, (ino,))
    return found.tier


async def test_it_takes_what_is_moved_at_once_and_is_there_for_the_next_owner(store: Path) -> None:
    paths = folders(store, 3)
    async with opened(store) as running:
        await running.store.objects.create_bucket("bucket", 1)
        found = await change_tiers(running, AddWarm(paths, 2, 1))
        assert (found["devices"], found["k"], found["m"]) == (list(paths), 2, 1)
        ino = await moved(running)
        assert await lies_in(running, ino) == "warm"
        assert await get(running.store, b"key") == DATA
        told = await status(running, [])
        assert [each["state"] for each in told["devices"]] == ["online"] * 9
    assert load(store / SETTINGS_FILE).tiers["warm"].k == 2
    async with opened(store) as running:
        assert await lies_in(running, ino) == "warm"
        assert await get(running.store, b"key") == DATA
        with pytest.raises(ConfigError, match="a warm tier already"):
            await change_tiers(running, AddWarm(folders(store, 6)[3:], 2, 1))


async def test_what_cannot_be_one_changes_nothing(store: Path) -> None:
    paths = folders(store, 3)
    (Path(paths[2]) / "foreign").touch()
    before = (store / SETTINGS_FILE).read_bytes()
    async with opened(store) as running:
        with pytest.raises(DeviceRefused):
            await change_tiers(running, AddWarm(paths, 2, 1))
        with pytest.raises(ConfigError, match="needs 3 folders"):
            await change_tiers(running, AddWarm(paths[:2], 2, 1))
        with pytest.raises(ConfigError, match="each once"):
            await change_tiers(running, AddWarm((paths[0], paths[0], paths[1]), 2, 1))
        assert list(running.store.writers) == ["hot"]
        assert len(running.folders.identity.devices) == 6
    assert (store / SETTINGS_FILE).read_bytes() == before


@pytest.mark.parametrize("joined", [0, 1, 2])
async def test_stopped_on_the_way_the_store_opens_and_goes_on_where_it_is_asked_again(store: Path, joined: int) -> None:
    paths, add = folders(store, 3), stratumfs.owner.tiers.add_device
    calls: list[str] = []

    async def stopping(running: Running, request: AddDevice) -> dict[str, Any]:
        if len(calls) == joined:
            raise StoreFull("stopped")
        calls.append(request.new)
        return await add(running, request)

    async with opened(store) as running:
        await running.store.objects.create_bucket("bucket", 1)
        with patch.object(stratumfs.owner.tiers, "add_device", stopping), pytest.raises(StoreFull):
            await change_tiers(running, AddWarm(paths, 2, 1))
    async with opened(store) as running:
        await put(running.store, b"other", DATA)
        await status(running, [])
        assert (running.store.targets["warm"].read_only is None) == (joined == 2), "narrower volumes fit on two"
        await change_tiers(running, AddWarm(paths, 2, 1))
        ino = await moved(running)
        assert await lies_in(running, ino) == "warm"
    async with opened(store) as running:
        assert len(running.folders.identity.devices) == 9
        assert await get(running.store, b"key") == DATA


async def test_the_engine_of_the_owner_that_runs_knows_it_at_once(store: Path) -> None:
    """Of a store that had one tier until then: what is pinned to the new one goes there."""
    paths = folders(store, 3)
    file = store / SETTINGS_FILE
    file.write_text(file.read_text() + "\n[tiering]\ntick_s = 0.1\nwarmup_days = 0\n")
    async with opened(store) as running, trio.open_nursery() as nursery:
        nursery.start_soon(running.tiers.serve)
        await running.store.objects.create_bucket("bucket", 1)
        ino = (await put(running.store, b"key", DATA)).ino
        with pytest.raises(ConfigError, match="one tier"):
            tiers_of(running.tiers)
        assert (await running.explainer.explain(inode=ino))["tiering"] is None
        await change_tiers(running, AddWarm(paths, 2, 1))
        engine = await tiers_of(running.tiers).opened()
        assert engine.tiers == ("hot", "warm")
        assert (await running.explainer.explain(inode=ino))["tiering"] is not None
        await running.store.files.set_xattr(ino, PIN, b"warm", 1)
        with trio.fail_after(60):
            while await lies_in(running, ino) != "warm":
                await engine.look()
                await trio.testing.wait_all_tasks_blocked(0.01)
        [decision] = await running.store.catalog.read(decisions_since, 0, None, None, 10)
        assert (decision.ino, decision.target, decision.cause) == (ino, "warm", "pin")
        running.store.observer.read(ino, 10, 0)
        await engine.look()
        nursery.cancel_scope.cancel()


async def test_heat_outlasts_a_tier_that_is_added(store: Path) -> None:
    paths = folders(store, 6)
    file = store / SETTINGS_FILE
    file.write_text(file.read_text() + "\n[tiering]\ntick_s = 0.1\n")
    async with opened(store) as running, trio.open_nursery() as nursery:
        await running.store.objects.create_bucket("bucket", 1)
        await change_tiers(running, AddWarm(paths[:3], 2, 1))
        nursery.start_soon(running.tiers.serve)
        ino = (await put(running.store, b"key", DATA)).ino
        engine = await running.tiers.opened()
        for _ in range(3):
            running.store.observer.read(ino, len(DATA), 0)
            await engine.look()
        slot = engine.policy.signals.slot(ino)
        assert slot is not None
        count = engine.policy.signals.reads[slot]
        await running.tiers.grow(load(file))
        again = await running.tiers.opened()
        assert again is not engine
        slot = again.policy.signals.slot(ino)
        assert slot is not None
        assert again.policy.signals.reads[slot] == pytest.approx(count, rel=0.01)
        nursery.cancel_scope.cancel()
