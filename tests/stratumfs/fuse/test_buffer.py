"""Pending writes over a real store: nothing is lost, whatever publication, device or memory does."""

import hashlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from stratumfs.errors import DeviceFailed, StoreBusy, StoreReadOnly, StratumError
from stratumfs.fuse import buffers as buffers_module
from stratumfs.fuse import sender as sender_module
from stratumfs.fuse.buffer import FileBuffer
from stratumfs.fuse.buffers import Buffers
from stratumfs.ids import MIB, DeviceId, InodeNo
from stratumfs.shards.layout import ShardName
from stratumfs.shards.memory import MemoryShards
from stratumfs.store.store import Store
from stratumfs.values import Attributes, Name
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.pending import PendingStripe
from tests.stores import attached, make_store, running_store


@dataclass
class Files:
    """A store with one bucket, and the buffers of a mount."""

    store: Store
    buffers: Buffers
    published: list[Attributes]
    bucket: InodeNo

    async def make(self, name: bytes = b"f") -> FileBuffer:
        made = await self.store.files.make(self.bucket, Name(name), 0o100644, 0, 0, time.time_ns())
        return self.buffers.open(made)

    async def committed(self, buffer: FileBuffer) -> bytes:
        size = (await self.store.files.attributes(buffer.ino)).size
        return bytes(await self.store.reader.read(buffer.ino, 0, size))

    async def etag(self, buffer: FileBuffer) -> bytes:
        return await self.store.files.xattr(buffer.ino, b"user.stratum.etag")


@asynccontextmanager
async def open_files(
    folder: Path, devices: Mapping[DeviceId, AttachedDevice] | None = None, **options: int
) -> AsyncIterator[Files]:
    async with running_store(folder, devices=devices) as store, trio.open_nursery() as nursery:
        published: list[Attributes] = []
        bucket = await store.objects.create_bucket("bucket", time.time_ns())
        yield Files(store, Buffers(store, nursery, published.append, **options), published, bucket.ino)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[Files]:
    async with open_files(tmp_path) as found:
        yield found


def failing(times: int, error: StratumError, then: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """*then*, after it has raised *error* so many times."""
    left = [times]

    async def call(*args: Any, **kwargs: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise error
        return await then(*args, **kwargs)

    return call


async def test_writes_are_read_at_once_and_visible_when_published(files: Files) -> None:
    buffer = await files.make()
    await buffer.write(0, b"hello")
    await buffer.write(3, b"p!")
    assert await buffer.read(0, 100) == b"help!"
    assert await files.committed(buffer) == b""
    await buffer.publish(durable=True)
    assert await files.committed(buffer) == b"help!"
    assert not buffer.pending
    assert [each.size for each in files.published] == [5]


@pytest.mark.parametrize("durable", [False, True])
async def test_a_failed_publication_loses_nothing(files: Files, monkeypatch: pytest.MonkeyPatch, durable: bool) -> None:
    buffer = await files.make()
    await buffer.write(0, b"first")
    monkeypatch.setattr(files.store.files, "publish", failing(2, StoreBusy("x"), files.store.files.publish))
    with pytest.raises(StoreBusy):
        await buffer.publish(durable=durable)
    await buffer.write(5, b" second")
    assert await buffer.read(0, 100) == b"first second"
    with pytest.raises(StoreBusy):
        await buffer.publish(durable=durable)
    await buffer.publish(durable=durable)
    assert await files.committed(buffer) == b"first second"


async def test_an_error_after_the_last_close_is_counted_and_tried_again(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = await files.make()
    await buffer.write(0, b"data")
    monkeypatch.setattr(files.store.files, "publish", failing(1, StoreBusy("x"), files.store.files.publish))
    await files.buffers.close(buffer)
    assert files.buffers.late_errors == 1
    assert files.buffers.get(buffer.ino) is buffer
    await files.buffers.publish_all()
    assert await files.committed(buffer) == b"data"


async def test_closing_publishes_and_lets_go(files: Files) -> None:
    buffer = await files.make()
    await buffer.write(0, b"data")
    assert buffer.ino in files.store.holds
    await files.buffers.close(buffer)
    assert files.buffers.get(buffer.ino) is None
    assert buffer.ino not in files.store.holds
    assert await files.committed(buffer) == b"data"
    assert files.buffers.statistics()["buffer_memory_bytes"] == 0


async def test_what_is_written_during_a_publication_lies_above_it(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = await files.make()
    await buffer.write(0, b"a" * 50_000)
    begun, go_on = trio.Event(), trio.Event()
    sync = files.store.writer.sync

    async def slow_sync(locations: Any) -> None:
        begun.set()
        await go_on.wait()
        await sync(locations)

    monkeypatch.setattr(files.store.writer, "sync", slow_sync)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: buffer.publish(durable=True))
        await begun.wait()
        await buffer.write(10, b"B" * 10)
        buffer.truncate(100)
        assert await buffer.read(0, 1000) == b"a" * 10 + b"B" * 10 + b"a" * 80
        go_on.set()
    assert await files.committed(buffer) == b"a" * 50_000
    assert buffer.pending
    await buffer.publish(durable=False)
    assert await files.committed(buffer) == b"a" * 10 + b"B" * 10 + b"a" * 80


async def test_a_long_stream_leaves_memory_and_can_be_read_before_it_is_published(files: Files) -> None:
    buffer = await files.make()
    data = [os.urandom(MIB) for _ in range(40)]
    for number, each in enumerate(data):
        await buffer.write(number * MIB, each)
    await buffer.shrink()
    assert buffer.memory_bytes < 2 * MIB
    assert await files.committed(buffer) == b""
    assert await buffer.read(7 * MIB - 10, 20) == data[6][-10:] + data[7][:10]
    await buffer.write(7 * MIB, b"patch")
    assert await buffer.read(7 * MIB - 10, 20) == data[6][-10:] + b"patch" + data[7][5:10]
    await buffer.publish(durable=True)
    expected = bytearray(b"".join(data))
    expected[7 * MIB : 7 * MIB + 5] = b"patch"
    assert await files.committed(buffer) == expected
    layout = await files.store.reader.layout(buffer.ino, 0, 40 * MIB)
    assert len(layout) < 10


async def test_many_pieces_are_published_by_themselves(files: Files) -> None:
    buffer = await files.make()
    for number in range(250):
        await buffer.write(number * 20_000, b"piece")
    assert len(files.published) == 1
    await buffer.publish(durable=True)
    content = await files.committed(buffer)
    assert all(content[number * 20_000 : number * 20_000 + 5] == b"piece" for number in range(250))


async def test_pieces_too_long_for_rows_share_stripes(files: Files) -> None:
    buffer = await files.make()
    data = [os.urandom(30_000) for _ in range(30)]
    for number, each in enumerate(data):
        await buffer.write(number * 100_000, each)
    await buffer.publish(durable=True)
    content = await files.committed(buffer)
    assert [content[number * 100_000 : number * 100_000 + 30_000] for number in range(30)] == data


async def test_memory_is_bounded_over_all_files(tmp_path: Path) -> None:
    async with open_files(tmp_path, memory_max=3 * MIB) as files:
        opened = [await files.make(b"f%d" % number) for number in range(12)]
        for turn in range(8):
            for buffer in opened:
                if files.buffers.full:
                    await files.buffers.make_room(buffer)
                await buffer.write(turn * 100_000, bytes([turn]) * 100_000)
                assert files.buffers.statistics()["buffer_memory_bytes"] <= 3 * MIB + 100_000
        await files.buffers.publish_all()
        for buffer in opened:
            assert await files.committed(buffer) == b"".join(bytes([turn]) * 100_000 for turn in range(8))
        assert files.buffers.statistics()["buffer_memory_bytes"] == 0


async def test_a_stripe_that_fails_is_written_again(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = await files.make()
    data = [os.urandom(MIB) for _ in range(4)]
    monkeypatch.setattr(files.store.writer, "append", failing(2, DeviceFailed("x"), files.store.writer.append))
    for number, each in enumerate(data):
        await buffer.write(number * MIB, each)
    await buffer.publish(durable=True)
    assert await files.committed(buffer) == b"".join(data)


async def test_stripes_that_were_not_synced_are_written_again(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = await files.make()
    data = os.urandom(3 * MIB)
    await buffer.write(0, data)
    monkeypatch.setattr(files.store.writer, "sync", failing(1, DeviceFailed("x"), files.store.writer.sync))
    with pytest.raises(DeviceFailed):
        await buffer.publish(durable=True)
    assert await buffer.read(0, 3 * MIB) == data
    await buffer.publish(durable=True)
    assert await files.committed(buffer) == data


async def test_syncs_beside_a_long_write_write_no_stripe_a_second_time(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "UNSYNCED_BYTES_MAX", 4 * MIB)
    append = files.store.writer.volumes.append
    appended: list[PendingStripe] = []

    async def counted(stripe: PendingStripe, after: PendingStripe | None = None) -> None:
        appended.append(stripe)
        await append(stripe, after)

    monkeypatch.setattr(files.store.writer.volumes, "append", counted)
    buffer = await files.make()
    data = os.urandom(MIB)
    for at in range(16):
        await buffer.write(at * MIB, data)
    await buffer.publish(durable=True)
    assert len(appended) == len(set(appended)) == 16
    assert await files.committed(buffer) == data * 16


async def test_a_device_that_fails_beneath_a_file_costs_time_and_nothing_else(tmp_path: Path) -> None:
    make_store(tmp_path)
    devices = attached(tmp_path)
    data = os.urandom(9 * MIB + 100_000)
    async with open_files(tmp_path, devices=devices) as files:
        buffer = await files.make()
        await buffer.write(0, data[: 4 * MIB])
        await buffer.shrink()
        files.store.devices[next(iter(devices))].shards = _FailingSyncs()  # for volumes that are opened from now on
        await files.store.volume_writer.seal_idle(0)
        await buffer.write(4 * MIB, data[4 * MIB :])
        assert await buffer.read(0, len(data)) == data
        await buffer.publish(durable=True)
        assert len(files.store.fleet.up("hot")) == 5
        assert files.store.read_only is None
        assert await files.committed(buffer) == data
        assert files.buffers.statistics()["buffer_memory_bytes"] == 0


class _FailingSyncs(MemoryShards):
    def __init__(self) -> None:
        super().__init__("d0", self._fail)

    def _fail(self, verb: str, name: ShardName | None) -> None:
        if verb == "datasync":
            raise DeviceFailed("device d0: EIO", "d0")


async def test_a_writer_whose_stripes_cannot_be_synced_hears_why(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = await files.make()
    monkeypatch.setattr(sender_module, "UNSYNCED_BYTES_MAX", 4 * MIB)
    sync = files.store.writer.sync
    monkeypatch.setattr(files.store.writer, "sync", failing(1000, StoreReadOnly("too few devices"), sync))
    data = os.urandom(12 * MIB)

    async def write_all() -> None:
        for at in range(0, len(data), MIB):
            await buffer.write(at, data[at : at + MIB])

    with trio.fail_after(60), pytest.raises(StoreReadOnly):
        await write_all()
    monkeypatch.setattr(files.store.writer, "sync", sync)
    await write_all()
    await buffer.publish(durable=True)
    assert await files.committed(buffer) == data


async def test_a_truncated_stream_does_not_come_back(files: Files) -> None:
    buffer = await files.make()
    await buffer.write(0, b"x" * 3 * MIB)
    buffer.truncate(MIB + 5)
    buffer.truncate(2 * MIB)
    await buffer.write(2 * MIB, b"end")
    expected = b"x" * (MIB + 5) + bytes(MIB - 5) + b"end"
    assert await buffer.read(0, 9 * MIB) == expected
    await buffer.publish(durable=True)
    assert await files.committed(buffer) == expected


async def test_emptying_a_file_gives_memory_back(files: Files) -> None:
    buffer = await files.make()
    await buffer.write(0, b"x" * 3 * MIB)
    await buffer.write(5 * MIB, b"y" * 10_000)
    buffer.truncate(0)
    await buffer.publish(durable=True)
    assert files.buffers.statistics()["buffer_memory_bytes"] == 0
    assert await files.committed(buffer) == b""


async def test_the_etag_is_the_md5_as_long_as_all_is_in_order(files: Files) -> None:
    buffer = await files.make()
    whole = b""
    for each in (b"a" * 100, b"b" * 200_000, b"c" * 2 * MIB):
        await buffer.write(len(whole), each)
        whole += each
        await buffer.publish(durable=False)
        assert await files.etag(buffer) == hashlib.md5(whole).hexdigest().encode()
    await buffer.write(5, b"z")
    await buffer.publish(durable=False)
    first = await files.etag(buffer)
    assert first.endswith(b"-1")
    await buffer.write(5, b"z")
    await buffer.publish(durable=False)
    assert await files.etag(buffer) != first
    buffer.truncate(0)
    await buffer.write(0, b"again")
    await buffer.publish(durable=False)
    assert await files.etag(buffer) == hashlib.md5(b"again").hexdigest().encode()


async def test_old_writes_are_published_by_the_sweep(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers_module, "PENDING_SWEEP_S", 0.001)
    monkeypatch.setattr(buffers_module, "PENDING_AGE_S_MAX", 0.0)
    buffer = await files.make()
    await buffer.write(0, b"old")
    with trio.move_on_after(20) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(files.buffers.sweep)
            while buffer.pending:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert not scope.cancelled_caught
    assert await files.committed(buffer) == b"old"


async def test_what_nobody_can_see_any_more_is_not_published(files: Files) -> None:
    buffer = await files.make()
    await buffer.write(0, b"secret")
    await files.store.files.remove(files.bucket, Name(b"f"), time.time_ns())
    await files.buffers.close(buffer)
    assert await buffer.read(0, 10) == b"secret"
    files.buffers.forgotten(buffer.ino)
    assert files.published == []
    assert files.buffers.get(buffer.ino) is None
    assert files.buffers.statistics()["buffer_memory_bytes"] == 0


async def test_stripes_that_wait_keep_their_volume(files: Files) -> None:
    buffer = await files.make()
    await buffer.write(0, b"x" * 2 * MIB)
    await buffer.shrink()
    assert buffer.volumes
    assert buffer.volumes <= files.store.writer.unnamed()
