"""How runs that are moved are put together."""

from stratumfs.ids import Nonce, StripeNo, VolumeId
from stratumfs.location import Location
from stratumfs.store.runs import groups

A, B = VolumeId(b"a" * 16), VolumeId(b"b" * 16)


def at(volume: VolumeId, number: int) -> Location:
    return Location(volume, StripeNo(number), number * 1000, 100, 0, Nonce(1))


def test_groups_are_of_one_volume_and_bounded_and_lose_nothing() -> None:
    runs = [(at(A, 0), 60), (at(A, 1), 40), (at(A, 2), 1), (at(B, 0), 200), (at(B, 1), 5), (at(A, 3), 5)]
    found = list(groups(runs, 100))
    assert [[length for _, length in group] for group in found] == [[60, 40], [1], [200], [5], [5]]
    assert [run for group in found for run in group] == runs
    assert list(groups([], 100)) == []
