"""Recorded accesses under other prices and policies: sums that can be worked out by hand, and who wins."""

import math
from dataclasses import replace

import pytest

from tests.tiering.tiers import MB, popular, tiers
from tiering.prices import DAY_S, MONTH_S, PriceList, TierPrice
from tiering.recording import Access, Kind
from tiering.replay import Outcome, Stored, compared, replay
from tiering.worths import PolicySettings

NO_WARMUP = PolicySettings(warmup_s=0.0)
TWO = PriceList(
    [
        TierPrice("hot", 0.10, 0.001, 1e9),
        TierPrice("cold", 0.01, 0.1, 1e8, usd_get=0.001, usd_put=0.01, usd_read_gb=0.1, stay_days_min=30),
    ]
)
ONLY_OBSERVES = PolicySettings(warmup_s=math.inf)


def test_storage_requests_and_waiting_are_summed_as_the_price_list_says() -> None:
    size = 10**9
    stored = [Stored(1, size, 0), Stored(2, size, 1)]
    accesses = [
        Access(0.1 * MONTH_S, 2, size // 2, size, Kind.READ),
        Access(0.2 * MONTH_S, 1, size, size, Kind.READ),
        Access(0.5 * MONTH_S, 2, 0, 0, Kind.GONE),
    ]
    out = replay(stored, accesses, TWO, ONLY_OBSERVES, 0.0, MONTH_S)
    assert out.usd_storage == pytest.approx([0.10, 0.005])
    assert out.usd_requests == pytest.approx(0.001 + 0.05)
    assert out.usd_early == pytest.approx(0.5 * 0.01)
    assert out.wait_s == pytest.approx(0.1 + 5 + 0.001 + 1)
    assert (out.reads, out.moves, out.moved_bytes) == ([1, 1], 0, 0)
    assert out.stored_bytes == [size, 0]
    assert out.usd_month == pytest.approx(out.usd)


def test_a_move_is_paid_for_and_counted() -> None:
    size = 10**9
    stored = [Stored(1, size, 0)]
    out = replay(stored, [], TWO, replace(NO_WARMUP, payback_s=400 * DAY_S), 0.0, 60 * DAY_S)
    assert (out.moves, out.moved_bytes, out.stored_bytes) == (1, size, [0, size])
    assert out.usd_requests == pytest.approx(0.01)
    assert out.usd < 0.10 * 2, "less than to stay for two months"


def test_what_is_written_is_placed_and_may_grow_and_what_nobody_knew_was_there_before() -> None:
    accesses = [
        Access(10.0, 1, 100, 10**6, Kind.WRITE),
        Access(20.0, 1, 100, 3 * 10**6, Kind.WRITE),
        Access(30.0, 7, 5 * 10**5, 10**6, Kind.READ),
        Access(40.0, 7, 0, 0, Kind.GONE),
        Access(50.0, 8, 0, 0, Kind.GONE),
    ]
    out = replay([], accesses, tiers(100 * MB, 100 * MB), NO_WARMUP, 0.0, 100.0)
    assert sum(out.stored_bytes) == 3 * 10**6
    assert out.reads == [1, 0, 0]


def test_new_data_lands_in_the_fastest_tier_and_moves_on_only_where_there_is_no_room() -> None:
    size = 10**9
    written = [Access(10.0, 1, size, size, Kind.WRITE)]
    dear = PriceList([replace(TWO.tiers[0], usd_gb_month=1000.0), TWO.tiers[1]])
    out = replay([], written, dear, NO_WARMUP, 0.0, 100.0)
    assert (out.stored_bytes, out.moves) == ([size, 0], 0)
    out = replay([], written, dear.with_capacities((1.0, math.inf)), NO_WARMUP, 0.0, 100.0)
    assert (out.stored_bytes, out.moves, out.moved_bytes) == ([0, size], 1, size)


def test_a_policy_with_room_for_what_is_read_waits_less_and_both_are_told_side_by_side() -> None:
    drawn = list(popular(120, 3000, 30))
    stored = [Stored(key, int(size), 2) for key, size in {key: size for _, key, size in drawn}.items()]
    accesses = [Access(now, key, int(size), int(size), Kind.READ) for now, key, size in drawn]
    total = sum(each.size for each in stored)

    def under(hot: float, warm: float) -> Outcome:
        return replay(stored, accesses, tiers(hot * total, warm * total), NO_WARMUP, 0.0, 30 * DAY_S)

    small, large = under(0.02, 0.05), under(0.3, 0.5)
    assert sum(small.reads) == sum(large.reads) == len(accesses)
    assert large.wait_s < small.wait_s
    assert large.reads[2] < small.reads[2]
    assert sum(large.stored_bytes) == pytest.approx(total)
    names = ("hot", "warm", "cold")
    told = compared(names, small, names, large)
    assert told["saved_usd_month"] == small.usd_month - large.usd_month
    assert list(told["now"]["reads"]) == ["hot", "warm", "cold"]


def test_a_smaller_tier_is_emptied_at_the_beginning() -> None:
    stored = [Stored(key, int(MB), 0) for key in range(50)]
    out = replay(stored, [], tiers(10 * MB, 20 * MB), ONLY_OBSERVES, 0.0, 3600.0)
    assert out.stored_bytes[0] <= 10 * MB
    assert out.stored_bytes[1] <= 20 * MB
    assert sum(out.stored_bytes) == 50 * MB
