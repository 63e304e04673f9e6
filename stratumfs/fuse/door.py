"""What all handlers of a mount share."""

import errno
from collections import Counter
from dataclasses import dataclass

import pyfuse3
import trio

from stratumfs.errors import AlreadyExists, NotFound, StoreReadOnly
from stratumfs.fuse.accesses import Accesses
from stratumfs.fuse.attrs import entry_of
from stratumfs.fuse.background import Background
from stratumfs.fuse.buffers import Buffers
from stratumfs.fuse.handles import DirectoryHandle, Handle, Handles, Lookups
from stratumfs.fuse.invalidate import KernelCache, TellEntry, TellInode
from stratumfs.fuse.names import readings
from stratumfs.ids import InodeNo
from stratumfs.latency import Latencies
from stratumfs.limits import KERNEL_CACHE_S, NAME_MAX
from stratumfs.store.store import Store
from stratumfs.values import Attributes, Name


@dataclass(frozen=True, slots=True)
class DoorOptions:
    """What a mount's user may choose of the handlers.

    published   close(2) starts the publication and returns: a crash may lose what was closed in the last seconds
    atime       reads are noted (relatime)
    """

    published: bool = False
    atime: bool = True


class Door:
    """The state of one mount. Owned by its session, used on the loop; its background work runs in *nursery*.

    ``_pages`` is the content number of each inode whose pages the kernel may still have: on open they are kept if it
    is the number that the catalog has. It moves with this mount's own publications, whose bytes the kernel saw.
    """

    def __init__(
        self, store: Store, nursery: trio.Nursery, options: DoorOptions, tell_entry: TellEntry, tell_inode: TellInode
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.refusals: Counter[tuple[str, int]] = Counter()
        self.seconds = Latencies("call")
        self._background = Background(nursery, self.counters)
        self.store = store
        self.buffers = Buffers(store, self._background, self._published)
        self.lookups = Lookups(store.holds, self._forgotten)
        self.cache = KernelCache(self._background, self.lookups, tell_entry, tell_inode)
        self.accesses = Accesses(store.files, self.cache.queue)
        self.handles: Handles[Handle] = Handles()
        self.directories: Handles[DirectoryHandle] = Handles()
        self._files, self._changes, self._options = store.files, store.changes, options
        self._pages: dict[InodeNo, int] = {}

    def statistics(self) -> dict[str, int]:
        return {
            "open_files": len(self.handles),
            "known_inodes": len(self.lookups),
            **self.buffers.statistics(),
            **self.cache.statistics(),
            **self.counters,
        }

    def _check_writable(self) -> None:
        """Raises: StoreReadOnly."""
        reason = self.store.read_only
        if reason is not None:
            raise StoreReadOnly(reason)

    def _readings(self, posix: bytes) -> tuple[Name, ...]:
        if len(posix) > NAME_MAX:
            raise pyfuse3.FUSEError(errno.ENAMETOOLONG)
        return readings(posix)

    async def _existing(self, parent: InodeNo, posix: bytes) -> Name:
        """What a POSIX name means; where it can mean one thing only, that may not exist. Raises: NotFound."""
        names = self._readings(posix)
        if len(names) == 1:
            return names[0]
        if not names:
            raise NotFound("a name that the mount keeps for itself")
        return (await self._files.lookup_first(parent, names))[1]

    async def _new(self, parent: InodeNo, posix: bytes, *, replace: bool = False) -> Name:
        """What a name to be made is stored as. replace: one that exists is not refused. Raises: AlreadyExists."""
        names = self._readings(posix)
        if len(names) == 1:
            return names[0]
        if not names:
            raise pyfuse3.FUSEError(errno.EPERM)
        try:
            found = (await self._files.lookup_first(parent, names))[1]
        except NotFound:
            return names[-1]
        if not replace:
            raise AlreadyExists("the name exists")
        return found

    def _named(self, parent: InodeNo, posix: bytes, attributes: Attributes, stamp: int) -> pyfuse3.EntryAttributes:
        """The answer that hands an inode to the kernel under a name. *stamp*: the change counter before the read."""
        self.lookups.add(attributes.ino)
        return self._kept_entry(
            attributes, self.cache.keep_name(parent, posix) if self._changes.counter == stamp else 0.0
        )

    def _described(self, attributes: Attributes, stamp: int) -> pyfuse3.EntryAttributes:
        """The answer that tells the kernel the attributes of an inode."""
        return self._kept_entry(attributes, KERNEL_CACHE_S if self._changes.counter == stamp else 0.0)

    def _kept_entry(self, attributes: Attributes, timeout_s: float) -> pyfuse3.EntryAttributes:
        if timeout_s:
            self.cache.keep_attributes(attributes.ino)
        return self._entry(attributes, timeout_s)

    def _entry(self, attributes: Attributes, timeout_s: float) -> pyfuse3.EntryAttributes:
        """What is committed, with what is pending laid over it. Whoever hands it out notes what the kernel keeps."""
        ino = attributes.ino
        atime_ns = self.accesses.atime_ns(ino, attributes.atime_ns)
        return entry_of(attributes, atime_ns, self.buffers.get(ino), timeout_s)

    def _published(self, attributes: Attributes) -> None:
        if self._pages.get(attributes.ino) == attributes.content - 1:
            self._pages[attributes.ino] = attributes.content

    def start(self) -> None:
        """Begin what goes on as long as the mount lives."""
        self._background.start_for_good(self.buffers.sweep)
        self._background.start_for_good(self.accesses.serve)

    async def finish(self) -> None:
        """The kernel is gone: everything that is pending becomes durable, every inode is let go, also of files that
        were open to the end."""
        await self.buffers.publish_all()
        self.buffers.let_go_all()
        await self.accesses.write()
        self.lookups.forget_all()

    def _forgotten(self, ino: InodeNo) -> None:
        self._pages.pop(ino, None)
        self.cache.forgotten(ino)
        self.buffers.forgotten(ino)
