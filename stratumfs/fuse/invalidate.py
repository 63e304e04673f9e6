"""Telling the kernel what changed behind its back, without waiting where it waits for us.

``invalidate_entry`` blocks while the kernel has a lookup, create, unlink or rename in that directory under way, and
those wait for our loop. Hence:

1. These calls run in threads of their own limiter; no handler awaits one: it queues it, or answers with time-out 0.
2. Who awaits one holds nothing: no lock, no budget, no slot.
3. S3 writes make new inodes, so names and attributes are invalidated, pages never.
4. After INVALIDATE_WAIT_S whoever waits goes on all the same; until the call returns the directory has time-out 0, and
   nobody else waits for it.
5. A handler that awaits between its read of the catalog and its answer compares ``Changes.counter`` (``operations``).
6. At the end of a mount these calls, and these alone, may be left behind.

What the kernel was not given to keep it need not forget (``kept``).
"""

import errno
import time
from collections.abc import Callable, Collection, Container, Iterable
from functools import partial

import structlog
import trio

from stratumfs.fuse.background import Starter
from stratumfs.fuse.kept import Kept
from stratumfs.fuse.names import shadow, spelled
from stratumfs.ids import InodeNo
from stratumfs.limits import INVALIDATE_AGAIN_S, INVALIDATE_THREADS, INVALIDATE_WAIT_S, KERNEL_CACHE_S
from stratumfs.threads import in_thread
from stratumfs.values import Name

_log = structlog.get_logger(__name__)
_GONE = frozenset((errno.ENOTCONN, errno.ENODEV, errno.EBADF))
"""The kernel has ended the mount, and forgotten all."""
_RETRY_S = 1.0
_NO_DIRECTORY = InodeNo(0)
"""The line of calls that concern attributes alone, and wait for nothing."""

TellEntry = Callable[[InodeNo, bytes], None]
TellInode = Callable[[InodeNo], None]


class _Batch:
    """Calls that go together, each once, in order: behind one that hangs they gather for as long as it does.

    answered: they are done, or whoever waits for them need not any longer.
    """

    __slots__ = ("answered", "inodes", "names")

    def __init__(self) -> None:
        self.inodes: dict[InodeNo, None] = {}
        self.names: dict[tuple[InodeNo, bytes], None] = {}
        self.answered = trio.Event()


class _Line:
    """The calls about one directory, one batch after the other: what comes while one runs gathers in the next.

    doubtful: the running one has outlived INVALIDATE_WAIT_S
    """

    __slots__ = ("doubtful", "next", "running")

    def __init__(self) -> None:
        self.running, self.next = _Batch(), _Batch()
        self.doubtful = False

    def doubt(self) -> None:
        self.doubtful = True
        self.running.answered.set()
        self.next.answered.set()


class KernelCache:
    """The NameCache of one mount. Owned by it, used on the loop, its calls run beside.

    *lookups* has the inodes that the kernel was handed and has not forgotten.
    ``late`` counts calls that outlived INVALIDATE_WAIT_S.
    """

    def __init__(
        self, background: Starter, lookups: Container[InodeNo], tell_entry: TellEntry, tell_inode: TellInode
    ) -> None:
        self.late = self._told = 0
        self._background, self._lookups = background, lookups
        self._tell_entry, self._tell_inode = tell_entry, tell_inode
        self._threads = trio.CapacityLimiter(INVALIDATE_THREADS)
        self._lines: dict[InodeNo, _Line] = {}
        self._kept = Kept()
        self._closed = False

    def name_timeout_s(self, parent: InodeNo, posix: bytes) -> float:
        """How long the kernel may keep what it learns of a name in *parent*, should it be given to it now."""
        line = self._lines.get(parent)
        if line is not None and line.doubtful:
            return 0.0
        return KERNEL_CACHE_S if self._kept.has_room(parent, posix) else 0.0

    def keep_name(self, parent: InodeNo, posix: bytes) -> float:
        """As ``name_timeout_s``; the kernel is about to learn of it."""
        timeout_s = self.name_timeout_s(parent, posix)
        if timeout_s:
            self._kept.name(parent, posix)
        return timeout_s

    def moved(self, parent: InodeNo, posix: bytes) -> None:
        """The kernel is about to have this name of a rename, with the time-out that the entry had elsewhere."""
        if not self._kept.name(parent, posix):
            self.queue(names=[(parent, posix)])  # waits for the rename to end

    def keep_attributes(self, ino: InodeNo) -> None:
        """The kernel is about to get them, to keep."""
        self._kept.attributes(ino)

    def forgotten(self, ino: InodeNo) -> None:
        """The kernel knows the inode no more."""
        self._kept.forget(ino)

    async def invalidate(self, inodes: Collection[InodeNo], names: Collection[tuple[InodeNo, bytes]]) -> None:
        """Return when the kernel has forgotten these, or after INVALIDATE_WAIT_S."""
        shown = [(parent, posix) for parent, stored in names for posix in _spellings(stored)]
        batches = self._queue(
            [ino for ino in inodes if self._kept.has_attributes(ino)],
            [(parent, posix) for parent, posix in shown if self._kept.has_name(parent, posix)],
        )
        with trio.move_on_after(INVALIDATE_WAIT_S):
            for _, batch in batches:
                await batch.answered.wait()
            return
        for where, batch in batches:
            if not batch.answered.is_set():
                self._doubt(where)

    def queue(self, inodes: Collection[InodeNo] = (), names: Iterable[tuple[InodeNo, bytes]] = ()) -> None:
        """For handlers: begin, and wait for nothing. *names* are POSIX names here."""
        self._queue([ino for ino in inodes if self._kept.has_attributes(ino)], names)

    def respelled(self, parent: InodeNo) -> None:
        """A directory came or went in *parent* through this mount: spellings of names beside it may have changed."""
        self.queue(names=[(parent, posix) for posix in self._kept.take_special(parent)])

    async def close(self) -> bool:
        """Take no more calls. True when none is in a thread, so that the session may be freed; False if one hangs."""
        self._closed = True
        with trio.move_on_after(INVALIDATE_WAIT_S):
            for slot in range(INVALIDATE_THREADS):  # a thread that was left behind gives its slot back when it returns
                await self._threads.acquire_on_behalf_of((self, slot))
            return True
        return False

    def statistics(self) -> dict[str, int]:
        return {
            "invalidations": self._told,
            "invalidations_late": self.late,
            "directories_in_doubt": sum(line.doubtful for line in self._lines.values()),
        }

    def _queue(
        self, inodes: Collection[InodeNo], names: Iterable[tuple[InodeNo, bytes]]
    ) -> list[tuple[InodeNo, _Batch]]:
        """Returns the batches that these are in, with the lines of them."""
        if self._closed:
            return []
        found: dict[InodeNo, _Batch] = {}
        by_parent: dict[InodeNo, list[bytes]] = {}
        for parent, posix in names:
            by_parent.setdefault(parent, []).append(posix)
        if inodes:
            # With names of a directory they cost no thread of their own; behind a call that may hang they do not go.
            where = next((parent for parent in by_parent if parent not in self._lines), _NO_DIRECTORY)
            found[where] = self._batch(where)
            found[where].inodes.update(dict.fromkeys(inodes))
        for parent, known in by_parent.items():
            batch = found.get(parent) or self._batch(parent)
            batch.names.update(((parent, posix), None) for posix in known)
            found[parent] = batch
        return list(found.items())

    def _batch(self, where: InodeNo) -> _Batch:
        """The one of a line that takes more calls."""
        line = self._lines.get(where)
        if line is not None:
            return line.next
        line = self._lines[where] = _Line()
        self._background.start_soon(self._serve, where, line)
        return line.running

    async def _serve(self, where: InodeNo, line: _Line) -> None:
        """Make all calls of a line, until there are none."""
        try:
            while line.running.inodes or line.running.names:
                try:
                    await self._make(line.running)
                except Exception as error:  # no memory, no thread: the kernel still has what it was to forget
                    _log.error("an invalidation could not be made, and is tried again", reason=repr(error))
                    await trio.sleep(_RETRY_S)
                    continue
                line.running.answered.set()
                line.running, line.next, line.doubtful = line.next, _Batch(), False
        finally:
            del self._lines[where]
            line.doubt()  # for whoever waits, if this was cancelled

    async def _make(self, batch: _Batch) -> None:
        before = self._kept.now
        inodes, names = tuple(batch.inodes), tuple(batch.names)
        self._told += len(inodes) + len(names)
        await in_thread(self._call_all, inodes, names, limiter=self._threads, abandon_on_cancel=True)
        for ino in inodes:
            self._kept.attributes_told(ino, before)
        for parent, posix in names:
            self._kept.name_told(parent, posix, before)

    def _call_all(self, inodes: Collection[InodeNo], names: Collection[tuple[InodeNo, bytes]]) -> None:
        """In a thread."""
        unknown = [ino for ino in inodes if not _known(partial(self._tell_inode, ino))]
        for parent, posix in names:
            _known(partial(self._tell_entry, parent, posix))
        for ino in unknown:
            self._tell_again(ino)

    def _tell_again(self, ino: InodeNo) -> None:
        """In a thread. The kernel has been sent an inode that it does not know: whoever asked for it was not given the
        processor yet, and will keep the attributes that are old now. Or it has been forgotten, and we hear of it soon.
        """
        deadline = time.monotonic() + INVALIDATE_WAIT_S
        while self._is_awaited(ino) and not self._closed and time.monotonic() < deadline:
            time.sleep(INVALIDATE_AGAIN_S)
            if _known(partial(self._tell_inode, ino)):
                return

    def _is_awaited(self, ino: InodeNo) -> bool:
        """One that the kernel was not handed, or has forgotten, does not come to it with old attributes."""
        return ino in self._lookups and self._kept.has_attributes(ino)

    def _doubt(self, where: InodeNo) -> None:
        line = self._lines[where]
        if not line.doubtful:
            self.late += 1
            line.doubt()
            _log.warning("the kernel has not taken an invalidation yet", directory=where)


def _spellings(stored: bytes) -> tuple[bytes, bytes]:
    """All POSIX names that a change of a stored name concerns: of the directory, and of the object beside it."""
    segment = stored.removesuffix(b"/")
    return spelled(Name(segment)), shadow(segment)


def _known(call: Callable[[], None]) -> bool:
    """Whether the kernel knew what it was told to forget; an error tells nothing of that."""
    try:
        call()
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        if error.errno not in _GONE:
            _log.warning("an invalidation failed", error=str(error))
    return True
