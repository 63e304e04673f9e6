"""What identity files say of devices."""

from dataclasses import replace

import pytest

from stratumfs.catalog.devices import begin_drain, put_standings, set_device, standings
from stratumfs.catalog.standings import NO_STANDINGS, DeviceRow, Standings, pack_standings, unpack_standings
from stratumfs.ids import DeviceId
from tests.stratumfs.catalog.test_damage import DEVICES, tables

SAID = Standings(7, (DeviceRow(DEVICES[0], "failed", 5, "it burns"),), ((DEVICES[1], 6),))


def test_what_is_packed_is_unpacked_and_what_is_none_is_nothing() -> None:
    assert unpack_standings(pack_standings(SAID)) == SAID
    for plain in (None, {}, {"sequence": 1, "devices": [{"id": "x"}], "draining": []}, {"sequence": "?"}):
        assert unpack_standings(plain) is NO_STANDINGS


@pytest.mark.parametrize("said", [SAID, NO_STANDINGS])
def test_rows_say_that_and_nothing_else(said: Standings) -> None:
    tx = tables()
    tx.run("update catalog_state set value = 9 where key = 'sequence'")
    set_device(tx, DeviceId(b"other".ljust(16)), "gone", "it was removed", 1)
    begin_drain(tx, DEVICES[2], 1)
    put_standings(tx, said)
    assert standings(tx) == replace(said, sequence=9)
