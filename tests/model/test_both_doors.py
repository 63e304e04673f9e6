"""A real store beside the reference, step by step; ``tools/rehearse model`` goes on for longer."""

import pytest

from tests.doors import Doors
from tests.model.machine import run_examples
from tests.model.world import opened_world

EXAMPLES = 40
STEPS = 12


@pytest.mark.slow
@pytest.mark.mount
@pytest.mark.client
def test_both_doors_show_what_the_reference_has_after_every_step(doors: Doors) -> None:
    with opened_world(doors) as world:
        run_examples(world, EXAMPLES, STEPS)
        world.check_after_restart()
        assert world.steps > EXAMPLES * STEPS // 2
    doors.stop()
    assert doors.audit() == []
