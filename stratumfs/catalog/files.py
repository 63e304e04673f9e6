"""What POSIX calls read and change of the tree, each in one transaction."""

import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stratumfs.catalog.buckets import create_bucket, delete_bucket
from stratumfs.catalog.extents import IDS_PER_EXTENT, cut_extents, insert_extents
from stratumfs.catalog.records import EMPTY_MD5, pack_etag, without_checksum
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.tree import (
    ATTRIBUTES,
    add_entry,
    ancestors,
    attributes,
    bucket_of,
    child,
    drop_entry,
    insert_inode,
    is_directory_name,
    kept_visible,
    look_up,
    make_explicit,
    orphan,
    release_link,
    visible_directory,
)
from stratumfs.errors import (
    AlreadyExists,
    BucketExists,
    BucketNotEmpty,
    CrossBucket,
    DirectoryNotEmpty,
    InvalidArgument,
    InvalidBucketName,
    InvalidName,
    IsADirectory,
    NotADirectory,
    NotFound,
    NotPermitted,
    TooManyLinks,
)
from stratumfs.ids import ROOT_INODE, Cookie, ExtentId, InodeNo
from stratumfs.limits import LINK_MAX
from stratumfs.values import AttributeChange, Attributes, DirectoryEntry, Name, Publication

_FORMAT = stat.S_IFMT(0o177777)


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file, link, fifo, socket or device that is to appear; mode includes the type."""

    ino: InodeNo
    cookie: Cookie
    mode: int
    uid: int
    gid: int
    rdev: int = 0
    target: bytes = b""


def look_up_attributes(tx: Transaction, parent: InodeNo, name: Name) -> Attributes:
    """Raises: NotFound."""
    return attributes(tx, look_up(tx, parent, name)[0])


def look_up_first(tx: Transaction, parent: InodeNo, readings: tuple[Name, ...]) -> tuple[Attributes, Name]:
    """Of the names that a POSIX name can mean the first that exists. Raises: NotFound."""
    for name in readings[:-1]:
        try:
            return look_up_attributes(tx, parent, name), name
        except NotFound:
            continue
    return look_up_attributes(tx, parent, readings[-1]), readings[-1]


def entries(tx: Transaction, parent: InodeNo, after: Cookie, limit: int) -> tuple[list[DirectoryEntry], Cookie | None]:
    """A chunk of a directory by cookie, ghosts left out, and the cookie to go on behind; None at the end."""
    rows = tx.all(
        f"select e.cookie, e.name, i.explicit, i.live, {ATTRIBUTES} from entry e join inode i on i.ino = e.inode"  # noqa: S608
        " where e.parent = ? and e.cookie > ? order by e.cookie limit ?",
        (parent, after, limit),
    )
    found = []
    for cookie, name, explicit, live, *row in rows:
        if is_directory_name(name):
            if explicit or live:
                found.append(DirectoryEntry(cookie, Name(name[:-1]), Attributes(*row)))
        else:
            shadowed = visible_directory(tx, parent, name) is not None
            found.append(DirectoryEntry(cookie, Name(name, shadowed), Attributes(*row)))
    return found, rows[-1][0] if len(rows) == limit else None


def make(tx: Transaction, parent: InodeNo, name: Name, new: NewFile, now_ns: int) -> Attributes:
    """Raises: AlreadyExists, NotPermitted (in the root), NotFound (the directory was removed)."""
    above = _check_place(tx, parent, name)
    if parent == ROOT_INODE:
        raise NotPermitted("the top directory holds buckets only: make a directory")
    etag = EMPTY_MD5 if stat.S_ISREG(new.mode) else None
    target = new.target if stat.S_ISLNK(new.mode) else None
    size = len(new.target) if target is not None else 0
    gid = _inherited(above, new.gid)[0]
    made = insert_inode(tx, new.ino, new.mode, new.uid, gid, now_ns, rdev=new.rdev, size=size, etag=etag, target=target)
    add_entry(tx, parent, name.segment, new.ino, new.cookie, now_ns)
    return made


def make_many(tx: Transaction, parent: InodeNo, names: Sequence[Name], first: NewFile, now_ns: int) -> None:
    """As ``make`` for each name, all or none; inodes and cookies count up from those of *first*."""
    for number, name in enumerate(names):
        new = replace(first, ino=InodeNo(first.ino + number), cookie=Cookie(first.cookie + number))
        make(tx, parent, name, new, now_ns)


def make_directory(tx: Transaction, parent: InodeNo, name: Name, new: NewFile, now_ns: int) -> Attributes:
    """In the root: a bucket. Raises: AlreadyExists, InvalidName (no bucket's name), NotFound."""
    if parent == ROOT_INODE:
        try:
            text = name.segment.decode()
            create_bucket(tx, text, new.ino, new.cookie, now_ns, (new.uid, new.gid), stat.S_IMODE(new.mode))
        except BucketExists as error:
            raise AlreadyExists(str(error)) from error
        except InvalidBucketName as error:
            raise InvalidName(str(error)) from error
        return attributes(tx, new.ino)
    above = _check_place(tx, parent, name)
    stored = name.segment + b"/"
    gid, setgid = _inherited(above, new.gid)
    mode = stat.S_IFDIR | stat.S_IMODE(new.mode) | setgid
    ghost = child(tx, parent, stored)
    if ghost is None:
        made = insert_inode(tx, new.ino, mode, new.uid, gid, now_ns, nlink=2, explicit=True)
        add_entry(tx, parent, stored, new.ino, new.cookie, now_ns)
        return made
    make_explicit(tx, ghost, now_ns)
    tx.run("update inode set mode = ?, uid = ?, gid = ? where ino = ?", (mode, new.uid, gid, ghost))
    return attributes(tx, ghost)


def remove(tx: Transaction, parent: InodeNo, name: Name, now_ns: int) -> InodeNo:
    """unlink(2). Raises: NotFound, IsADirectory."""
    ino, stored = look_up(tx, parent, name)
    if is_directory_name(stored):
        raise IsADirectory("is a directory")
    drop_entry(tx, parent, stored, now_ns, keep=True)
    release_link(tx, ino, now_ns)
    return ino


def remove_directory(tx: Transaction, parent: InodeNo, name: Name, now_ns: int) -> InodeNo:
    """rmdir(2). Raises: NotFound, NotADirectory, DirectoryNotEmpty."""
    ino, stored = look_up(tx, parent, name)
    if not is_directory_name(stored):
        raise NotADirectory("not a directory")
    if parent == ROOT_INODE:
        try:
            return delete_bucket(tx, stored[:-1].decode(), now_ns)
        except BucketNotEmpty as error:
            raise DirectoryNotEmpty(str(error)) from error
    _remove_directory(tx, parent, stored, ino, now_ns)
    return ino


def rename(
    tx: Transaction,
    parent: InodeNo,
    name: Name,
    new_parent: InodeNo,
    new_name: Name,
    cookies: tuple[Cookie, Cookie],
    now_ns: int,
    replace: bool,
    exchange: bool,
) -> None:
    """rename(2) and its flags. Takes one cookie, or two to exchange.

    Raises: NotFound, AlreadyExists, CrossBucket, NotPermitted (a bucket), InvalidArgument (into itself), IsADirectory,
    NotADirectory, DirectoryNotEmpty.
    """
    ino, stored = look_up(tx, parent, name)
    if ROOT_INODE in (parent, new_parent):
        raise NotPermitted("buckets cannot be renamed, and the top directory holds nothing else")
    if parent != new_parent and bucket_of(tx, parent) != bucket_of(tx, new_parent):
        raise CrossBucket("the names are in different buckets")
    if is_directory_name(stored) and ino in ancestors(tx, new_parent):
        raise InvalidArgument("a directory cannot move into itself")
    try:
        old, old_stored = look_up(tx, new_parent, new_name)
    except NotFound:
        if exchange or new_name.shadowed or new_name.digest is not None:
            raise  # what the name stood for is gone, and with it what it would be called
        old, old_stored = None, new_name.segment
    if old is not None and not (replace or exchange):
        raise AlreadyExists("the new name exists")
    if old == ino:
        return
    with kept_visible(tx, (parent, new_parent), now_ns):
        if exchange:
            assert old is not None
            if is_directory_name(old_stored) and old in ancestors(tx, parent):
                raise InvalidArgument("a directory cannot move into itself")
            _exchange(tx, (parent, stored, ino), (new_parent, old_stored, old), cookies, now_ns)
            return
        if old is not None:
            _replace(tx, new_parent, old_stored, old, moving_directory=is_directory_name(stored), now_ns=now_ns)
            tx.replace_inode(old, ino)
        # Of a long name only the digest is known until it is found.
        _move(tx, (parent, stored, ino), new_parent, old_stored.removesuffix(b"/"), cookies[0], now_ns)


def link(tx: Transaction, ino: InodeNo, parent: InodeNo, name: Name, cookie: Cookie, now_ns: int) -> Attributes:
    """Raises: AlreadyExists, NotPermitted (a directory), TooManyLinks, CrossBucket, NotFound (unlinked already)."""
    _check_place(tx, parent, name)
    found = attributes(tx, ino)
    if stat.S_ISDIR(found.mode) or parent == ROOT_INODE:
        raise NotPermitted("directories have one name, and the top directory holds buckets only")
    if found.nlink >= LINK_MAX:
        raise TooManyLinks(f"{LINK_MAX} names are the most")
    if found.nlink == 0:
        raise NotFound("the file has no name any more")
    row = tx.one("select parent from entry where inode = ? limit 1", (ino,))
    if row is not None and bucket_of(tx, row[0]) != bucket_of(tx, parent):
        raise CrossBucket("the names are in different buckets")
    add_entry(tx, parent, name.segment, ino, cookie, now_ns)
    tx.touch_inode(ino)
    tx.run("update inode set nlink = nlink + 1, ctime_ns = ? where ino = ?", (now_ns, ino))
    return attributes(tx, ino)


def read_link(tx: Transaction, ino: InodeNo) -> bytes:
    """Raises: InvalidArgument."""
    row = tx.one("select target from inode where ino = ?", (ino,))
    if row is None or row[0] is None:
        raise InvalidArgument("not a symbolic link")
    return bytes(row[0])


def set_attributes(tx: Transaction, ino: InodeNo, change: AttributeChange, now_ns: int) -> Attributes:
    """chmod, chown, utimens. Raises: NotFound."""
    bits = None if change.mode is None else stat.S_IMODE(change.mode)
    row = tx.one(
        f"update inode set mode = coalesce((mode & {_FORMAT}) | ?, mode), uid = coalesce(?, uid),"  # noqa: S608
        " gid = coalesce(?, gid), atime_ns = coalesce(?, atime_ns), mtime_ns = coalesce(?, mtime_ns), ctime_ns = ?"
        f" where ino = ? returning {ATTRIBUTES}",
        (bits, change.uid, change.gid, change.atime_ns, change.mtime_ns, now_ns, ino),
    )
    if row is None:
        raise NotFound(f"no inode {ino}")
    tx.touch_inode(ino)
    found = Attributes(*row)
    if stat.S_ISDIR(found.mode) and found.nlink and ino != ROOT_INODE:
        make_explicit(tx, ino, now_ns)
    return found


def note_reads(tx: Transaction, reads: Sequence[tuple[InodeNo, int]]) -> None:
    """(inode, time of its last read) each. Nothing else changes, and nobody's fsync waits for it."""
    for ino, atime_ns in reads:
        tx.run("update inode set atime_ns = ? where ino = ? and atime_ns < ?", (atime_ns, ino, atime_ns))


def publish(
    tx: Transaction, ino: InodeNo, publication: Publication, etag: str, first_id: ExtentId, now_ns: int
) -> tuple[Attributes, bool]:
    """Make pending writes visible. Takes ids: 1, and ``IDS_PER_EXTENT`` for each extent.

    Returns the new attributes, and whether a void was left to clear. Raises: NotFound, StaleIds.
    """
    more = False
    if publication.cut is not None:
        more = cut_extents(tx, ino, publication.cut, first_id)
    more |= insert_extents(tx, ino, publication.extents, ExtentId(first_id + 1))
    row = tx.one(
        "update inode set size = ?, mtime_ns = ?, ctime_ns = max(?, ctime_ns),"  # noqa: S608
        " modified_ns = max(?, modified_ns + 1), etag = ?, content = content + 1 where ino = ?"
        f" returning object, {ATTRIBUTES}",
        (publication.size, publication.mtime_ns, publication.ctime_ns or now_ns, now_ns, pack_etag(etag), ino),
    )
    if row is None:
        raise NotFound(f"no inode {ino}")
    tx.touch_inode(ino)
    spec, *found = row
    tx.run("delete from parts where ino = ?", (ino,))
    if spec is not None:  # a checksum that a client gave is of other bytes now
        tx.run("update inode set object = ? where ino = ?", (without_checksum(spec), ino))
    return Attributes(*found), more


def publication_ids(publication: Publication) -> int:
    """Extent ids that ``publish`` may take."""
    return 1 + IDS_PER_EXTENT * len(publication.extents)


def _check_place(tx: Transaction, parent: InodeNo, name: Name) -> Attributes:
    """A new name is possible: the directory is there (these are its attributes), and the name means nothing yet."""
    above = attributes(tx, parent)
    if above.nlink == 0:
        raise NotFound("the directory was removed")
    try:
        look_up(tx, parent, name)
    except NotFound:
        return above
    raise AlreadyExists("the name exists")


def _inherited(above: Attributes, gid: int) -> tuple[int, int]:
    """(gid, S_ISGID or 0) of what is made in a directory: a set-group-id directory hands both down."""
    if above.mode & stat.S_ISGID:
        return above.gid, stat.S_ISGID
    return gid, 0


def _remove_directory(tx: Transaction, parent: InodeNo, stored: bytes, ino: InodeNo, now_ns: int) -> None:
    row = tx.one("select live, body from inode where ino = ?", (ino,))
    assert row is not None
    live, body = row
    if live or tx.one("select 1 from entry where parent = ? limit 1", (ino,)):
        raise DirectoryNotEmpty("the directory is not empty")
    drop_entry(tx, parent, stored, now_ns, keep=True)
    orphan(tx, ino, now_ns)
    if body is not None:
        release_link(tx, body, now_ns)


def _replace(
    tx: Transaction, parent: InodeNo, stored: bytes, ino: InodeNo, *, moving_directory: bool, now_ns: int
) -> None:
    if is_directory_name(stored):
        if not moving_directory:
            raise IsADirectory("the new name is a directory")
        _remove_directory(tx, parent, stored, ino, now_ns)
        return
    if moving_directory:
        raise NotADirectory("the new name is not a directory")
    drop_entry(tx, parent, stored, now_ns, keep=True)
    release_link(tx, ino, now_ns)


_Place = tuple[InodeNo, bytes, InodeNo]
"""(parent, stored name, inode)"""


def _move(tx: Transaction, source: _Place, parent: InodeNo, segment: bytes, cookie: Cookie, now_ns: int) -> None:
    old_parent, stored, ino = source
    if is_directory_name(stored):
        make_explicit(tx, ino, now_ns)
        # First the old name: a directory has one at any time, for what counts upward looks it up.
        drop_entry(tx, old_parent, stored, now_ns, keep=True)
        add_entry(tx, parent, segment + b"/", ino, cookie, now_ns)
    else:
        add_entry(tx, parent, segment, ino, cookie, now_ns)
        drop_entry(tx, old_parent, stored, now_ns, keep=True)
    tx.touch_inode(ino)
    tx.run("update inode set ctime_ns = ? where ino = ?", (now_ns, ino))


def _exchange(tx: Transaction, one: _Place, other: _Place, cookies: tuple[Cookie, Cookie], now_ns: int) -> None:
    """Both names stay, what they mean is swapped; names take the other's form, with or without a slash."""
    if one[0] == other[0] and one[1].removesuffix(b"/") == other[1].removesuffix(b"/"):
        raise InvalidArgument("an object and the directory beside it have one name between them")
    for ino in (one[2], other[2]):
        if tx.one("select 1 from inode where ino = ? and live > 0", (ino,)):
            make_explicit(tx, ino, now_ns)
    for parent, stored, _ in (one, other):
        drop_entry(tx, parent, stored, now_ns, keep=True)
    for (parent, stored, _), (_, form, ino), cookie in ((one, other, cookies[0]), (other, one, cookies[1])):
        segment = stored.removesuffix(b"/")
        name = segment + b"/" if is_directory_name(form) else segment
        if child(tx, parent, name) is not None:
            raise InvalidArgument("an object and a directory of this name stand side by side")
        add_entry(tx, parent, name, ino, cookie, now_ns)
        tx.touch_inode(ino)
        tx.run("update inode set ctime_ns = ? where ino = ?", (now_ns, ino))
