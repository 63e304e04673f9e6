"""Write paths of what looks after the catalog: backups and what brings them back, migration, scrub, fsck."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import cast

import trio

from stratumfs.catalog.migrations import MIGRATIONS
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.volumes import SEALED, VolumeRow, volumes
from stratumfs.errors import StratumError
from stratumfs.ids import CellIndex
from stratumfs.owner.backup_target import FolderTarget
from stratumfs.owner.fsck import Wanted, fsck
from stratumfs.owner.restore import restore
from stratumfs.owner.wire import Running
from stratumfs.repair.rows import volume_info
from stratumfs.shards.layout import ShardName, path_of
from stratumfs.store.store import Store
from stratumfs.volumes.append import toc_holders
from tests.faults import acts
from tests.faults.acts import etag_of
from tests.faults.base import INLINE
from tests.faults.run import Run


@contextmanager
def _target(run: Run) -> Iterator[Path]:
    """A folder for backups, on a disk that is none of the store's; the settings name it."""
    with tempfile.TemporaryDirectory() as folder:
        with (run.root / "store/stratumfs.toml").open("a") as file:
            file.write(f'\n[backup]\nto = "{folder}"\nwindow_days = 1.0\n')
        yield Path(folder)


async def backup(run: Run) -> None:
    """A series begins; the log behind it is kept as it is closed, and sent."""
    with _target(run):
        async with run.running() as found:
            with run.recording():
                await _back_up(found)
                data = run.data(INLINE)
                with run.story.changing(run.tree.put("main/behind", data, etag_of(data))):
                    await acts.put(found.store, "main/behind", data)
                await found.store.catalog.checkpoint()
                await _back_up(found)


async def _back_up(found: Running) -> None:
    """As the owner's task does: what fails is said, and the store goes on."""
    with suppress(StratumError, OSError):
        await found.backup.run()


async def restored(run: Run) -> None:
    """The catalog of an earlier moment is put in the place of one that is there; a shard that it names was moved aside
    meanwhile, and comes back."""
    before = run.tree
    with _target(run) as folder:
        async with run.running() as found:
            await found.backup.run()
            data = run.data(INLINE)
            run.story.tree = run.tree.put("main/later", data, await acts.put(found.store, "main/later", data))
            row = await _last_volume(found.store)
            found.store.devices[row.devices[0]].shards.quarantine([ShardName(row.id, CellIndex(0))])
        with run.recording(), run.story.changing(before):
            await trio.to_thread.run_sync(partial(restore, FolderTarget(folder), run.root / "store", force=True))


async def migrate(run: Run) -> None:
    """A store of the first version is opened."""
    async with run.opened() as store:
        await store.catalog.commit(_downgrade)
    with run.recording():
        async with run.opened():
            pass


class _Made:
    """What migrations make."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def run(self, statement: str) -> None:
        if statement.startswith("drop index if exists "):
            return  # what is made in its place goes by the same name
        match = re.match(r"\s*create (?:unique )?(table|index) (\w+)", statement)
        assert match is not None, f"{statement}: how is it undone?"
        self.found.insert(0, (match[1], match[2]))


def _downgrade(tx: Transaction) -> None:
    made = _Made()
    for each in MIGRATIONS:
        each.run(cast(Transaction, made))
    for kind, name in made.found:
        tx.run(f"drop {kind} if exists {name}")
    tx.run("update catalog_state set value = 1 where key = 'schema_version'")


async def scrub(run: Run) -> None:
    """A pass of the scrubber: what it remembers, and a table of contents that it writes behind its shard's end."""
    async with run.opened() as store:
        await _cut_a_table(store)
        with run.recording():
            await store.scrubber.round(at_once=True)


async def counted(run: Run) -> None:
    """A walk of all names leaves sums of buckets and prefixes."""
    async with run.opened() as store:
        with run.recording():
            await store.usage.walk()


async def checked(run: Run) -> None:
    """fsck.stratumfs mends counts, and a table of contents."""
    async with run.opened() as store:
        await _cut_a_table(store)
        await store.catalog.commit(_miscount)
    with run.recording():
        run.story.damaged = True
        await trio.to_thread.run_sync(
            fsck, run.root / "store", Wanted(mend=True, full=False), lambda text, done, total: None
        )


def _miscount(tx: Transaction) -> None:
    tx.run("update volume set live = live + 1000 where state = 'sealed'")
    tx.run("update counter set value = value + 1000 where name = 'inline_bytes'")


async def _last_volume(store: Store) -> VolumeRow:
    return (await store.catalog.read(volumes, SEALED))[-1]


async def _cut_a_table(store: Store) -> None:
    row = await _last_volume(store)
    cell = toc_holders(volume_info(row))[0]
    path = Path(store.devices[row.devices[cell]].label) / path_of(ShardName(row.id, cell))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)


PATHS = {
    "backup": backup,
    "restore": restored,
    "migrate": migrate,
    "scrub": scrub,
    "count": counted,
    "fsck": checked,
}
