"""Rows that are remembered: whatever changes, through whichever door, the next answer is what the catalog says."""

import os
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from stratumfs.catalog.durability import Mark
from stratumfs.catalog.transaction import Seen, Touched
from stratumfs.errors import DirectoryNotEmpty, NoSuchBucket, NoSuchObject, NotFound, NotModified
from stratumfs.ids import ROOT_INODE, ExtentId, InodeNo
from stratumfs.limits import KNOWN_BUCKETS_MAX, KNOWN_BYTES_MAX, KNOWN_OBJECTS_MAX
from stratumfs.store.known import Found, KnownBuckets, KnownObjects
from stratumfs.store.objects import _open_in_bucket
from stratumfs.store.repack import Repack
from stratumfs.store.store import Store
from stratumfs.values import AttributeChange, BucketInfo, Extent, Name, ObjectInfo, ObjectSpec, ReadConditions
from tests.stratumfs.store.helpers import ANY, bucket, get, put
from tests.stratumfs.store.racing import write_at
from tests.stratumfs.store.test_repack import two_tiers

FILES = [b"a", b"d/a", b"d/b", b"d/e/a", b"f"]
KEYS = [*FILES, b"d/e/"]


async def check(store: Store, keys: list[bytes]) -> None:
    """What is remembered, or read anew, is what a transaction says."""
    for key in keys:
        try:
            found = await store.catalog.read(_open_in_bucket, "bucket", key, None, store.objects.tiered())
        except (NoSuchObject, NoSuchBucket) as error:
            with pytest.raises(type(error)):
                await store.objects.info("bucket", key)
            with pytest.raises(type(error)):
                async with store.objects.open("bucket", key):
                    pass
            continue
        assert await store.objects.info("bucket", key) == found.info
        async with store.objects.open("bucket", key) as reader:
            assert (reader.info, reader._content.head) == (found.info, found.head)


class Users:
    """Change a bucket at random, by what both doors call."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store, self.random = store, random.Random(seed)

    async def step(self) -> None:
        steps: list[Callable[[], Awaitable[object]]] = [
            self.put, self.put, self.delete, self.copy, self.write, self.truncate, self.rename, self.chmod, self.unlink,
            self.move, self.pack, self.defragment, self.round,
        ]  # fmt: skip
        with suppress(NoSuchObject, NotFound, DirectoryNotEmpty):  # nothing was there to be changed
            await self.random.choice(steps)()

    def key(self) -> bytes:
        return self.random.choice(KEYS)

    async def ino(self) -> InodeNo:
        return (await self.store.objects.info("bucket", self.random.choice(FILES))).ino

    async def place(self, path: bytes) -> InodeNo:
        place = (await self.store.objects.bucket("bucket")).ino
        for name in path.split(b"/")[:-1]:
            place = (await self.store.files.lookup(place, Name(name + b"/"))).ino
        return place

    async def put(self) -> None:
        key = self.key()
        size = 0 if key.endswith(b"/") else self.random.choice([0, 100, 20_000, 300_000])
        await put(self.store, key, self.random.randbytes(size))

    async def delete(self) -> None:
        await self.store.objects.delete("bucket", self.key(), ANY, time.time_ns())

    async def copy(self) -> None:
        one, other = self.random.sample(FILES, 2)
        await self.store.objects.copy("bucket", one, None, "bucket", other, ObjectSpec(), ANY, time.time_ns())

    async def write(self) -> None:
        size = self.random.choice([10, 5000, 30_000])
        await write_at(self.store, await self.ino(), self.random.randrange(50_000), self.random.randbytes(size))

    async def truncate(self) -> None:
        await self.store.files.truncate(await self.ino(), self.random.randrange(40_000), time.time_ns())

    async def rename(self) -> None:
        pairs = [(b"d/", b"g/"), (b"g/", b"d/"), (b"a", b"f"), (b"f", b"a"), (b"d/a", b"d/b")]
        one, other = self.random.choice(pairs)
        old, new = await self.place(one.removesuffix(b"/")), await self.place(other.removesuffix(b"/"))
        names = [Name(each.removesuffix(b"/").rpartition(b"/")[2]) for each in (one, other)]
        now_ns = time.time_ns()
        await self.store.files.rename(old, names[0], new, names[1], now_ns, replace=True, exchange=False)

    async def chmod(self) -> None:
        await self.store.files.set_attributes(await self.ino(), AttributeChange(mode=0o600), time.time_ns())

    async def unlink(self) -> None:
        await self.store.files.remove(await self.place(b"a"), Name(b"a"), time.time_ns())

    async def move(self) -> None:
        tier = self.random.choice(["warm", "hot"])
        with Repack(self.store.catalog, self.store.reader, self.store.writers[tier]).running() as moving:
            await moving.inode(await self.ino())
            await moving.flush()

    async def pack(self) -> None:
        await self.store.packer.round(1 << 40)

    async def defragment(self) -> None:
        await self.store.defragmenter.file(await self.ino())

    async def round(self) -> None:
        await self.store.maintenance.round()


@pytest.mark.parametrize("seed", range(3))
async def test_what_is_remembered_is_what_there_is(tmp_path: Path, seed: int) -> None:
    async with two_tiers(tmp_path) as store:
        users = Users(store, seed)
        for _ in range(400):
            await users.step()
            await check(store, [*KEYS, b"g/a", b"g/e/a"])
        assert store.objects.known.hits > 500


async def test_an_object_is_read_without_the_catalog_the_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bucket(tmp_path) as store:
        data = {b"small": b"x" * 100, b"large": os.urandom(100_000)}
        for key, each in data.items():
            await put(store, key, each)
            assert await get(store, key) == each
        etag = (await store.objects.info("bucket", b"small")).etag

        async def never(*_: object, **__: object) -> None:
            raise AssertionError("the catalog was asked")

        monkeypatch.setattr(store.catalog, "read_settled", never)
        for key, each in data.items():
            assert await get(store, key) == each
        with pytest.raises(NotModified):
            await store.objects.info("bucket", b"small", ReadConditions(if_none_match=(etag,)))


async def test_what_is_not_durable_yet_is_given_to_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by who reads it first, nor from what that one has left behind."""
    async with bucket(tmp_path) as store:
        members, may, got = store.catalog._members, trio.Event(), list[bytes]()
        hold = members.hold

        async def held(mark: Mark) -> None:
            await may.wait()
            await hold(mark)

        async def read() -> None:
            got.append(await get(store, b"k"))

        monkeypatch.setattr(members, "hold", held)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(put, store, b"k", b"data")
            await wait_all_tasks_blocked(0.01)
            assert (
                await store.catalog.read(_open_in_bucket, "bucket", b"k", None, False)
            ).info.size == 4  # it is committed
            for _ in range(3):
                nursery.start_soon(read)
            await wait_all_tasks_blocked(0.01)
            before = len(got)
            may.set()
        assert (before, got) == (0, [b"data"] * 3)
        assert store.objects.known.get(("bucket", b"k")) is not None


async def test_what_changed_before_it_was_durable_is_not_remembered(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        info = await put(store, b"k", b"x")
        found = await store.catalog.read(_open_in_bucket, "bucket", b"k", None, False)
        known = KnownObjects()
        known.add(found)
        assert known.get(("bucket", b"k")) is None
        known.heed(Touched(frozenset({info.ino})))
        found.durable = True
        assert known.get(("bucket", b"k")) is None


def _found(number: int, size: int = 0) -> Found:
    info = ObjectInfo(InodeNo(number), size, "", 0, ObjectSpec())
    head = [Extent(ExtentId(1), info.ino, 0, size, None, bytes(size))] if size else []
    return Found(("b", b"%d" % number), info, head, Seen(frozenset({info.ino}), frozenset({(InodeNo(1), b"b")})), True)


def test_it_is_bounded_and_nothing_of_what_went_is_left() -> None:
    known = KnownObjects()
    for number in range(KNOWN_OBJECTS_MAX + 10):
        known.add(_found(number + 2))
    assert len(known._found) == KNOWN_OBJECTS_MAX
    assert known.get(("b", b"2")) is None
    known.heed(Touched(names=frozenset({(InodeNo(1), b"b")})))
    assert (len(known._found), known._filed, known._bytes) == (0, {}, 0)
    size = KNOWN_BYTES_MAX // 11 + 1
    for number in range(20):
        known.add(_found(number, size))
    assert len(known._found) == 10
    known.add(_found(99, KNOWN_BYTES_MAX // 4))
    assert known.get(("b", b"99")) is None
    known.heed(None)
    assert (len(known._found), known._filed, known._bytes) == (0, {}, 0)


@pytest.mark.parametrize("where", ["metadata", "headers", "content_type"])
def test_regression_what_is_said_of_an_object_counts(where: str) -> None:
    """Thousands of objects, each with as much metadata as a request can have, took gigabytes."""
    text = "\N{EURO SIGN}" * (KNOWN_BYTES_MAX // 40)  # two bytes each
    spec = ObjectSpec(**{where: text if where == "content_type" else {"a": text}})  # type: ignore[arg-type]
    known = KnownObjects()
    for number in range(2, 42):
        found = _found(number)
        known.add(Found(found.key, found.info._replace(spec=spec), found.head, found.seen, True))
    assert len(known._found) == 19
    assert known._bytes <= KNOWN_BYTES_MAX


@pytest.mark.parametrize("how", [{"inodes": {5}}, {"names": {(1, b"b")}}, {"moved": {5}}])
def test_each_kind_of_change_is_heeded(how: dict[str, set[object]]) -> None:
    known = KnownObjects()
    known.add(_found(5))
    known.heed(Touched(**{name: frozenset(each) for name, each in how.items()}))  # type: ignore[arg-type]
    assert known.get(("b", b"5")) is None


async def test_a_bucket_is_known_until_one_comes_or_goes_through_either_door(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bucket(tmp_path) as store:
        objects, asked = store.objects, list[str]()
        read = store.catalog.read_settled

        async def counted(*args: Any, **options: Any) -> Any:
            asked.append(args[1])
            return await read(*args, **options)

        monkeypatch.setattr(store.catalog, "read_settled", counted)
        first = await objects.bucket("bucket")
        await put(store, b"k", b"x")
        await put(store, b"d/k", b"x")
        assert await objects.bucket("bucket") == first
        assert asked == ["bucket"]
        made = await store.files.make_directory(ROOT_INODE, Name(b"other"), 0o755, 0, 0, time.time_ns())
        assert ((await objects.bucket("other")).ino, await objects.bucket("bucket")) == (made.ino, first)
        await store.files.remove_directory(ROOT_INODE, Name(b"other"), time.time_ns())
        with pytest.raises(NoSuchBucket):
            await put(store, b"k", b"x", bucket="other")
        await objects.create_bucket("other", time.time_ns())
        assert (await objects.bucket("other")).ino != made.ino
        await put(store, b"k", b"x", bucket="other")


async def test_a_bucket_that_is_not_durable_yet_is_given_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bucket(tmp_path) as store:
        members, may, got = store.catalog._members, trio.Event(), list[str]()
        hold = members.hold

        async def held(mark: Mark) -> None:
            await may.wait()
            await hold(mark)

        async def ask() -> None:
            got.append((await store.objects.bucket("other")).name)

        monkeypatch.setattr(members, "hold", held)
        await store.files.make_directory(ROOT_INODE, Name(b"other"), 0o755, 0, 0, time.time_ns())
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
                await wait_all_tasks_blocked(0.01)
            before = len(got)
            may.set()
        assert (before, got) == (0, ["other"] * 3)


def test_of_buckets_too_a_bounded_number_is_remembered() -> None:
    known = KnownBuckets()
    for number in range(KNOWN_BUCKETS_MAX + 10):
        found = BucketInfo(f"b{number}", InodeNo(number), 0)
        known.add(found)
        known.settled(found)
    assert (len(known._found), known._durable, known.get("b0")) == (10, set(known._found), None)
    known.heed(Touched(names=frozenset({(InodeNo(7), b"k")})))
    assert known.get(found.name) is found
    known.add(BucketInfo(found.name, InodeNo(5), 0))
    known.heed(Touched(names=frozenset({(ROOT_INODE, b"x/")})))
    known.settled(found)
    assert (known._found, known._durable) == ({}, set())
