"""What a superuser may tell the kernel about a FUSE connection: more requests in the background, longer read-ahead."""

from pathlib import Path

import structlog

from stratumfs.fuse.mountinfo import Device
from stratumfs.ids import KIB, MIB
from stratumfs.limits import FUSE_BACKGROUND_MAX

_log = structlog.get_logger(__name__)
_CONNECTIONS = Path("/sys/fs/fuse/connections")
_DEVICES = Path("/sys/class/bdi")
READ_AHEAD = 1 * MIB


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
