"""The tree as POSIX sees it: inode numbers and names. The mount's door stands on this."""

import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

import trio

from stratumfs.catalog import files, xattrs
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.files import NewFile
from stratumfs.catalog.reap import count_inodes
from stratumfs.catalog.tree import attributes
from stratumfs.errors import StaleIds, StoreFull
from stratumfs.ids import Cookie, InodeNo
from stratumfs.limits import COUNTED_ROWS_MAX, MAKE_CHUNK
from stratumfs.store.locks import InodeLocks
from stratumfs.store.maintenance import Maintenance
from stratumfs.store.observer import Explainer
from stratumfs.store.writer import Writer
from stratumfs.values import (
    AttributeChange,
    Attributes,
    DirectoryEntry,
    FileSystemSpace,
    Name,
    Publication,
)


class Namespace:
    """Changes return when they are committed; ``settle`` (fsync, close) waits until they are durable.

    explainer  answers for the attributes user.stratum.tier and .explain; whoever wires the store sets it
    Whoever changes an inode's bytes or attributes holds its lock, so that nothing overtakes a queued publication.
    """

    def __init__(
        self,
        catalog: Catalog,
        writer: Writer,
        locks: InodeLocks,
        maintenance: Maintenance,
        note_extents: Callable[[InodeNo, int], None],
        full: Callable[[], bool],
    ) -> None:
        """note_extents: told of each publication, and in how many extents it came; full: no new data has room."""
        self._catalog, self._writer, self._locks, self._maintenance = catalog, writer, locks, maintenance
        self._note_extents, self._full = note_extents, full
        self.explainer: Explainer | None = None

    async def lookup(self, parent: InodeNo, name: Name) -> Attributes:
        """Raises: NotFound."""
        return await self._catalog.read(files.look_up_attributes, parent, name)

    async def lookup_first(self, parent: InodeNo, readings: Sequence[Name]) -> tuple[Attributes, Name]:
        """The first of what a POSIX name can mean that exists. Raises: NotFound."""
        return await self._catalog.read(files.look_up_first, parent, tuple(readings))

    async def attributes(self, ino: InodeNo) -> Attributes:
        """Raises: NotFound."""
        return await self._catalog.read(attributes, ino)

    async def set_attributes(self, ino: InodeNo, change: AttributeChange, now_ns: int) -> Attributes:
        """Raises: NotFound, StoreReadOnly."""
        self._writer.check_writable()
        async with self._locks.holding(ino):
            return await self._catalog.write(files.set_attributes, ino, change, now_ns)

    async def note_reads(self, reads: Sequence[tuple[InodeNo, int]]) -> None:
        """(inode, atime) of files that were read, at most TRANSACTION_ROWS_MAX. Raises: StoreReadOnly."""
        self._writer.check_writable()
        await self._catalog.write(files.note_reads, tuple(reads))

    async def make(
        self,
        parent: InodeNo,
        name: Name,
        mode: int,
        uid: int,
        gid: int,
        now_ns: int,
        rdev: int = 0,
        target: bytes = b"",
    ) -> Attributes:
        """A file, link, fifo, socket or device. Raises: AlreadyExists, NotFound, NotPermitted, StoreReadOnly."""
        new = await self._new(mode, uid, gid, rdev, target)
        return await self._catalog.write(files.make, parent, name, new, now_ns)

    async def make_many(
        self, parent: InodeNo, names: Sequence[Name], mode: int, uid: int, gid: int, now_ns: int
    ) -> None:
        """Empty files side by side, many to a transaction; an error leaves those of the chunks before it.

        Raises: as ``make``.
        """
        for start in range(0, len(names), MAKE_CHUNK):
            chunk = names[start : start + MAKE_CHUNK]
            self._writer.check_writable()
            ids = self._catalog.ids
            first = NewFile(await ids.inodes(len(chunk)), await ids.cookies(len(chunk)), mode, uid, gid)
            await self._catalog.write(files.make_many, parent, chunk, first, now_ns)
            await trio.lowlevel.checkpoint()  # a write need not yield

    async def make_directory(
        self, parent: InodeNo, name: Name, mode: int, uid: int, gid: int, now_ns: int
    ) -> Attributes:
        """In the root: a bucket. Raises: AlreadyExists, NotFound, InvalidName, StoreReadOnly."""
        new = await self._new(mode, uid, gid)
        return await self._catalog.write(files.make_directory, parent, name, new, now_ns)

    async def remove(self, parent: InodeNo, name: Name, now_ns: int) -> InodeNo:
        """Returns the inode that lost this name. Raises: NotFound, IsADirectory, StoreReadOnly."""
        self._writer.check_writable()
        ino = await self._catalog.write(files.remove, parent, name, now_ns)
        self._maintenance.wake()
        return ino

    async def remove_directory(self, parent: InodeNo, name: Name, now_ns: int) -> InodeNo:
        """Raises: NotFound, NotADirectory, DirectoryNotEmpty, StoreReadOnly."""
        self._writer.check_writable()
        ino = await self._catalog.write(files.remove_directory, parent, name, now_ns)
        self._maintenance.wake()
        return ino

    async def rename(
        self,
        parent: InodeNo,
        name: Name,
        new_parent: InodeNo,
        new_name: Name,
        now_ns: int,
        *,
        replace: bool = True,
        exchange: bool = False,
    ) -> None:
        """Raises: as ``catalog.files.rename``, StoreReadOnly."""
        self._writer.check_writable()
        first = await self._catalog.ids.cookies(2)
        cookies = first, Cookie(first + 1)
        await self._catalog.write(files.rename, parent, name, new_parent, new_name, cookies, now_ns, replace, exchange)
        self._maintenance.wake()

    async def link(self, ino: InodeNo, parent: InodeNo, name: Name, now_ns: int) -> Attributes:
        """Raises: AlreadyExists, NotPermitted, TooManyLinks, CrossBucket, NotFound, StoreReadOnly."""
        self._writer.check_writable()
        cookie = await self._catalog.ids.cookies()
        async with self._locks.holding(ino):
            return await self._catalog.write(files.link, ino, parent, name, cookie, now_ns)

    async def read_link(self, ino: InodeNo) -> bytes:
        """Raises: InvalidArgument."""
        return await self._catalog.read(files.read_link, ino)

    async def entries(self, parent: InodeNo, after: Cookie, limit: int) -> tuple[list[DirectoryEntry], Cookie | None]:
        """A chunk of a directory by cookie, and the cookie to go on behind; None at the end."""
        return await self._catalog.read(files.entries, parent, after, limit)

    async def xattr(self, ino: InodeNo, name: bytes, *, trusted: bool = False) -> bytes:
        """Raises: NoSuchAttribute, NotFound, NotPermitted.

        trusted  who asks may know all of the store, also of what other users have in it
        """
        if self.explainer is not None and name == b"user.stratum.tier":
            return (await self.explainer.tier(ino)).encode()
        if self.explainer is not None and name == b"user.stratum.explain":
            return await self.explainer.attribute(ino, trusted=trusted)
        return await self._catalog.read(xattrs.xattr, ino, name)

    async def xattrs(self, ino: InodeNo) -> list[bytes]:
        """Raises: NotFound."""
        return await self._catalog.read(xattrs.xattrs, ino)

    async def set_xattr(
        self, ino: InodeNo, name: bytes, value: bytes, now_ns: int, *, create: bool = False, replace: bool = False
    ) -> None:
        """Raises: AttributeExists, NoSuchAttribute, AttributeTooLarge, NotPermitted, InvalidArgument, StoreReadOnly."""
        self._writer.check_writable()
        async with self._locks.holding(ino):
            await self._catalog.write(xattrs.set_xattr, ino, name, value, now_ns, create, replace)

    async def remove_xattr(self, ino: InodeNo, name: bytes, now_ns: int) -> None:
        """Raises: NoSuchAttribute, NotPermitted, StoreReadOnly."""
        self._writer.check_writable()
        async with self._locks.holding(ino):
            await self._catalog.write(xattrs.remove_xattr, ino, name, now_ns)

    async def publish(self, ino: InodeNo, publication: Publication, now_ns: int, *, durable: bool) -> Attributes:
        """Make the pending writes of an inode visible in one transaction. All their stripes are synced already.

        durable: return when the round is synced. Raises: NotFound, StoreReadOnly, CatalogCorrupt.
        """
        self._writer.check_writable()
        etag = publication.etag or f"{os.urandom(16).hex()}-1"
        change = self._catalog.commit if durable else self._catalog.write
        async with self._locks.holding(ino):
            while True:
                first = await self._catalog.ids.extents(files.publication_ids(publication))
                with suppress(StaleIds):  # a move came in between; it has few batches, and each does so once at most
                    found, voided = await change(files.publish, ino, publication, etag, first, now_ns)
                    break
        self._writer.inline.add(sum(len(each.data or b"") for each in publication.extents))
        self._note_extents(ino, len(publication.extents))
        if voided:
            self._maintenance.clear_soon(ino)
        return found

    async def truncate(self, ino: InodeNo, size: int, now_ns: int) -> Attributes:
        """Of committed content; what is buffered is the door's. Raises: NotFound, StoreFull, StoreReadOnly."""
        old = await self.attributes(ino)
        cut = size if size < old.size else None
        return await self.publish(ino, Publication(cut, (), size, now_ns), now_ns, durable=False)

    async def settle(self, inodes: Collection[InodeNo], *, hurry: bool = True) -> None:
        """Return when every change of these is durable; at once if all is. Without *hurry* within seconds, by a sync
        that they share. Raises: StoreReadOnly."""
        await self._catalog.settle(inodes, hurry=hurry)

    async def space(self) -> FileSystemSpace:
        files = await self.count()
        now = self._writer.space.now
        return FileSystemSpace(now.total, now.free, files)

    async def count(self) -> int:
        """How many inodes there are. There may be millions, so others have their turn in between."""
        found, after = await self._catalog.read(count_inodes, InodeNo(0), COUNTED_ROWS_MAX)
        while after is not None:
            await trio.lowlevel.checkpoint()
            more, after = await self._catalog.read(count_inodes, after, COUNTED_ROWS_MAX)
            found += more
        return found

    async def _new(self, mode: int, uid: int, gid: int, rdev: int = 0, target: bytes = b"") -> NewFile:
        self._writer.check_writable()
        if self._full():
            raise StoreFull(self._writer.space.refused or "no space is left for new files")
        ids = self._catalog.ids
        return NewFile(await ids.inodes(), await ids.cookies(), mode, uid, gid, rdev, target)
