"""Every request of the kernel is cancelled at its checkpoints: it happened or not, and once the kernel has let go of
what it was given nothing stays behind."""

import random
from pathlib import Path

import pytest

from tests.faults.cancel import Point, all_points, cancel_at
from tests.faults.cancel_fuse import OPERATIONS
from tests.faults.conftest import SEED
from tests.faults.disk import Image
from tests.faults.tree import Tree

POINTS = 3
"""At which each is cancelled here; at all in ``tools/rehearse faults``."""

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_cancelled_request_of_the_kernel_leaves_nothing(
    name: str, root: Path, base: tuple[Image, Tree]
) -> None:
    def choose(steps: int) -> list[Point]:
        points = all_points(steps)
        return random.Random(f"{name} {SEED}").sample(points, min(POINTS, len(points)))

    assert await cancel_at(OPERATIONS[name], root, base, choose), "it has no step at which it could be cancelled"
