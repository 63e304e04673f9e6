"""The reference: one bucket as a plain dictionary from keys to nodes, with no tree, no rows and no names of two kinds.

A key that ends in ``/`` is a directory; all prefixes of a key that end in ``/`` are there too. Everything else follows
from that: a directory without keys below it is there only if it is explicit.
"""

from dataclasses import dataclass, replace

from tests.model import spelling
from tests.model.nodes import BUCKET_DIRECTORY_MODE, OPAQUE, Content, Directory, File, Node, Span, Time, md5

BUCKET = b""


class Refused(Exception):
    """What the door answers instead: the name of an errno, or an S3 code."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a POSIX call points: a directory, by its key, and a name in it."""

    directory: bytes
    name: bytes


class Reference:
    """Every operation takes *now*, the span of time in which it was carried out."""

    def __init__(self, now: Span, directory_mode: int = BUCKET_DIRECTORY_MODE) -> None:
        self.nodes: dict[bytes, Node] = {BUCKET: new_directory(now, explicit=True, mode=directory_mode)}

    # What there is

    def directory(self, key: bytes) -> Directory:
        node = self.nodes[key]
        assert isinstance(node, Directory)
        return node

    def directories(self) -> list[bytes]:
        return sorted(key for key, node in self.nodes.items() if isinstance(node, Directory))

    def children(self, directory: bytes) -> list[bytes]:
        return [key for key in self.nodes if key and parent_of(key) == directory]

    def listing(self, directory: bytes) -> dict[bytes, bytes]:
        """What readdir shows: POSIX names, and the keys that they mean."""
        found: dict[bytes, bytes] = {}
        hidden: dict[bytes, bytes] = {}
        for key in sorted(self.children(directory)):
            beside = not key.endswith(b"/") and key + b"/" in self.nodes
            name = spelling.shown(segment_of(key), beside_directory=beside)
            # A name that stands for something special means that first, and a file of that very name second.
            (found if beside or name not in found else hidden)[name] = key
        return {**hidden, **found}

    def paths(self) -> dict[bytes, bytes]:
        """All POSIX paths below the bucket, and their keys."""
        found: dict[bytes, bytes] = {}
        waiting = [(b"", BUCKET)]
        while waiting:
            path, directory = waiting.pop()
            for name, key in self.listing(directory).items():
                found[path + name] = key
                if key.endswith(b"/"):
                    waiting.append((path + name + b"/", key))
        return found

    def objects(self) -> dict[bytes, Content]:
        """What S3 lists, in its order."""
        return {key: node.content for key, node in sorted(self.nodes.items()) if key and node.is_object}

    def links(self, node: Node) -> int:
        """What stat(2) calls nlink."""
        if isinstance(node, File):
            return sum(1 for other in self.nodes.values() if other is node)
        key = next(key for key, other in self.nodes.items() if other is node)
        return 2 + sum(1 for child in self.children(key) if child.endswith(b"/"))

    def find(self, place: Place) -> bytes | None:
        return self.listing(place.directory).get(place.name)

    def new_key(self, place: Place, *, directory: bool = False) -> bytes:
        """The key of what is to be made there. Raises: Refused where there can be none."""
        segment = spelling.stored(place.name)
        if place.name in spelling.MOUNTS_OWN or (not segment and not directory):
            raise Refused("EPERM")
        return place.directory + segment + (b"/" if directory else b"")

    # How keys come and go

    def appear(self, key: bytes, node: Node, now: Span) -> None:
        """A name, with the directories that it implies."""
        parent = parent_of(key)
        if parent not in self.nodes:
            self.appear(parent, new_directory(now), now)
        self.nodes[key] = node
        self.directory(parent).mtime = Time((now,))

    def vanish(self, key: bytes, now: Span, *, keep: bool) -> None:
        """A name goes. A directory that only this name implied goes too, or with *keep* becomes explicit."""
        del self.nodes[key]
        parent = parent_of(key)
        above = self.directory(parent)
        above.mtime = Time((now,))
        if above.explicit or self.children(parent):
            return
        if keep:
            make_explicit(above, now)
        else:
            self.vanish(parent, now, keep=False)

    def move(self, moves: dict[bytes, bytes], now: Span) -> None:
        """Files, or directories with all below them, change their keys together. None of the new keys is taken."""
        taken = {}
        for old in moves:
            below = [key for key in self.nodes if key == old or (old.endswith(b"/") and key.startswith(old))]
            taken[old] = {key: self.nodes.pop(key) for key in below}
        for old, new in moves.items():
            for key, node in taken[old].items():
                self.nodes[new + key[len(old) :]] = node
            if isinstance(node := self.nodes[new], Directory):
                make_explicit(node, now)
        for key in {*map(parent_of, moves), *map(parent_of, moves.values())}:
            above = self.directory(key)
            above.mtime = Time((now,))
            if not above.explicit and not self.children(key):
                make_explicit(above, now)


def parent_of(key: bytes) -> bytes:
    """The key of the directory that a key stands in; of one in the bucket itself, BUCKET."""
    return key[: key.removesuffix(b"/").rfind(b"/") + 1]


def segment_of(key: bytes) -> bytes:
    return key[len(parent_of(key)) :].removesuffix(b"/")


def make_explicit(directory: Directory, now: Span) -> None:
    if not directory.explicit:
        directory.explicit = True
        directory.content = replace(directory.content, modified=Time((now,)))


def publish(file: File, now: Span, etag: str = OPAQUE) -> None:
    """What the mount shows is what S3 sees, under a new ETag."""
    file.content = Content(file.data, Time((now,)), etag, file.content.spec)


def new_directory(now: Span, *, explicit: bool = False, mode: int = BUCKET_DIRECTORY_MODE) -> Directory:
    return Directory(explicit, mode, Time((now,)), Content(b"", Time((now,)), md5(b"")))
