"""Another folder takes the slot of a device, in a store that is open."""

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from stratumfs.catalog.damage import shards_on
from stratumfs.catalog.epochs import NamedImage
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.volumes import images
from stratumfs.devices.health import DeviceState
from stratumfs.devices.identity import DeviceEntry, write_identity
from stratumfs.errors import DeviceSilent, StoreBusy, StoreReadOnly
from stratumfs.ids import CellIndex, DeviceId, VolumeId
from stratumfs.limits import DEVICE_DEADLINE_S
from stratumfs.owner import create, wire
from stratumfs.owner.add import add_device
from stratumfs.owner.exchange import in_time
from stratumfs.owner.folders import Folders, with_device
from stratumfs.owner.messages import AddDevice, Progress, ReplaceDevice
from stratumfs.owner.replace import replace_device
from stratumfs.owner.status import status
from stratumfs.shards.layout import QUARANTINE_FOLDER, ShardName, path_of
from tests.stratumfs.owner.helpers import DATA, KEYS, devices, filled, opened
from tests.stratumfs.store.helpers import get


@pytest.fixture
def store(tmp_path: Path) -> Path:
    create.make_store(tmp_path / "store", devices(tmp_path), 4, 2, KEYS)
    for name in ("new0", "new1"):
        (tmp_path / name).mkdir()
    return tmp_path / "store"


async def replaced(running: wire.Running, slot: int, new: Path) -> dict[str, Any]:
    async def nobody(progress: Progress) -> None:
        """Who asked has left."""

    return await replace_device(running, ReplaceDevice(f"hot:{slot}", str(new)), nobody, trio.Event())


def paths(running: wire.Running) -> list[str]:
    return [entry.path.name for entry in running.folders.identity.devices]


def states(found: dict[str, Any]) -> list[str]:
    return [each["state"] for each in found["devices"]]


def place_shard(tx: Transaction, volume: VolumeId, source: DeviceId, target: DeviceId) -> None:
    tx.run("update shard set device = ? where volume = ? and device = ?", (target, volume, source))


async def test_regression_two_replacements_at_once_are_both_in_the_identity_files(store: Path) -> None:
    async with opened(store) as running:
        await filled(running)
        async with trio.open_nursery() as nursery:
            for slot in (0, 1):
                nursery.start_soon(replaced, running, slot, store.with_name(f"new{slot}"))
        assert paths(running)[:2] == ["new0", "new1"]
    async with opened(store) as running:
        assert paths(running)[:2] == ["new0", "new1"]
        found = await status(running, ())
        assert states(found) == ["online"] * 6
        assert (found["missing_shards"], found["devices_survived"]) == (0, 2)
        assert await get(running.store, b"key") == DATA


async def test_regression_a_replacement_that_was_stopped_in_its_first_step_goes_on(store: Path) -> None:
    """A kill within the write of its identity file left a folder that was refused for not being empty."""
    async with opened(store) as running:
        await filled(running)
        new = store.with_name("new0")
        (new / "stratumfs-device.json.new").write_bytes(b"{")
        await replaced(running, 0, new)
        assert paths(running)[0] == "new0"
        added = store.with_name("new1")
        (added / "stratumfs-device.json.new").touch()
        await add_device(running, AddDevice("hot", str(added)))
        assert paths(running)[-1] == "new1"


async def test_regression_a_replacement_supersedes_images_that_lie_on_the_lost_device(store: Path) -> None:
    """They are never rebuilt, so that it was said that something was left, until an hour later."""
    async with opened(store) as running:
        await filled(running)
        for _ in range(2):
            await running.store.imager.write(paced=False)
        shutil.rmtree(store.with_name("d0"))
        found = await replaced(running, 0, store.with_name("new0"))
        assert found["bytes_left"] == 0
        listed = {entry.id for entry in running.folders.identity.devices}
        assert all(listed.issuperset(row.devices) for row in await running.store.catalog.read(images))


async def test_regression_images_that_a_place_may_name_still_are_nothing_that_is_not_rebuilt(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a place is full, say: the older ones are kept then, with a shard less."""

    async def not_everywhere(images: Sequence[NamedImage]) -> bool:
        return False

    async with opened(store) as running:
        await filled(running)
        monkeypatch.setattr(running.store.catalog.aside, "name_images", not_everywhere)
        for _ in range(2):
            await running.store.imager.write(paced=False)
        shutil.rmtree(store.with_name("d0"))
        assert (await replaced(running, 0, store.with_name("new0")))["bytes_left"] == 0


async def test_regression_a_replacement_beside_another_one_waits_for_what_that_one_brings(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the filling of a new disk, unasked: what that was about to take counted as not rebuilt."""
    async with opened(store) as running:
        await filled(running)
        for slot in (0, 1):
            shutil.rmtree(store.with_name(f"d{slot}"))
        settled = running.store.repairer.wait_settled
        async with trio.open_nursery() as nursery:

            async def settled_and_begun() -> None:
                await settled()
                monkeypatch.setattr(running.store.repairer, "wait_settled", settled)
                nursery.start_soon(replaced, running, 1, store.with_name("new1"))
                while paths(running)[1] != "new1":
                    await trio.lowlevel.checkpoint()

            monkeypatch.setattr(running.store.repairer, "wait_settled", settled_and_begun)
            assert (await replaced(running, 0, store.with_name("new0")))["bytes_left"] == 0


async def test_regression_a_folder_that_becomes_a_device_again_keeps_what_rows_place_on_it(store: Path) -> None:
    """As one whose replacement was lost from the identity files; what no row places there is moved aside."""
    async with opened(store) as running:
        await filled(running)
        old, new = running.folders.identity.devices[2], store.with_name("new0")
        [(volume, cell)] = await running.store.catalog.read(shards_on, old.id)
        again = DeviceEntry(DeviceId(b"n" * 16), "hot", 2, new, old.mount_point, old.st_dev, old.fs_uuid)
        write_identity(new, with_device(running.folders.identity, old, again).of_device(again.id).without_epochs())
        name, unknown = ShardName(volume, cell), ShardName(VolumeId(b"u" * 16), CellIndex(0))
        (new / path_of(name)).parent.mkdir(parents=True)
        shutil.copy(old.path / path_of(name), new / path_of(name))
        kept = (new / path_of(name)).stat().st_ino
        (new / path_of(unknown)).parent.mkdir()
        (new / path_of(unknown)).write_bytes(b"unknown")
        await running.store.catalog.commit(place_shard, volume, old.id, again.id)
        found = await replaced(running, 2, new)
        assert found["device"]["id"] == again.id.hex()
        assert (new / path_of(name)).stat().st_ino == kept
        assert [each.name for each in (new / QUARANTINE_FOLDER).iterdir()] == [path_of(unknown).name]


async def test_regression_a_status_is_answered_while_a_replacement_waits_for_its_epoch(store: Path) -> None:
    async with opened(store) as running:
        go_on = trio.Event()
        change_places = running.store.catalog.change_places

        async def later(*args: Any) -> None:
            await go_on.wait()
            await change_places(*args)

        running.store.catalog.change_places = later  # type: ignore[method-assign]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(replaced, running, 2, store.with_name("new0"))
            while running.store.fleet.joining == {}:
                await trio.lowlevel.checkpoint()
            found = await status(running, ())
            assert states(found) == ["online", "online", "joining", "online", "online", "online"]
            assert "taking the place" in found["devices"][2]["reason"]
            go_on.set()
        assert states(await status(running, ())) == ["online"] * 6


async def test_an_exchange_that_the_catalog_refuses_leaves_all_as_it_was(store: Path) -> None:
    async with opened(store) as running:

        async def refuse(*args: Any) -> None:
            raise StoreReadOnly("too few places")

        before = running.folders.identity
        change_places, running.store.catalog.change_places = running.store.catalog.change_places, refuse  # type: ignore[method-assign]
        with pytest.raises(StoreReadOnly):
            await replaced(running, 2, store.with_name("new0"))
        assert running.folders.identity == before
        assert states(await status(running, ())) == ["online"] * 6
        running.store.catalog.change_places = change_places  # type: ignore[method-assign]
        await replaced(running, 2, store.with_name("new0"))
        assert paths(running)[2] == "new0"


async def test_regression_a_replacement_whose_record_failed_is_finished_when_it_is_asked_for_again(store: Path) -> None:
    async with opened(store) as running:
        ledger: Any = running.store.fleet._ledger
        struck = ledger.struck

        async def busy(*args: Any) -> None:
            raise StoreBusy("too much waits")

        ledger.struck = busy
        with pytest.raises(StoreBusy):
            await replaced(running, 2, store.with_name("new0"))
        assert states(await status(running, ()))[2] == "joining"
        ledger.struck = struck
        found = await replaced(running, 2, store.with_name("new0"))
        assert found["device"]["state"] == "online"
        assert running.store.fleet.state(DeviceId(bytes.fromhex(found["device"]["id"])))[0] is DeviceState.ONLINE


async def test_regression_a_new_disk_that_hangs_is_given_up_and_not_asked_again_meanwhile(
    store: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    begun, answer = trio.Event(), threading.Event()

    def hang(*args: Any) -> None:
        trio.from_thread.run_sync(begun.set)
        answer.wait()

    async def silent() -> None:
        with pytest.raises(DeviceSilent, match="new0 does not answer"):
            await replaced(running, 2, store.with_name("new0"))

    async with opened(store) as running:
        monkeypatch.setattr(Folders, "prepare", hang)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(silent)
                await begun.wait()
                mock_clock.jump(DEVICE_DEADLINE_S)
            await silent()  # at once
            assert states(await status(running, ())) == ["online"] * 6
        finally:
            answer.set()


async def test_regression_who_asks_of_a_folder_that_others_ask_of_waits_for_its_turn(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As somebody who replaces a device by a new disk that the store is about to fill unasked."""
    begun, answer = trio.Event(), threading.Event()

    def slow() -> None:
        trio.from_thread.run_sync(begun.set)
        answer.wait()

    async with opened(store) as running, trio.open_nursery() as nursery:
        new = store.with_name("new0")
        nursery.start_soon(in_time, running.folders, new, slow)
        await begun.wait()
        nursery.start_soon(replaced, running, 2, new)
        await wait_all_tasks_blocked()
        answer.set()
    assert paths(running)[2] == "new0"
