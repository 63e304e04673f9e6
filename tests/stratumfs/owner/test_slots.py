"""Which device a user means."""

import os
from pathlib import Path

import pytest

from stratumfs.devices.identity import DeviceEntry, Identity
from stratumfs.ids import DeviceId, StoreId
from stratumfs.owner.slots import named


def identity(root: Path) -> Identity:
    devices = [
        DeviceEntry(DeviceId(bytes([slot]) * 16), "hot", slot, root / f"d{slot}", True, slot, None) for slot in (0, 1)
    ]
    return Identity(StoreId(b"s" * 16), root, tuple(devices))


@pytest.mark.parametrize("text", ["{root}/d1", "{root}/./away/../d1/", "hot:1", "01" * 16])
def test_a_device_that_hangs_is_named_without_a_look_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Any name but one that leads over symbolic links."""

    def hang(path: str) -> str:
        raise AssertionError(f"it hangs: {path}")

    monkeypatch.setattr(os.path, "realpath", hang)
    monkeypatch.setattr(os, "lstat", hang)
    monkeypatch.setattr(os, "stat", hang)
    found = named(identity(tmp_path), text.format(root=tmp_path))
    monkeypatch.undo()
    assert found == identity(tmp_path).devices[1]


def test_a_device_is_named_by_a_symbolic_link_too(tmp_path: Path) -> None:
    (tmp_path / "d0").mkdir()
    (tmp_path / "link").symlink_to("d0")
    assert named(identity(tmp_path), str(tmp_path / "link")) == identity(tmp_path).devices[0]
    assert named(identity(tmp_path), str(tmp_path / "d7")) is None
