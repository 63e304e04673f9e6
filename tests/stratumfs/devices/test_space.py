"""Room on devices."""

from pathlib import Path

import pytest

from stratumfs.devices.space import Space, space_of, total_space
from stratumfs.errors import DeviceFailed


def test_the_room_of_a_folder_is_its_file_systems(tmp_path: Path) -> None:
    space = space_of(tmp_path)
    assert 0 < space.free <= space.total
    assert space.used <= space.total


def test_a_missing_device_has_failed(tmp_path: Path) -> None:
    with pytest.raises(DeviceFailed):
        space_of(tmp_path / "missing")


def test_a_shared_disk_is_counted_once() -> None:
    assert total_space({1: Space(10, 4, 6), 2: Space(5, 1, 4)}) == Space(15, 5, 10)
