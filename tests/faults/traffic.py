"""Many users of one store at once, each in a bucket of its own: rounds, checkpoints and tidying among them.

What each of them does follows from the seed alone, so that a run can be told without being run (`told`); when it
happens beside what the others do is left to chance.
"""

import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import trio

from stratumfs.catalog import extents
from stratumfs.ids import UploadId
from stratumfs.limits import INLINE_MAX
from stratumfs.store import content, multipart
from stratumfs.store.store import Store
from stratumfs.values import PartInfo
from tests.faults import acts
from tests.faults.acts import etag_of
from tests.faults.run import Run, WritePath, smaller
from tests.faults.story import Story
from tests.faults.tree import DIRECTORY, FILE, Tree

USERS = 4
ACTS = 6
SIZES = (0, 1, 300, 5000, 17_000, 60_000)


@dataclass(frozen=True, slots=True)
class Act:
    """One step of a user: what the store shows afterwards, whether that is promised then, and how it is done."""

    tree: Tree
    durable: bool
    do: Callable[[Store], Awaitable[object]]


class User:
    """Draws acts. Everything depends on the seed and on its own bucket as the model has it."""

    def __init__(self, bucket: str, seed: str) -> None:
        self.bucket = bucket
        self._random = random.Random(seed)
        self._count = 0

    def acts(self, tree: Tree) -> Iterator[Act]:
        """Each continues from the tree of the one before."""
        choices = [self._put, self._overwrite, self._delete, self._copy, self._parts, self._create, self._write]
        choices += [self._truncate, self._rename, self._link, self._unlink, self._mkdir]
        for _ in range(ACTS):
            for act in self._random.choice(choices)(tree):
                yield act
                tree = act.tree

    def _put(self, tree: Tree) -> Iterator[Act]:
        path, data = self._new("deep/", "d/e/", ""), self._data()
        yield Act(tree.put(path, data, etag_of(data)), True, partial(acts.put, path=path, data=data))

    def _overwrite(self, tree: Tree) -> Iterator[Act]:
        for path in self._file(tree):
            data = self._data()
            yield Act(tree.put(path, data, etag_of(data)), True, partial(acts.put, path=path, data=data))

    def _delete(self, tree: Tree) -> Iterator[Act]:
        for path in self._file(tree):
            yield Act(tree.delete(path), True, partial(acts.delete, path=path))

    def _copy(self, tree: Tree) -> Iterator[Act]:
        for source in self._file(tree):
            path, node = self._new("copies/"), tree.nodes[source]
            yield Act(tree.put(path, node.data, node.etag), True, partial(acts.copy, source=source, path=path))

    def _parts(self, tree: Tree) -> Iterator[Act]:
        path = self._new("parted/")
        bodies = [self._data() or b"x" for _ in range(self._random.randint(1, 4))]
        upload: list[UploadId] = []
        parts: list[PartInfo] = []

        async def begin(store: Store) -> None:
            upload.append(await acts.begin_upload(store, path))

        async def put_next(store: Store) -> None:
            number = len(parts) + 1
            parts.append(await acts.put_part(store, path, upload[0], number, bodies[number - 1]))

        async def complete(store: Store) -> None:
            await acts.complete(store, path, upload[0], parts)

        yield Act(tree.upload(path, {}), True, begin)
        for count in range(1, len(bodies) + 1):
            yield Act(tree.upload(path, dict(enumerate(bodies[:count], 1))), True, put_next)
        digests = b"".join(bytes.fromhex(etag_of(body)) for body in bodies)
        yield Act(tree.put(path, b"".join(bodies), f"{etag_of(digests)}-{len(bodies)}"), True, complete)

    def _create(self, tree: Tree) -> Iterator[Act]:
        path = self._new(*self._directories(tree))
        yield Act(tree.make(path), False, partial(acts.make, path=path))

    def _write(self, tree: Tree) -> Iterator[Act]:
        """Two writes into a file, and fsync."""
        for path in self._file(tree):
            data = bytearray(tree.nodes[path].data)
            pieces = [(self._random.randint(0, 70_000), self._data() or b"y") for _ in range(2)]
            for at, piece in sorted(pieces, key=lambda each: len(each[1]) <= INLINE_MAX):  # as they are published
                data[len(data) :] = bytes(max(0, at - len(data)))
                data[at : at + len(piece)] = piece
            yield Act(tree.write(path, bytes(data)), True, partial(_publish, path=path, pieces=pieces, size=len(data)))

    def _truncate(self, tree: Tree) -> Iterator[Act]:
        for path in self._file(tree):
            size = self._random.choice((0, 100, 20_000))
            data = tree.nodes[path].data[:size].ljust(size, b"\0")
            yield Act(tree.write(path, data), False, partial(_truncate, path=path, size=size))

    def _rename(self, tree: Tree) -> Iterator[Act]:
        for path in self._file(tree):
            new = self._random.choice([self._new(*self._directories(tree)), *self._file(tree)])
            if new not in tree.nodes or tree.nodes[new].number != tree.nodes[path].number:  # else nothing happens
                yield Act(tree.rename(path, new), False, partial(acts.rename, path=path, new=new))

    def _link(self, tree: Tree) -> Iterator[Act]:
        for path in self._file(tree):
            new = self._new(*self._directories(tree))
            yield Act(tree.link(path, new), False, partial(acts.link, path=path, new=new))

    def _unlink(self, tree: Tree) -> Iterator[Act]:
        """unlink, and fsync of the directory."""
        for path in self._file(tree):
            yield Act(tree.unlink(path), True, partial(_unlink, path=path))

    def _mkdir(self, tree: Tree) -> Iterator[Act]:
        path = self._new(*self._directories(tree))
        yield Act(tree.make(f"{path}/", DIRECTORY), False, partial(acts.mkdir, path=path))

    def _new(self, *below: str) -> str:
        self._count += 1
        return f"{self.bucket}{self._random.choice(below).removeprefix(self.bucket)}n{self._count}"

    def _file(self, tree: Tree) -> list[str]:
        """One, or none if there is none."""
        files = sorted(path for path, node in tree.nodes.items() if node.kind == FILE)
        return [self._random.choice(files)] if files else []

    def _directories(self, tree: Tree) -> list[str]:
        return sorted(path for path, node in tree.nodes.items() if node.kind == DIRECTORY)

    def _data(self) -> bytes:
        return self._random.randbytes(self._random.choice(SIZES))


async def _publish(store: Store, path: str, pieces: Sequence[tuple[int, bytes]], size: int) -> None:
    await acts.publish(store, await acts.find(store, path), pieces, size, durable=True)


async def _truncate(store: Store, path: str, size: int) -> None:
    await store.files.truncate(await acts.find(store, path), size, time.time_ns())


async def _unlink(store: Store, path: str) -> None:
    parent, _ = await acts.place(store, path)
    await acts.unlink(store, path)
    await store.files.settle([parent])


def users(tree: Tree, seed: int) -> list[tuple[Story, list[Act]]]:
    """What each user will do and tell; and a story without acts for each bucket of *tree*, which nobody touches."""
    buckets = sorted(path for path in tree.nodes if path.count("/") == 1 and path.endswith("/"))
    found: list[tuple[Story, list[Act]]] = [(Story(tree, bucket), []) for bucket in buckets]
    for number in range(USERS):
        bucket = f"user{number}/"
        begin = Tree().make(bucket, DIRECTORY)
        found.append((Story(begin, bucket), list(User(bucket, f"{seed} {number}").acts(begin))))
    return found


def told(tree: Tree, seed: int) -> list[Story]:
    """The stories of a run with all that they will tell."""
    planned = users(tree, seed)
    for story, acts_of in planned:
        story.trees += [act.tree for act in acts_of]
    return [story for story, _ in planned]


def traffic(seed: int) -> WritePath:
    """The write path of a seed."""

    async def path(run: Run) -> None:
        planned = users(run.tree, seed)
        async with run.opened() as store:
            store.writer.stripe_payload = 20_000
            for number in range(USERS):
                await store.objects.create_bucket(f"user{number}", time.time_ns())
            with _small_bounds(), run.recording_all([story for story, _ in planned]):
                async with trio.open_nursery() as background:
                    background.start_soon(_tidy, store, random.Random(seed))
                    async with trio.open_nursery() as nursery:
                        for story, acts_of in planned:
                            nursery.start_soon(_use, store, story, acts_of)
                    background.cancel_scope.cancel()

    return path


async def _use(store: Store, story: Story, planned: Sequence[Act]) -> None:
    for act in planned:
        with story.changing(act.tree, durable=act.durable):
            await act.do(store)


async def _tidy(store: Store, rng: random.Random) -> None:
    chores: list[Callable[[], Awaitable[object]]] = [
        store.maintenance.round,
        store.catalog.checkpoint,
        partial(store.writer.volumes.seal_idle, 0),
    ]
    while True:
        await trio.sleep(rng.random() * 0.02)
        await rng.choice(chores)()


def _small_bounds() -> ExitStack:
    """So that a few extents are many."""
    stack = ExitStack()
    stack.enter_context(smaller(content, TRANSACTION_ROWS_MAX=2))
    stack.enter_context(smaller(extents, _CLEAR_MAX=2, TRANSACTION_ROWS_MAX=3))
    stack.enter_context(smaller(multipart, PART_MIN=1))
    return stack
