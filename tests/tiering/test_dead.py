"""What it saves to compact volumes of a tier that charges for reading and for early removal."""

from dataclasses import replace

import pytest

from stratumfs.store.compact_remote import Held
from tiering.costs import USUAL
from tiering.dead import gain_usd

COLD = USUAL["cold"]
DAYS = 30.0
OLD_S = 365 * 86400.0
MB = 1_000_000


def held(live: int, size: int = 32 * MB, held_s: float = OLD_S) -> Held:
    return Held(live, size, held_s)


def test_by_usual_prices_it_pays_from_nine_tenths_that_are_dead() -> None:
    assert gain_usd(COLD, [held(3 * MB)], DAYS) > 0
    assert gain_usd(COLD, [held(8 * MB)], DAYS) < 0


def test_where_reading_is_free_and_nothing_is_billed_at_least_less_is_enough() -> None:
    free = replace(COLD, usd_read_gb=0.0, stay_days_min=0.0)
    assert gain_usd(free, [held(15 * MB)], DAYS) > 0


def test_what_is_billed_for_a_while_yet_is_left_alone() -> None:
    assert gain_usd(COLD, [held(1 * MB, held_s=0.0)], DAYS) < 0
    assert gain_usd(COLD, [held(1 * MB, held_s=COLD.stay_days_min * 86400)], DAYS) > 0


def test_of_small_ones_the_request_costs_more_than_what_is_dead() -> None:
    assert gain_usd(COLD, [held(100, 10_000)], DAYS) < 0


def test_together_they_share_the_request() -> None:
    one = held(500_000, 8 * MB)
    alone = gain_usd(COLD, [one], DAYS)
    assert gain_usd(COLD, [one] * 4, DAYS) > 4 * alone
    assert gain_usd(COLD, [], DAYS) == pytest.approx(-COLD.usd_put)
