"""Transactions that are committed and not yet on stable storage: what they touched, and what a replay would need.

Owned by the engine and used on the loop alone. Three maps answer "which is the last of them that touched this?" in
one look-up each, so that an answer waits for the round that concerns it and for no other.
"""

from collections import deque
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from stratumfs.catalog.transaction import Seen, Touched
from stratumfs.ids import InodeNo


class Call(NamedTuple):
    """One function that ran, as a replay would run it again: the result must come out the same."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    result: Any
    touched: Touched


class Unsynced:
    def __init__(self) -> None:
        self._transactions: deque[tuple[int, tuple[Call, ...]]] = deque()
        self._inodes: dict[InodeNo, int] = {}
        self._names: dict[tuple[InodeNo, bytes], int] = {}
        self._directories: dict[InodeNo, int] = {}

    def __len__(self) -> int:
        return len(self._transactions)

    def add(self, sequence: int, calls: tuple[Call, ...]) -> None:
        """Transaction *sequence*, larger than all before, was committed."""
        self._transactions.append((sequence, calls))
        for call in calls:
            for ino in call.touched.inodes:
                self._inodes[ino] = sequence
            for name in call.touched.names:
                self._names[name] = sequence
                self._directories[name[0]] = sequence

    def last(self, inodes: Collection[InodeNo] = (), names: Collection[tuple[InodeNo, bytes]] = ()) -> int:
        """The sequence of the last unsynced transaction that touched any of these; 0 if none did."""
        if not self._transactions:
            return 0
        return max(_last(self._inodes, inodes), _last(self._names, names))

    def last_seen(self, seen: Seen) -> int:
        """The same for all that a read relied upon."""
        if not self._transactions:
            return 0
        return max(self.last(seen.inodes, seen.names), _last(self._directories, seen.directories))

    def kept(self) -> list[tuple[int, tuple[Call, ...]]]:
        """What a replay would run, oldest first."""
        return list(self._transactions)

    def synced(self, sequence: int) -> None:
        """Forget all up to and including *sequence*."""
        while self._transactions and self._transactions[0][0] <= sequence:
            number, calls = self._transactions.popleft()
            for call in calls:
                for ino in call.touched.inodes:
                    _forget(self._inodes, ino, number)
                for name in call.touched.names:
                    _forget(self._names, name, number)
                    _forget(self._directories, name[0], number)


def _last(table: dict[Any, int], keys: Collection[Any]) -> int:
    """A page of a listing has seen a thousand inodes; unsynced are mostly few."""
    return max([table[key] for key in keys if key in table], default=0)


def _forget(table: dict[Any, int], key: Any, number: int) -> None:
    """A later transaction that touched the same keeps its mark."""
    if table.get(key) == number:
        del table[key]
