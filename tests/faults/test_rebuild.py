"""A rebuild of the catalog that is stopped at each of its steps can be done again, and nothing is lost by it."""

import random
import shutil
from pathlib import Path

import pytest
import trio

from stratumfs.errors import ConfigError
from stratumfs.owner.rebuild_catalog import rebuild_catalog
from tests.faults import acts
from tests.faults.base import STRIPED
from tests.faults.check import wrong_after, wrong_here
from tests.faults.conftest import SEED
from tests.faults.disk import Image, write_image
from tests.faults.record import record, stops
from tests.faults.run import Run, opened
from tests.faults.tree import Tree

pytestmark = pytest.mark.slow

ALL = 1 << 40


async def _rebuild(run: Run) -> None:
    """Of an image and a younger volume; all bytes lie in volumes."""
    async with opened(run.root) as store:
        await store.packer.round(ALL)
        await store.imager.write()
        await store.writer.volumes.seal_idle(0)
        data = run.data(STRIPED)
        etag = await acts.put(store, "main/younger", data)
        await store.writer.volumes.seal_idle(0)
        run.story.tree = run.tree.put("main/younger", data, etag)
    _lose(run.root)
    with run.recording():
        await trio.to_thread.run_sync(rebuild_catalog, run.root / "d2")


def _lose(root: Path) -> None:
    shutil.rmtree(root / "store")
    for copy in root.glob("[dw]*/catalog"):
        shutil.rmtree(copy)


async def test_a_rebuild_that_was_stopped_is_done_again(root: Path, base: tuple[Image, Tree]) -> None:
    recorded = await record(_rebuild, root, *base, SEED)
    again = 0
    rng = random.Random(SEED)
    for stop in stops(recorded, recorded.thinned(rng), rng):
        write_image(stop.image, root)
        try:
            await trio.to_thread.run_sync(rebuild_catalog, root / "d2")
            again += 1
        except ConfigError as error:  # the new one is there
            if "has the catalog" not in str(error):
                raise
        wrong = await wrong_here(root, stop.expected)
        assert not wrong, "\n".join([str(stop), *wrong])
    assert again
    # The last one is a power cut behind it.
    assert not (wrong := await wrong_after(stop.image, root, stop.expected)), "\n".join([str(stop), *wrong[-6:]])
