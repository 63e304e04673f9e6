"""Extended attributes. Those that S3 knows by another name are columns of the object, the others are rows."""

import stat
from dataclasses import replace

from stratumfs.catalog.placed import RESTORED, restored
from stratumfs.catalog.records import pack_spec, unpack_etag, unpack_spec
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.tree import make_explicit
from stratumfs.errors import (
    AttributeExists,
    AttributeTooLarge,
    InvalidArgument,
    NoSuchAttribute,
    NotFound,
    NotPermitted,
)
from stratumfs.ids import ROOT_INODE, InodeNo
from stratumfs.limits import XATTR_VALUE_MAX, XATTRS_BYTES_MAX
from stratumfs.values import ObjectSpec

_META = b"user.s3.meta."
_TYPE = b"user.mime_type"
_OWN = b"user.stratum."
PIN = b"user.stratum.pin"
_WRITABLE = frozenset({PIN})
_PINS = frozenset({b"hot", b"warm", b"cold", b"none"})


def xattr(tx: Transaction, ino: InodeNo, name: bytes) -> bytes:
    """Raises: NoSuchAttribute, NotFound."""
    tx.see_inode(ino)
    if name == b"user.stratum.etag":
        return _etag(tx, ino)
    if _is_column(name):
        value = _column_value(_spec(tx, ino)[1], name)
        if value is None:
            raise NoSuchAttribute("no such attribute")
        return value
    row = tx.one("select value from xattr where ino = ? and name = ?", (ino, name))
    if row is None:
        raise NoSuchAttribute("no such attribute")
    if name == RESTORED:
        return str(restored(row[0]).until_ns).encode()
    return bytes(row[0])


def xattrs(tx: Transaction, ino: InodeNo) -> list[bytes]:
    """All names but the store's own, which a copy could not restore."""
    tx.see_inode(ino)
    sql = "select name from xattr where ino = ? and name != ? order by name"
    names = [bytes(name) for (name,) in tx.all(sql, (ino, RESTORED))]
    spec = _spec(tx, ino)[1]
    if spec.content_type is not None:
        names.append(_TYPE)
    return names + [_META + name.encode() for name in spec.metadata]


def set_xattr(
    tx: Transaction, ino: InodeNo, name: bytes, value: bytes, now_ns: int, create: bool, replace_only: bool
) -> None:
    """Raises: AttributeExists, NoSuchAttribute, AttributeTooLarge, NotPermitted, InvalidArgument, NotFound."""
    if name.startswith(_OWN) and name not in _WRITABLE:
        raise NotPermitted("this attribute is the store's own")
    if name == PIN and value not in _PINS:
        raise InvalidArgument("a pin is hot, warm, cold, or none")
    if len(value) > XATTR_VALUE_MAX:
        raise AttributeTooLarge(f"{XATTR_VALUE_MAX} bytes are the most")
    exists = name in xattrs(tx, ino)
    if create and exists:
        raise AttributeExists("the attribute exists")
    if replace_only and not exists:
        raise NoSuchAttribute("no such attribute")
    if _is_column(name):
        _set_column(tx, ino, name, value)
    else:
        row = tx.one("select sum(length(name) + length(value)) from xattr where ino = ? and name != ?", (ino, name))
        if (row[0] if row and row[0] else 0) + len(name) + len(value) > XATTRS_BYTES_MAX:
            raise AttributeTooLarge(f"{XATTRS_BYTES_MAX} bytes are the most for one file")
        tx.run("delete from xattr where ino = ? and name = ?", (ino, name))
        tx.run("insert into xattr values (?, ?, ?)", (ino, name, value))
    _changed(tx, ino, now_ns)


def remove_xattr(tx: Transaction, ino: InodeNo, name: bytes, now_ns: int) -> None:
    """Raises: NoSuchAttribute, NotPermitted, NotFound."""
    if name.startswith(_OWN) and name not in _WRITABLE:
        raise NotPermitted("this attribute is the store's own")
    if _is_column(name):
        xattr(tx, ino, name)
        _set_column(tx, ino, name, None)
    elif not tx.run("delete from xattr where ino = ? and name = ?", (ino, name)):
        raise NoSuchAttribute("no such attribute")
    _changed(tx, ino, now_ns)


def _is_column(name: bytes) -> bool:
    return name == _TYPE or name.startswith(_META)


def _column_value(spec: ObjectSpec, name: bytes) -> bytes | None:
    key = name[len(_META) :].decode(errors="replace").lower()  # as it was set
    text = spec.content_type if name == _TYPE else spec.metadata.get(key)
    return None if text is None else text.encode()


def _spec(tx: Transaction, ino: InodeNo) -> tuple[InodeNo, ObjectSpec]:
    """The inode whose columns describe the object (a directory's body, if it has one), and they."""
    row = tx.one(
        "select i.object, i.body, b.object from inode i left join inode b on b.ino = i.body where i.ino = ?", (ino,)
    )
    if row is None:
        raise NotFound(f"no inode {ino}")
    return (ino, unpack_spec(row[0])) if row[1] is None else (row[1], unpack_spec(row[2]))


def _set_column(tx: Transaction, ino: InodeNo, name: bytes, value: bytes | None) -> None:
    try:
        text = None if value is None else value.decode()
        key = name[len(_META) :].decode().lower()
    except UnicodeDecodeError as error:
        raise InvalidArgument("this attribute is S3 metadata: it must be UTF-8") from error
    row, spec = _spec(tx, ino)
    if name == _TYPE:
        spec = replace(spec, content_type=text)
    else:
        metadata = {k: v for k, v in spec.metadata.items() if k != key}
        if text is not None:
            metadata[key] = text
        spec = replace(spec, metadata=metadata)
    packed = pack_spec(spec)
    if value is not None and packed is not None and len(packed) > XATTRS_BYTES_MAX:
        raise AttributeTooLarge(f"{XATTRS_BYTES_MAX} bytes are the most for the metadata of one object")
    tx.run("update inode set object = ? where ino = ?", (packed, row))


def _changed(tx: Transaction, ino: InodeNo, now_ns: int) -> None:
    tx.touch_inode(ino)
    row = tx.one("update inode set ctime_ns = ? where ino = ? returning mode, nlink", (now_ns, ino))
    if row is not None and stat.S_ISDIR(row[0]) and row[1] and ino != ROOT_INODE:
        make_explicit(tx, ino, now_ns)


def _etag(tx: Transaction, ino: InodeNo) -> bytes:
    row = tx.one("select etag from inode where ino = ?", (ino,))
    if row is None or row[0] is None:
        raise NoSuchAttribute("no such attribute")
    return unpack_etag(row[0]).encode()
