"""Names as POSIX sees them, where they are unusual."""

import os
import time
from pathlib import Path

import pytest
import trio

from stratumfs.catalog.engine import Transaction
from stratumfs.catalog.tree import digest
from stratumfs.errors import AlreadyExists, CatalogCorrupt, NotFound, NotPermitted
from stratumfs.ids import InodeNo
from stratumfs.limits import MAKE_CHUNK
from stratumfs.store import namespace
from stratumfs.store.store import Store
from stratumfs.values import Name, NewExtent, Publication
from tests.stratumfs.store.helpers import ANY, MIB, bucket, get, put, stored


async def top(store: Store) -> InodeNo:
    return (await store.objects.bucket("bucket")).ino


async def keys(store: Store) -> list[bytes]:
    return [each.key for each in (await store.objects.list("bucket")).objects]


async def test_a_rename_over_a_name_too_long_for_posix_keeps_that_name(tmp_path: Path) -> None:
    long = b"n" * 300
    async with bucket(tmp_path) as store:
        await put(store, long, b"old")
        await put(store, b"new", b"new")
        place = await top(store)
        shown = Name(b"", digest=digest(long))
        await store.files.rename(place, Name(b"new"), place, shown, time.time_ns())
        assert await keys(store) == [long]
        assert await get(store, long) == b"new"
        await put(store, b"new", b"newer")
        await store.objects.delete("bucket", long, ANY, time.time_ns())
        with pytest.raises(NotFound):
            await store.files.rename(place, Name(b"new"), place, shown, time.time_ns())
        assert await keys(store) == [b"new"]


async def test_no_file_has_the_key_of_its_directory(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        place = await top(store)
        await put(store, b"f", b"")
        await store.files.make_directory(place, Name(b""), 0o755, 0, 0, 1)
        inner = (await store.files.lookup(place, Name(b""))).ino
        with pytest.raises(NotPermitted):
            await store.files.make(inner, Name(b""), 0o100644, 0, 0, 1)
        with pytest.raises(NotPermitted):
            await store.files.rename(place, Name(b"f"), inner, Name(b""), 1)
        with pytest.raises(NotPermitted):
            await store.files.rename(place, Name(b"f"), place, Name(b""), 1, exchange=True)
        assert await keys(store) == [b"/", b"f"]


async def test_a_listing_waits_for_the_content_that_it_shows(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        info = await put(store, b"k", b"old")
        publication = Publication(None, (NewExtent(0, 3, data=b"new"),), 3, 1)
        await store.files.publish(info.ino, publication, time.time_ns(), durable=False)
        assert store.catalog.statistics().unsynced
        await store.objects.list("bucket")
        assert not store.catalog.statistics().unsynced


async def test_a_directory_renamed_within_an_implied_one_does_not_make_that_a_key(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        await put(store, b"a/x/k", b"")
        found = await store.files.lookup(await top(store), Name(b"a"))
        await store.files.rename(found.ino, Name(b"x"), found.ino, Name(b"y"), time.time_ns())
        assert await keys(store) == [b"a/y/", b"a/y/k"]


async def test_volumes_are_sealed_however_deep_a_file_in_them_lies(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        place = await top(store)
        for _ in range(4200):
            place = (await store.files.make_directory(place, Name(b"d"), 0o755, 0, 0, 1)).ino
        ino = (await store.files.make(place, Name(b"k"), 0o100644, 0, 0, 1)).ino
        at = await stored(store, b"x" * 20_000)
        publication = Publication(None, (NewExtent(0, 20_000, location=at),), 20_000, 1)
        await store.files.publish(ino, publication, 1, durable=True)
        await store.volume_writer.seal_idle(0)
        assert store.volume_writer.statistics()["volumes_open"] == 0
        assert bytes(await store.reader.read(ino, 0, 30_000)) == b"x" * 20_000


async def test_a_flipped_row_is_an_error_for_its_file_and_nobody_else(tmp_path: Path) -> None:
    data = os.urandom(MIB)
    async with bucket(tmp_path) as store:
        await put(store, b"good", data)
        bad = await put(store, b"bad", data)
        await store.catalog.write(_flip, bad.ino)
        await store.volume_writer.seal_idle(0)
        assert store.volume_writer.statistics()["volumes_open"] == 0
        assert await get(store, b"good") == data
        with pytest.raises(CatalogCorrupt):
            await get(store, b"bad")


def _flip(tx: Transaction, ino: InodeNo) -> None:
    tx.run("update extent set position = position + 1 where ino = ?", (ino,))


async def test_files_are_counted_in_chunks_so_that_no_request_waits_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bucket(tmp_path) as store:
        root_and_bucket = await store.files.count()
        for number in range(5):
            await put(store, str(number).encode(), b"")
        for most in (1, 2, 5, 7, 100):
            monkeypatch.setattr(namespace, "COUNTED_ROWS_MAX", most)
            assert (await store.files.space()).files == root_and_bucket + 5
        monkeypatch.setattr(namespace, "COUNTED_ROWS_MAX", 2)
        counted = []
        async with trio.open_nursery() as nursery:

            async def count() -> None:
                counted.append(await store.files.count())

            nursery.start_soon(count)
            await trio.lowlevel.checkpoint()
            assert not counted


async def test_a_bulk_of_files_is_made_in_chunks_and_one_that_fails_leaves_those_before_it(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        place = await top(store)
        names = [Name(b"%04d" % number) for number in range(2 * MAKE_CHUNK + 1)]
        await store.files.make_many(place, names, 0o100640, 5, 6, 1)
        assert await keys(store) == [name.segment for name in names]
        assert await get(store, b"0100") == b""
        found = [await store.files.lookup(place, name) for name in names]
        assert len({each.ino for each in found}) == len(names)
        assert {(each.mode, each.uid, each.gid, each.nlink) for each in found} == {(0o100640, 5, 6, 1)}
        more = [Name(b"a%04d" % number) for number in range(MAKE_CHUNK)]
        with pytest.raises(AlreadyExists):
            await store.files.make_many(place, [*more, Name(b"new"), names[0]], 0o100640, 5, 6, 1)
        assert await keys(store) == [name.segment for name in (*names, *more)]
