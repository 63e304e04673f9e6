"""Which folders may be devices."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from stratumfs.devices.check import check_device, check_distinct, check_new
from stratumfs.devices.folder import look_at
from stratumfs.devices.identity import DEVICE_FILE, DeviceEntry, Identity, write_identity
from stratumfs.errors import DeviceRefused
from stratumfs.ids import DeviceId, StoreId, random_id


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    made = [tmp_path / str(slot) for slot in range(3)]
    for folder in made:
        folder.mkdir()
    return made


@pytest.fixture
def made(tmp_path: Path, folders: list[Path]) -> Identity:
    """A store whose devices carry their identities."""
    facts = [look_at(folder) for folder in folders]
    entries = tuple(
        DeviceEntry(DeviceId(random_id()), "hot", slot, each.path, each.mount_point, each.st_dev, each.fs_uuid)
        for slot, each in enumerate(facts)
    )
    identity = Identity(StoreId(random_id()), tmp_path / "store", entries)
    for entry in entries:
        write_identity(entry.path, identity.of_device(entry.id))
    return identity


def refusal(call: object, *args: object) -> str:
    assert callable(call)
    with pytest.raises(DeviceRefused) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_empty_folders_may_be_devices(tmp_path: Path, folders: list[Path]) -> None:
    (folders[0] / "lost+found").mkdir()
    (folders[1] / "lock").touch()
    facts = check_new(tmp_path / "store", folders)
    assert [each.path for each in facts] == folders
    assert not any(each.mount_point for each in facts)


def test_devices_may_lie_in_the_store_folder(tmp_path: Path, folders: list[Path]) -> None:
    assert len(check_new(tmp_path, folders)) == 3


def test_the_root_of_a_file_system_is_a_mount_point(tmp_path: Path) -> None:
    assert look_at(Path("/")).mount_point
    assert look_at(Path("/proc")).mount_point
    assert not look_at(tmp_path).mount_point


def test_a_missing_folder_is_refused(tmp_path: Path, folders: list[Path]) -> None:
    assert "missing" in refusal(check_new, tmp_path / "store", [*folders, tmp_path / "missing"])


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "not a folder" in refusal(check_new, tmp_path / "store", [tmp_path / "file"])


def test_foreign_content_is_refused(tmp_path: Path, folders: list[Path]) -> None:
    (folders[2] / "photos").mkdir()
    message = refusal(check_new, tmp_path / "store", folders)
    assert "photos" in message
    assert str(folders[2]) in message


def test_a_device_of_another_store_is_refused(tmp_path: Path, made: Identity) -> None:
    message = refusal(check_new, tmp_path / "other", [made.devices[0].path])
    assert made.store.hex() in message


def test_a_store_is_not_made_twice(tmp_path: Path, made: Identity) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "fresh").mkdir()
    write_identity(tmp_path / "store", made)
    assert "a store already" in refusal(check_new, tmp_path / "store", [tmp_path / "fresh"])


def test_one_folder_twice_is_refused_by_whatever_path(tmp_path: Path, folders: list[Path]) -> None:
    assert "one folder" in refusal(check_new, tmp_path / "store", [folders[0], folders[0]])
    os.symlink(folders[0], tmp_path / "link")
    assert "one folder" in refusal(check_new, tmp_path / "store", [folders[0], tmp_path / "link"])


def test_a_bind_mount_of_a_device_is_the_same_folder(folders: list[Path]) -> None:
    facts = look_at(folders[0])
    assert "one folder" in refusal(check_distinct, [facts, replace(facts, path=folders[1])])


def test_nested_devices_are_refused(tmp_path: Path, folders: list[Path]) -> None:
    inner = folders[1] / "inner"
    inner.mkdir()
    assert "lies in device" in refusal(check_new, tmp_path / "store", [folders[1], inner])


def test_a_store_in_a_device_is_refused(tmp_path: Path, folders: list[Path]) -> None:
    assert "lies in device" in refusal(check_new, folders[0] / "store", folders)
    assert "lies in device" in refusal(check_new, folders[0], folders)


def test_a_device_that_is_itself_is_accepted(made: Identity) -> None:
    assert check_device(made.store, made.devices[0]).path == made.devices[0].path


def test_a_device_may_have_moved(tmp_path: Path, made: Identity) -> None:
    made.devices[0].path.rename(tmp_path / "moved")
    assert check_device(made.store, made.devices[0], tmp_path / "moved").path == tmp_path / "moved"


def test_an_unmounted_disks_mount_point_has_failed(made: Identity) -> None:
    entry = replace(made.devices[0], mount_point=True)
    assert "mount the disk" in refusal(check_device, made.store, entry)


def test_an_emptied_device_is_refused(made: Identity) -> None:
    (made.devices[0].path / DEVICE_FILE).unlink()
    assert "lost its identity" in refusal(check_device, made.store, made.devices[0])


def test_a_device_in_a_wrong_slot_is_refused(made: Identity) -> None:
    first, second = made.devices[:2]
    assert "each other's places" in refusal(check_device, made.store, first, second.path)


def test_a_device_of_another_store_is_not_opened(made: Identity) -> None:
    assert "another store" in refusal(check_device, StoreId(random_id()), made.devices[0])


def test_a_store_folder_is_no_device(tmp_path: Path, made: Identity) -> None:
    (tmp_path / "store").mkdir()
    write_identity(tmp_path / "store", made)
    assert "not a device" in refusal(check_device, made.store, made.devices[0], tmp_path / "store")
