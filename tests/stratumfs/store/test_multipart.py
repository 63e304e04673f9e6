"""Uploads in parts, on a real store."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from stratumfs.catalog.reap import usage
from stratumfs.errors import (
    InvalidPart,
    InvalidPartOrder,
    NoSuchObject,
    NoSuchUpload,
    PartTooSmall,
    PreconditionFailed,
)
from stratumfs.ids import UploadId
from stratumfs.store.store import Store
from stratumfs.values import CompletedPart, Conditions, ObjectSpec, PartInfo
from tests.stratumfs.store.helpers import ANY, MIB, bucket, get, put

KEY = b"big/object"


async def begin(store: Store, key: bytes = KEY) -> UploadId:
    spec = ObjectSpec(content_type="text/plain")
    return (await store.uploads.create("bucket", key, spec, None, False, time.time_ns())).id


async def part(store: Store, ident: UploadId, number: int, data: bytes) -> PartInfo:
    async with store.uploads.part("bucket", KEY, ident) as writer:
        await writer.write(data)
        await writer.finish()
        return await writer.commit(number, None, time.time_ns())


async def complete(store: Store, ident: UploadId, parts: list[PartInfo], conditions: Conditions = ANY) -> str:
    listed = [CompletedPart(each.number, each.etag) for each in parts]
    info = await store.uploads.complete("bucket", KEY, ident, listed, None, conditions, time.time_ns())
    return info.etag


async def test_parts_become_one_object_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    pieces = [os.urandom(5 * MIB), os.urandom(6 * MIB + 17), b"tail"]
    async with bucket(tmp_path) as store:
        ident = await begin(store)
        parts = [await part(store, ident, n, pieces[n - 1]) for n in (3, 1, 2)]
        with pytest.raises(NoSuchObject):
            await get(store, KEY)
        etag = await complete(store, ident, sorted(parts, key=lambda each: each.number))
        digests = b"".join(hashlib.md5(each).digest() for each in pieces)
        assert etag == f"{hashlib.md5(digests).hexdigest()}-3"
        assert await get(store, KEY) == b"".join(pieces)
        info = await store.objects.info("bucket", KEY)
        assert info.part_sizes == tuple(map(len, pieces))
        assert info.spec.content_type == "text/plain"
    async with bucket(tmp_path) as store:
        assert await get(store, KEY) == b"".join(pieces)


async def test_a_repeated_completion_gets_the_same_answer(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        ident = await begin(store)
        one = await part(store, ident, 1, b"x")
        etag = await complete(store, ident, [one])
        assert await complete(store, ident, [one]) == etag
        await put(store, KEY, b"newer")
        with pytest.raises(NoSuchUpload):
            await complete(store, ident, [one])
        assert await get(store, KEY) == b"newer"


async def test_what_a_completion_refuses_changes_nothing(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        ident = await begin(store)
        one, two = await part(store, ident, 1, b"short"), await part(store, ident, 2, b"last")
        with pytest.raises(PartTooSmall):
            await complete(store, ident, [one, two])
        with pytest.raises(InvalidPartOrder):
            await complete(store, ident, [two, one])
        with pytest.raises(InvalidPart):
            await complete(store, ident, [])
        with pytest.raises(InvalidPart):
            await complete(store, ident, [PartInfo(1, 5, "00" * 16, 0, None)])
        await put(store, KEY, b"there")
        with pytest.raises(PreconditionFailed):
            await complete(store, ident, [two], Conditions(if_none_match=("*",)))
        assert await get(store, KEY) == b"there"
        assert [each.number for each in (await store.uploads.parts("bucket", KEY, ident))[0]] == [1, 2]


async def test_a_part_that_is_uploaded_again_replaces_the_first(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        ident = await begin(store)
        await part(store, ident, 1, os.urandom(MIB))
        again = await part(store, ident, 1, b"second")
        await complete(store, ident, [again])
        assert await get(store, KEY) == b"second"


async def test_an_abort_leaves_nothing_behind(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        before = await store.catalog.read(usage)
        ident = await begin(store)
        await part(store, ident, 1, os.urandom(2 * MIB))
        await store.uploads.abort("bucket", KEY, ident)
        with pytest.raises(NoSuchUpload):
            await part(store, ident, 2, b"late")
        assert (await store.uploads.list("bucket")).uploads == ()
        await store.maintenance.round()
        assert await store.catalog.read(usage) == before


async def test_a_copied_part_shares_its_bytes(tmp_path: Path) -> None:
    data = os.urandom(12 * MIB)
    async with bucket(tmp_path) as store:
        await put(store, b"source", data)
        ident = await begin(store)
        place = ("bucket", KEY, ident)
        one = await store.uploads.copy_part(*place, 1, "bucket", b"source", None, MIB, 7 * MIB + 5, time.time_ns())
        two = await store.uploads.copy_part(*place, 2, "bucket", b"source", None, 0, 3, time.time_ns())
        await complete(store, ident, [one, two])
        await store.objects.delete("bucket", b"source", ANY, time.time_ns())
        await store.maintenance.round()
        assert await get(store, KEY) == data[MIB : 7 * MIB + 5] + data[:3]


async def test_uploads_are_listed_by_key_and_id_in_pages(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        made = sorted([(key, await begin(store, key)) for key in (b"a", b"a", b"b/1", b"b/2", b"c")])
        found: list[tuple[bytes, UploadId]] = []
        after = (b"", b"")
        while True:
            page = await store.uploads.list("bucket", key_after=after[0], id_after=after[1], limit=2)
            found += [(each.key, each.id) for each in page.uploads]
            if page.next_after is None:
                break
            after = page.next_after
        assert found == made
        rolled = await store.uploads.list("bucket", delimiter=b"/", limit=10)
        assert [each.key for each in rolled.uploads] == [b"a", b"a", b"c"]
        assert rolled.prefixes == (b"b/",)
        under = await store.uploads.list("bucket", prefix=b"b/")
        assert [each.key for each in under.uploads] == [b"b/1", b"b/2"]


async def test_a_copy_of_an_object_in_parts_keeps_its_etag_and_its_parts(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        ident = await begin(store)
        parts = [await part(store, ident, 1, os.urandom(5 * MIB)), await part(store, ident, 2, b"tail")]
        etag = await complete(store, ident, parts)
        await store.objects.copy("bucket", KEY, None, "bucket", b"copy", ObjectSpec(), ANY, time.time_ns())
        info = await store.objects.info("bucket", b"copy")
        assert (info.etag, info.part_sizes) == (etag, (5 * MIB, 4))
        assert await get(store, b"copy") == await get(store, KEY)
