"""Calls side by side in threads, of which the loop hears once: being woken costs it more than most of them take."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar

import trio
from outcome import Outcome, Value

from stratumfs.threads import start_thread

K = TypeVar("K")
T = TypeVar("T")


class Together(Generic[K, T]):
    """Each call has a turn, which is free when this is made and taken until the loop has heard that the call is back,
    whoever still waits. Used on the loop, but for `_deliver`.

    changed  set when the loop hears of calls, or by whoever wants it to look after them; then there is another event
    """

    def __init__(self, calls: Mapping[K, Callable[[], T]], turns: Mapping[K, trio.CapacityLimiter]) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._turns, self._count = turns, len(calls)
        self._back: dict[K, Outcome[T]] = {}
        self._heard: set[K] = set()
        self._of_each = False
        self.changed = trio.Event()
        for key, call in calls.items():
            turns[key].acquire_on_behalf_of_nowait(self)
            start_thread(call, partial(self._deliver, key))

    def done(self) -> set[K]:
        """Those whose call is back and has returned something that is false."""
        return {key for key, each in tuple(self._back.items()) if isinstance(each, Value) and not each.value}

    def hear_of_each(self) -> None:
        """From now on, and not of the last one alone."""
        self._of_each = True  # before the look: a call that comes back behind it sees that it is heard of
        self._hear()

    async def wait(self, key: K) -> T:
        """What this call returns, once each is heard of. Raises: what it raises."""
        while key not in self._back:
            await self.changed.wait()
        return self._back[key].unwrap()

    def look(self) -> None:
        """Wake whoever waits."""
        changed, self.changed = self.changed, trio.Event()
        changed.set()

    def _deliver(self, key: K, outcome: Outcome[T]) -> None:
        """In the thread of the call."""
        self._back[key] = outcome
        if self._of_each or len(self._back) == self._count:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._hear, idempotent=True)

    def _hear(self) -> None:
        for key in set(self._back) - self._heard:
            self._heard.add(key)
            self._turns[key].release_on_behalf_of(self)
        self.look()
