"""Devices are added, drained and removed beside both doors, over a kill of the owner."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.both.test_replace import Data
from tests.doors import BIN, Doors, begin, opened_doors, run

pytestmark = [pytest.mark.slow, pytest.mark.mount, pytest.mark.client]


def change(doors: Doors, what: str, *args: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run([BIN / "stratumfs", "device", what, "--json", doors.store, *args]))
    return found


def test_a_store_moves_to_other_devices_beside_both_doors(tmp_path: Path) -> None:
    with opened_doors(tmp_path) as doors:
        data = Data(doors, 6, 4_000_000)
        for number in range(2):
            new = tmp_path / f"new{number}"
            new.mkdir()
            assert change(doors, "add", new)["device"]["slot"] == 6 + number
        data.write("while", 3_000_000)
        asking = begin([BIN / "stratumfs", "device", "drain", doors.store, doors.devices[0]])
        while doors.status()["devices"][0]["state"] != "draining":
            assert asking.poll() in (None, 0)  # it may be quicker than who asks how it goes
        doors.kill()
        asking.wait()
        doors.destroy()
        doors.start()
        assert doors.status()["devices"][0]["state"] == "draining"
        for slot in (0, 1):
            assert change(doors, "drain", f"hot:{slot}")["shards_left"] == 0
            data.check("S3")
            assert change(doors, "remove", doors.devices[slot])["devices_survived"] == 2
            shutil.rmtree(doors.devices[slot])
        data.write("after", 3_000_000)
        data.check()
        found = doors.status()
        assert [each["slot"] for each in found["devices"]] == [2, 3, 4, 5, 6, 7]
        assert (found["missing_shards"], found["damaged_shards"], found["devices_survived"]) == (0, 0, 2)
        doors.stop()
        assert doors.audit() == []
        assert doors.complaints() == []
