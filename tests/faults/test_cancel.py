"""Every operation of the store is cancelled at its checkpoints: it happened or not, nothing stays behind, and the next
one works."""

import random
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from stratumfs.catalog import compaction
from stratumfs.catalog.volumes import SEALED, VolumeRow, volumes
from stratumfs.errors import StoreClosing
from stratumfs.ids import CellIndex, Cookie
from stratumfs.shards.layout import ShardName, path_of
from stratumfs.store import content, multipart
from stratumfs.values import Conditions, PartInfo
from tests.faults import acts
from tests.faults.acts import etag_of
from tests.faults.base import INLINE, STRIPED
from tests.faults.cancel import Begun, Bench, Operation, Point, all_points, cancel_at
from tests.faults.conftest import SEED
from tests.faults.disk import Image
from tests.faults.run import smaller
from tests.faults.tree import DIRECTORY, Tree

POINTS = 4
"""At which each operation is cancelled here; at all in ``tools/rehearse faults``."""

pytestmark = pytest.mark.slow


async def put_inline(on: Bench) -> Begun:
    path, data = on.name("deep/er/new"), on.data(INLINE)
    return Begun(lambda: acts.put(on.store, path, data), on.tree, [on.tree.put(path, data, etag_of(data))])


async def put_stripes(on: Bench) -> Begun:
    path, data = on.name("new"), on.data(3 * STRIPED)
    return Begun(lambda: acts.put(on.store, path, data), on.tree, [on.tree.put(path, data, etag_of(data))])


async def put_staged(on: Bench) -> Begun:
    """More extents than one transaction takes."""
    path, data = on.name("new"), on.data(5 * STRIPED)

    async def do() -> None:
        with smaller(content, TRANSACTION_ROWS_MAX=1):
            await acts.put(on.store, path, data)

    return Begun(do, on.tree, [on.tree.put(path, data, etag_of(data))])


async def overwrite(on: Bench) -> Begun:
    (path, tree), data = await _there(on), on.data(INLINE)
    return Begun(lambda: acts.put(on.store, path, data), tree, [tree.put(path, data, etag_of(data))])


async def begin_upload(on: Bench) -> Begun:
    path = on.name("parts")
    return Begun(lambda: acts.begin_upload(on.store, path), on.tree, [on.tree.upload(path, {})])


async def put_part(on: Bench) -> Begun:
    path, data = on.name("parts"), on.data()
    ident, tree = await acts.begin_upload(on.store, path), on.tree.upload(path, {})
    return Begun(lambda: acts.put_part(on.store, path, ident, 1, data), tree, [tree.upload(path, {1: data})])


async def complete(on: Bench) -> Begun:
    path, bodies = on.name("parts"), [on.data(), on.data(INLINE), on.data()]
    ident, parts = await acts.begin_upload(on.store, path), list[PartInfo]()
    for number, body in enumerate(bodies, 1):
        parts.append(await acts.put_part(on.store, path, ident, number, body))
    etag = f"{etag_of(b''.join(bytes.fromhex(part.etag) for part in parts))}-3"

    async def do() -> None:
        with smaller(multipart, PART_MIN=1), smaller(content, TRANSACTION_ROWS_MAX=1):
            await acts.complete(on.store, path, ident, parts)

    tree = on.tree.upload(path, dict(enumerate(bodies, 1)))
    return Begun(do, tree, [on.tree.put(path, b"".join(bodies), etag)])


async def abort(on: Bench) -> Begun:
    path, data = on.name("parts"), on.data()
    ident = await acts.begin_upload(on.store, path)
    await acts.put_part(on.store, path, ident, 1, data)
    return Begun(lambda: acts.abort(on.store, path, ident), on.tree.upload(path, {1: data}), [on.tree])


async def copy(on: Bench) -> Begun:
    path, node = on.name("copy"), on.tree.nodes["main/striped"]
    return Begun(lambda: acts.copy(on.store, "main/striped", path), on.tree, [on.tree.put(path, node.data, node.etag)])


async def delete(on: Bench) -> Begun:
    path, tree = await _there(on)
    return Begun(lambda: acts.delete(on.store, path), tree, [on.tree])


async def delete_many(on: Bench) -> Begun:
    path, tree = await _there(on)
    key = path.removeprefix("main/").encode()
    named = [(key, Conditions()), (key + b"-not", Conditions())]
    return Begun(lambda: on.store.objects.delete_many("main", named, time.time_ns()), tree, [on.tree])


async def buckets(on: Bench) -> Begun:
    name = f"fresh{on.turn}"

    async def do() -> None:
        await on.store.objects.create_bucket(name, time.time_ns())
        await on.store.objects.delete_bucket(name)

    return Begun(do, on.tree, [on.tree.make(f"{name}/", DIRECTORY), on.tree])


async def names(on: Bench) -> Begun:
    """What the mount does to names: one thing after the other."""
    one, other, folder = on.name("one"), on.name("other"), on.name("folder")
    trees = [made := on.tree.make(one)]
    trees += [linked := made.link(one, other), renamed := linked.rename(other, f"{other}-new")]
    trees += [unlinked := renamed.unlink(one), unlinked.make(f"{folder}/", DIRECTORY), unlinked]

    async def do() -> None:
        await acts.make(on.store, one)
        await acts.link(on.store, one, other)
        await acts.rename(on.store, other, f"{other}-new")
        await acts.unlink(on.store, one)
        await acts.mkdir(on.store, folder)
        await acts.rmdir(on.store, folder)
        await on.store.files.settle([await acts.find(on.store, "main")])

    return Begun(do, on.tree, trees)


async def truncate(on: Bench) -> Begun:
    path, tree = await _there(on)
    ino, data = await acts.find(on.store, path), tree.nodes[path].data

    async def do() -> None:
        await on.store.files.truncate(ino, 12_345, time.time_ns())
        await on.store.files.settle([ino])

    return Begun(do, tree, [tree.write(path, data[:12_345])])


async def write_and_fsync(on: Bench) -> Begun:
    path, tree = await _there(on)
    ino, old, long, short = await acts.find(on.store, path), tree.nodes[path].data, on.data(), on.data(INLINE)
    data = old[:1000] + short + old[1000 + INLINE : STRIPED] + long

    async def do() -> None:
        await acts.publish(on.store, ino, [(1000, short), (STRIPED, long)], len(data), durable=True)

    return Begun(do, tree, [tree.write(path, data)])


async def read(on: Bench) -> Begun:
    """By both doors' calls, of what no cache has."""
    path, tree = await _there(on)
    ino, bucket = await acts.find(on.store, path), "main"

    async def do() -> None:
        data = tree.nodes[path].data
        assert await on.store.reader.read(ino, 0, len(data)) == data
        await on.store.reader.prefetch(ino, 0, len(data))
        async with on.store.objects.open(bucket, path.removeprefix("main/").encode()) as reader:
            assert b"".join([bytes(chunk) async for chunk in reader.chunks(0, len(data))]) == data

    return Begun(do, tree)


async def listing(on: Bench) -> Begun:
    async def do() -> None:
        await on.store.objects.buckets()
        await on.store.objects.list("main", delimiter=b"/", limit=2)
        await on.store.files.entries(await acts.find(on.store, "main"), Cookie(0), 100)
        await on.store.uploads.list("main")

    return Begun(do, on.tree)


async def pack(on: Bench) -> Begun:
    path, data = on.name("inline"), on.data(INLINE)
    tree = on.tree.put(path, data, await acts.put(on.store, path, data))
    return Begun(lambda: on.store.packer.round(1 << 40), tree)


async def compact(on: Bench) -> Begun:
    """Most of a volume is dead."""
    path, tree = on.name("there"), on.tree
    for number in range(5):
        data = on.data()
        tree = tree.put(f"{path}{number}", data, await acts.put(on.store, f"{path}{number}", data))
    await on.store.writer.volumes.seal_idle(0)
    for number in range(1, 5):
        await acts.delete(on.store, f"{path}{number}")
        tree = tree.delete(f"{path}{number}")
    await on.store.maintenance.round()

    async def do() -> None:
        await on.store.compactor.round()
        await on.store.maintenance.round()

    return Begun(do, tree)


async def merge(on: Bench) -> Begun:
    path, tree = on.name("there"), on.tree
    for number in range(2):
        data = on.data()
        tree = tree.put(f"{path}{number}", data, await acts.put(on.store, f"{path}{number}", data))
        await on.store.writer.volumes.seal_idle(0)

    async def do() -> None:
        with smaller(compaction, MERGE_VOLUMES=2):
            await on.store.compactor.round()

    return Begun(do, tree)


async def move(on: Bench) -> Begun:
    path, tree = await _there(on)

    async def do() -> None:
        try:
            await acts.move(on.store, path, "warm")
        except* StoreClosing:  # the mover ends with us, and says so
            pass

    return Begun(do, tree)


async def rebuild(on: Bench) -> Begun:
    row, tree = await _damaged(on)
    assert on.store.repairer.damaged(row.id, CellIndex(0), "a read met it")
    on.store.repairer.look_soon()  # what was cut short is found again by a look
    return Begun(on.store.repairer.round, tree)


async def scrub(on: Bench) -> Begun:
    _, tree = await _damaged(on)
    on.store.repairer.look_soon()

    async def do() -> None:
        await on.store.scrubber.round(at_once=True)
        await on.store.repairer.round()

    return Begun(do, tree)


async def image(on: Bench) -> Begun:
    return Begun(on.store.imager.write, on.tree)


async def checkpoint(on: Bench) -> Begun:
    _, tree = await _there(on)
    return Begun(on.store.catalog.checkpoint, tree)


async def seal(on: Bench) -> Begun:
    path, data = on.name("new"), on.data()
    tree = on.tree.put(path, data, await acts.put(on.store, path, data))
    return Begun(lambda: on.store.writer.volumes.seal_idle(0), tree)


async def tidy(on: Bench) -> Begun:
    """A volume is freed, an orphan reaped."""
    path, _ = await _there(on)
    await acts.delete(on.store, path)

    async def do() -> None:
        for _ in range(3):
            await on.store.maintenance.round()

    return Begun(do, on.tree)


async def _there(on: Bench) -> tuple[str, Tree]:
    """An object in a sealed volume of its own."""
    path, data = on.name("there"), on.data()
    tree = on.tree.put(path, data, await acts.put(on.store, path, data))
    await on.store.writer.volumes.seal_idle(0)
    return path, tree


async def _damaged(on: Bench) -> tuple[VolumeRow, Tree]:
    path, tree = await _there(on)
    ino = await acts.find(on.store, path)
    (extent,) = await on.store.reader.layout(ino, 0, STRIPED)
    assert extent.location is not None
    (row,) = (row for row in await on.store.catalog.read(volumes, SEALED) if row.id == extent.location.volume)
    name = ShardName(row.id, CellIndex(0))
    (Path(on.store.devices[row.devices[0]].label) / path_of(name)).unlink()
    on.store.devices[row.devices[0]].shards.unlink(name)  # and from the files that it keeps open
    return row, tree


OPERATIONS: Mapping[str, Operation] = {
    "put-inline": put_inline,
    "put-stripes": put_stripes,
    "put-staged": put_staged,
    "overwrite": overwrite,
    "begin-upload": begin_upload,
    "put-part": put_part,
    "complete": complete,
    "abort": abort,
    "copy": copy,
    "delete": delete,
    "delete-many": delete_many,
    "buckets": buckets,
    "names": names,
    "truncate": truncate,
    "write-and-fsync": write_and_fsync,
    "read": read,
    "list": listing,
    "pack": pack,
    "compact": compact,
    "merge": merge,
    "move": move,
    "rebuild": rebuild,
    "scrub": scrub,
    "image": image,
    "checkpoint": checkpoint,
    "seal": seal,
    "tidy": tidy,
}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_cancelled_operation_leaves_nothing(name: str, root: Path, base: tuple[Image, Tree]) -> None:
    def choose(steps: int) -> list[Point]:
        points = all_points(steps)
        return random.Random(f"{name} {SEED}").sample(points, min(POINTS, len(points)))

    assert await cancel_at(OPERATIONS[name], root, base, choose), "it has no step at which it could be cancelled"
