"""Who may open a store: a ``flock`` on a file of its own in the store folder and on every device.

Devices come first, in the order of their ids, the store folder last: the store folder may be the part that is lost, so
two owners that know different folders of one store still meet at a device. All are taken without waiting: who finds
one held gives up those it has, so there is no order in which two could hang. The lock file is never replaced or
removed, for a lock on a file that lost its name protects nothing.
"""

import errno
import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from stratumfs.errors import DeviceFailed, StoreInUse
from stratumfs.ids import DeviceId

LOCK_FILE = "lock"


class Locks:
    """All locks of one store, held until ``release``. Not shared between tasks; the owner's alone."""

    def __init__(self) -> None:
        self._held: dict[Path, int] = {}

    def take_all(self, store: Path | None, devices: Sequence[tuple[DeviceId, Path]]) -> None:
        """Lock every device, in the order of ids, then the store folder; all or none. Blocking.

        Raises: StoreInUse naming the folder and, where the kernel knows it, the process that holds it;
        DeviceFailed if a folder cannot be locked at all.
        """
        folders = [path for _, path in sorted(devices)]
        if store is not None:
            folders.append(store)
        try:
            for folder in folders:
                self.take(folder)
        except BaseException:
            self.release()
            raise

    def take(self, folder: Path) -> None:
        """Lock one folder more: a device that appears later is locked before it is used. Blocking."""
        path = folder / LOCK_FILE
        if path in self._held:
            return
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DeviceFailed(f"{path} cannot be opened: {error.strerror}", str(folder)) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise StoreInUse(f"{folder} is in use by another owner{_holder(path)}") from None
            raise DeviceFailed(f"{path} cannot be locked: {error.strerror}", str(folder)) from error
        self._held[path] = descriptor
        self._write_pid(descriptor)

    def release(self) -> None:
        """Give up all locks, the last taken first. Never raises."""
        while self._held:
            _, descriptor = self._held.popitem()
            with suppress(OSError):
                os.close(descriptor)

    @staticmethod
    def _write_pid(descriptor: int) -> None:
        """For people who look into the file; nothing relies on it, a read-only device may refuse it."""
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)


def _holder(path: Path) -> str:
    try:
        pid = int(path.read_text("ascii"))
    except (OSError, ValueError):
        return ""
    return f" (process {pid})"
