"""Every write path in a process of its own, which ends itself at some of its steps: nothing of it is played.

Each kind of step is stopped at in ``test_stops``; with many users at once in ``tools/rehearse crash``.
"""

import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.check import wrong_here
from tests.faults.conftest import SEED
from tests.faults.disk import Image
from tests.faults.kill import Killer
from tests.faults.paths import PATHS
from tests.faults.record import Outline
from tests.faults.story import after_kill
from tests.faults.tree import Tree

KINDS = 2
"""Of steps, that a path is killed at."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def killer(root: Path, base: tuple[Image, Tree]) -> Iterator[Killer]:
    killer = Killer(root, *base)
    yield killer
    killer.close()


@pytest.mark.parametrize("name", PATHS)
async def test_kill_at_a_step(
    name: str, root: Path, outline: Callable[[str], Awaitable[Outline]], killer: Killer
) -> None:
    run = await outline(name)
    for at in run.calls_of_kinds(KINDS, random.Random(f"{name} {SEED}")):
        killed = killer.run(name, at, SEED)
        wrong = await wrong_here(root, after_kill(run.stories, killed.said))
        assert not wrong, "\n".join([f"{name}, seed {SEED}: killed before call {at}, {killed}", *wrong])
