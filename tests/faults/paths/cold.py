"""Write paths of the cold tier: to somebody's S3, back, what is deleted there."""

from stratumfs.catalog import clean
from stratumfs.catalog.volumes import FREED, OPEN, volumes
from stratumfs.store import repack
from stratumfs.store.store import Store
from tests.faults import acts
from tests.faults.base import STRIPED
from tests.faults.paths.volumes import at_once
from tests.faults.run import Run, smaller
from tests.faults.service import add_cold


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


async def tidied(store: Store) -> None:
    """What is to go is marked and deleted there, and then its rows go."""
    for _ in range(2):
        await store.maintenance.round()
    await store.remotes["cold"].tidy()
    await store.maintenance.round()


PATHS = {"offload": offload, "recall": recall, "cold-freed": cold_freed}
