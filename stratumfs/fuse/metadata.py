"""Handlers of attributes, extended attributes, the file system's numbers, and what the kernel forgets."""

import errno
import os
import time
from collections.abc import Sequence

import pyfuse3

from stratumfs.errors import NoSuchAttribute, StratumError
from stratumfs.fuse.attrs import space_of
from stratumfs.fuse.door import Door
from stratumfs.fuse.guard import guarded
from stratumfs.ids import InodeNo
from stratumfs.limits import NAME_MAX, OBJECT_MAX
from stratumfs.values import AttributeChange, Attributes

_NAMESPACES = (b"user.", b"trusted.", b"security.")
_CAPABILITY = b"security.capability"


class MetadataHandlers(Door):
    """getattr, setattr, extended attributes, statfs, forget."""

    @guarded
    async def getattr(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        stamp = self._changes.counter
        return self._described(await self._files.attributes(InodeNo(inode)), stamp)

    @guarded
    async def setattr(
        self,
        inode: pyfuse3.InodeT,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: pyfuse3.FileHandleT | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        ino, stamp = InodeNo(inode), self._changes.counter
        self._check_writable()
        if fields.update_size:
            await self._truncate(ino, attr.st_size)
        change = AttributeChange(
            attr.st_mode if fields.update_mode else None,
            attr.st_uid if fields.update_uid else None,
            attr.st_gid if fields.update_gid else None,
            attr.st_atime_ns if fields.update_atime else None,
            attr.st_mtime_ns if fields.update_mtime else None,
        )
        # Without any field it is a chown(-1, -1), which moves ctime.
        if not fields.update_size or change != _NO_CHANGE:
            found = await self._change(ino, change)
        else:
            found = await self._files.attributes(ino)
        return self._described(found, stamp)

    @guarded
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        return space_of(await self._files.space(), NAME_MAX)

    @guarded
    async def getxattr(self, inode: pyfuse3.InodeT, name: pyfuse3.XAttrNameT, ctx: pyfuse3.RequestContext) -> bytes:
        ino = InodeNo(inode)
        if name == _CAPABILITY:
            # The kernel asks before each write.
            buffer = self.buffers.get(ino)
            if buffer is not None and buffer.no_caps:
                raise pyfuse3.FUSEError(pyfuse3.ENOATTR)
            try:
                return await self._files.xattr(ino, name)
            except NoSuchAttribute:
                if buffer is not None:
                    buffer.no_caps = True
                raise
        _check_namespace(name)
        return await self._files.xattr(ino, name, trusted=ctx.uid in (0, os.geteuid()))

    @guarded
    async def setxattr(
        self, inode: pyfuse3.InodeT, name: pyfuse3.XAttrNameT, value: bytes, ctx: pyfuse3.RequestContext
    ) -> None:
        ino = InodeNo(inode)
        _check_namespace(name)
        if name == _CAPABILITY:
            self._expect_capability(ino)
        await self._files.set_xattr(ino, name, value, time.time_ns())

    @guarded
    async def listxattr(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> Sequence[pyfuse3.XAttrNameT]:
        return await self._files.xattrs(InodeNo(inode))

    @guarded
    async def removexattr(self, inode: pyfuse3.InodeT, name: pyfuse3.XAttrNameT, ctx: pyfuse3.RequestContext) -> None:
        _check_namespace(name)
        await self._files.remove_xattr(InodeNo(inode), name, time.time_ns())

    async def forget(self, inode_list: Sequence[tuple[pyfuse3.InodeT, int]]) -> None:
        self.lookups.forget((InodeNo(inode), times) for inode, times in inode_list)

    async def _truncate(self, ino: InodeNo, size: int) -> None:
        """While somebody writes the file this is pending like a write, else it is published at once."""
        if size > OBJECT_MAX:
            raise pyfuse3.FUSEError(errno.EFBIG)
        async with self.buffers.using(await self._files.attributes(ino)) as buffer:
            pending = buffer.pending
            buffer.truncate(size)
            if buffer.users > 1:
                return
            try:
                await buffer.publish(durable=False)
            except StratumError:
                if not pending and buffer.users == 1:  # else somebody has opened it meanwhile, and writes above it
                    buffer.discard()  # refused, so it must not happen later
                raise

    async def _change(self, ino: InodeNo, change: AttributeChange) -> Attributes:
        if change.atime_ns is not None:
            self.accesses.drop(ino)
        buffer = self.buffers.get(ino)
        if change.mtime_ns is None or buffer is None or not buffer.pending:
            return await self._files.set_attributes(ino, change, time.time_ns())
        # A publication sets mtime too: what was asked for last must win, so neither overtakes the other.
        async with buffer.publishing:
            found = await self._files.set_attributes(ino, change, time.time_ns())
            buffer.set_mtime(change.mtime_ns)
            return found

    def _expect_capability(self, ino: InodeNo) -> None:
        buffer = self.buffers.get(ino)
        if buffer is not None:
            buffer.no_caps = False


_NO_CHANGE = AttributeChange()


def _check_namespace(name: bytes) -> None:
    """ACLs (system.*) come later; other namespaces no file system has."""
    if not name.startswith(_NAMESPACES):
        raise pyfuse3.FUSEError(errno.EOPNOTSUPP)
