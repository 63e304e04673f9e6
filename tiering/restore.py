"""What S3's RestoreObject asks for is a move to the fastest tier, with its row, as if somebody had typed it."""

import os

from stratumfs.ids import InodeNo
from tiering.move import Mover


class MoveRestorer:
    """A `Restorer` over a mover. *tier*: where to."""

    def __init__(self, mover: Mover, tier: str) -> None:
        self._mover, self._tier = mover, tier

    async def restore(self, ino: InodeNo, reason: str) -> None:
        if not self.restoring(ino):
            await self._mover.ask(ino, self._tier, os.getuid(), reason)

    def restoring(self, ino: InodeNo) -> bool:
        return any(each.row.ino == ino and each.row.tier == self._tier for each in self._mover)
