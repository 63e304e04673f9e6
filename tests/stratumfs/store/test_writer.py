"""Streams of stripes: what they keep in memory, and devices that fail beneath them."""

import gc
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from stratumfs.catalog.volumes import OPEN, volumes
from stratumfs.devices.health import DeviceState
from stratumfs.errors import DeviceFailed, DeviceFull, StoreReadOnly
from stratumfs.ids import DeviceId, ExtentId, InodeNo, Nonce, StripeNo, VolumeId
from stratumfs.limits import SYNC_AHEAD_BYTES
from stratumfs.location import Location
from stratumfs.shards.layout import ShardName
from stratumfs.shards.memory import MemoryShards
from stratumfs.store import writer as writer_module
from stratumfs.store.store import Store
from stratumfs.values import CompletedPart, Extent, ObjectSpec
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.pending import PendingStripe
from tests.stores import running_store
from tests.stratumfs.store.helpers import ANY, MIB, get, put


class Devices:
    """Six in memory. The next *count* calls of a verb on one of them fail."""

    def __init__(self) -> None:
        self.shards = [MemoryShards(f"d{slot}", self._fault(slot)) for slot in range(6)]
        self.failing: dict[tuple[int, str], tuple[int, Exception]] = {}
        found = [
            AttachedDevice(DeviceId(bytes([slot]) * 16), f"d{slot}", each, disk=slot)
            for slot, each in enumerate(self.shards)
        ]
        self.attached = {each.id: each for each in found}

    def fail(self, slot: int, verb: str, error: Exception, after: int = 0) -> None:
        """Let this verb fail on a device, from the call behind so many others on."""
        self.failing[slot, verb] = after, error

    def _fault(self, slot: int) -> Callable[[str, ShardName | None], None]:
        def fault(verb: str, name: ShardName | None) -> None:
            after, error = self.failing.get((slot, verb), (0, None))
            if error is not None and after == 0:
                raise error
            if error is not None:
                self.failing[slot, verb] = after - 1, error

        return fault


def eio(slot: int) -> DeviceFailed:
    return DeviceFailed(f"device d{slot}: EIO", f"d{slot}")


async def bucket(store: Store) -> None:
    await store.objects.create_bucket("bucket", time.time_ns())


@pytest.mark.parametrize("verb", ["write_at", "datasync", "create", "preallocate", "sync_folder"])
async def test_a_put_on_a_failing_device_takes_longer_and_that_is_all(tmp_path: Path, verb: str) -> None:
    devices = Devices()
    data = os.urandom(12 * MIB + 5)
    async with running_store(tmp_path, devices=devices.attached) as store:
        await bucket(store)
        await put(store, b"before", data)
        if verb not in ("write_at", "datasync"):
            await store.volume_writer.seal_idle(0)
        devices.fail(2, verb, eio(2), after=3 if verb == "write_at" else 0)
        await put(store, b"behind", data)
        state, reason = store.fleet.state(DeviceId(bytes([2]) * 16))
        assert state is (DeviceState.READ_ONLY if verb == "datasync" else DeviceState.FAILED)
        assert "EIO" in str(reason)
        assert store.read_only is None
        for key in (b"before", b"behind"):
            assert await get(store, key) == data
    async with running_store(tmp_path, devices=devices.attached) as store:
        assert store.fleet.state(DeviceId(bytes([2]) * 16))[0] is state
        devices.fail(2, "create", AssertionError("it is struck"))
        await put(store, b"narrow", data)
        assert await get(store, b"narrow") == data
        assert await get(store, b"before") == data


async def test_what_is_written_again_is_one_run(tmp_path: Path) -> None:
    devices = Devices()
    data = os.urandom(16 * MIB)
    async with running_store(tmp_path, devices=devices.attached) as store:
        await bucket(store)
        devices.fail(4, "datasync", eio(4))
        info = await put(store, b"k", data)
        extents = await store.reader.layout(info.ino, 0, info.size)
        assert [extent.length for extent in extents] == [16 * MIB]
        assert await get(store, b"k") == data


async def test_devices_write_while_a_long_stream_comes_in(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        await bucket(store)
        with trio.fail_after(60):
            async with store.objects.put("bucket") as writer:
                for _ in range(SYNC_AHEAD_BYTES // MIB):
                    await writer.write(bytes(MIB))
                while store.writer.unsynced_bytes:  # nobody waits for these bytes
                    await trio.lowlevel.checkpoint()


async def test_no_more_is_held_than_counts_as_unsynced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the sync of one stream covers what others have appended."""
    monkeypatch.setattr(writer_module, "SYNC_AHEAD_BYTES", 4 * MIB)
    monkeypatch.setattr(writer_module, "SYNC_CROWDED_BYTES", 2 * MIB)
    monkeypatch.setattr(writer_module, "UNSYNCED_TOTAL_MAX", 12 * MIB)
    async with running_store(tmp_path) as store:
        writers = [store.writer.stream() for _ in range(3)]
        with ExitStack() as open_:
            streams = [open_.enter_context(each) for each in writers]
            for _ in range(12):
                for stream in streams:
                    await stream.write(bytes(MIB))
                stripes = [stripe for stream in streams for stripe in stream._stripes.values()]
                held = sum(stripe.length for stripe in stripes if stripe.payload is not None)
                assert held <= store.writer.unsynced_bytes


async def test_only_what_nobody_can_change_is_written_from_where_it_lies(tmp_path: Path) -> None:
    async with running_store(tmp_path, devices=Devices().attached) as store:
        data = bytearray(os.urandom(2 * MIB + 5))
        for copying, given in ((True, data), (True, bytes(data)), (False, bytes(data))):
            with store.writer.stream(copying=copying) as stream:
                await stream.write(b"head")
                for start in range(0, len(data), MIB):
                    await stream.begin_stripes(MIB)
                    view = memoryview(given)[start : start + MIB]
                    await stream.write(view)
                    held = [each.payload for each in stream._stripes.values()]
                    lent = any(isinstance(each, memoryview) and each.obj is given for each in held)
                    assert lent == (copying and given is not data)
                before = bytes(data)
                if given is data:
                    data[:] = bytes(len(data))
                written = await stream.finish()
                assert written.size == 4 + len(before)
                found = b""
                for each in stream.extents:
                    assert each.location is not None
                    found += await store.reader.run(each.location, each.length)
                assert found == b"head" + before
                data[:] = before


async def test_regression_a_stream_that_failed_keeps_no_bytes(tmp_path: Path) -> None:
    """Its error held it, by the traceback, and it held its error: the budget was given back, and the memory was not."""
    devices = Devices()
    async with running_store(tmp_path, devices=devices.attached) as store:
        await bucket(store)
        for slot in range(6):
            devices.fail(slot, "write_at", eio(slot))
        gc.collect()
        gc.disable()
        try:
            with pytest.raises((DeviceFailed, StoreReadOnly)):
                await put(store, b"k", bytes(MIB))
            held = [each for each in gc.get_objects() if isinstance(each, PendingStripe) and each.payload is not None]
        finally:
            gc.enable()
        assert (held, store.writer.unsynced_bytes) == ([], 0)


async def test_regression_what_is_appended_behind_the_end_of_a_stream_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_store(tmp_path) as store:
        may, append = trio.Event(), store.writer.volumes.append

        async def held(stripe: PendingStripe, after: PendingStripe | None = None) -> None:
            stripe.place(Location(VolumeId(bytes(16)), StripeNo(0), 0, 0, 0, Nonce(0)))
            await may.wait()
            await append(stripe, after)

        monkeypatch.setattr(store.writer.volumes, "append", held)
        with store.writer.stream() as stream:
            await stream.write(bytes(MIB))
        may.set()
        await wait_all_tasks_blocked()
        while stream._running:
            await trio.lowlevel.checkpoint()
        assert (stream._stripes, stream._unsynced, stream._appended) == ({}, [], set())


async def test_devices_that_fail_one_after_the_other_narrow_until_the_store_is_read_only(tmp_path: Path) -> None:
    devices = Devices()
    data = os.urandom(2 * MIB)
    async with running_store(tmp_path, devices=devices.attached) as store:
        await bucket(store)
        for slot in range(3):
            devices.fail(slot, "datasync", eio(slot))
            await put(store, b"%d" % slot, data)
        devices.fail(3, "write_at", eio(3))
        with pytest.raises(StoreReadOnly, match=r"2 of 6 devices of tier hot are up, and writes need 3: .*d3"):
            await put(store, b"3", data)
        assert store.read_only is not None
        with pytest.raises(StoreReadOnly):
            await store.objects.delete("bucket", b"0", ANY, 1)
        for slot in range(3):
            assert await get(store, b"%d" % slot) == data


async def test_parts_and_gathered_pieces_are_written_again_too(tmp_path: Path) -> None:
    devices = Devices()
    data = os.urandom(6 * MIB)
    async with running_store(tmp_path, devices=devices.attached) as store:
        await bucket(store)
        upload = await store.uploads.create("bucket", b"k", ObjectSpec(), None, False, 1)
        devices.fail(0, "datasync", eio(0))
        async with store.uploads.part("bucket", b"k", upload.id) as part:
            await part.write(data)
            await part.finish()
            info = await part.commit(1, None, 1)
        devices.fail(1, "datasync", eio(1))
        pieces = [(number * 100_000, os.urandom(30_000)) for number in range(90)]
        gathered = await store.writer.gather(pieces, [])
        await store.writer.sync(dict.fromkeys(each.stripe for each in gathered))
        assert store.fleet.state(DeviceId(bytes([1]) * 16))[0] is DeviceState.READ_ONLY
        for each, (_, piece) in zip(gathered, pieces, strict=True):
            extent = each.extent
            assert extent.length == len(piece)
            found = await store.reader.extent(Extent(ExtentId(0), InodeNo(0), 0, len(piece), extent.location, None))
            assert found == piece
        completed = [CompletedPart(1, info.etag)]
        await store.uploads.complete("bucket", b"k", upload.id, completed, None, ANY, 1)
        assert await get(store, b"k") == data


async def test_a_full_device_is_written_around_and_reads_and_deletes_go_on(tmp_path: Path) -> None:
    devices = Devices()
    data = os.urandom(2 * MIB)
    async with running_store(tmp_path, devices=devices.attached) as store:
        await bucket(store)
        await put(store, b"before", data)
        devices.fail(5, "write_at", DeviceFull("no room", "d5"))
        await put(store, b"behind", data)
        assert store.fleet.state(DeviceId(bytes([5]) * 16))[0] is DeviceState.FULL
        assert await get(store, b"before") == await get(store, b"behind") == data
        for slot in range(5):
            devices.fail(slot, "preallocate", DeviceFull("no room", f"d{slot}"))
        await store.volume_writer.seal_idle(0)
        with pytest.raises(DeviceFull):
            await put(store, b"no more", data)
        assert await store.objects.delete("bucket", b"before", ANY, 1)
        assert store.read_only is None


async def test_a_device_whose_reads_fail_is_suspect_and_told_of(tmp_path: Path) -> None:
    devices = Devices()
    data = os.urandom(2 * MIB)
    told: list[DeviceId] = []
    async with running_store(tmp_path, devices=devices.attached) as store:
        await bucket(store)
        await put(store, b"k", data)
        store.fleet.listeners.append(told.append)
        (row,) = await store.catalog.read(volumes, OPEN)
        slots = [device[0] for device in row.devices[:2]]  # data cells: parity may not be read at all
        for slot in slots:
            devices.fail(slot, "read_at", eio(slot))
        assert await get(store, b"k") == data
        bad = {ident for ident in devices.attached if store.fleet.state(ident)[0] is DeviceState.SUSPECT}
        assert bad
        assert bad <= {DeviceId(bytes([slot]) * 16) for slot in slots}
        assert set(told) == bad


async def test_streams_together_keep_a_bounded_sum_unsynced(tmp_path: Path) -> None:
    devices = Devices()
    data = os.urandom(8 * MIB)
    with patch.object(writer_module, "UNSYNCED_TOTAL_MAX", 4 * MIB):
        async with running_store(tmp_path, devices=devices.attached) as store:
            await bucket(store)
            most = 0

            async def put_one(number: int) -> None:
                nonlocal most
                async with store.objects.put("bucket") as body:
                    for at in range(0, len(data), MIB):
                        await body.write(data[at : at + MIB])
                        most = max(most, store.writer.unsynced_bytes)
                    await body.finish()
                    await body.commit(b"%d" % number, ObjectSpec(), ANY, 1)

            async with trio.open_nursery() as nursery:
                for number in range(4):
                    nursery.start_soon(put_one, number)
            assert 4 * MIB <= most <= (4 + 4) * MIB
            async with store.objects.put("bucket") as body:
                await body.write(data[: 2 * MIB])
            assert store.writer.unsynced_bytes == 0  # also of what was broken off
            for number in range(4):
                assert await get(store, b"%d" % number) == data
