"""Objects by bucket and key."""

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing

import trio

from stratumfs.catalog import buckets as catalog_buckets
from stratumfs.catalog.engine import Catalog, Transaction
from stratumfs.catalog.listing import behind, list_keys
from stratumfs.catalog.objects import check_read, delete_object, open_object, put_object, read_object
from stratumfs.catalog.placed import keep_restored, placed
from stratumfs.errors import RequestError
from stratumfs.ids import Buffer, InodeNo
from stratumfs.limits import TRANSACTION_ROWS_MAX
from stratumfs.store.committer import Committer
from stratumfs.store.content import Staging, shared
from stratumfs.store.holds import Holds
from stratumfs.store.known import Found, KnownBuckets, KnownObjects
from stratumfs.store.landing import Writers
from stratumfs.store.observer import Foreground
from stratumfs.store.reader import OpenContent, Reader
from stratumfs.store.writer import ByteSource, StripeStream, Writer
from stratumfs.values import (
    BucketInfo,
    Conditions,
    Deleted,
    Extent,
    ListedObject,
    Listing,
    ObjectInfo,
    ObjectSpec,
    ReadConditions,
    Written,
)

_LIST_BUDGET = 250
"""Rows that one transaction of a listing looks at."""
_DELETE_CHUNK = 20
"""Keys that one transaction of a batch delete removes."""
ToDelete = tuple[bytes, Conditions]


class ObjectReader:
    """One object that is open for reading: it keeps the bytes that it was opened with."""

    def __init__(self, info: ObjectInfo, content: OpenContent, reader: Reader, observer: Foreground) -> None:
        self.info = info
        self._content, self._reader, self._observer = content, reader, observer

    async def whole(self, start: int, stop: int) -> Buffer | None:
        """Bytes [start, stop), verified, if they are one chunk; None if they take several. Raises: as ``chunks``."""
        data = await self._reader.whole(self._content, start, stop)
        if data is not None:
            self._observer.read(self.info.ino, len(data), start)
        return data

    async def chunks(self, start: int, stop: int) -> AsyncIterator[Buffer]:
        """Bytes [start, stop), verified, in order, up to a stripe each.

        Raises: TooFewShards, CatalogCorrupt; WriteConflict if it has many extents and its file is rewritten meanwhile.
        """
        at = start
        try:
            async with aclosing(self._reader.chunks(self._content, start, stop)) as chunks:
                async for chunk in chunks:
                    self._observer.stir()
                    at += len(chunk)
                    yield chunk
        finally:
            if at > start:
                self._observer.read(self.info.ino, at - start, start)

    async def extents(self, start: int, stop: int) -> Sequence[Extent]:
        """Those that overlap [start, stop), in order. Raises: WriteConflict, as ``chunks``."""
        return await self._reader.extents(self._content, start, stop)


class ObjectWriter:
    """A body on its way to become an object: write, finish, check what the client said of it, commit."""

    def __init__(self, objects: "Objects", bucket: BucketInfo, stream: StripeStream) -> None:
        self._objects, self._bucket, self._stream = objects, bucket, stream
        self._written: Written | None = None

    async def write(self, data: Buffer) -> None:
        """Take more bytes; the buffer is the caller's again on return.

        Raises: StoreFull, DeviceFailed, StoreReadOnly.
        """
        await self._stream.write(data)

    async def fill(self, source: ByteSource, length: int) -> None:
        """Take all of *source*, which has up to *length* bytes, in place of writing. Raises: as ``write``."""
        await self._stream.fill(source, length)

    async def finish(self) -> Written:
        """No more bytes: all are on stable storage, or about to be inline."""
        self._written = await self._stream.finish()
        return self._written

    async def commit(self, key: bytes, spec: ObjectSpec, conditions: Conditions, now_ns: int) -> ObjectInfo:
        """Make it the object under *key*: durable, and seen by every door, on return. Raises: as ``put_object``."""
        assert self._written is not None, "finish comes before commit"
        staging = Staging(self._objects.catalog, self._objects.holds, now_ns)
        try:
            await staging.add(self._stream.extents)
            etag = self._written.md5.hex()
            new = await staging.new_object(key, spec, self._written.size, etag)
            self._objects.writer.inline.add(sum(len(each.data or b"") for each in new.extents))
            info = await self._objects.committer.commit(put_object, self._bucket.ino, key, new, conditions, now_ns)
        finally:
            staging.close()
        self._objects.observer.wrote(info.ino, info.size)
        return info


class Objects:
    """What S3's calls mean, without S3. *tiered*: the store has several tiers by now, and answers say where bytes
    are."""

    def __init__(
        self,
        committer: Committer,
        writer: Writer,
        reader: Reader,
        holds: Holds,
        observer: Foreground,
        *,
        landing: Writers | None = None,
        tiered: Callable[[], bool] = lambda: False,
    ) -> None:
        self.committer, self.writer, self.reader = committer, writer, reader
        self.catalog: Catalog = committer.catalog
        self.landing = landing or Writers({}, writer)
        self.holds, self.observer, self.tiered = holds, observer, tiered
        self.known, self._buckets = KnownObjects(), KnownBuckets()
        self.catalog.listen(self.known.heed)
        self.catalog.listen(self._buckets.heed)

    async def buckets(self) -> list[BucketInfo]:
        return await self.committer.read(catalog_buckets.buckets)

    async def bucket(self, name: str) -> BucketInfo:
        """Raises: NoSuchBucket."""
        found = self._buckets.get(name) if self.catalog.steady else None
        if found is None:
            found = await self.committer.read(catalog_buckets.bucket, name, at_once=self._buckets.add)
            self._buckets.settled(found)
        return found

    async def create_bucket(self, name: str, now_ns: int) -> BucketInfo:
        """Raises: InvalidBucketName, BucketExists."""
        self.writer.check_writable()
        ino, cookie = await self.catalog.ids.inodes(), await self.catalog.ids.cookies()
        return await self.committer.commit(catalog_buckets.create_bucket, name, ino, cookie, now_ns)

    async def delete_bucket(self, name: str) -> None:
        """Raises: NoSuchBucket, BucketNotEmpty."""
        self.writer.check_writable()
        await self.committer.commit(catalog_buckets.delete_bucket, name, time.time_ns())

    async def info(self, bucket: str, key: bytes, conditions: ReadConditions | None = None) -> ObjectInfo:
        """Raises: NoSuchBucket, NoSuchObject, PreconditionFailed, NotModified."""
        found = self.known.get((bucket, key)) if self.catalog.steady else None
        if found is None:
            return await self.committer.read(_read_in_bucket, bucket, key, conditions, self.tiered())
        if conditions is not None:
            check_read(found.info, conditions)
        return found.info

    def open(self, bucket: str, key: bytes, conditions: ReadConditions | None = None) -> "_Opened":
        """To be entered. Raises: as ``info``."""
        return _Opened(self, bucket, key, conditions)

    async def keep_restored(self, bucket: str, key: bytes, until_ns: int) -> ObjectInfo:
        """Note until when somebody wants to have an object at hand; as it is then. Raises: NoSuchBucket, NoSuchObject,
        StoreReadOnly."""
        self.writer.check_writable()
        return await self.committer.commit(_keep_restored, bucket, key, until_ns)

    def put(self, bucket: str, key: bytes | None = None, spec: ObjectSpec | None = None, length: int = 0) -> "_Writing":
        """To be entered. *key*, *spec*, *length*: of the object that it is to become, as far as they are known: its
        bytes are written where those say, and must fit. Raises: NoSuchBucket, StoreReadOnly, StoreFull."""
        return _Writing(self, bucket, key, spec, length)

    async def delete(self, bucket: str, key: bytes, conditions: Conditions, now_ns: int) -> bool:
        """False if there was nothing. Raises: NoSuchBucket, NoSuchObject, PreconditionFailed."""
        self.writer.check_writable()
        return await self.committer.commit(_delete_in_bucket, bucket, key, conditions, now_ns)

    async def delete_many(self, bucket: str, keys: Sequence[ToDelete], now_ns: int) -> list[Deleted]:
        """Each key by itself, in order: one that fails leaves the others. Raises: NoSuchBucket."""
        self.writer.check_writable()
        await self.bucket(bucket)
        deleted: list[Deleted] = []
        for chunk in chunks_to_delete(keys):
            deleted += await self.committer.commit(_delete_chunk, bucket, chunk, now_ns)
        return deleted

    async def copy(
        self,
        source_bucket: str,
        source_key: bytes,
        source_conditions: ReadConditions | None,
        bucket: str,
        key: bytes,
        spec: ObjectSpec,
        conditions: Conditions,
        now_ns: int,
    ) -> ObjectInfo:
        """Share the source's bytes under another (or the same) bucket and key.

        Raises: as ``open`` for the source, as ``put_object`` for the target.
        """
        self.writer.check_writable()
        async with self.open(source_bucket, source_key, source_conditions) as reader:
            old = reader.info
            place = await self.catalog.read(catalog_buckets.bucket, bucket)
            staging = Staging(self.catalog, self.holds, now_ns)
            try:
                await staging.add(shared(await reader.extents(0, old.size), 0, old.size, 0))
                new = await staging.new_object(key, spec, old.size, old.etag, old.part_sizes)
                return await self.committer.commit(put_object, place.ino, key, new, conditions, now_ns)
            finally:
                staging.close()

    async def list(
        self, bucket: str, prefix: bytes = b"", delimiter: bytes = b"", after: bytes = b"", limit: int = 1000
    ) -> Listing:
        """A page of keys behind *after*; a common prefix as *after* skips all that it stands for.

        Raises: NoSuchBucket.
        """
        place = await self.bucket(bucket)
        rolled = bool(delimiter) and after.startswith(prefix) and delimiter in after[len(prefix) :]
        skips = rolled and after.endswith(delimiter)
        start = behind(after) if skips else after + b"\x00" if after else b""
        objects: list[ListedObject] = []
        prefixes: list[bytes] = []
        while limit > 0:
            page = await self.committer.read(
                list_keys, place.ino, prefix, delimiter, start, limit, _LIST_BUDGET, self.tiered()
            )
            objects += page.objects
            prefixes += page.prefixes
            limit -= len(page.objects) + len(page.prefixes)
            if page.resume is None:
                return Listing(tuple(objects), tuple(prefixes), None)
            start = page.resume
            await trio.lowlevel.checkpoint()
        last = max([*(each.key for each in objects[-1:]), *prefixes[-1:]], default=None)
        return Listing(tuple(objects), tuple(prefixes), last)


def _read_in_bucket(
    tx: Transaction, bucket: str, key: bytes, conditions: ReadConditions | None, tiered: bool
) -> ObjectInfo:
    info = read_object(tx, catalog_buckets.bucket(tx, bucket).ino, key, conditions)
    return placed(tx, info) if tiered else info


def _keep_restored(tx: Transaction, bucket: str, key: bytes, until_ns: int) -> ObjectInfo:
    info = read_object(tx, catalog_buckets.bucket(tx, bucket).ino, key, None)
    keep_restored(tx, info.ino, until_ns)
    return placed(tx, info)


class _Opened(AbstractAsyncContextManager[ObjectReader]):
    """Holds an object open while it is entered. By hand: contexts made of generators cost a tenth of a small GET."""

    __slots__ = ("_args", "_content", "_kept", "_objects")

    def __init__(self, objects: Objects, bucket: str, key: bytes, conditions: ReadConditions | None) -> None:
        self._objects, self._args = objects, (bucket, key, conditions)
        self._content: OpenContent | None = None
        self._kept: object = None

    async def __aenter__(self) -> ObjectReader:
        objects, (bucket, key, conditions) = self._objects, self._args
        found = objects.known.get((bucket, key)) if objects.catalog.steady else None
        if found is None:
            try:
                found = await objects.committer.read(_open_in_bucket, *self._args, objects.tiered(), at_once=self._keep)
            except BaseException:
                self._let_go()
                raise
            found.durable = True
        else:
            if conditions is not None:
                check_read(found.info, conditions)
            self._hold(found)
        assert self._content is not None
        return ObjectReader(found.info, self._content, objects.reader, objects.observer)

    async def __aexit__(self, *_: object) -> None:
        self._let_go()

    def _keep(self, found: Found) -> None:
        self._hold(found)
        self._objects.known.add(found)

    def _hold(self, found: Found) -> None:
        """Before any await: what was read can be neither reaped nor freed in between."""
        self._content = OpenContent(found.info, found.head)
        self._objects.holds.take(self._content.ino)
        self._kept = self._objects.reader.keep(self._content.volumes)

    def _let_go(self) -> None:
        content, self._content = self._content, None
        if content is not None:
            self._objects.reader.let_go(self._kept)
            self._objects.holds.drop(content.ino)


class _Writing(AbstractAsyncContextManager[ObjectWriter]):
    """Keeps what a writer has written, as long as it is entered. By hand, as the other one."""

    __slots__ = ("_bucket", "_key", "_length", "_objects", "_spec", "_stream")

    def __init__(self, objects: Objects, bucket: str, key: bytes | None, spec: ObjectSpec | None, length: int) -> None:
        self._objects, self._bucket, self._key, self._spec, self._length = objects, bucket, key, spec, length

    async def __aenter__(self) -> ObjectWriter:
        writer = self._objects.writer
        writer.check_writable()
        place = await self._objects.bucket(self._bucket)
        if self._key is not None and self._spec is not None:
            writer = await self._objects.landing.of_object(place.ino, self._key, self._spec, self._length)
        writer.admit(self._length)
        self._stream = writer.stream().__enter__()
        return ObjectWriter(self._objects, place, self._stream)

    async def __aexit__(self, *error: object) -> None:
        self._stream.__exit__(*error)


def _open_in_bucket(tx: Transaction, bucket: str, key: bytes, conditions: ReadConditions | None, tiered: bool) -> Found:
    info, head = open_object(tx, catalog_buckets.bucket(tx, bucket).ino, key, conditions)
    info = placed(tx, info) if tiered else info
    return Found((bucket, key), info, head, tx.seen())


def _delete_in_bucket(tx: Transaction, bucket: str, key: bytes, conditions: Conditions, now_ns: int) -> bool:
    return delete_object(tx, catalog_buckets.bucket(tx, bucket).ino, key, conditions, now_ns)


def chunks_to_delete(keys: Sequence[ToDelete]) -> Iterator[tuple[ToDelete, ...]]:
    """What one transaction deletes: up to 20 keys, fewer where they are deep, for every name on the way may go."""
    chunk: list[ToDelete] = []
    names = 0
    for each in keys:
        depth = each[0].count(b"/") + 1
        if chunk and (len(chunk) == _DELETE_CHUNK or names + depth > TRANSACTION_ROWS_MAX):
            yield tuple(chunk)
            chunk, names = [], 0
        chunk.append(each)
        names += depth
    if chunk:
        yield tuple(chunk)


def _delete_chunk(tx: Transaction, bucket: str, keys: tuple[ToDelete, ...], now_ns: int) -> list[Deleted]:
    ino: InodeNo = catalog_buckets.bucket(tx, bucket).ino
    deleted = []
    for key, conditions in keys:
        try:
            delete_object(tx, ino, key, conditions, now_ns)
            deleted.append(Deleted(key))
        except RequestError as error:  # raised before anything was changed for this key
            deleted.append(Deleted(key, error))
    return deleted
