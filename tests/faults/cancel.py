"""Cancels an operation of a store at each of its checkpoints, and says what that has left behind."""

import os
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from stratumfs.catalog.volumes import OPEN, volumes
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
from tests.faults.run import running, smaller
from tests.faults.story import Story, after_kill
from tests.faults.tree import DIRECTORY, Tree

SETTLED_S = 60.0


@dataclass(frozen=True, slots=True)
class Begun:
    """An operation that is about to run: *do* leads from *tree*, which is shown now, through *trees*."""

    do: Callable[[], Awaitable[object]]
    tree: Tree
    trees: Sequence[Tree] = ()


class Bench:
    """An open store, and what it showed at first. *turn* counts up, so that names can be new."""

    def __init__(self, root: Path, found: Running, tree: Tree) -> None:
        self.root, self.found, self.tree, self.turn = root, found, tree, 0
        self.store: Store = found.store
        self._kept = _Kept.of(self.store)

    def name(self, what: str) -> str:
        return f"main/t{self.turn}-{what}"

    def data(self, size: int = STRIPED) -> bytes:
        return self.turn.to_bytes(4, "big") * (size // 4)

    def warmed(self) -> None:
        """All that an operation opens and keeps is open now."""
        self._kept = _Kept.of(self.store)

    async def left(self) -> list[str]:
        """What is held that was not before, once all that goes on by itself has ended."""
        deadline = trio.current_time() + SETTLED_S
        while True:
            await self._seal()  # what is still written on its way may open a volume
            wrong = self._kept.more(_Kept.of(self.store))
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
    def of(cls, store: Store) -> "_Kept":
        counts = Counter[str]()
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
    """Cancels *scope* at a point of this task and of those below it, whose steps are counted."""

    def __init__(self, scope: trio.CancelScope, point: Point | None) -> None:
        self.steps, self.reached = 0, False
        self._scope, self._point = scope, point
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
            self._scope.cancel()

    def _concerns(self, task: trio.lowlevel.Task | None) -> bool:
        while task is not None and task is not self._task:
            task = task.parent_nursery.parent_task if task.parent_nursery is not None else None
        return task is not None


async def _watched(do: Callable[[], Awaitable[object]], point: Point | None) -> _CancelAt:
    """Run *do*, and cancel it at *point*, if it gets so far."""
    with trio.CancelScope() as scope:
        watch = _CancelAt(scope, point)
        trio.lowlevel.add_instrument(watch)
        try:
            await do()
        finally:
            trio.lowlevel.remove_instrument(watch)
    return watch


@asynccontextmanager
async def bench(root: Path, image: Image, tree: Tree) -> AsyncIterator[Bench]:
    write_image(image, root)
    temporary = root.with_name("tmp")
    temporary.mkdir(exist_ok=True)
    with at_once(), smaller(tempfile, tempdir=str(temporary)):
        async with running(root) as found:
            found.store.writer.stripe_payload = STRIPED
            yield Bench(root, found, tree)


async def cancel_at(
    operation: Operation, root: Path, base: tuple[Image, Tree], choose: Callable[[int], Iterable[Point]]
) -> int:
    """Cancel it at each point that is chosen of its steps, and do it again. Returns at how many.

    Raises: AssertionError.
    """
    async with bench(root, *base) as found:
        steps = (await _watched((await operation(found)).do, None)).steps
        assert not (wrong := await found.tidied()), wrong
        found.warmed()
        points = list(choose(steps))
        for point in points:
            found.turn += 1
            begun = await operation(found)
            story = Story(begun.tree)
            with story.changing(*(begun.trees or (begun.tree,))):
                reached = (await _watched(begun.do, point)).reached
                progress = story.progress
            wrong = await found.left()
            await found.store.catalog.sync()
            expected = after_kill([story], [progress if reached else story.progress])
            wrong += expected.differences(await look(found.store))
            found.turn += 1
            await (await operation(found)).do()
            wrong += await found.left() + await found.tidied()
            assert not wrong, "\n".join([f"cancelled {point} of {steps}:", *wrong])
    return len(points)
