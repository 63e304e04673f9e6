"""The chance of a loss, against closed formulas and a simulation."""

import math
import random

import pytest

from stratumfs.volumes.loss import YEAR_S, any_of, loss_within, yearly_loss

HOUR_S = 3600.0


def test_without_parity_one_failure_is_a_loss() -> None:
    assert yearly_loss(6, 0, 0, 0.02, HOUR_S) == pytest.approx(1 - 0.98**6, rel=1e-9)


@pytest.mark.parametrize("rebuild_s", [HOUR_S, 24 * HOUR_S, 10.0])
def test_one_parity_shard_as_the_formula_for_raid_5_says(rebuild_s: float) -> None:
    """Mean time to data loss: ((2n - 1) a + b) / (n (n - 1) a²), for failures at the rate a and repairs at b."""
    n, a, b = 5, -math.log1p(-0.05) / YEAR_S, 1 / rebuild_s
    mean_s = ((2 * n - 1) * a + b) / (n * (n - 1) * a * a)
    assert yearly_loss(n, 1, 0, 0.05, rebuild_s) == pytest.approx(1 - math.exp(-YEAR_S / mean_s), rel=0.01)


def test_two_parity_shards_about_as_the_formula_for_raid_6_says() -> None:
    """b² / (n (n - 1) (n - 2) a³), where repairs are much faster than failures."""
    n, a, b = 6, -math.log1p(-0.02) / YEAR_S, 1 / HOUR_S
    rate = n * (n - 1) * (n - 2) * a**3 / b**2
    assert yearly_loss(n, 2, 0, 0.02, HOUR_S) == pytest.approx(rate * YEAR_S, rel=0.01)


@pytest.mark.parametrize(("n", "m", "lost"), [(6, 2, 0), (6, 2, 1), (4, 1, 0), (3, 2, 2)])
def test_as_a_simulation_does(n: int, m: int, lost: int) -> None:
    rng = random.Random(f"{n} {m} {lost}")
    rate, rebuild_s, until, runs = 1 / 40.0, 4.0, 30.0, 20_000
    losses = sum(_is_lost(rng, n, m, lost, rate, rebuild_s, until) for _ in range(runs))
    expected = loss_within(until, n, m, lost, rate, rebuild_s)
    assert losses / runs == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / runs))


def _is_lost(rng: random.Random, n: int, m: int, lost: int, rate: float, rebuild_s: float, until: float) -> bool:
    now = 0.0
    while lost <= m:
        fails, back = (n - lost) * rate, 1 / rebuild_s if lost else 0.0
        now += rng.expovariate(fails + back)
        if now > until:
            return False
        lost += 1 if rng.random() < fails / (fails + back) else -1
    return True


def test_what_is_lost_is_lost() -> None:
    assert yearly_loss(6, 2, 3, 0.02, HOUR_S) == 1.0


def test_rare_losses_keep_their_digits() -> None:
    few, many = (yearly_loss(14, 6, 0, 0.01, rebuild_s) for rebuild_s in (HOUR_S, 2 * HOUR_S))
    assert 0 < few < 1e-15
    assert many / few == pytest.approx(2**6, rel=0.02)


def test_one_of_many_rare_things() -> None:
    assert any_of([1e-20] * 10) == pytest.approx(1e-19)
    assert any_of([0.5, 0.5]) == pytest.approx(0.75)
    assert any_of([1.0, 0.1]) == 1.0
    assert any_of([]) == 0.0
