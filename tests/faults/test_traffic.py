"""Many users at once, stopped here and there: in short what ``tools/rehearse crash`` does at length."""

import random
from pathlib import Path

import pytest

from tests.faults.check import wrong_after
from tests.faults.disk import Image
from tests.faults.record import record, stops
from tests.faults.traffic import told, traffic
from tests.faults.tree import Tree

SEED = 5
SHARE = 0.02

pytestmark = pytest.mark.slow


async def test_every_user_finds_what_was_promised(root: Path, base: tuple[Image, Tree]) -> None:
    rng = random.Random(SEED)
    recorded = await record(traffic(SEED), root, *base, SEED, lambda: rng.random() < SHARE)
    assert [story.trees for story in recorded.stories] == [story.trees for story in told(base[1], SEED)]
    for stop in stops(recorded, recorded.moments, rng):
        wrong = await wrong_after(stop.image, root, stop.expected)
        assert not wrong, "\n".join([f"traffic, seed {SEED}: {stop}", *wrong])
