"""How long work in a thread tells that it goes on, and learns that nobody waits for it any more."""

from collections.abc import Callable

Step = Callable[[], None]
"""Called by the work after each of its steps. Raises: GivenUp."""


class GivenUp(Exception):
    """Whoever waited for this work does not any more."""


class Progress:
    """Of one work: ``steps`` is counted by its thread and looked at by the loop."""

    def __init__(self) -> None:
        self.steps = 0
        self._given_up = False

    def step(self) -> None:
        if self._given_up:
            raise GivenUp
        self.steps += 1

    def give_up(self) -> None:
        """The work ends at its next step."""
        self._given_up = True


def unwatched() -> None:
    """The step of a work that somebody waits for whatever it takes."""
