"""What the doors report of each access; the tier engine will listen."""

from typing import Protocol

from stratumfs.ids import InodeNo


class AccessObserver(Protocol):
    """Told of bytes that a user read or wrote; must return at once and never raise."""

    def read(self, ino: InodeNo, count: int) -> None: ...

    def wrote(self, ino: InodeNo, count: int) -> None: ...


class NullObserver:
    """Nobody listens."""

    def read(self, ino: InodeNo, count: int) -> None:
        pass

    def wrote(self, ino: InodeNo, count: int) -> None:
        pass


class Foreground:
    """Counts accesses, and hands them on: background work asks whether somebody is there."""

    def __init__(self, observer: AccessObserver) -> None:
        self.accesses = 0
        self._observer = observer

    def read(self, ino: InodeNo, count: int) -> None:
        self.accesses += 1
        self._observer.read(ino, count)

    def wrote(self, ino: InodeNo, count: int) -> None:
        self.accesses += 1
        self._observer.wrote(ino, count)


class Explainer(Protocol):
    """Says where the bytes of an inode are. The doors ask it and never learn who stands behind it."""

    async def tier(self, ino: InodeNo) -> str:
        """The tiers in which it is, most of it first, with commas; ``catalog`` if in none. Raises: NotFound."""
        ...

    async def explanation(self, ino: InodeNo) -> str:
        """All that there is to say, as JSON on one line. Raises: NotFound."""
        ...
