"""What a superuser may tell the kernel about a FUSE connection: more requests in the background, longer read-ahead."""

import os
from pathlib import Path

import structlog

from stratumfs.ids import KIB, MIB
from stratumfs.limits import FUSE_BACKGROUND_MAX

_log = structlog.get_logger(__name__)
_MOUNTINFO = Path("/proc/self/mountinfo")
_CONNECTIONS = Path("/sys/fs/fuse/connections")
_DEVICES = Path("/sys/class/bdi")
READ_AHEAD = 1 * MIB


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


def tune(device: Device | None) -> None:
    """Raise the kernel's bounds where we may; where not, all works with its own."""
    if device is None:
        return
    major, minor = device
    connection = _CONNECTIONS / str(minor)
    _write(connection / "max_background", FUSE_BACKGROUND_MAX)
    _write(connection / "congestion_threshold", FUSE_BACKGROUND_MAX * 3 // 4)
    _write(_DEVICES / f"{major}:{minor}" / "read_ahead_kb", READ_AHEAD // KIB)


def _write(file: Path, value: int) -> None:
    try:
        file.write_text(str(value))
    except OSError as error:
        _log.info("the kernel keeps its own bound", file=str(file), reason=error.strerror)


def _unescaped(field: bytes) -> bytes:
    """proc(5): blank, tab, newline and backslash are three octal digits."""
    parts = field.split(b"\\")
    return parts[0] + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in parts[1:])
