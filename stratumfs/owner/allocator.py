"""The C library's allocator, told to keep what is freed: buffers of a stripe come and go all the time.

By default each one is fresh memory from the kernel, whose first touch costs more than the copy into it.
"""

import ctypes

from stratumfs.limits import FREED_BYTES_KEPT, MAPPED_BUFFER_MIN

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Of mallopt(3); the last one from malloc.h."""


def keep_freed_memory() -> None:
    """To be called before any thread exists. A C library without these settings is left as it is."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_MMAP_THRESHOLD, MAPPED_BUFFER_MIN)
    mallopt(_M_TRIM_THRESHOLD, FREED_BYTES_KEPT)
    # Python allocates under its lock: arenas of its threads would buy nothing, and each would keep as much.
    mallopt(_M_ARENA_MAX, 1)
