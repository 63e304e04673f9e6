"""Taking a mount off the tree, by umount(2) where we may, else by fusermount3. Blocking; run it in a thread."""

import ctypes
import errno
import os
import shutil
import subprocess

MNT_FORCE = 1
MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


def unmount(mountpoint: str) -> bool:
    """False if it is in use. Not mounted any more: True. Raises: OSError."""
    return _umount(mountpoint, 0)


def abort(mountpoint: str) -> None:
    """Take it off the tree, whatever waits for an answer from it: that fails. Raises: OSError."""
    _libc.umount2(os.fsencode(mountpoint), MNT_FORCE)  # ends the connection even where it says EBUSY
    _umount(mountpoint, MNT_DETACH)


def detach(mountpoint: str) -> None:
    """Take it off the tree although it is in use, and have all dirty pages of mappings written. Raises: OSError."""
    folder = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _umount(mountpoint, MNT_DETACH)
        _libc.syncfs(folder)
    finally:
        os.close(folder)


def _umount(mountpoint: str, flags: int) -> bool:
    if _libc.umount2(os.fsencode(mountpoint), flags) == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.EPERM:
        return _fusermount(mountpoint, flags)
    if number in (errno.EINVAL, errno.ENOENT):
        return True
    if number == errno.EBUSY:
        return False
    raise OSError(number, os.strerror(number), mountpoint)


def _fusermount(mountpoint: str, flags: int) -> bool:
    """What an ordinary user has instead of umount(2)."""
    program = shutil.which("fusermount3")
    if program is None:
        raise OSError(errno.ENOENT, "fusermount3 is not installed (Debian's package fuse3)", mountpoint)
    lazy = ["-z"] if flags & MNT_DETACH else []
    done = subprocess.run(  # noqa: S603 - no shell
        [program, "-u", *lazy, "--", mountpoint], capture_output=True, text=True, check=False, env={"LC_ALL": "C"}
    )
    if done.returncode == 0 or "not found in /etc/mtab" in done.stderr or "not mounted" in done.stderr:
        return True
    if "busy" in done.stderr:
        return False
    raise OSError(errno.EIO, done.stderr.strip() or "fusermount3 failed", mountpoint)
