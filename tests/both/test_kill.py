"""The rehearsal of kill -9 in short form; ``tools/rehearse kill`` is the long one."""

import pytest

from tests.doors import Doors
from tools.rehearsals.kill import Rehearsal

SEED = 7
ROUNDS = 10


@pytest.mark.slow
@pytest.mark.mount
@pytest.mark.client
def test_nothing_acknowledged_at_either_door_is_lost_by_kill_9_under_load(doors: Doors) -> None:
    rehearsal = Rehearsal(doors, SEED)
    for _ in range(ROUNDS):
        rehearsal.run_round()
    assert rehearsal.counts["acknowledged at the s3 door"] > ROUNDS
    assert rehearsal.counts["acknowledged at the mount door"] > ROUNDS
    assert rehearsal.counts["outcomes left open by the kill"] > 0
    doors.stop()
    assert doors.audit() == []
