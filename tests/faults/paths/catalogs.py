"""Write paths of what a catalog can be made again of: namespace images, and another catalog put in the place of one."""

import tempfile
from functools import partial
from pathlib import Path

import trio

from stratumfs.errors import WriteConflict
from stratumfs.owner.dump import dump, load
from stratumfs.store.store import Store
from tests.faults import acts
from tests.faults.base import INLINE
from tests.faults.paths.volumes import at_once
from tests.faults.run import Run


async def image(run: Run) -> None:
    """The first namespace image is written, sealed and named."""
    async with run.opened() as store:
        with run.recording(), run.story.promising():
            await _write_image(store)


async def image_superseded(run: Run) -> None:
    """A third one takes the place of the first, whose shards go."""
    async with run.opened() as store:
        for _ in range(2):
            await store.imager.write()
        with at_once(), run.recording(), run.story.promising():
            await _write_image(store)
            await store.maintenance.round()


async def _write_image(store: Store) -> None:
    """Where a device is lost meanwhile another one is written, as its task does."""
    try:
        await store.imager.write()
    except WriteConflict:
        await store.imager.write()


async def load_catalog(run: Run) -> None:
    """A dump of an earlier moment is put in the place of a catalog that is there."""
    before = run.tree
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "dump"
        async with run.opened() as store:
            await dump(store.id, store.catalog, run.root / "store", text)
            data = run.data(INLINE)
            run.story.tree = run.tree.put("main/later", data, await acts.put(store, "main/later", data))
        with run.recording(), run.story.changing(before):
            await trio.to_thread.run_sync(partial(load, text, run.root / "store", force=True))


PATHS = {"image": image, "image-superseded": image_superseded, "load": load_catalog}
