"""Devices that are up and whose folders are theirs no more: emptied, or their disk unmounted."""

import trio

from stratumfs.errors import DeviceError, DeviceFailed, DeviceSilent
from stratumfs.repair.answer import ask
from stratumfs.repair.fleet import Fleet, Folders


async def strike_away(fleet: Fleet, folders: Folders) -> None:
    """Strike them."""
    for device in list(fleet.devices.values()):
        if device.struck is None:
            try:
                await ask(device, folders.check, device.id)
            except DeviceSilent:
                continue  # a hang is for others to judge; and where this process could not ask, nobody knows
            except DeviceError as error:
                with trio.CancelScope(shield=True):
                    await fleet.strike(device.id, DeviceFailed(str(error), device.label))
