"""Waits for a device, but not without end: one that hangs stops no repair of what lies on others."""

from collections.abc import Awaitable
from typing import TypeVar

import trio

from stratumfs.errors import DeviceSilent
from stratumfs.limits import REBUILD_READ_S
from stratumfs.volumes.attached import AttachedDevice

T = TypeVar("T")


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
