"""Write paths of the store itself: volumes, the catalog's checkpoint and ids, mkfs, opening, closing."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from unittest.mock import patch

from stratumfs.catalog import extents
from stratumfs.catalog.membership import Membership
from stratumfs.errors import DeviceFailed
from stratumfs.ids import Buffer, CellIndex, VolumeId
from stratumfs.limits import ID_BLOCK
from stratumfs.owner.places import place_of
from stratumfs.shards.backend import OpenShard, ShardBackend
from stratumfs.shards.layout import ShardName
from stratumfs.shards.local import LocalOpenShard, LocalShards
from stratumfs.store import content, maintenance
from stratumfs.store.store import Store
from stratumfs.store.writer import PendingStripe
from stratumfs.values import NewExtent
from tests.faults import acts
from tests.faults.acts import etag_of
from tests.faults.base import INLINE, STRIPED
from tests.faults.disk import write_image
from tests.faults.paths.objects import open_volume
from tests.faults.run import Run, make_here, smaller
from tests.faults.tree import DIRECTORY, NO_STORE, Tree

UNKNOWN = ShardName(VolumeId(b"unknown to rows!"), CellIndex(0))
UNKNOWN_BYTES = b"what a catalog that is lost may have known"


async def volume_open(run: Run) -> None:
    """The first stripe of an owner's life: a volume is opened for it."""
    async with run.opened() as store:
        data = run.data(STRIPED)
        with run.recording(), run.story.changing(run.tree.put("main/new", data, etag_of(data))):
            await acts.put(store, "main/new", data)


async def volume_seal(run: Run) -> None:
    """A volume is sealed for it is idle; some of what lies in it is named by no row any more."""
    async with run.opened() as store:
        await open_volume(run, store)
        data = run.data(STRIPED)
        run.story.tree = run.tree.put("main/new", data, await acts.put(store, "main/new", data))
        with run.recording():
            await store.writer.volumes.seal_idle(0)


async def volume_free(run: Run) -> None:
    """The last names of a volume's bytes go, one of them not yet durably: the volume is marked, its shards are removed
    behind the sync, then its rows."""
    async with run.opened() as store:
        await open_volume(run, store)
        data = run.data(STRIPED)
        await acts.write_file(store, "main/dir/new", data)
        run.story.tree = run.tree.make("main/dir/new", data=data)
        await store.writer.volumes.seal_idle(0)
        with at_once(), run.recording():
            with run.story.changing(run.tree.delete("main/earlier")):
                await acts.delete(store, "main/earlier")
            with run.story.changing(run.tree.unlink("main/dir/new"), durable=False):
                await acts.unlink(store, "main/dir/new")
            for _ in range(3):
                await store.maintenance.round()


async def strike(run: Run) -> None:
    """A sync of a device fails in the middle of a PUT: it is struck, its volume sealed behind what was synced, and the
    stripes that were not are written again to a narrower volume."""
    async with run.opened() as store:
        await open_volume(run, store)
        data = run.data(STRIPED)
        failing = next(iter(store.devices.values())).shards
        with (
            patch.object(LocalOpenShard, "datasync", _sync_but(failing)),
            run.recording(),
            run.story.changing(run.tree.put("main/new", data, etag_of(data))),
        ):
            await acts.put(store, "main/new", data)


async def strike_member(run: Run) -> None:
    """The same where the device has a copy of the catalog, and no copy more is there than there must be: another place
    gets one before the device is left out."""
    async with run.opened() as store:
        await open_volume(run, store)
        members = store.catalog._members
        assert isinstance(members, Membership)
        first = next(iter(store.devices.values()))
        other = next(copy.place for copy in members.copies if copy.place != place_of(first.id))
        with patch.object(members, "on_strike", lambda place, reason: None):  # it keeps its shards
            await store.catalog.strike(other, "a test has struck it")
        data = run.data(STRIPED)
        with (
            patch.object(LocalOpenShard, "datasync", _sync_but(first.shards)),
            run.recording(),
            run.story.changing(run.tree.put("main/new", data, etag_of(data))),
        ):
            await acts.put(store, "main/new", data)


async def strike_in_creation(run: Run) -> None:
    """A volume is opened for a PUT, and one of its devices fails to create a shard: it is struck, what was created on
    the others is removed, and a narrower volume opened."""
    async with run.opened() as store:
        failing = next(iter(store.devices.values())).shards
        create = LocalShards.create

        def creates(shards: LocalShards, name: ShardName) -> OpenShard:
            if shards is failing:
                raise DeviceFailed("Input/output error", str(shards.root))
            return create(shards, name)

        data = run.data(STRIPED)
        with (
            patch.object(LocalShards, "create", creates),
            run.recording(),
            run.story.changing(run.tree.put("main/new", data, etag_of(data))),
        ):
            await acts.put(store, "main/new", data)


async def strike_in_write(run: Run) -> None:
    """A device fails a write in the middle of a PUT: as in a sync, but that nothing was synced."""
    async with run.opened() as store:
        await open_volume(run, store)
        failing = next(iter(store.devices.values())).shards
        write = LocalOpenShard.write_at

        def writes(shard: LocalOpenShard, position: int, parts: Sequence[Buffer]) -> None:
            if vars(shard)["_shards"] is failing:
                raise DeviceFailed("Input/output error", str(vars(failing)["root"]))
            write(shard, position, parts)

        data = run.data(STRIPED)
        with (
            patch.object(LocalOpenShard, "write_at", writes),
            run.recording(),
            run.story.changing(run.tree.put("main/new", data, etag_of(data))),
        ):
            await acts.put(store, "main/new", data)


def _sync_but(failing: ShardBackend) -> Callable[[LocalOpenShard], None]:
    sync = LocalOpenShard.datasync

    def datasync(shard: LocalOpenShard) -> None:
        if vars(shard)["_shards"] is failing:
            raise DeviceFailed("Input/output error", str(vars(failing)["root"]))
        sync(shard)

    return datasync


async def narrow(run: Run) -> None:
    """A PUT with a device struck: the volume that is opened for it lies on the others."""
    async with run.opened() as store:
        await store.fleet.strike(next(iter(store.devices)), DeviceFailed("Input/output error", "d0"))
        data = run.data(STRIPED)
        with run.recording(), run.story.changing(run.tree.put("main/new", data, etag_of(data))):
            await acts.put(store, "main/new", data)


def at_once() -> AbstractContextManager[object]:
    """Nobody is waited for before a volume is freed: in these paths nobody comes."""
    stack = ExitStack()
    stack.enter_context(smaller(maintenance, VOLUME_FREE_GRACE_S=0.0))
    return stack


async def checkpoint(run: Run) -> None:
    """The WAL is folded into the database and started over, with changes before and behind it."""
    async with run.opened() as store:
        with run.recording():
            with run.story.changing(run.tree.make("main/before/", DIRECTORY), durable=False):
                await acts.mkdir(store, "main/before")
            with run.story.promising():
                await store.catalog.checkpoint()
            data = run.data(INLINE)
            with run.story.changing(run.tree.put("main/behind", data, etag_of(data))):
                await acts.put(store, "main/behind", data)


async def id_block(run: Run) -> None:
    """More ids are drawn than the block of this opening has: the next is reserved before one of it is used."""
    async with run.opened() as store:
        left = ID_BLOCK - 100
        await store.catalog.ids.extents(left)
        with run.recording():
            await store.catalog.ids.extents(ID_BLOCK - 50)
            data = run.data(INLINE)
            with run.story.changing(run.tree.put("main/new", data, etag_of(data))):
                await acts.put(store, "main/new", data)


async def close(run: Run) -> None:
    """The store is closed in order: volumes sealed, a last round, a checkpoint."""
    with ExitStack() as behind:
        async with run.opened() as store:
            await open_volume(run, store)
            behind.enter_context(run.recording())
            with run.story.changing(run.tree.make("main/last/", DIRECTORY), durable=False):
                await acts.mkdir(store, "main/last")
            behind.enter_context(run.story.promising())


async def opening(run: Run) -> None:
    """A store that was closed in order is opened."""
    with run.recording():
        async with run.opened():
            pass


async def recovery(run: Run) -> None:
    """A store whose owner was killed in the middle of everything is opened: volumes are sealed, shards that no row
    knows moved aside; then orphans reaped, voids cleared, uploads dropped, empty volumes freed."""
    async with run.crashed() as store:
        await _leave_a_mess(run, store)
    with at_once(), run.recording():
        async with run.opened() as store:
            for _ in range(3):
                await store.maintenance.round()


async def _leave_a_mess(run: Run, store: Store) -> None:
    """Everything that an owner would have tidied, and stripes that no row names."""
    await acts.put(store, "main/alone", run.data(STRIPED))
    await store.writer.volumes.seal_idle(0)
    await acts.delete(store, "main/alone")
    await open_volume(run, store)
    tree = run.tree
    await store.objects.create_bucket("fresh", time.time_ns())
    ident = await acts.begin_upload(store, "fresh/upload")
    await acts.put_part(store, "fresh/upload", ident, 1, run.data(INLINE))
    await store.objects.delete_bucket("fresh")
    for path in ("main/inline", "main/striped", "main/deep/er/key", "main/dir/big"):
        await acts.delete(store, path)
        tree = tree.delete(path)
    pieces = [(at * 2000, run.data(1000)) for at in range(7)]
    ino = (await acts.make(store, "main/holes")).ino
    await acts.publish(store, ino, pieces, 14_000, durable=True)
    with smaller(extents, _CLEAR_MAX=2):
        await store.files.truncate(ino, 500, time.time_ns())
    tree = tree.make("main/holes", data=pieces[0][1][:500])
    staging = content.Staging(store.catalog, store.holds, time.time_ns())
    with smaller(content, TRANSACTION_ROWS_MAX=1):
        await staging.add([NewExtent(at, 1000, data=data) for at, data in pieces])
    await store.writer.append(PendingStripe(run.data(STRIPED)))
    shard = next(iter(store.devices.values())).shards.create(UNKNOWN)
    shard.write_at(0, [UNKNOWN_BYTES])
    shard.close()
    await store.catalog.sync()  # of what no copy has it is not said which of them opens the store
    run.story.tree = tree


async def mkfs(run: Run) -> None:
    """mkfs over folders that are there and empty."""
    write_image({f"d{slot}": None for slot in range(6)}, run.root)
    run.story.tree = NO_STORE
    with run.recording(), run.story.changing(Tree()):
        make_here(run.root)


async def mkfs_embedded(run: Run) -> None:
    """The default store, which makes its own folders."""
    write_image({}, run.root)
    run.story.tree = NO_STORE
    with run.recording(), run.story.changing(Tree()):
        make_here(run.root)


async def identity(run: Run) -> None:
    """A store that was moved is opened: all identity files learn where it is now."""
    (run.root / "store").rename(run.root / "moved")
    with run.recording():
        async with run.opened():
            pass


PATHS = {
    "volume-open": volume_open,
    "volume-seal": volume_seal,
    "strike": strike,
    "strike-member": strike_member,
    "strike-in-creation": strike_in_creation,
    "strike-in-write": strike_in_write,
    "narrow": narrow,
    "volume-free": volume_free,
    "checkpoint": checkpoint,
    "id-block": id_block,
    "close": close,
    "opening": opening,
    "recovery": recovery,
    "mkfs": mkfs,
    "mkfs-embedded": mkfs_embedded,
    "identity": identity,
}
