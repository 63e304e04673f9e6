"""New disks in the places of those that failed are noticed, and folders are not."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from stratumfs.devices.identity import DEVICE_FILE, DeviceEntry, write_identity
from stratumfs.errors import DeviceRefused, StoreReadOnly
from stratumfs.ids import DeviceId
from stratumfs.owner import create, fill, wire
from stratumfs.owner.add import add_device
from stratumfs.owner.fill import Filler, is_new_disk
from stratumfs.owner.folders import Folders, with_device
from stratumfs.owner.messages import AddDevice, RemoveDevice
from stratumfs.owner.remove import remove_device
from stratumfs.owner.status import status
from stratumfs.repair.away import strike_away
from tests.both.passthrough import Device
from tests.stratumfs.owner.helpers import DATA, KEYS, devices, opened
from tests.stratumfs.store.helpers import get, put

pytestmark = pytest.mark.mount


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Device]:
    """A file system of its own, mounted where the first device is to be."""
    found = Device(tmp_path / "behind", tmp_path / "d0")
    yield found
    found.close()


@pytest.fixture
def store(tmp_path: Path, disk: Device) -> Path:
    others = devices(tmp_path / "others", 5)
    create.make_store(tmp_path / "store", [disk.point, *others], 4, 2, KEYS)
    return tmp_path / "store"


async def struck(running: wire.Running) -> DeviceEntry:
    """What it noticed by looking."""
    await strike_away(running.store.fleet, running.store.repairer.folders)
    entry = running.folders.identity.devices[0]
    assert running.store.fleet.state(entry.id)[0] == "failed"
    return entry


async def test_an_empty_disk_in_the_place_of_one_that_failed_is_filled(store: Path, disk: Device) -> None:
    async with opened(store) as running:
        await running.store.objects.create_bucket("bucket", 1)
        await put(running.store, b"key", DATA)
        await running.store.writer.volumes.seal_idle(0)
        await Filler(running).round()  # all are well
        disk.empty()
        old = await struck(running)
        await Filler(running).round()
        new = running.folders.identity.devices[0]
        assert new.id != old.id
        assert (new.slot, new.path, new.mount_point) == (0, old.path, True)
        await running.store.repairer.wait_settled()
        found = await status(running, ())
        assert [each["state"] for each in found["devices"]] == ["online"] * 6
        assert (found["missing_shards"], found["devices_survived"]) == (0, 2)
        assert await get(running.store, b"key") == DATA
    async with opened(store) as running:
        assert running.folders.identity.devices[0] == new


async def test_the_empty_mount_point_of_a_disk_that_is_away_is_left_alone(store: Path, disk: Device) -> None:
    async with opened(store) as running:
        disk.close()
        old = await struck(running)
        assert not is_new_disk(running.folders, old)
        await Filler(running).round()
        assert running.folders.identity.devices[0] == old
        assert list(disk.point.iterdir()) == []


async def test_a_disk_that_holds_anything_is_left_alone(store: Path, disk: Device) -> None:
    async with opened(store) as running:
        disk.empty()
        (disk.folder / "photographs").mkdir()
        old = await struck(running)
        await Filler(running).round()
        assert running.folders.identity.devices[0] == old


async def test_a_device_that_was_a_plain_folder_is_left_alone(store: Path, disk: Device) -> None:
    async with opened(store) as running:
        entry = running.folders.identity.devices[0]
        running.folders.adopt(with_device(running.folders.identity, entry, replace(entry, mount_point=False)))
        disk.empty()
        await struck(running)
        await Filler(running).round()
        assert running.folders.identity.devices[0].id == entry.id


async def test_a_filling_that_was_stopped_goes_on_and_one_that_is_refused_is_tried_again(
    store: Path, disk: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise StoreReadOnly("too few places")

    async with opened(store) as running:
        disk.empty()
        old = await struck(running)
        filler = Filler(running)
        with monkeypatch.context() as patch:
            patch.setattr(running.store.catalog, "change_places", refuse)
            await filler.round()
        assert running.folders.identity.devices[0] == old
        assert (disk.point / DEVICE_FILE).exists()
        await filler.round()
        assert running.folders.identity.devices[0].id != old.id


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Device]:
    """Another one."""
    found = Device(tmp_path / "behind peer", tmp_path / "peer")
    yield found
    found.close()


@pytest.mark.parametrize("what", ["memory", "peer"])
async def test_what_is_no_disk_of_its_own_is_filled_only_when_somebody_asks(
    tmp_path: Path, peer: Device, disk: Device, what: str
) -> None:
    store = tmp_path / "store"
    create.make_store(store, [disk.point, peer.point, *devices(tmp_path / "others", 4)], 4, 2, KEYS)
    (peer.folder / "bound").mkdir()
    words = {"memory": ["-t", "tmpfs", "none"], "peer": ["--bind", str(peer.point / "bound")]}
    async with opened(store) as running:
        disk.close()
        await trio.run_process(["mount", *words[what], str(disk.point)])
        try:
            old = await struck(running)
            said = {"memory": r"in memory \(tmpfs\)", "peer": f"disk with {peer.point}"}
            with pytest.raises(DeviceRefused, match=said[what]):
                is_new_disk(running.folders, old)
            await Filler(running).round()
            assert running.folders.identity.devices[0] == old
        finally:
            await trio.run_process(["umount", str(disk.point)])


async def test_devices_may_leave_while_the_place_of_another_one_is_looked_at(
    store: Path, disk: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(store) as running:
        store.with_name("more").mkdir()
        await add_device(running, AddDevice("hot", str(store.with_name("more"))))
        lost = running.folders.identity.devices[5]
        running.folders.adopt(with_device(running.folders.identity, lost, replace(lost, mount_point=True)))
        disk.empty()
        await struck(running)
        looked = list[DeviceId]()

        def look_while_one_leaves(folders: Folders, entry: DeviceEntry) -> bool:
            looked.append(entry.id)
            trio.from_thread.run(remove_device, running, RemoveDevice(lost.id.hex(), force=True))
            return False

        monkeypatch.setattr(fill, "is_new_disk", look_while_one_leaves)
        await Filler(running).round()
        assert looked == [running.folders.identity.devices[0].id]
        assert running.folders.entry(lost.id) is None


async def test_a_device_that_was_replaced_once_is_no_new_disk(store: Path, disk: Device) -> None:
    """It has the files of a device, so somebody mounted an old disk."""
    async with opened(store) as running:
        disk.empty()
        entry = await struck(running)
        earlier = replace(entry, id=DeviceId(b"earlier device!!"))
        identity = with_device(running.folders.identity, entry, earlier).of_device(earlier.id)
        write_identity(disk.point, identity)
        assert is_new_disk(running.folders, entry)
        (disk.folder / "volumes").mkdir()
        assert not is_new_disk(running.folders, entry)
        (disk.folder / "volumes").rmdir()
        write_identity(disk.point, replace(identity, own=replace(earlier, slot=1)))
        assert not is_new_disk(running.folders, entry)
