"""Whether a body makes progress: who sends next to nothing must not hold a connection, a handler and its memory."""

import trio

from gateway.limits import BODY_WINDOW_MIN, BODY_WINDOW_S


class Pace:
    """Counts time that is spent waiting for the client, not what is spent on its bytes, in windows that end with
    ``BODY_WINDOW_MIN`` bytes: a body that is slow but moves begins the next one."""

    __slots__ = ("_came", "_left_s", "_since")

    def __init__(self) -> None:
        self._came, self._left_s, self._since = 0, BODY_WINDOW_S, 0.0

    def wait(self) -> trio.CancelScope:
        """In this scope the client is waited for; it is cancelled when it was given enough time."""
        self._since = trio.current_time()
        return trio.CancelScope(deadline=self._since + self._left_s)

    def came(self, count: int) -> None:
        """So many bytes, in the last wait."""
        self._came += count
        self._left_s -= trio.current_time() - self._since
        if self._came >= BODY_WINDOW_MIN:
            self._came, self._left_s = 0, BODY_WINDOW_S
