"""Where new data is written, through both doors, and what the engine makes of it."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
import trio

from stratumfs.catalog.moves import named
from stratumfs.catalog.volumes import OPEN, volumes
from stratumfs.catalog.xattrs import PIN
from stratumfs.errors import DeviceFailed, StoreFull, StoreReadOnly
from stratumfs.fuse.buffer import FileBuffer
from stratumfs.fuse.buffers import Buffers
from stratumfs.ids import InodeNo
from stratumfs.values import Conditions, Name, ObjectSpec
from tests.stratumfs.store.helpers import MIB
from tests.tiering.engines import SIZE, Clock, Running, running_engine
from tiering.landing import HintedLanding

COLD_HINT = ObjectSpec(metadata={"stratum-hint": "cold"})


def landing(running: Running) -> None:
    """As the owner does it."""
    store, engine = running.store, running.engine
    store.landing.landing = HintedLanding(store.catalog, engine.tiers, 2, lambda: bool(engine.facts.pins))


async def put(running: Running, key: str, spec: ObjectSpec, data: bytes = bytes(SIZE)) -> InodeNo:
    name = key.encode()
    async with running.store.objects.put("bucket", name, spec) as writer:
        await writer.write(data)
        await writer.finish()
        return (await writer.commit(name, spec, Conditions(), time.time_ns())).ino


async def pin(running: Running, key: bytes, tier: bytes) -> None:
    directory = await running.store.catalog.read(named, "bucket", key)
    await running.store.files.set_xattr(directory, PIN, tier, 1)
    await running.engine.look()


async def test_hints_and_classes_say_where_an_object_is_written_and_it_stays_there(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock()) as running:
        landing(running)
        found = [
            await running.tier(await put(running, f"key{number}", spec))
            for number, spec in enumerate(
                (
                    ObjectSpec(),
                    COLD_HINT,
                    ObjectSpec(storage_class="STANDARD_IA"),
                    ObjectSpec(storage_class="STANDARD_IA", metadata={"stratum-hint": "hot"}),
                    ObjectSpec(metadata={"stratum-hint": "lukewarm"}),
                )
            )
        ]
        assert found == ["hot", "warm", "warm", "hot", "hot"]
        await running.step()
        assert running.engine.policy.used == [3 * SIZE, 2 * SIZE]
        assert await running.decisions() == []
        assert await running.read("key1") == bytes(SIZE)


async def test_the_nearest_pin_says_where_new_data_is_written(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock()) as running:
        landing(running)
        for key in ("a/b/first", "c"):
            await put(running, key, ObjectSpec())
        await pin(running, b"a/", b"cold")
        assert await running.tier(await put(running, "a/x/y/z", ObjectSpec())) == "hot", "of a tier that there is not"
        await pin(running, b"a/", b"warm")
        await pin(running, b"a/b/", b"hot")
        assert await running.tier(await put(running, "a/x/y/z", ObjectSpec())) == "warm"
        assert await running.tier(await put(running, "a/b/z", COLD_HINT)) == "hot"
        assert await running.tier(await put(running, "d", ObjectSpec())) == "hot"
        await pin(running, b"", b"warm")
        assert await running.tier(await put(running, "d", ObjectSpec())) == "warm"


async def test_what_is_pinned_to_a_tier_elsewhere_is_written_to_the_slowest_on_devices(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock(), cold=True) as running:
        landing(running)
        await pin(running, b"", b"cold")
        ino = await put(running, "key", ObjectSpec())
        assert await running.tier(ino) == "warm"
        await running.step()
        assert await running.tier(ino) == "cold"
        assert [(each.source, each.target, each.cause) for each in await running.decisions()] == [
            ("warm", "cold", "pin")
        ]


@pytest.mark.parametrize("how", ["read-only", "full"])
async def test_a_tier_that_takes_nothing_is_passed_over(tmp_path: Path, how: str) -> None:
    async with running_engine(tmp_path, Clock()) as running:
        landing(running)
        warm = running.store.writers["warm"]
        if how == "full":
            warm.space.now = type(warm.space.now)(warm.space.now.total, 0)
            assert await running.tier(await put(running, "key", COLD_HINT)) == "hot"
            return
        with patch.object(type(warm), "read_only", property(lambda self: how if self is warm else None)):
            assert await running.tier(await put(running, "key", COLD_HINT)) == "hot"


async def test_parts_of_an_upload_are_written_where_the_object_is_to_be(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock()) as running:
        landing(running)
        uploads = running.store.uploads
        upload = await uploads.create("bucket", b"key", COLD_HINT, None, False, time.time_ns())
        async with uploads.part("bucket", b"key", upload.id) as writer:
            await writer.write(bytes(SIZE))
            await writer.finish()
            part = await writer.commit(1, None, time.time_ns())
        assert part.size == SIZE
        assert {each.tier for each in await running.store.catalog.read(volumes, OPEN)} == {"warm"}


async def test_what_is_written_through_the_mount_goes_where_its_directory_is_pinned(tmp_path: Path) -> None:
    data = os.urandom(3 * MIB)
    async with running_engine(tmp_path, Clock()) as running, trio.open_nursery() as nursery:
        landing(running)
        store = running.store
        await put(running, "dir/first", ObjectSpec())
        await pin(running, b"dir/", b"warm")
        table = Buffers(store, nursery, lambda attributes: None)
        directory = await store.catalog.read(named, "bucket", b"dir/")
        buffer = table.open(await store.files.make(directory, Name(b"f"), 0o100644, 0, 0, time.time_ns()))
        async with trio.open_nursery() as writers:  # the first of them asks, and the others wait for the answer
            for at in range(0, len(data), MIB // 2):
                writers.start_soon(buffer.write, at, data[at : at + MIB // 2])
        await buffer.publish(durable=True)
        assert await running.tier(buffer.ino) == "warm"
        assert bytes(await store.reader.read(buffer.ino, 0, len(data))) == data
        await table.close(buffer)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def pinned_file(tmp_path: Path) -> AsyncIterator[tuple[Running, Buffers, FileBuffer]]:
    """Open for writing below a directory that is pinned to the warm tier."""
    async with running_engine(tmp_path, Clock()) as running, trio.open_nursery() as nursery:
        landing(running)
        store = running.store
        await put(running, "dir/first", ObjectSpec())
        await pin(running, b"dir/", b"warm")
        table = Buffers(store, nursery, lambda attributes: None)
        yield running, table, await opened_below(running, table, b"dir/")
        nursery.cancel_scope.cancel()


async def opened_below(running: Running, table: Buffers, directory: bytes) -> FileBuffer:
    ino = await running.store.catalog.read(named, "bucket", directory)
    return table.open(await running.store.files.make(ino, Name(b"f"), 0o100644, 0, 0, time.time_ns()))


async def strike_warm(running: Running, count: int) -> None:
    for device in running.store.fleet.up("warm")[:count]:
        await running.store.fleet.strike(device.id, DeviceFailed("it is gone", device.label))


@pytest.mark.parametrize("synced", [False, True])
async def test_regression_a_file_whose_tier_dies_goes_on_in_the_first_one(tmp_path: Path, synced: bool) -> None:
    """It was EROFS until the file was closed, and what it held kept all others from memory."""
    data = os.urandom(5 * MIB + 70_000)
    async with pinned_file(tmp_path) as (running, table, buffer):
        await buffer.write(0, data[: 3 * MIB])
        if synced:
            await buffer._sender.flush()
        await strike_warm(running, 2)
        assert running.store.read_only is None
        await buffer.write(3 * MIB, data[3 * MIB :])
        table._memory.limit = 0
        other = await opened_below(running, table, b"")
        await other.write(0, b"x")
        await table.make_room(other)
        await buffer.publish(durable=True)
        found = {each.tier for each in await running.store.catalog.read(volumes, OPEN)}
        assert found == {"hot"}
        if not synced:
            assert await running.tier(buffer.ino) == "hot"
            assert bytes(await running.store.reader.read(buffer.ino, 0, len(data))) == data


async def test_regression_a_file_whose_tier_is_full_goes_on_in_the_first_one(tmp_path: Path) -> None:
    """What was written there stays there, what comes later does not."""
    data = os.urandom(5 * MIB + 70_000)
    async with pinned_file(tmp_path) as (running, _, buffer):
        await buffer.write(0, data[: 3 * MIB])
        await buffer._sender.idle()
        warm = running.store.writers["warm"]
        warm.space.now = type(warm.space.now)(warm.space.now.total, 0)
        await buffer.write(3 * MIB, data[3 * MIB :])
        await buffer.publish(durable=True)
        assert {each.tier for each in await running.store.catalog.read(volumes, OPEN)} == {"hot", "warm"}
        assert bytes(await running.store.reader.read(buffer.ino, 0, len(data))) == data


async def test_a_store_that_is_read_only_takes_no_bytes_for_another_tier_either(tmp_path: Path) -> None:
    async with pinned_file(tmp_path) as (running, _, buffer):
        running.store.refuse_writes("for a test")
        with pytest.raises(StoreReadOnly):
            await buffer.write(0, bytes(MIB))


async def test_regression_what_lands_elsewhere_needs_no_room_in_the_first_tier(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock()) as running:
        landing(running)
        store = running.store
        store.space.now = type(store.space.now)(store.space.now.total, 0)
        assert await running.tier(await put(running, "key", COLD_HINT)) == "warm"
        upload = await store.uploads.create("bucket", b"other", COLD_HINT, None, False, time.time_ns())
        async with store.uploads.part("bucket", b"other", upload.id, SIZE) as writer:
            await writer.write(bytes(SIZE))
        assert (await opened_below(running, Buffers(store, store._nursery, lambda _: None), b"")).size == 0
        with pytest.raises(StoreFull):
            await put(running, "third", ObjectSpec())
        warm = store.writers["warm"]
        warm.space.now = store.space.now
        with pytest.raises(StoreFull):
            await put(running, "third", COLD_HINT)
        with pytest.raises(StoreFull):
            await store.files.make(await store.catalog.read(named, "bucket", b""), Name(b"g"), 0o100644, 0, 0, 1)


async def test_what_is_too_long_for_a_tier_lands_in_another_one_or_is_refused_at_once(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock()) as running:
        landing(running)
        store = running.store
        warm = store.writers["warm"]
        warm.space.now = type(warm.space.now)(100 * MIB, 10 * MIB)
        for length, tier in ((8 * MIB, "warm"), (10 * MIB, "hot")):
            async with store.objects.put("bucket", b"key", COLD_HINT, length) as writer:
                assert writer._stream._writer.tier == tier
        with pytest.raises(StoreFull, match="do not fit"):
            async with store.objects.put("bucket", b"key", COLD_HINT, store.space.now.free + 1):
                raise AssertionError
