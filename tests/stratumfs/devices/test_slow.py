"""Devices beside their peers."""

from stratumfs.devices.slow import NO_CALLS, Calls, slow_beside
from stratumfs.limits import SLOW_CALLS_MIN, SLOW_S, SLOW_TIMES

QUICK = Calls(100, 100 * 0.01)


def of(mean_s: float, count: int = 100) -> Calls:
    return Calls(count, count * mean_s)


def test_one_that_is_ten_times_slower_than_the_others_is_slow() -> None:
    found = slow_beside({"a": of(0.1), "b": QUICK, "c": QUICK, "d": of(0.02)})
    assert found.keys() == {"a"}
    mean_s, others_s = found["a"]
    assert round(mean_s, 6) == 0.1
    assert round(others_s, 6) == 0.01


def test_nobody_is_slow_where_all_are_or_for_a_little() -> None:
    assert slow_beside({"a": of(1.0), "b": of(0.9), "c": of(0.8)}) == {}
    assert slow_beside({"a": of(SLOW_TIMES * 0.01 * 0.99), "b": QUICK, "c": QUICK}) == {}
    assert slow_beside({"a": of(SLOW_S * 0.99), "b": of(0.0001), "c": of(0.0001)}) == {}


def test_few_calls_and_one_peer_say_nothing() -> None:
    assert slow_beside({"a": of(1.0, SLOW_CALLS_MIN - 1), "b": QUICK, "c": QUICK}) == {}
    assert slow_beside({"a": of(1.0), "b": QUICK, "c": of(0.01, 1), "d": NO_CALLS}) == {}


def test_calls_are_counted_from_a_moment_on() -> None:
    assert Calls(10, 5.0).since(Calls(4, 2.0)) == Calls(6, 3.0)
