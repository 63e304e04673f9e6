"""``stratumfs device remove``: a device that holds nothing any more leaves the store.

First a row says that it is gone, so that it cannot come back; then the list of devices changes, with an epoch of the
catalog. Asked again after a stop, it goes on where it was.
"""

from pathlib import Path
from typing import Any

from stratumfs.catalog.devices import forget_removed
from stratumfs.devices.health import STRUCK, DeviceState
from stratumfs.devices.identity import DeviceEntry
from stratumfs.errors import DeviceRefused
from stratumfs.owner.drain import held_by
from stratumfs.owner.exchange import in_time, withdraw
from stratumfs.owner.messages import RemoveDevice
from stratumfs.owner.slots import demand_named
from stratumfs.owner.status import about_devices
from stratumfs.owner.wire import Running
from stratumfs.store.survives import survives_by_asking


async def remove_device(running: Running, request: RemoveDevice) -> dict[str, Any]:
    """Do it. Returns where the device was, and what all data survives now.

    Raises: NotFound, DeviceRefused: then nothing was changed; what the catalog raises: asked again, it goes on.
    """
    folders, store = running.folders, running.store
    async with folders.turn:
        entry = await in_time(folders, Path(request.device), demand_named, folders.identity, request.device)
        await _check(running, entry, request.force)
        await store.fleet.remove(entry.id)
        await withdraw(running, entry)
        await store.catalog.commit(forget_removed, tuple(each.id for each in folders.identity.devices))
    store.repairer.look_soon()
    about = {"path": str(entry.path), "tier": entry.tier, "slot": entry.slot}
    return about | await about_devices(running)


async def _check(running: Running, entry: DeviceEntry, force: bool) -> None:
    """Raises: DeviceRefused, saying what to do first."""
    code = running.store.fleet.codes[entry.tier]
    count = sum(each.tier == entry.tier for each in running.folders.identity.devices)
    where = f"{entry.tier}:{entry.slot} ({entry.path})"
    if count <= code.n:
        raise DeviceRefused(
            f"tier {entry.tier} has {count} devices, and k + m = {code.n} must stay: replace it, or add one"
        )
    state, _ = running.store.fleet.state(entry.id)
    if state is DeviceState.GONE:
        return
    if state is not DeviceState.DRAINING and state not in STRUCK:
        raise DeviceRefused(f"{where} is {state}: `stratumfs device drain` comes first")
    shards = (await held_by(running, entry.id)).shards
    if not shards:
        return
    if state not in STRUCK:
        raise DeviceRefused(f"{where} holds {shards} shards still: `stratumfs device drain` goes on")
    if not force:
        raise DeviceRefused(f"{shards} shards of {where} are not made elsewhere yet: wait for that (or --force)")
    if (await survives_by_asking(running.store)).devices < 0:
        raise DeviceRefused(f"without {where} some data cannot be read: bring it back")
