"""Who may open a store: a ``flock`` on a file of its own in the store folder and on every device.

Devices come first, in the order of their ids, the store folder last: the store folder may be the part that is lost, so
two owners that know different folders of one store still meet at a device. All are taken without waiting: who finds
one held gives up those it has, so there is no order in which two could hang. The lock file is never replaced or
removed, for a lock on a file that lost its name protects nothing.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from stratumfs.devices.check import LOCK_FILE
from stratumfs.errors import DeviceError, DeviceFailed, StoreInUse
from stratumfs.ids import DeviceId
from stratumfs.owner.asking import Silent, ask, ask_one


class Locks:
    """All locks of one store, held until ``release``. Not shared between tasks; the owner's alone."""

    def __init__(self) -> None:
        self._held: dict[Path, int] = {}

    def take_all(self, store: Path | None, devices: Sequence[tuple[DeviceId, Path]]) -> dict[DeviceId, str]:
        """Lock every device, in the order of ids, then the store folder; all or none. Blocking.

        Returns the devices that cannot be locked at all, with the reason: they failed, and are not to be used.
        Raises: StoreInUse naming the folder and the process that holds it; DeviceFailed for the store folder.
        """
        failed: dict[DeviceId, str] = {}
        try:
            for ident, folder in sorted(devices):
                # One after the other: of two owners the one that is first at the first device has it.
                answer = ask({ident: partial(self.take, folder)})[ident]
                if isinstance(answer, DeviceError):
                    failed[ident] = f"{folder}: {answer}" if isinstance(answer, Silent) else str(answer)
            if store is not None:
                ask_one(partial(self.take, store))
        except BaseException:
            self.release()
            raise
        return failed

    def take(self, folder: Path) -> None:
        """Lock one folder more: a device that appears later is locked before it is used. Blocking."""
        path = folder / LOCK_FILE
        if path in self._held:
            if _is_at(self._held[path], path):
                return
            os.close(self._held.pop(path))  # another disk is mounted there by now, or the folder was emptied
        try:
            descriptor = _open(path)
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

    def give_up(self, folder: Path) -> None:
        """The lock of one folder, if it is held. Never raises. Blocking."""
        if (descriptor := self._held.pop(folder / LOCK_FILE, None)) is not None:
            _close(descriptor)

    def release(self) -> None:
        """Give up all locks, the last taken first. Never raises. Blocking."""
        for give_up in self.given_up():
            give_up()

    def given_up(self) -> list[Callable[[], None]]:
        """All locks, the last taken first: each is given up by a call, which may hang with its disk."""
        held, self._held = list(self._held.values()), {}
        return [partial(_close, descriptor) for descriptor in reversed(held)]

    @staticmethod
    def _write_pid(descriptor: int) -> None:
        """For people who look into the file; nothing relies on it, a read-only device may refuse it."""
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)


def is_held(folder: Path) -> bool:
    """Whether a living process holds the lock of *folder*, as far as can be seen. Blocking.

    Who takes it in the same moment may find it held: whoever starts an owner tries again.
    """
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _close(descriptor: int) -> None:
    with suppress(OSError):
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _open(path: Path) -> int:
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        # A disk that the kernel has made read-only can still be locked, and read.
        return os.open(path, os.O_RDONLY | flags)


def _holder(path: Path) -> str:
    try:
        pid = int(path.read_text("ascii"))
    except (OSError, ValueError):
        return ""
    return f" (process {pid})"
