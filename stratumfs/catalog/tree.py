"""Names: how a key or a path finds its inode, and what a name's coming and going changes above it.

A directory is *visible* if it is explicit or has a visible child (``live`` > 0). It counts its visible children, so
that only the step between 0 and 1 goes upward. A directory's ``nlink`` is 2 and its visible subdirectories.
"""

import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from blake3 import blake3

from stratumfs.catalog.transaction import Transaction
from stratumfs.errors import CatalogCorrupt, NoSuchBucket, NotFound, NotPermitted
from stratumfs.ids import ROOT_INODE, Cookie, InodeNo
from stratumfs.limits import SEGMENT_SPELLED_MAX
from stratumfs.values import Attributes, Name

ATTRIBUTES = "ino, mode, nlink, uid, gid, rdev, size, atime_ns, mtime_ns, ctime_ns, content"
"""Columns of an inode in the order of ``Attributes``."""

_DEPTH_MAX = 1 << 16
"""Deeper than any path that a kernel walks: what goes on for longer is a circle."""


def digest(segment: bytes) -> bytes:
    """16 bytes by which the mount finds a segment that is too long for a POSIX name."""
    return blake3(segment).digest(16)


def split(key: bytes) -> list[bytes]:
    """The names on the way of a key: ``a//b`` is ``a/``, ``/``, ``b``; ``a/`` is ``a/``."""
    parts = key.split(b"/")
    names = [part + b"/" for part in parts[:-1]]
    return [*names, parts[-1]] if parts[-1] else names


def is_directory_name(name: bytes) -> bool:
    return name.endswith(b"/")


def child(tx: Transaction, parent: InodeNo, name: bytes) -> InodeNo | None:
    """The inode behind a stored name, ghosts included; None where there is no entry or only versions."""
    tx.see_name(parent, name)
    row = tx.one("select inode from entry where parent = ? and name = ?", (parent, name))
    return row[0] if row else None


def find(tx: Transaction, top: InodeNo, names: Sequence[bytes]) -> InodeNo | None:
    """Walk down; None as soon as a name is missing."""
    ino: InodeNo | None = top
    for name in names:
        if ino is None:
            return None
        ino = child(tx, ino, name)
    return ino


def find_each(tx: Transaction, top: InodeNo, names: Sequence[bytes]) -> list[InodeNo | None]:
    """As ``find``, and what was found on the way: one for each name, None from the first on that is missing."""
    found: list[InodeNo | None] = []
    ino: InodeNo | None = top
    for name in names:
        ino = child(tx, ino, name) if ino is not None else None
        found.append(ino)
    return found


def visible(tx: Transaction, directory: InodeNo) -> bool:
    row = tx.one("select explicit, live from inode where ino = ?", (directory,))
    return row is not None and bool(row[0] or row[1])


def visible_directory(tx: Transaction, parent: InodeNo, segment: bytes) -> InodeNo | None:
    """The directory ``segment/``, unless it is missing or a ghost."""
    ino = child(tx, parent, segment + b"/")
    return ino if ino is not None and visible(tx, ino) else None


def look_up(tx: Transaction, parent: InodeNo, name: Name) -> tuple[InodeNo, bytes]:
    """What a POSIX name means here: (inode, stored name). The directory has the plain name where both exist.

    Raises: NotFound.
    """
    segment = name.segment
    if name.digest is not None:
        row = tx.one("select name from entry where parent = ? and digest = ?", (parent, name.digest))
        if row is None:
            raise NotFound("no such name")
        segment = row[0].removesuffix(b"/")
    stored = segment + b"/"
    sql = "select name, inode from entry where parent = ? and name in (?, ?)"
    found: dict[bytes, InodeNo | None] = dict(tx.all(sql, (parent, segment, stored)))
    tx.see_name(parent, stored)
    directory = found.get(stored)
    if directory is not None and not visible(tx, directory):
        directory = None
    if directory is not None and not name.shadowed:
        return directory, stored
    if (directory is None) == name.shadowed:
        raise NotFound("no such name")
    tx.see_name(parent, segment)
    ino = found.get(segment)
    if ino is None:
        raise NotFound("no such name")
    return ino, segment


def attributes(tx: Transaction, ino: InodeNo) -> Attributes:
    """Raises: NotFound."""
    tx.see_inode(ino)
    row = tx.one(f"select {ATTRIBUTES} from inode where ino = ?", (ino,))  # noqa: S608 - our own columns
    if row is None:
        raise NotFound(f"no inode {ino}")
    return Attributes(*row)


def place_of(tx: Transaction, directory: InodeNo) -> tuple[InodeNo, bytes]:
    """(parent, stored name) of a directory, which has exactly one name. Raises: NotFound where it was removed."""
    row = tx.one("select parent, name from entry where inode = ?", (directory,))
    if row is None:
        raise NotFound(f"directory {directory} has no name")
    return row


def ancestors(tx: Transaction, directory: InodeNo) -> Iterator[InodeNo]:
    """The directory itself, then upward; the bucket comes last."""
    for _ in range(_DEPTH_MAX):
        if directory == ROOT_INODE:
            return
        yield directory
        directory = place_of(tx, directory)[0]
    raise CatalogCorrupt(f"the way up from inode {directory} has no end")


def bucket_of(tx: Transaction, directory: InodeNo) -> InodeNo | None:
    """The bucket that a directory lies in or is; None for the root."""
    bucket = None
    for bucket in ancestors(tx, directory):  # noqa: B007 - the last one is wanted
        pass
    return bucket


def path_of(tx: Transaction, parent: InodeNo, name: bytes) -> bytes:
    """``bucket/key`` of an entry."""
    parts = [name]
    for ino in ancestors(tx, parent):
        parts.append(place_of(tx, ino)[1])
    return b"".join(reversed(parts))


def names_of(tx: Transaction, ino: InodeNo, limit: int = 64) -> list[tuple[InodeNo, bytes]]:
    """(parent, stored name) of up to *limit* entries that show this inode."""
    return [(p, n) for p, n in tx.all("select parent, name from entry where inode = ? limit ?", (ino, limit))]


def add_entry(tx: Transaction, parent: InodeNo, name: bytes, ino: InodeNo, cookie: Cookie, now_ns: int) -> None:
    """A visible name appears in *parent*."""
    insert_entry(tx, parent, name, ino, cookie)
    appeared(tx, parent, name, now_ns)


def insert_entry(tx: Transaction, parent: InodeNo, name: bytes, ino: InodeNo, cookie: Cookie) -> None:
    """The row alone; what it makes visible is counted by whoever calls ``appeared``.

    Raises: NotPermitted for a file under the empty segment: its key would be that of the directory.
    """
    if not name:
        raise NotPermitted("only a directory can have this name")
    segment = name.removesuffix(b"/")
    long = digest(segment) if len(segment) > SEGMENT_SPELLED_MAX else None
    tx.run("insert into entry values (?, ?, ?, ?, ?)", (parent, name, ino, cookie, long))


def appeared(tx: Transaction, parent: InodeNo, name: bytes, now_ns: int) -> None:
    """Count a name that became visible, upward as far as that makes directories visible."""
    while True:
        tx.touch_name(parent, name)
        tx.touch_inode(parent)
        row = tx.one(
            "update inode set live = live + 1, nlink = nlink + ?, mtime_ns = ?, ctime_ns = ? where ino = ?"
            " returning live, explicit",
            (is_directory_name(name), now_ns, now_ns, parent),
        )
        if row is None:
            raise NotFound(f"no directory {parent}")
        live, explicit = row
        if live > 1 or explicit:
            return
        parent, name = place_of(tx, parent)


def drop_entry(tx: Transaction, parent: InodeNo, name: bytes, now_ns: int, *, keep: bool) -> None:
    """A visible name goes. An implied directory that this empties goes too, or with *keep* becomes explicit."""
    while True:
        tx.run("delete from entry where parent = ? and name = ?", (parent, name))
        tx.touch_name(parent, name)
        tx.touch_inode(parent)
        row = tx.one(
            "update inode set live = live - 1, nlink = nlink - ?, mtime_ns = ?, ctime_ns = ? where ino = ?"
            " returning live, explicit",
            (is_directory_name(name), now_ns, now_ns, parent),
        )
        if row is None:
            raise NotFound(f"no directory {parent}")
        live, explicit = row
        if live or explicit:
            return
        if keep:
            tx.run("update inode set explicit = 1, modified_ns = ? where ino = ?", (now_ns, parent))
            return
        orphan(tx, parent, now_ns)
        parent, name = place_of(tx, parent)


def make_explicit(tx: Transaction, directory: InodeNo, now_ns: int) -> None:
    """A directory that was implied, or a ghost, becomes a key of its own."""
    row = tx.one("select explicit, live from inode where ino = ?", (directory,))
    if row is None:
        raise NotFound(f"no directory {directory}")
    explicit, live = row
    if explicit:
        return
    tx.run("update inode set explicit = 1, modified_ns = ? where ino = ?", (now_ns, directory))
    parent, name = place_of(tx, directory)
    tx.touch_name(parent, name)
    if not live:
        appeared(tx, parent, name, now_ns)


@contextmanager
def kept_visible(tx: Transaction, directories: Collection[InodeNo], now_ns: int) -> Iterator[None]:
    """Names leave and enter these in one step: one that is empty only in between was never emptied.

    An implied one that is empty at the end was, by POSIX: it becomes explicit.
    """
    implied = [
        ino
        for ino in dict.fromkeys(directories)
        if tx.one("select 1 from inode where ino = ? and explicit = 0 and live > 0", (ino,))
    ]
    for ino in implied:
        tx.run("update inode set explicit = 1 where ino = ?", (ino,))
    yield
    for ino in implied:
        tx.run("update inode set explicit = 0 where ino = ? and live > 0", (ino,))
        tx.run("update inode set modified_ns = ? where ino = ? and live = 0", (now_ns, ino))


def orphan(tx: Transaction, ino: InodeNo, now_ns: int) -> None:
    """The inode lost its last name: readable while held, reaped afterwards."""
    tx.touch_inode(ino)
    tx.run("update inode set nlink = 0, ctime_ns = ? where ino = ?", (now_ns, ino))
    tx.run("insert into orphan values (?)", (ino,))


def release_link(tx: Transaction, ino: InodeNo, now_ns: int) -> None:
    """One name fewer for a file; without any it is an orphan."""
    tx.touch_inode(ino)
    row = tx.one("update inode set nlink = nlink - 1, ctime_ns = ? where ino = ? returning nlink", (now_ns, ino))
    if row is None:
        raise CatalogCorrupt(f"an entry names inode {ino}, which does not exist")
    if row[0] <= 0:
        orphan(tx, ino, now_ns)


def insert_inode(
    tx: Transaction,
    ino: InodeNo,
    mode: int,
    uid: int,
    gid: int,
    now_ns: int,
    *,
    nlink: int = 1,
    rdev: int = 0,
    size: int = 0,
    modified_ns: int | None = None,
    explicit: bool = False,
    etag: bytes | None = None,
    spec: bytes | None = None,
    target: bytes | None = None,
) -> Attributes:
    """The row alone, without a name."""
    times = (now_ns, now_ns, now_ns)
    tx.touch_inode(ino)
    tx.run(
        "insert into inode values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, 0, ?, ?, ?, ?, null)",
        (ino, mode, nlink, uid, gid, rdev, size, *times, modified_ns or now_ns, explicit, etag, spec, target),
    )
    return Attributes(ino, mode, nlink, uid, gid, rdev, size, *times, 0)


class Defaults(NamedTuple):
    """Of what S3 makes in a bucket, so that a NAS user can use it."""

    uid: int
    gid: int
    file_mode: int
    dir_mode: int


def bucket_defaults(tx: Transaction, bucket: InodeNo) -> Defaults:
    """Raises: NoSuchBucket."""
    row = tx.one(
        "select i.uid, i.gid, b.file_mode, b.dir_mode from bucket b join inode i on i.ino = b.ino where b.ino = ?",
        (bucket,),
    )
    if row is None:
        raise NoSuchBucket("the bucket was deleted")
    return Defaults(*row)


def imply_directories(
    tx: Transaction,
    defaults: Defaults,
    top: InodeNo,
    names: Sequence[bytes],
    found: Sequence[InodeNo | None],
    inos: range,
    cookies: range,
    now_ns: int,
) -> InodeNo:
    """Make the missing directories of a key's way from *top* on. Returns the last; it counts once it is visible.

    *found* is what ``find_each`` finds; *inos* and *cookies* are reserved, one for each of *names*.
    """
    parent = top
    for name, there, ino, cookie in zip(names, found, inos, cookies, strict=True):
        if there is None:
            there = InodeNo(ino)
            insert_inode(tx, there, stat.S_IFDIR | defaults.dir_mode, defaults.uid, defaults.gid, now_ns, nlink=2)
            insert_entry(tx, parent, name, there, Cookie(cookie))
        parent = there
    return parent
