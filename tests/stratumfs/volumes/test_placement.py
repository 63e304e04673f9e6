"""Choice of devices."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratumfs.errors import DeviceFull
from stratumfs.ids import DeviceId, VolumeId
from stratumfs.volumes.placement import Candidate, choose_devices


def candidates(disks: list[int], free: int = 100) -> list[Candidate]:
    return [Candidate(DeviceId(bytes([at]) * 16), disk, free) for at, disk in enumerate(disks)]


def volume(number: int) -> VolumeId:
    return VolumeId(number.to_bytes(16, "little"))


@given(st.integers(0, 2**64), st.lists(st.integers(0, 3), min_size=6, max_size=12))
def test_devices_are_distinct_and_disks_as_far_as_they_go(number: int, disks: list[int]) -> None:
    chosen = choose_devices(volume(number), 6, candidates(disks))
    assert len(set(chosen)) == 6
    used = Counter(disks[device[0]] for device in chosen)
    have = Counter(disks)
    assert all(used[a] + 1 >= used[b] for a in have for b in have if used[a] < have[a])


def test_with_exactly_enough_devices_it_is_all_and_their_order_rotates() -> None:
    orders = {choose_devices(volume(number), 3, candidates([0, 1, 2])) for number in range(50)}
    assert len(orders) == 6


def test_the_choice_does_not_depend_on_the_order_of_candidates() -> None:
    made = candidates([0, 1, 2, 3])
    assert choose_devices(volume(1), 2, made) == choose_devices(volume(1), 2, made[::-1])


def test_devices_with_more_room_are_chosen_more_often() -> None:
    made = [*candidates([0, 1, 2]), Candidate(DeviceId(b"x" * 16), 9, 1000)]
    count = Counter(device for number in range(200) for device in choose_devices(volume(number), 1, made))
    assert count[DeviceId(b"x" * 16)] > 120


def test_too_few_devices_are_refused() -> None:
    with pytest.raises(DeviceFull):
        choose_devices(volume(1), 3, candidates([0, 1]))
