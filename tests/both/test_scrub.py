"""The scrubber of a store that both doors are open on."""

import json
import random
from pathlib import Path

import pytest

from stratumfs.shards.layout import parse_file_name
from tests.doors import BIN, CommandFailed, Doors, run
from tests.faults.rot import flip

pytestmark = [pytest.mark.mount, pytest.mark.slow]


def test_rot_that_nobody_reads_is_mended_while_both_doors_are_open(doors: Doors) -> None:
    data = random.Random(1).randbytes(3_000_000)
    (doors.mount / "bucket").mkdir()
    (doors.mount / "bucket" / "file").write_bytes(data)
    doors.restart()  # what was written is in a sealed volume then
    paths = [path for path in sorted(doors.folder.glob("d*/volumes/*/*")) if parse_file_name(path.name) is not None]
    flip(paths[1], 70)
    paths[4].unlink()
    before = _asked(doors, "durability", str(doors.mount / "bucket" / "file"))
    assert (before["green"], before["bytes"]) == (False, len(data))
    found = _asked(doors, "scrub", "--now", str(doors.store))
    assert (found["passes"][0]["outcome"], found["damaged_shards"]) == ("done", 0)
    assert found["passes"][0]["bad_shards"] in (1, 2)  # a look at the devices may have met the missing one before
    assert doors.status()["scrub"]["passes"] == found["passes"]
    _asked(doors, "scrub", "--now", str(doors.store))
    after = _asked(doors, "durability", str(doors.mount / "bucket"))
    assert (after["green"], after["shards_verified"], after["devices_survived"]) == (True, after["shards"], 2)
    flip(paths[0], 200)
    with pytest.raises(CommandFailed, match="exit 7"):
        _asked(doors, "heal", "-n", str(doors.mount / "bucket" / "file"))
    healed = _asked(doors, "heal", "--store", doors.store, "s3://bucket/file")
    assert (healed["bad_shards"], healed["bad_shards_left"], healed["unreadable"]) == (1, 0, [])
    assert _asked(doors, "heal", str(doors.mount / "bucket"))["bad_shards"] == 0
    assert (doors.mount / "bucket" / "file").read_bytes() == data
    doors.stop()
    run([BIN / "fsck.stratumfs", "-n", "--full", doors.store])


def _asked(doors: Doors, command: str, *words: str | Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(run([BIN / "stratumfs", command, "--json", *words]))
    return found
