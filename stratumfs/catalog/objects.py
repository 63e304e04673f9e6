"""Objects by key: what S3's calls read and change, each in one transaction."""

import stat
from collections.abc import Sequence
from typing import NamedTuple

from stratumfs.catalog.extents import insert_extents, layout
from stratumfs.catalog.placed import RESTORED
from stratumfs.catalog.records import (
    EMPTY_MD5,
    pack_etag,
    pack_sizes,
    pack_spec,
    unpack_etag,
    unpack_sizes,
    unpack_spec,
)
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.tree import (
    Defaults,
    add_entry,
    bucket_defaults,
    child,
    drop_entry,
    find,
    find_each,
    imply_directories,
    insert_inode,
    is_directory_name,
    make_explicit,
    orphan,
    release_link,
    split,
)
from stratumfs.errors import NoSuchObject, NotModified, PreconditionFailed, WriteConflict
from stratumfs.ids import Cookie, ExtentId, InodeNo
from stratumfs.values import Conditions, Extent, NewExtent, ObjectInfo, ObjectSpec, ReadConditions

_CAPABILITY = b"security.capability"
"""Linux's: what a program may do whoever runs it."""


class NewObject(NamedTuple):
    """Content that is to appear under a key, and the ids that its rows may take.

    ino          of the object; with *staged* this inode exists, invisible, and holds the extents already
    inos         for the directories of its key: one for each of its names
    cookies      likewise; the last one is for the object's own name
    extent_ids   the first of one for each extent
    """

    spec: ObjectSpec
    size: int
    etag: str
    extents: tuple[NewExtent, ...]
    ino: InodeNo
    inos: range
    cookies: range
    extent_ids: ExtentId
    part_sizes: tuple[int, ...] = ()
    staged: bool = False


def object_at(tx: Transaction, bucket: InodeNo, key: bytes) -> ObjectInfo | None:
    """The object under a key; directories that are only implied, links and special files are none."""
    names = split(key)
    ino = find(tx, bucket, names)
    return _info(tx, ino, is_directory_name(names[-1])) if ino is not None else None


def read_object(tx: Transaction, bucket: InodeNo, key: bytes, conditions: ReadConditions | None) -> ObjectInfo:
    """Raises: NoSuchObject, PreconditionFailed, NotModified."""
    info = object_at(tx, bucket, key)
    if info is None:
        raise NoSuchObject("no such object")
    if conditions is not None:
        check_read(info, conditions)
    return info


def open_object(
    tx: Transaction, bucket: InodeNo, key: bytes, conditions: ReadConditions | None
) -> tuple[ObjectInfo, list[Extent]]:
    """As ``read_object``, and the first extents: a mount may rewrite the file as soon as this transaction ends."""
    info = read_object(tx, bucket, key, conditions)
    return info, layout(tx, info.ino, 0, info.size)


def unchanged_layout(tx: Transaction, ino: InodeNo, content: int, start: int, stop: int) -> list[Extent]:
    """A chunk of the extents in [start, stop), if they are still of that content. Raises: WriteConflict."""
    row = tx.one("select content from inode where ino = ?", (ino,))
    if row is None or row[0] != content:
        raise WriteConflict("the object was rewritten in place while it was read")
    return layout(tx, ino, start, stop)


def put_object(
    tx: Transaction, bucket: InodeNo, key: bytes, new: NewObject, conditions: Conditions, now_ns: int
) -> ObjectInfo:
    """Make *new* the object under a key: a new inode; open handles and running reads keep the old one.

    Raises: NoSuchBucket, PreconditionFailed, NoSuchObject (If-Match of nothing).
    """
    defaults = bucket_defaults(tx, bucket)
    names = split(key)
    *way, there = find_each(tx, bucket, names)
    old = _info(tx, there, is_directory_name(names[-1])) if there is not None else None
    check_write(old, conditions)
    modified_ns = max(now_ns, old.modified_ns + 1) if old else now_ns
    parent = imply_directories(tx, defaults, bucket, names[:-1], way, new.inos[:-1], new.cookies[:-1], now_ns)
    place = _place_body if is_directory_name(names[-1]) else _place_file
    place(tx, defaults, parent, names[-1], there, new, modified_ns)
    if new.part_sizes:
        tx.run("insert into parts values (?, ?)", (new.ino, pack_sizes(new.part_sizes)))
    return ObjectInfo(new.ino, new.size, new.etag, modified_ns, new.spec, new.part_sizes)


def delete_object(tx: Transaction, bucket: InodeNo, key: bytes, conditions: Conditions, now_ns: int) -> bool:
    """False if there was nothing. Raises: PreconditionFailed, NoSuchObject (If-Match of nothing)."""
    old = object_at(tx, bucket, key)
    check_write(old, conditions)
    if old is None:
        return False
    names = split(key)
    parent = find(tx, bucket, names[:-1])
    assert parent is not None
    if not is_directory_name(names[-1]):
        drop_entry(tx, parent, names[-1], now_ns, keep=False)
        release_link(tx, old.ino, now_ns)
        return True
    directory = child(tx, parent, names[-1])
    assert directory is not None
    row = tx.one("select live, body from inode where ino = ?", (directory,))
    assert row is not None
    tx.run("update inode set explicit = 0, body = null, object = null where ino = ?", (directory,))
    tx.touch_name(parent, names[-1])
    tx.touch_inode(directory)
    if row[1] is not None:
        release_link(tx, row[1], now_ns)
    if row[0] == 0:
        drop_entry(tx, parent, names[-1], now_ns, keep=False)
        orphan(tx, directory, now_ns)
    return True


def stage_inode(tx: Transaction, ino: InodeNo, now_ns: int) -> None:
    """An invisible inode to gather extents under; an owner that starts reaps it."""
    insert_inode(tx, ino, stat.S_IFREG | 0o600, 0, 0, now_ns, nlink=0)
    tx.run("insert into orphan values (?)", (ino,))


def unstage(tx: Transaction, ino: InodeNo) -> None:
    """The inode gets a name now. Raises: WriteConflict if it was reaped: who staged it had given up waiting."""
    if not tx.run("delete from orphan where ino = ?", (ino,)):
        raise WriteConflict("what was staged is gone")


def stage_extents(tx: Transaction, ino: InodeNo, extents: Sequence[NewExtent], first_id: ExtentId) -> None:
    insert_extents(tx, ino, extents, first_id, fresh=True)


def check_write(old: ObjectInfo | None, conditions: Conditions) -> None:
    """Raises: PreconditionFailed, NoSuchObject."""
    if conditions.if_match is not None:
        if old is None:
            raise NoSuchObject("If-Match on an object that does not exist")
        if "*" not in conditions.if_match and old.etag not in conditions.if_match:
            raise PreconditionFailed("If-Match")
    refused = conditions.if_none_match
    if refused is not None and old is not None and ("*" in refused or old.etag in refused):
        raise PreconditionFailed("If-None-Match")


def check_read(info: ObjectInfo, conditions: ReadConditions) -> None:
    """In RFC 9110's order: an ETag's condition makes the date's beside it void.

    Raises: PreconditionFailed, NotModified (its argument is the info).
    """
    seconds = info.modified_ns // 1_000_000_000
    if conditions.if_match is not None:
        if "*" not in conditions.if_match and info.etag not in conditions.if_match:
            raise PreconditionFailed("If-Match")
    elif conditions.if_unmodified_since_s is not None and seconds > conditions.if_unmodified_since_s:
        raise PreconditionFailed("If-Unmodified-Since")
    if conditions.if_none_match is not None:
        if "*" in conditions.if_none_match or info.etag in conditions.if_none_match:
            raise NotModified(info)
    elif conditions.if_modified_since_s is not None and seconds <= conditions.if_modified_since_s:
        raise NotModified(info)


def _info(tx: Transaction, ino: InodeNo, directory: bool) -> ObjectInfo | None:
    tx.see_inode(ino)
    row = tx.one(
        "select i.size, i.etag, i.modified_ns, i.object, i.mode, i.explicit, i.body, p.sizes, i.content"
        " from inode i left join parts p on p.ino = i.ino where i.ino = ?",
        (ino,),
    )
    if row is None:
        return None
    size, etag, modified_ns, spec, mode, explicit, body, sizes, content = row
    if directory and body is not None:
        return _info(tx, body, False)
    if not (explicit if directory else stat.S_ISREG(mode)):
        return None
    return ObjectInfo(
        ino,
        size,
        unpack_etag(EMPTY_MD5 if directory else etag),
        modified_ns,
        unpack_spec(spec),
        unpack_sizes(sizes) if sizes else (),
        content,
    )


def _place_file(
    tx: Transaction,
    defaults: Defaults,
    parent: InodeNo,
    name: bytes,
    old: InodeNo | None,
    new: NewObject,
    modified_ns: int,
) -> None:
    uid, gid, mode = defaults.uid, defaults.gid, stat.S_IFREG | defaults.file_mode
    if old is not None:
        kept = tx.one("select uid, gid, mode from inode where ino = ?", (old,))
        if kept is not None and stat.S_ISREG(kept[2]):
            uid, gid, mode = kept[0], kept[1], _without_privileges(kept[2])
    _insert_content(tx, new, mode, uid, gid, modified_ns)
    if old is None:
        add_entry(tx, parent, name, new.ino, Cookie(new.cookies[-1]), modified_ns)
        return
    tx.run(
        "insert into xattr select ?, name, value from xattr where ino = ? and name not in (?, ?)",
        (new.ino, old, _CAPABILITY, RESTORED),
    )
    tx.run("update entry set inode = ? where parent = ? and name = ?", (new.ino, parent, name))
    tx.run("update inode set mtime_ns = ?, ctime_ns = ? where ino = ?", (modified_ns, modified_ns, parent))
    tx.replace_inode(old, new.ino)
    tx.touch_name(parent, name)
    tx.touch_inode(parent)
    release_link(tx, old, modified_ns)


def _without_privileges(mode: int) -> int:
    """A mode without what a write takes from a file (Linux, ``should_remove_suid``): set-group-ID without the group's
    right to execute means mandatory locks, and stays."""
    return mode & ~(stat.S_ISUID | (stat.S_ISGID if mode & stat.S_IXGRP else 0))


def _place_body(
    tx: Transaction,
    defaults: Defaults,
    parent: InodeNo,
    name: bytes,
    old: InodeNo | None,
    new: NewObject,
    modified_ns: int,
) -> None:
    """A key that ends in ``/`` is the directory's own: its children stay below it, so only its body is switched."""
    _insert_content(tx, new, stat.S_IFREG | defaults.file_mode, defaults.uid, defaults.gid, modified_ns)
    directory = imply_directories(tx, defaults, parent, [name], [old], new.inos[-1:], new.cookies[-1:], modified_ns)
    make_explicit(tx, directory, modified_ns)
    row = tx.one("select body from inode where ino = ?", (directory,))
    assert row is not None
    tx.run("update inode set body = ?, object = null where ino = ?", (new.ino, directory))
    tx.touch_inode(directory)
    tx.touch_name(parent, name)
    if row[0] is not None:
        release_link(tx, row[0], modified_ns)


def _insert_content(tx: Transaction, new: NewObject, mode: int, uid: int, gid: int, modified_ns: int) -> None:
    if new.staged:
        unstage(tx, new.ino)
        tx.run("delete from inode where ino = ?", (new.ino,))
    etag, spec = pack_etag(new.etag), pack_spec(new.spec)
    insert_inode(tx, new.ino, mode, uid, gid, modified_ns, size=new.size, etag=etag, spec=spec)
    if not new.staged:
        insert_extents(tx, new.ino, new.extents, new.extent_ids, fresh=True, empty=True)
