"""The rehearsal of moves between tiers in short form, and moves that are stopped; ``tools/rehearse move`` is the long
one."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.doors import BIN, Doors, run
from tools.rehearsals._tree_sample import sample
from tools.rehearsals.move import Rehearsal

SEED = 5
FILES = 300
BYTES = 12_000_000

pytestmark = [pytest.mark.slow, pytest.mark.mount, pytest.mark.client]


def test_real_files_move_there_and_back_under_users_of_both_doors(tiered: Doors) -> None:
    rehearsal = Rehearsal(tiered, sample(FILES, BYTES, SEED), lambda *_: None, SEED)
    steps = list(rehearsal.steps.values())
    for step in steps[:4]:  # one round
        step()
    assert all(rehearsal.load.counts[f"{what} through S3"] for what in ("read", "written", "copied"))
    tiers = {tier["name"]: tier for tier in tiered.status()["tiers"]}
    assert tiers["warm"]["used"] < tiers["hot"]["used"]
    tiered.stop()
    assert tiered.audit() == []


def begin_slow_move(doors: Doors, bucket: str) -> subprocess.Popen[str]:
    """A move of 200 MB, which has begun but not ended when this returns."""
    (doors.mount / bucket).mkdir()
    for number in range(20):
        (doors.mount / bucket / f"f{number}").write_bytes(os.urandom(10_000_000))
    words = [BIN / "stratum-tier", "move", doors.mount / bucket, "--to", "warm", "--json"]
    moving = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not warm_files(doors.mount / bucket):  # asked of the mount, for a command may take as long as the move
        assert moving.poll() is None, "it was over before it was looked at"
    return moving


def warm_files(folder: Path) -> int:
    return sum(os.getxattr(path, "user.stratum.tier") == b"warm" for path in folder.iterdir())


def test_an_interrupt_stops_a_move_of_the_owner_and_says_how_far_it_came(tiered: Doors) -> None:
    with begin_slow_move(tiered, "bucket") as moving:
        moving.send_signal(signal.SIGINT)
        out, err = moving.communicate(timeout=60)
    said = json.loads(out)
    assert (moving.returncode, err, said["outcome"]) == (8, "", "stopped")
    assert 0 < said["bytes"] < said["total"] == 200_000_000
    assert tiered.status()["moves"] == []
    again = json.loads(run([BIN / "stratum-tier", "move", tiered.mount / "bucket", "--to", "warm", "--json"]))
    assert again["bytes"] == 200_000_000 - said["bytes"]


def test_the_next_owner_goes_on_with_a_move_that_died_with_its_owner(tiered: Doors) -> None:
    with begin_slow_move(tiered, "bucket") as moving:
        moving.send_signal(signal.SIGSTOP)  # else it would be the next owner
        tiered.kill()
        moving.kill()
    tiered.destroy()
    tiered.start()
    while tiered.status()["moves"]:
        pass
    assert warm_files(tiered.mount / "bucket") == 20
