"""The first rows of a new catalog."""

from stratumfs.catalog.schema import ROWS
from stratumfs.ids import ROOT_INODE


def first_rows(uid: int, gid: int, now_ns: int) -> tuple[str, ...]:
    """Statements that fill a new catalog: the root directory belongs to who makes the store, so that an ordinary user
    may make buckets in his own."""
    times = ", ".join(f"{name} = {int(now_ns)}" for name in ("atime_ns", "mtime_ns", "ctime_ns", "modified_ns"))
    return (
        *ROWS,
        f"update inode set uid = {int(uid)}, gid = {int(gid)}, {times} where ino = {ROOT_INODE}",  # noqa: S608
    )
