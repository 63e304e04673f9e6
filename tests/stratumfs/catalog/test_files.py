"""Renames among directories that exist only because keys lie below them."""

import time
from pathlib import Path

import pytest

from stratumfs.errors import InvalidArgument
from stratumfs.ids import InodeNo
from stratumfs.store.store import Store
from stratumfs.values import Conditions, Name
from tests.stratumfs.store.helpers import bucket, put


async def inside(store: Store, *names: bytes) -> InodeNo:
    ino = (await store.objects.bucket("bucket")).ino
    for name in names:
        ino = (await store.files.lookup(ino, Name(name))).ino
    return ino


async def keys(store: Store) -> list[bytes]:
    return [each.key for each in (await store.objects.list("bucket")).objects]


async def rename(store: Store, source: tuple[bytes, ...], target: tuple[bytes, ...], *, exchange: bool = False) -> None:
    old, new = await inside(store, *source[:-1]), await inside(store, *target[:-1])
    await store.files.rename(old, Name(source[-1]), new, Name(target[-1]), time.time_ns(), exchange=exchange)


async def test_an_exchange_leaves_implied_directories_implied(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        await put(store, b"a/x", b"one")
        await put(store, b"b/x", b"other")
        await rename(store, (b"a", b"x"), (b"b", b"x"), exchange=True)
        assert await keys(store) == [b"a/x", b"b/x"]
        await store.objects.delete_many("bucket", [(b"a/x", Conditions()), (b"b/x", Conditions())], time.time_ns())
        assert await keys(store) == []
        await store.objects.delete_bucket("bucket")


async def test_a_rename_over_the_only_name_of_an_implied_directory_leaves_it_implied(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        await put(store, b"a/x", b"")
        await put(store, b"y", b"")
        await rename(store, (b"y",), (b"a", b"x"))
        assert await keys(store) == [b"a/x"]


async def test_a_rename_that_empties_an_implied_directory_makes_it_a_key_of_that_time(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        await put(store, b"a/d/x", b"")
        before = time.time_ns()
        await rename(store, (b"a", b"d"), (b"d",))
        assert await keys(store) == [b"a/", b"d/", b"d/x"]
        assert (await store.objects.info("bucket", b"a/")).modified_ns >= before


async def test_an_object_and_the_directory_beside_it_cannot_change_places(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        await put(store, b"a", b"")
        await put(store, b"a/x", b"")
        top = await inside(store)
        with pytest.raises(InvalidArgument):
            await store.files.rename(top, Name(b"a"), top, Name(b"a", shadowed=True), time.time_ns(), exchange=True)
        assert await keys(store) == [b"a", b"a/x"]
