"""The life table: what it has seen it expects."""

import math
import random

import pytest

from tiering.forecast import AGES_S, CLASSES, Forecast, class_of, hour_factor
from tiering.prices import DAY_S

HOUR_S = 3600.0
ONCE = class_of(1.0, 0.0, 0)
OFTEN = class_of(30.0, HOUR_S, 0)


def test_every_object_has_a_class() -> None:
    found = {
        class_of(reads, gap, kind)
        for reads in (1, 1.5, 2, 5, 70, 1e6)
        for gap in (0, 1, 1800, DAY_S, 1e9)
        for kind in (0, 15)
    }
    assert found <= set(range(CLASSES))
    assert len(found) > 20


def test_before_anything_was_seen_more_reads_mean_more_to_come() -> None:
    forecast = Forecast([DAY_S, 3 * DAY_S])
    assert forecast.rate(OFTEN, 60.0, 1) > 3 * forecast.rate(ONCE, 60.0, 1) > 0


def test_steady_readers_are_expected_at_their_rate() -> None:
    forecast, rng = Forecast([DAY_S]), random.Random(1)
    for _ in range(5000):
        forecast.happened(OFTEN, 0, rng.expovariate(1 / (6 * HOUR_S)))
        forecast.keep_up()
    assert forecast.rate(OFTEN, 0.0, 0) == pytest.approx(1 / (6 * HOUR_S), rel=0.15)


def test_what_a_scan_reads_once_is_not_expected_again() -> None:
    forecast = Forecast([DAY_S, 3 * DAY_S])
    before = forecast.rate(ONCE, HOUR_S, 1)
    for _ in range(1000):
        forecast.survived(ONCE, 0, 30 * DAY_S)
    forecast.solve()
    assert forecast.rate(ONCE, HOUR_S, 1) < before / 20


def test_what_comes_back_each_week_is_expected_when_the_week_is_over() -> None:
    forecast = Forecast([DAY_S])
    for _ in range(500):
        forecast.happened(ONCE, 0, 6.5 * DAY_S)
    forecast.solve()
    assert forecast.rate(ONCE, 6.1 * DAY_S, 0) > 20 * forecast.rate(ONCE, 1 * DAY_S, 0)


def test_a_span_is_credited_once_however_often_it_is_looked_at() -> None:
    often, once = Forecast([DAY_S]), Forecast([DAY_S])
    credited = 0
    for age in (10.0, 400.0, 401.0, 5 * HOUR_S, 3 * DAY_S):
        credited = often.survived(OFTEN, credited, age)
    often.happened(OFTEN, credited, 3.5 * DAY_S)
    once.happened(OFTEN, 0, 3.5 * DAY_S)
    assert often.dump()["tables"][:2] == once.dump()["tables"][:2]


def test_what_has_changed_is_learned_anew() -> None:
    forecast = Forecast([DAY_S])
    for _ in range(3000):
        forecast.happened(OFTEN, 0, HOUR_S)
    for number in range(44_000):
        forecast.survived(OFTEN, 0, 40 * DAY_S)
        if number % 2 == 0:
            forecast.happened(ONCE, 0, HOUR_S)
            forecast.keep_up()
    assert forecast.rate(OFTEN, HOUR_S, 0) < 0.5 / DAY_S


def test_rates_are_finite_and_not_negative_at_any_age() -> None:
    forecast = Forecast([DAY_S, 3 * DAY_S])
    for age in (0.0, *AGES_S, 1e9):
        for group in range(CLASSES):
            assert 0 <= forecast.rate(group, age, 1) < math.inf


@pytest.mark.parametrize("horizon_s", [DAY_S, 3 * DAY_S])
def test_the_hour_raises_what_comes_soon_and_lowers_what_was_just_missed(horizon_s: float) -> None:
    factors = [hour_factor(9.0, hour * HOUR_S, horizon_s) for hour in range(24)]
    assert factors[8] > 1 > factors[12]
    assert sum(factors) / 24 == pytest.approx(1, abs=0.15)


def test_a_loaded_table_is_the_one_that_was_dumped() -> None:
    forecast = Forecast([DAY_S, 3 * DAY_S])
    for age in range(1, 3000):
        forecast.happened(ONCE, 0, age * 60.0)
        forecast.keep_up()
    loaded = Forecast.load(forecast.dump())
    assert loaded.dump() == forecast.dump()
    assert loaded.rate(ONCE, 5000.0, 1) == forecast.rate(ONCE, 5000.0, 1)
