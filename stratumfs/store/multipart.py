"""Uploads in parts: parts are written like objects and stay invisible; completion shares their extents with one new
inode and switches the name to it in one row."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import md5
from itertools import pairwise

import trio

from stratumfs.catalog import buckets as catalog_buckets
from stratumfs.catalog import uploads as catalog_uploads
from stratumfs.catalog.engine import Catalog, Transaction
from stratumfs.catalog.listing import behind
from stratumfs.catalog.objects import object_at
from stratumfs.errors import InvalidPart, InvalidPartOrder, NoSuchUpload, PartTooSmall
from stratumfs.ids import Buffer, InodeNo, UploadId, VolumeId, random_id
from stratumfs.limits import PART_MIN, TRANSACTION_ROWS_MAX
from stratumfs.store.content import Staging, shared
from stratumfs.store.objects import Objects
from stratumfs.store.writer import ByteSource, StripeStream
from stratumfs.values import (
    BucketInfo,
    Checksum,
    CompletedPart,
    Conditions,
    NewExtent,
    ObjectInfo,
    ObjectSpec,
    PartInfo,
    ReadConditions,
    UploadInfo,
    UploadListing,
    Written,
)

_LIST_CHUNK = 250


class PartWriter:
    """One part: write, finish, check what the client said of it, commit."""

    def __init__(self, uploads: "Uploads", ident: UploadId, stream: StripeStream) -> None:
        self._uploads, self._ident, self._stream = uploads, ident, stream
        self._written: Written | None = None

    async def write(self, data: Buffer) -> None:
        """Raises: StoreFull, DeviceFailed, StoreReadOnly."""
        await self._stream.write(data)

    async def fill(self, source: ByteSource, length: int) -> None:
        """Take all of *source*, which has up to *length* bytes, in place of writing. Raises: as ``write``."""
        await self._stream.fill(source, length)

    async def finish(self) -> Written:
        self._written = await self._stream.finish()
        return self._written

    async def commit(self, number: int, checksum: Checksum | None, now_ns: int) -> PartInfo:
        """Durable on return. Raises: NoSuchUpload."""
        assert self._written is not None, "finish comes before commit"
        part = PartInfo(number, self._written.size, self._written.md5.hex(), now_ns, checksum)
        await self._uploads.put_part(self._ident, part, self._stream.extents, now_ns)
        return part


class Uploads:
    """What the multipart calls mean, without S3."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self._catalog, self._committer = objects.catalog, objects.committer

    async def create(
        self,
        bucket: str,
        key: bytes,
        spec: ObjectSpec,
        checksum_algorithm: str | None,
        composite: bool,
        now_ns: int,
    ) -> UploadInfo:
        """Raises: NoSuchBucket, StoreReadOnly."""
        self.objects.writer.check_writable()
        place = await self.objects.bucket(bucket)
        info = UploadInfo(UploadId(random_id()), key, now_ns, spec, checksum_algorithm, composite)
        await self._committer.commit(catalog_uploads.create_upload, place.ino, info.id, key, info, now_ns)
        return info

    async def get(self, bucket: str, key: bytes, ident: UploadId) -> UploadInfo:
        """Raises: NoSuchBucket, NoSuchUpload."""
        return await self._committer.read(_upload_in_bucket, bucket, key, ident)

    @asynccontextmanager
    async def part(self, bucket: str, key: bytes, ident: UploadId, length: int = 0) -> AsyncIterator[PartWriter]:
        """*length*: as of `Objects.put`. Raises: NoSuchBucket, NoSuchUpload, StoreReadOnly, StoreFull."""
        self.objects.writer.check_writable()
        info = await self.get(bucket, key, ident)
        place = await self.objects.bucket(bucket)
        writer = await self.objects.landing.of_object(place.ino, key, info.spec, length)
        writer.admit(length)
        with writer.stream() as stream:
            yield PartWriter(self, ident, stream)

    async def copy_part(
        self,
        bucket: str,
        key: bytes,
        ident: UploadId,
        number: int,
        source_bucket: str,
        source_key: bytes,
        source_conditions: ReadConditions | None,
        start: int,
        stop: int,
        now_ns: int,
    ) -> PartInfo:
        """A part that shares bytes [start, stop) of an object. Its ETag is opaque unless the object is taken whole."""
        self.objects.writer.check_writable()
        await self.get(bucket, key, ident)
        async with self.objects.open(source_bucket, source_key, source_conditions) as reader:
            info = reader.info
            extents = shared(await reader.extents(start, stop), start, stop, -start)
            whole = (start, stop) == (0, info.size) and "-" not in info.etag
            part = PartInfo(number, stop - start, info.etag if whole else random_id().hex(), now_ns, None)
            await self.put_part(ident, part, extents, now_ns)
        return part

    async def put_part(self, ident: UploadId, part: PartInfo, extents: Sequence[NewExtent], now_ns: int) -> None:
        """Raises: NoSuchUpload."""
        staging = Staging(self._catalog, self.objects.holds, now_ns)
        try:
            await staging.add(extents)
            last = await staging.rest()
            ino = await staging.inode()
            first = await self._catalog.ids.extents(max(1, len(last)))
            await self._committer.commit(
                catalog_uploads.put_part, ident, part, ino, last, first, now_ns, staging.staged
            )
        finally:
            staging.close()

    async def parts(
        self, bucket: str, key: bytes, ident: UploadId, after: int = 0, limit: int = 1000
    ) -> tuple[list[PartInfo], bool]:
        """A page of parts by number, and whether there are more. Raises: NoSuchBucket, NoSuchUpload."""
        await self.get(bucket, key, ident)
        found = await self._committer.read(catalog_uploads.parts, ident, after, limit + 1)
        return found[:limit], len(found) > limit

    async def list(
        self,
        bucket: str,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        key_after: bytes = b"",
        id_after: bytes = b"",
        limit: int = 1000,
    ) -> UploadListing:
        """A page of unfinished uploads behind (key_after, id_after); without an id, behind the whole key."""
        place = await self.objects.bucket(bucket)
        if limit <= 0:
            return UploadListing((), (), None)
        found: list[UploadInfo] = []
        prefixes: list[bytes] = []
        after = (key_after, id_after or b"\xff" * 17) if key_after else (b"", b"")
        start = prefix
        while True:
            chunk = await self._committer.read(catalog_uploads.uploads, place.ino, start, *after, _LIST_CHUNK)
            for upload in chunk:
                after = upload.key, upload.id
                if not upload.key.startswith(prefix):
                    return UploadListing(tuple(found), tuple(prefixes), None)
                cut = upload.key.find(delimiter, len(prefix)) if delimiter else -1
                common = upload.key[: cut + len(delimiter)] if cut >= 0 else None
                if common is not None and (common in prefixes[-1:] or key_after.startswith(common)):
                    continue
                if len(found) + len(prefixes) >= limit:
                    return UploadListing(tuple(found), tuple(prefixes), self._last(found, prefixes))
                if common is None:
                    found.append(upload)
                else:
                    prefixes.append(common)
                    start = behind(common)
                    break
            else:
                if len(chunk) < _LIST_CHUNK:
                    return UploadListing(tuple(found), tuple(prefixes), None)
            await trio.lowlevel.checkpoint()

    async def complete(
        self,
        bucket: str,
        key: bytes,
        ident: UploadId,
        parts: Sequence[CompletedPart],
        checksum: Checksum | None,
        conditions: Conditions,
        now_ns: int,
    ) -> ObjectInfo:
        """Make the listed parts one object. A repetition of a completion that was done gets the same answer.

        Raises: NoSuchUpload, InvalidPart, InvalidPartOrder, PartTooSmall, PreconditionFailed, NoSuchObject.
        """
        self.objects.writer.check_writable()
        place = await self.objects.bucket(bucket)
        done = await self._committer.read(_finished, place.ino, key, ident)
        if done is not None:
            return done
        upload = await self.get(bucket, key, ident)
        _check_order(parts)
        seen = await self._catalog.read(catalog_uploads.parts_state, ident)
        found = await _listed(self._catalog, ident, parts)
        _check_sizes(found)
        spec = upload.spec if checksum is None else upload.spec.with_checksum(checksum)
        info = await self._join(place, key, ident, found, seen, spec, conditions, now_ns)
        await self._drop_parts(ident, now_ns)
        return info

    async def abort(self, bucket: str, key: bytes, ident: UploadId) -> None:
        """Raises: NoSuchBucket, NoSuchUpload."""
        place = await self.objects.bucket(bucket)
        await self._committer.commit(catalog_uploads.abort_upload, place.ino, key, ident)
        await self._drop_parts(ident, time.time_ns())

    async def _join(
        self,
        place: BucketInfo,
        key: bytes,
        ident: UploadId,
        found: Sequence[tuple[InodeNo, PartInfo]],
        seen: tuple[int, ...],
        spec: ObjectSpec,
        conditions: Conditions,
        now_ns: int,
    ) -> ObjectInfo:
        digests = b"".join(bytes.fromhex(part.etag) for _, part in found)
        etag = f"{md5(digests, usedforsecurity=False).hexdigest()}-{len(found)}"
        staging = Staging(self._catalog, self.objects.holds, now_ns)
        offset = 0
        volumes: set[VolumeId] = set()
        try:
            with self.objects.reader.keeping(volumes):
                for ino, part in found:
                    with self.objects.holds.holding(ino):
                        found_in = await self.objects.reader.layout(ino, 0, part.size, volumes)
                        await staging.add(shared(found_in, 0, part.size, offset))
                    offset += part.size
                sizes = tuple(part.size for _, part in found)
                new = await staging.new_object(key, spec, offset, etag, sizes)
                return await self._committer.commit(
                    catalog_uploads.complete_upload, place.ino, key, ident, seen, new, conditions, now_ns
                )
        finally:
            staging.close()

    async def _drop_parts(self, ident: UploadId, now_ns: int) -> None:
        """Not a part of the answer's promise: the next owner goes on where this one stops."""
        while await self._catalog.write(catalog_uploads.drop_parts, ident, now_ns):
            await trio.lowlevel.checkpoint()

    @staticmethod
    def _last(found: Sequence[UploadInfo], prefixes: Sequence[bytes]) -> tuple[bytes, bytes]:
        last = max([*((each.key, each.id) for each in found[-1:]), *((each, b"") for each in prefixes[-1:])])
        return last[0], last[1]


def _upload_in_bucket(tx: Transaction, bucket: str, key: bytes, ident: UploadId) -> UploadInfo:
    return catalog_uploads.upload(tx, catalog_buckets.bucket(tx, bucket).ino, key, ident)


def _finished(tx: Transaction, bucket: InodeNo, key: bytes, ident: UploadId) -> ObjectInfo | None:
    """The object of a completion that was done, if it is still the one under the key."""
    ino = catalog_uploads.finished_upload(tx, bucket, key, ident)
    info = object_at(tx, bucket, key) if ino is not None else None
    if ino is not None and (info is None or info.ino != ino):
        raise NoSuchUpload("the upload was completed, and its object replaced since")
    return info


async def _listed(catalog: Catalog, ident: UploadId, parts: Sequence[CompletedPart]) -> list[tuple[InodeNo, PartInfo]]:
    """The parts that a client lists, all of them. Raises: InvalidPart."""
    found: list[tuple[InodeNo, PartInfo]] = []
    for start in range(0, len(parts), TRANSACTION_ROWS_MAX):
        chunk = tuple(parts[start : start + TRANSACTION_ROWS_MAX])
        found += await catalog.read(catalog_uploads.part_inodes, ident, chunk)
        await trio.lowlevel.checkpoint()
    return found


def _check_order(parts: Sequence[CompletedPart]) -> None:
    if not parts:
        raise InvalidPart("a completion lists at least one part")
    numbers = [part.number for part in parts]
    if any(low >= high for low, high in pairwise(numbers)):
        raise InvalidPartOrder("parts must be listed in ascending order, each once")


def _check_sizes(found: Sequence[tuple[InodeNo, PartInfo]]) -> None:
    for _, part in found[:-1]:
        if part.size < PART_MIN:
            raise PartTooSmall(f"part {part.number} has {part.size} bytes; all but the last need {PART_MIN}")
