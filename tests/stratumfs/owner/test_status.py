"""What `status` tells where devices hang, and of shards that nobody has looked for yet."""

import os
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from stratumfs.catalog.damage import shards_on
from stratumfs.catalog.engine import Catalog
from stratumfs.devices.space import Space, space_of
from stratumfs.errors import DeviceFailed, StoreFull
from stratumfs.ids import GIB, ROOT_INODE, STORE_PLACE, DeviceId, VolumeId
from stratumfs.limits import ANSWER_WAIT_S, REPAIR_AGAIN_S, REPAIR_RETURN_S
from stratumfs.owner import status as status_module
from stratumfs.owner.folders import Folders
from stratumfs.owner.status import status
from stratumfs.repair import needs
from stratumfs.shards.layout import ShardName, path_of
from stratumfs.values import Name
from tests.stratumfs.owner.helpers import filled, opened
from tests.stratumfs.owner.test_exchange import states, store

__all__ = ["store"]


async def test_regression_a_device_that_hangs_delays_no_answer_for_long(
    store: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    """Also one that holds nothing."""
    begun, answer = trio.Event(), threading.Event()
    others = trio.Semaphore(0)

    def hangs(path: Path) -> Space:
        if path.name == "d2":
            trio.from_thread.run_sync(begun.set)
            answer.wait()
        else:
            trio.from_thread.run_sync(others.release)
        return space_of(path)

    async def pass_time() -> None:
        await begun.wait()
        for _ in range(5):
            await others.acquire()
        await wait_all_tasks_blocked(0.1)  # and have answered
        mock_clock.jump(ANSWER_WAIT_S)

    async with opened(store) as running:
        monkeypatch.setattr(status_module, "space_of", hangs)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pass_time)
                found = await status(running, ())
        finally:
            answer.set()
        assert states(found) == ["online", "online", "suspect", "online", "online", "online"]
        assert found["devices"][2]["free"] is None


async def test_regression_what_was_not_looked_for_yet_is_not_missing(
    store: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    """A store is not unreadable for having more shards than can be looked for while somebody waits."""
    async with opened(store) as running:
        await filled(running)
    begun = trio.Event()

    async def never(*_: object) -> Any:
        begun.set()
        await trio.sleep_forever()

    answered = trio.Semaphore(0)

    def counted(path: Path) -> Space:
        found = space_of(path)
        trio.from_thread.run_sync(answered.release)
        return found

    async def pass_time() -> None:
        await begun.wait()
        for _ in range(6):
            await answered.acquire()
        await wait_all_tasks_blocked(0.1)
        mock_clock.jump(ANSWER_WAIT_S)

    monkeypatch.setattr(needs, "shards_present", never)
    monkeypatch.setattr(status_module, "space_of", counted)
    async with opened(store) as running, trio.open_nursery() as nursery:
        nursery.start_soon(pass_time)
        found = await status(running, ())
        assert (found["missing_shards"], found["unknown_shards"], found["devices_survived"]) == (0, 6, 2)
        assert states(found) == ["online"] * 6
        assert [each["unknown"] for each in found["devices"]] == [1] * 6


async def test_a_file_that_was_removed_is_missing_in_the_next_answer(store: Path) -> None:
    async with opened(store) as running:
        await filled(running)
        device = running.folders.identity.devices[3]
        [shard] = await running.store.catalog.read(shards_on, device.id)
        (device.path / path_of(ShardName(*shard))).unlink()
        found = await status(running, ())
        assert (found["missing_shards"], found["unknown_shards"], found["devices_survived"]) == (1, 0, 1)
        assert [each["missing"] for each in found["devices"]] == [0, 0, 0, 1, 0, 0]
        await running.store.repairer.wait_settled()
        assert (await status(running, ()))["missing_shards"] == 0


async def test_a_store_that_can_only_be_read_is_looked_at_too(store: Path) -> None:
    async with opened(store) as running:
        await filled(running)
        device = running.folders.identity.devices[3]
        [shard] = await running.store.catalog.read(shards_on, device.id)
    (device.path / path_of(ShardName(*shard))).unlink()
    for slot in (0, 1, 2, 4):
        store.with_name(f"d{slot}").rename(store.with_name(f"away{slot}"))
    async with opened(store) as running:
        assert running.store.catalog.read_only
        found = await status(running, ())
        assert (found["missing_shards"], found["unknown_shards"]) == (5, 0)
        assert found["devices_survived"] < 0


async def test_what_was_struck_says_when_it_is_tried_again_and_what_the_catalog_makes_of_it(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: Folders, device: DeviceId) -> NoReturn:
        raise DeviceFailed("not yet")

    monkeypatch.setattr(Folders, "reopen", away)
    async with opened(store) as running:
        before = time.time()
        slots = {entry.slot: entry for entry in running.folders.identity.devices}
        await running.store.fleet.strike(slots[0].id, DeviceFailed("EIO"))
        await running.store.catalog.strike(STORE_PLACE, "it is gone")
        found = await status(running, ())
        struck = found["devices"][0]
        assert (struck["state"], struck["catalog"], struck["catalog_reason"]) == ("failed", None, "EIO")
        assert struck["again"] >= before + REPAIR_RETURN_S
        assert [each["again"] for each in found["devices"][1:]] == [None] * 5
        assert found["store_folder"] == {"catalog": None, "catalog_reason": "it is gone"}
        roles = [each["catalog"] for each in found["devices"]]
        assert roles.count("primary") == 1
        assert roles.count("copy") >= 2  # another one may have joined


async def test_volumes_whose_repair_is_put_off_are_counted(store: Path) -> None:
    async with opened(store) as running:
        assert (await status(running, ()))["put_off"] == {"volumes": 0, "again": None}
        before = time.time()
        running.store.repairer.put_off.put_off(VolumeId(b"v" * 16), trio.current_time())
        found = await status(running, ())
        assert found["put_off"]["volumes"] == 1
        assert found["put_off"]["again"] >= before + REPAIR_AGAIN_S - 1


async def test_a_round_that_waits_for_members_is_told_of(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(store) as running:
        assert (await status(running, ()))["waiting"] is None
        monkeypatch.setattr(Catalog, "waiting", "3 places do not answer")
        assert (await status(running, ()))["waiting"] == "3 places do not answer"


async def test_a_disk_of_the_catalog_that_keeps_new_data_from_being_taken_is_named(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(store) as running:
        assert (await status(running, ()))["refused"] is None
        monkeypatch.setattr(os, "statvfs", lambda where: os.statvfs_result((1, 1, 10 * GIB, 0, 0, 0, 0, 0, 0, 255)))
        await running.store.space.refresh()
        found = await status(running, ())
        assert found["space"]["usable_free"] == 0
        assert found["refused"].startswith(f"{running.store.catalog.folder} holds the catalog: 0 MiB are free there")
        with pytest.raises(StoreFull, match="holds the catalog"):
            await running.store.files.make(ROOT_INODE, Name(b"new"), 0o644, 0, 0, 0)
