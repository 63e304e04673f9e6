"""The whole of a bucket through both doors, beside the reference: names, bytes and metadata, each where a door carries
it. Times, ETags and inode numbers that the reference can only bound are pinned when they are first seen.
"""

import os
import re
import stat

from tests.model.nodes import DEFAULT_TYPE, OPAQUE, Content, File, Node, md5
from tests.model.posix import xattrs
from tests.model.reference import BUCKET, Reference, parent_of
from tests.model.s3 import Listed, Reader

_KINDS = {stat.S_IFREG: "file", stat.S_IFLNK: "link", stat.S_IFIFO: "fifo", stat.S_IFDIR: "directory"}
KEY_MAX = 1024
_OPAQUE = re.compile(r"[0-9a-f]{32}-1")


class Ledger:
    """What must never be used twice, over all buckets of a store: ETags for other bytes, inode numbers for others."""

    def __init__(self) -> None:
        self._etags: dict[str, str] = {}
        self._inodes: set[int] = set()

    def etag(self, etag: str, data: bytes) -> None:
        assert self._etags.setdefault(etag, md5(data)) == md5(data), f"ETag {etag} stood for other bytes before"

    def new_inode(self, ino: int) -> None:
        assert ino not in self._inodes, f"inode number {ino} stood for something else before"
        self._inodes.add(ino)


def check_mount(tree: Reference, top: bytes, ledger: Ledger) -> None:
    """*top*: the bucket's directory in the mount."""
    waiting = [(top, BUCKET)]
    _check_node(tree, tree.nodes[BUCKET], top, ledger)
    while waiting:
        path, directory = waiting.pop()
        expected = tree.listing(directory)
        with os.scandir(path) as entries:
            found = {entry.name: (entry.is_dir(follow_symlinks=False), entry.inode()) for entry in entries}
        assert sorted(found) == sorted(expected), f"readdir of {path!r}: {sorted(found)}, not {sorted(expected)}"
        for name, key in expected.items():
            below, node = path + b"/" + name, tree.nodes[key]
            _check_node(tree, node, below, ledger)
            assert found[name] == (key.endswith(b"/"), node.ino), f"type or inode of {below!r} as readdir shows them"
            if key.endswith(b"/"):
                waiting.append((below, key))


def _check_node(tree: Reference, node: Node, path: bytes, ledger: Ledger) -> None:
    what = repr(path)
    seen = os.lstat(path)
    assert _KINDS[stat.S_IFMT(seen.st_mode)] == node.kind, f"kind of {what}"
    if node.ino is None:
        node.ino = seen.st_ino
        ledger.new_inode(seen.st_ino)
    assert seen.st_ino == node.ino, f"{what} has another inode number than before"
    assert seen.st_nlink == tree.links(node), f"nlink of {what}: {seen.st_nlink}, not {tree.links(node)}"
    assert (seen.st_uid, seen.st_gid) == (os.getuid(), os.getgid()), f"owner of {what}"
    node.mtime.see(seen.st_mtime_ns, f"mtime of {what}")
    if node.kind == "link":
        assert isinstance(node, File)
        assert os.readlink(path) == node.target, f"target of {what}"
        return
    assert stat.S_IMODE(seen.st_mode) == node.mode, f"mode of {what}: {seen.st_mode:o}, not {node.mode:o}"
    if node.kind == "fifo":
        return
    names = os.listxattr(path)
    found = {os.fsencode(name): os.getxattr(path, name) for name in names}
    assert found == xattrs(node), f"extended attributes of {what}: {found}, not {xattrs(node)}"
    if isinstance(node, File):
        assert seen.st_size == len(node.data), f"size of {what}: {seen.st_size}, not {len(node.data)}"
        with open(path, "rb") as file:
            same(file.read(), node.data, f"bytes of {what} in the mount")


def check_s3(tree: Reference, bucket: str, reader: Reader, ledger: Ledger, page: int = 1000) -> None:
    expected = tree.objects()
    listed, _ = reader.list(bucket, page=page)
    assert list(listed) == list(expected), f"keys: {list(listed)}, not {list(expected)}"
    for key, content in expected.items():
        _check_object(key, content, listed[key], bucket, reader, ledger)
    hidden = [key for key, node in tree.nodes.items() if key and key not in expected]
    for key in hidden:
        assert reader.get(bucket, key, "HEAD").status == 404, f"{key!r} is no object"
    top = {key for key in expected if b"/" not in key}
    # A directory that holds nothing but links is no key and has none below it; that it is there explains why its
    # bucket is not empty, and to know better the listing would have to search it.
    below = [key for key in tree.directories() if key and parent_of(key) == BUCKET]
    keys, prefixes = reader.list(bucket, delimiter=b"/", page=page)
    assert (set(keys), prefixes) == (top, below), f"with a delimiter: {list(keys)} {prefixes}, not {top} {below}"


def _check_object(key: bytes, content: Content, listed: Listed, bucket: str, reader: Reader, ledger: Ledger) -> None:
    what = f"object {key!r}"
    got = reader.get(bucket, key)
    if len(key) > KEY_MAX:  # the mount can make those; they are listed, no request can name them
        assert got.status == 400, f"{what}: {got.status} for a key of {len(key)} bytes"
        return
    assert got.status == 200, f"{what}: {got.status} {got.data!r}"
    same(got.data, content.data, f"bytes of {what}")
    if content.etag == OPAQUE:
        assert got.etag == md5(content.data) or _OPAQUE.fullmatch(got.etag), f"ETag of {what}: {got.etag}"
        content.etag = got.etag
    assert got.etag == content.etag, f"ETag of {what}: {got.etag}, not {content.etag}"
    ledger.etag(got.etag, content.data)
    content.modified.see_second(got.modified_s, f"Last-Modified of {what}")
    spec = content.spec
    expected = Listed(len(content.data), content.etag, got.modified_s, spec.storage_class)
    assert listed == expected, f"{what} as listed: {listed}, not {expected}"
    assert got.metadata == spec.metadata, f"metadata of {what}: {got.metadata}, not {spec.metadata}"
    assert got.headers["content-type"] == (spec.content_type or DEFAULT_TYPE), f"type of {what}: {got.headers}"
    assert got.headers.get("cache-control") == spec.cache_control, f"cache-control of {what}: {got.headers}"
    assert got.headers.get("x-amz-storage-class", "STANDARD") == spec.storage_class, f"class of {what}: {got.headers}"


def same(found: bytes, expected: bytes, what: str) -> None:
    """Equality of bytes that says where the difference is, and not all of it."""
    if found != expected:
        shorter = min(len(found), len(expected))
        at = next((i for i in range(shorter) if found[i] != expected[i]), shorter)
        raise AssertionError(
            f"{what}: {len(found)} bytes, not {len(expected)}; from {at} on {found[at : at + 16]!r}, "
            f"not {expected[at : at + 16]!r}"
        )
