"""What the kernel says of a folder that is a device, or shall become one. Blocking."""

import os
from dataclasses import dataclass
from pathlib import Path

from stratumfs.errors import DeviceRefused, of_device

_BY_UUID = Path("/dev/disk/by-uuid")


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """st_dev: equal for folders on one file system, which fail together; mount_point: it is a file system's root."""

    path: Path
    st_dev: int
    st_ino: int
    mount_point: bool
    fs_uuid: str | None


def look_at(folder: Path) -> FolderFacts:
    """The facts of *folder*, symbolic links resolved.

    Raises: DeviceRefused if it is missing or no folder; DeviceUnasked.
    """
    try:
        path = folder.resolve(strict=True)
        found = path.stat()
        above = path.parent.stat()
    except OSError as error:
        message = f"{folder}: {error.strerror}: make the folder or mount its disk"
        raise of_device(error, message, str(folder), otherwise=DeviceRefused) from error
    if not path.is_dir():
        raise DeviceRefused(f"{folder} is not a folder", str(folder))
    # The root directory is its own parent, and a mount point too.
    mounted = found.st_dev != above.st_dev or found.st_ino == above.st_ino
    return FolderFacts(path, found.st_dev, found.st_ino, mounted, _uuid_of(found.st_dev))


def _uuid_of(st_dev: int) -> str | None:
    try:
        for link in _BY_UUID.iterdir():
            if os.stat(link).st_rdev == st_dev:
                return link.name
    except OSError:
        pass  # no udev, or a link whose device went away: nobody depends on it
    return None
