"""Pairs of devices are lost under load from both doors, replaced and rebuilt: the rehearsal's rounds, on less data."""

from pathlib import Path

import pytest

from tests.doors import TEST_S
from tools.rehearsals.devices import Rehearsal, rehearsal

SIZE = 10_000_000
ROUNDS = (((0, 3), "emptied"), ((1, 4), "EIO"), ((2, 5), "ENOSPC"))


@pytest.mark.slow
@pytest.mark.mount
@pytest.mark.client
def test_pairs_are_lost_under_load_and_no_read_or_write_fails(tmp_path: Path) -> None:
    with rehearsal(tmp_path, SIZE, 1, TEST_S, Rehearsal) as found:
        for pair, kind in ROUNDS:
            found.run_round(pair, kind)
