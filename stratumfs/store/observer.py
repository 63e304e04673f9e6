"""What the doors report of each access: the tier engine listens."""

from typing import Protocol

from stratumfs.ids import InodeNo


class AccessObserver(Protocol):
    """Told of bytes that a user read or wrote; must return at once and never raise."""

    def read(self, ino: InodeNo, count: int, offset: int) -> None:
        """*count* bytes from *offset* on: of one GET, or of one request of the kernel."""
        ...

    def wrote(self, ino: InodeNo, count: int) -> None: ...


class NullObserver:
    """Nobody listens."""

    def read(self, ino: InodeNo, count: int, offset: int) -> None:
        pass

    def wrote(self, ino: InodeNo, count: int) -> None:
        pass


class Foreground:
    """Counts accesses, and hands them on: background work asks whether somebody is there."""

    def __init__(self, observer: AccessObserver) -> None:
        self.accesses = 0
        self._observer = observer

    def attend(self, observer: AccessObserver) -> None:
        """From now on *observer* is told."""
        self._observer = observer

    def stir(self) -> None:
        """Somebody is there, in the middle of an access."""
        self.accesses += 1

    def read(self, ino: InodeNo, count: int, offset: int) -> None:
        self.accesses += 1
        self._observer.read(ino, count, offset)

    def wrote(self, ino: InodeNo, count: int) -> None:
        self.accesses += 1
        self._observer.wrote(ino, count)


class Explainer(Protocol):
    """Says where the bytes of an inode are. The doors ask it and never learn who stands behind it."""

    async def tier(self, ino: InodeNo) -> str:
        """The tiers in which it is, most of it first, with commas; ``catalog`` if in none. Raises: NotFound."""
        ...

    async def attribute(self, ino: InodeNo, *, trusted: bool) -> bytes:
        """All that there is to say, as JSON on one line, of at most XATTR_VALUE_MAX bytes.

        trusted  False: of a file what is of that file, and of no other. Raises: NotFound, NotPermitted, StoreBusy.
        """
        ...

    async def explanation_of(self, bucket: str, key: bytes) -> str:
        """All that there is to say, as JSON, of an object, else of all below ``key/``; with an empty key of the bucket.

        Raises: NoSuchBucket, NoSuchObject, StoreBusy.
        """
        ...
