"""The rehearsal with this machine's own files in short form; ``tools/rehearse tree`` is the long one."""

import pytest

from tests.doors import Doors
from tools.rehearsals._tree_sample import sample
from tools.rehearsals.tree import Rehearsal

SEED = 3
FILES = 1000
BYTES = 20_000_000


@pytest.mark.slow
@pytest.mark.mount
@pytest.mark.client
def test_real_files_are_the_same_through_the_other_door_also_without_two_devices(doors: Doors) -> None:
    doors.expected.append("device_struck")  # emptied while they are in use
    rehearsal = Rehearsal(doors, sample(FILES, BYTES, SEED), lambda *_: None)
    for step in (
        rehearsal.fill_by_mount,
        rehearsal.fill_by_s3,
        rehearsal.compare_after_emptying_closed,  # what is whole then would be so without a loss
        rehearsal.compare_after_emptying_open,
    ):
        step()
