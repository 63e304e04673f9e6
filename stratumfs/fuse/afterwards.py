"""A program beside the owner of a mount: ends the kernel's connection if the owner cannot end.

``invalidate_entry`` waits in the kernel for whoever uses the directory, and cannot be interrupted there. If the owner
is killed meanwhile, that thread stays; it holds the connection open, so the kernel does not end it; and whoever uses
the directory waits for an answer that nobody gives any more. The process would stay as it is for ever, with the locks
of the store, and all programs in the mount with it. So the connection is aborted for it: all that waits fails.

The mount is left where it is and answers ENOTCONN, as it does behind any owner that was killed: else programs would go
on in the folder beneath.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from stratumfs.fuse.mountinfo import Device, device_at

LOOK_S = 0.5
"""Between two looks at the owner. Nobody tells of a process that cannot end: neither a pidfd nor a pipe."""
_CONNECTIONS = Path("/sys/fs/fuse/connections")
_MNT_FORCE = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Afterwards:
    """The program, from the owner's side. Both calls block: make them in a thread. Raises: OSError."""

    def __init__(self, mountpoint: str, device: Device) -> None:
        words = [sys.executable, "-m", __name__, str(os.getpid()), *map(str, device), mountpoint]
        self._process = subprocess.Popen(  # noqa: S603 - no shell
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def close(self) -> None:
        """The mount has ended in order."""
        self._process.kill()
        self._process.wait()


def main(owner: int, device: Device, mountpoint: str) -> None:
    """Return when the owner has ended, or its connection with it. What tells both to end, it leaves to the owner."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with suppress(ProcessLookupError):
        ended = select.poll()
        ended.register(os.pidfd_open(owner), select.POLLIN)
        dying = False
        while not ended.poll(LOOK_S * 1000):
            if dying:
                abort_connection(mountpoint, device)
                return
            dying = _is_dying(owner)


def abort_connection(mountpoint: str, device: Device) -> None:
    """All requests under way fail, and all that come. Does nothing if *device* is not mounted there any more, for its
    number may be another mount's by now."""
    if device_at(mountpoint) != device:
        return
    with suppress(OSError):  # fusectl is not mounted, or is not ours
        (_CONNECTIONS / str(device[1]) / "abort").write_text("1")
        return
    # The kernel aborts it before it looks whether the mount is in use; and it is, so that it stays.
    use = os.open(mountpoint, os.O_PATH)
    _libc.umount2(os.fsencode(mountpoint), _MNT_FORCE)
    os.close(use)


def _is_dying(pid: int) -> bool:
    """Its first thread is gone, which nothing but an end does."""
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    return False


if __name__ == "__main__":
    main(int(sys.argv[1]), (int(sys.argv[2]), int(sys.argv[3])), sys.argv[4])
