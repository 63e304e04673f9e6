"""Where new data is written, through both doors, and what the engine makes of it."""

import os
import time
from pathlib import Path
from unittest.mock import patch

import pytest
import trio

from stratumfs.catalog.moves import named
from stratumfs.catalog.volumes import OPEN, volumes
from stratumfs.catalog.xattrs import PIN
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
