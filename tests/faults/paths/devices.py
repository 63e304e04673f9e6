"""Write paths on which a store gets one more device, empties one, and lets it go."""

import trio

from stratumfs.catalog.volumes import SEALED, volumes
from stratumfs.ids import DeviceId
from stratumfs.owner.add import add_device
from stratumfs.owner.drain import drain_device
from stratumfs.owner.messages import AddDevice, DrainDevice, Progress, RemoveDevice
from stratumfs.owner.remove import remove_device
from stratumfs.owner.wire import Running
from tests.faults.run import SPARE, Run


async def add(run: Run) -> None:
    """An empty folder becomes one more device of the hot tier."""
    async with run.running() as found:
        _make_folder(run)
        with run.recording():
            await _add(run, found)


async def drain(run: Run) -> None:
    """What a device holds is made on one that was added: its shards are copied, and rows swapped."""
    async with run.running() as found:
        _make_folder(run)
        await _add(run, found)
        row = (await found.store.catalog.read(volumes, SEALED))[-1]
        with run.recording():
            await _drain(found, row.devices[0])  # which has no table of contents


async def remove(run: Run) -> None:
    """A device that was drained leaves the store."""
    async with run.running() as found:
        _make_folder(run)
        await _add(run, found)
        device = found.folders.identity.devices[1].id  # it has a copy of the catalog
        await _drain(found, device)
        with run.recording():
            await remove_device(found, RemoveDevice(device.hex()))


def _make_folder(run: Run) -> None:
    (run.root / SPARE).mkdir()


async def _add(run: Run, found: Running) -> None:
    await add_device(found, AddDevice("hot", str(run.root / SPARE)))


async def _drain(found: Running, device: DeviceId) -> None:
    left = trio.Event()
    left.set()
    await drain_device(found, DrainDevice(device.hex()), _nobody, left)
    await found.store.repairer.round()


async def _nobody(progress: Progress) -> None:
    """Who asked has left."""


PATHS = {"add": add, "drain": drain, "remove": remove}
