"""The rehearsal of three tiers in short form; ``tools/rehearse tiers`` is the long one."""

from pathlib import Path

import pytest

from tests.faults.proxy import proxy
from tests.remotes import opened_cold
from tools.measure.endpoint import Endpoint
from tools.rehearsals import tiers
from tools.rehearsals._tree_sample import sample
from tools.rehearsals.move import WARM

SEED = 11
FILES = 100
BYTES = 15_000_000
DEADLINE_S, OTHERS_S = 20.0, 15.0
"""The rehearsal's, for a machine that has much else to do: who waits for the cold tier still takes longer."""
SETTINGS = f"deadline_s = {DEADLINE_S:.0f}\nkeep_days = 0\n"

pytestmark = [pytest.mark.slow, pytest.mark.mount, pytest.mark.client]


def test_real_files_go_to_cold_and_back_over_a_service_that_goes_away(
    tmp_path: Path, service: Endpoint, service_keys: Path
) -> None:
    with proxy(service) as between:
        with opened_cold(tmp_path, between.url, service_keys, SETTINGS, warm=WARM) as doors:
            files = sample(FILES, BYTES, SEED)
            rehearsal = tiers.Rehearsal(doors, files, lambda *_: None, between, service, seed=SEED, away_s=2.0)
            rehearsal.away.deadline_s, rehearsal.away.others_s = DEADLINE_S, OTHERS_S
            for name, step in rehearsal.steps.items():
                # Kills within a move take more bytes than these; orphans wait for readers for a minute, and what no row
                # knows the audit finds.
                if name not in (tiers.KILL, tiers.ORPHANS):
                    step()
        assert doors.complaints() == []
        assert doors.audit() == []
