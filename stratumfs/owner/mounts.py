"""What is mounted where, as the kernel tells it in /proc/self/mountinfo (proc(5))."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from stratumfs.errors import ConfigError

MOUNTINFO = Path("/proc/self/mountinfo")
FUSE_DEVICE = Path("/dev/fuse")
FUSE_SETTINGS = Path("/etc/fuse.conf")
SUBTYPE = "stratumfs"
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in "%,\\")
_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo.

    device       "major:minor", as st_dev of what lies there
    filesystem   type, as ``fuse.stratumfs``
    source       for our mounts the store's folder, as `encode_source` spells it
    """

    device: str
    point: Path
    filesystem: str
    source: str

    @property
    def ours(self) -> bool:
        return self.filesystem == f"fuse.{SUBTYPE}"

    @property
    def store(self) -> Path:
        """Of one of our mounts: the store's folder."""
        return Path(os.fsdecode(unquote_to_bytes(self.source)))


def encode_source(store: Path) -> str:
    """A store's folder as the name of its filesystem: what libfuse cannot take stands percent-encoded."""
    return quote(os.fsencode(store), safe=_PLAIN)


def mounts(table: Path = MOUNTINFO) -> list[Mount]:
    """All mounts of this process's namespace, in the order in which they were made."""
    return [_parse(line) for line in table.read_bytes().splitlines() if line]


def mount_at(point: Path) -> Mount | None:
    """The topmost mount at exactly this path (absolute, links resolved); never touches the path itself.

    A mount whose owner is gone or hangs can be found this way, where stat(2) would fail or wait.
    """
    found = [mount for mount in mounts() if mount.point == point]
    return found[-1] if found else None


def mount_of(device: int) -> Mount | None:
    """A mount of the filesystem that has this number (``st_dev`` of whatever lies on it)."""
    number = f"{os.major(device)}:{os.minor(device)}"
    return next((mount for mount in mounts() if mount.device == number), None)


def check_mount_point(point: Path, *, nonempty: bool = False) -> None:
    """That one can mount here: /dev/fuse is there, and *point* (absolute) is an empty folder where nothing is mounted.

    Raises: ConfigError, one line that says what to do.
    """
    if not FUSE_DEVICE.exists():
        raise ConfigError(
            "/dev/fuse is missing: load the module (`modprobe fuse`), or give the container the device "
            "(`--device /dev/fuse`)"
        )
    if not os.access(FUSE_DEVICE, os.R_OK | os.W_OK):
        raise ConfigError("/dev/fuse may not be opened by this user: ask root for access to it")
    taken = mount_at(point)
    if taken is not None:
        raise ConfigError(_occupied(point, taken))
    if not point.is_dir():
        what = "is no directory" if point.exists() else f"does not exist: `mkdir -p {point}` makes it"
        raise ConfigError(f"mount point {point} {what}")
    if not nonempty and os.listdir(point):
        raise ConfigError(
            f"mount point {point} is not empty, and a mount would hide what lies there: choose an empty directory, "
            f"or say -o nonempty"
        )


def check_allow_other() -> None:
    """That fusermount3 lets this user let others in (fuse.conf(5)).

    Raises: ConfigError; fusermount3 itself would say so to the owner's log.
    """
    lines: list[str] = []
    with suppress(OSError):
        lines = FUSE_SETTINGS.read_text("utf-8", "replace").splitlines()
    if os.geteuid() != 0 and "user_allow_other" not in map(str.strip, lines):
        raise ConfigError(f"allow_other is root's, until root writes a line user_allow_other into {FUSE_SETTINGS}")


def _occupied(point: Path, taken: Mount) -> str:
    if taken.ours:
        return f"{point} is already the mount point of {taken.store}: `stratumfs umount {point}` frees it"
    return f"{point} is already a mount point ({taken.filesystem} on {taken.source}): choose another one"


def _parse(line: bytes) -> Mount:
    fields = line.split(b" ")
    optional_end = fields.index(b"-", 6)
    return Mount(
        device=fields[2].decode(),
        point=Path(os.fsdecode(_unescape(fields[4]))),
        filesystem=fields[optional_end + 1].decode("utf-8", "replace"),
        source=os.fsdecode(_unescape(fields[optional_end + 2])),
    )


def _unescape(field: bytes) -> bytes:
    """Blank, tab, newline and backslash stand as three octal digits."""
    return _OCTAL.sub(lambda match: bytes([int(match.group(1), 8)]), field)
