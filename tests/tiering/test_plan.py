"""The order in which moves are carried out."""

from hypothesis import given
from hypothesis import strategies as st

from tiering.plan import Plan
from tiering.signals import Use
from tiering.verdict import Cause, Inputs, Verdict


def verdict(key: int, source: int | None, target: int, size: float = 1.0, cause: Cause = Cause.POLICY) -> Verdict:
    use = Use(size, 0.0, 1.0, None, 1.0, None, 1.0, 0, 0)
    return Verdict(key, source, target, 0.0, cause, Inputs(use, 0, (0, 0), 1, 0, 1, 0, 0), None)


def moves(plan: Plan, room: list[float], bytes_max: float = 1e12, moves_max: int = 1000) -> list[tuple[int, int]]:
    batch = plan.next(room, bytes_max=bytes_max, moves_max=moves_max)
    assert batch.bytes == sum(each.inputs.use.size for each in batch.moves)
    return [(each.key, each.target) for each in batch.moves]


def test_what_is_placed_needs_no_move() -> None:
    plan = Plan()
    plan.add([verdict(1, None, 0)])
    assert len(plan) == 0


def test_a_later_verdict_replaces_one_that_waits_and_there_and_back_is_none() -> None:
    plan = Plan()
    plan.add([verdict(1, 2, 1), verdict(2, 0, 1), verdict(1, 1, 0), verdict(2, 1, 0)])
    [left] = plan.waiting
    assert (left.key, left.source, left.target) == (1, 2, 0)


def test_there_and_back_of_a_move_under_way_is_done_behind_it() -> None:
    plan = Plan()
    plan.add([verdict(1, 2, 0)])
    assert moves(plan, [9, 9, 9]) == [(1, 0)]
    plan.add([verdict(1, 0, 2)])
    assert moves(plan, [9, 9, 9]) == []
    assert plan.ended(1, done=True) is None
    assert moves(plan, [9, 9, 9]) == [(1, 2)]


def test_a_move_that_was_not_done_is_given_back() -> None:
    plan = Plan()
    plan.add([verdict(1, 2, 0)])
    moves(plan, [9, 9, 9])
    failed = plan.ended(1, done=False)
    assert failed is not None
    assert (failed.key, failed.source) == (1, 2)
    assert plan.under_way == ()


def test_a_move_that_was_not_done_and_is_to_be_undone_leaves_nothing() -> None:
    plan = Plan()
    plan.add([verdict(1, 2, 0)])
    moves(plan, [9, 9, 9])
    plan.add([verdict(1, 0, 2)])
    failed = plan.ended(1, done=False)
    assert failed is not None
    assert len(plan) == 0


def test_batches_are_bounded_and_one_large_move_is_not_stuck() -> None:
    plan = Plan()
    plan.add([verdict(key, 0, 2, size=10.0) for key in range(5)])
    assert len(moves(plan, [0, 0, 1e9], bytes_max=25)) == 2
    assert len(moves(plan, [0, 0, 1e9], bytes_max=1)) == 1
    assert len(moves(plan, [0, 0, 1e9], moves_max=1)) == 1


def test_pressure_goes_first_and_what_was_dropped_not_at_all() -> None:
    plan = Plan()
    plan.add([verdict(1, 2, 0), verdict(2, 0, 1, cause=Cause.PRESSURE), verdict(3, 2, 0)])
    plan.drop(3)
    assert moves(plan, [9, 9, 9]) == [(2, 1), (1, 0)]


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2), st.integers(0, 2), st.floats(1, 50)), max_size=60),
    st.lists(st.floats(0, 100), min_size=3, max_size=3),
)
def test_a_batch_fits_into_the_room_there_is(steps: list[tuple[int, int, int, float]], room: list[float]) -> None:
    plan = Plan()
    plan.add([verdict(key, source, target, size) for key, source, target, size in steps])
    taken = [0.0, 0.0, 0.0]
    for each in plan.next(room, bytes_max=1e12, moves_max=1000).moves:
        assert each.source != each.target
        taken[each.target] += each.inputs.use.size
    assert all(part <= whole for part, whole in zip(taken, room, strict=True))
