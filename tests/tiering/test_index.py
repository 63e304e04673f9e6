"""The table from keys to slots, against a dict."""

import random
from array import array
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from tiering.index import DIVIDED, KeyIndex

KEYS = st.integers(-(1 << 63), (1 << 63) - 1)


@given(st.lists(st.tuples(st.sampled_from(["add", "remove"]), st.integers(0, 40)), max_size=400), st.lists(KEYS))
def test_it_is_a_dict(steps: list[tuple[str, int]], far: list[int]) -> None:
    keys = array("q")
    index = KeyIndex(keys)
    model: dict[int, int] = {}
    for key in far:
        steps.append(("add", key))
    for step, key in steps:
        if step == "add" and key not in model:
            model[key] = len(keys)
            keys.append(key)
            index.add(model[key])
        elif step == "remove" and key in model:
            index.remove(model.pop(key))
    assert len(index) == len(model)
    assert {key: index.get(key) for key in [*range(41), *far]} == {key: model.get(key) for key in [*range(41), *far]}


def test_a_key_costs_at_most_eight_bytes() -> None:
    keys = array("q", range(10_000))
    index = KeyIndex(keys)
    for slot in range(len(keys)):
        index.add(slot)
        if slot > 500:
            assert index.nbytes <= 8 * len(index)


def test_no_step_grows_with_the_number_of_keys() -> None:
    keys = array("q")
    index = KeyIndex(keys)
    entered: list[int] = []
    with patch.object(
        KeyIndex, "_enter", lambda self, table, slot, enter=KeyIndex._enter: _counted(entered, enter(self, table, slot))
    ):
        for key in range(40_000):
            keys.append(key * 8)
            before = len(entered)
            index.add(key)
            assert len(entered) - before <= DIVIDED * 7 // 5
    rng = random.Random(1)
    gone = set(rng.sample(range(len(keys)), 25_000))
    for slot in gone:
        index.remove(slot)
    assert all(index.get(keys[slot]) == (None if slot in gone else slot) for slot in range(len(keys)))


def _counted(entered: list[int], done: None) -> None:
    entered.append(1)


def test_keys_whose_hashes_begin_alike_make_no_long_list_of_tables() -> None:
    inverse = pow(0x9E37_79B9_7F4A_7C15, -1, 1 << 64)
    keys = array("q", [(hashed * inverse + (1 << 63)) % (1 << 64) - (1 << 63) for hashed in range(2000)])
    index = KeyIndex(keys)
    for slot in range(len(keys)):
        index.add(slot)
    assert [index.get(key) for key in keys] == list(range(len(keys)))
    assert index.nbytes <= 8 * len(keys) + 1000
