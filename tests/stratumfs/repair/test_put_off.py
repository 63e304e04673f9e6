"""Volumes that are tried again later."""

from stratumfs.ids import VolumeId
from stratumfs.limits import REPAIR_AGAIN_S, REPAIR_SURVEY_S
from stratumfs.repair.put_off import PutOff

ONE, OTHER = VolumeId(b"1" * 16), VolumeId(b"2" * 16)


def test_a_volume_waits_longer_each_time_and_not_without_end() -> None:
    found = PutOff()
    waits = [found.put_off(ONE, 0.0) for _ in range(20)]
    assert waits[:4] == [REPAIR_AGAIN_S * factor for factor in (1, 2, 4, 8)]
    assert waits[-1] == REPAIR_SURVEY_S
    found.drop(ONE)
    found.drop(ONE)
    assert (len(found), found.put_off(ONE, 0.0)) == (0, REPAIR_AGAIN_S)


def test_each_is_due_in_its_time() -> None:
    found = PutOff()
    found.put_off(ONE, 0.0)
    found.put_off(OTHER, 5.0)
    assert (found.due(REPAIR_AGAIN_S - 1), found.waits(ONE, REPAIR_AGAIN_S - 1)) == ([], True)
    assert (found.due(REPAIR_AGAIN_S), found.waits(ONE, REPAIR_AGAIN_S)) == ([ONE], False)
    assert (found.waits(OTHER, REPAIR_AGAIN_S), found.waits(VolumeId(b"3" * 16), 0.0)) == (True, False)


def test_all_are_due_when_a_device_is_back() -> None:
    found = PutOff()
    for volume in (ONE, ONE, OTHER):
        found.put_off(volume, 0.0)
    found.hurry(1.0)
    assert found.due(1.0) == [ONE, OTHER]
    assert found.put_off(ONE, 1.0) == 4 * REPAIR_AGAIN_S
