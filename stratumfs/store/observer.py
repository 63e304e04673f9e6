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
