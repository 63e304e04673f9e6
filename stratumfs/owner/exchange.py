"""The steps that change the list of devices: nobody waits for a new disk that hangs."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import structlog
import trio

from stratumfs.catalog.devices import has_state
from stratumfs.descriptor import close_soon
from stratumfs.devices.folder import FolderFacts
from stratumfs.devices.identity import DeviceEntry, Identity
from stratumfs.errors import DeviceError, DeviceFailed, DeviceSilent, StratumError
from stratumfs.ids import DeviceId
from stratumfs.limits import DEVICE_DEADLINE_S, DEVICE_LOOK_S
from stratumfs.owner.folders import Folders, with_device
from stratumfs.owner.places import listed, place_of
from stratumfs.owner.slots import own
from stratumfs.owner.wire import Running
from stratumfs.repair.quarantine import quarantine_unknown
from stratumfs.threads import in_thread
from stratumfs.volumes.attached import AttachedDevice

_log = structlog.get_logger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def is_used_up(running: Running, path: Path) -> bool:
    """Whether the identity file in *path* is that of a device of which a row says that it is not up. Where the list has
    it no more, it was removed or replaced: what it holds is out of date, and rows may place more on it than it holds.

    Rows that place shards do not say so: where a list was lost, they may be those of a device that is in no other.
    Raises: DeviceError, what the catalog raises.
    """
    said = await in_time(running.folders, path, own, running.folders.identity, path)
    return said is not None and await running.store.catalog.read(has_state, said.id)


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
    await _enter(running, with_device(folders.identity, old, new), new, facts, old)
    folders.forget(old.id)


async def enlist(running: Running, new: DeviceEntry, facts: FolderFacts) -> None:
    """*new* becomes a device beside the others; in the same order, and `finish` does what is left. Raises: the same."""
    identity = running.folders.identity
    await _enter(running, replace(identity, devices=(*identity.devices, new)), new, facts)


async def withdraw(running: Running, old: DeviceEntry) -> None:
    """*old*, which nobody counts upon any more, is in no identity file, and no place of the catalog. Under
    `Folders.turn`.

    That it is gone was recorded before. A stop on the way leaves the one list or the other, as with `exchange`; its own
    file, if it can be reached, loses its name in the end. Raises: what the catalog raises; the old list stays then.
    """
    folders, store = running.folders, running.store
    before = folders.identity
    folders.adopt(replace(before, devices=tuple(each for each in before.devices if each.id != old.id)))
    try:
        await store.catalog.change_places(listed(folders.identity), None)
    except StratumError:
        folders.adopt(before)
        raise
    there = old.id in folders.attached.facts
    folders.forget(old.id)
    store.fleet.forget(old.id)
    if there:
        try:
            await in_time(folders, old.path, folders.retire, old)
        except DeviceError as error:
            _log.warning("identity_not_retired", device=str(old.path), reason=str(error))
    await in_time(folders, folders.folder, folders.name_in_stand_in)


async def _enter(
    running: Running, after: Identity, new: DeviceEntry, facts: FolderFacts, old: DeviceEntry | None = None
) -> None:
    folders, store = running.folders, running.store
    before = folders.identity
    device = await in_time(folders, facts.path, folders.prepare, new, after, facts)
    try:
        await _move_aside(running, device)
        store.fleet.join(device, old.id if old is not None else None)
        folders.know(new.id, facts)
        folders.adopt(after)
        try:
            await store.catalog.change_places(listed(after), folders.place(new.id))
        except StratumError:
            folders.adopt(before)
            folders.forget(new.id)
            store.fleet.leave(new.id)
            raise
    except BaseException:
        close_soon([device.shards])
        raise


async def finish(running: Running, new: DeviceEntry) -> None:
    """The fleet learns of what the identity files say already, if it has not. Raises: DeviceError, what the catalog
    raises; asked again, it goes on."""
    folders, fleet = running.folders, running.store.fleet
    if new.id in fleet.joining:
        old, device = fleet.joining[new.id]
        if old is None:
            fleet.admit(device)
            _log.info("device_added", device=device.label, tier=new.tier, slot=new.slot)
        else:
            await _take_place(running, new, old, device)
        # Of one that only joined nobody was told that it failed as a place of the catalog.
        if (why := running.store.catalog.standing(place_of(new.id))[1]) is not None:
            await fleet.strike(new.id, DeviceFailed(why, device.label))
    await in_time(folders, folders.folder, folders.name_in_stand_in)


async def _take_place(running: Running, new: DeviceEntry, old: DeviceId, device: AttachedDevice) -> None:
    fleet = running.store.fleet
    label = fleet.devices[old].label if old in fleet.devices else old.hex()
    await fleet.replace(old, device)
    if label == device.label:
        fleet.devices.pop(old, None)
    _log.warning("device_replaced", old=label, new=device.label, slot=new.slot)


async def in_time(folders: Folders, folder: Path, fn: Callable[[*Ts], T], *args: *Ts) -> T:
    """*fn*, which asks what lies at *folder*, in a thread; left behind it keeps what it has until it returns.

    Raises: DeviceSilent after DEVICE_DEADLINE_S, and at once while an earlier one hangs; what *fn* raises.
    """
    limiter = folders.asking.setdefault(folder, trio.CapacityLimiter(1))
    if not limiter.borrowed_tokens:
        folders.silent.discard(folder)
    if folder not in folders.silent:
        with trio.move_on_after(DEVICE_DEADLINE_S):
            return await in_thread(fn, *args, limiter=limiter, abandon_on_cancel=True)
    folders.silent.add(folder)
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
