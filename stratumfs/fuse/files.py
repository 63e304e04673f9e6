"""Handlers of open files."""

import errno
import os
import stat
import time

import pyfuse3

from stratumfs.errors import AlreadyExists, StratumError
from stratumfs.fuse.attrs import atime_is_due
from stratumfs.fuse.buffer import FileBuffer
from stratumfs.fuse.door import Door
from stratumfs.fuse.guard import guarded
from stratumfs.fuse.handles import Handle, Handles
from stratumfs.ids import MIB, Buffer, InodeNo
from stratumfs.limits import OBJECT_MAX, READAHEAD_STRIPES, READS_WAITING_MAX
from stratumfs.values import Attributes


class FileHandlers(Door):
    """open, create, read, write, flush, fsync, release."""

    _reads_waiting = 0

    @guarded
    async def open(self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        _check_room(self.handles)
        writing = flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC
        if writing:
            self._check_writable()
        found = await self._files.attributes(InodeNo(inode))
        handle = Handle(found.ino)
        if writing:
            handle.buffer = self.buffers.open(found)
            if flags & os.O_TRUNC:
                handle.buffer.truncate(0)
        keep = self._pages.get(found.ino) == found.content
        self._pages[found.ino] = found.content
        self._expect_reads(handle, found, flags, keep=keep)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(self.handles.add(handle)), keep_cache=keep)

    @guarded
    async def create(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        _check_room(self.handles)
        parent, stamp = InodeNo(parent_inode), self._changes.counter
        try:
            new = await self._new(parent, name)
            made = await self._files.make(parent, new, stat.S_IFREG | mode, ctx.uid, ctx.gid, time.time_ns())
        except AlreadyExists:
            if flags & os.O_EXCL:
                raise
            # It came through the other door meanwhile. The kernel looks again and checks permissions on what it finds.
            raise pyfuse3.FUSEError(errno.ESTALE) from None
        handle = Handle(made.ino)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            handle.buffer = self.buffers.open(made)
            handle.buffer.no_caps = True
        self._pages[made.ino] = made.content
        number = pyfuse3.FileHandleT(self.handles.add(handle))
        return pyfuse3.FileInfo(fh=number, keep_cache=True), self._named(parent, name, made, stamp)

    @guarded
    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> Buffer:
        if self._reads_waiting >= READS_WAITING_MAX:
            self.counters["reads_refused"] += 1
            raise pyfuse3.FUSEError(errno.EAGAIN)
        handle = self.handles[fh]
        buffer = self.buffers.get(handle.ino)
        self._reads_waiting += 1
        try:
            if buffer is None:
                data = await self.store.reader.read(handle.ino, off, size)
            else:
                data = await buffer.read(off, size)
        finally:
            self._reads_waiting -= 1
        self.counters["read_bytes"] += len(data)
        self._after_read(handle, off, size, len(data))
        return data

    @guarded
    async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:
        buffer = self.handles[fh].buffer
        if buffer is None:
            raise pyfuse3.FUSEError(errno.EBADF)
        if off + len(buf) > OBJECT_MAX:
            raise pyfuse3.FUSEError(errno.EFBIG)
        if self.buffers.full:
            await self.buffers.make_room(buffer)
        await buffer.write(off, buf)
        self.store.observer.wrote(buffer.ino, len(buf))
        self.counters["written_bytes"] += len(buf)
        return len(buf)

    @guarded
    async def flush(self, fh: pyfuse3.FileHandleT) -> None:
        handle = self.handles[fh]
        if self._options.published:
            self._publish_beside(handle.buffer)
        elif handle.buffer is not None:
            await self._make_durable(handle.ino)
        else:  # opened for reading: what others write into it is theirs to publish
            await self._files.settle([handle.ino])

    @guarded
    async def fsync(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
        await self._make_durable(self.handles[fh].ino)

    @guarded
    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        handle = self.handles.pop(fh)
        if handle.buffer is not None:
            await self.buffers.close(handle.buffer)

    def _publish_beside(self, buffer: FileBuffer | None) -> None:
        """For ``close=published``. Raises: what an earlier publication met, once."""
        if buffer is None or not buffer.pending:
            return
        error, buffer.failure = buffer.failure, None
        self.buffers.publish_soon(buffer)
        if error is not None:
            raise error

    async def _make_durable(self, ino: InodeNo) -> None:
        """All that any handle wrote, and all that was done to the inode."""
        buffer = self.buffers.get(ino)
        if buffer is None or not buffer.pending:
            await self._files.settle([ino])
        elif (await self._files.attributes(ino)).nlink:
            await buffer.publish(durable=True)
        # Else it has no name: nobody could find it after a crash.

    def _expect_reads(self, handle: Handle, found: Attributes, flags: int, *, keep: bool) -> None:
        """relatime. Reads that the kernel answers from kept pages never come here: the open stands for them."""
        access = flags & os.O_ACCMODE
        if access == os.O_WRONLY or flags & (os.O_NOATIME | os.O_TRUNC) or not self._options.atime:
            return
        if self.store.read_only is not None:
            return
        if atime_is_due(found, self.accesses.atime_ns(found.ino, found.atime_ns), time.time_ns()):
            if keep and access == os.O_RDONLY:
                self.accesses.note(found.ino, time.time_ns())
            else:
                handle.note_read = True

    def _after_read(self, handle: Handle, offset: int, size: int, count: int) -> None:
        sequential = offset == handle.next_read
        handle.next_read = offset + count
        self.store.observer.read(handle.ino, count, offset)
        if handle.note_read:
            handle.note_read = False
            self.accesses.note(handle.ino, time.time_ns())
        if sequential and offset and count == size and not handle.reading_ahead and handle.ahead < offset + MIB:
            handle.reading_ahead = True
            self._background.start_soon(self._read_ahead, handle, max(handle.ahead, offset + count))

    async def _read_ahead(self, handle: Handle, start: int) -> None:
        """Bring the next stripes into the cache of decoded cells, while the kernel fetches what is there already."""
        try:
            stop = -(-start // MIB) * MIB + READAHEAD_STRIPES * MIB
            await self.store.reader.prefetch(handle.ino, start, stop - start)
            handle.ahead = stop
        except StratumError:
            pass  # who reads these bytes meets it
        finally:
            handle.reading_ahead = False


def _check_room(handles: Handles[Handle]) -> None:
    if handles.full:
        raise pyfuse3.FUSEError(errno.ENFILE)
