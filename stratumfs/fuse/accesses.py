"""Access times (relatime): noted in memory, written together."""

from collections.abc import Callable, Collection

import structlog
import trio

from stratumfs.errors import StratumError
from stratumfs.ids import InodeNo
from stratumfs.limits import READS_NOTED_MAX, READS_NOTED_S
from stratumfs.store.namespace import Namespace

_log = structlog.get_logger(__name__)
_WAITING_MAX = 10 * READS_NOTED_MAX


class Accesses:
    """Reads that are noted and not written yet: stat shows them at once.

    Owned by a mount, used on the loop. *written* is told of inodes whose time the kernel may have cached otherwise.
    A crash loses the last second of them, an error all that were waiting: nobody relies on them.
    """

    def __init__(self, files: Namespace, written: Callable[[Collection[InodeNo]], None]) -> None:
        self._files, self._written = files, written
        self._noted: dict[InodeNo, int] = {}
        self._many = trio.Event()

    def note(self, ino: InodeNo, atime_ns: int) -> None:
        if len(self._noted) >= _WAITING_MAX:
            return
        self._noted[ino] = atime_ns
        if len(self._noted) >= READS_NOTED_MAX:
            self._many.set()

    def drop(self, ino: InodeNo) -> None:
        """The time was set by somebody, after the read."""
        self._noted.pop(ino, None)

    def atime_ns(self, ino: InodeNo, committed_ns: int) -> int:
        """The time to show."""
        return self._noted.get(ino, committed_ns)

    async def serve(self) -> None:
        """Write what is noted once a second, or when it is much, until cancelled."""
        while True:
            with trio.move_on_after(READS_NOTED_S):
                await self._many.wait()
            self._many = trio.Event()
            await self.write()

    async def write(self) -> None:
        while self._noted:
            reads = list(self._noted.items())[:READS_NOTED_MAX]
            try:
                await self._files.note_reads(reads)
            except StratumError as error:
                _log.info("access times were not written", error=str(error))
            for ino, atime_ns in reads:
                if self._noted.get(ino) == atime_ns:
                    del self._noted[ino]
            self._written([ino for ino, _ in reads])
