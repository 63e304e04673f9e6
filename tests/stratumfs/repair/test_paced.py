"""Who comes first: the doors, but for what the next loss would destroy."""

from stratumfs.repair.paced import Doors, rest_s


def test_each_who_wants_to_know_is_told_of_what_was_asked_since_the_last_time() -> None:
    asked = 7
    one, other = Doors(lambda: asked), Doors(lambda: asked)
    assert not one.asked
    asked += 1
    assert one.asked
    assert not one.asked
    assert other.asked


def test_a_rebuild_rests_the_longer_the_less_urgent_it_is_and_not_at_all_before_the_next_loss() -> None:
    assert [rest_s(1.0, margin, 0) for margin in range(3)] == [0.0, 1.0, 2.0]


def test_two_rebuilds_take_as_much_of_the_devices_as_one() -> None:
    for margin in range(3):
        alone, each = (1 / (1 + rest_s(1.0, margin, beside)) for beside in (0, 1))
        assert alone == 2 * each
