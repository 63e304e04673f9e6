"""Write paths of multipart uploads."""

from stratumfs.store import content, multipart
from tests.faults import acts
from tests.faults.acts import etag_of
from tests.faults.base import INLINE, STRIPED
from tests.faults.paths.objects import open_volume
from tests.faults.run import Run, smaller

PATH = "main/parted"


async def part(run: Run) -> None:
    """CreateMultipartUpload, a part inline, a part in stripes, and that part once more with other bytes."""
    async with run.opened() as store:
        await open_volume(run, store)
        parts = {1: run.data(INLINE), 2: run.data(STRIPED)}
        with run.recording():
            with run.story.changing(run.tree.upload(PATH, {})):
                ident = await acts.begin_upload(store, PATH)
            with run.story.changing(run.tree.upload(PATH, {1: parts[1]})):
                await acts.put_part(store, PATH, ident, 1, parts[1])
            with run.story.changing(run.tree.upload(PATH, parts)):
                await acts.put_part(store, PATH, ident, 2, parts[2])
            parts[2] = run.data(INLINE)
            with run.story.changing(run.tree.upload(PATH, parts)):
                await acts.put_part(store, PATH, ident, 2, parts[2])
            await store.maintenance.round()


async def complete(run: Run) -> None:
    """CompleteMultipartUpload: staged, switched in one row, parts dropped; then tidied."""
    async with run.opened() as store:
        ident = await acts.begin_upload(store, PATH)
        bodies = [run.data(size) for size in (STRIPED, INLINE, STRIPED)]
        parts = [await acts.put_part(store, PATH, ident, number, body) for number, body in enumerate(bodies, 1)]
        before = run.tree
        run.story.tree = before.upload(PATH, dict(enumerate(bodies, 1)))
        etag = etag_of(b"".join(bytes.fromhex(part.etag) for part in parts)) + "-3"
        with smaller(multipart, PART_MIN=1), smaller(content, TRANSACTION_ROWS_MAX=2), run.recording():
            with run.story.changing(before.put(PATH, b"".join(bodies), etag)):
                await acts.complete(store, PATH, ident, parts)
            await store.maintenance.round()


async def abort(run: Run) -> None:
    """AbortMultipartUpload: closed in one row, parts dropped; then tidied."""
    async with run.opened() as store:
        ident = await acts.begin_upload(store, PATH)
        bodies = {number: run.data(size) for number, size in ((1, STRIPED), (2, INLINE))}
        for number, body in bodies.items():
            await acts.put_part(store, PATH, ident, number, body)
        before = run.tree
        run.story.tree = before.upload(PATH, bodies)
        with run.recording():
            with run.story.changing(before):
                await acts.abort(store, PATH, ident)
            await store.maintenance.round()


PATHS = {"part": part, "complete": complete, "abort": abort}
