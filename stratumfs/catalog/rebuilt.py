"""What younger shards say, on top of the rows of a namespace image: the rows of a catalog that is made again.

Each function takes the transaction of a database that nobody else sees. Tables of contents are applied in the order in
which they were made, so that the later word counts. Bytes that lay in the catalog alone are lost: their rows stay, and
without bytes they fail their check, so that a reader is refused and never given zeros.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from stratumfs.catalog.buckets import DIR_MODE, FILE_MODE
from stratumfs.catalog.extents import COLUMNS, END, checked, clipped, delete_row, extent_sum, insert_row
from stratumfs.catalog.ids import FIRST
from stratumfs.catalog.mending import FOUND, FOUND_MODE, found_name
from stratumfs.catalog.records import pack_etag
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.tree import (
    add_entry,
    bucket_defaults,
    child,
    drop_entry,
    find_each,
    imply_directories,
    insert_inode,
    is_directory_name,
    names_of,
    split,
)
from stratumfs.catalog.volumes import OPEN, path_of_inode, place_shards
from stratumfs.errors import StratumError
from stratumfs.ids import ROOT_INODE, Cookie, DeviceId, InodeNo, VolumeId
from stratumfs.values import Extent, NewExtent

IDS_JUMP = 1 << 32
"""Ids that were handed out after the image and that nothing tells of are not handed out again."""


class Applied(StrEnum):
    """What became of one file that a table of contents tells of."""

    CREATED = "created"
    UPDATED = "updated"
    MIXED = "mixed"
    """Updated in part: it was written since it was told of before, and the rest may be older."""
    UNNAMED = "unnamed"


@dataclass(frozen=True, slots=True)
class Content:
    """A file as a table of contents tells of it.

    mtime_ns, modified_ns  where the table does not say, its own time
    size                   None: the table says nothing of the row, and the file goes up to the last byte that it names
    inline                 (offset, length) of bytes that lay in the catalog then, and are lost
    """

    ino: InodeNo
    path: bytes
    extents: Sequence[NewExtent]
    mtime_ns: int
    modified_ns: int
    content: int = 0
    size: int | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    etag: bytes | None = None
    object: bytes | None = None
    parts: bytes | None = None
    inline: Sequence[tuple[int, int]] = ()

    @property
    def told(self) -> int:
        """Bytes of which it says where they are."""
        return sum(extent.length for extent in self.extents) + sum(length for _, length in self.inline)


class Ids:
    """Fresh ids for what is made."""

    def __init__(self, inode: int, cookie: int, extent: int) -> None:
        self._inode, self._cookie, self._extent = inode, cookie, extent

    def inodes(self, count: int) -> range:
        self._inode += count
        return range(self._inode - count, self._inode)

    def cookies(self, count: int) -> range:
        self._cookie += count
        return range(self._cookie - count, self._cookie)

    def extent(self) -> int:
        self._extent += 1
        return self._extent - 1

    def seen(self, ino: InodeNo) -> None:
        """A number that a shard tells of."""
        self._inode = max(self._inode, ino + 1)

    def next(self) -> dict[str, int]:
        return dict(zip(FIRST, (self._inode, self._cookie, self._extent), strict=True))


def known_volumes(tx: Transaction) -> dict[VolumeId, tuple[str, tuple[DeviceId, ...]]]:
    """State and devices, by cell, of all that the image knows."""
    found = {ident: (state, devices_of(tx, ident)) for ident, state in tx.all("select id, state from volume")}
    return {VolumeId(ident): each for ident, each in found.items()}


def devices_of(tx: Transaction, volume: bytes) -> tuple[DeviceId, ...]:
    rows = tx.all("select device from shard where volume = ? order by cell", (volume,))
    return tuple(DeviceId(device) for (device,) in rows)


def adopt_volume(
    tx: Transaction, ident: VolumeId, tier: str, k: int, m: int, devices: Sequence[DeviceId], now_ns: int
) -> None:
    """One that the image does not know: open, so that the next opening seals it behind what is named in it."""
    tx.run("insert into volume values (?, ?, ?, ?, ?, ?, ?, 0, 0, 0)", (ident, tier, k, m, OPEN, now_ns, now_ns))
    place_shards(tx, ident, tuple(enumerate(devices)))


def is_named(tx: Transaction, ident: VolumeId) -> bool:
    return tx.one("select 1 from extent where volume = ? limit 1", (ident,)) is not None


def forget_volume(tx: Transaction, ident: VolumeId) -> bool:
    """One that was adopted, if no row names it. Whether it went: then its shards are set aside by the next opening."""
    if is_named(tx, ident):
        return False
    tx.run("delete from shard where volume = ?", (ident,))
    tx.run("delete from volume where id = ?", (ident,))
    return True


def apply(tx: Transaction, found: Content, ids: Ids, now_ns: int) -> Applied:
    """Make the rows of one file say what *found* says.

    Raises: StratumError if it cannot be: a name that is none, bytes in a volume that is not there.
    """
    ids.seen(found.ino)
    row = tx.one("select mode, nlink, content from inode where ino = ?", (found.ino,))
    outcome = Applied.UPDATED
    if row is None:
        if not _can_be_named(found.path):
            return Applied.UNNAMED
        _create(tx, found, ids, now_ns)
        outcome = Applied.CREATED
    elif not stat.S_ISREG(row[0]):
        return Applied.UNNAMED
    else:
        if row[2] != found.content and found.told < (found.size or 0):
            outcome = Applied.MIXED
        _update(tx, found)
        if _can_be_named(found.path):
            _rename(tx, found.ino, found.path, row[1], ids, now_ns)
    for extent in found.extents:
        _make_room(tx, found.ino, extent.offset, extent.offset + extent.length, ids)
        insert_row(tx, ids.extent(), found.ino, extent.offset, extent.length, extent.location, None)
    for offset, length in found.inline:
        _make_room(tx, found.ino, offset, offset + length, ids)
        insert_lost(tx, ids.extent(), found.ino, offset, length)
    if found.size is not None:
        _make_room(tx, found.ino, found.size, END, ids)
    else:
        last = max((extent.offset + extent.length for extent in found.extents), default=0)
        tx.run("update inode set size = max(size, ?) where ino = ?", (last, found.ino))
    return outcome


def find_again(tx: Transaction, ids: Ids, now_ns: int, limit: int = 200) -> list[bytes]:
    """A chunk of the inodes whose names mean others by now get names in the bucket `FOUND`. Returns these, sorted.

    Nobody can say whether such a file was deleted, or renamed while its bytes lay in an older volume.
    """
    rows = tx.all(
        "select ino from inode i where nlink = 0 and ino not in (select ino from orphan)"
        " and ino not in (select ino from part) and not exists (select 1 from entry where inode = i.ino)"
        " order by ino limit ?",
        (limit,),
    )
    if not rows:
        return []
    bucket = _bucket(tx, FOUND.encode(), ids, now_ns, FOUND_MODE)
    return [_find_again(tx, bucket, InodeNo(ino), ids, now_ns) for (ino,) in rows]


def _find_again(tx: Transaction, bucket: InodeNo, ino: InodeNo, ids: Ids, now_ns: int) -> bytes:
    name = found_name(ino)
    while child(tx, bucket, name) is not None:
        name += b"+"
    (cookie,) = ids.cookies(1)
    add_entry(tx, bucket, name, ino, Cookie(cookie), now_ns)
    tx.run("update inode set nlink = 1 where ino = ?", (ino,))
    return f"{FOUND}/".encode() + name


@dataclass(frozen=True, slots=True)
class LostRun:
    """Bytes of a file that are lost. path: empty for what has no name."""

    path: bytes
    ino: InodeNo
    offset: int
    length: int


def lost_inline(tx: Transaction, after: int = 0, limit: int = 200) -> list[tuple[int, LostRun]]:
    """A chunk of rows whose bytes only the lost catalog held, each behind its id."""
    rows = tx.all(
        "select id, ino, offset, length from extent where volume is null and data is null and id > ?"
        " order by id limit ?",
        (after, limit),
    )
    return [(ident, LostRun(path_of_inode(tx, ino), ino, offset, length)) for ident, ino, offset, length in rows]


def runs_in(tx: Transaction, ident: VolumeId, after: int = 0, limit: int = 200) -> list[tuple[int, LostRun]]:
    """A chunk of rows that point into a volume, each behind its id."""
    rows = tx.all(
        "select id, ino, offset, length from extent where volume = ? and id > ? order by id limit ?",
        (ident, after, limit),
    )
    return [(row[0], LostRun(path_of_inode(tx, row[1]), *row[1:])) for row in rows]


def _can_be_named(path: bytes) -> bool:
    bucket, slash, key = path.partition(b"/")
    if not (bucket and slash and key):
        return False
    return not is_directory_name(split(key)[-1])


def _create(tx: Transaction, found: Content, ids: Ids, now_ns: int) -> None:
    bucket = _bucket(tx, found.path.partition(b"/")[0], ids, now_ns)
    row = tx.one(
        "select i.uid, i.gid, b.file_mode from inode i join bucket b on b.ino = i.ino where i.ino = ?", (bucket,)
    )
    assert row is not None
    mode = found.mode if found.mode is not None else stat.S_IFREG | row[2]
    insert_inode(
        tx,
        found.ino,
        mode,
        found.uid if found.uid is not None else row[0],
        found.gid if found.gid is not None else row[1],
        found.mtime_ns,
        size=found.size or 0,
        modified_ns=found.modified_ns,
        etag=found.etag or pack_etag(f"{os.urandom(16).hex()}-1"),
        spec=found.object,
    )
    tx.run("update inode set content = ? where ino = ?", (found.content, found.ino))
    _set_parts(tx, found)
    _name(tx, found.ino, found.path, ids, now_ns)


def _update(tx: Transaction, found: Content) -> None:
    if found.size is None:
        return
    tx.run(
        "update inode set mode = ?, uid = ?, gid = ?, size = ?, mtime_ns = ?, modified_ns = ?, content = ?, etag = ?,"
        " object = ? where ino = ?",
        (
            found.mode,
            found.uid,
            found.gid,
            found.size,
            found.mtime_ns,
            found.modified_ns,
            found.content,
            found.etag,
            found.object,
            found.ino,
        ),
    )
    _set_parts(tx, found)


def _set_parts(tx: Transaction, found: Content) -> None:
    tx.run("delete from parts where ino = ?", (found.ino,))
    if found.parts is not None:
        tx.run("insert into parts values (?, ?)", (found.ino, found.parts))


def _bucket(tx: Transaction, name: bytes, ids: Ids, now_ns: int, mode: int = DIR_MODE) -> InodeNo:
    """Made if it is not there, as it must have been."""
    row = tx.one("select ino from bucket where name = ?", (name.decode(),))
    if row is not None:
        return InodeNo(row[0])
    owner = tx.one("select uid, gid from inode where ino = ?", (ROOT_INODE,))
    assert owner is not None
    (ino,), (cookie,) = ids.inodes(1), ids.cookies(1)
    insert_inode(tx, InodeNo(ino), stat.S_IFDIR | mode, owner[0], owner[1], now_ns, nlink=2, explicit=True)
    add_entry(tx, ROOT_INODE, name + b"/", InodeNo(ino), Cookie(cookie), now_ns)
    tx.run("insert into bucket values (?, ?, ?, ?, ?, 0)", (ino, name.decode(), now_ns, FILE_MODE, DIR_MODE))
    return InodeNo(ino)


def _name(tx: Transaction, ino: InodeNo, path: bytes, ids: Ids, now_ns: int) -> bool:
    """*path* means this inode; what it meant before has a name less, see `find_again`. False if it did so already."""
    name, _, key = path.partition(b"/")
    bucket = _bucket(tx, name, ids, now_ns)
    names = split(key)
    depth = len(names) - 1
    *way, _ = find_each(tx, bucket, names)
    defaults = bucket_defaults(tx, bucket)
    parent = imply_directories(tx, defaults, bucket, names[:-1], way, ids.inodes(depth), ids.cookies(depth), now_ns)
    old = child(tx, parent, names[-1])
    if old == ino:
        return False
    if old is None:
        (cookie,) = ids.cookies(1)
        add_entry(tx, parent, names[-1], ino, Cookie(cookie), now_ns)
    else:
        tx.run("update entry set inode = ? where parent = ? and name = ?", (ino, parent, names[-1]))
        tx.run("update inode set nlink = nlink - 1 where ino = ?", (old,))
    return True


def _rename(tx: Transaction, ino: InodeNo, path: bytes, nlink: int, ids: Ids, now_ns: int) -> None:
    """A file that has one name has this one now; one that was replaced under its old name has a name again. Which of
    several names went nobody can say: they all stay."""
    before = names_of(tx, ino, 2)
    if nlink > 1 or not _name(tx, ino, path, ids, now_ns):
        return
    if nlink == 0:
        tx.run("update inode set nlink = 1 where ino = ?", (ino,))
        tx.run("delete from orphan where ino = ?", (ino,))
    for parent, name in before:
        drop_entry(tx, parent, name, now_ns, keep=True)


def _make_room(tx: Transaction, ino: InodeNo, start: int, stop: int, ids: Ids) -> None:
    """No row names a byte of [start, stop); what sticks out of it is kept, under new ids."""
    rows = tx.all(
        f"select {COLUMNS} from extent where ino = ? and offset < ? and offset + length > ?",  # noqa: S608
        (ino, stop, start),
    )
    for row in rows:
        ident, _, offset, length, volume = row[:5]
        delete_row(tx, ident, volume, length)
        old = checked(row) if volume is not None else Extent(ident, ino, offset, length, None, None)
        for low, high in _rests(offset, offset + length, start, stop):
            rest = clipped(old, low, high)
            if rest.location is not None:
                insert_row(tx, ids.extent(), ino, rest.offset, rest.length, rest.location, None)
            else:
                insert_lost(tx, ids.extent(), ino, rest.offset, rest.length)


def _rests(low: int, high: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
    if low < start:
        yield low, start
    if high > stop:
        yield stop, high


def insert_lost(tx: Transaction, ident: int, ino: InodeNo, offset: int, length: int) -> None:
    """Inline bytes that nobody has any more: the row fails its check."""
    tx.run("update counter set value = value + ? where name = 'inline_bytes'", (length,))
    tx.run(
        "insert into extent (id, ino, offset, length, sum) values (?, ?, ?, ?, ?)",
        (ident, ino, offset, length, extent_sum(ident, ino, offset, length, None)),
    )


def applied(tx: Transaction, found: Content, ids: Ids, now_ns: int) -> Applied:
    """As `apply`, where what cannot be is left out."""
    tx.run("savepoint file")
    try:
        outcome = apply(tx, found, ids, now_ns)
    except (StratumError, UnicodeDecodeError):
        tx.run("rollback to file")
        outcome = Applied.UNNAMED
    tx.run("release file")
    return outcome
