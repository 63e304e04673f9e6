"""The buffers of all files that somebody has open for writing, and what is still to be published of closed ones."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import structlog
import trio

from stratumfs.errors import StratumError
from stratumfs.fuse.background import Starter
from stratumfs.fuse.buffer import FileBuffer
from stratumfs.fuse.memory import Memory
from stratumfs.ids import InodeNo
from stratumfs.limits import PENDING_AGE_S_MAX, PENDING_MEMORY_MAX, PENDING_SWEEP_S
from stratumfs.store.store import Store
from stratumfs.values import Attributes

_log = structlog.get_logger(__name__)


class Buffers:
    """At most one buffer an inode. It lives while it has users or anything is pending; an error keeps it pending.

    Each buffer holds its inode, so that what was unlinked meanwhile can still be read and written, and the volumes of
    its pending stripes, however long their publication fails. Used on the loop; background work goes where it was told
    to.
    """

    def __init__(
        self,
        store: Store,
        background: Starter,
        published: Callable[[Attributes], None],
        memory_max: int = PENDING_MEMORY_MAX,
    ) -> None:
        self.late_errors = 0
        self._store, self._background, self._published = store, background, published
        self._memory = Memory(memory_max)
        self._buffers: dict[InodeNo, FileBuffer] = {}

    def __iter__(self) -> Iterator[FileBuffer]:
        return iter(list(self._buffers.values()))

    @property
    def full(self) -> bool:
        """Pending writes take more memory than they may."""
        return self._memory.full

    def get(self, ino: InodeNo) -> FileBuffer | None:
        return self._buffers.get(ino)

    def open(self, attributes: Attributes) -> FileBuffer:
        """The buffer of an inode; *attributes* were read without an await since. Pair with ``close``."""
        buffer = self._buffers.get(attributes.ino)
        if buffer is None:
            self._store.holds.take(attributes.ino)
            buffer = FileBuffer(
                self._store, self._background, self._memory, attributes.ino, attributes.size, self._published
            )
            self._store.writer.keep(buffer)
            self._buffers[attributes.ino] = buffer
        buffer.users += 1
        return buffer

    async def close(self, buffer: FileBuffer) -> None:
        """One user fewer. The last one publishes what is pending; an error is logged, and tried again by the sweep."""
        buffer.users -= 1
        if not buffer.users and buffer.pending:
            await self._publish_closed(buffer)
        self._settle(buffer)

    def forgotten(self, ino: InodeNo) -> None:
        """The kernel knows the inode no more: if it has no name either, nobody will read what is pending."""
        buffer = self._buffers.get(ino)
        if buffer is not None and buffer.unlinked and not buffer.users and not buffer.publishing.locked():
            buffer.discard()
            self._settle(buffer)

    @asynccontextmanager
    async def using(self, attributes: Attributes) -> AsyncIterator[FileBuffer]:
        """The buffer for the length of one call."""
        buffer = self.open(attributes)
        try:
            yield buffer
        finally:
            with trio.CancelScope(shield=True):
                await self.close(buffer)

    def publish_soon(self, buffer: FileBuffer) -> None:
        """Start a publication that nobody waits for."""
        buffer.users += 1
        self._background.start_soon(self._publish_in_background, buffer)

    async def make_room(self, buffer: FileBuffer) -> None:
        """Wait until pending writes take no more memory than they may: the writer's own go first, or the largest.

        Raises: what keeps them from going to the devices, for then no memory comes free.
        """
        while self._memory.full:
            largest = max(self._buffers.values(), key=_memory_bytes)
            await (buffer if buffer.memory_bytes * 2 >= largest.memory_bytes else largest).shrink()
            await trio.lowlevel.checkpoint()

    async def sweep(self) -> None:
        """Publish what is older than it may be, until cancelled; also of a file without a name that is still read."""
        while True:
            await trio.sleep(PENDING_SWEEP_S)
            due = trio.current_time() - PENDING_AGE_S_MAX
            if self._store.read_only is not None:
                continue
            for buffer in self:
                if buffer.since <= due and not buffer.publishing.locked():
                    self.publish_soon(buffer)

    async def publish_all(self) -> None:
        """At the end: everything that is pending, durably. What cannot be published is logged."""
        async with trio.open_nursery() as nursery:
            for buffer in self:
                nursery.start_soon(self._publish_last, buffer)

    def let_go_all(self) -> None:
        """The kernel is gone, and with it all who had one open: what could not be published is given up. A publication
        that is under way still keeps its buffer."""
        for buffer in self:
            if not buffer.publishing.locked():
                buffer.discard()
                self._drop(buffer)

    def statistics(self) -> dict[str, int]:
        return {
            "buffers": len(self._buffers),
            "buffer_memory_bytes": self._memory.used,
            "pending_bytes": sum(buffer.pending_bytes for buffer in self),
            "late_errors": self.late_errors,
        }

    async def _publish_in_background(self, buffer: FileBuffer) -> None:
        try:
            # Not held over the round: whoever publishes or renames next needs the order alone.
            await buffer.publish(durable=False)
            await self._store.files.settle([buffer.ino], hurry=False)
        except StratumError as error:
            self._failed(buffer, error)
        finally:
            buffer.users -= 1
            self._settle(buffer)

    async def _publish_closed(self, buffer: FileBuffer) -> None:
        try:
            # Who has it open for reading still reads what is pending, until the kernel forgets the inode.
            buffer.unlinked = (await self._store.files.attributes(buffer.ino)).nlink == 0
            if not buffer.unlinked:
                await buffer.publish(durable=False)
        except StratumError as error:
            self._failed(buffer, error)

    async def _publish_last(self, buffer: FileBuffer) -> None:
        try:
            await buffer.publish(durable=True)
        except StratumError as error:
            self._failed(buffer, error)
            _log.error("writes were lost at the end of the mount", inode=buffer.ino, bytes=buffer.pending_bytes)

    def _settle(self, buffer: FileBuffer) -> None:
        if not buffer.users and not buffer.pending and self._buffers.get(buffer.ino) is buffer:
            self._drop(buffer)

    def _drop(self, buffer: FileBuffer) -> None:
        del self._buffers[buffer.ino]
        self._store.writer.let_go(buffer)
        self._store.holds.drop(buffer.ino)

    def _failed(self, buffer: FileBuffer, error: StratumError) -> None:
        """Nobody waits for this error now; the inode's next fsync or close tries again, or raises it."""
        self.late_errors += 1
        known, buffer.failure = buffer.failure, error
        if str(known) != str(error):  # the sweep tries again and again, and says so once
            _log.error("pending writes could not be published", inode=buffer.ino, error=str(error))


def _memory_bytes(buffer: FileBuffer) -> int:
    return buffer.memory_bytes
