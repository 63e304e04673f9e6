"""A state of the policy among more tiers than it was dumped with: tiers are numbers in it, by how fast they are."""

from collections.abc import Mapping, Sequence
from typing import Any

from tiering.signals import HINTS, NOWHERE, Hint


def among(state: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """*state* with the numbers that its tiers have among *names*; ``residents`` of a tier that is new are None.

    Raises: ValueError if one of its tiers is not among them.
    """
    known: Sequence[str] = state["tiers"]
    if not set(known) <= set(names):
        raise ValueError("the state is of other tiers")
    numbers = [names.index(name) for name in known]
    signals = state["signals"]
    columns = dict(signals["columns"])
    columns["tier"] = [chunk.translate(_tiers(numbers)) for chunk in columns["tier"]]
    columns["wish"] = [chunk.translate(_wishes(numbers)) for chunk in columns["wish"]]
    return {
        **state,
        "signals": {**signals, "columns": columns},
        **{name: _spread(state[name], numbers, len(names), 0.0) for name in ("used", "room_price")},
        "residents": _spread(state["residents"], numbers, len(names), None),
        "left": [[key, numbers[tier], *rest] for key, tier, *rest in state["left"]],
    }


def _spread(values: Sequence[Any], numbers: Sequence[int], count: int, new: Any) -> list[Any]:
    found = [new] * count
    for number, value in zip(numbers, values, strict=True):
        found[number] = value
    return found


def _tiers(numbers: Sequence[int]) -> bytes:
    table = bytearray(range(256))
    table[: len(numbers)] = bytes(numbers)
    assert table[NOWHERE] == NOWHERE
    return bytes(table)


def _wishes(numbers: Sequence[int]) -> bytes:
    """The hint is the lower half of the byte."""
    table = bytearray(range(256))
    for at in range(256):
        tier = at % HINTS - Hint.PIN_FIRST
        if 0 <= tier < len(numbers):
            table[at] = at - tier + numbers[tier]
    return bytes(table)
