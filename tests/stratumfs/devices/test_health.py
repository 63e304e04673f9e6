"""States of a device."""

import pytest

from stratumfs.devices.health import STRUCK, TAKES_VOLUMES, TRANSITIONS, UP, DeviceState, moved
from stratumfs.errors import InvalidArgument


def test_every_state_has_its_row_and_only_gone_is_final() -> None:
    assert set(TRANSITIONS) == set(DeviceState)
    assert [state for state, after in TRANSITIONS.items() if not after] == [DeviceState.GONE]


def test_every_state_can_be_reached_from_those_that_devices_begin_in() -> None:
    reached = {DeviceState.ONLINE, DeviceState.JOINING}
    while (more := reached.union(*(TRANSITIONS[state] for state in reached))) != reached:
        reached = more
    assert reached == set(DeviceState)


def test_illegal_moves_are_refused() -> None:
    assert moved(DeviceState.ONLINE, DeviceState.FAILED) is DeviceState.FAILED
    assert moved(DeviceState.FULL, DeviceState.FULL) is DeviceState.FULL
    with pytest.raises(InvalidArgument, match="gone cannot become online"):
        moved(DeviceState.GONE, DeviceState.ONLINE)
    with pytest.raises(InvalidArgument):
        moved(DeviceState.FAILED, DeviceState.FULL)


def test_what_is_drained_counts_takes_no_volumes_and_may_leave() -> None:
    assert DeviceState.DRAINING in UP - TAKES_VOLUMES
    leaves = {state for state, after in TRANSITIONS.items() if DeviceState.GONE in after}
    assert leaves == {DeviceState.DRAINING, DeviceState.READ_ONLY, DeviceState.FAILED}
    assert UP.isdisjoint(STRUCK)
