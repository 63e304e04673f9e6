"""The table from keys to slots, against a dict."""

from array import array

from hypothesis import given
from hypothesis import strategies as st

from tiering.index import KeyIndex

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
