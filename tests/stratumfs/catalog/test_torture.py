"""The rehearsal of kill -9 and power cuts in short form; ``tools/rehearse catalog`` is the long one."""

from pathlib import Path

import pytest

from tools.rehearsals.catalog import Lost, Rehearsal

SEED = 7
ROUNDS = 5


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_by_kill_9_or_a_power_cut(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, SEED)
    for _ in range(ROUNDS):
        rehearsal.run_round()
    assert rehearsal.counts["acknowledged"] > 500


@pytest.mark.slow
def test_the_rehearsal_notices_a_sync_that_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut behind the header, as if no sync had reached the disk: rows must be missing, or pages not fit together."""
    monkeypatch.setattr("tools.rehearsals.catalog._held_end", lambda held, salt: 32)
    with pytest.raises(Lost, match=r"acknowledged rows|went back|half|integrity"):
        _run_rounds(tmp_path, 20)


def _run_rounds(folder: Path, rounds: int) -> None:
    """Each on a catalog of its own: what one has damaged is no other's loss."""
    for seed in range(rounds):
        (folder / str(seed)).mkdir()
        Rehearsal(folder / str(seed), seed).run_round()
