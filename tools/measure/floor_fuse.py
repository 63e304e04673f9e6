"""The least that pyfuse3 can do: a bare filesystem in memory, run as ``-m tools.measure.floor_fuse``.

One directory. What is written to ``stream`` is hashed by MD5 and goes, 1.5 times, into six files that fsync syncs; one
hop into a thread for each request. ``data`` shows a file beside, read in place. Any other file is a name and its
bytes in memory, and its close appends 200 bytes to a log and syncs that. ``bare`` has attributes that the kernel may
not keep: each stat of it is a request that reaches Python, and none is cheaper.
"""

import errno
import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyfuse3
import trio

from stratumfs.fuse.kernel import tune
from stratumfs.fuse.mountinfo import device_at
from tools.measure.floor_http import Shards

_KEPT_S = 3600.0
_LINE = bytes(200)
_KNOWN = (b"stream", b"data", b"bare")


@dataclass
class _File:
    name: bytes
    ino: int
    mode: int = stat.S_IFREG | 0o644
    size: int = 0
    data: bytearray = field(default_factory=bytearray)


class Bare(pyfuse3.Operations):
    supports_dot_lookup = False

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._source = os.open(folder / "data", os.O_RDONLY)
        self._log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._shards: Shards | None = None
        self._last = 1
        self._files: dict[int, _File] = {1: _File(b"", 1, stat.S_IFDIR | 0o755)}
        self._names: dict[bytes, _File] = {}
        for name in _KNOWN:
            self._make(name)
        self._names[b"data"].size = os.fstat(self._source).st_size

    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        found = self._names.get(name)
        if found is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return _entry(found)

    async def getattr(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return _entry(self._files[inode])

    async def setattr(
        self,
        inode: pyfuse3.InodeT,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: pyfuse3.FileHandleT | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        return _entry(self._files[inode])

    async def open(self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        if self._files[inode].name == b"stream":
            self._shards = Shards(self._folder)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode))

    async def create(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        made = self._make(name)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(made.ino)), _entry(made)

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes | bytearray:
        if self._files[fh].name != b"data":
            return self._files[fh].data[off : off + size]
        buffer = bytearray(size)
        count = os.preadv(self._source, [buffer], off)
        return buffer if count == size else buffer[:count]

    async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:
        file = self._files[fh]
        if file.name == b"stream":
            assert self._shards is not None
            await trio.to_thread.run_sync(self._shards.append, buf)
        else:
            file.data[off : off + len(buf)] = buf
        file.size = max(file.size, off + len(buf))
        return len(buf)

    async def fsync(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
        if self._files[fh].name == b"stream" and self._shards is not None:
            shards, self._shards = self._shards, None
            await shards.finish()

    async def flush(self, fh: pyfuse3.FileHandleT) -> None:
        if self._files[fh].name not in _KNOWN:
            await trio.to_thread.run_sync(self._append)

    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        pass

    async def unlink(self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext) -> None:
        del self._names[name]

    async def forget(self, inode_list: Sequence[tuple[pyfuse3.InodeT, int]]) -> None:
        for ino, _ in inode_list:
            file = self._files.get(ino)
            if file is not None and ino != 1 and file.name not in self._names:
                del self._files[ino]

    def _append(self) -> None:
        os.write(self._log, _LINE)
        os.fdatasync(self._log)

    def _make(self, name: bytes) -> _File:
        self._last += 1
        made = _File(name, self._last)
        self._files[made.ino] = self._names[name] = made
        return made


def _entry(file: _File) -> pyfuse3.EntryAttributes:
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(file.ino)
    entry.st_mode = pyfuse3.ModeT(file.mode)
    entry.st_nlink = 1
    entry.st_size = file.size
    entry.st_uid, entry.st_gid = os.getuid(), os.getgid()
    entry.entry_timeout = _KEPT_S
    entry.attr_timeout = 0.0 if file.name == b"bare" else _KEPT_S
    return entry


async def _serve(mountpoint: str) -> None:
    async with trio.open_nursery() as nursery:

        async def tuned() -> None:
            device = await trio.to_thread.run_sync(device_at, mountpoint)
            await trio.to_thread.run_sync(tune, device)

        nursery.start_soon(tuned)
        await pyfuse3.main()


def main() -> None:
    mountpoint, folder = sys.argv[1:]
    pyfuse3.init(Bare(Path(folder)), mountpoint, {"fsname=bare", "default_permissions"})
    try:
        trio.run(_serve, mountpoint)
    finally:
        pyfuse3.close(unmount=False)


if __name__ == "__main__":
    main()
