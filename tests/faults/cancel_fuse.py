"""Requests of the kernel that are cancelled at each of their checkpoints, by the handlers that a mount has."""

import errno
import os
import stat
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from unittest.mock import patch

import pyfuse3

from stratumfs.fuse.operations import Operations
from tests.faults import acts
from tests.faults.acts import etag_of
from tests.faults.base import INLINE, STRIPED
from tests.faults.cancel import Begun, Bench, Operation
from tests.faults.tree import DIRECTORY, LINK, Tree

_CALLER: Any = pyfuse3.RequestContext()
_TOKEN: Any = None
_STRIPES = 3 * STRIPED


class Kernel:
    """What the kernel holds: it releases each handle that it was given, and what it knows is forgotten at the end.

    A handler that is cancelled has told it nothing; one that was to release does so for good, whatever comes of it.
    """

    def __init__(self, door: Operations) -> None:
        self.door = door
        self._files: set[pyfuse3.FileHandleT] = set()
        self._directories: set[pyfuse3.FileHandleT] = set()

    async def create(self, parent: int, name: bytes) -> pyfuse3.FileHandleT:
        flags = pyfuse3.FlagT(os.O_RDWR | os.O_CREAT)
        found, _ = await self.door.create(_inode(parent), _name(name), pyfuse3.ModeT(0o640), flags, _CALLER)
        self._files.add(found.fh)
        return found.fh

    async def open(self, ino: int, flags: int) -> pyfuse3.FileHandleT:
        handle = (await self.door.open(_inode(ino), pyfuse3.FlagT(flags), _CALLER)).fh
        self._files.add(handle)
        return handle

    async def close(self, handle: pyfuse3.FileHandleT) -> None:
        await self.door.flush(handle)
        self._files.remove(handle)
        await self.door.release(handle)

    async def opendir(self, ino: int) -> pyfuse3.FileHandleT:
        handle = await self.door.opendir(_inode(ino), _CALLER)
        self._directories.add(handle)
        return handle

    async def closedir(self, handle: pyfuse3.FileHandleT) -> None:
        self._directories.remove(handle)
        await self.door.releasedir(handle)

    async def gone(self) -> None:
        """As at the end of a session."""
        for handle in self._files:
            await self.door.release(handle)
        for handle in self._directories:
            await self.door.releasedir(handle)
        await self.door.finish()


def _inode(ino: int) -> pyfuse3.InodeT:
    return pyfuse3.InodeT(ino)


def _name(name: bytes) -> pyfuse3.FileNameT:
    return pyfuse3.FileNameT(name)


def _requests(on: Bench, do: Callable[[Kernel], Awaitable[object]], tree: Tree, trees: Sequence[Tree] = ()) -> Begun:
    kernel = Kernel(on.mount)
    return Begun(lambda: do(kernel), tree, trees, end=kernel.gone)


def _name_of(path: str) -> bytes:
    return path.removeprefix("main/").encode()


async def _there(on: Bench, size: int = STRIPED) -> tuple[str, int, Tree]:
    """A file in a sealed volume of its own."""
    path, data = on.name("there"), on.data(size)
    tree = on.tree.put(path, data, await acts.put(on.store, path, data))
    await on.store.writer.volumes.seal_idle(0)
    return path, await acts.find(on.store, path), tree


def _writes(size: int) -> Operation:
    """create, write from the first byte to the last, fsync, write on, close."""

    async def operation(on: Bench) -> Begun:
        path, data, more = on.name("new"), on.data(size), on.data(INLINE)
        directory = await acts.find(on.store, "main")
        trees = [made := on.tree.make(path)]
        step = size // 2
        for end in (step, size):  # what a close behind a cancelled write publishes
            trees.append(made.write(path, data[:end]))
        trees.append(made.write(path, data + more))

        async def do(kernel: Kernel) -> None:
            handle = await kernel.create(directory, _name_of(path))
            for at in range(0, size, step):
                await kernel.door.write(handle, at, data[at : at + step])
            await kernel.door.fsync(handle, False)
            await kernel.door.write(handle, size, more)
            assert bytes(await kernel.door.read(handle, size - 100, 200)) == data[-100:] + more[:100]
            await kernel.close(handle)

        return _requests(on, do, on.tree, trees)

    return operation


async def rewrite(on: Bench) -> Begun:
    """O_TRUNC, write, close; and a truncate by its name while it is open, and behind it."""
    path, ino, tree = await _there(on)
    data = on.data(INLINE)
    trees = [tree.write(path, b"", etag_of(b"")), tree.write(path, b""), tree.write(path, data, etag_of(data))]
    trees += [tree.write(path, data[:1000]), tree.write(path, data[:100])]

    async def do(kernel: Kernel) -> None:
        handle = await kernel.open(ino, os.O_WRONLY | os.O_TRUNC)
        await kernel.door.write(handle, 0, data)
        await _truncate(kernel, ino, 1000)
        await kernel.close(handle)
        await _truncate(kernel, ino, 100)

    return _requests(on, do, tree, trees)


async def _truncate(kernel: Kernel, ino: int, size: int) -> None:
    wanted = pyfuse3.EntryAttributes()
    wanted.st_size = size
    await kernel.door.setattr(_inode(ino), wanted, _Fields(update_size=True), None, _CALLER)


class _Fields(pyfuse3.SetattrFields):
    """Those of setattr that are set."""

    def __init__(self, **fields: bool) -> None:
        self._fields = fields

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("update_"):
            return object.__getattribute__(self, "_fields").get(name, False)
        return object.__getattribute__(self, name)


async def read(on: Bench) -> Begun:
    """In order, so that there is something to read ahead, of what no cache has."""
    path, ino, tree = await _there(on, _STRIPES)
    data = tree.nodes[path].data

    async def do(kernel: Kernel) -> None:
        handle = await kernel.open(ino, os.O_RDONLY)
        for at in range(0, len(data), STRIPED):
            assert await kernel.door.read(handle, at, STRIPED) == data[at : at + STRIPED]
        await kernel.close(handle)

    return _requests(on, do, tree)


async def names(on: Bench) -> Begun:
    """All that is done to names: one thing after the other."""
    one, other, folder = on.name("one"), on.name("other"), on.name("folder")
    parent = await acts.find(on.store, "main")
    trees = [made := on.tree.make(one)]
    trees += [linked := made.link(one, other), renamed := linked.rename(other, f"{other}-new")]
    trees += [unlinked := renamed.unlink(one), symbolic := unlinked.make(one, LINK, b"target")]
    trees += [symbolic.make(f"{folder}/", DIRECTORY), symbolic]
    top = _inode(parent)

    async def do(kernel: Kernel) -> None:
        door, old, new = kernel.door, _name(_name_of(one)), _name(_name_of(other))
        mode = pyfuse3.ModeT(stat.S_IFREG | 0o640)
        made = await door.mknod(top, old, mode, 0, _CALLER)
        await door.link(made.st_ino, top, new, _CALLER)
        await door.rename(top, new, top, _name(bytes(new) + b"-new"), pyfuse3.FlagT(0), _CALLER)
        await door.unlink(top, old, _CALLER)
        link = await door.symlink(top, old, _name(b"target"), _CALLER)
        assert await door.readlink(link.st_ino, _CALLER) == b"target"
        await door.mkdir(top, _name(_name_of(folder)), pyfuse3.ModeT(0o750), _CALLER)
        await door.rmdir(top, _name(_name_of(folder)), _CALLER)
        await door.forget([(made.st_ino, 1)])
        handle = await kernel.opendir(parent)
        await door.fsyncdir(handle, False)
        await kernel.closedir(handle)

    return _requests(on, do, on.tree, trees)


async def rename_written(on: Bench) -> Begun:
    """What is written and not published yet is published before its name moves."""
    path, ino, tree = await _there(on)
    parent, data = _inode(await acts.find(on.store, "main")), on.data(INLINE)
    data += tree.nodes[path].data[INLINE:]
    written = tree.write(path, data)
    trees = [written, written.rename(path, f"{path}-new")]

    async def do(kernel: Kernel) -> None:
        handle = await kernel.open(ino, os.O_WRONLY)
        await kernel.door.write(handle, 0, data[:INLINE])
        old, new = _name(_name_of(path)), _name(_name_of(path) + b"-new")
        await kernel.door.rename(parent, old, parent, new, pyfuse3.FlagT(0), _CALLER)
        await kernel.close(handle)

    return _requests(on, do, tree, trees)


async def unlink_written(on: Bench) -> Begun:
    """A file without a name is written to, and its bytes go with the last handle."""
    path, ino, tree = await _there(on)
    parent = _inode(await acts.find(on.store, "main"))
    data = on.data(_STRIPES)

    async def do(kernel: Kernel) -> None:
        await kernel.door.lookup(parent, _name(_name_of(path)), _CALLER)
        handle = await kernel.open(ino, os.O_RDWR)
        await kernel.door.write(handle, 0, data[:INLINE])
        await kernel.door.unlink(parent, _name(_name_of(path)), _CALLER)
        await kernel.door.write(handle, 0, data)
        await kernel.door.fsync(handle, False)
        await kernel.close(handle)

    written = tree.write(path, data[:INLINE] + tree.nodes[path].data[INLINE:])
    return _requests(on, do, tree, [written, written.unlink(path)])


async def directories(on: Bench) -> Begun:
    """What is asked of names and directories."""
    path, ino, tree = await _there(on)
    parent = await acts.find(on.store, "main")
    await acts.mkdir(on.store, on.name("folder"))  # which is not synced yet
    tree = tree.make(f"{on.name('folder')}/", DIRECTORY)

    async def do(kernel: Kernel) -> None:
        found = await kernel.door.lookup(_inode(parent), _name(_name_of(path)), _CALLER)
        assert found.st_ino == ino
        assert not (await kernel.door.lookup(_inode(parent), _name(b"not-there"), _CALLER)).st_ino
        handle, taken = await kernel.opendir(parent), list[bytes]()

        def reply(token: object, name: bytes, entry: pyfuse3.EntryAttributes, cookie: int) -> bool:
            taken.append(name)
            return True

        with patch.object(pyfuse3, "readdir_reply", reply):  # the kernel's part
            await kernel.door.readdir(handle, 0, _TOKEN)
        assert _name_of(path) in taken
        await kernel.door.fsyncdir(handle, False)
        await kernel.closedir(handle)
        assert (await kernel.door.statfs(_CALLER)).f_blocks

    return _requests(on, do, tree)


async def attributes(on: Bench) -> Begun:
    path, ino, tree = await _there(on)
    name = pyfuse3.XAttrNameT(b"user.colour")

    async def do(kernel: Kernel) -> None:
        wanted = pyfuse3.EntryAttributes()
        wanted.st_mode, wanted.st_mtime_ns = pyfuse3.ModeT(0o600), 5
        fields = _Fields(update_mode=True, update_mtime=True)
        assert (await kernel.door.setattr(_inode(ino), wanted, fields, None, _CALLER)).st_mtime_ns == 5
        await kernel.door.setxattr(_inode(ino), name, b"red", _CALLER)
        assert name in await kernel.door.listxattr(_inode(ino), _CALLER)
        assert await kernel.door.getxattr(_inode(ino), name, _CALLER) == b"red"
        await kernel.door.removexattr(_inode(ino), name, _CALLER)
        try:
            await kernel.door.getxattr(_inode(ino), name, _CALLER)
        except pyfuse3.FUSEError as error:
            assert error.errno == errno.ENODATA  # noqa: PT017 - it is not raised where this is cancelled
        assert stat.S_IMODE((await kernel.door.getattr(_inode(ino), _CALLER)).st_mode) == 0o600
        await kernel.close(await kernel.open(ino, os.O_RDONLY))

    return _requests(on, do, tree, [tree.change(path)])


OPERATIONS: Mapping[str, Operation] = {
    "write-inline": _writes(INLINE),
    "write-stripes": _writes(_STRIPES),
    "rewrite": rewrite,
    "read": read,
    "names": names,
    "rename-written": rename_written,
    "unlink-written": unlink_written,
    "directories": directories,
    "attributes": attributes,
}
