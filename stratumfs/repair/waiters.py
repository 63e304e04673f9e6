"""Those who wait until a round of something that begins after they asked has ended."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio


class Waiters:
    """On one loop."""

    def __init__(self) -> None:
        self._events: set[trio.Event] = set()

    def __bool__(self) -> bool:
        """Whether somebody waits for a round that has not begun."""
        return bool(self._events)

    async def wait(self, soon: Callable[[], None]) -> None:
        """Return when a round that begins after this call has ended, or has failed. *soon*: wakes who makes rounds."""
        event = trio.Event()
        self._events.add(event)
        soon()
        try:
            await event.wait()
        finally:
            self._events.discard(event)

    @contextmanager
    def round(self) -> Iterator[None]:
        """One, in the block."""
        events, self._events = self._events, set()
        try:
            yield
        finally:
            for event in events:
                event.set()
