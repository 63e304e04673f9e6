"""What lies below a name: files, and the volumes that their bytes are in; a chunk at a time."""

from dataclasses import dataclass

from stratumfs.catalog.transaction import Transaction
from stratumfs.ids import InodeNo, VolumeId

_CHUNK = 200


def children(tx: Transaction, parent: InodeNo, after: bytes) -> tuple[list[tuple[InodeNo, bool]], bytes | None]:
    """(inode, whether it is a directory) of a chunk of a directory's entries, and behind which name to go on; a
    directory's own bytes, if its key has any, are an inode like the others."""
    rows = tx.all(
        "select e.name, i.ino, i.mode & 61440 = 16384, i.body from entry e join inode i on i.ino = e.inode"
        " where e.parent = ? and e.name > ? order by e.name limit ?",
        (parent, after, _CHUNK),
    )
    found = [(InodeNo(ino), bool(directory)) for _, ino, directory, _ in rows]
    found += [(InodeNo(body), False) for *_, body in rows if body is not None]
    return found, rows[-1][0] if len(rows) == _CHUNK else None


@dataclass(frozen=True, slots=True)
class Named:
    """What a name means. body: of a directory, the inode of the object that its own key is; size: bytes of the file, or
    of that object; key: whether S3 lists it."""

    name: bytes
    ino: InodeNo
    directory: bool
    body: InodeNo | None
    size: int
    key: bool


_NAMED = (
    "i.ino, i.mode & 61440, i.body, case when i.body is null then i.size"
    " else (select b.size from inode b where b.ino = i.body) end, i.explicit"
)
_DIRECTORY, _REGULAR = 0o040000, 0o100000


def named_below(tx: Transaction, parent: InodeNo, after: bytes) -> tuple[list[Named], bytes | None]:
    """A chunk of a directory's entries in the order of their names, and behind which one to go on; None at the end."""
    rows = tx.all(
        f"select e.name, {_NAMED} from entry e join inode i on i.ino = e.inode"  # noqa: S608
        " where e.parent = ? and e.name > ? order by e.name limit ?",
        (parent, after, _CHUNK),
    )
    return [_named(*row) for row in rows], rows[-1][0] if len(rows) == _CHUNK else None


def inode_named(tx: Transaction, ino: InodeNo) -> Named | None:
    """The same of an inode itself, without its name; None if there is none."""
    row = tx.one(f"select {_NAMED} from inode i where i.ino = ?", (ino,))  # noqa: S608
    return _named(b"", *row) if row is not None else None


def _named(name: bytes, ino: int, kind: int, body: int | None, size: int | None, explicit: int) -> Named:
    directory = kind == _DIRECTORY
    counted = 0 if directory and body is None else size or 0
    key = bool(explicit) if directory else kind == _REGULAR
    return Named(name, InodeNo(ino), directory, InodeNo(body) if body is not None else None, counted, key)


def is_directory(tx: Transaction, ino: InodeNo) -> bool:
    return tx.one("select 1 from inode where ino = ? and mode & 61440 = 16384", (ino,)) is not None


def bytes_of(tx: Transaction, ino: InodeNo, after: int) -> tuple[dict[VolumeId | None, int], int | None]:
    """Bytes of a chunk of a file's extents by volume (None: inline), and behind which offset to go on."""
    rows = tx.all(
        "select offset, length, volume from extent where ino = ? and offset > ? order by offset limit ?",
        (ino, after, _CHUNK),
    )
    found: dict[VolumeId | None, int] = {}
    for _, length, volume in rows:
        key = VolumeId(volume) if volume is not None else None
        found[key] = found.get(key, 0) + length
    return found, rows[-1][0] if len(rows) == _CHUNK else None
