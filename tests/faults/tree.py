"""What a store shows, as plain values: the model that each stop is compared with."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Node:
    """What a path stands for.

    number    paths with one number are names of one inode
    explicit  of a directory: not only implied by a key
    etag      None: nobody knows (an opaque one)
    row       of a file or link: all that its rows in the catalog say; None: it may say anything
    """

    kind: str
    number: int
    data: bytes = b""
    explicit: bool = True
    etag: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    row: bytes | None = None


DIRECTORY, FILE, LINK = "directory", "file", "link"


@dataclass(frozen=True, slots=True)
class Tree:
    """nodes: by path, a directory's with a slash at the end, buckets first; uploads: by ``bucket/key``, then part."""

    nodes: Mapping[str, Node] = field(default_factory=dict)
    uploads: Mapping[str, Mapping[int, bytes]] = field(default_factory=dict)

    def put(self, path: str, data: bytes, etag: str | None = None, **metadata: str) -> "Tree":
        """An object appears under a key: a new inode."""
        node = Node(FILE, self._free(), data, True, etag, tuple(sorted(metadata.items())))
        tree = self._touched(path)
        return tree._with({**tree._implied(path), path: node})

    def delete(self, path: str) -> "Tree":
        """An object goes, and with it the directories that only it implied."""
        nodes = dict(self._touched(path).nodes)
        del nodes[path]
        while not nodes[path := _above(path)].explicit and not _children(nodes, path):
            del nodes[path]
        return self._with(nodes)

    def make(self, path: str, kind: str = FILE, data: bytes = b"") -> "Tree":
        """A name appears in an existing directory."""
        return self._with({**self.nodes, path: Node(kind, self._free(), data)})

    def write(self, path: str, data: bytes, etag: str | None = None) -> "Tree":
        """The bytes of a file change, under all of its names."""
        names = self._names_of(path)
        return self._with(
            {**self.nodes, **{each: replace(self.nodes[each], data=data, etag=etag, row=None) for each in names}}
        )

    def change(self, path: str, **changes: Any) -> "Tree":
        """Attributes of a node with one name change."""
        return self._with({**self.nodes, path: replace(self.nodes[path], row=None, **changes)})

    def link(self, path: str, new: str) -> "Tree":
        tree = self._touched(path)
        return tree._with({**tree.nodes, new: tree.nodes[path]})

    def unlink(self, path: str) -> "Tree":
        """POSIX removes a name; a directory that this empties stays."""
        nodes = {each: node for each, node in self._touched(path).nodes.items() if each != path}
        above = _above(path)
        if above in nodes and not _children(nodes, above):
            nodes[above] = replace(nodes[above], explicit=True)
        return self._with(nodes)

    def rename(self, path: str, new: str) -> "Tree":
        """A name, and all below it, moves; what stood there before is gone."""
        nodes = self._touched(path)._touched(new).nodes
        moving = [each for each in nodes if each == path or (path.endswith("/") and each.startswith(path))]
        kept = {each: node for each, node in nodes.items() if each != new and each not in moving}
        moved = {new + each[len(path) :]: nodes[each] for each in moving}
        if path.endswith("/"):
            moved[new] = replace(moved[new], explicit=True)
        above = _above(path)
        if not _children({**kept, **moved}, above):
            kept[above] = replace(kept[above], explicit=True)
        return self._with({**kept, **moved})

    def upload(self, path: str, parts: Mapping[int, bytes] | None) -> "Tree":
        """An unfinished upload has these parts; None: there is none."""
        uploads = {each: found for each, found in self.uploads.items() if each != path}
        return replace(self, uploads=uploads if parts is None else {**uploads, path: dict(parts)})

    def under(self, bucket: str) -> "Tree":
        """What lies in one bucket (``bucket/``), itself included."""
        return Tree(
            {path: node for path, node in self.nodes.items() if path.startswith(bucket)},
            {path: parts for path, parts in self.uploads.items() if path.startswith(bucket)},
        )

    def differences(self, found: "Tree") -> list[str]:
        """How *found* differs from this, a line each; an ETag that nobody knows is not compared."""
        lines = []
        expected, actual = self._plain(), found._plain()
        for path in sorted(expected.keys() | actual.keys()):
            want, have = expected.get(path), actual.get(path)
            if want is not None and have is not None:
                have = tuple(each if known is not None else None for each, known in zip(have, want, strict=True))
            if want != have:
                lines.append(f"{path}: expected {_short(want)}, found {_short(have)}")
        for path in sorted(self.uploads.keys() | found.uploads.keys()):
            if (parts := self.uploads.get(path)) != (there := found.uploads.get(path)):
                lines.append(f"upload {path}: expected parts {_sizes(parts)}, found {_sizes(there)}")
        return lines

    def _plain(self) -> dict[str, tuple[object, ...]]:
        names: dict[int, list[str]] = {}
        for path, node in sorted(self.nodes.items()):
            names.setdefault(node.number, []).append(path)
        return {
            path: (node.kind, node.data, node.etag, node.metadata, node.explicit, node.row, names[node.number])
            for path, node in self.nodes.items()
        }

    def _names_of(self, path: str) -> list[str]:
        number = self.nodes[path].number if path in self.nodes else None
        return [each for each, node in self.nodes.items() if node.number == number]

    def _touched(self, path: str) -> "Tree":
        """The inode at *path*, if there is one, changes in ways that are not told here: its times, its links."""
        return self._with(
            {**self.nodes, **{each: replace(self.nodes[each], row=None) for each in self._names_of(path)}}
        )

    def _free(self) -> int:
        return 1 + max((node.number for node in self.nodes.values()), default=0)

    def _implied(self, path: str) -> dict[str, Node]:
        nodes = dict(self.nodes)
        number = self._free()
        for at, letter in enumerate(path[:-1]):
            if letter == "/" and path[: at + 1] not in nodes:
                number += 1
                nodes[path[: at + 1]] = Node(DIRECTORY, number, explicit=False)
        return nodes

    def _with(self, nodes: Mapping[str, Node]) -> "Tree":
        return replace(self, nodes=nodes)


NO_STORE = Tree({"": Node("no store", 0)})
"""Where mkfs has not done its work."""


def _above(path: str) -> str:
    return path.rstrip("/").rpartition("/")[0] + "/"


def _children(nodes: Mapping[str, Node], directory: str) -> list[str]:
    return [path for path in nodes if path.startswith(directory) and path != directory]


def _short(plain: tuple[object, ...] | None) -> str:
    if plain is None:
        return "nothing"
    kind, data, *rest = plain
    assert isinstance(data, bytes)
    shown = data if len(data) < 40 else f"{len(data)} bytes {data[:8].hex()}.."
    return f"{kind} {shown!r} {rest}"


def _sizes(parts: Mapping[int, bytes] | None) -> str:
    return "none" if parts is None else str({number: len(data) for number, data in parts.items()})
