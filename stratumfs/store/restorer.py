"""Who brings objects back for the S3 door. The owner hands one in; the door never learns who stands behind it."""

from typing import Protocol

from stratumfs.ids import InodeNo


class Restorer(Protocol):
    async def restore(self, ino: InodeNo, reason: str) -> None:
        """Begin to bring an object into the fastest tier: durable, so that the next owner goes on with it.

        Raises: StoreBusy, StoreReadOnly, NotFound.
        """
        ...

    def restoring(self, ino: InodeNo) -> bool:
        """It was begun, and has not ended."""
        ...
