"""Write paths of the mount's handlers, with its buffers: what a program writes is in memory until it is published."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pyfuse3
import trio

from stratumfs.errors import StoreReadOnly
from stratumfs.fuse.door import DoorOptions
from stratumfs.fuse.operations import Operations
from stratumfs.store.store import Store
from tests.faults import acts
from tests.faults.acts import etag_of
from tests.faults.base import INLINE, STRIPED
from tests.faults.paths.objects import open_volume
from tests.faults.run import Run


def _no_kernel(*args: object) -> None:
    pass


@asynccontextmanager
async def _mounted(run: Run, *, published: bool = False) -> AsyncIterator[tuple[Store, Operations]]:
    """The handlers of a mount, called as the kernel would."""
    async with run.opened() as store, trio.open_nursery() as nursery:
        yield store, Operations(store, nursery, DoorOptions(published=published), _no_kernel, _no_kernel)
        nursery.cancel_scope.cancel()


async def _create(door: Operations, directory: int, name: bytes) -> pyfuse3.FileHandleT:
    context = pyfuse3.RequestContext()
    flags = pyfuse3.FlagT(os.O_WRONLY | os.O_CREAT)
    found, _ = await door.create(
        pyfuse3.InodeT(directory), pyfuse3.FileNameT(name), pyfuse3.ModeT(0o640), flags, context
    )
    return found.fh


async def _open(door: Operations, ino: int, flags: int) -> pyfuse3.FileHandleT:
    return (await door.open(pyfuse3.InodeT(ino), pyfuse3.FlagT(flags), pyfuse3.RequestContext())).fh


async def close(run: Run) -> None:
    """create, write from the first byte to the last, close: FUSE's flush, then its release."""
    async with _mounted(run) as (store, door):
        await open_volume(run, store)
        directory = await acts.find(store, "main/dir")
        data = run.data(STRIPED)
        with run.recording():
            with run.story.changing(run.tree.make("main/dir/new"), durable=False):
                handle = await _create(door, directory, b"new")
            for at in range(0, len(data), 4096):
                await door.write(handle, at, data[at : at + 4096])
            with run.story.changing(run.tree.write("main/dir/new", data, etag_of(data))):
                await door.flush(handle)
            await door.release(handle)


async def fsync(run: Run) -> None:
    """Writes here and there into a file that is there, and fsync of another handle; then more of it, and close."""
    async with _mounted(run) as (store, door):
        await open_volume(run, store)
        data = bytearray(run.tree.nodes["main/dir/big"].data)
        ino = await acts.find(store, "main/dir/big")
        with run.recording():
            handle, other = await _open(door, ino, os.O_WRONLY), await _open(door, ino, os.O_RDWR)
            for at, size in ((5000, INLINE), (60_000, 100), (100, 10), (20_000, STRIPED)):
                piece = run.data(size)
                data[len(data) :] = bytes(max(0, at - len(data)))
                data[at : at + size] = piece
                await door.write(handle, at, piece)
            with run.story.changing(run.tree.write("main/dir/big", bytes(data))):
                await door.fsync(other, False)
            piece = run.data(INLINE)
            data[:INLINE] = piece
            await door.write(other, 0, piece)
            with run.story.changing(run.tree.write("main/dir/big", bytes(data))):
                await door.flush(handle)
            await door.release(handle)
            await door.release(other)


async def close_published(run: Run) -> None:
    """``close=published``: close starts the publication and returns; an fsync of the directory, later, covers it."""
    async with _mounted(run, published=True) as (store, door):
        directory = await acts.find(store, "main/dir")
        data = run.data(INLINE)
        with run.recording():
            with run.story.changing(run.tree.make("main/dir/new"), durable=False):
                handle = await _create(door, directory, b"new")
            await door.write(handle, 0, data)
            with run.story.changing(run.tree.write("main/dir/new", data, etag_of(data)), durable=False):
                await door.flush(handle)
                await door.release(handle)
                await door.buffers.publish_all()
                if door.buffers.late_errors:
                    raise StoreReadOnly("it was not published, and the log says so")
            with run.story.promising():
                await store.files.settle([await acts.find(store, "main/dir/new")])


async def rewrite(run: Run) -> None:
    """O_TRUNC, write, close: the way of an editor that does not rename. Until close the old bytes are there."""
    async with _mounted(run) as (store, door):
        data = run.data(INLINE)
        ino = await acts.find(store, "main/dir/file")
        with run.recording():
            handle = await _open(door, ino, os.O_WRONLY | os.O_TRUNC)
            await door.write(handle, 0, data)
            with run.story.changing(run.tree.write("main/dir/file", data, etag_of(data))):
                await door.flush(handle)
            await door.release(handle)


async def unlinked(run: Run) -> None:
    """A file is unlinked while it is open and written to; its bytes go with the last handle."""
    async with _mounted(run) as (store, door):
        await open_volume(run, store)
        directory, ino = await acts.find(store, "main/dir"), await acts.find(store, "main/dir/big")
        with run.recording():
            handle = await _open(door, ino, os.O_WRONLY)
            await door.write(handle, 0, run.data(STRIPED))
            with run.story.changing(run.tree.unlink("main/dir/big"), durable=False):
                await door.unlink(pyfuse3.InodeT(directory), pyfuse3.FileNameT(b"big"), pyfuse3.RequestContext())
            await store.maintenance.round()
            await door.write(handle, STRIPED, run.data(INLINE))
            await door.flush(handle)
            await door.release(handle)
            await store.maintenance.round()
            with run.story.promising():
                await store.files.settle([directory])


PATHS = {
    "mount-close": close,
    "mount-fsync": fsync,
    "mount-close-published": close_published,
    "mount-rewrite": rewrite,
    "mount-unlinked": unlinked,
}
