"""Waits for a device, but not without end: one that hangs stops no repair of what lies on others."""

from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import trio

from stratumfs.errors import DeviceSilent
from stratumfs.limits import REBUILD_READ_S
from stratumfs.volumes.attached import AttachedDevice

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def in_time(label: str, asked: Awaitable[T]) -> T:
    """What was *asked* of the device that messages name *label*; a call without effects, for it may be left behind.

    Raises: DeviceSilent after REBUILD_READ_S; what the call raises.
    """
    with trio.move_on_after(REBUILD_READ_S):
        return await asked
    raise DeviceSilent(f"device {label} does not answer", label)


def doubt(device: AttachedDevice) -> tuple[bool, bool]:
    """By this devices are sorted that are asked one after the other: who hangs comes last."""
    return device.stalled(REBUILD_READ_S), device.in_doubt


async def ask(device: AttachedDevice, fn: Callable[[*Ts], T], *args: *Ts) -> T:
    """*fn* in a thread that reads from *device*, where nothing else is to be done while that hangs.

    Raises: DeviceSilent as `in_time`, and at once while another read hangs: a device that hangs keeps the threads of
    all who wait for it. What *fn* raises.
    """
    if device.stalled(REBUILD_READ_S):
        raise DeviceSilent(f"device {device.label} does not answer", device.label)
    return await in_time(device.label, device.read(fn, *args))
