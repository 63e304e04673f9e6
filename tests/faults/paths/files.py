"""Write paths of POSIX calls, as the mount makes them."""

import time
from contextlib import suppress

from stratumfs.catalog import extents
from stratumfs.errors import NoSuchObject
from stratumfs.values import AttributeChange
from tests.faults import acts
from tests.faults.base import INLINE, STRIPED
from tests.faults.paths.objects import open_volume
from tests.faults.run import Run, smaller
from tests.faults.tree import DIRECTORY, FILE, LINK


async def create_fsync(run: Run) -> None:
    """create, write, fsync: short runs inline, long ones in stripes; close adds nothing."""
    async with run.opened() as store:
        await open_volume(run, store)
        short, long = run.data(INLINE), run.data(STRIPED)
        with run.recording():
            with run.story.changing(run.tree.make("main/dir/new"), durable=False):
                ino = (await acts.make(store, "main/dir/new")).ino
            data = long.ljust(2 * STRIPED, b"\0") + short
            with run.story.changing(run.tree.write("main/dir/new", data)):
                await acts.publish(store, ino, [(0, long), (2 * STRIPED, short)], len(data), durable=True)
            with run.story.promising():
                await store.files.settle([ino])


async def close_published(run: Run) -> None:
    """A publication that nobody waits for (``close=published``, 30 s of age), then an fsync with nothing pending."""
    async with run.opened() as store:
        data = run.data(INLINE)
        with run.recording():
            with run.story.changing(run.tree.make("main/dir/new"), durable=False):
                ino = (await acts.make(store, "main/dir/new")).ino
            with run.story.changing(run.tree.write("main/dir/new", data), durable=False):
                await acts.publish(store, ino, [(0, data)], len(data), durable=False)
            with run.story.promising():
                await store.files.settle([ino])


async def overwrite_range(run: Run) -> None:
    """fsync of writes into the middle of a file: its extent in stripes is trimmed on both sides."""
    async with run.opened() as store:
        await open_volume(run, store)
        old, middle = run.tree.nodes["main/dir/big"].data, run.data(INLINE)
        data = old[:9000] + middle + old[9000 + INLINE :]
        more = run.data(STRIPED)
        ino = await acts.find(store, "main/dir/big")
        with run.recording():
            with run.story.changing(run.tree.write("main/dir/big", data)):
                await acts.publish(store, ino, [(9000, middle)], len(data), durable=True)
            data = data[:20_000] + more
            with run.story.changing(run.tree.write("main/dir/big", data)):
                await acts.publish(store, ino, [(20_000, more)], len(data), durable=True)


async def truncate(run: Run) -> None:
    """ftruncate to less, to nothing, to more, each with fsync."""
    async with run.opened() as store:
        data = run.tree.nodes["main/dir/big"].data
        ino = await acts.find(store, "main/dir/big")
        with run.recording():
            for size in (12_345, 0, 500):
                data = data[:size].ljust(size, b"\0")
                with run.story.changing(run.tree.write("main/dir/big", data), durable=False):
                    await store.files.truncate(ino, size, time.time_ns())
                with run.story.promising():
                    await store.files.settle([ino])


async def truncate_many(run: Run) -> None:
    """ftruncate of a file with more extents than one transaction clears: a row hides them, chunks delete them."""
    async with run.opened() as store:
        pieces = [(at * 2000, run.data(1000)) for at in range(7)]
        data = b"".join(piece.ljust(2000, b"\0") for _, piece in pieces)
        ino = (await acts.make(store, "main/holes")).ino
        await acts.publish(store, ino, pieces, len(data), durable=True)
        run.story.tree = run.tree.make("main/holes", data=data)
        with smaller(extents, _CLEAR_MAX=2, TRANSACTION_ROWS_MAX=2), run.recording():
            with run.story.changing(run.tree.write("main/holes", data[:500]), durable=False):
                await store.files.truncate(ino, 500, time.time_ns())
            more = run.data(3000)
            data = data[:500].ljust(3000, b"\0") + more
            with run.story.changing(run.tree.write("main/holes", data)):
                await acts.publish(store, ino, [(3000, more)], len(data), durable=True)
            await store.maintenance.round()


async def rename(run: Run) -> None:
    """rename of a file into another directory, then over a file, whose bytes are reaped; fsync behind each."""
    async with run.opened() as store:
        ino = await acts.find(store, "main/striped")
        with run.recording():
            for old, new in (("main/striped", "main/empty/moved"), ("main/empty/moved", "main/dir/big")):
                with run.story.changing(run.tree.rename(old, new), durable=False):
                    await acts.rename(store, old, new)
                with run.story.promising():
                    await store.files.settle([ino])
            await store.maintenance.round()


async def rename_directory(run: Run) -> None:
    """rename of a directory with all below it, over an empty one; an implied one that moves becomes explicit."""
    async with run.opened() as store:
        with run.recording():
            for old, new in (("main/dir/", "main/empty/"), ("main/deep/er/", "main/empty/er/")):
                with run.story.changing(run.tree.rename(old, new), durable=False):
                    await acts.rename(store, old, new)
            with run.story.promising():
                await store.files.settle([await acts.find(store, "main/empty")])
            await store.maintenance.round()


async def exchange(run: Run) -> None:
    """renameat2 with RENAME_EXCHANGE."""
    async with run.opened() as store:
        one, other = "main/inline", "main/dir/big"
        tree = run.tree.rename(one, "main/aside").rename(other, one).rename("main/aside", other)
        with run.recording():
            with run.story.changing(tree, durable=False):
                await acts.rename(store, one, other, exchange=True)
            with run.story.promising():
                await store.files.settle([await acts.find(store, one)])


async def link_unlink(run: Run) -> None:
    """link, unlink of one of several names, unlink of the last one; fsync of the directory behind each."""
    async with run.opened() as store:
        directory = await acts.find(store, "main/dir")
        with run.recording():
            with run.story.changing(run.tree.link("main/dir/big", "main/dir/twin"), durable=False):
                await acts.link(store, "main/dir/big", "main/dir/twin")
            with run.story.promising():
                await store.files.settle([directory])
            for path in ("main/dir/big", "main/dir/twin"):
                with run.story.changing(run.tree.unlink(path), durable=False):
                    await acts.unlink(store, path)
                with run.story.promising():
                    await store.files.settle([directory])
            await store.maintenance.round()


async def unlink_open(run: Run) -> None:
    """unlink of a file that is open: its bytes stay as long as it is held, and are reaped afterwards."""
    async with run.opened() as store:
        ino = await acts.find(store, "main/striped")
        data = run.tree.nodes["main/striped"].data
        store.holds.take(ino)
        with run.recording():
            with run.story.changing(run.tree.unlink("main/striped"), durable=False):
                await acts.unlink(store, "main/striped")
            await store.maintenance.round()
            assert bytes(await store.reader.read(ino, 0, len(data))) == data
            store.holds.drop(ino)
            await store.maintenance.round()
            with run.story.promising():
                await store.files.settle([await acts.find(store, "main")])


async def directories(run: Run) -> None:
    """mkdir, symlink, rmdir; fsync of the directory above."""
    async with run.opened() as store:
        above = await acts.find(store, "main")
        with run.recording():
            with run.story.changing(run.tree.make("main/made/", DIRECTORY), durable=False):
                await acts.mkdir(store, "main/made")
            with run.story.changing(run.tree.make("main/made/link", LINK, b"../inline"), durable=False):
                await acts.make(store, "main/made/link", LINK, b"../inline")
            with run.story.promising():
                await store.files.settle([await acts.find(store, "main/made")])
            with run.story.changing(run.tree.unlink("main/empty/"), durable=False):
                await acts.rmdir(store, "main/empty")
            with run.story.promising():
                await store.files.settle([above])
            await store.maintenance.round()


async def attributes(run: Run) -> None:
    """chmod, and a user attribute that is an object's metadata; fsync."""
    async with run.opened() as store:
        ino = await acts.find(store, "main/inline")
        with run.recording():
            with run.story.changing(run.tree.change("main/inline"), durable=False):
                await store.files.set_attributes(ino, AttributeChange(mode=0o600), time.time_ns())
            changed = run.tree.change("main/inline", metadata=(("made", "by hand"),))
            with run.story.changing(changed, durable=False):
                await store.files.set_xattr(ino, b"user.s3.meta.made", b"by hand", time.time_ns())
            with run.story.promising():
                await store.files.settle([ino])


async def seen_by_s3(run: Run) -> None:
    """Changes through the mount that nobody synced: the S3 answer that shows one waits until it is durable, be it a
    HEAD, a 404 or a list."""
    async with run.opened() as store:
        with run.recording():
            with run.story.changing(run.tree.make("main/dir/new", FILE), durable=False):
                await acts.make(store, "main/dir/new")
            with run.story.promising():
                await store.objects.info("main", b"dir/new")
            with run.story.changing(run.tree.unlink("main/inline"), durable=False):
                await acts.unlink(store, "main/inline")
            with run.story.promising(), suppress(NoSuchObject):
                await store.objects.info("main", b"inline")
            with run.story.changing(run.tree.make("rest/made/", DIRECTORY), durable=False):
                await acts.mkdir(store, "rest/made")
            with run.story.promising():
                await store.objects.list("rest")


PATHS = {
    "create-fsync": create_fsync,
    "close-published": close_published,
    "overwrite-range": overwrite_range,
    "truncate": truncate,
    "truncate-many": truncate_many,
    "rename": rename,
    "rename-directory": rename_directory,
    "exchange": exchange,
    "link-unlink": link_unlink,
    "unlink-open": unlink_open,
    "directories": directories,
    "attributes": attributes,
    "seen-by-s3": seen_by_s3,
}
