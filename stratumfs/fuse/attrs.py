"""Attributes as the kernel wants them: what is committed, with what is pending laid over it."""

import stat

import pyfuse3

from stratumfs.fuse.buffer import FileBuffer
from stratumfs.ids import KIB
from stratumfs.values import Attributes, FileSystemSpace

BLOCK_SIZE = 128 * KIB
"""What programs take as the best size of a read or write: eight of them are a stripe."""
_FRAGMENT = 4096
_SECTOR = 512


def entry_of(
    attributes: Attributes, atime_ns: int, buffer: FileBuffer | None, timeout_s: float
) -> pyfuse3.EntryAttributes:
    """*timeout_s*: how long the kernel may keep the name and the attributes."""
    entry = pyfuse3.EntryAttributes()
    size, mtime_ns, ctime_ns = attributes.size, attributes.mtime_ns, attributes.ctime_ns
    if buffer is not None and buffer.pending:
        size = buffer.size
        mtime_ns, changed_ns = buffer.times_ns
        ctime_ns = max(ctime_ns, changed_ns)
    entry.st_ino = pyfuse3.InodeT(attributes.ino)
    entry.st_mode = pyfuse3.ModeT(attributes.mode)
    entry.st_nlink = attributes.nlink
    entry.st_uid = attributes.uid
    entry.st_gid = attributes.gid
    entry.st_rdev = attributes.rdev
    entry.st_size = size
    entry.st_blocks = -(-size // _SECTOR)
    entry.st_blksize = BLOCK_SIZE
    entry.st_atime_ns = atime_ns
    entry.st_mtime_ns = mtime_ns
    entry.st_ctime_ns = ctime_ns
    entry.entry_timeout = entry.attr_timeout = timeout_s
    return entry


def no_entry(timeout_s: float) -> pyfuse3.EntryAttributes:
    """That a name does not exist, for the kernel to remember."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(0)
    entry.entry_timeout = timeout_s
    return entry


def space_of(space: FileSystemSpace, name_max: int) -> pyfuse3.StatvfsData:
    data = pyfuse3.StatvfsData()
    data.f_bsize = BLOCK_SIZE
    data.f_frsize = _FRAGMENT
    data.f_blocks = space.total // _FRAGMENT
    data.f_bfree = data.f_bavail = space.free // _FRAGMENT
    # There is no table of inodes that fills up: what is free for data is free for files.
    data.f_ffree = data.f_favail = data.f_bfree
    data.f_files = space.files + data.f_ffree
    data.f_namemax = name_max
    return data


def atime_is_due(attributes: Attributes, atime_ns: int, now_ns: int, day_ns: int = 24 * 3600 * 10**9) -> bool:
    """relatime: a read is noted if the last one noted is older than the last change, or than a day."""
    return stat.S_ISREG(attributes.mode) and (
        atime_ns <= attributes.mtime_ns or atime_ns <= attributes.ctime_ns or now_ns - atime_ns >= day_ns
    )
