"""Every request of S3 breaks off at its checkpoints: it happened or not, and nothing stays behind."""

import random
from pathlib import Path

import pytest

from gateway.service import HANDLERS
from tests.faults.cancel import Point, all_points, cancel_at
from tests.faults.cancel_s3 import OPERATIONS, REQUESTS
from tests.faults.conftest import SEED
from tests.faults.disk import Image
from tests.faults.tree import Tree

POINTS = 2
"""At which each is broken off here; at all in ``tools/rehearse faults``."""

pytestmark = pytest.mark.slow


def test_every_request_that_there_is_breaks_off_here() -> None:
    assert REQUESTS.keys() == HANDLERS.keys()


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_request_that_breaks_off_leaves_nothing(name: str, root: Path, base: tuple[Image, Tree]) -> None:
    def choose(steps: int) -> list[Point]:
        points = all_points(steps)
        return random.Random(f"{name} {SEED}").sample(points, min(POINTS, len(points)))

    assert await cancel_at(OPERATIONS[name], root, base, choose), "it has no step at which it could be broken off"
