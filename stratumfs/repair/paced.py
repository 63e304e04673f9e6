"""How a rebuild leaves the devices to the doors, and how many volumes are repaired at once. Pure."""

from collections.abc import Callable


class Doors:
    """Whether anybody asks at the doors; each who wants to know has one of these.

    accesses  counts what they are asked for
    """

    def __init__(self, accesses: Callable[[], int]) -> None:
        self._accesses = accesses
        self._seen = accesses()

    @property
    def asked(self) -> bool:
        """Since this was asked last."""
        before, self._seen = self._seen, self._accesses()
        return before != self._seen


def rest_s(seconds: float, margin: int, beside: int) -> float:
    """Behind a step that took *seconds* while somebody asks at the doors: they come first, but for a volume that the
    next loss would destroy, of *margin* 0. beside: other volumes that are repaired; together they take as much as one
    does alone."""
    return seconds * ((1 + margin) * (1 + beside) - 1)
