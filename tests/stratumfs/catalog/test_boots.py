"""Histories of a real catalog in their short form; ``tools/rehearse boots`` is the long one."""

import pytest

from tests.faults.place import fast_place
from tests.stratumfs.catalog.boots import Boots


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
async def test_no_history_loses_what_was_answered(seed: int) -> None:
    with fast_place() as folder:
        history = Boots(folder, seed)
        await history.run(5)
        assert history.counts["boots"] == 5
