"""What a GET or a HEAD found under a key, kept until a transaction touches anything that the answer relied upon; and
buckets by name, alike.

Valid by no age: an entry is filed under every inode and name that its read has seen, and each commit says in the same
step what it touched, whichever door it came through. So does a swap, which changes no content and where the bytes lie.
An entry counts only when what it was read from is durable, and if nothing touched it until then.
"""

import sys
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from stratumfs.catalog.transaction import Seen, Touched
from stratumfs.ids import ROOT_INODE
from stratumfs.limits import KNOWN_BUCKETS_MAX, KNOWN_BYTES_MAX, KNOWN_OBJECTS_MAX, KNOWN_ROWS_MAX
from stratumfs.values import BucketInfo, Extent, ObjectInfo

Key = tuple[str, bytes]
"""Bucket, key."""


@dataclass(slots=True, eq=False)
class Found:
    """An object as it is now, with the first of its extents, and what was looked at to find it. durable: it counts;
    bytes: of memory, besides what every one takes."""

    key: Key
    info: ObjectInfo
    head: list[Extent]
    seen: Seen
    durable: bool = False
    bytes: int = field(init=False)

    def __post_init__(self) -> None:
        spec = self.info.spec
        texts = [str(spec.content_type)]
        for said in (spec.headers, spec.metadata):
            texts += (*said, *said.values())
        data = sum(len(each.data or b"") for each in self.head)
        self.bytes = data + len(self.key[1]) + sum(map(sys.getsizeof, texts))


class KnownObjects:
    """Bounded by number and by the bytes of keys, metadata and extents; those not asked for longest go first. On the
    loop."""

    def __init__(self) -> None:
        self._found: OrderedDict[Key, Found] = OrderedDict()
        self._filed: dict[Hashable, set[Key]] = {}
        self._bytes = 0
        self.hits = self.misses = 0

    def get(self, key: Key) -> Found | None:
        found = self._found.get(key)
        if found is None or not found.durable:
            self.misses += 1
            return None
        self.hits += 1
        self._found.move_to_end(key)
        return found

    def add(self, found: Found) -> None:
        """In the same step in which it was read. Its reader sets ``durable`` when it is; until then nobody gets it."""
        self._drop(found.key)
        long = max(len(found.head), len(found.info.part_sizes), len(found.seen.names)) > KNOWN_ROWS_MAX
        if long or found.bytes > KNOWN_BYTES_MAX // 8 or found.seen.directories:
            return
        self._found[found.key] = found
        self._bytes += found.bytes
        for place in _places(found.seen.inodes, found.seen.names):
            self._filed.setdefault(place, set()).add(found.key)
        while len(self._found) > KNOWN_OBJECTS_MAX or self._bytes > KNOWN_BYTES_MAX:
            self._drop(next(iter(self._found)))

    def heed(self, touched: Touched | None) -> None:
        """A transaction was committed; None: the database is another one."""
        if touched is None:
            self._found.clear()
            self._filed.clear()
            self._bytes = 0
        elif self._filed:
            for place in _places(touched.inodes, touched.names, touched.moved):
                for key in tuple(self._filed.get(place, ())):
                    self._drop(key)

    def _drop(self, key: Key) -> None:
        found = self._found.pop(key, None)
        if found is None:
            return
        self._bytes -= found.bytes
        for place in _places(found.seen.inodes, found.seen.names):
            filed = self._filed[place]
            filed.discard(key)
            if not filed:
                del self._filed[place]


class KnownBuckets:
    """Which buckets there are, as far as somebody asked: each request does. On the loop."""

    def __init__(self) -> None:
        self._found: dict[str, BucketInfo] = {}
        self._durable: set[str] = set()

    def get(self, name: str) -> BucketInfo | None:
        return self._found[name] if name in self._durable else None

    def add(self, bucket: BucketInfo) -> None:
        """In the same step in which it was read; it counts from `settled` on."""
        if len(self._found) >= KNOWN_BUCKETS_MAX:
            self._clear()
        self._found[bucket.name] = bucket
        self._durable.discard(bucket.name)

    def settled(self, bucket: BucketInfo) -> None:
        """It is durable, if it is still what was added."""
        if self._found.get(bucket.name) is bucket:
            self._durable.add(bucket.name)

    def heed(self, touched: Touched | None) -> None:
        """A transaction was committed; None: the database is another one."""
        if touched is None or ROOT_INODE in [parent for parent, _ in touched.names]:
            self._clear()

    def _clear(self) -> None:
        self._found.clear()
        self._durable.clear()


def _places(*places: Iterable[Hashable]) -> Iterable[Hashable]:
    """Inodes are numbers, names are pairs: they never meet."""
    for each in places:
        yield from each
