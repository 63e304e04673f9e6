"""Objects by bucket and key, on a real store."""

import hashlib
import os
import stat
import time
from pathlib import Path

import pytest

from stratumfs.errors import BucketNotEmpty, NoSuchObject, PreconditionFailed
from stratumfs.store.objects import chunks_to_delete
from stratumfs.values import AttributeChange, Conditions
from tests.stratumfs.store.helpers import MIB, bucket, get, put


@pytest.mark.parametrize("size", [0, 1, 16 * 1024, 16 * 1024 + 1, MIB, MIB + 1, 9 * MIB + 12345])
async def test_bytes_come_back_whole_and_in_ranges_also_after_a_restart(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    async with bucket(tmp_path) as store:
        etag = (await put(store, b"a/b", data)).etag
        assert etag == hashlib.md5(data).hexdigest()
        assert await get(store, b"a/b") == data
    async with bucket(tmp_path) as store:
        assert await get(store, b"a/b") == data
        for start, stop in ((0, size // 2), (size // 3, size), (max(0, size - 7), size)):
            assert await get(store, b"a/b", start, stop) == data[start:stop]


async def test_a_long_object_is_a_few_extents(tmp_path: Path) -> None:
    data = os.urandom(20 * MIB)
    async with bucket(tmp_path) as store:
        await put(store, b"long", data)
        info = await store.objects.info("bucket", b"long")
        assert len(await store.reader.layout(info.ino, 0, info.size)) == 1
        assert await get(store, b"long") == data


async def test_a_reader_keeps_the_bytes_that_it_opened(tmp_path: Path) -> None:
    old, new = os.urandom(2 * MIB), os.urandom(2 * MIB)
    async with bucket(tmp_path) as store:
        await put(store, b"k", old)
        async with store.objects.open("bucket", b"k") as reader:
            await put(store, b"k", new)
            await store.objects.delete("bucket", b"k", Conditions(), time.time_ns())
            await store.maintenance.round()
            assert b"".join([bytes(chunk) async for chunk in reader.chunks(0, reader.info.size)]) == old
        await store.maintenance.round()
        with pytest.raises(NoSuchObject):
            await get(store, b"k")


async def test_two_devices_may_be_gone(tmp_path: Path) -> None:
    data = os.urandom(3 * MIB)
    async with bucket(tmp_path) as store:
        await put(store, b"k", data)
    for slot in (1, 4):
        for file in (tmp_path / f"d{slot}").rglob("*.*"):
            file.unlink()
    async with bucket(tmp_path) as store:
        assert await get(store, b"k") == data


def test_a_batch_is_deleted_in_steps_that_are_bounded_by_keys_and_by_names() -> None:
    deep = b"d/" * 149 + b"k"
    wanted = [(key, Conditions()) for key in (*([b"k"] * 21), deep, b"d/" * 500, deep, *([b"a/k"] * 20))]
    chunks = list(chunks_to_delete(wanted))
    assert [each for chunk in chunks for each in chunk] == wanted
    assert [len(chunk) for chunk in chunks] == [20, 2, 1, 20, 1]
    assert list(chunks_to_delete([])) == []


@pytest.mark.parametrize(
    ("before", "after"), [(0o6755, 0o755), (0o4711, 0o711), (0o3640, 0o3640), (0o2670, 0o670), (0o1600, 0o1600)]
)
async def test_bytes_that_are_replaced_take_privileges_along(tmp_path: Path, before: int, after: int) -> None:
    """As a write(2) does; owner, the rest of the mode and other attributes stay."""
    async with bucket(tmp_path) as store:
        ino = (await put(store, b"tool", b"trusted")).ino
        now_ns = time.time_ns()
        await store.files.set_attributes(ino, AttributeChange(mode=before, uid=7, gid=8), now_ns)
        for name in (b"security.capability", b"user.kept"):
            await store.files.set_xattr(ino, name, b"value", now_ns)
        ino = (await put(store, b"tool", b"from somebody else")).ino
        found = await store.files.attributes(ino)
        assert (found.mode, found.uid, found.gid) == (stat.S_IFREG | after, 7, 8)
        assert await store.files.xattrs(ino) == [b"user.kept"]


async def test_conditions_are_decided_in_the_commit(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        etag = (await put(store, b"k", b"1", Conditions(if_none_match=("*",)))).etag
        with pytest.raises(PreconditionFailed):
            await put(store, b"k", b"2", Conditions(if_none_match=("*",)))
        await put(store, b"k", b"3", Conditions(if_match=(etag,)))
        with pytest.raises(PreconditionFailed):
            await put(store, b"k", b"4", Conditions(if_match=(etag,)))
        assert await get(store, b"k") == b"3"


async def test_an_object_and_a_prefix_of_one_name_stand_side_by_side(tmp_path: Path) -> None:
    keys = [b"a", b"a/", b"a//b", b"a/b", b"a/../c", b"b" * 300, "ü/ß".encode()]
    async with bucket(tmp_path) as store:
        for key in keys:
            await put(store, key, key)
        listing = await store.objects.list("bucket")
        assert [each.key for each in listing.objects] == sorted(keys)
        rolled = await store.objects.list("bucket", delimiter=b"/")
        assert [each.key for each in rolled.objects] == [b"a", b"b" * 300]
        assert list(rolled.prefixes) == [b"a/", "ü/".encode()]
        for key in keys:
            assert await get(store, key) == key
            assert await store.objects.delete("bucket", key, Conditions(), time.time_ns())
        assert (await store.objects.list("bucket")).objects == ()
        await store.objects.delete_bucket("bucket")
        assert await store.objects.buckets() == []


async def test_a_bucket_with_a_key_stays(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        await put(store, b"x/y/z", b"")
        with pytest.raises(BucketNotEmpty):
            await store.objects.delete_bucket("bucket")
