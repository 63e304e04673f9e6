"""Handlers of names and directories."""

import errno
import stat
import time

import pyfuse3

from stratumfs.errors import NotFound
from stratumfs.fuse.attrs import no_entry
from stratumfs.fuse.door import Door
from stratumfs.fuse.guard import guarded
from stratumfs.fuse.handles import DirectoryHandle
from stratumfs.fuse.names import MARKER, readings, spelled
from stratumfs.ids import Cookie, InodeNo
from stratumfs.limits import READDIR_CHUNK_MAX
from stratumfs.values import DirectoryEntry, Name

_RENAME_FLAGS = pyfuse3.RENAME_NOREPLACE | pyfuse3.RENAME_EXCHANGE
_CHUNK_SPARE = 8


class TreeHandlers(Door):
    """lookup, making and removing names, rename, link, reading directories."""

    @guarded
    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        parent, stamp = InodeNo(parent_inode), self._changes.counter
        names = self._readings(name)
        try:
            if len(names) == 1:
                found = await self._files.lookup(parent, names[0])
            elif names:
                found, _ = await self._files.lookup_first(parent, names)
            else:
                return no_entry(0.0)
        except NotFound:
            # Of a name with several readings the kernel is not told that it is free: a neighbour may give it a meaning.
            kept = len(names) == 1 and self._changes.counter == stamp
            return no_entry(self.cache.keep_name(parent, name) if kept else 0.0)
        return self._named(parent, name, found, stamp)

    @guarded
    async def mkdir(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        parent, stamp = InodeNo(parent_inode), self._changes.counter
        new = await self._new(parent, name)
        made = await self._files.make_directory(parent, new, mode, ctx.uid, ctx.gid, time.time_ns())
        return self._named(parent, name, made, stamp)

    @guarded
    async def mknod(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        rdev: int,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        parent, stamp = InodeNo(parent_inode), self._changes.counter
        new = await self._new(parent, name)
        device = rdev if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0
        made = await self._files.make(parent, new, mode, ctx.uid, ctx.gid, time.time_ns(), rdev=device)
        return self._named(parent, name, made, stamp)

    @guarded
    async def symlink(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        target: pyfuse3.FileNameT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        parent, stamp = InodeNo(parent_inode), self._changes.counter
        new = await self._new(parent, name)
        mode = stat.S_IFLNK | 0o777
        made = await self._files.make(parent, new, mode, ctx.uid, ctx.gid, time.time_ns(), target=target)
        return self._named(parent, name, made, stamp)

    @guarded
    async def link(
        self,
        inode: pyfuse3.InodeT,
        new_parent_inode: pyfuse3.InodeT,
        new_name: pyfuse3.FileNameT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        parent, stamp = InodeNo(new_parent_inode), self._changes.counter
        new = await self._new(parent, new_name)
        found = await self._files.link(InodeNo(inode), parent, new, time.time_ns())
        return self._named(parent, new_name, found, stamp)

    @guarded
    async def readlink(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileNameT:
        return await self._files.read_link(InodeNo(inode))

    @guarded
    async def unlink(self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext) -> None:
        parent = InodeNo(parent_inode)
        await self._files.remove(parent, await self._existing(parent, name), time.time_ns())

    @guarded
    async def rmdir(self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext) -> None:
        parent = InodeNo(parent_inode)
        await self._files.remove_directory(parent, await self._existing(parent, name), time.time_ns())
        self.cache.respelled(parent)

    @guarded
    async def rename(
        self,
        parent_inode_old: pyfuse3.InodeT,
        name_old: pyfuse3.FileNameT,
        parent_inode_new: pyfuse3.InodeT,
        name_new: pyfuse3.FileNameT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        if flags & ~_RENAME_FLAGS or flags == _RENAME_FLAGS:
            raise pyfuse3.FUSEError(errno.EINVAL)
        parent, new_parent = InodeNo(parent_inode_old), InodeNo(parent_inode_new)
        old = await self._existing(parent, name_old)
        new = await self._new(new_parent, name_new, replace=True)
        await self._publish_before(parent, old)
        if flags & pyfuse3.RENAME_EXCHANGE:
            await self._publish_before(new_parent, new)
        for place in ((parent, name_old), (new_parent, name_new)):
            self.cache.moved(*place)
        await self._files.rename(
            parent,
            old,
            new_parent,
            new,
            time.time_ns(),
            replace=not flags & pyfuse3.RENAME_NOREPLACE,
            exchange=bool(flags & pyfuse3.RENAME_EXCHANGE),
        )
        self.cache.respelled(parent)
        self.cache.respelled(new_parent)

    async def _publish_before(self, parent: InodeNo, name: Name) -> None:
        """What was written and is not published yet comes first: a crash behind the rename must find its bytes, for
        those of whatever it replaces are gone. Raises: NotFound, what the publication meets."""
        found = await self._files.lookup(parent, name)
        buffer = self.buffers.get(found.ino)
        if buffer is not None and buffer.pending:
            async with self.buffers.using(found):
                await buffer.publish(durable=False)

    @guarded
    async def opendir(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileHandleT:
        if self.directories.full:
            raise pyfuse3.FUSEError(errno.ENFILE)
        return pyfuse3.FileHandleT(self.directories.add(DirectoryHandle(InodeNo(inode))))

    @guarded
    async def readdir(self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        handle = self.directories[fh]
        stamp = self._changes.counter
        shown: list[tuple[bytes, DirectoryEntry]] = []
        after: Cookie | None = Cookie(start_id)
        while after is not None and not shown:  # a chunk is an answer, unless the kernel would take it for the end
            entries, after = await self._files.entries(handle.ino, after, handle.chunk)
            for entry in entries:
                name = spelled(entry.name)
                if not await self._is_hidden(handle.ino, entry.name, name):
                    shown.append((name, entry))
        # Nothing is awaited from here on. The kernel holds the directory, so that a name's invalidation comes after it.
        taken = 0
        for name, entry in shown:
            timeout_s = self.cache.name_timeout_s(handle.ino, name) if self._changes.counter == stamp else 0.0
            if not pyfuse3.readdir_reply(token, name, self._entry(entry.attributes, timeout_s), entry.cookie):
                break
            taken += 1
            if timeout_s:  # of one that did not fit the kernel has nothing, and says nothing when it forgets
                self.cache.keep_name(handle.ino, name)
                self.cache.keep_attributes(entry.attributes.ino)
        for _, entry in shown[:taken]:  # only now: after an error the kernel gets none of them
            self.lookups.add(entry.attributes.ino)
        handle.chunk = min(taken + _CHUNK_SPARE if taken < len(shown) else 2 * handle.chunk, READDIR_CHUNK_MAX)

    async def _is_hidden(self, parent: InodeNo, name: Name, posix: bytes) -> bool:
        """Something else is meant by this spelling as long as it exists: a name is listed once."""
        names = readings(posix) if posix.startswith(MARKER) else ()
        if len(names) < 2 or name != names[-1]:
            return False
        try:
            await self._files.lookup(parent, names[0])
        except NotFound:
            return False
        return True

    @guarded
    async def releasedir(self, fh: pyfuse3.FileHandleT) -> None:
        self.directories.pop(fh)

    @guarded
    async def fsyncdir(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
        await self._files.settle([self.directories[fh].ino])
