"""Room for a file, by fallocate(2) itself.

``os.posix_fallocate`` is the C library's: where a file system has no such call, as on networks and in FUSE, it writes
into each block. That is a thousand requests for each 4 MiB, and a disk that was asked for the room of one large shard
would pass for one that hangs.
"""

import ctypes
import errno
import os

_WITHOUT = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
"""What file systems say that have no such call."""

_fallocate = ctypes.CDLL(None, use_errno=True).fallocate64
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def allocate(number: int, start: int, length: int) -> None:
    """Make room in an open file for *length* bytes from *start* on, which read as zeros if the file ends before them.

    A file system that can't is only asked whether it has so much free. Raises: OSError.
    """
    while _fallocate(number, 0, start, length):
        code = ctypes.get_errno()
        if code in _WITHOUT:
            _check_free(number, length)
            return
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


def _check_free(number: int, length: int) -> None:
    found = os.fstatvfs(number)
    if found.f_bavail * found.f_frsize < length:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
