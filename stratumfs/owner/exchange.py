"""The step of a replacement that changes the list of devices: nobody waits for a new disk that hangs."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import structlog
import trio

from stratumfs.descriptor import close_soon
from stratumfs.devices.folder import FolderFacts
from stratumfs.devices.identity import DeviceEntry
from stratumfs.errors import DeviceFailed, DeviceSilent, StratumError
from stratumfs.limits import DEVICE_DEADLINE_S, DEVICE_LOOK_S
from stratumfs.owner.folders import Folders, with_device
from stratumfs.owner.places import listed, place_of
from stratumfs.owner.wire import Running
from stratumfs.repair.quarantine import quarantine_unknown
from stratumfs.volumes.attached import AttachedDevice

_log = structlog.get_logger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def exchange(running: Running, old: DeviceEntry, new: DeviceEntry, facts: FolderFacts) -> None:
    """*new* takes the slot of *old*: in its own identity file, then in those of all places, with an epoch of the
    catalog; what is left is done by `finish`. Under `Folders.turn`.

    A stop before that of the store folder leaves the old list, and a folder that says what it was to become; a stop
    behind it the new list, which the next opening writes to the others. Those of devices that are not up learn of it
    when they come back. Raises: DeviceError, StoreInUse, what the catalog raises; the old list stays then.
    """
    folders, store = running.folders, running.store
    if old.path == new.path:
        await store.fleet.strike(old.id, DeviceFailed("it was emptied", str(old.path)))
        await store.catalog.strike(place_of(old.id), "it was emptied")  # struck before, it may be a place again
    after = with_device(folders.identity, old, new)
    device = await in_time(folders, facts.path, folders.prepare, new, after, facts)
    try:
        await _move_aside(running, device)
        store.fleet.join(old.id, device)
        folders.know(new.id, facts)
        folders.adopt(after)
        try:
            await store.catalog.change_places(listed(after), folders.place(new.id))
        except StratumError:
            folders.adopt(with_device(folders.identity, new, old))
            folders.forget(new.id)
            store.fleet.leave(new.id)
            raise
    except BaseException:
        close_soon([device.shards])
        raise
    folders.forget(old.id)


async def finish(running: Running, new: DeviceEntry) -> None:
    """The fleet learns of what the identity files say already, if it has not. Raises: DeviceError, what the catalog
    raises; asked again, it goes on."""
    folders, fleet = running.folders, running.store.fleet
    if new.id in fleet.joining:
        old, device = fleet.joining[new.id]
        label = fleet.devices[old].label if old in fleet.devices else old.hex()
        await fleet.replace(old, device)
        if label == device.label:
            fleet.devices.pop(old, None)
        _log.warning("device_replaced", old=label, new=device.label, slot=new.slot)
    await in_time(folders, folders.folder, folders.name_in_stand_in)


async def in_time(folders: Folders, folder: Path, fn: Callable[[*Ts], T], *args: *Ts) -> T:
    """*fn*, which asks what lies at *folder*, in a thread; left behind it keeps what it has until it returns.

    Raises: DeviceSilent after DEVICE_DEADLINE_S, and at once while an earlier one hangs; what *fn* raises.
    """
    limiter = folders.asking.setdefault(folder, trio.CapacityLimiter(1))
    if not limiter.borrowed_tokens:
        with trio.move_on_after(DEVICE_DEADLINE_S):
            return await trio.to_thread.run_sync(fn, *args, limiter=limiter, abandon_on_cancel=True)
    raise DeviceSilent(f"{folder} does not answer", str(folder))


async def _move_aside(running: Running, device: AttachedDevice) -> None:
    """What lies on it and no row places there: of the one before, emptied or not. Rows may name the rest: an earlier
    replacement may have come so far. Raises: DeviceError."""
    async with _given_up_if_silent(device):
        failures = await quarantine_unknown(running.store.catalog, {device.id: device})
    for error in failures.values():
        raise error


@asynccontextmanager
async def _given_up_if_silent(device: AttachedDevice) -> AsyncIterator[None]:
    """No fleet looks at it yet: whoever waits for it goes on if it hangs, and if the owner ends."""
    over = False

    async def watch() -> None:
        try:
            hangs = False
            while not hangs:
                await trio.sleep(DEVICE_LOOK_S)
                since = device.writing_since()
                hangs = since is not None and device.clock() - since >= DEVICE_DEADLINE_S
        finally:
            if not over:
                device.strike(DeviceSilent(f"{device.label} does not answer", device.label))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        yield
        over = True
        nursery.cancel_scope.cancel()
