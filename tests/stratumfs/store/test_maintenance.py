"""What is tidied behind the users, on a real store."""

import os
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from stratumfs.catalog.damage import Held
from stratumfs.catalog.held import held
from stratumfs.catalog.reap import orphans, reap, usage
from stratumfs.catalog.volumes import FREED, VolumeRow, empty_volumes, free_volumes, images, volume_summary, volumes
from stratumfs.errors import DeviceFailed, WriteConflict
from stratumfs.ids import ROOT_INODE, DeviceId, InodeNo, VolumeId
from stratumfs.limits import NEVER_NS
from stratumfs.shards.memory import MemoryShards
from stratumfs.store import maintenance, space
from stratumfs.store.maintenance import oldest
from stratumfs.store.writer import PendingStripe
from stratumfs.values import Name, NewExtent, ObjectSpec, Publication
from stratumfs.volumes.attached import AttachedDevice
from tests.faults.acts import holding
from tests.stratumfs.store.helpers import ANY, MIB, bucket, get, put, stored


def shards(folder: Path) -> int:
    return sum(1 for each in folder.glob("d*/volumes/*/*") if each.is_file())


async def test_a_volume_that_nothing_points_at_is_freed_after_the_grace_period(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bucket(tmp_path) as store:
        await put(store, b"k", os.urandom(3 * MIB))
        await store.objects.delete("bucket", b"k", ANY, time.time_ns())
        await store.maintenance.round()
    assert shards(tmp_path) == 6  # sealed by the orderly end
    async with bucket(tmp_path) as store:
        await store.maintenance.round()
        assert await store.catalog.read(volume_summary) == [("hot", "freed", 4, 2, 1, 0)]
        assert shards(tmp_path) == 6
        monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 0.0)
        await store.maintenance.round()
        assert await store.catalog.read(volume_summary) == []
    assert shards(tmp_path) == 0


async def test_images_are_not_kept_for_backups_nor_is_anything_where_room_is_scarce(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 0.0)
    async with bucket(tmp_path) as store:
        store.maintenance.keep_s = 86400.0
        await put(store, b"k", os.urandom(3 * MIB))
        await store.objects.delete("bucket", b"k", ANY, time.time_ns())
        await store.volume_writer.seal_idle(0)
        written = [await store.imager.write() for _ in range(3)]
        for _ in range(2):
            await store.maintenance.round()
        (kept,) = await store.catalog.read(volumes, FREED)
        assert kept.id not in {each.volume for each in written}
        assert {row.id for row in await store.catalog.read(images)} == {each.volume for each in written[1:]}
        monkeypatch.setattr(space, "WINDOW_FREE_SHARE", 1)  # as if next to nothing were free
        await store.writer.space.refresh()
        with capture_logs() as said:
            await store.maintenance.round()
        assert await store.catalog.read(volumes, FREED) == []
        assert [each["volumes"] for each in said if "brought back" in each["event"]] == [1]


def test_where_room_is_scarce_the_oldest_go_first_and_no_more_than_must() -> None:
    def freed(number: int) -> VolumeRow:
        return VolumeRow(VolumeId(bytes([number]) * 16), "hot", 4, 2, FREED, 0, number, MIB, 4, 0, ())

    rows = [freed(number) for number in (3, 1, 2)]
    assert [row.changed_ns for row in oldest(rows, 5 * MIB)] == [1, 2]
    assert oldest(rows, 0) == []
    assert len(oldest(rows, 100 * MIB)) == 3


async def test_a_freed_volume_waits_for_a_device_that_is_away_and_not_for_one_that_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 0.0)
    async with bucket(tmp_path) as store:
        await put(store, b"k", os.urandom(3 * MIB))
        await store.objects.delete("bucket", b"k", ANY, time.time_ns())
        await store.maintenance.round()
    async with bucket(tmp_path) as store:
        old = next(iter(store.devices))
        await store.fleet.strike(old, DeviceFailed("Input/output error", "d0"))
        for _ in range(2):
            await store.maintenance.round()
        assert [state for _, state, *_ in await store.catalog.read(volume_summary)] == ["freed"]
        assert await held(store.catalog, old, NEVER_NS) == Held(0, 0)
        new = AttachedDevice(DeviceId(b"new".ljust(16, b"-")), "new", MemoryShards("new"))
        await store.fleet.replace(old, new)
        await store.maintenance.round()
        assert await store.catalog.read(volume_summary) == []


async def test_an_unlinked_file_stays_while_it_is_held_and_goes_afterwards(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        place = (await store.objects.bucket("bucket")).ino
        found = await store.files.make(place, Name(b"f"), 0o100644, 0, 0, time.time_ns())
        extents = (NewExtent(0, 3, data=b"abc"),)
        await store.files.publish(found.ino, Publication(None, extents, 3, 1), time.time_ns(), durable=True)
        store.holds.take(found.ino)
        await store.files.remove(place, Name(b"f"), time.time_ns())
        await store.maintenance.round()
        assert bytes(await store.reader.read(found.ino, 0, 10)) == b"abc"
        store.holds.drop(found.ino)
        await store.maintenance.round()
        assert await store.catalog.read(orphans, InodeNo(0)) == []
        assert (await store.catalog.read(usage)).inline_bytes == 0


async def test_a_large_truncate_is_cleared_in_chunks_and_reads_right_at_once(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        place = (await store.objects.bucket("bucket")).ino
        ino = (await store.files.make(place, Name(b"f"), 0o100644, 0, 0, time.time_ns())).ino
        for base in range(0, 600, 100):
            extents = tuple(NewExtent((base + i) * 10, 10, data=b"%010d" % (base + i)) for i in range(100))
            size = (base + 100) * 10
            await store.files.publish(ino, Publication(None, extents, size, 1), time.time_ns(), durable=False)
        await store.files.truncate(ino, 25, time.time_ns())
        await store.files.truncate(ino, 6000, time.time_ns())
        expected = (b"%010d%010d%010d" % (0, 1, 2))[:25].ljust(6000, b"\0")
        assert bytes(await store.reader.read(ino, 0, 10_000)) == expected
        await store.maintenance.round()
        assert bytes(await store.reader.read(ino, 0, 10_000)) == expected
        assert (await store.catalog.read(usage)).inline_bytes == 25


async def test_the_top_directory_holds_buckets(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        found, _ = await store.files.entries(ROOT_INODE, 0, 100)  # type: ignore[arg-type]
        assert [each.name.segment for each in found] == [b"bucket"]


async def test_a_volume_is_not_freed_under_a_slow_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 0.0)
    data = os.urandom(2 * MIB)
    async with bucket(tmp_path) as store:
        async with store.objects.put("bucket") as writer:
            await writer.write(data)
            await writer.finish()
            await store.volume_writer.seal_idle(0)
            await store.maintenance.round()
            assert shards(tmp_path) == 6
            await writer.commit(b"slow", ObjectSpec(), ANY, time.time_ns())
        assert await get(store, b"slow") == data


async def test_a_volume_of_deleted_objects_is_freed_as_soon_as_nobody_uploads_to_it(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        await put(store, b"k", os.urandom(2 * MIB))
        await store.volume_writer.seal_idle(0)
        await store.objects.delete("bucket", b"k", ANY, time.time_ns())
        await store.maintenance.round()
        assert await store.catalog.read(empty_volumes, 0) == []  # marked, not waiting for a stripe to be named


async def test_the_volume_that_a_stripe_was_moved_to_is_spared(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store, AsyncExitStack() as stack:
        stripe = PendingStripe(b"x" * 20_000)
        stack.enter_context(holding(store.writer)).append(stripe)
        await store.writer.append(stripe)
        before = stripe.at
        await store.fleet.strike(next(iter(store.devices)), DeviceFailed("EIO", "d0"))
        await store.writer.sync([stripe])
        assert stripe.at.volume != before.volume
        await store.volume_writer.seal_idle(0)
        await store.maintenance.round()
        assert stripe.at.volume in await store.catalog.read(empty_volumes, 0)


async def test_a_volume_that_was_freed_takes_no_new_rows(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        place = (await store.objects.bucket("bucket")).ino
        ino = (await store.files.make(place, Name(b"f"), 0o100644, 0, 0, time.time_ns())).ino
        at = await stored(store, b"x" * 20_000)
        await store.volume_writer.seal_idle(0)
        assert await store.catalog.read(empty_volumes, 0) == [at.volume]
        assert await store.catalog.write(free_volumes, (at.volume,), time.time_ns()) == [at.volume]
        late = Publication(None, (NewExtent(0, 20_000, location=at),), 20_000, 1)
        with pytest.raises(WriteConflict):
            await store.files.publish(ino, late, time.time_ns(), durable=True)
        assert (await store.files.attributes(ino)).size == 0


async def test_reaping_goes_in_bounded_steps(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        place = (await store.objects.bucket("bucket")).ino
        inos = []
        for number in range(5):
            ino = (await store.files.make(place, Name(b"%d" % number), 0o100644, 0, 0, 1)).ino
            extents = tuple(NewExtent(at * 2, 1, data=b"x") for at in range(90))
            await store.files.publish(ino, Publication(None, extents, 180, 1), 1, durable=False)
            store.holds.take(ino)
            await store.files.remove(place, Name(b"%d" % number), 1)
            inos.append(ino)
        assert await store.catalog.write(reap, tuple(inos)) == inos[2:]
        assert await store.catalog.write(reap, tuple(inos[2:])) == inos[4:]
        assert await store.catalog.write(reap, tuple(inos[4:])) == []
        assert (await store.catalog.read(usage)).inline_bytes == 0
        for ino in inos:
            store.holds.drop(ino)


async def test_a_store_that_nobody_uses_writes_nothing(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        await store.maintenance.round()
        before = store.catalog.statistics().sequence
        await store.maintenance.round()
        assert store.catalog.statistics().sequence == before
