"""A folder shown in another place by a process of its own: a device that hangs, fails, is full or slow on demand.

``python -m tests.both.passthrough FOLDER MOUNT_POINT`` says READY once it is mounted, and ends when it is unmounted. A
line with two numbers on its standard input makes it answer by that errno from then on, 0 by none, and take so many
milliseconds longer for what it reads, writes and syncs; it says READY again.
"""

import errno
import os
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

import pyfuse3
import trio

from tests.folders import empty

P = ParamSpec("P")
T = TypeVar("T")

READY_S = 60.0
_ATTRIBUTES = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_rdev", "st_size", "st_blocks")
_TIMES = ("st_atime_ns", "st_mtime_ns", "st_ctime_ns")


class Passthrough(pyfuse3.Operations):
    """What a device needs: folders, files, renames. Nothing is cached, so that each access asks this process."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.error, self.slow_s = 0, 0.0
        self._paths: dict[int, Path] = {pyfuse3.ROOT_INODE: folder}

    async def lookup(self, parent: int, name: bytes, ctx: object) -> pyfuse3.EntryAttributes:
        return self._entry(self._paths[parent] / os.fsdecode(name))

    async def getattr(self, inode: int, ctx: object) -> pyfuse3.EntryAttributes:
        return self._entry(self._paths[inode])

    async def setattr(
        self, inode: int, attr: pyfuse3.EntryAttributes, fields: pyfuse3.SetattrFields, fh: int | None, ctx: object
    ) -> pyfuse3.EntryAttributes:
        if fields.update_size:
            _done(os.truncate, self._paths[inode] if fh is None else fh, attr.st_size)
        if fields.update_mode:
            _done(os.chmod, self._paths[inode], stat.S_IMODE(attr.st_mode))
        return self._entry(self._paths[inode])

    async def opendir(self, inode: int, ctx: object) -> int:
        return inode

    async def readdir(self, fh: int, start: int, token: pyfuse3.ReaddirToken) -> None:
        names = sorted(_done(os.listdir, self._paths[fh]))
        for number, name in enumerate(names[start:], start + 1):
            try:
                entry = self._entry(self._paths[fh] / name)
            except pyfuse3.FUSEError:
                continue  # it is gone meanwhile
            if not pyfuse3.readdir_reply(token, os.fsencode(name), entry, number):
                return

    async def open(self, inode: int, flags: int, ctx: object) -> pyfuse3.FileInfo:
        self._fail(errno.EIO)
        return pyfuse3.FileInfo(fh=_done(os.open, self._paths[inode], flags & ~os.O_CREAT), direct_io=True)

    async def create(
        self, parent: int, name: bytes, mode: int, flags: int, ctx: object
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        self._fail(errno.EIO, errno.ENOSPC)
        path = self._paths[parent] / os.fsdecode(name)
        fh = _done(os.open, path, flags | os.O_CREAT, mode)
        return pyfuse3.FileInfo(fh=fh, direct_io=True), self._entry(path)

    async def read(self, fh: int, offset: int, size: int) -> bytes:
        await self._drag(errno.EIO)
        return _done(os.pread, fh, size, offset)

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        await self._drag(errno.EIO, errno.ENOSPC)
        return _done(os.pwrite, fh, data, offset)

    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._drag(errno.EIO)
        _done(os.fsync, fh)

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        self._fail(errno.EIO)

    async def flush(self, fh: int) -> None:
        pass

    async def release(self, fh: int) -> None:
        os.close(fh)

    async def mkdir(self, parent: int, name: bytes, mode: int, ctx: object) -> pyfuse3.EntryAttributes:
        self._fail(errno.EIO, errno.ENOSPC)
        path = self._paths[parent] / os.fsdecode(name)
        _done(os.mkdir, path, mode)
        return self._entry(path)

    async def mknod(self, parent: int, name: bytes, mode: int, rdev: int, ctx: object) -> pyfuse3.EntryAttributes:
        path = self._paths[parent] / os.fsdecode(name)
        _done(os.mknod, path, mode, rdev)
        return self._entry(path)

    async def unlink(self, parent: int, name: bytes, ctx: object) -> None:
        _done(os.unlink, self._paths[parent] / os.fsdecode(name))

    async def rmdir(self, parent: int, name: bytes, ctx: object) -> None:
        _done(os.rmdir, self._paths[parent] / os.fsdecode(name))

    async def rename(self, parent: int, name: bytes, to: int, new: bytes, flags: int, ctx: object) -> None:
        old, path = self._paths[parent] / os.fsdecode(name), self._paths[to] / os.fsdecode(new)
        if flags & pyfuse3.RENAME_NOREPLACE and path.exists():
            raise pyfuse3.FUSEError(errno.EEXIST)
        _done(os.rename, old, path)
        self._entry(path)

    async def link(self, inode: int, to: int, new: bytes, ctx: object) -> pyfuse3.EntryAttributes:
        self._fail(errno.EIO, errno.ENOSPC)
        path = self._paths[to] / os.fsdecode(new)
        _done(os.link, self._paths[inode], path)
        return self._entry(path)

    async def statfs(self, ctx: object) -> pyfuse3.StatvfsData:
        found, seen = pyfuse3.StatvfsData(), os.statvfs(self._paths[pyfuse3.ROOT_INODE])
        for name in ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail"):
            setattr(found, f"f_{name}", getattr(seen, f"f_{name}"))
        return found

    async def _drag(self, *errors: int) -> None:
        """As `_fail`, when a slow disk would be through."""
        if self.slow_s:
            await trio.sleep(self.slow_s)
        self._fail(*errors)

    def _fail(self, *errors: int) -> None:
        """What a disk with one of these errors cannot do."""
        if self.error in errors:
            raise pyfuse3.FUSEError(self.error)

    def _entry(self, path: Path) -> pyfuse3.EntryAttributes:
        seen = _done(os.lstat, path)
        found = pyfuse3.EntryAttributes()
        found.st_ino = seen.st_ino
        if path == self._paths[pyfuse3.ROOT_INODE]:
            found.st_ino = pyfuse3.ROOT_INODE
        self._paths[found.st_ino] = path
        for name in (*_ATTRIBUTES, *_TIMES):
            setattr(found, name, getattr(seen, name))
        found.entry_timeout = found.attr_timeout = 0
        return found


def _done(call: Callable[P, T], *arguments: P.args, **more: P.kwargs) -> T:
    try:
        return call(*arguments, **more)
    except OSError as error:
        raise pyfuse3.FUSEError(error.errno or errno.EIO) from None


class Device:
    """A mounted passthrough.

    ``stall`` stops its process, so that whoever asks it waits, until ``go_on``; ``fail`` makes it answer by an error,
    ``slow`` later.
    """

    def __init__(self, folder: Path, point: Path) -> None:
        for path in (folder, point):
            path.mkdir(parents=True, exist_ok=True)
        self.folder, self.point = folder, point
        command = [sys.executable, "-m", "tests.both.passthrough", str(folder), str(point)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        self._wait_ready()

    def stall(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def fail(self, code: int) -> None:
        """EIO: of a disk that died. ENOSPC: of one that is full. 0: all is well again. One that stalls goes on."""
        self._tell(code, 0)

    def slow(self, milliseconds: int) -> None:
        """It takes so much longer for what it reads, writes and syncs; ``fail(0)`` makes all well again."""
        self._tell(0, milliseconds)

    def _tell(self, code: int, milliseconds: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"%d %d\n" % (code, milliseconds))
        self._process.stdin.flush()
        self.go_on()
        self._wait_ready()

    def empty(self) -> None:
        """As a new disk in the old one's place is: what was in it is gone, whoever has it open, or adds to it now."""
        empty(self.folder)

    def _wait_ready(self) -> None:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], READY_S)
        assert ready, "the passthrough does not come up"
        assert self._process.stdout.readline() == b"READY\n"

    def die(self) -> None:
        """Kill it, stopped or not: whoever waits for it, or asks it from now on, gets an error."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kill it, and take its mount away: its mount point is an empty folder."""
        self.die()
        assert self._process.stdout is not None
        assert self._process.stdin is not None
        self._process.stdout.close()
        self._process.stdin.close()
        subprocess.run(["fusermount3", "-u", "-z", str(self.point)], check=False, capture_output=True)


@contextmanager
def devices(folder: Path, count: int) -> Iterator[list[Device]]:
    """*count* devices on folders below *folder*."""
    found: list[Device] = []
    try:
        for number in range(count):
            found.append(Device(folder / f"behind-{number}", folder / f"d{number}"))
        yield found
    finally:
        for device in found:
            device.close()


async def _serve(shown: Passthrough) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_listen, shown)
        print("READY", flush=True)
        await pyfuse3.main()
        nursery.cancel_scope.cancel()


async def _listen(shown: Passthrough) -> None:
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stream:
        async for line in stream:  # one at a time: each is waited for
            code, slow_ms = line.split()
            shown.error, shown.slow_s = int(code), int(slow_ms) / 1000
            print("READY", flush=True)


def main() -> None:
    folder, point = map(Path, sys.argv[1:])
    shown = Passthrough(folder)
    pyfuse3.init(shown, str(point), {"fsname=passthrough", "default_permissions", "allow_other"})
    try:
        trio.run(_serve, shown)
    finally:
        pyfuse3.close(unmount=False)


if __name__ == "__main__":
    main()
