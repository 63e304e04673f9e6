"""Write paths of moves between tiers: copy, swap, what races them, what the next owner goes on with, what is freed."""

from contextlib import ExitStack
from unittest.mock import patch

from stratumfs.catalog import swap
from stratumfs.store import repack
from stratumfs.store.repack import Repack
from tests.faults import acts
from tests.faults.base import STRIPED
from tests.faults.paths.objects import open_volume
from tests.faults.paths.volumes import at_once
from tests.faults.run import Run, smaller
from tiering.move import Mover


async def move(run: Run) -> None:
    """An object is moved, in two steps; the first volume of the tier is opened for it."""
    async with run.opened() as store:
        with (
            smaller(repack, REPACK_BYTES=STRIPED // 2 + 1000),
            smaller(swap, SWAP_ROWS=1),
            run.recording(),
        ):
            await acts.move(store, "main/striped", "warm")


async def move_raced(run: Run) -> None:
    """While the copies of a file and an object are not named yet, the file is overwritten in part, and the object
    deleted."""
    async with run.opened() as store:
        await acts.move(store, "rest", "warm")  # so that a volume is open there
        await open_volume(run, store)
        ino = await acts.find(store, "main/dir/big")
        patched, at = run.data(STRIPED // 2), STRIPED // 4
        old = run.tree.nodes["main/dir/big"].data
        written = run.tree.write("main/dir/big", old[:at] + patched + old[at + len(patched) :])
        swap_rows = Repack._swap
        with ExitStack() as recording:

            async def raced(self: Repack, *args: object) -> None:
                if not run.stories:
                    recording.enter_context(run.recording())
                    with run.story.changing(written):
                        await acts.publish(store, ino, [(at, patched)], STRIPED, durable=True)
                    with run.story.changing(written.delete("main/striped")):
                        await acts.delete(store, "main/striped")
                await swap_rows(self, *args)  # type: ignore[arg-type]

            with patch.object(Repack, "_swap", raced):
                await acts.move(store, "main", "warm")


async def move_resumed(run: Run) -> None:
    """A store whose owner was killed in the middle of a move is open again, and goes on with it."""
    async with run.crashed() as store:
        asked = await Mover(store).ask(await acts.find(store, "main"), "warm", acts.UID, "by hand")
        with Repack(store.catalog, store.reader, store.writers["warm"], move=asked.row.id).running() as repack:
            await repack.inode(await acts.find(store, "main/striped"))
            await repack.flush()
    async with run.opened() as store:
        with run.recording():
            await acts.finish_moves(store)


async def move_freed(run: Run) -> None:
    """All that a volume held was moved: it is marked, and behind the sync of that its shards are removed."""
    async with run.opened() as store:
        await open_volume(run, store)
        await acts.move(store, "main/earlier", "warm")
        await store.writer.volumes.seal_idle(0)
        with at_once(), run.recording():
            for _ in range(3):
                await store.maintenance.round()


PATHS = {
    "move": move,
    "move-raced": move_raced,
    "move-resumed": move_resumed,
    "move-freed": move_freed,
}
