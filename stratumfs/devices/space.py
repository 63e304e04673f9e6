"""How much room a device has."""

import os
from dataclasses import dataclass
from pathlib import Path

from stratumfs.errors import of_device


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes of the file system that a device lies on. free: what an ordinary user may still take."""

    total: int
    used: int
    free: int


def space_of(folder: Path) -> Space:
    """The room on the file system of *folder*. Blocking. Raises: DeviceFailed, DeviceUnasked."""
    try:
        found = os.statvfs(folder)
    except OSError as error:
        message = f"device {folder}: cannot ask for its space: {error.strerror}"
        raise of_device(error, message, str(folder)) from error
    unit = found.f_frsize
    return Space(found.f_blocks * unit, (found.f_blocks - found.f_bfree) * unit, found.f_bavail * unit)


def total_space(by_disk: dict[int, Space]) -> Space:
    """The room of several devices, each *disk* (``st_dev``) counted once however many devices share it."""
    spaces = by_disk.values()
    return Space(sum(s.total for s in spaces), sum(s.used for s in spaces), sum(s.free for s in spaces))
