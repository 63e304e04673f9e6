"""Where a round takes place: names below one directory, what S3 has of them, and how the mount shows that."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tools.rehearsals._s3 import Client

DIRECTORY = None
Shown = dict[str, bytes | None]
"""What each path below the bucket holds; DIRECTORY for a directory."""


@dataclass
class Scene:
    """One directory of a bucket, which does not vanish, and below it names that begin with *name*.

    keys     what S3 has of them: key -> bytes; one that ends in a slash is a directory's own
    renewed  paths that have an inode of their own since they were looked at, and so a later mtime
    closing  descriptors to be closed at the end of the round
    linked   a symbolic link stands there, of which S3 does not know
    """

    mount: Path
    bucket: str
    folder: str
    name: str
    s3: Client
    rng: random.Random
    keys: dict[str, bytes] = field(default_factory=dict)
    renewed: set[str] = field(default_factory=set)
    closing: list[int] = field(default_factory=list)
    linked: bool = False

    @property
    def top(self) -> str:
        """The key and path of the name itself."""
        return f"{self.folder}/{self.name}"

    def path(self, key: str) -> Path:
        return self.mount / self.bucket / key

    def data(self, size: int | None = None) -> bytes:
        """Never the same twice."""
        if size is None:
            size = self.rng.choice((1, 10, 500, 4096, 5000, 20_000, 70_000))
        return self.rng.randbytes(max(size, 8))[:size] if size else b""

    def put(self, key: str, data: bytes | None = None) -> bytes:
        """Through S3."""
        data = self.data() if data is None else data
        self.s3.put(self.bucket, key, data)
        self.set(key, data)
        return data

    def delete(self, key: str) -> None:
        """Through S3."""
        self.s3.delete(self.bucket, key)
        del self.keys[key]

    def set(self, key: str, data: bytes) -> None:
        self.keys[key] = data
        self.renewed.add(key)

    def write(self, key: str, data: bytes | None = None) -> bytes:
        """Through the mount."""
        data = self.data() if data is None else data
        self.path(key).write_bytes(data)
        self.keys[key] = data
        return data

    def mkdir(self, key: str) -> None:
        """Through the mount; *key* without its slash."""
        self.path(key).mkdir()
        self.keys[f"{key}/"] = b""

    def shown(self) -> Shown:
        return shown(self.keys, self.folder)


def shown(keys: Mapping[str, bytes], folder: str) -> Shown:
    """How the mount shows *keys*: a directory has the plain name, the object beside it the reserved spelling."""
    found: Shown = {folder: DIRECTORY}
    for key in keys:
        parts = key.split("/")
        for length in range(1, len(parts)):
            found["/".join(parts[:length])] = DIRECTORY
    for key, data in keys.items():
        if key.endswith("/"):
            continue
        parent, _, name = key.rpartition("/")
        found[f"{parent}/_-_o{name}" if key in found else key] = data
    return found


def children(of: Shown, directory: str) -> set[str]:
    return {path.rpartition("/")[2] for path in of if path.rpartition("/")[0] == directory}


def subdirectories(of: Shown, directory: str) -> int:
    return sum(held is DIRECTORY for path, held in of.items() if path.rpartition("/")[0] == directory)


def parents(paths: Iterable[str]) -> set[str]:
    return {path.rpartition("/")[0] for path in paths}
