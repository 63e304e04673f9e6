"""What ``stratumfs device`` asks for, by whoever has the store open."""

from typing import Any

import trio

from stratumfs.owner.add import add_device
from stratumfs.owner.drain import drain_device
from stratumfs.owner.messages import AddDevice, DeviceChange, DrainDevice, RemoveDevice, ReplaceDevice
from stratumfs.owner.remove import remove_device
from stratumfs.owner.replace import Follow, replace_device
from stratumfs.owner.wire import Running


async def change_device(running: Running, request: DeviceChange, follow: Follow, left: trio.Event) -> dict[str, Any]:
    """Carry it out; tell *follow* how far it is until whoever asked has *left*. Raises: what each of them raises."""
    match request:
        case ReplaceDevice():
            return await replace_device(running, request, follow, left)
        case AddDevice():
            return await add_device(running, request)
        case DrainDevice():
            return await drain_device(running, request, follow, left)
        case RemoveDevice():
            return await remove_device(running, request)
