"""What system calls do to the reference. Each raises Refused(errno's name) where the kernel would refuse."""

from collections.abc import Iterable
from dataclasses import replace

from tests.model.nodes import OPAQUE, Content, Directory, File, Node, Span, Time, md5
from tests.model.reference import (
    BUCKET,
    Place,
    Reference,
    Refused,
    make_explicit,
    new_directory,
    parent_of,
    publish,
    segment_of,
)

TYPE_XATTR = b"user.mime_type"
META_XATTR = b"user.s3.meta."


def make(tree: Reference, place: Place, kind: str, mode: int, now: Span, *, target: bytes = b"") -> File:
    """A file (O_EXCL), a symbolic link or a fifo."""
    _check_free(tree, place)
    file = File(kind, mode, Time((now,)), Content(b"", Time((now,)), md5(b"")), target=target)
    tree.appear(tree.new_key(place), file, now)
    return file


def mkdir(tree: Reference, place: Place, mode: int, now: Span) -> None:
    _check_free(tree, place)
    tree.appear(tree.new_key(place, directory=True), new_directory(now, explicit=True, mode=mode), now)


def link(tree: Reference, key: bytes, place: Place, now: Span) -> None:
    _check_free(tree, place)
    node = tree.nodes[key]
    if isinstance(node, Directory):
        raise Refused("EPERM")
    tree.appear(tree.new_key(place), node, now)


def unlink(tree: Reference, place: Place, now: Span) -> None:
    key = _found(tree, place)
    if key.endswith(b"/"):
        raise Refused("EISDIR")
    tree.vanish(key, now, keep=True)


def rmdir(tree: Reference, place: Place, now: Span) -> None:
    key = _found(tree, place)
    if not key.endswith(b"/"):
        raise Refused("ENOTDIR")
    if tree.children(key):
        raise Refused("ENOTEMPTY")
    tree.vanish(key, now, keep=True)


def rename(
    tree: Reference, source: Place, target: Place, now: Span, *, replace: bool = True, exchange: bool = False
) -> None:
    old, new = _found(tree, source), tree.find(target)
    if new is None and exchange:
        raise Refused("ENOENT")
    if new is not None and not (replace or exchange):
        raise Refused("EEXIST")
    if old.endswith(b"/") and target.directory.startswith(old):
        raise Refused("EINVAL")
    if new is not None and new.endswith(b"/") and source.directory.startswith(new):
        raise Refused("EINVAL" if exchange else "ENOTEMPTY")
    if new is not None and tree.nodes[new] is tree.nodes[old]:
        return
    _publish_before(tree, (old, new) if exchange else (old,), now)
    if exchange:
        assert new is not None
        _exchange(tree, old, new, now)
        return
    if new is None:
        new = tree.new_key(target, directory=old.endswith(b"/"))
    else:
        _check_replaceable(tree, old, new)
        del tree.nodes[new]
    tree.move({old: new}, now)


def write(file: File, offset: int, data: bytes, now: Span) -> None:
    """Through a handle: seen by the mount at once, by S3 when it is published."""
    if data:
        before = file.data.ljust(offset, b"\0")
        file.data = before[:offset] + data + before[offset + len(data) :]
        _written(file, now)


def truncate(file: File, size: int, now: Span) -> None:
    file.data = file.data[:size].ljust(size, b"\0")
    _written(file, now)


def flush(file: File, now: Span, etag: str = OPAQUE) -> None:
    """fsync, or the close of a handle for writing."""
    if file.pending:
        file.pending = False
        publish(file, now, etag)


def chmod(node: Node, mode: int, now: Span) -> None:
    node.mode = mode
    _changed(node, now)


def utimens(node: Node, mtime_ns: int, now: Span) -> None:
    node.mtime = Time(((mtime_ns, mtime_ns),))
    _changed(node, now)


def set_xattr(node: Node, name: bytes, value: bytes | None, now: Span) -> None:
    """A value of None removes it. What S3 knows by a name of its own is kept as S3 says it."""
    if value is None and name not in xattrs(node):
        raise Refused("ENODATA")
    spec = node.content.spec
    if name == TYPE_XATTR:
        spec = replace(spec, content_type=None if value is None else value.decode())
    elif name.startswith(META_XATTR):
        key = name[len(META_XATTR) :].decode()
        kept = {other: text for other, text in spec.metadata if other != key}
        spec = replace(spec, metadata=tuple(sorted((kept | ({} if value is None else {key: value.decode()})).items())))
    elif value is None:
        del node.xattrs[name]
    else:
        node.xattrs[name] = value
    node.content = replace(node.content, spec=spec)
    _changed(node, now)


def xattrs(node: Node) -> dict[bytes, bytes]:
    """What listxattr and getxattr show together."""
    spec = node.content.spec
    found = dict(node.xattrs)
    if spec.content_type is not None:
        found[TYPE_XATTR] = spec.content_type.encode()
    return found | {META_XATTR + name.encode(): value.encode() for name, value in spec.metadata}


def _check_free(tree: Reference, place: Place) -> None:
    if tree.find(place) is not None:
        raise Refused("EEXIST")


def _found(tree: Reference, place: Place) -> bytes:
    key = tree.find(place)
    if key is None:
        raise Refused("ENOENT")
    return key


def _publish_before(tree: Reference, keys: Iterable[bytes | None], now: Span) -> None:
    """What was written through a handle comes before a rename of the file, also before one that is refused."""
    for key in keys:
        node = tree.nodes[key] if key is not None else None
        if isinstance(node, File):
            flush(node, now)


def _check_replaceable(tree: Reference, old: bytes, new: bytes) -> None:
    if old.endswith(b"/") and not new.endswith(b"/"):
        raise Refused("ENOTDIR")
    if new.endswith(b"/") and not old.endswith(b"/"):
        raise Refused("EISDIR")
    if tree.children(new):
        raise Refused("ENOTEMPTY")


def _exchange(tree: Reference, one: bytes, other: bytes, now: Span) -> None:
    """Each takes the other's name, in its own form, with or without a slash."""
    moves = {one: _renamed(one, other), other: _renamed(other, one)}
    beside = moves[one] == one  # an object and the directory beside it have one name between them
    if beside:
        raise Refused("EINVAL")
    for old in (other, one):
        new = moves[old]
        if not old.endswith(b"/") and new in (BUCKET, parent_of(new + b"x")):
            raise Refused("EPERM")  # only a directory can have the name that stands for the empty segment
        if new in tree.nodes and new not in moves:
            raise Refused("EINVAL")
    tree.move(moves, now)


def _renamed(key: bytes, like: bytes) -> bytes:
    return parent_of(like) + segment_of(like) + (b"/" if key.endswith(b"/") else b"")


def _written(file: File, now: Span) -> None:
    file.mtime = Time((now,))
    file.pending = True


def _changed(node: Node, now: Span) -> None:
    if isinstance(node, Directory):
        make_explicit(node, now)
