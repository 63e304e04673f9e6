"""A bucket's keys in S3's byte order: a walk down the tree by names, in bounded chunks."""

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stratumfs.catalog.records import EMPTY_MD5, unpack_etag, unpack_spec
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.tree import child, split
from stratumfs.ids import InodeNo
from stratumfs.values import ListedObject

_Row = tuple[Any, ...]
_ROWS = 128
"""Rows that one query fetches."""
_SELECT = (
    "select e.name, e.inode, i.mode, i.explicit, i.live, i.body, i.size, i.etag, i.modified_ns, i.object"
    " from entry e join inode i on i.ino = e.inode where e.parent = ? and e.name"
)
_FROM = f"{_SELECT} >= ? and e.name < ? order by e.name limit ?"
_BEHIND = f"{_SELECT} > ? and e.name < ? order by e.name limit ?"


@dataclass(frozen=True, slots=True)
class Page:
    """A chunk of a listing. resume: the first key that was not looked at; None at the end."""

    objects: list[ListedObject]
    prefixes: list[bytes]
    resume: bytes | None


def list_keys(
    tx: Transaction, bucket: InodeNo, prefix: bytes, delimiter: bytes, start: bytes, limit: int, budget: int
) -> Page:
    """Keys at or behind *start* under *prefix*; those with *delimiter* behind the prefix roll up into one.

    Stops after *limit* keys and prefixes, or after looking at *budget* rows.
    """
    objects: list[ListedObject] = []
    prefixes: list[bytes] = []
    seen = tx.inodes_seen
    start = max(start, prefix)
    walk = _Walk(tx, bucket, prefix, stop_at_slash=delimiter == b"/")
    while True:
        for key, row in walk.keys(start):
            if not key.startswith(prefix):
                return Page(objects, prefixes, None)
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            if limit <= 0 or (budget := budget - 1) < 0:
                return Page(objects, prefixes, key)
            if cut >= 0:
                limit -= 1
                prefixes.append(key[: cut + len(delimiter)])
                if delimiter != b"/":  # there the walk itself does not go down
                    start = behind(prefixes[-1])
                    budget -= start.count(b"/")  # what it costs to find the way again
                    break
            elif row is not None:
                limit -= 1
                seen.add(row[1])  # a mount's publication touches the inode alone
                objects.append(_listed(key, row))
        else:
            return Page(objects, prefixes, None)


def behind(prefix: bytes) -> bytes:
    """The first byte string behind all that begin with *prefix* (UTF-8 has no byte 0xff)."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


class _Walk:
    """Keys of a bucket from a start on, with the rows of what they name.

    With *stop_at_slash* a directory below the prefix is one key and is not entered. A row of None stands for that, or
    for something that is no object and counts against the budget alone: a link, a directory that is only implied. The
    stack is a list, for keys can be deep.
    """

    def __init__(self, tx: Transaction, bucket: InodeNo, prefix: bytes, *, stop_at_slash: bool) -> None:
        self.tx, self.bucket, self.prefix, self.stop_at_slash = tx, bucket, prefix, stop_at_slash

    def keys(self, start: bytes) -> Iterator[tuple[bytes, _Row | None]]:
        """In byte order, from *start* (inclusive)."""
        stack = self._seek(start)
        while stack:
            path, rows = stack[-1]
            row = next(rows, None)
            if row is None:
                stack.pop()
                continue
            key = path + row[0]
            if not key.endswith(b"/"):
                yield key, row if stat.S_ISREG(row[2]) else None
                continue
            _, ino, _, explicit, live, body, *_ = row
            if not (explicit or live):
                continue
            elif self._rolls_up(key):
                yield key, None
            else:
                if live:
                    stack.append((key, self._rows(ino, key, b"", inclusive=True)))
                if not explicit:
                    yield key, None
                else:
                    yield key, self._body(body) if body is not None else row

    def _seek(self, start: bytes) -> list[tuple[bytes, Iterator[_Row]]]:
        """A stack of directories, each standing at the first name from which keys are at or behind *start*."""
        stack = []
        directory, path = self.bucket, b""
        names = split(start) if start else [b""]
        for name in names[:-1]:
            below = child(self.tx, directory, name)
            rolled = self._rolls_up(path + name)
            inclusive = rolled and below is not None and self._any_from(start, path + name)
            stack.append((path, self._rows(directory, path, name, inclusive=inclusive)))
            if below is None or rolled:
                return stack
            directory, path = below, path + name
        stack.append((path, self._rows(directory, path, names[-1], inclusive=True)))
        return stack

    def _any_from(self, start: bytes, path: bytes) -> bool:
        """True if something at or behind *start* lies under *path*."""
        first = next(_Walk(self.tx, self.bucket, path, stop_at_slash=False).keys(start), None)
        return first is not None and first[0].startswith(path)

    def _rolls_up(self, path: bytes) -> bool:
        return self.stop_at_slash and path.startswith(self.prefix) and path != self.prefix

    def _rows(self, directory: InodeNo, path: bytes, name: bytes, *, inclusive: bool) -> Iterator[_Row]:
        """Entries of a directory in order of name, from one on, as far as the prefix reaches."""
        self.tx.see_directory(directory)
        rest = self.prefix[len(path) :].partition(b"/")[0] if self.prefix.startswith(path) else b""
        high = behind(rest) if rest else b"\xff"
        while True:
            rows = self.tx.all(_FROM if inclusive else _BEHIND, (directory, name, high, _ROWS))
            yield from rows
            if len(rows) < _ROWS:
                return
            name, inclusive = rows[-1][0], False

    def _body(self, ino: InodeNo) -> _Row:
        row = self.tx.one("select size, etag, modified_ns, object from inode where ino = ?", (ino,))
        assert row is not None
        return (b"", ino, stat.S_IFREG, 0, 0, None, *row)


def _listed(key: bytes, row: _Row) -> ListedObject:
    size, etag, modified_ns, column = row[-4:]
    text = unpack_etag(etag or EMPTY_MD5)
    if column is None:
        return ListedObject(key, size, text, modified_ns, "STANDARD")
    spec = unpack_spec(column)
    return ListedObject(key, size, text, modified_ns, spec.storage_class, spec.checksum)
