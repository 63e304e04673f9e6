"""Write paths of what the store moves by itself: inline extents that are packed, volumes that are repacked."""

from contextlib import ExitStack
from unittest.mock import patch

from stratumfs.catalog import compaction, swap
from stratumfs.catalog import defragment as rows
from stratumfs.ids import InodeNo
from stratumfs.store import defragment as defragmenter
from stratumfs.store import inline, repack
from stratumfs.store.defragment import Defragmenter
from stratumfs.store.repack import Repack
from stratumfs.store.store import Store
from tests.faults import acts
from tests.faults.base import INLINE, STRIPED
from tests.faults.paths.objects import open_volume
from tests.faults.paths.volumes import at_once
from tests.faults.run import Run, smaller

ALL = 1 << 40
PIECES, PIECE = 10, 6000


async def pack(run: Run) -> None:
    """All inline extents are packed, in two steps; their rows are swapped two at a time."""
    async with run.opened() as store:
        await open_volume(run, store)
        with smaller(repack, REPACK_RUNS=4, SWAP_ROWS=2), run.recording():
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


async def compact(run: Run) -> None:
    """A volume that is half dead is repacked in two steps, its rows swapped one by one, and freed."""
    async with run.opened() as store:
        await _half_dead(run, store)
        with (
            at_once(),
            smaller(repack, REPACK_BYTES=STRIPED // 2 + 1000),
            smaller(swap, SWAP_ROWS=1),
            run.recording(),
        ):
            await store.compactor.round()
            for _ in range(2):
                await store.maintenance.round()


async def compact_raced(run: Run) -> None:
    """While the copies are not named yet, one of two files is overwritten in part, and the other removed."""
    async with run.opened() as store:
        await acts.write_file(store, "main/dir/one", one := run.data(STRIPED))
        await acts.write_file(store, "main/dir/two", two := run.data(STRIPED))
        run.story.tree = run.tree.make("main/dir/one", data=one).make("main/dir/two", data=two)
        ino = await acts.find(store, "main/dir/one")
        await _half_dead(run, store)
        new, at = run.data(STRIPED // 2), STRIPED // 4
        written = run.tree.write("main/dir/one", one[:at] + new + one[at + len(new) :])
        swap_rows = Repack._swap
        with ExitStack() as recording:

            async def raced(self: Repack, *args: object) -> None:
                if not run.stories:
                    recording.enter_context(run.recording())
                    with run.story.changing(written):
                        await acts.publish(store, ino, [(at, new)], STRIPED, durable=True)
                    with run.story.changing(written.unlink("main/dir/two"), durable=False):
                        await acts.unlink(store, "main/dir/two")
                await swap_rows(self, *args)  # type: ignore[arg-type]

            with at_once(), patch.object(Repack, "_swap", raced):
                await store.compactor.round()


async def merge(run: Run) -> None:
    """Two small volumes become one."""
    async with run.opened() as store:
        for name in ("one", "two"):
            data = run.data(STRIPED)
            run.story.tree = run.tree.put(f"main/{name}", data, await acts.put(store, f"main/{name}", data))
            await store.writer.volumes.seal_idle(0)
        with at_once(), smaller(compaction, MERGE_VOLUMES=2), run.recording():
            await store.compactor.round()


async def defragment(run: Run) -> None:
    """A file written in small pieces, inline ones and others, is copied together; its rows go four at a time."""
    async with run.opened() as store:
        await open_volume(run, store)
        ino, data = await _in_pieces(run, store)
        with smaller(rows, SWAP_ROWS=4), smaller(defragmenter, FRAGMENTS_MIN=2), run.recording():
            assert await store.defragmenter.file(ino)
        assert bytes(await store.reader.read(ino, 0, len(data) + 1)) == data


async def defragment_raced(run: Run) -> None:
    """While the copy is not named yet, a piece of the file is overwritten."""
    async with run.opened() as store:
        await open_volume(run, store)
        ino, data = await _in_pieces(run, store)
        new, at = run.data(100), PIECE + 50
        written = run.tree.write("main/pieces", data[:at] + new + data[at + len(new) :])
        swap_rows = Defragmenter._swap
        with ExitStack() as recording:

            async def raced(self: Defragmenter, *args: object) -> int:
                if not run.stories:
                    recording.enter_context(run.recording())
                    with run.story.changing(written):
                        await acts.publish(store, ino, [(at, new)], len(data), durable=True)
                return await swap_rows(self, *args)  # type: ignore[arg-type]

            recording.enter_context(smaller(rows, SWAP_ROWS=4))
            recording.enter_context(smaller(defragmenter, FRAGMENTS_MIN=2))
            with patch.object(Defragmenter, "_swap", raced):
                await store.defragmenter.file(ino)


async def _in_pieces(run: Run, store: Store) -> tuple[InodeNo, bytes]:
    """The file ``main/pieces``, every second piece of which lies in a stripe."""
    ino = (await acts.make(store, "main/pieces")).ino
    data = run.data(PIECES * PIECE)
    for number in range(PIECES):
        at = number * PIECE
        with smaller(inline, INLINE_MAX=PIECE * (number % 2)):
            await acts.publish(store, ino, [(at, data[at : at + PIECE])], at + PIECE, durable=True)
    run.story.tree = run.tree.make("main/pieces", data=data)
    return ino, data


async def _half_dead(run: Run, store: Store) -> None:
    """Most of what lies in the volume that is open is deleted, and it is sealed."""
    await open_volume(run, store)
    for _ in range(5):
        await acts.put(store, "main/gone", run.data(STRIPED))
    await acts.delete(store, "main/gone")
    await store.maintenance.round()
    await store.writer.volumes.seal_idle(0)


PATHS = {
    "pack": pack,
    "pack-raced": pack_raced,
    "compact": compact,
    "compact-raced": compact_raced,
    "merge": merge,
    "defragment": defragment,
    "defragment-raced": defragment_raced,
}
