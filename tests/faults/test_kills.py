"""Every write path in a process of its own, which ends itself at each kind of its steps: nothing of it is played."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.check import wrong_here
from tests.faults.disk import Image
from tests.faults.kill import Killer
from tests.faults.paths import PATHS
from tests.faults.record import Recorded, record
from tests.faults.tree import Tree

SEED = 2

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def killer(root: Path, base: tuple[Image, Tree]) -> Iterator[Killer]:
    killer = Killer(root, *base)
    yield killer
    killer.close()


@pytest.mark.parametrize("name", PATHS)
async def test_kill_at_each_kind_of_step(name: str, root: Path, base: tuple[Image, Tree], killer: Killer) -> None:
    recorded = await record(PATHS[name], root, *base, SEED)
    for at in _one_of_each(recorded, random.Random(f"{name} {SEED}")):
        killed = killer.run(name, at, SEED)
        said = killed.progress
        wrong = await wrong_here(root, recorded.trees[said.returned : said.begun + 1])
        assert not wrong, "\n".join([f"{name}, seed {SEED}: killed before call {at}, {killed}", *wrong])


def _one_of_each(recorded: Recorded, rng: random.Random) -> list[int]:
    """A call of each kind, by its number."""
    calls: dict[str, list[int]] = {}
    for number, moment in enumerate(recorded.moments):
        calls.setdefault(str(moment.step), []).append(number)
    return [rng.choice(numbers) for numbers in calls.values()]
