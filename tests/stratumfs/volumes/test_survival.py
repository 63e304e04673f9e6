from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from stratumfs.volumes.survival import Shards, Survival, disks_survived, survival


def test_six_folders_on_one_disk_survive_two_devices_and_no_disk() -> None:
    assert survival([Shards(4, ("sda",) * 6)], ["sda"] * 4) == Survival(devices=2, disks=0)


def test_six_disks_survive_two_where_the_catalog_has_copies() -> None:
    six = tuple("abcdef")
    assert survival([Shards(4, six)], ["a", "b", "c"]) == Survival(2, 2)


def test_a_catalog_in_one_place_survives_no_loss() -> None:
    assert survival([Shards(4, tuple("abcdef"))], ["z"]) == Survival(0, 0)


def test_the_weakest_volume_counts() -> None:
    found = survival([Shards(4, tuple("abcdef")), Shards(4, tuple("abcd"))], ["x", "y", "z"])
    assert found == Survival(0, 0)


def test_data_that_cannot_be_read_is_less_than_nothing() -> None:
    assert survival([Shards(4, tuple("abc"))], ["x", "y"]) == Survival(-1, -1)


@given(st.lists(st.sampled_from("abcd"), max_size=8), st.integers(1, 4))
def test_any_so_many_disks_may_be_lost_and_some_choice_of_one_more_may_not(disks: list[str], k: int) -> None:
    count = disks_survived(Shards(k, tuple(disks)))
    kinds = sorted(set(disks))

    def reads_without(lost: tuple[str, ...]) -> bool:
        return sum(disk not in lost for disk in disks) >= k

    if count < 0:
        assert not reads_without(())
        return
    assert all(reads_without(lost) for lost in combinations(kinds, count))
    if count < len(kinds):
        assert not all(reads_without(lost) for lost in combinations(kinds, count + 1))
