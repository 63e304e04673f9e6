"""Identity files."""

import json
from pathlib import Path

import pytest

from stratumfs.devices.identity import (
    DEVICE_FILE,
    STORE_FILE,
    DeviceEntry,
    Identity,
    has_identity,
    read_identity,
    write_identity,
)
from stratumfs.errors import DeviceFailed, DeviceRefused
from stratumfs.ids import DeviceId, StoreId, random_id


def identity(folder: Path) -> Identity:
    entries = tuple(
        DeviceEntry(DeviceId(random_id()), "hot", slot, folder / str(slot), slot == 1, 2049, None if slot else "uuid")
        for slot in range(3)
    )
    return Identity(StoreId(random_id()), folder / "store", entries)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = identity(tmp_path)
    write_identity(tmp_path, made)
    assert read_identity(tmp_path) == made
    assert [each.name for each in tmp_path.iterdir()] == [STORE_FILE]
    device = tmp_path / "device"
    device.mkdir()
    own = made.of_device(made.devices[1].id)
    write_identity(device, own)
    write_identity(device, own)
    assert read_identity(device) == own
    assert own.own == made.devices[1]
    assert own.of_store() == made
    assert [each.name for each in device.iterdir()] == [DEVICE_FILE]


def test_the_fields_of_epochs_are_there_and_null(tmp_path: Path) -> None:
    write_identity(tmp_path, identity(tmp_path))
    text = (tmp_path / STORE_FILE).read_text()
    assert '"epoch_begun": null' in text
    assert '"epoch_in_force": null' in text


def test_a_folder_without_identity_is_refused(tmp_path: Path) -> None:
    assert not has_identity(tmp_path)
    with pytest.raises(DeviceRefused, match="neither a store nor a device"):
        read_identity(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"format": 1}',
        b'{"format": 1, "store": "xx"}',
        b"\xff\xfe",
        b'{"format":1,"store":"00","store_path":"/","device":null,"devices":[],"epoch_begun":null,"epoch_in_force":null}',
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / DEVICE_FILE).write_bytes(content)
    assert has_identity(tmp_path)
    with pytest.raises(DeviceRefused, match=DEVICE_FILE) as caught:
        read_identity(tmp_path)
    assert "\n" not in str(caught.value)
    assert caught.value.device == str(tmp_path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / STORE_FILE).write_text('{"format": 9, "new": true}')
    with pytest.raises(DeviceRefused, match="format 9"):
        read_identity(tmp_path)


def test_a_folder_that_is_gone_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DeviceFailed, match="gone"):
        write_identity(tmp_path / "gone", identity(tmp_path))


def test_an_unknown_device_has_no_identity_here(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        identity(tmp_path).of_device(DeviceId(bytes(16)))


@pytest.mark.parametrize(("older", "lacks"), [(1, {"images", "standings"}), (2, {"standings"})])
def test_an_older_format_is_read(tmp_path: Path, older: int, lacks: set[str]) -> None:
    made = identity(tmp_path)
    write_identity(tmp_path, made)
    plain = json.loads((tmp_path / STORE_FILE).read_text())
    plain = {key: value for key, value in plain.items() if key not in lacks} | {"format": older}
    (tmp_path / STORE_FILE).write_text(json.dumps(plain))
    assert read_identity(tmp_path) == made
