"""Connections that have no request under way: the first to go when there are too many, and at the end."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio


class Waiting:
    """The scopes in which connections wait, the one that has waited longest first. *closing*: no request is taken."""

    def __init__(self) -> None:
        self._scopes: dict[trio.CancelScope, None] = {}
        self.closing = False

    @contextmanager
    def within(self, scope: trio.CancelScope) -> Iterator[None]:
        """*scope* may be cancelled while the context lasts."""
        self.add(scope)
        try:
            yield
        finally:
            self.remove(scope)

    def add(self, scope: trio.CancelScope) -> None:
        self._scopes[scope] = None
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
