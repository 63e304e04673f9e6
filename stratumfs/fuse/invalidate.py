"""Telling the kernel what changed behind its back, without waiting where it waits for us.

``invalidate_entry`` blocks while the kernel has a lookup, create, unlink or rename in that directory under way, and
those wait for our loop. Hence:

1. These calls run in threads of their own limiter; no handler awaits one: it queues it, or answers with time-out 0.
2. Who awaits one holds nothing: no lock, no budget, no slot.
3. S3 writes make new inodes, so names and attributes are invalidated, pages never.
4. After INVALIDATE_WAIT_S whoever waits goes on all the same; the directory has time-out 0 until the call returns.
5. A handler that awaits between its read of the catalog and its answer compares ``Changes.counter`` (``operations``).
6. At the end of a mount these calls, and these alone, may be left behind.
"""

import errno
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from functools import partial

import structlog
import trio

from stratumfs.fuse.background import Starter
from stratumfs.fuse.handles import Lookups
from stratumfs.fuse.names import MARKER, readings, shadow, spelled
from stratumfs.ids import ROOT_INODE, InodeNo
from stratumfs.limits import INVALIDATE_THREADS, INVALIDATE_WAIT_S, KERNEL_CACHE_S, SPECIAL_NAMES_MAX
from stratumfs.values import Name

_log = structlog.get_logger(__name__)
_UNKNOWN = frozenset((errno.ENOENT, errno.ENOTCONN, errno.ENODEV, errno.EBADF))
"""The kernel does not know the name, or is gone."""

TellEntry = Callable[[InodeNo, bytes], None]
TellInode = Callable[[InodeNo], None]


class KernelCache:
    """The NameCache of one mount. Owned by it, used on the loop, its calls run beside.

    ``late`` counts calls that outlived INVALIDATE_WAIT_S. ``_doubtful`` are the directories of those that still run.
    ``_special`` are names handed to the kernel that depend on what else is in the directory.
    """

    def __init__(self, background: Starter, lookups: Lookups, tell_entry: TellEntry, tell_inode: TellInode) -> None:
        self.late = 0
        self._background, self._lookups = background, lookups
        self._tell_entry, self._tell_inode = tell_entry, tell_inode
        self._threads = trio.CapacityLimiter(INVALIDATE_THREADS)
        self._doubtful: Counter[InodeNo] = Counter()
        self._special: dict[InodeNo, set[bytes]] = {}
        self._special_count = 0
        self._closed = False

    def timeout_s(self, parent: InodeNo) -> float:
        """How long the kernel may keep what it learns of a name in *parent*."""
        return 0.0 if parent in self._doubtful else KERNEL_CACHE_S

    def handed_out(self, parent: InodeNo, posix: bytes) -> bool:
        """Note a name that the kernel learns. False if it may not be kept: what it means depends on its neighbours."""
        if not posix.startswith(MARKER) or len(readings(posix)) == 1:
            return True
        names = self._special.setdefault(parent, set())
        if posix not in names:
            if self._special_count >= SPECIAL_NAMES_MAX:
                return False
            names.add(posix)
            self._special_count += 1
        return True

    async def invalidate(self, inodes: Collection[InodeNo], names: Collection[tuple[InodeNo, bytes]]) -> None:
        """Return when the kernel has forgotten these, or after INVALIDATE_WAIT_S."""
        parents = {parent for parent, _ in names if self._knows(parent)}
        calls = [partial(self._tell_inode, ino) for ino in inodes if self._knows(ino)]
        calls += [
            partial(self._tell_entry, parent, posix)
            for parent, stored in names
            if parent in parents
            for posix in self._spellings(parent, stored)
        ]
        if not calls or self._closed:
            return
        done = trio.Event()
        self._background.start_soon(self._run, calls, done)
        with trio.move_on_after(INVALIDATE_WAIT_S):
            await done.wait()
            return
        self.late += 1
        self._doubtful.update(parents)
        _log.warning("the kernel has not taken an invalidation yet", directories=sorted(parents))
        self._background.start_soon(self._trust_again, parents, done)

    def queue(self, inodes: Collection[InodeNo] = (), names: Iterable[tuple[InodeNo, bytes]] = ()) -> None:
        """For handlers: begin, and wait for nothing. *names* are POSIX names here."""
        calls = [partial(self._tell_inode, ino) for ino in inodes]
        calls += [partial(self._tell_entry, parent, posix) for parent, posix in names]
        if calls and not self._closed:
            self._background.start_soon(self._run, calls, trio.Event())

    def respelled(self, parent: InodeNo) -> None:
        """A directory came or went in *parent* through this mount: spellings of names beside it may have changed."""
        names = self._special.pop(parent, None)
        if names:
            self._special_count -= len(names)
            self.queue(names=[(parent, posix) for posix in names])

    async def close(self) -> bool:
        """Take no more calls. True when none is in a thread, so that the session may be freed; False if one hangs."""
        self._closed = True
        with trio.move_on_after(INVALIDATE_WAIT_S):
            for slot in range(INVALIDATE_THREADS):  # a thread that was left behind gives its slot back when it returns
                await self._threads.acquire_on_behalf_of((self, slot))
            return True
        return False

    def statistics(self) -> dict[str, int]:
        return {"invalidations_late": self.late, "directories_in_doubt": len(self._doubtful)}

    def _knows(self, ino: InodeNo) -> bool:
        return ino == ROOT_INODE or ino in self._lookups

    def _spellings(self, parent: InodeNo, stored: bytes) -> list[bytes]:
        """All POSIX names that a change of a stored name concerns: of the directory, and of the object beside it."""
        segment = stored.removesuffix(b"/")
        plain, beside = spelled(Name(segment)), shadow(segment)
        return [plain, beside] if beside in self._special.get(parent, ()) else [plain]

    async def _run(self, calls: list["partial[None]"], done: trio.Event) -> None:
        try:
            await trio.to_thread.run_sync(self._call_all, calls, limiter=self._threads, abandon_on_cancel=True)
        finally:
            done.set()

    def _call_all(self, calls: list["partial[None]"]) -> None:
        """In a thread."""
        for call in calls:
            try:
                call()
            except OSError as error:
                if error.errno not in _UNKNOWN:
                    _log.warning("an invalidation failed", error=str(error))

    async def _trust_again(self, parents: set[InodeNo], done: trio.Event) -> None:
        await done.wait()
        self._doubtful -= Counter(parents)
