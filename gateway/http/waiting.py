"""Connections that have no request under way: given up when they wait too long, the first to go when there are too
many, and at the end."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from gateway.limits import CONNECTION_IDLE_S


class Waiting:
    """The scopes in which connections wait, and since when, the one that has waited longest first.

    One task looks after all of them: a deadline that each had for itself would be moved twice with every request.
    *closing*: no request is taken.
    """

    def __init__(self) -> None:
        self._scopes: dict[trio.CancelScope, float] = {}
        self.closing = False

    async def serve(self) -> None:
        """Cancel who waits for longer than CONNECTION_IDLE_S, until cancelled."""
        while True:
            now = trio.current_time()
            since = next(iter(self._scopes.values()), now)
            if now - since >= CONNECTION_IDLE_S:
                self.end_oldest()
            else:  # who comes meanwhile has as long at least
                await trio.sleep_until(since + CONNECTION_IDLE_S)

    @contextmanager
    def within(self, scope: trio.CancelScope) -> Iterator[None]:
        """*scope* may be cancelled while the context lasts."""
        self.add(scope)
        try:
            yield
        finally:
            self.remove(scope)

    def add(self, scope: trio.CancelScope) -> None:
        self._scopes[scope] = trio.current_time()
        if self.closing:
            scope.cancel()

    def remove(self, scope: trio.CancelScope) -> None:
        self._scopes.pop(scope, None)

    def end_oldest(self) -> bool:
        """Whether there was one to end."""
        for scope in self._scopes:
            scope.cancel()
            self.remove(scope)
            return True
        return False

    def end_all(self) -> None:
        self.closing = True
        while self.end_oldest():
            pass
