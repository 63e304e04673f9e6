"""Write paths of repair: shards made anew, a device that comes back, what it missed, a device that is replaced."""

import shutil
from dataclasses import replace as replace_fields
from pathlib import Path

import trio

from stratumfs.catalog.volumes import SEALED, VolumeRow, volumes
from stratumfs.devices.identity import read_identity, write_identity
from stratumfs.errors import DeviceFailed
from stratumfs.ids import CellIndex, DeviceId
from stratumfs.owner.fill import Filler
from stratumfs.owner.folders import with_device
from stratumfs.owner.messages import Progress, ReplaceDevice
from stratumfs.owner.replace import replace_device
from stratumfs.repair import returns
from stratumfs.shards.backend import ShardBackend
from stratumfs.shards.layout import ShardName, path_of
from stratumfs.shards.local import LocalShards
from stratumfs.store.store import Store
from tests.faults import acts
from tests.faults.base import STRIPED
from tests.faults.paths.volumes import UNKNOWN, UNKNOWN_BYTES
from tests.faults.run import SPARE, Run, smaller


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


async def come_back(run: Run) -> None:
    """A struck device answers again. It has a shard that rows place elsewhere by now, one that was being made anew, and
    an identity file that says where the store once was."""
    async with run.opened() as store:
        device = store.devices[(await _last_volume(store)).devices[0]]
        with smaller(returns, REPAIR_RETURN_S=0.0):
            await store.fleet.strike(device.id, DeviceFailed("Input/output error", device.label))
        _leave_files(device.shards)
        folder = Path(device.label)
        write_identity(folder, replace_fields(read_identity(folder), store_path=run.root / "before"))
        with run.recording():
            await store.repairer.round()


async def rebuild_again(run: Run) -> None:
    """A shard is made anew of which an earlier rebuild left a part."""
    async with run.opened() as store:
        await _damage(store, CellIndex(0))
        row = await _last_volume(store)
        store.devices[row.devices[0]].shards.begin_anew(ShardName(row.id, CellIndex(0))).close()
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
        spare = run.root / SPARE
        spare.mkdir()
        with run.recording():
            await replace_device(found, ReplaceDevice(device.label, str(spare)), _nobody, _there())
            await store.repairer.round()


async def fill(run: Run) -> None:
    """A new disk is mounted in the place of one that died: it becomes the device there, and what that held is made anew
    on it."""
    async with run.running() as found:
        store = found.store
        device = store.devices[(await _last_volume(store)).devices[0]]
        await store.fleet.strike(device.id, DeviceFailed("it died", device.label))
        empty(Path(device.label))
        entry = found.folders.entry(device.id)
        assert entry is not None
        with run.recording():
            await Filler(found)._fill(entry)
            await store.repairer.round()


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


async def replace_again(run: Run) -> None:
    """The folder says already that it takes the place of a struck device, and has a shard that no row places there, and
    a part of one."""
    async with run.running() as found:
        store = found.store
        device = store.devices[(await _last_volume(store)).devices[0]]
        await store.fleet.strike(device.id, DeviceFailed("it was emptied", device.label))
        spare = run.root / SPARE
        spare.mkdir()
        old = found.folders.entry(device.id)
        assert old is not None
        new = replace_fields(old, id=DeviceId(b"another device!!"), path=spare)
        after = with_device(found.folders.identity, old, new)
        write_identity(spare, after.of_device(new.id).without_epochs())
        left = LocalShards(spare)
        _leave_files(left)
        left.close()
        with run.recording():
            await replace_device(found, ReplaceDevice(device.label, str(spare)), _nobody, _there())
            await store.repairer.round()


def _leave_files(shards: ShardBackend) -> None:
    """A shard that no row places there, and a part of one."""
    shard = shards.create(UNKNOWN)
    shard.write_at(0, [UNKNOWN_BYTES])
    shard.close()
    shards.begin_anew(UNKNOWN).close()


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


PATHS = {
    "rebuild": rebuild,
    "rebuild-again": rebuild_again,
    "catch-up": catch_up,
    "come-back": come_back,
    "widen": widen,
    "replace": replace,
    "replace-again": replace_again,
    "fill": fill,
}
