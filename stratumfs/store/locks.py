"""One lock for each inode that somebody is changing."""

from stratumfs.ids import InodeNo
from stratumfs.turn import Turn


class InodeLock:
    """Of one inode, among *locks* as long as somebody holds or awaits it."""

    __slots__ = ("_ino", "_locks", "_turn", "_users")

    def __init__(self, locks: "dict[InodeNo, InodeLock]", ino: InodeNo) -> None:
        self._locks, self._ino = locks, ino
        self._turn = Turn()
        self._users = 0

    async def __aenter__(self) -> None:
        self._locks[self._ino] = self
        self._users += 1
        try:
            await self._turn.__aenter__()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        await self._turn.__aexit__()
        self._leave()

    def _leave(self) -> None:
        self._users -= 1
        if not self._users:
            del self._locks[self._ino]


class InodeLocks:
    """From queueing a durable change of an inode until its transaction whoever else changes it waits.

    Owned by the store, used on the loop.
    """

    def __init__(self) -> None:
        self._locks: dict[InodeNo, InodeLock] = {}

    def holding(self, ino: InodeNo) -> InodeLock:
        """To be entered at once."""
        return self._locks.get(ino) or InodeLock(self._locks, ino)
