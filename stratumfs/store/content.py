"""Content on its way into the catalog: the ids that it takes, and its staging where it has many extents."""

from collections.abc import Sequence

import trio

from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.extents import clipped
from stratumfs.catalog.objects import NewObject, stage_extents, stage_inode
from stratumfs.catalog.tree import split
from stratumfs.ids import InodeNo
from stratumfs.limits import TRANSACTION_ROWS_MAX
from stratumfs.store.holds import Holds
from stratumfs.values import Extent, NewExtent, ObjectSpec


class Staging:
    """Gathers extents of one new inode. More than a transaction takes go under the inode while it is invisible.

    Used by one task. ``close`` lets go of the inode; if no entry names it by then it is reaped.
    """

    def __init__(self, catalog: Catalog, holds: Holds, now_ns: int) -> None:
        self._catalog, self._holds, self._now_ns = catalog, holds, now_ns
        self._pending: list[NewExtent] = []
        self._ino: InodeNo | None = None

    async def add(self, extents: Sequence[NewExtent]) -> None:
        self._pending += extents
        while len(self._pending) > TRANSACTION_ROWS_MAX:
            chunk, self._pending = self._pending[:TRANSACTION_ROWS_MAX], self._pending[TRANSACTION_ROWS_MAX:]
            await self._stage(chunk)

    async def rest(self) -> tuple[NewExtent, ...]:
        """What the last transaction is to insert itself: all, if nothing was staged."""
        if self._ino is not None and self._pending:
            await self._stage(self._pending)
            self._pending = []
        return tuple(self._pending)

    async def new_object(
        self, key: bytes, spec: ObjectSpec, size: int, etag: str, part_sizes: tuple[int, ...] = ()
    ) -> NewObject:
        """All that ``put_object`` takes."""
        extents = await self.rest()
        depth = len(split(key))
        ids = self._catalog.ids
        ino, cookies = await ids.inodes(1 + depth), await ids.cookies(depth)
        return NewObject(
            spec,
            size,
            etag,
            extents,
            self._ino or ino,
            range(ino + 1, ino + 1 + depth),
            range(cookies, cookies + depth),
            await ids.extents(max(1, len(extents))),
            part_sizes,
            self.staged,
        )

    @property
    def staged(self) -> bool:
        """Whether the inode exists, invisible, and holds extents."""
        return self._ino is not None

    async def inode(self) -> InodeNo:
        """The number of the inode that holds the extents, or will."""
        return self._ino or await self._catalog.ids.inodes()

    def close(self) -> None:
        if self._ino is not None:
            self._holds.drop(self._ino)

    async def _stage(self, chunk: Sequence[NewExtent]) -> None:
        if self._ino is None:
            ino = await self._catalog.ids.inodes()
            self._holds.take(ino)
            self._ino = ino
            await self._catalog.write(stage_inode, ino, self._now_ns)
        first = await self._catalog.ids.extents(len(chunk))
        await self._catalog.write(stage_extents, self._ino, tuple(chunk), first)
        await trio.lowlevel.checkpoint()  # a write need not yield, and 10,000 parts are many chunks


def shared(extents: Sequence[Extent], start: int, stop: int, shift: int) -> list[NewExtent]:
    """Extents that share the bytes [start, stop) of *extents*, which overlap it, *shift* bytes further on."""
    return [_share(extent, start, stop, shift) for extent in extents]


def _share(extent: Extent, start: int, stop: int, shift: int) -> NewExtent:
    part = clipped(extent, start, stop)
    return NewExtent(part.offset + shift, part.length, part.location, part.data)
