"""Write paths of repair: shards made anew, a device that comes back, what it missed, a device that is replaced."""

from pathlib import Path

import trio

from stratumfs.catalog.volumes import SEALED, VolumeRow, volumes
from stratumfs.errors import DeviceFailed
from stratumfs.ids import CellIndex
from stratumfs.owner.messages import Progress, ReplaceDevice
from stratumfs.owner.replace import replace_device
from stratumfs.repair import returns
from stratumfs.shards.layout import ShardName, path_of
from stratumfs.store.store import Store
from tests.faults import acts
from tests.faults.base import STRIPED
from tests.faults.run import Run, smaller


async def rebuild(run: Run) -> None:
    """A shard whose file is there and damaged, as a read has found, is made anew on its device."""
    async with run.opened() as store:
        await _damage(store, CellIndex(0))
        with run.recording():
            await store.repairer.round()


async def catch_up(run: Run) -> None:
    """A struck device answers again, with a damaged shard: that is made anew there, and the device is up."""
    async with run.opened() as store:
        device = store.devices[(await _last_volume(store)).devices[0]]
        with smaller(returns, REPAIR_RETURN_S=0.0):
            await store.fleet.strike(device.id, DeviceFailed("Input/output error", device.label))
        await _damage(store, CellIndex(0))
        with run.recording():
            await store.repairer.round()


async def widen(run: Run) -> None:
    """A volume was opened while a device was struck: when that is back, it is sealed and repacked to full width."""
    async with run.opened() as store:
        device = store.devices[(await _last_volume(store)).devices[0]]
        with smaller(returns, REPAIR_RETURN_S=0.0):
            await store.fleet.strike(device.id, DeviceFailed("Input/output error", device.label))
        data = run.data(STRIPED)
        run.story.tree = run.tree.put("main/earlier", data, await acts.put(store, "main/earlier", data))
        await store.repairer.round()
        assert not store.fleet.struck
        with run.recording():
            await store.compactor.round()


async def replace(run: Run) -> None:
    """An empty folder takes the place of a struck device: what that held is made anew there, and rows are swapped."""
    async with run.running() as found:
        store = found.store
        device = store.devices[(await _last_volume(store)).devices[0]]
        await store.fleet.strike(device.id, DeviceFailed("it was emptied", device.label))
        spare = run.root / "d9"
        spare.mkdir()
        with run.recording():
            await replace_device(found, ReplaceDevice(device.label, str(spare)), _nobody, _there())
            await store.repairer.round()


async def _last_volume(store: Store) -> VolumeRow:
    return (await store.catalog.read(volumes, SEALED))[-1]


async def _damage(store: Store, cell: CellIndex) -> None:
    row = await _last_volume(store)
    path = Path(store.devices[row.devices[cell]].label) / path_of(ShardName(row.id, cell))
    with path.open("r+b") as file:
        file.seek(200)
        file.write(b"damage")
    store.repairer.damaged(row.id, cell, "a read met it")


async def _nobody(progress: Progress) -> None:
    """Who asked has left."""


def _there() -> trio.Event:
    """Set: nobody waits."""
    left = trio.Event()
    left.set()
    return left


PATHS = {"rebuild": rebuild, "catch-up": catch_up, "widen": widen, "replace": replace}
