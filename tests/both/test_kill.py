"""The rehearsal of kill -9 in short form; ``tools/rehearse kill`` is the long one."""

import random
import shutil

import pytest

from tests.doors import Doors
from tools.rehearsals import kill
from tools.rehearsals.kill import Lost, Rehearsal

SEED = 7
ROUNDS, CHECK_EVERY = 10, 5
"""Rounds, and those of them that fsck follows: in the long rehearsal every one."""

pytestmark = [pytest.mark.slow, pytest.mark.mount, pytest.mark.client]


def test_nothing_acknowledged_at_either_door_is_lost_by_kill_9_under_load(doors: Doors) -> None:
    rehearsal = Rehearsal(doors, SEED, check_every=CHECK_EVERY)
    for _ in range(ROUNDS):
        rehearsal.run_round()
    assert rehearsal.counts["fsck clean"] == ROUNDS // CHECK_EVERY
    assert rehearsal.counts["cells that fsck read"] > 0
    assert rehearsal.counts["acknowledged at the s3 door"] > ROUNDS
    assert rehearsal.counts["acknowledged at the mount door"] > ROUNDS
    assert len(rehearsal.after_kills) == ROUNDS, "each start was timed beside an undisturbed one"
    doors.stop()
    assert doors.audit() == []


class Forgetful(Rehearsal):
    """Its store wakes up with the catalog that it had before the load, on every place that has one."""

    def _load_and_kill(self, rng: random.Random) -> None:
        before = self.doors.folder / "before"
        self.doors.stop()
        for place in (self.doors.store, *self.doors.devices):
            shutil.copytree(place, before / place.name, ignore=shutil.ignore_patterns("volumes", "control"))
        self.doors.start()
        super()._load_and_kill(rng)
        for place in (self.doors.store, *self.doors.devices):
            shutil.rmtree(place / "catalog", ignore_errors=True)
            shutil.copytree(before / place.name, place, dirs_exist_ok=True)


def test_a_store_folder_that_forgets_is_not_believed(doors: Doors) -> None:
    """The same for the store folder alone: its copies know better."""
    before = doors.folder / "before"
    doors.stop()
    shutil.copytree(doors.store, before, ignore=shutil.ignore_patterns("control"))
    doors.start()
    (doors.mount / "bucket").mkdir()
    (doors.mount / "bucket" / "kept").write_bytes(b"since then")
    doors.kill()
    shutil.rmtree(doors.store)
    before.rename(doors.store)
    doors.start()
    assert (doors.mount / "bucket" / "kept").read_bytes() == b"since then"


def test_the_rehearsal_notices_starts_that_take_too_long(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kill, "AGAIN_TRIES", 0)
    rehearsal = Rehearsal(doors, SEED)
    rehearsal.undisturbed.append(1.0)
    for seconds in (2.0, 2.1):
        rehearsal._check_start(seconds, random.Random(SEED))
    with pytest.raises(Lost, match="took"):
        rehearsal._check_start(2.1, random.Random(SEED))


def test_the_rehearsal_notices_what_is_missing(doors: Doors) -> None:
    with pytest.raises(Lost, match="missing"):
        Forgetful(doors, SEED).run_round()
