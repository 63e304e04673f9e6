"""What an explanation says of an inode beside its extents."""

from collections.abc import Sequence
from dataclasses import dataclass

from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.volumes import path_of_inode
from stratumfs.errors import NotFound
from stratumfs.ids import InodeNo


@dataclass(frozen=True, slots=True)
class Described:
    """path: ``bucket/key`` under one of its names, empty without one; modified_ns: of the last content commit."""

    ino: InodeNo
    path: bytes
    mode: int
    size: int
    modified_ns: int


def described(tx: Transaction, ino: InodeNo) -> Described:
    """Raises: NotFound."""
    row = tx.one("select mode, size, modified_ns from inode where ino = ?", (ino,))
    if row is None:
        raise NotFound(f"there is no inode {ino}")
    return Described(ino, path_of_inode(tx, ino), *row)


def sizes(tx: Transaction, inos: Sequence[InodeNo]) -> dict[InodeNo, int]:
    """Of some 50 inodes, those that have a name."""
    found = {}
    for ino in inos:
        row = tx.one("select size from inode where ino = ? and nlink > 0", (ino,))
        if row is not None:
            found[ino] = row[0]
    return found
