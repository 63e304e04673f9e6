"""Write paths of moves between tiers: copy, swap, what races them, what the next owner goes on with, what is freed."""

from contextlib import ExitStack
from unittest.mock import patch

from stratumfs.catalog import swap
from stratumfs.store import repack
from stratumfs.store.relocate import Relocator
from stratumfs.store.repack import Repack
from stratumfs.store.store import Store
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


async def move_whole(run: Run) -> None:
    """All that lives in a volume goes to a tier of the same code: shards are copied, one row says where it lies, and
    what it left is removed."""
    async with run.opened() as store:
        await _whole_volume(run, store)
        with at_once(), run.recording():
            await acts.move(store, "main/whole", "warm")
            for _ in range(2):
                await store.maintenance.round()
            await _assert_whole(store)


async def move_whole_raced(run: Run) -> None:
    """When its shards are copied, and no row says so yet, an object of it is overwritten, one deleted, one copied."""
    async with run.opened() as store:
        await _whole_volume(run, store)
        await open_volume(run, store)
        await acts.move(store, "rest", "warm")
        if not store.relocator.can_take("warm"):  # of another code: it moves as any other does
            with at_once(), run.recording():
                await acts.move(store, "main/whole", "warm")
            return
        copy = Relocator._copy
        data = run.data(STRIPED)

        with at_once(), ExitStack() as recording:

            async def raced(self: Relocator, *args: object) -> bool:
                done = await copy(self, *args)  # type: ignore[arg-type]
                recording.enter_context(run.recording())
                with run.story.changing(run.tree.put("main/whole/a", data, acts.etag_of(data))):
                    await acts.put(store, "main/whole/a", data)
                with run.story.changing(run.tree.delete("main/whole/b")):
                    await acts.delete(store, "main/whole/b")
                kept = run.tree.nodes["main/whole/c"]
                with run.story.changing(run.tree.put("main/copied", kept.data, acts.etag_of(kept.data))):
                    await acts.copy(store, "main/whole/c", "main/copied")
                return done

            with patch.object(Relocator, "_copy", raced):
                await acts.move(store, "main/whole", "warm")
            await _assert_whole(store)


async def _whole_volume(run: Run, store: Store) -> None:
    """A sealed volume with three objects and nothing else."""
    for key in "abc":
        data = run.data(STRIPED)
        run.story.tree = run.tree.put(f"main/whole/{key}", data, await acts.put(store, f"main/whole/{key}", data))
    await store.writer.volumes.seal_idle(0)


async def _assert_whole(store: Store) -> None:
    if not store.relocator.can_take("warm"):  # a rehearsal draws other codes, too
        return
    ino = await acts.find(store, "main/whole/c")
    [extent] = await store.reader.layout(ino, 0, STRIPED)
    assert extent.location is not None
    assert (await store.reader.volume(extent.location.volume)).tier == "warm"


PATHS = {
    "move": move,
    "move-raced": move_raced,
    "move-resumed": move_resumed,
    "move-freed": move_freed,
    "move-whole": move_whole,
    "move-whole-raced": move_whole_raced,
}
