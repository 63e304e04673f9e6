"""The rehearsal of histories in short form; ``tools/rehearse histories`` is the long one."""

import pytest

from tests.doors import Doors
from tools.rehearsals._history_clients import Pace, S3HistoryClient, Wrong, content, value_of
from tools.rehearsals._linear import Call, Do
from tools.rehearsals.histories import Broken, Rehearsal

SEED = 2
CALLS = 1200

pytestmark = [pytest.mark.slow, pytest.mark.mount, pytest.mark.client]


def test_what_was_seen_at_both_doors_has_an_order(tiered: Doors) -> None:
    rehearsal = Rehearsal(tiered, SEED)
    rehearsal.run(0, CALLS, kills=2)
    assert rehearsal.counts["calls in order"] == CALLS
    assert rehearsal.counts["moves"]
    assert rehearsal.counts["calls that were never answered"]
    tiered.stop()
    assert tiered.audit() == []


def test_the_rehearsal_notices_what_has_none(shared_doors: Doors) -> None:
    client = S3HistoryClient(Pace(0), "client", shared_doors)
    client.calls["n0"] = [Call(Do.WRITE, 0, 1, True, 1), Call(Do.READ, 2, 3, None)]
    with pytest.raises(Broken, match="n0: no order explains READ"):
        Rehearsal(shared_doors, SEED)._judge([client], 0)
    with pytest.raises(Broken, match="no call was under way"):
        Rehearsal(shared_doors, SEED)._judge([client], 1)


def test_bytes_tell_which_write_they_are_of() -> None:
    data = content(5)
    assert value_of(data) == 5
    for wrong in (data[:-1], data + b"5 ", b"6" + data[1:], b"", bytes(len(data))):
        with pytest.raises(Wrong):
            value_of(wrong)
