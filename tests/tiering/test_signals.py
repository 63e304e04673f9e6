"""What is kept of each object's use."""

import random
import tracemalloc

import pytest

from tests.tiering.tiers import MB, policy
from tiering.prices import DAY_S
from tiering.runs import RUNS_MAX
from tiering.signals import GAP_WEIGHT, Hint, Signals
from tiering.state import drained

HOUR_S = 3600.0


def test_an_object_takes_at_most_64_bytes_with_its_share_of_index_and_tier() -> None:
    made = policy(1000 * MB, 3000 * MB)
    made.place(0, 1.0, 0.0)
    tracemalloc.start()
    for key in range(1, 8_000):
        made.landed(key * 7919, 1000.0, key % 3, 0.0)
        if key in (2_000, 5_000, 7_999):
            assert made.nbytes <= 64 * len(made.signals)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken <= 64 * 8_000


def test_what_was_forgotten_leaves_its_slot_to_another() -> None:
    signals = Signals(0.0)
    slots = [signals.add(key, 1.0, 0.0) for key in range(10)]
    for slot in slots:
        signals.entered(slot, 0, 0.0)
    signals.touch(slots[3], 5.0, None, None)
    signals.forget(slots[3])
    assert signals.slot(3) is None
    assert signals.add(77, 5.0, 9.0) == slots[3]
    assert signals.slots == 10
    use = signals.use(slots[3], 9.0)
    assert (use.size, use.age_s, use.reads, use.gap_s) == (5.0, 0.0, 1.0, None)


def test_the_mean_gap_follows_the_last_few_and_the_count_forgets_slowly() -> None:
    signals = Signals(0.0)
    slot = signals.add(1, 1.0, 0.0)
    signals.touch(slot, 1000.0, None, None)
    signals.touch(slot, 3000.0, None, None)
    use = signals.use(slot, 3100.0)
    assert use.gap_s == pytest.approx(1000 + GAP_WEIGHT * 1000)
    assert use.reads == pytest.approx(3, rel=1e-2)
    assert use.age_s == 100
    signals.touch(slot, 3000.0 + 20 * DAY_S, None, None)
    assert signals.use(slot, 0).reads == pytest.approx(2.5, rel=1e-2)


def test_a_spike_is_ten_times_the_usual() -> None:
    signals = Signals(0.0)
    slot = signals.add(1, 1.0, 0.0)
    for day in range(1, 40):
        signals.touch(slot, day * DAY_S, None, None)
    assert signals.spike(slot) < 2
    for minute in range(12):
        signals.touch(slot, 39 * DAY_S + minute * 60, None, None)
    assert signals.spike(slot) > 10


def test_what_is_read_each_day_at_nine_gathers_there_and_random_hours_gather_nowhere() -> None:
    signals, rng = Signals(0.0), random.Random(2)
    daily, random_hours = signals.add(1, 1.0, 0.0), signals.add(2, 1.0, 0.0)
    for day in range(1, 20):
        for minute in range(5):
            signals.touch(daily, day * DAY_S + 9 * HOUR_S + 60 * minute, None, None)
        signals.touch(random_hours, day * DAY_S + rng.random() * DAY_S, None, None)
    assert signals.hour(daily) == pytest.approx(9, abs=0.2)
    assert signals.hour(random_hours) is None


def test_one_visit_is_no_time_of_day() -> None:
    signals = Signals(0.0)
    slot = signals.add(1, 1.0, 0.0)
    for minute in range(200):
        signals.touch(slot, DAY_S + 60 * minute, None, None)
    assert signals.hour(slot) is None


def test_a_sequential_reader_is_one_access_and_a_random_one_is_many() -> None:
    signals = Signals(0.0)
    slot = signals.add(1, 100 * MB, 0.0)
    counted = [signals.touch(slot, 10 + piece, MB, piece * int(MB)) for piece in range(50)]
    assert counted == [True] + [False] * 49
    assert signals.touch(slot, 60, MB, int(90 * MB))
    assert signals.touch(slot, 61, MB, int(3 * MB))
    assert signals.touch(slot, 500, MB, int(4 * MB)), "a longer pause begins another access"


def test_the_part_that_accesses_read_is_learned_from_what_has_ended() -> None:
    signals = Signals(0.0)
    slot = signals.add(1, 100 * MB, 0.0)
    for visit in range(12):
        for piece in range(10):
            signals.touch(slot, visit * HOUR_S + piece, MB, piece * int(MB))
    assert signals.use(slot, 0).part == pytest.approx(0.1, abs=0.04)


def test_readers_that_are_remembered_are_bounded() -> None:
    signals = Signals(0.0)
    for key in range(RUNS_MAX + 50):
        slot = signals.add(key, 10.0, 0.0)
        assert signals.touch(slot, 1.0, 1.0, 0)
    assert len(signals._runs._runs) == RUNS_MAX


def test_loaded_signals_are_those_that_were_dumped() -> None:
    signals = Signals(5.0)
    for key in range(300):
        signals.entered(signals.add(key, key, 6.0, kind=key % 16, hint=Hint.HOT), key % 3, 6.0)
    signals.touch(7, 100.0, None, None)
    signals.forget(signals.slot(9) or 0)
    loaded = Signals.load(drained(signals.dump()))
    assert drained(loaded.dump()) == drained(signals.dump())
    assert loaded.slot(9) is None
    assert loaded.use(loaded.slot(7) or 0, 200.0) == signals.use(7, 200.0)
    assert loaded.add(1000, 1.0, 7.0) == 9
