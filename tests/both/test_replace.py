"""Devices are emptied, two at a time, and replaced: nothing is lost, nobody notices."""

import itertools
import os
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.doors import BIN, Doors, begin, opened_doors, run
from tests.folders import empty
from tests.model.s3 import Reader

FILES = 12
SIZE = 50_000_000 // FILES
PAIRS = list(itertools.combinations(range(6), 2))

TABLES = 3
"""A volume that a strike has sealed has no table of contents."""

pytestmark = [pytest.mark.slow, pytest.mark.mount, pytest.mark.client]


def replace(doors: Doors, old: Path | str, new: Path) -> str:
    return run([BIN / "stratumfs", "device", "replace", doors.store, old, new])


class Data:
    """What was written, and whether it is read again."""

    def __init__(self, doors: Doors, files: int = FILES, size: int = SIZE) -> None:
        self._doors = doors
        self._data: dict[str, bytes] = {}
        (doors.mount / "bucket").mkdir()
        for number in range(files):
            self.write(f"file-{number}", size)

    def write(self, name: str, size: int) -> None:
        self._data[name] = os.urandom(size)
        (self._doors.mount / "bucket" / name).write_bytes(self._data[name])

    def check(self, doors: str = "both") -> None:
        """Through the mount, S3, or both."""
        with closing(Reader(self._doors)) as reader:
            for name, data in self._data.items():
                if doors != "mount":
                    assert reader.get("bucket", name.encode()).data == data, name
                if doors != "S3":
                    assert (self._doors.mount / "bucket" / name).read_bytes() == data, name


def sound(doors: Doors) -> dict[str, Any]:
    found = doors.status()
    assert (found["missing_shards"], found["damaged_shards"], found["read_only"]) == (0, 0, None)
    assert found["devices_survived"] == 2
    assert [each["state"] for each in found["devices"]] == ["online"] * 6
    return found


def test_each_pair_of_devices_is_emptied_and_replaced(tmp_path: Path) -> None:
    """Every other pair while the store is closed."""
    with opened_doors(tmp_path) as doors:
        doors.expected += ["device_struck"]
        data = Data(doors)
        for number, pair in enumerate(PAIRS):
            if number % 2:
                doors.stop()
            for slot in pair:
                empty(doors.devices[slot])
            if number % 2:
                doors.start()
            # As long as it is the same mount, what was read through it before may come from the kernel's pages.
            data.check("mount" if number % 2 else "S3")
            data.write(f"while-{number}", 100_000)
            for slot in pair:
                assert f"device hot:{slot}" in replace(doors, doors.devices[slot], doors.devices[slot])
            sound(doors)
        data.check()
        doors.stop()
        assert doors.audit(TABLES) == []
        assert doors.complaints() == []


def test_a_store_without_an_owner_is_repaired_by_the_command_itself(tmp_path: Path) -> None:
    with opened_doors(tmp_path) as doors:
        data = Data(doors, 3, 2_000_000)
        doors.stop()
        shutil.rmtree(doors.devices[4])
        spare = tmp_path / "spare"
        spare.mkdir()
        said = replace(doors, "hot:4", spare)
        assert f"{spare} is device hot:4" in said
        assert "any 2 devices" in said
        doors.start()
        sound(doors)
        data.check()
        doors.stop()
        assert doors.audit() == []


def test_a_replacement_that_was_killed_goes_on_in_the_next_owner(tmp_path: Path) -> None:
    with opened_doors(tmp_path) as doors:
        doors.expected += ["device_struck"]
        data = Data(doors)
        spare = tmp_path / "spare"
        spare.mkdir()
        empty(doors.devices[1])
        asking = begin([BIN / "stratumfs", "device", "replace", doors.store, "hot:1", spare])
        while not (spare / "stratumfs-device.json").exists():
            assert asking.poll() is None
        doors.kill()
        asking.wait()
        doors.destroy()
        doors.start()
        assert f"{spare} is device hot:1" in replace(doors, "hot:1", spare)
        # By the name that it has where the command is, not its owner.
        back = [BIN / "stratumfs", "device", "replace", doors.store, "spare", doors.devices[1]]
        assert f"{doors.devices[1]} is device hot:1" in run(back, cwd=tmp_path)
        sound(doors)
        data.check()
        doors.stop()
        assert doors.audit() == []
