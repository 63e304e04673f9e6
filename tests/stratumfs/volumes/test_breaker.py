"""A service that fails is left alone for a while, then asked once."""

import pytest

from stratumfs.limits import REMOTE_FAILURES, REMOTE_REST_S, REMOTE_REST_S_MAX
from stratumfs.volumes.breaker import Breaker


@pytest.fixture
def broken() -> Breaker:
    """Its calls have failed at 100 s."""
    breaker = Breaker()
    for _ in range(REMOTE_FAILURES):
        assert breaker.refuses_s(100.0) == 0
        breaker.failed(100.0, breaker.begin())
    return breaker


def test_a_few_failures_are_nothing() -> None:
    breaker = Breaker()
    for _ in range(10):
        for _ in range(REMOTE_FAILURES - 1):
            breaker.failed(100.0, breaker.begin())
        assert breaker.refuses_s(100.0) == 0
        breaker.begin()
        breaker.answered()


def test_calls_are_refused_until_the_rest_is_over(broken: Breaker) -> None:
    assert broken.refuses_s(100.0) == REMOTE_REST_S
    assert broken.refuses_s(101.0) == REMOTE_REST_S - 1
    assert broken.refuses_s(100.0 + REMOTE_REST_S) == 0


def test_calls_that_were_made_together_rest_once(broken: Breaker) -> None:
    for _ in range(100):
        broken.failed(103.0, False)
    assert broken.refuses_s(100.0 + REMOTE_REST_S) == 0


def test_one_call_is_tried_and_decides_for_all(broken: Breaker) -> None:
    now = 100.0
    for rest in (10.0, 20.0, 40.0, REMOTE_REST_S_MAX, REMOTE_REST_S_MAX):
        now += broken.refuses_s(now)
        assert broken.begin()
        assert broken.refuses_s(now + 1) > 0
        broken.failed(now, True)
        broken.left(True)
        assert broken.refuses_s(now) == rest
    now += REMOTE_REST_S_MAX
    assert broken.begin()
    broken.answered()
    assert broken.refuses_s(now) == 0
    assert not broken.begin()


def test_a_call_that_is_left_decides_nothing(broken: Breaker) -> None:
    now = 100.0 + REMOTE_REST_S
    broken.begin()
    broken.left(True)
    assert broken.refuses_s(now) == 0
