"""Cancels an operation at each of its checkpoints, of a store or of its doors, and says what that has left behind."""

import os
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from gateway.app import Readiness, make_app
from gateway.auth.gate import Gate
from gateway.service import StoreService
from stratumfs.catalog.volumes import OPEN, volumes
from stratumfs.fuse.door import DoorOptions
from stratumfs.fuse.operations import Operations
from stratumfs.owner.gateway_door import RootCredentials
from stratumfs.owner.wire import Running
from stratumfs.shards.layout import UNFINISHED
from stratumfs.store.store import Store
from tests.faults import acts
from tests.faults.audit import audit_rows, audit_shards
from tests.faults.base import STRIPED
from tests.faults.disk import Image, write_image
from tests.faults.held import files
from tests.faults.look import look
from tests.faults.paths.volumes import at_once
from tests.faults.run import KEYS, running, smaller
from tests.faults.story import Story, after_kill
from tests.faults.tree import DIRECTORY, Tree
from tiering.restore import MoveRestorer

SETTLED_S = 60.0


@dataclass(frozen=True, slots=True)
class Begun:
    """An operation that is about to run: *do* leads from *tree*, which is shown now, through *trees*.

    cut  breaks it off from outside, where it is not cancelled
    end  what who asked for it does in any case, once it is over
    """

    do: Callable[[], Awaitable[object]]
    tree: Tree
    trees: Sequence[Tree] = ()
    cut: Callable[[], object] | None = None
    end: Callable[[], Awaitable[object]] | None = None


class Bench:
    """An open store with both doors, and what it showed at first. *turn* counts up, so that names can be new.

    nursery  for who asks a door for something
    """

    def __init__(self, root: Path, found: Running, tree: Tree, nursery: trio.Nursery) -> None:
        self.root, self.found, self.tree, self.turn, self.nursery = root, found, tree, 0, nursery
        self.store: Store = found.store
        self.mount = Operations(self.store, nursery, DoorOptions(), _no_kernel, _no_kernel)
        self.service = StoreService(self.store, restorer=MoveRestorer(found.mover, self.store.tier))
        self.gateway = make_app(self.service, Gate(RootCredentials(KEYS)), readiness=lambda: Readiness(True))
        self._kept = _Kept.of(self)

    def name(self, what: str) -> str:
        return f"main/t{self.turn}-{what}"

    def data(self, size: int = STRIPED) -> bytes:
        return self.turn.to_bytes(4, "big") * (size // 4)

    async def warmed(self) -> None:
        """All that an operation opens and keeps is open now, and what work that comes by itself keeps."""
        async with self.store.catalog.aside.snapshot():
            pass  # as for an image: SQLite keeps the descriptor for the next one, for closing it would drop locks
        self._kept = _Kept.of(self)

    async def left(self) -> list[str]:
        """What is held that was not before, once all that goes on by itself has ended."""
        deadline = trio.current_time() + SETTLED_S
        while True:
            await self._seal()  # what is still written on its way may open a volume
            wrong = self._kept.more(_Kept.of(self))
            if not wrong or trio.current_time() >= deadline:
                return wrong
            await trio.sleep(0.001)

    async def tidied(self) -> list[str]:
        """What is wrong once names are gone that were not there at first, and the store has tidied."""
        await self._remove(await look(self.store))
        await acts.finish_moves(self.store)
        await self._seal()
        for _ in range(3):
            await self.store.maintenance.round()
        wrong = self.tree.differences(await look(self.store))
        wrong += [f"{row.id.hex()} is open" for row in await self.store.catalog.read(volumes, OPEN)]
        wrong += [f"{path} is left" for path in self.root.rglob("*") if path.name.endswith((".new", UNFINISHED))]
        return wrong + await audit_rows(self.store, tidy=True) + await audit_shards(self.store)

    async def _seal(self) -> None:
        for writer in self.store.writers.values():
            await writer.volumes.seal_idle(0)
        await self.store.imager.volumes.seal_idle(0)

    async def _remove(self, found: Tree) -> None:
        for path in sorted(found.nodes.keys() - self.tree.nodes.keys(), reverse=True):
            if path.count("/") == 1 and path.endswith("/"):
                await self.store.objects.delete_bucket(path[:-1])
            elif found.nodes[path].kind == DIRECTORY:
                await acts.rmdir(self.store, path)
            else:
                await acts.unlink(self.store, path)
        for path in found.uploads.keys() - self.tree.uploads.keys():
            bucket, _, key = path.partition("/")
            for upload in (await self.store.uploads.list(bucket)).uploads:
                if upload.key == key.encode():
                    await acts.abort(self.store, path, upload.id)


Operation = Callable[[Bench], Awaitable[Begun]]


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the process holds, by name."""

    counts: Counter[str]

    @classmethod
    def of(cls, bench: Bench) -> "_Kept":
        store, counts = bench.store, Counter[str](bench.mount.buffers.statistics())
        counts.update(f"task {name}" for name in _tasks())
        counts.update({f"file {name}": count for name, count in files().items()})
        counts["temporary files"] = len(os.listdir(tempfile.gettempdir()))
        counts["inodes held"] = len(store.holds)
        counts["inodes locked"] = len(vars(store.locks)["_locks"])
        counts["volumes that a reader keeps"] = len(vars(store.reader)["_kept"])
        for writer in store.writers.values():
            counts["unsynced bytes"] += writer.unsynced_bytes
            counts["holders of stripes"] += len(vars(writer)["_holders"])
        for device in store.devices.values():
            counts["threads of devices"] += device.readers.borrowed_tokens + device.writers.borrowed_tokens
        counts["commits waiting"] = vars(store.catalog)["_rounds"].waiting
        counts["open files"] = len(bench.mount.handles) + len(bench.mount.directories)
        counts["inodes that the kernel knows"] = len(bench.mount.lookups)
        counts["reads that wait"] = vars(bench.mount).get("_reads_waiting", 0)
        counts["requests"] = bench.gateway.statistics().in_flight
        counts["threads that hash"] = vars(bench.service)["_hashing"].borrowed_tokens
        return cls(counts)

    def more(self, now: "_Kept") -> list[str]:
        return [f"{count} more: {name}" for name, count in (now.counts - self.counts).items()]


def _tasks() -> Iterator[str]:
    waiting = [trio.lowlevel.current_root_task()]
    while waiting:
        task = waiting.pop()
        assert task is not None
        yield task.name
        for nursery in task.child_nurseries:
            waiting += nursery.child_tasks


@dataclass(frozen=True, slots=True)
class Point:
    """Where an operation is cancelled: at its *step*-th one, so that the next checkpoint raises; *waiting*: behind it,
    so that the wait which it has led to is broken off."""

    step: int
    waiting: bool

    def __str__(self) -> str:
        return f"in the wait behind step {self.step}" if self.waiting else f"at step {self.step}"


def all_points(steps: int) -> list[Point]:
    return [Point(step, waiting) for step in range(steps) for waiting in (False, True)]


class _CancelAt(trio.abc.Instrument):
    """Calls *cancel* at a point of this task and of those below it, whose steps are counted."""

    def __init__(self, cancel: Callable[[], object], point: Point | None) -> None:
        self.steps, self.reached = 0, False
        self._call, self._point = cancel, point
        self._task = trio.lowlevel.current_task()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._concerns(task):
            self._cancel(waiting=False)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._concerns(task):
            self._cancel(waiting=True)
            self.steps += 1

    def _cancel(self, *, waiting: bool) -> None:
        if self._point == Point(self.steps, waiting):
            self.reached = True
            self._call()

    def _concerns(self, task: trio.lowlevel.Task | None) -> bool:
        while task is not None and task is not self._task:
            task = task.parent_nursery.parent_task if task.parent_nursery is not None else None
        return task is not None


async def _watched(begun: Begun, point: Point | None) -> _CancelAt:
    """Run it, and cancel it at *point*, if it gets so far."""
    with trio.CancelScope() as scope:
        watch = _CancelAt(begun.cut or scope.cancel, point)
        trio.lowlevel.add_instrument(watch)
        try:
            await begun.do()
        finally:
            trio.lowlevel.remove_instrument(watch)
    if begun.end is not None:
        await begun.end()
    return watch


def _no_kernel(*args: object) -> None:
    pass


@asynccontextmanager
async def bench(root: Path, image: Image, tree: Tree) -> AsyncIterator[Bench]:
    write_image(image, root)
    temporary = root.with_name("tmp")
    temporary.mkdir(exist_ok=True)
    with at_once(), smaller(tempfile, tempdir=str(temporary)):
        async with running(root) as found, trio.open_nursery() as nursery:
            found.store.writer.stripe_payload = STRIPED
            yield Bench(root, found, tree, nursery)
            nursery.cancel_scope.cancel()


async def cancel_at(
    operation: Operation, root: Path, base: tuple[Image, Tree], choose: Callable[[int], Iterable[Point]]
) -> int:
    """Cancel it at each point that is chosen of its steps, and do it again. Returns at how many.

    Raises: AssertionError.
    """
    async with bench(root, *base) as found:
        steps = (await _watched(await operation(found), None)).steps
        assert not (wrong := await found.tidied()), wrong
        await found.warmed()
        points = list(choose(steps))
        for point in points:
            found.turn += 1
            begun = await operation(found)
            story = Story(begun.tree)
            with story.changing(*(begun.trees or (begun.tree,))):
                reached = (await _watched(begun, point)).reached
                progress = story.progress
            wrong = await found.left()
            await found.store.catalog.sync()
            expected = after_kill([story], [progress if reached else story.progress])
            wrong += expected.differences(await look(found.store))
            found.turn += 1
            await _watched(await operation(found), None)
            wrong += await found.left() + await found.tidied()
            assert not wrong, "\n".join([f"cancelled {point} of {steps}:", *wrong])
    return len(points)
