"""A store that is open gets more devices, empties some, and lets them go."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from stratumfs.catalog.damage import shards_on
from stratumfs.catalog.devices import device_rows, drains
from stratumfs.catalog.volumes import SEALED, images, volumes
from stratumfs.devices.health import DeviceState
from stratumfs.devices.identity import DEVICE_FILE, DeviceEntry, Identity, has_identity, read_identity, write_identity
from stratumfs.errors import DeviceFailed, DeviceRefused, NotFound, StoreReadOnly
from stratumfs.ids import DeviceId
from stratumfs.owner import create, wire
from stratumfs.owner.add import add_device
from stratumfs.owner.drain import drain_device
from stratumfs.owner.lock import is_held
from stratumfs.owner.messages import AddDevice, DrainDevice, Progress, RemoveDevice, ReplaceDevice
from stratumfs.owner.places import place_of
from stratumfs.owner.remove import remove_device
from stratumfs.owner.replace import replace_device
from stratumfs.owner.status import status
from stratumfs.repair.repairer import Repairer
from tests.stratumfs.owner.helpers import DATA, KEYS, devices, filled, opened
from tests.stratumfs.store.helpers import get, put


@pytest.fixture
def store(tmp_path: Path) -> Path:
    create.make_store(tmp_path / "store", devices(tmp_path), 4, 2, KEYS)
    for name in ("new0", "new1"):
        (tmp_path / name).mkdir()
    return tmp_path / "store"


async def added(running: wire.Running, name: str = "new0") -> dict[str, Any]:
    return await add_device(running, AddDevice("hot", str(running.folder.with_name(name))))


async def drained(running: wire.Running, device: str, *, stop: bool = False) -> dict[str, Any]:
    async def nobody(progress: Progress) -> None:
        assert progress.done is not None
        assert progress.total is not None
        assert progress.done <= progress.total

    return await drain_device(running, DrainDevice(device, stop), nobody, trio.Event())


async def removed(running: wire.Running, device: str, *, force: bool = False) -> dict[str, Any]:
    return await remove_device(running, RemoveDevice(device, force))


async def _nothing(*_: object) -> None:
    """Nothing is made elsewhere."""
    await trio.lowlevel.checkpoint()


def slots(running: wire.Running) -> list[int]:
    return [entry.slot for entry in running.folders.identity.devices]


def device(running: wire.Running, slot: int) -> DeviceEntry:
    return next(entry for entry in running.folders.identity.devices if entry.slot == slot)


async def sound(running: wire.Running, count: int = 6) -> None:
    found = await status(running, ())
    assert [each["state"] for each in found["devices"]] == ["online"] * count
    assert (found["missing_shards"], found["damaged_shards"], found["devices_survived"]) == (0, 0, 2)
    assert await get(running.store, b"key") == DATA


# Adding


async def test_an_added_device_is_a_place_and_gets_volumes_after_the_next_opening_too(store: Path) -> None:
    async with opened(store) as running:
        await filled(running)
        found = await added(running)
        assert (found["device"]["slot"], found["device"]["state"]) == (6, "online")
        assert "both fail together" in found["warning"]
        assert place_of(device(running, 6).id) in running.store.catalog._members.listed  # type: ignore[attr-defined]
    async with opened(store) as running:
        await sound(running, 7)
        for number in range(12):
            await put(running.store, b"more %d" % number, DATA[:50_000])
            await running.store.writer.volumes.seal_idle(0)
        rows = await running.store.catalog.read(volumes, SEALED)
        assert {len(row.devices) for row in rows} == {6}
        assert any(device(running, 6).id in row.devices for row in rows)
        assert any(device(running, 6).id not in row.devices for row in rows)


async def test_an_addition_that_was_stopped_goes_on_under_the_id_that_it_has(store: Path) -> None:
    new = store.with_name("new0")
    async with opened(store) as running:
        identity = running.folders.identity
        begun = DeviceEntry(DeviceId(b"n" * 16), "hot", 6, new, False, 1, None)
        write_identity(new, _with(identity, begun).of_device(begun.id).without_epochs())
        found = await added(running)
        assert found["device"]["id"] == begun.id.hex()
        assert (await added(running))["device"]["id"] == begun.id.hex()  # asked again: nothing changes
        assert slots(running) == [0, 1, 2, 3, 4, 5, 6]


def _with(identity: Identity, entry: DeviceEntry) -> Identity:
    return replace(identity, devices=(*identity.devices, entry))


async def test_what_may_not_become_a_device_is_refused_and_nothing_changes(store: Path) -> None:
    async with opened(store) as running:
        before = running.folders.identity
        (store.with_name("new0") / "file").touch()
        (store.with_name("d0") / "below").mkdir()
        store.with_name("below").symlink_to("d0/below")
        for name in ("new0", "below", "store", "nothing"):
            with pytest.raises(DeviceRefused):
                await added(running, name)
        with pytest.raises(NotFound):
            await add_device(running, AddDevice("cold", str(store.with_name("new1"))))
        assert running.folders.identity == before
        assert running.store.fleet.joining == {}


async def test_an_addition_that_the_catalog_refuses_leaves_all_as_it_was(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*args: Any) -> None:
        raise StoreReadOnly("too few places")

    async with opened(store) as running:
        before = running.folders.identity
        with monkeypatch.context() as patch:
            patch.setattr(running.store.catalog, "change_places", refuse)
            with pytest.raises(StoreReadOnly):
                await added(running)
        assert running.folders.identity == before
        assert (await added(running))["device"]["slot"] == 6


# Draining and removing


async def test_a_device_is_drained_and_removed_and_its_folder_is_free(store: Path) -> None:
    async with opened(store) as running:
        await filled(running)
        await added(running)
        gone = device(running, 2)
        found = await drained(running, "hot:2")
        assert (found["shards_left"], found["bytes_left"], found["device"]["state"]) == (0, 0, "draining")
        assert "may be removed" in found["device"]["reason"]
        assert found["devices_survived"] == 2
        assert await running.store.catalog.read(shards_on, gone.id) == []
        assert (await removed(running, str(gone.path)))["slot"] == 2
        assert slots(running) == [0, 1, 3, 4, 5, 6]
        assert not has_identity(gone.path)
        assert not is_held(gone.path)
        shutil.rmtree(gone.path)
        await sound(running)
        assert await running.store.catalog.read(drains) == []
        assert await running.store.catalog.read(device_rows) == []
    async with opened(store) as running:
        assert slots(running) == [0, 1, 3, 4, 5, 6]
        await sound(running)


async def test_a_device_that_is_drained_takes_no_new_volumes_and_open_ones_leave_it(store: Path) -> None:
    async with opened(store) as running:
        await filled(running)
        await added(running)
        await put(running.store, b"open", DATA)
        await drained(running, "hot:1")
        await put(running.store, b"more", DATA)
        await running.store.writer.volumes.seal_idle(0)
        assert await running.store.catalog.read(shards_on, device(running, 1).id) == []
        assert await get(running.store, b"open") == DATA


async def test_a_drain_supersedes_the_images_that_lie_on_a_device(store: Path) -> None:
    async with opened(store) as running:
        await filled(running)
        await added(running)
        for _ in range(2):
            await running.store.imager.write(paced=False)
        holder = (await running.store.catalog.read(images))[0].devices[0].hex()
        assert (await drained(running, holder))["shards_left"] == 0
        await removed(running, holder)
        await sound(running)


async def test_a_drain_goes_on_in_the_next_owner(store: Path) -> None:
    async with opened(store) as running:
        await filled(running)
        await added(running)
        await running.store.fleet.drain(device(running, 3).id)
    async with opened(store) as running:
        assert running.store.fleet.state(device(running, 3).id)[0] is DeviceState.DRAINING
        await running.store.repairer.wait_settled()
        assert await running.store.catalog.read(shards_on, device(running, 3).id) == []
        assert await get(running.store, b"key") == DATA


async def test_a_drain_that_is_stopped_leaves_a_device_as_any_other(store: Path) -> None:
    async with opened(store) as running:
        await filled(running)
        await added(running)
        await drained(running, "hot:3")
        assert (await drained(running, "hot:3", stop=True))["device"]["state"] == "online"
        with pytest.raises(DeviceRefused, match="comes first"):
            await removed(running, "hot:3")
        await sound(running, 7)


async def test_nothing_is_drained_where_volumes_would_be_narrow(store: Path) -> None:
    async with opened(store) as running:
        await filled(running)
        with pytest.raises(DeviceRefused, match="add one first"):
            await drained(running, "hot:3")
        with pytest.raises(DeviceRefused, match="must stay"):
            await removed(running, "hot:3", force=True)
        with pytest.raises(NotFound):
            await drained(running, "hot:9")
        await sound(running)


async def test_what_holds_shards_stays(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Repairer, "_repair", _nothing)
    async with opened(store) as running:
        await filled(running)
        await added(running)
        await added(running, "new1")
        with pytest.raises(DeviceRefused, match="comes first"):
            await removed(running, "hot:3", force=True)
        await running.store.fleet.drain(device(running, 3).id)
        with pytest.raises(DeviceRefused, match="1 shards still"):
            await removed(running, "hot:3", force=True)
        await running.store.fleet.strike(device(running, 4).id, DeviceFailed("it died"))
        with pytest.raises(DeviceRefused, match="not made elsewhere"):
            await removed(running, "hot:4")
        assert slots(running) == list(range(8))


async def test_a_lost_device_goes_by_force_and_what_it_held_is_made_elsewhere(store: Path) -> None:
    async with opened(store) as running:
        await filled(running)
        lost = device(running, 4)
        await running.store.fleet.strike(lost.id, DeviceFailed("it died"))
        shutil.rmtree(lost.path)
        with pytest.raises(DeviceRefused, match="must stay"):
            await removed(running, "hot:4", force=True)
        await added(running)
        await removed(running, "hot:4", force=True)
        await running.store.repairer.wait_settled()
        await sound(running)
    async with opened(store) as running:
        await sound(running)


async def test_a_device_that_was_removed_does_not_come_back_under_its_id_while_rows_name_it(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Repairer, "_repair", _nothing)
    async with opened(store) as running:
        await filled(running)
        await added(running)
        lost = device(running, 4)
        away = lost.path.rename(lost.path.with_name("away"))
        await running.store.fleet.strike(lost.id, DeviceFailed("its disk is away"))
        running.folders.forget(lost.id)
        await removed(running, "hot:4", force=True)
        away.rename(lost.path)
        assert has_identity(lost.path)
        for _ in range(2):
            with pytest.raises(DeviceRefused, match="remove its contents"):
                await added(running, lost.path.name)
        assert slots(running) == [0, 1, 2, 3, 5, 6]
        assert running.store.fleet.gone(lost.id)
        shutil.rmtree(lost.path)
        lost.path.mkdir()
        assert (await added(running, lost.path.name))["device"]["id"] != lost.id.hex()


async def test_a_device_that_was_replaced_does_not_take_its_slot_again_under_its_id_while_rows_name_it(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def replaced(new: Path) -> None:
        left = trio.Event()
        left.set()
        await replace_device(running, ReplaceDevice("hot:4", str(new)), _nothing, left)

    monkeypatch.setattr(Repairer, "_repair", _nothing)
    async with opened(store) as running:
        await filled(running)
        lost = device(running, 4)
        away = lost.path.rename(lost.path.with_name("away"))
        await running.store.fleet.strike(lost.id, DeviceFailed("its disk is away"))
        await replaced(store.with_name("new0"))
        away.rename(lost.path)
        with pytest.raises(DeviceRefused, match="remove its contents"):
            await replaced(lost.path)
        assert device(running, 4).path == store.with_name("new0")


async def test_a_lost_device_does_not_go_where_data_cannot_be_read_without_it(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Repairer, "_repair", _nothing)
    async with opened(store) as running:
        await filled(running)
        await added(running)
        for slot in range(3):
            await running.store.fleet.strike(device(running, slot).id, DeviceFailed("it died"))
        with pytest.raises(DeviceRefused, match="bring it back"):
            await removed(running, "hot:0", force=True)


async def test_a_lost_device_stays_where_files_are_missing_that_no_look_has_found(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Repairer, "serve", Repairer.recall)
    async with opened(store) as running:
        await filled(running)
        await added(running)
        for slot in range(2):
            await running.store.fleet.strike(device(running, slot).id, DeviceFailed("it died"))
        [shard] = list((device(running, 2).path / "volumes").glob("*/*"))
        kept = shard.rename(store.with_name("kept"))
        assert running.store.repairer.seen.missing == {}
        with pytest.raises(DeviceRefused, match="bring it back"):
            await removed(running, "hot:0", force=True)
        kept.rename(shard)
        assert (await removed(running, "hot:0", force=True))["devices_survived"] == 0


async def test_no_change_of_devices_waits_for_a_look_at_all_volumes(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def looks(*_: object) -> None:
        raise AssertionError("it waits for a look")

    async with opened(store) as running:
        await filled(running)
        monkeypatch.setattr(Repairer, "wait_looked", looks)
        assert (await added(running))["devices_survived"] == 2
        assert (await drained(running, "hot:2"))["devices_survived"] == 2
        assert (await removed(running, "hot:2"))["devices_survived"] == 2


async def test_a_removal_that_the_catalog_refuses_goes_on_when_it_is_asked_for_again(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*args: Any) -> None:
        raise StoreReadOnly("too few places")

    async with opened(store) as running:
        await filled(running)
        await added(running)
        await drained(running, "hot:0")
        with monkeypatch.context() as patch:
            patch.setattr(running.store.catalog, "change_places", refuse)
            with pytest.raises(StoreReadOnly):
                await removed(running, "hot:0")
        assert slots(running) == list(range(7))
        assert running.store.fleet.state(device(running, 0).id)[0] is DeviceState.GONE
    async with opened(store) as running:  # a kill there leaves the same
        assert running.store.fleet.state(device(running, 0).id)[0] is DeviceState.GONE
        await removed(running, "hot:0")
        assert slots(running) == [1, 2, 3, 4, 5, 6]
        await sound(running)


async def test_the_device_that_the_catalog_is_written_to_can_be_removed(store: Path) -> None:
    async with opened(store) as running:
        await filled(running)
        await added(running)
    shutil.rmtree(store / "catalog")  # the store folder's copy is lost: a device becomes the primary
    async with opened(store) as running:
        members = running.store.catalog._members
        primary = next(
            (entry for entry in running.folders.identity.devices if place_of(entry.id) == members.primary),  # type: ignore[attr-defined]
            None,
        )
        if primary is not None:
            await drained(running, primary.id.hex())
            await removed(running, primary.id.hex())
            assert place_of(primary.id) not in {members.primary, *members.members}  # type: ignore[attr-defined]
        await sound(running, len(slots(running)))


async def test_a_shard_is_copied_from_the_device_that_it_leaves_and_made_from_others_where_it_is_damaged(
    store: Path,
) -> None:
    async with opened(store) as running:
        await filled(running)
        await added(running)
        entry = device(running, 2)
        [shard] = list((entry.path / "volumes").glob("*/*"))
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
        assert (await drained(running, "hot:2"))["shards_left"] == 0
        await removed(running, "hot:2")
        await sound(running)


async def test_the_file_of_a_removed_device_says_nothing_any_more(store: Path) -> None:
    async with opened(store) as running:
        await filled(running)
        await added(running)
        path = device(running, 5).path
        await drained(running, "hot:5")
        await removed(running, "hot:5")
        with pytest.raises(DeviceRefused, match="neither a store nor a device"):
            read_identity(path)
        assert (path / f"{DEVICE_FILE}.removed").exists()
