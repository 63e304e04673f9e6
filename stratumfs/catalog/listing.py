"""A bucket's keys in S3's byte order: a walk down the tree by names, in bounded chunks."""

import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import itemgetter
from typing import Any, NamedTuple

from stratumfs.catalog.placed import slowest_tier
from stratumfs.catalog.records import EMPTY_MD5, MD5_BYTES, NOTHING_LISTED, unpack_etag, unpack_listed
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.tree import child, split
from stratumfs.ids import InodeNo
from stratumfs.values import Checksum, ListedObject

_Row = tuple[Any, ...]
_ROWS_MIN, _ROWS_MAX = 16, 1024
"""Rows that one query fetches: as many as the page has keys, and one that says where it ends; then twice as many."""
_SIDE_BY_SIDE = 4
"""So many files beside one another cost as much as one step of the walk."""
_FILE, _EXPLICIT, _LIVE, _DIRECTORY, _OTHER, _BODY = 0, 1, 2, 4, 8, 16
_KIND = (
    f"case i.mode & {stat.S_IFMT(0xFFFF)} when {stat.S_IFREG} then {_FILE}"
    f" when {stat.S_IFDIR} then {_DIRECTORY} + i.explicit * {_EXPLICIT}"
    f" + case when i.live > 0 then {_LIVE} else 0 end + case when i.body is null then 0 else {_BODY} end"
    f" else {_OTHER} end"
)
"""What a row is, in one number: for all but directories one column is as good as four, and costs less."""
_SELECT = (
    f"select e.name, e.inode, {_KIND}, i.size, i.etag, i.modified_ns, i.object"  # noqa: S608 - our own columns
    " from entry e join inode i on i.ino = e.inode where e.parent = ? and e.name"
)
_INODE_OF, _KIND_OF = itemgetter(1), itemgetter(2)
_FROM = f"{_SELECT} >= ? and e.name < ? order by e.name limit ?"
_BEHIND = f"{_SELECT} > ? and e.name < ? order by e.name limit ?"


@dataclass(frozen=True, slots=True)
class Page:
    """A chunk of a listing. resume: the first key that was not looked at; None at the end."""

    objects: list[ListedObject]
    prefixes: list[bytes]
    resume: bytes | None


def list_keys(
    tx: Transaction,
    bucket: InodeNo,
    prefix: bytes,
    delimiter: bytes,
    start: bytes,
    limit: int,
    budget: int,
    tiered: bool = False,
) -> Page:
    """Keys at or behind *start* under *prefix*; those with *delimiter* behind the prefix roll up into one.

    Stops after *limit* keys and prefixes, or after looking at *budget* rows; of files beside one another, at four times
    as many, but where the store is *tiered*: there the tier of each is looked up.
    """
    objects: list[ListedObject] = []
    prefixes: list[bytes] = []
    seen, together = tx.inodes_seen, 1 if tiered else _SIDE_BY_SIDE
    start = max(start, prefix)
    walk = _Walk(tx, bucket, prefix, delimiter, limit + 1)
    while True:
        for key, row, files in walk.steps(start):
            if files:
                count = min(len(files), limit, budget * together)
                taken = files if count == len(files) else files[:count]
                objects += _listed(tx, key, taken, tiered)
                seen.update(map(_INODE_OF, taken))
                if count < len(files):
                    return Page(objects, prefixes, key + files[count][0])
                limit, budget = limit - count, budget - -(-count // together)
                continue
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
                objects += _listed(tx, key, [(b"", *row[1:])], tiered)
        else:
            return Page(objects, prefixes, None)


def behind(prefix: bytes) -> bytes:
    """The first byte string behind all that begin with *prefix* (UTF-8 has no byte 0xff)."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


class _Step(NamedTuple):
    """A key and the row of what it names; or, if there are *files*, these, side by side below the path *key*.

    A row of None stands for a directory that is not entered, or for something that is no object and counts against the
    budget alone: a link, a directory that is only implied.
    """

    key: bytes
    row: _Row | None
    files: Sequence[_Row] = ()


class _Rows:
    """Entries of a directory in order of name, from one on and up to *high*."""

    def __init__(
        self, tx: Transaction, directory: InodeNo, name: bytes, high: bytes, count: int, *, inclusive: bool
    ) -> None:
        """count: how many are likely to be wanted."""
        self._tx, self._directory, self._name, self._high, self._inclusive = tx, directory, name, high, inclusive
        self._count = min(max(count, _ROWS_MIN), _ROWS_MAX)
        self._chunk: list[_Row] = []
        self._at = 0
        self._last = False

    def next(self) -> _Row | None:
        if not self._fetch():
            return None
        self._at += 1
        return self._chunk[self._at - 1]

    def files(self) -> Sequence[_Row]:
        """The regular files that come next, as many of them as are here; perhaps none."""
        if not self._fetch():
            return ()
        rest = self._chunk[self._at :] if self._at else self._chunk
        kinds = list(map(_KIND_OF, rest))
        count = next((at for at, kind in enumerate(kinds) if kind != _FILE), 0) if any(kinds) else len(rest)
        self._at += count
        return rest[:count] if count < len(rest) else rest

    def _fetch(self) -> bool:
        """False at the end."""
        if self._at == len(self._chunk) and not self._last:
            sql = _FROM if self._inclusive else _BEHIND
            self._chunk = self._tx.all(sql, (self._directory, self._name, self._high, self._count))
            self._at = 0
            self._last = len(self._chunk) < self._count
            self._count = min(2 * self._count, _ROWS_MAX)
            if self._chunk:
                self._name, self._inclusive = self._chunk[-1][0], False
        return self._at < len(self._chunk)


class _Walk:
    """Keys of a bucket from a start on, with the rows of what they name.

    With a slash as the delimiter a directory below the prefix is one key and is not entered. With that, or with none,
    files below the prefix come many at once: none of their names rolls up. The stack is a list, for keys can be deep.
    """

    def __init__(self, tx: Transaction, bucket: InodeNo, prefix: bytes, delimiter: bytes, count: int) -> None:
        """count: how many keys are likely to be wanted, where none of them stands for those behind it."""
        self.tx, self.bucket, self.prefix = tx, bucket, prefix
        self.stop_at_slash = delimiter == b"/"
        self.together = delimiter in (b"", b"/")
        self._count = count if self.together else 1

    def steps(self, start: bytes) -> Iterator[_Step]:
        """In byte order, from *start* (inclusive)."""
        stack = self._seek(start)
        while stack:
            path, rows = stack[-1]
            if self.together and path.startswith(self.prefix) and (files := rows.files()):
                yield _Step(path, None, files)
                continue
            row = rows.next()
            if row is None:
                stack.pop()
                continue
            key = path + row[0]
            kind = row[2]
            if not kind & _DIRECTORY:
                yield _Step(key, row if kind == _FILE else None)
            elif not kind & (_EXPLICIT | _LIVE):
                continue
            elif self._rolls_up(key):
                yield _Step(key, None)
            else:
                if kind & _LIVE:
                    stack.append((key, self._rows(row[1], key, b"", inclusive=True)))
                if not kind & _EXPLICIT:
                    yield _Step(key, None)
                else:
                    yield _Step(key, self._body(row[1]) if kind & _BODY else row)

    def _seek(self, start: bytes) -> list[tuple[bytes, _Rows]]:
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
        first = next(_Walk(self.tx, self.bucket, path, b"", 1).steps(start), None)
        return first is not None and first.key.startswith(path)

    def _rolls_up(self, path: bytes) -> bool:
        return self.stop_at_slash and path.startswith(self.prefix) and path != self.prefix

    def _rows(self, directory: InodeNo, path: bytes, name: bytes, *, inclusive: bool) -> _Rows:
        """Entries of a directory in order of name, from one on, as far as the prefix reaches."""
        self.tx.see_directory(directory)
        rest = self.prefix[len(path) :].partition(b"/")[0] if self.prefix.startswith(path) else b""
        high = behind(rest) if rest else b"\xff"
        return _Rows(self.tx, directory, name, high, self._count, inclusive=inclusive)

    def _body(self, directory: InodeNo) -> _Row:
        sql = "select b.ino, b.size, b.etag, b.modified_ns, b.object from inode d join inode b on b.ino = d.body"
        row = self.tx.one(f"{sql} where d.ino = ?", (directory,))
        assert row is not None
        return (b"", row[0], _FILE, *row[1:])


def _listed(tx: Transaction, path: bytes, rows: Sequence[_Row], tiered: bool) -> list[ListedObject]:
    """Objects of *rows* below a path. A page has a thousand: where it can be, no step of Python is for one of them."""
    if not rows:
        return []
    names, inos, _, sizes, etags, modified_ns, columns = zip(*rows, strict=True)
    keys = [path + name for name in names] if path else names
    tiers = [slowest_tier(tx, ino) for ino in inos] if tiered else repeat("")
    items = zip(keys, sizes, _etags(etags), modified_ns, *_said(columns), tiers)  # noqa: B905 - some have no end
    return list(map(tuple.__new__, repeat(ListedObject), items))  # as ListedObject's own, which is a function of Python


def _etags(columns: Sequence[bytes | None]) -> list[str]:
    etags = [column or EMPTY_MD5 for column in columns]
    if set(map(len, etags)) == {MD5_BYTES}:
        return b"".join(etags).hex("/", MD5_BYTES).split("/")
    return list(map(unpack_etag, etags))


def _said(columns: Sequence[bytes | None]) -> tuple[Iterable[str], Iterable[Checksum | None]]:
    """Storage classes and checksums."""
    if not any(columns):
        return repeat(NOTHING_LISTED[0]), repeat(NOTHING_LISTED[1])
    said = [unpack_listed(column) if column is not None else NOTHING_LISTED for column in columns]
    return [each[0] for each in said], [each[1] for each in said]
