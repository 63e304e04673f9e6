"""The checker of histories, on histories that are known to be right and wrong."""

import itertools
import random

import pytest

from tools.rehearsals._linear import ABSENT, UNKNOWN, Call, Do, State, ahead, impossible, step


def _call(do: Do, begun: int, ended: int, outcome: object = True, value: State = ABSENT) -> Call:
    return Call(do, begun, ended, outcome, value)


RIGHT = {
    "nothing": [],
    "one after the other": [_call(Do.WRITE, 0, 1, value=1), _call(Do.READ, 2, 3, 1)],
    "a read beside a write sees either": [_call(Do.WRITE, 0, 9, value=1), _call(Do.READ, 1, 2, ABSENT)],
    "or the other": [_call(Do.WRITE, 0, 9, value=1), _call(Do.READ, 1, 2, 1)],
    "two writes in the other order": [
        _call(Do.WRITE, 0, 9, value=1),
        _call(Do.WRITE, 1, 8, value=2),
        _call(Do.READ, 10, 11, 1),
    ],
    "one of two makes": [_call(Do.MAKE, 0, 9, True, 1), _call(Do.MAKE, 0, 9, False, 2), _call(Do.READ, 10, 11, 1)],
    "taken once": [_call(Do.WRITE, 0, 1, value=1), _call(Do.TAKE, 2, 5, True), _call(Do.TAKE, 3, 6, False)],
    "unknown and happened": [_call(Do.WRITE, 0, 5, UNKNOWN, 1), _call(Do.READ, 6, 7, 1)],
    "unknown and did not": [_call(Do.WRITE, 0, 5, UNKNOWN, 1), _call(Do.READ, 6, 7, ABSENT)],
    "unknown, seen before it ended": [_call(Do.WRITE, 0, 9, UNKNOWN, 1), _call(Do.READ, 1, 2, 1)],
    "an unknown delete": [
        _call(Do.WRITE, 0, 1, value=1),
        _call(Do.DELETE, 2, 5, UNKNOWN),
        _call(Do.READ, 3, 4, 1),
        _call(Do.SEEN, 6, 7, False),
    ],
}
WRONG = {
    "a stale read": [_call(Do.WRITE, 0, 1, value=1), _call(Do.WRITE, 2, 3, value=2), _call(Do.READ, 4, 5, 1)],
    "lost": [_call(Do.WRITE, 0, 1, value=1), _call(Do.READ, 2, 3, ABSENT)],
    "there again": [_call(Do.WRITE, 0, 1, value=1), _call(Do.DELETE, 2, 3), _call(Do.SEEN, 4, 5, True)],
    "nobody wrote it": [_call(Do.READ, 0, 1, 7)],
    "seen before it began": [_call(Do.READ, 0, 1, 1), _call(Do.WRITE, 2, 3, value=1)],
    "new, then old again": [
        _call(Do.WRITE, 0, 1, value=1),
        _call(Do.WRITE, 2, 9, value=2),
        _call(Do.READ, 3, 4, 2),
        _call(Do.READ, 5, 6, 1),
    ],
    "made twice": [_call(Do.MAKE, 0, 9, True, 1), _call(Do.MAKE, 0, 9, True, 2)],
    "taken twice": [_call(Do.WRITE, 0, 1, value=1), _call(Do.TAKE, 2, 5, True), _call(Do.TAKE, 3, 6, True)],
    "unknown, and happened after its end": [
        _call(Do.WRITE, 0, 5, UNKNOWN, 1),
        _call(Do.READ, 6, 7, ABSENT),
        _call(Do.READ, 8, 9, 1),
    ],
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(name: str) -> None:
    assert impossible(RIGHT[name]) is None


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_does_not(name: str) -> None:
    assert impossible(WRONG[name]) is not None


def _history(rng: random.Random, length: int) -> list[Call]:
    """Of a file that is one: each call happens at a moment, and is seen to begin before and to end after it."""
    state: State = ABSENT
    calls = []
    for moment in range(100, 10 * length + 100, 10):
        do, begun, ended = rng.choice(list(Do)), moment - rng.randrange(1, 40), moment + rng.randrange(1, 40)
        outcome: object = state
        if do is not Do.READ:
            outcome = state is not ABSENT if do is Do.SEEN else step(state, Call(do, begun, ended, True, moment))[0]
        call = Call(do, begun, ended, outcome, moment)
        state = step(state, call)[1]
        calls.append(Call(do, begun, ended, UNKNOWN, moment) if rng.random() < 0.05 else call)
    rng.shuffle(calls)
    return calls


def test_what_is_ahead_may_show_what_is_not_answered_and_nothing_older() -> None:
    written, deleted = _call(Do.WRITE, 0, 1, value=1), _call(Do.DELETE, 4, 20)
    listed, read = _call(Do.SEEN, 5, 6, False), _call(Do.READ, 8, 9, 1)
    assert impossible([written, deleted, listed, read]) is not None
    assert impossible([written, deleted, ahead(listed, [written, deleted]), read]) is None
    late = _call(Do.READ, 21, 22, 1)
    assert impossible([written, deleted, ahead(listed, [written, deleted]), late]) is not None
    stale = _call(Do.SEEN, 21, 22, True)
    assert impossible([written, deleted, ahead(stale, [written, deleted])]) is not None


@pytest.mark.parametrize("seed", range(20))
def test_what_one_file_has_done_passes(seed: int) -> None:
    assert impossible(_history(random.Random(seed), 200)) is None


def _by_trying(calls: list[Call]) -> bool:
    """Every order of every subset that leaves out unknown ones only."""
    unknown = [number for number, call in enumerate(calls) if call.unknown]
    for count in range(len(unknown) + 1):
        for left_out in itertools.combinations(unknown, count):
            chosen = [call for number, call in enumerate(calls) if number not in left_out]
            if any(map(_explains, itertools.permutations(chosen))):
                return True
    return False


def _explains(order: tuple[Call, ...]) -> bool:
    state: State = ABSENT
    for number, call in enumerate(order):
        if any(later.ended < call.begun for later in order[number + 1 :]):
            return False
        possible, state = step(state, call)
        if not possible:
            return False
    return True


@pytest.mark.parametrize("seed", range(30))
def test_it_agrees_with_trying_every_order(seed: int) -> None:
    rng = random.Random(seed)
    right = 0
    for _ in range(20):
        calls = []
        for value in range(5):
            begun = rng.randrange(20)
            do = rng.choice(list(Do))
            outcome: object = rng.choice((ABSENT, *range(5))) if do is Do.READ else rng.random() < 0.5
            if do in (Do.WRITE, Do.DELETE):
                outcome = True
            if rng.random() < 0.2:
                outcome = UNKNOWN
            # No two at one moment, where the two might see another order.
            calls.append(Call(do, begun * 2, (begun + rng.randrange(1, 12)) * 2 + 1, outcome, value))
        right += (impossible(calls) is None) == _by_trying(calls)
    assert right == 20
