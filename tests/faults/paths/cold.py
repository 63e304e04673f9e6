"""Write paths of the cold tier: to somebody's S3, back, what is deleted there."""

from collections.abc import Sequence

from stratumfs.catalog import clean
from stratumfs.catalog.volumes import FREED, OPEN, SEALED, volumes
from stratumfs.owner.messages import RotateCold
from stratumfs.owner.tiers import change_tiers
from stratumfs.shards.encrypted import encrypt
from stratumfs.shards.remote_shards import object_name
from stratumfs.store import remote_look, repack
from stratumfs.store.compact_remote import Held, RemoteCompactor
from stratumfs.store.store import Store
from tests.faults import acts
from tests.faults.base import STRIPED
from tests.faults.paths.volumes import at_once
from tests.faults.run import Run, smaller
from tests.faults.service import UNKNOWN_VOLUME, add_cold


async def offload(run: Run) -> None:
    """An object is moved to the cold tier, in two steps: each is a volume there."""
    add_cold(run.root)
    async with run.opened() as store:
        with smaller(repack, REPACK_BYTES=STRIPED // 2 + 1000), run.recording():
            await acts.move(store, "main/striped", "cold")


async def recall(run: Run) -> None:
    """It comes back, and what nobody names there any more goes."""
    add_cold(run.root)
    async with run.opened() as store:
        await acts.move(store, "main/striped", "cold")
        with at_once(), run.recording():
            await acts.move(store, "main/striped", "hot")
            await tidied(store)


async def cold_again(run: Run) -> None:
    """What was brought back goes there again, where it lies yet: rows are swapped, and nothing is put; the volume that
    is left waits for an image."""
    add_cold(run.root, keep_days=1.0)
    async with run.opened() as store:
        with smaller(clean, CLEAN_RUN_MIN=1):
            for tier in ("cold", "hot"):
                await acts.move(store, "main/striped", tier)
        put, left = store.remotes["cold"].uploads, {row.id for row in await store.catalog.read(volumes, OPEN)}
        with at_once(), run.recording():
            await acts.move(store, "main/striped", "cold")
            for _ in range(2):
                await store.writer.volumes.seal_idle(0.0)
                await store.maintenance.round()
            assert store.remotes["cold"].uploads == put
            assert left & {row.id for row in await store.catalog.read(volumes, FREED)}
            assert store.imager.wanted


async def cold_freed(run: Run) -> None:
    """What lies in the cold tier is deleted: its volume is marked, its object removed behind the sync of that, then its
    row."""
    add_cold(run.root)
    async with run.opened() as store:
        await acts.move(store, "main/striped", "cold")
        with at_once(), run.recording():
            with run.story.changing(run.tree.delete("main/striped")):
                await acts.delete(store, "main/striped")
            await tidied(store)


async def rotate(run: Run) -> None:
    """The key of the tier is wrapped by a new secret on every device; what lies there is read by it."""
    add_cold(run.root)
    async with run.running() as found:
        await acts.move(found.store, "main/striped", "cold")
        with run.recording():
            await change_tiers(found, RotateCold())


async def compact_cold(run: Run) -> None:
    """Of two volumes there most is dead: what lives is written anew as one, and they go."""
    add_cold(run.root)
    async with run.opened() as store:
        for folder in ("one", "two"):
            for key in "abc":
                path, data = f"main/{folder}/{key}", run.data(STRIPED)
                run.story.tree = run.tree.put(path, data, await acts.put(store, path, data))
            await acts.move(store, f"main/{folder}", "cold")
            for key in "ab":
                run.story.tree = run.tree.delete(f"main/{folder}/{key}")
                await acts.delete(store, f"main/{folder}/{key}")
        await store.maintenance.reap()
        target = store.remotes["cold"]
        compactor = RemoteCompactor(store.catalog, store.reader, {"cold": (target, _by_count)}, store.observer)
        with at_once(), run.recording():
            await compactor.round()
            await tidied(store)
        assert sum(row.live for row in await store.catalog.read(volumes, SEALED) if row.remote) == 2 * STRIPED


async def remake_cold(run: Run) -> None:
    """A volume there counts as damaged, and what it held lies here too, in one that is freed: it is named here."""
    add_cold(run.root, keep_days=1.0)
    async with run.opened() as store:
        with smaller(clean, CLEAN_RUN_MIN=1):
            for tier in ("cold", "hot"):
                await acts.move(store, "main/striped", tier)
        await store.writer.volumes.seal_idle(0.0)
        await acts.move(store, "main/striped", "cold")
        await store.maintenance.round()
        [ident] = [row.id for row in await store.catalog.read(volumes, SEALED) if row.remote]
        assert await store.catalog.read(volumes, FREED)
        with at_once(), run.recording():
            store.remotes["cold"].bad.meet(ident, "for this path", 0.0)
            await store.remote_scrubbers["cold"].remake()
            await store.catalog.sync()
            await tidied(store)
        [extent] = await store.reader.layout(await acts.find(store, "main/striped"), 0, STRIPED)
        assert extent.location is not None
        assert extent.location.volume != ident


def _by_count(held: Sequence[Held]) -> float:
    """It pays to make one volume of several."""
    return len(held) - 1.5


async def sweep(run: Run) -> None:
    """An object that no row knows, of a put that came to its end behind the delete, is found and removed."""
    add_cold(run.root)
    async with run.opened() as store:
        await acts.move(store, "main/striped", "cold")
        tier = store.remotes["cold"]
        master = tier.offsite.master
        assert master is not None
        name = object_name(store.id, master, UNKNOWN_VOLUME)
        with smaller(remote_look, SWEEP_GRACE_S=-1.0, SWEEP_SKEW_S=-60.0), run.recording():
            tier.offsite.remote.put(name, encrypt(master, store.id, UNKNOWN_VOLUME, bytes(100)))
            await store.remote_scrubbers["cold"].round(at_once=True)
        assert name not in tier.offsite.remote.names("")


async def tidied(store: Store) -> None:
    """What is to go is marked and deleted there, and then its rows go."""
    for _ in range(2):
        await store.maintenance.round()
    await store.remotes["cold"].tidy()
    await store.maintenance.round()


PATHS = {
    "offload": offload,
    "recall": recall,
    "cold-again": cold_again,
    "cold-freed": cold_freed,
    "compact-cold": compact_cold,
    "sweep": sweep,
    "remake-cold": remake_cold,
    "rotate": rotate,
}
