"""Decisions about tiers: room, what pays, no going to and fro, scans, pressure, wishes, restarts."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiering.tiers import MB, Places, policy, popular, tiers
from tiering.policy import Policy
from tiering.prices import DAY_S, PriceList, TierPrice
from tiering.signals import Hint
from tiering.verdict import Cause
from tiering.worths import PolicySettings

HOUR_S = 3600.0

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["place", "read", "read", "read", "remove", "review"]),
        st.integers(0, 14),
        st.floats(1, 40 * MB),
        st.floats(0, 2 * DAY_S),
    ),
    max_size=120,
)


@given(STEPS, st.sampled_from([float("inf"), 200 * MB]))
@settings(max_examples=60)
def test_no_tier_is_ever_above_its_capacity_and_no_move_is_made_that_does_not_pay(
    steps: list[tuple[str, int, float, float]], cold: float
) -> None:
    places, now = Places(policy(30 * MB, 60 * MB, cold)), 0.0
    for step, key, size, wait in steps:
        now += wait
        if step == "place" and key not in places.tier and sum(places.size.values()) + size < 200 * MB:
            places.place(key, size, now)
        elif key in places.tier and step == "read":
            places.read(key, now)
        elif key in places.tier and step == "remove":
            places.remove(key)
        elif step == "review":
            places.review(now)
        places.check()


@given(STEPS)
@settings(max_examples=40)
def test_without_new_facts_nothing_goes_back(steps: list[tuple[str, int, float, float]]) -> None:
    """What was displaced does not displace in turn, and what went down does not come up, at the same time."""
    places, now = Places(policy(30 * MB, 60 * MB)), 0.0
    for step, key, size, wait in steps:
        now += wait
        moved = []
        if step == "place" and key not in places.tier:
            before = len(places.moves)
            places.place(key, size, now)
            moved = [verdict for verdict in places.moves[before:] if verdict.source is not None]
        elif key in places.tier and step == "read":
            moved = places.read(key, now)
        for verdict in moved:
            if not verdict.up:
                again = places.policy.consider(verdict.key, now)
                assert verdict.source not in [each.target for each in again if each.key == verdict.key]
                assert verdict.for_key not in [each.key for each in again]
                places._done(again)


def test_what_is_read_often_is_hot_and_what_is_not_is_cold() -> None:
    places = Places(policy(20 * MB, 60 * MB))
    for key in range(60):
        places.place(key, 4 * MB, 0.0)
    for hour in range(1, 240):
        for key in (57, 58, 59):
            places.read(key, hour * HOUR_S)
        if hour % 24 == 0:
            for key in range(30, 38):
                places.read(key, hour * HOUR_S + 10)
        places.review(hour * HOUR_S + 20)
    assert {places.tier[key] for key in (57, 58, 59)} == {0}
    assert {places.tier[key] for key in range(30, 38)} <= {0, 1}
    assert sum(places.tier[key] == 2 for key in range(60)) >= 40


def test_a_scan_does_not_push_out_what_is_hot() -> None:
    places = Places(policy(20 * MB, 60 * MB))
    for key in range(200):
        places.place(key, MB, 0.0)
    for hour in range(1, 20 * 24, 8):
        for key in range(15):
            places.read(key, hour * HOUR_S + key)
    hot = {key for key, tier in places.tier.items() if tier == 0 and key < 15}
    assert len(hot) >= 14
    for number, key in enumerate(random.Random(3).sample(range(15, 200), 185)):
        places.read(key, 20 * 24 * HOUR_S + number)
    assert all(places.tier[key] == 0 for key in hot)


def test_warm_up_delays_what_is_preferred_and_never_what_presses() -> None:
    made = policy(10 * MB, 30 * MB, warmup_s=7 * DAY_S)
    for key in range(4):
        made.landed(key, 4 * MB, 0, 0.0)
    verdicts = made.review(60.0)
    assert {verdict.cause for verdict in verdicts} == {Cause.PRESSURE}
    assert made.used[0] <= 10 * MB
    key = verdicts[0].key
    for hour in range(1, 60):
        assert made.read(key, hour * HOUR_S) == []
    for minute in range(10):
        moved = made.read(key, 7 * DAY_S + 60 * minute)
        if moved:
            break
    assert moved[-1].key == key
    assert moved[-1].target == 0


def test_pressure_takes_what_is_worth_least() -> None:
    made = policy(10 * MB, 100 * MB)
    for key in range(10):
        made.landed(key, MB, 0, 0.0)
    for hour in range(1, 48):
        for key in range(10):
            if key not in (4, 7):
                made.read(key, hour * HOUR_S)
    made.landed(11, 2 * MB, 0, 48 * HOUR_S)
    moved = {verdict.key for verdict in made.review(48 * HOUR_S)}
    assert moved <= {4, 7, 11}
    assert made.used[0] <= 10 * MB


def test_an_object_that_grew_presses_too() -> None:
    made = policy(10 * MB, 100 * MB)
    made.landed(1, 6 * MB, 0, 0.0)
    made.landed(2, 3 * MB, 0, 0.0)
    made.wrote(1, 9 * MB, 5.0)
    assert made.review(6.0)
    assert made.used[0] <= 10 * MB


def test_in_a_hot_tier_with_room_what_is_never_read_goes_where_it_is_cheaper() -> None:
    made = policy(100 * MB, 300 * MB)
    made.landed(1, 50 * MB, 0, 0.0)
    moved = [verdict for day in range(1, 60) for verdict in made.review(day * DAY_S)]
    assert (moved[0].key, moved[0].source, moved[0].target) == (1, 0, 1)
    assert moved[0].holds()


def test_a_tier_with_room_is_not_left_for_one_whose_fees_cost_more() -> None:
    """As in a cloud: the slower class is half as dear, bills 30 days at least, and each read."""
    prices = PriceList(
        [
            TierPrice("standard", 0.023, 0.03, 90e6, usd_get=4e-7, usd_put=5e-6),
            TierPrice("infrequent", 0.0125, 0.03, 90e6, usd_get=1e-6, usd_put=1e-5, usd_read_gb=0.01, stay_days_min=30),
        ]
    )
    places = Places(Policy(prices, 0.0, PolicySettings(warmup_s=0)))
    for key in range(20):
        places.place(key, 10 * MB, 0.0)
    for day in range(1, 120):
        for key in range(day % 15, 20, 15):
            places.read(key, day * DAY_S)
        places.review(day * DAY_S + 10)
    assert not places.moves[20:]


def test_what_is_pinned_comes_stays_and_makes_others_go() -> None:
    places = Places(policy(10 * MB, 30 * MB))
    for key in range(20):
        places.place(key, 3 * MB, 0.0)
    [pinned] = [key for key in range(20) if places.tier[key] == 2][:1]
    places._done(places.policy.pin(pinned, 0, 10.0))
    assert places.tier[pinned] == 0
    for hour in range(1, 100):
        for key in range(20):
            if key != pinned:
                places.read(key, hour * HOUR_S + key)
    assert places.tier[pinned] == 0
    places.policy.hint(pinned, Hint.NONE)
    for hour in range(100, 200):
        for key in range(20):
            if key != pinned:
                places.read(key, hour * HOUR_S + key)
    assert places.tier[pinned] != 0


def test_a_hint_is_weighed_and_no_command() -> None:
    hot, cold, none = policy(MB, MB), policy(MB, MB), policy(MB, MB)
    hot.place(1, 1000.0, 0.0, hint=Hint.HOT)
    cold.place(1, 1000.0, 0.0, hint=Hint.COLD)
    none.place(1, 1000.0, 0.0)
    assert hot.worth(0, 0, 1.0) > none.worth(0, 0, 1.0) > cold.worth(0, 0, 1.0)


def test_an_object_that_is_pinned_lands_in_its_tier() -> None:
    made = policy(10 * MB, 30 * MB)
    assert made.place(1, MB, 0.0, hint=Hint.PIN_FIRST + 1)[-1].target == 1
    assert made.place(2, MB, 0.0, hint=Hint.PIN_FIRST + 2)[-1].target == 2


def test_an_object_larger_than_a_tier_passes_it_by() -> None:
    made = policy(10 * MB, 30 * MB)
    assert made.place(1, 20 * MB, 0.0)[-1].target == 1
    assert made.place(2, 50 * MB, 0.0)[-1].target == 2
    for hour in range(1, 50):
        assert made.read(2, hour * HOUR_S) == []


def test_a_verdict_follows_from_its_inputs_and_says_so() -> None:
    places = Places(policy(20 * MB, 60 * MB))
    sizes: dict[int, float] = {}
    for now, key, size in popular(60, 800, 20):
        sizes[key] = size
        if key not in places.tier:
            places.place(key, size, now)
            continue
        for verdict in places.read(key, now):
            assert verdict.inputs.use.size == sizes[verdict.key]
            assert f"{verdict.inputs.reads_day:.3g} reads a day expected" in verdict.reason()
            if verdict.up and verdict.case is not None:
                assert verdict.inputs.worth * max(1, verdict.inputs.use.size) == pytest.approx(verdict.case.gain_usd_s)
                assert verdict.inputs.worth > verdict.inputs.marginal
    assert any(verdict.for_key is not None for verdict in places.moves)


def test_a_policy_that_was_loaded_decides_as_the_one_that_was_dumped() -> None:
    made = policy(20 * MB, 60 * MB)
    accesses = list(popular(100, 1200, 20))
    for now, key, size in accesses[:800]:
        _access(made, key, size, now)
    made.removed(3)
    loaded = Policy.load(made.dump(), made.prices, made.settings)
    assert loaded.dump() == made.dump()
    for now, key, size in accesses[800:]:
        assert _access(loaded, key, size, now) == _access(made, key, size, now)
        assert loaded.review(now) == made.review(now)
    assert loaded.dump() == made.dump()


def test_regression_what_was_seen_outlasts_a_version_that_looks_over_other_horizons() -> None:
    made = policy(20 * MB, 60 * MB)
    for now, key, size in popular(100, 1200, 20):
        _access(made, key, size, now)
    other = replace(made.settings, horizons_s=(DAY_S / 2, 5 * DAY_S, 20 * DAY_S))
    loaded = Policy.load(made.dump(), made.prices, other)
    assert loaded.began == made.began
    for slot in range(made.signals.slots):
        assert loaded.signals.use(slot, now) == made.signals.use(slot, now)
        group, age = made.signals.group[slot], made.signals.age_s(slot, now)
        assert loaded.forecast.seen(group, age) == made.forecast.seen(group, age)
        assert 0 <= loaded.forecast.rate(group, age, 1) < 1
    assert loaded.forecast.ahead != made.forecast.ahead
    again = Policy.load(loaded.dump(), made.prices, other)
    assert again.dump() == loaded.dump()
    loaded.review(now + DAY_S)


def test_a_state_that_is_damaged_or_of_other_tiers_is_refused() -> None:
    made = policy(20 * MB, 60 * MB)
    made.place(1, MB, 0.0)
    data = made.dump()
    for wrong in (b"", data[:-1], data[:40] + bytes([data[40] ^ 1]) + data[41:], b"x" + data[1:]):
        with pytest.raises(ValueError, match="the state is"):
            Policy.load(wrong, made.prices)
    with pytest.raises(ValueError, match="has a place"):
        made.landed(1, MB, 0, 1.0)
    with pytest.raises(ValueError, match="other tiers"):
        Policy.load(data, type(made.prices)(made.prices.tiers[:2]))


def test_what_was_moved_by_somebody_else_is_where_it_was_moved() -> None:
    made = policy(20 * MB, 60 * MB)
    made.place(1, MB, 0.0)
    made.moved(1, 2, 5.0)
    assert made.where(1) == 2
    assert made.used == [0, 0, MB]
    made.moved(99, 1, 5.0)
    made.removed(99)
    assert made.read(99, 5.0) == []


def test_a_store_of_two_tiers_has_decisions_too_and_one_of_one_has_none() -> None:
    prices = tiers(20 * MB, 60 * MB)
    places = Places(Policy(type(prices)(prices.tiers[1:]), 0.0, PolicySettings(warmup_s=0)))
    for now, key, size in popular(50, 500, 10):
        if key in places.tier:
            places.read(key, now)
        else:
            places.place(key, size, now)
        places.review(now)
    assert any(verdict.up for verdict in places.moves)
    with pytest.raises(ValueError, match="nothing to decide"):
        Policy(type(prices)(prices.tiers[:1]), 0.0)


def _access(made: Policy, key: int, size: float, now: float) -> object:
    return made.place(key, size, now) if made.where(key) is None else made.read(key, now)


def test_a_move_that_comes_to_nothing_has_not_begun_a_new_stay() -> None:
    made = policy(20 * MB, 60 * MB)
    made.landed(1, MB, 0, 0.0)
    made.prices = made.prices.with_capacities([0, 60 * MB, 1e12])
    assert [each.target for each in made.review(DAY_S, 0)] == [1]
    made.arrived(1)
    slot = made.signals.slot(1)
    assert slot is not None
    known = made.signals.moved[slot], made.signals.fell[slot]
    assert known == (DAY_S, 1)
    made.prices = made.prices.with_capacities([0, 0, 1e12])
    assert [each.target for each in made.review(3 * DAY_S, 0)] == [2]
    loaded = Policy.load(made.dump(), made.prices, made.settings)
    for each in (made, loaded):
        each.moved(1, 1, 3 * DAY_S + 60)
        assert (each.signals.moved[slot], each.signals.fell[slot]) == known
    loaded.waits(1, 2, 4 * DAY_S)
    loaded.arrived(1)
    loaded.moved(1, 1, 5 * DAY_S)
    assert (loaded.signals.moved[slot], loaded.signals.fell[slot]) == (5 * DAY_S, 0)


def test_a_decision_that_another_takes_back_has_not_begun_a_new_stay() -> None:
    made = policy(20 * MB, 60 * MB)
    made.landed(1, MB, 1, 0.0)
    slot = made.signals.slot(1)
    assert slot is not None
    made.pin(1, 0, 3 * DAY_S)
    made.pin(1, 1, 3 * DAY_S + 10)
    assert (made.signals.moved[slot], made.signals.fell[slot]) == (0, 0)


def test_a_pin_that_does_not_fit_beside_the_others_pushes_nothing_out() -> None:
    made = policy(20 * MB, 60 * MB)
    for key in range(10):
        made.landed(key, MB, 0, 0.0)
    made.landed(10, 30 * MB, 1, 0.0)
    made.landed(11, 12 * MB, 1, 0.0)
    made.landed(12, 12 * MB, 1, 0.0)
    assert made.pin(10, 0, 10.0) == []
    assert not made.pin_fits(10)
    assert made.where(10) == 1
    assert made.pin(11, 0, 20.0)[-1].key == 11
    assert made.pin(12, 0, 30.0) == []
    assert made.where(12) == 1
    assert made.used[0] <= 20 * MB
    loaded = Policy.load(made.dump(), made.prices, made.settings)
    for each in (made, loaded):
        each.hint(11, Hint.NONE)
        assert each.pin_fits(12)
        assert [(found.key, found.target) for found in each.pins(40.0, 100, ())[0]] == [(11, 1), (12, 0)]
        assert each.pin(11, 0, 50.0) == []
        each.removed(12)
        assert [found.target for found in each.pin(11, 0, 60.0)] == [0]
    *room, own = made.place(13, 25 * MB, 70.0, hint=Hint.PIN_FIRST)
    assert (room, own.target) == ([], 1)


def test_pins_are_found_among_all_objects_but_not_those_to_tiers_that_take_none() -> None:
    made = policy(20 * MB, 60 * MB)
    for key in range(9):
        made.landed(key, MB, 0, 0.0, hint=Hint.PIN_FIRST + key % 3)
    found, skipped = made.pins(1.0, 4, {2})
    assert ([each.key for each in found], skipped) == ([1, 4], {2})
    found, skipped = made.pins(1.0, 5, ())
    assert ([each.key for each in found], skipped) == ([5, 7, 8], set())
    assert [each.key for each in made.pins(1.0, 100, ())[0]] == [2]


def test_what_is_known_of_objects_outlasts_another_tier() -> None:
    full = tiers(20 * MB, 60 * MB)
    prices = PriceList([full.tiers[0], full.tiers[2]])
    made = Policy(prices, 0.0, PolicySettings(warmup_s=0))
    for now, key, size in popular(60, 800, 20):
        _access(made, key, size, now)
    made.pin(1, 1, 20 * DAY_S)
    made.pin(2, 0, 20 * DAY_S)
    loaded = Policy.load(made.dump(), full, made.settings)
    for key in range(60):
        at = made.where(key)
        assert loaded.where(key) == (None if at is None else 2 * at)
        slot, other = made.signals.slot(key), loaded.signals.slot(key)
        if slot is not None and other is not None and key > 2:
            assert loaded.signals.use(other, 21 * DAY_S) == made.signals.use(slot, 21 * DAY_S)
    assert loaded.used == [made.used[0], 0, made.used[1]]
    assert [loaded.count(tier) for tier in range(3)] == [made.count(0), 0, made.count(1)]
    assert loaded.pins(21 * DAY_S, 1000, ()) == ([], set())
    for now, key, size in popular(60, 800, 20, seed=2):
        _access(loaded, key, size, 20 * DAY_S + now)
    assert loaded.used[1] > 0


def test_regression_a_large_object_comes_in_where_one_sample_has_too_little_to_make_room() -> None:
    """A thousand small ones that nobody reads again fill the faster tiers."""
    small, large = MB / 50, 3.2 * MB
    made = policy(MB, 20 * MB)
    for key in range(1000):
        made.place(key, small, float(key))
    made.place(5000, large, 1000.0)
    assert made.where(5000) == 2
    assert sum(made.signals.size[slot] for _, slot, _ in made._least(1, 2000.0)) < large
    for read in range(40):
        made.read(5000, 2000.0 + read * HOUR_S)
    assert made.where(5000) == 1
