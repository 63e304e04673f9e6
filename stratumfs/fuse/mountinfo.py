"""What the kernel says of mounts, which asks no mount. Imports nothing that takes time."""

import os
from pathlib import Path

_MOUNTINFO = Path("/proc/self/mountinfo")

Device = tuple[int, int]
"""(major, minor), as in st_dev; of a FUSE mount the minor number names the connection."""


def device_at(mountpoint: str) -> Device | None:
    """Of the topmost mount at *mountpoint*; asks no mount, so it may be called on the loop of one."""
    return device_of(mountpoint, _MOUNTINFO.read_bytes())


def device_of(mountpoint: str, mountinfo: bytes) -> Device | None:
    """As ``device_at``, from the text of /proc/self/mountinfo."""
    found = None
    for line in mountinfo.splitlines():
        fields = line.split(b" ")
        if _unescaped(fields[4]) == os.fsencode(mountpoint):
            major, minor = fields[2].split(b":")
            found = int(major), int(minor)
    return found


def _unescaped(field: bytes) -> bytes:
    """proc(5): blank, tab, newline and backslash are three octal digits."""
    parts = field.split(b"\\")
    return parts[0] + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in parts[1:])
