"""An array over another one: what is written to it lies beside, so it is made at once, whatever its length."""

from array import array
from collections.abc import Iterator
from typing import Any, cast


class _Layered:
    """As much of an array as columns and members need. *below* does not change while this is used."""

    def __init__(self, below: "array[Any]") -> None:
        self._below = below
        self._count = len(below)
        self._written: dict[int, Any] = {}
        self._one = array(below.typecode, [0])

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        return (self[at] for at in range(self._count))

    def __getitem__(self, at: int) -> Any:
        written = self._written
        return written[at] if at in written else self._below[at]

    def __setitem__(self, at: int, value: Any) -> None:
        self._one[0] = value  # rounded, or refused, as the array would
        self._written[at] = self._one[0]

    def append(self, value: Any) -> None:
        self[self._count] = value
        self._count += 1

    def pop(self) -> Any:
        self._count -= 1
        return self[self._count]


def layered(below: "array[Any]") -> "array[Any]":
    """Reads what lies *below*, until it is written here. Positions are not negative."""
    return cast("array[Any]", _Layered(below))
