"""Every write path, stopped at each of its steps: by a kill, and by power cuts of several kinds."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.check import wrong_after
from tests.faults.disk import Image
from tests.faults.paths import PATHS
from tests.faults.record import Moment, killed, power_cut, power_torn, record
from tests.faults.tree import Tree

SEED = 1

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", PATHS)
async def test_stop_at_each_step(name: str, root: Path, base: tuple[Image, Tree]) -> None:
    image, tree = base
    recorded = await record(PATHS[name], root, image, tree, SEED)
    rng = random.Random(f"{name} {SEED}")
    moments = list(recorded.thinned(rng))
    seen: set[int] = set()
    for moment in moments:
        said = moment.progress
        for how, left, first in (
            ("a kill", killed(moment), said.returned),
            ("a power cut", power_cut(moment), said.promised),
            ("a torn power cut", power_torn(moment, rng), said.promised),
        ):
            key = hash((first, said.begun, tuple(sorted(left.items()))))
            if key not in seen:
                seen.add(key)
                wrong = await wrong_after(left, root, recorded.trees[first : said.begun + 1])
                assert not wrong, _report(name, how, moment, moments, wrong)


def _report(name: str, how: str, moment: Moment, moments: Sequence[Moment], wrong: Sequence[str]) -> str:
    at = f"step {moments.index(moment)} of {len(moments)}, before {moment.step}"
    return "\n".join([f"{name}: {how} at {at}, seed {SEED}, {moment.progress}", *wrong])
