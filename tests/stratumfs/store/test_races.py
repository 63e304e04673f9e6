"""What goes on at the same time: requests given up half way, files rewritten while an object of theirs is read."""

import os
import time
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from stratumfs.catalog.buckets import bucket as bucket_row
from stratumfs.catalog.objects import object_at
from stratumfs.errors import NoSuchObject, WriteConflict
from stratumfs.ids import InodeNo
from stratumfs.store.store import Store
from stratumfs.values import CompletedPart, Name, NewExtent, ObjectSpec, Publication
from tests.stratumfs.store.helpers import ANY, MIB, bucket, get


async def publish(store: Store, ino: InodeNo, data: bytes, piece: int = 1 << 20) -> None:
    """Make *data* the whole of a file, in inline extents of *piece* bytes, as a mount would after O_TRUNC."""
    extents = [
        NewExtent(at, len(data[at : at + piece]), data=data[at : at + piece]) for at in range(0, len(data), piece)
    ]
    await store.files.publish(ino, Publication(0, (), 0, 1), time.time_ns(), durable=False)
    for start in range(0, len(extents), 100):
        chunk = tuple(extents[start : start + 100])
        size = chunk[-1].offset + chunk[-1].length
        await store.files.publish(ino, Publication(None, chunk, size, 1), time.time_ns(), durable=False)


async def file_of(store: Store, name: bytes, data: bytes, piece: int = 1 << 20) -> InodeNo:
    place = (await store.objects.bucket("bucket")).ino
    ino = (await store.files.make(place, Name(name), 0o100644, 0, 0, time.time_ns())).ino
    await publish(store, ino, data, piece)
    return ino


async def top(store: Store) -> InodeNo:
    return (await store.catalog.read(bucket_row, "bucket")).ino


async def queued(store: Store) -> None:
    while not store.catalog.statistics().waiting:
        await trio.lowlevel.checkpoint()


async def test_a_copy_given_up_while_its_commit_waits_leaves_all_bytes_or_no_object(tmp_path: Path) -> None:
    data = os.urandom(2500)
    async with bucket(tmp_path) as store:
        await file_of(store, b"many", data, 10)
        await store.catalog.sync()
        async with store.catalog._rounds.turn:  # a disk that takes its time
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.objects.copy, "bucket", b"many", None, "bucket", b"copy", ObjectSpec(), ANY, 1)
                await queued(store)
                nursery.cancel_scope.cancel()
            await store.maintenance.reap()
        await store.catalog.sync()
        with suppress(NoSuchObject):
            assert await get(store, b"copy") == data


async def test_a_part_given_up_while_its_commit_waits_is_whole_or_missing(tmp_path: Path) -> None:
    data = os.urandom(2500)
    async with bucket(tmp_path) as store:
        await file_of(store, b"many", data, 10)
        ident = (await store.uploads.create("bucket", b"k", ObjectSpec(), None, False, 1)).id
        await store.catalog.sync()
        async with store.catalog._rounds.turn:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    store.uploads.copy_part, "bucket", b"k", ident, 1, "bucket", b"many", None, 0, len(data), 1
                )
                await queued(store)
                nursery.cancel_scope.cancel()
            await store.maintenance.reap()
        await store.catalog.sync()
        parts, _ = await store.uploads.parts("bucket", b"k", ident)
        if parts:
            listed = [CompletedPart(1, parts[0].etag)]
            await store.uploads.complete("bucket", b"k", ident, listed, None, ANY, 2)
            assert await get(store, b"k") == data


@pytest.mark.parametrize("size", [0, 7, 3 * MIB])
async def test_an_object_is_read_as_it_was_opened_though_its_file_is_rewritten(tmp_path: Path, size: int) -> None:
    old, new = os.urandom(2 * MIB + 5), os.urandom(size)
    async with bucket(tmp_path) as store:
        ino = await file_of(store, b"f", old)
        async with store.objects.open("bucket", b"f") as reader:
            await publish(store, ino, new)
            got = b"".join([bytes(chunk) async for chunk in reader.chunks(0, reader.info.size)])
            assert got == old
        assert await get(store, b"f") == new


async def test_a_long_object_whose_file_is_rewritten_while_it_is_read_ends_in_an_error(tmp_path: Path) -> None:
    old, new = os.urandom(3000), os.urandom(3000)
    async with bucket(tmp_path) as store:
        ino = await file_of(store, b"f", old, 10)
        async with store.objects.open("bucket", b"f") as reader:
            await publish(store, ino, new)
            chunks = reader.chunks(0, reader.info.size)
            got = [bytes(await anext(chunks)) for _ in range(150)]
            with pytest.raises(WriteConflict):
                [chunk async for chunk in chunks]
            assert b"".join(got) == old[:1500]


async def test_a_copy_of_a_file_that_is_rewritten_meanwhile_has_the_etag_of_its_bytes(tmp_path: Path) -> None:
    old, new = os.urandom(500), os.urandom(700)
    async with bucket(tmp_path) as store:
        ino = await file_of(store, b"f", old)
        async with trio.open_nursery() as nursery:
            # The copy reads what the source is, then waits for that to be durable.
            nursery.start_soon(store.objects.copy, "bucket", b"f", None, "bucket", b"copy", ObjectSpec(), ANY, 1)
            await queued(store)
            seen = await store.catalog.read(object_at, (await top(store)), b"f")
            await publish(store, ino, new)
        copied = await store.objects.info("bucket", b"copy")
        assert seen is not None
        assert (copied.etag, copied.size) == (seen.etag, len(old))
        assert await get(store, b"copy") == old
