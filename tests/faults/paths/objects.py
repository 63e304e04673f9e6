"""Write paths of S3's calls on objects and buckets."""

import time

from stratumfs.store import content
from stratumfs.store.store import Store
from stratumfs.values import Conditions
from tests.faults import acts
from tests.faults.acts import etag_of
from tests.faults.base import INLINE, STRIPED
from tests.faults.run import Run, smaller
from tests.faults.tree import DIRECTORY


async def open_volume(run: Run, store: Store) -> None:
    """Have a volume open, so that the path's own steps begin with its stripes."""
    data = run.data(STRIPED)
    run.story.tree = run.tree.put("main/earlier", data, await acts.put(store, "main/earlier", data))


async def put_inline(run: Run) -> None:
    """PUT of a short body, under a key that implies directories."""
    async with run.opened() as store:
        data = run.data(INLINE)
        with run.recording(), run.story.changing(run.tree.put("main/new/er/key", data, etag_of(data), a="b")):
            await acts.put(store, "main/new/er/key", data, a="b")


async def put_stripes(run: Run) -> None:
    """PUT of a body of several stripes."""
    async with run.opened() as store:
        await open_volume(run, store)
        store.writer.stripe_payload = STRIPED
        data = run.data(2 * STRIPED + 1)
        with run.recording(), run.story.changing(run.tree.put("main/new", data, etag_of(data))):
            await acts.put(store, "main/new", data)


async def put_hinted(run: Run) -> None:
    """PUT of a body with a hint: it lands in the slower tier, where a volume is opened for it."""
    async with run.opened() as store:
        data, hint = run.data(STRIPED), {"stratum-hint": "cold"}
        with (
            run.recording(),
            run.story.changing(run.tree.put("main/hinted", data, etag_of(data), **hint)),
        ):
            await acts.put(store, "main/hinted", data, **hint)
        [extent] = await store.reader.layout(await acts.find(store, "main/hinted"), 0, STRIPED)
        assert extent.location is not None
        assert (await store.reader.volume(extent.location.volume)).tier == "warm"


async def put_staged(run: Run) -> None:
    """PUT of a body with more extents than one transaction takes."""
    async with run.opened() as store:
        await open_volume(run, store)
        store.writer.stripe_payload = STRIPED // 2
        data = run.data(5 * STRIPED // 2)
        with (
            smaller(content, TRANSACTION_ROWS_MAX=2),
            run.recording(),
            run.story.changing(run.tree.put("main/new", data, etag_of(data))),
        ):
            await acts.put(store, "main/new", data)


async def overwrite_by_stripes(run: Run) -> None:
    """PUT over an object that is inline; what it replaces is reaped."""
    async with run.opened() as store:
        await open_volume(run, store)
        data = run.data(STRIPED)
        with run.recording():
            with run.story.changing(run.tree.put("main/inline", data, etag_of(data))):
                await acts.put(store, "main/inline", data)
            await store.maintenance.round()


async def overwrite_by_inline(run: Run) -> None:
    """PUT over an object in stripes; what it replaces is reaped."""
    async with run.opened() as store:
        data = run.data(INLINE)
        with run.recording():
            with run.story.changing(run.tree.put("main/striped", data, etag_of(data), new="yes")):
                await acts.put(store, "main/striped", data, new="yes")
            await store.maintenance.round()


async def overwrite_file(run: Run) -> None:
    """PUT over a file that the mount made and that has a second name, which keeps the old bytes."""
    async with run.opened() as store:
        data = run.data(INLINE)
        with run.recording(), run.story.changing(run.tree.put("main/dir/hard", data, etag_of(data))):
            await acts.put(store, "main/dir/hard", data)


async def delete(run: Run) -> None:
    """DELETE of an object in stripes, then of one that is the last below the directories that it implies."""
    async with run.opened() as store:
        with run.recording():
            for path in ("main/striped", "main/deep/er/key"):
                with run.story.changing(run.tree.delete(path)):
                    await acts.delete(store, path)
            await store.maintenance.round()


async def delete_many(run: Run) -> None:
    """DeleteObjects: all of a chunk in one transaction."""
    async with run.opened() as store:
        keys = ("main/inline", "main/striped", "main/dir/file", "main/empty/")
        tree = run.tree
        for key in keys:
            tree = tree.delete(key)
        with run.recording(), run.story.changing(tree):
            named = [(key.removeprefix("main/").encode(), Conditions()) for key in keys]
            await store.objects.delete_many("main", named, time.time_ns())


async def copy(run: Run) -> None:
    """CopyObject: bytes shared, then the source deleted."""
    async with run.opened() as store:
        data = run.tree.nodes["main/striped"].data
        with run.recording():
            with run.story.changing(run.tree.put("rest/copied", data, etag_of(data))):
                await acts.copy(store, "main/striped", "rest/copied")
            with run.story.changing(run.tree.delete("main/striped")):
                await acts.delete(store, "main/striped")
            await store.maintenance.round()


async def copy_staged(run: Run) -> None:
    """CopyObject of a file with more extents than one transaction takes."""
    async with run.opened() as store:
        pieces = [(at * 2000, run.data(1000)) for at in range(5)]
        data = b"".join(piece.ljust(2000, b"\0") for _, piece in pieces)
        ino = (await acts.make(store, "main/holes")).ino
        await acts.publish(store, ino, pieces, len(data), durable=True, etag=etag_of(data))
        run.story.tree = run.tree.make("main/holes", data=data)
        with (
            smaller(content, TRANSACTION_ROWS_MAX=2),
            run.recording(),
            run.story.changing(run.tree.put("rest/copied", data, etag_of(data))),
        ):
            await acts.copy(store, "main/holes", "rest/copied")


async def bucket_create(run: Run) -> None:
    """CreateBucket, and an object in it."""
    async with run.opened() as store:
        data = run.data(10)
        with run.recording():
            with run.story.changing(run.tree.make("fresh/", DIRECTORY)):
                await store.objects.create_bucket("fresh", time.time_ns())
            with run.story.changing(run.tree.put("fresh/key", data, etag_of(data))):
                await acts.put(store, "fresh/key", data)


async def bucket_delete(run: Run) -> None:
    """DeleteBucket of a bucket with an unfinished upload."""
    async with run.opened() as store:
        await store.objects.create_bucket("fresh", time.time_ns())
        ident = await acts.begin_upload(store, "fresh/upload")
        data = run.data(STRIPED)
        await acts.put_part(store, "fresh/upload", ident, 1, data)
        without = run.tree
        run.story.tree = without.make("fresh/", DIRECTORY).upload("fresh/upload", {1: data})
        with run.recording():
            with run.story.changing(without):
                await store.objects.delete_bucket("fresh")
            await store.maintenance.round()


PATHS = {
    "put-inline": put_inline,
    "put-stripes": put_stripes,
    "put-hinted": put_hinted,
    "put-staged": put_staged,
    "overwrite-by-stripes": overwrite_by_stripes,
    "overwrite-by-inline": overwrite_by_inline,
    "overwrite-file": overwrite_file,
    "delete": delete,
    "delete-many": delete_many,
    "copy": copy,
    "copy-staged": copy_staged,
    "bucket-create": bucket_create,
    "bucket-delete": bucket_delete,
}
