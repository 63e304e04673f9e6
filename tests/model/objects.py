"""What S3's calls do to the reference. Each raises Refused(S3's code) where S3 would refuse."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.model.nodes import OBJECT_MODE, Content, File, Span, Spec, Time, md5
from tests.model.reference import Reference, Refused, make_explicit, new_directory


@dataclass(frozen=True, slots=True)
class If:
    """Conditions of a write: ETags, or ``*``."""

    match: str | None = None
    none_match: str | None = None


ALWAYS = If()


def find(tree: Reference, key: bytes) -> Content | None:
    node = tree.nodes.get(key)
    return node.content if node is not None and key and node.is_object else None


def put(tree: Reference, key: bytes, data: bytes, spec: Spec, now: Span, condition: If = ALWAYS) -> None:
    _store(tree, key, Content(data, Time((now,)), md5(data), spec), now, condition)


def put_parts(tree: Reference, key: bytes, parts: Sequence[bytes], spec: Spec, now: Span) -> None:
    digests = b"".join(hashlib.md5(part, usedforsecurity=False).digest() for part in parts)
    _store(tree, key, Content(b"".join(parts), Time((now,)), f"{md5(digests)}-{len(parts)}", spec), now, ALWAYS)


def copy(tree: Reference, source: bytes, key: bytes, now: Span) -> None:
    found = find(tree, source)
    if found is None:
        raise Refused("NoSuchKey")
    if source == key:
        raise Refused("InvalidRequest")
    spec = replace(found.spec, storage_class="STANDARD")
    _store(tree, key, Content(found.data, Time((now,)), found.etag, spec), now, ALWAYS)


def delete(tree: Reference, key: bytes, now: Span) -> None:
    """What is no object stays, and that is no error."""
    if find(tree, key) is None:
        return
    node = tree.nodes[key]
    if isinstance(node, File):
        tree.vanish(key, now, keep=False)
        return
    node.explicit, node.content = False, Content(b"", Time((now,)), md5(b""))
    if not tree.children(key):
        tree.vanish(key, now, keep=False)


def _store(tree: Reference, key: bytes, content: Content, now: Span, condition: If) -> None:
    _check(find(tree, key), condition)
    old = tree.nodes.get(key)
    if key.endswith(b"/"):
        if old is None:
            old = new_directory(now)
            tree.appear(key, old, now)
        make_explicit(tree.directory(key), now)
        old.content = content
        return
    mode = old.mode if old is not None and old.is_object else OBJECT_MODE
    new = File("file", mode, content.modified, content, content.data)
    if old is not None:
        new.xattrs = dict(old.xattrs)
    tree.appear(key, new, now)


def _check(old: Content | None, condition: If) -> None:
    if condition.match is not None:
        if old is None:
            raise Refused("NoSuchKey")
        if condition.match not in ("*", old.etag):
            raise Refused("PreconditionFailed")
    if condition.none_match is not None and old is not None and condition.none_match in ("*", old.etag):
        raise Refused("PreconditionFailed")
