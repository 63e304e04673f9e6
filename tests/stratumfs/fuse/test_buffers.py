"""Pending writes of files that are closed, unlinked, read, in whatever order; without a kernel."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from stratumfs.catalog.volumes import volume_summary
from stratumfs.fuse import buffers
from stratumfs.fuse.buffers import Buffers
from stratumfs.store import maintenance
from stratumfs.values import Attributes, Name
from tests.stratumfs.store.helpers import MIB, bucket


async def test_what_is_pending_of_an_unlinked_file_that_is_read_is_published_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffers, "PENDING_SWEEP_S", 0.0)
    monkeypatch.setattr(buffers, "PENDING_AGE_S_MAX", 0.0)
    data = os.urandom(2 * MIB)
    async with bucket(tmp_path) as store, trio.open_nursery() as nursery:
        table = Buffers(store, nursery, lambda attributes: None)
        place = (await store.objects.bucket("bucket")).ino
        found = await store.files.make(place, Name(b"f"), 0o100644, 0, 0, time.time_ns())
        store.holds.take(found.ino)  # as the kernel that reads it does
        buffer = table.open(found)
        await buffer.write(0, data)
        await store.files.remove(place, Name(b"f"), time.time_ns())
        await table.close(buffer)
        assert buffer.pending
        nursery.start_soon(table.sweep)
        with trio.fail_after(60):
            while table.get(found.ino) is not None:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
        assert bytes(await store.reader.read(found.ino, 0, 3 * MIB)) == data
        store.holds.drop(found.ino)


async def test_volumes_with_pending_stripes_are_spared_however_long_they_are_pending(tmp_path: Path) -> None:
    """No sweep tells of them: it does not while the store is read-only, which may be for days."""
    data = os.urandom(2 * MIB)
    async with bucket(tmp_path) as store, trio.open_nursery() as nursery:
        table = Buffers(store, nursery, lambda attributes: None)
        place = (await store.objects.bucket("bucket")).ino
        buffer = table.open(await store.files.make(place, Name(b"f"), 0o100644, 0, 0, time.time_ns()))
        await buffer.write(0, data)
        await buffer.shrink()
        (kept,) = buffer.volumes
        await store.writer.volumes.seal(kept)
        await store.maintenance.round()
        await buffer.publish(durable=True)
        assert bytes(await store.reader.read(buffer.ino, 0, 3 * MIB)) == data
        await table.close(buffer)
        assert kept not in store.writer.unnamed()


async def test_a_volume_with_pieces_is_spared_until_they_are_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No full stripe, and too long for the catalog. As soon as nobody has them any more the room comes back."""
    monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 0.0)
    data = os.urandom(300_000)
    async with bucket(tmp_path) as store, trio.open_nursery() as nursery:
        table = Buffers(store, nursery, lambda attributes: None)
        place = (await store.objects.bucket("bucket")).ino
        buffer = table.open(await store.files.make(place, Name(b"f"), 0o100644, 0, 0, time.time_ns()))
        publish = store.files.publish

        async def late(*args: Any, **options: Any) -> Attributes:
            for ident in buffer.volumes:
                await store.writer.volumes.seal(ident)
            for _ in range(2):
                await store.maintenance.round()
            return await publish(*args, **options)

        monkeypatch.setattr(store.files, "publish", late)
        await buffer.write(0, data)
        await buffer.publish(durable=True)
        assert bytes(await store.reader.read(buffer.ino, 0, len(data))) == data
        assert store.writer.unnamed() == frozenset()
        buffer.truncate(0)
        await buffer.publish(durable=True)
        await store.maintenance.round()
        await store.maintenance.round()
        assert (await store.catalog.read(volume_summary)) == []
        await table.close(buffer)
