"""The MD5 of a file that is written from its first byte on, in order: its ETag, as S3 knows it."""

from collections.abc import Callable

import trio

from stratumfs.store.digest import StreamDigest


class WholeDigest:
    """Follows the writes of one file. From the first one that is out of order there is no digest, until it is emptied.

    Owned by one buffer, used on the loop; hashing may be in a thread, and keeps what it is given. ``hashed`` is set
    when the last write is hashed; None if that was at once.
    """

    def __init__(self, make: Callable[[], StreamDigest], size: int) -> None:
        """*size* is of the file now: only an empty one can be followed."""
        self._make = make
        self._stream: StreamDigest | None = None
        self._next: int | None = None
        self._held: list[bytes] | None = None
        self.hashed: trio.Event | None = None
        self.truncated(size)

    def truncated(self, size: int) -> None:
        if size == self._next:
            return
        self._next = 0 if size == 0 else None
        self._stream = self._make() if size == 0 else None
        self._held = None

    def wrote(self, offset: int, data: bytes) -> None:
        """*data* is never changed afterwards."""
        if self._stream is None:
            return
        if offset != self._next:
            self._next = self._stream = self._held = None
            return
        self._next += len(data)
        if self._held is not None:
            self._held.append(data)
        else:
            self.hashed = self._stream.update(data)

    async def value(self, size: int) -> str | None:
        """MD5 in hex of the first *size* bytes, if that is all that was written until this call.

        What is written while this waits is hashed afterwards. One call at a time.
        """
        stream = self._stream
        if stream is None or self._next != size:
            return None
        held = self._held = []
        try:
            return (await stream.digest()).hex()
        finally:
            if self._held is held:
                self._held = None
                for data in held:
                    self.hashed = stream.update(data)
