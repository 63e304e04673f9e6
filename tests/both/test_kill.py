"""The rehearsal of kill -9 in short form; ``tools/rehearse kill`` is the long one."""

import random
import shutil

import pytest

from tests.doors import Doors
from tools.rehearsals.kill import Lost, Rehearsal

SEED = 7
ROUNDS = 10

pytestmark = [pytest.mark.slow, pytest.mark.mount, pytest.mark.client]


def test_nothing_acknowledged_at_either_door_is_lost_by_kill_9_under_load(doors: Doors) -> None:
    rehearsal = Rehearsal(doors, SEED)
    for _ in range(ROUNDS):
        rehearsal.run_round()
    assert rehearsal.counts["acknowledged at the s3 door"] > ROUNDS
    assert rehearsal.counts["acknowledged at the mount door"] > ROUNDS
    doors.stop()
    assert doors.audit() == []


class Forgetful(Rehearsal):
    """Its store wakes up with the catalog that it had before the load."""

    def _load_and_kill(self, rng: random.Random) -> None:
        catalog = self.doors.store / "catalog"
        before = catalog.with_name("before")
        self.doors.stop()
        shutil.copytree(catalog, before)
        self.doors.start()
        super()._load_and_kill(rng)
        shutil.rmtree(catalog)
        before.rename(catalog)


def test_the_rehearsal_notices_what_is_missing(doors: Doors) -> None:
    with pytest.raises(Lost, match="missing"):
        Forgetful(doors, SEED).run_round()
