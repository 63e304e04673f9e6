"""Every write path, stopped at each of its steps: by a kill, and by power cuts of several kinds.

Of steps that a path takes often, as each copy of the catalog does, at one; at all in ``tools/rehearse crash``.
"""

import random
from pathlib import Path

import pytest

from tests.faults.check import wrong_after, wrong_without
from tests.faults.conftest import SEED
from tests.faults.disk import Image
from tests.faults.paths import LACKING, PATHS
from tests.faults.paths.volumes import UNKNOWN_BYTES
from tests.faults.record import END, Recorded, record, stops
from tests.faults.table import rows
from tests.faults.tree import Tree

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", PATHS)
async def test_stop_at_each_step(name: str, root: Path, base: tuple[Image, Tree]) -> None:
    recorded = await record(PATHS[name], root, *base, SEED)
    assert set(rows()[name]) == {*recorded.outline().calls, str(END)}, "the crash table has other steps"
    await _stop_at_each_step(name, root, recorded)


@pytest.mark.parametrize("name", ["put-stripes", "volume-seal"])
async def test_stop_at_each_step_of_six_shards(name: str, root: Path, wide_base: tuple[Image, Tree]) -> None:
    await _stop_at_each_step(name, root, await record(PATHS[name], root, *wide_base, SEED))


async def test_a_shard_that_no_row_knows_is_somewhere_at_each_step(root: Path, base: tuple[Image, Tree]) -> None:
    """The promise of the quarantine: moving aside never loses."""
    recorded = await record(PATHS["recovery"], root, *base, SEED)
    rng = random.Random(SEED)
    for stop in stops(recorded, recorded.thinned(rng), rng):
        assert UNKNOWN_BYTES in stop.image.values(), stop


async def _stop_at_each_step(name: str, root: Path, recorded: Recorded) -> None:
    rng = random.Random(f"{name} {SEED}")
    found = list(stops(recorded, recorded.thinned(rng), rng))
    for stop in found:
        wrong = await wrong_after(stop.image, root, stop.expected)
        assert not wrong, "\n".join([f"{name}, seed {SEED}: {stop}", *wrong])
    if not found[0].expected.perhaps_nothing:
        # Until it is repaired, what is damaged already counts among those that may be lost.
        for stop in found[-1:] if name in LACKING else (rng.choice(found), found[-1]):
            wrong = await wrong_without(stop.image, root, stop.expected, rng)
            assert not wrong, "\n".join([f"{name}, seed {SEED}: {stop}, and devices are lost", *wrong])
