"""Write paths of the cold tier: to somebody's S3, back, what is deleted there."""

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
