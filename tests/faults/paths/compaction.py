"""Write paths of what the store moves by itself: inline extents that are packed."""

from contextlib import ExitStack
from unittest.mock import patch

from stratumfs.store import repack
from stratumfs.store.repack import Repack
from tests.faults import acts
from tests.faults.base import INLINE
from tests.faults.paths.objects import open_volume
from tests.faults.run import Run, smaller

ALL = 1 << 40


async def pack(run: Run) -> None:
    """All inline extents are packed, in two steps; their rows are swapped two at a time."""
    async with run.opened() as store:
        await open_volume(run, store)
        with smaller(repack, REPACK_RUNS=4, PACK_ROWS=2), run.recording():
            await store.packer.round(ALL)


async def pack_raced(run: Run) -> None:
    """While the copies of inline extents are not named yet, a file of them is overwritten in part, and an object
    deleted."""
    async with run.opened() as store:
        await open_volume(run, store)
        ino = await acts.find(store, "main/dir/file")
        old, new = run.tree.nodes["main/dir/file"].data, run.data(100)
        written = run.tree.write("main/dir/file", old[:1000] + new + old[1100:])
        swap_rows = Repack._swap_inline
        with ExitStack() as recording:

            async def raced(self: Repack, *args: object) -> None:
                if not run.stories:
                    recording.enter_context(run.recording())
                    with run.story.changing(written):
                        await acts.publish(store, ino, [(1000, new)], INLINE, durable=True)
                    with run.story.changing(written.delete("main/inline")):
                        await acts.delete(store, "main/inline")
                await swap_rows(self, *args)  # type: ignore[arg-type]

            with patch.object(Repack, "_swap_inline", raced):
                await store.packer.round(ALL)


PATHS = {"pack": pack, "pack-raced": pack_raced}
