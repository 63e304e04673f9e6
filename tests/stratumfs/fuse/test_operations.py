"""Handlers without a kernel: what cannot be brought about from outside."""

import errno
import os
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyfuse3
import pytest
import trio

from stratumfs.errors import ShardCorrupt, StoreFull
from stratumfs.fuse import files as files_module
from stratumfs.fuse import handles as handles_module
from stratumfs.fuse import invalidate
from stratumfs.fuse.door import DoorOptions
from stratumfs.fuse.operations import Operations
from stratumfs.ids import KIB, MIB, ROOT_INODE, InodeNo
from stratumfs.limits import KERNEL_CACHE_S, READAHEAD_STRIPES
from stratumfs.values import Name
from tests.stores import running_store

_CALLER: Any = SimpleNamespace(uid=0, gid=0, pid=1, umask=0)
_TOKEN: Any = None


@pytest.fixture
async def operations(tmp_path: Path) -> AsyncIterator[Operations]:
    async with running_store(tmp_path) as store, trio.open_nursery() as nursery:
        yield Operations(store, nursery, DoorOptions(), lambda parent, name: None, lambda ino: None)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[Operations]:
    """With ``close=published``."""
    async with running_store(tmp_path) as store, trio.open_nursery() as nursery:
        yield Operations(store, nursery, DoorOptions(published=True), lambda parent, name: None, lambda ino: None)
        nursery.cancel_scope.cancel()


async def _file(operations: Operations, data: bytes = b"data") -> tuple[int, int]:
    """(handle, inode) of a new file in a bucket."""
    bucket = await operations.mkdir(ROOT_INODE, b"bucket", 0o755, _CALLER)
    info, entry = await operations.create(bucket.st_ino, b"f", 0o644, os.O_RDWR, _CALLER)
    await operations.write(info.fh, 0, data)
    return info.fh, entry.st_ino


async def test_readers_beyond_the_share_get_eagain(operations: Operations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "READS_WAITING_MAX", 3)
    fh, _ = await _file(operations)
    await operations.fsync(fh, datasync=False)
    go_on = trio.Event()

    async def hang(*args: object) -> bytes:
        await go_on.wait()
        return b"late"

    monkeypatch.setattr(operations.store.reader, "read", hang)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(operations.read, fh, 0, 10)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(pyfuse3.FUSEError) as raised:
            await operations.read(fh, 0, 10)
        assert raised.value.errno == errno.EAGAIN
        go_on.set()
    assert await operations.read(fh, 0, 10) == b"late"
    assert operations.counters["reads_refused"] == 1


async def test_sequential_readers_are_read_ahead_for_and_random_ones_are_not(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    fh, _ = await _file(operations, bytes(8 * MIB))
    await operations.fsync(fh, datasync=False)
    ahead: list[tuple[int, int]] = []

    async def prefetch(ino: InodeNo, offset: int, length: int) -> None:
        ahead.append((offset, offset + length))

    monkeypatch.setattr(operations.store.reader, "prefetch", prefetch)
    for at in (5 * MIB, MIB, 3 * MIB + 4096, 0):
        await operations.read(fh, at, 128 * KIB)
        await trio.testing.wait_all_tasks_blocked()
    assert ahead == []
    for at in range(128 * KIB, 4 * MIB, 128 * KIB):
        await operations.read(fh, at, 128 * KIB)
        await trio.testing.wait_all_tasks_blocked()
        assert at + 128 * KIB < ahead[-1][1] <= at + (READAHEAD_STRIPES + 2) * MIB
    assert all(before[1] == after[0] for before, after in pairwise(ahead)), "nothing is fetched twice"


async def test_the_unexpected_is_eio_and_counted(operations: Operations, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(operations.store.files, "attributes", broken)
    with pytest.raises(pyfuse3.FUSEError) as raised:
        await operations.getattr(ROOT_INODE, _CALLER)
    assert raised.value.errno == errno.EIO
    assert operations.counters["unexpected"] == 1


async def test_damage_is_eio_and_counted(operations: Operations, monkeypatch: pytest.MonkeyPatch) -> None:
    fh, _ = await _file(operations)
    await operations.fsync(fh, datasync=False)

    async def damaged(*args: object) -> None:
        raise ShardCorrupt("x")

    monkeypatch.setattr(operations.store.reader, "read", damaged)
    with pytest.raises(pyfuse3.FUSEError) as raised:
        await operations.read(fh, 0, 10)
    assert raised.value.errno == errno.EIO
    assert operations.counters["data_errors"] == 1


async def test_an_answer_that_a_change_overtook_is_not_kept(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ino = await _file(operations)
    assert (await operations.getattr(ino, _CALLER)).attr_timeout == KERNEL_CACHE_S
    attributes = operations.store.files.attributes

    async def slow(*args: Any) -> Any:
        found = await attributes(*args)
        operations.store.changes.counter += 1
        return found

    monkeypatch.setattr(operations.store.files, "attributes", slow)
    assert (await operations.getattr(ino, _CALLER)).attr_timeout == 0


async def test_a_listing_that_a_change_overtook_is_not_kept(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else: an inode that the kernel did not know yet is not invalidated, and comes with its old attributes."""
    await _file(operations)
    given: list[float] = []

    def reply(token: object, name: bytes, entry: pyfuse3.EntryAttributes, cookie: int) -> bool:
        given.append(entry.attr_timeout)
        return True

    monkeypatch.setattr(pyfuse3, "readdir_reply", reply)
    fh = await operations.opendir(ROOT_INODE, _CALLER)
    await operations.readdir(fh, 0, _TOKEN)
    entries = operations.store.files.entries

    async def slow(*args: Any) -> Any:
        found = await entries(*args)
        operations.store.changes.counter += 1
        return found

    monkeypatch.setattr(operations.store.files, "entries", slow)
    await operations.readdir(fh, 0, _TOKEN)
    assert given == [KERNEL_CACHE_S, 0]


async def test_of_an_entry_that_did_not_fit_the_kernel_has_nothing_to_forget(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be told in vain until INVALIDATE_WAIT_S is over: of an inode that it never got it sends no FORGET."""
    monkeypatch.setattr(invalidate, "INVALIDATE_WAIT_S", 3600)
    files = operations.store.files
    bucket = (await operations.store.objects.create_bucket("bucket", time.time_ns())).ino
    made = [(await files.make(bucket, Name(b"%d" % n), 0o100644, 0, 0, 5)).ino for n in range(3)]
    monkeypatch.setattr(pyfuse3, "readdir_reply", lambda token, name, entry, cookie: name == b"0")
    await operations.readdir(await operations.opendir(pyfuse3.InodeT(bucket), _CALLER), 0, _TOKEN)
    with trio.fail_after(60):
        await operations.cache.invalidate(made, [(bucket, b"%d" % n) for n in range(3)])
    assert operations.statistics()["invalidations"] == 2, "the first one's name and attributes"


async def test_a_name_that_the_kernel_moved_itself_is_invalidated(operations: Operations) -> None:
    """It was never asked for under its new name."""
    await _file(operations)
    bucket = pyfuse3.InodeT((await operations.store.files.lookup(ROOT_INODE, Name(b"bucket"))).ino)
    before = operations.statistics()["invalidations"]
    await operations.cache.invalidate([], [(InodeNo(bucket), b"moved")])
    assert operations.statistics()["invalidations"] == before
    await operations.rename(bucket, b"f", bucket, b"moved", 0, _CALLER)
    await operations.cache.invalidate([], [(InodeNo(bucket), b"moved")])
    assert operations.statistics()["invalidations"] == before + 1


async def test_a_new_write_wins_over_a_time_that_was_set_before(operations: Operations) -> None:
    fh, ino = await _file(operations)
    attr, fields = pyfuse3.EntryAttributes(), SimpleNamespace(**dict.fromkeys(_FIELDS, False))
    attr.st_mtime_ns = 1_000
    fields.update_mtime = True
    changed = await operations.setattr(ino, attr, fields, fh, _CALLER)
    assert changed.st_mtime_ns == 1_000
    before = time.time_ns()
    await operations.write(fh, 4, b"more")
    await operations.flush(fh)
    assert (await operations.getattr(ino, _CALLER)).st_mtime_ns >= before


_FIELDS = [f"update_{name}" for name in ("atime", "mtime", "ctime", "mode", "uid", "gid", "size")]


async def test_files_beyond_the_largest_object_are_refused(operations: Operations) -> None:
    fh, ino = await _file(operations)
    for call in (operations.write(fh, 1 << 60, b"x"), operations._truncate(ino, 1 << 60)):
        with pytest.raises(pyfuse3.FUSEError) as raised:
            await call
        assert raised.value.errno == errno.EFBIG


async def test_a_truncate_that_fails_does_not_happen_later(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    fh, ino = await _file(operations)
    await operations.flush(fh)
    await operations.release(fh)

    async def refuse(*args: object, **kwargs: object) -> None:
        raise ShardCorrupt("x")

    with monkeypatch.context() as patched:
        patched.setattr(operations.store.files, "publish", refuse)
        with pytest.raises(ShardCorrupt):
            await operations._truncate(ino, 0)
    assert len(list(operations.buffers)) == 0
    assert (await operations.getattr(ino, _CALLER)).st_size == 4


async def test_a_truncate_that_fails_takes_nobody_elses_writes_along(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    fh, ino = await _file(operations)
    await operations.flush(fh)
    await operations.release(fh)
    others: list[int] = []

    async def refuse_late(*args: object, **kwargs: object) -> None:
        others.append((await operations.open(ino, os.O_RDWR, _CALLER)).fh)
        await operations.write(others[0], 1, b"mine")
        raise ShardCorrupt("x")

    with monkeypatch.context() as patched:
        patched.setattr(operations.store.files, "publish", refuse_late)
        with pytest.raises(ShardCorrupt):
            await operations._truncate(ino, 0)
    await operations.fsync(others[0], datasync=False)
    assert bytes(await operations.read(others[0], 0, 100)) == b"\0mine"


async def test_an_error_that_close_did_not_wait_for_reaches_the_next_one(
    hasty: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    fh, ino = await _file(hasty)

    async def refuse(*args: object, **kwargs: object) -> None:
        raise StoreFull("x")

    with monkeypatch.context() as patched:
        patched.setattr(hasty.store.files, "publish", refuse)
        await hasty.flush(fh)
        await trio.testing.wait_all_tasks_blocked(0.01)
        with pytest.raises(pyfuse3.FUSEError) as raised:
            await hasty.flush(fh)
        assert raised.value.errno == errno.ENOSPC
        await trio.testing.wait_all_tasks_blocked(0.01)
        with pytest.raises(pyfuse3.FUSEError):
            await hasty.fsync(fh, datasync=False)
    assert await hasty.read(fh, 0, 100) == b"data"
    await hasty.fsync(fh, datasync=False)
    assert bytes(await hasty.store.reader.read(InodeNo(ino), 0, 100)) == b"data"


async def test_descriptors_have_a_bound(operations: Operations, monkeypatch: pytest.MonkeyPatch) -> None:
    _, ino = await _file(operations)
    monkeypatch.setattr(handles_module, "HANDLES_MAX", 1)
    for call in (operations.open(ino, os.O_RDONLY, _CALLER), operations.create(ino, b"x", 0o600, os.O_RDWR, _CALLER)):
        with pytest.raises(pyfuse3.FUSEError) as raised:
            await call
        assert raised.value.errno == errno.ENFILE


async def test_regression_what_is_renamed_was_published_before(hasty: Operations) -> None:
    """Else a crash between the two leaves a name whose old bytes are gone, and whose new ones never came."""
    fh, _ = await _file(hasty, b"old")
    await hasty.fsync(fh, datasync=False)
    bucket = pyfuse3.InodeT((await hasty.store.files.lookup(ROOT_INODE, Name(b"bucket/"))).ino)
    info, entry = await hasty.create(bucket, b"f.new", 0o644, os.O_RDWR, _CALLER)
    await hasty.write(info.fh, 0, b"new bytes")
    await hasty.flush(info.fh)
    await hasty.release(info.fh)
    sizes = []

    async def rename(*args: object, **kwargs: object) -> None:
        sizes.append((await hasty.store.files.attributes(InodeNo(entry.st_ino))).size)

    hasty.store.files.rename = rename  # type: ignore[method-assign]
    await hasty.rename(bucket, b"f.new", bucket, b"f", 0, _CALLER)
    assert sizes == [len(b"new bytes")]


async def test_what_was_open_to_the_end_is_let_go(operations: Operations) -> None:
    """Of a file without a name nothing would be freed while the owner lives, which serves on without this mount."""
    fh, ino = await _file(operations)
    bucket = await operations.lookup(ROOT_INODE, b"bucket", _CALLER)
    await operations.unlink(bucket.st_ino, b"f", _CALLER)
    closed, other = await operations.create(bucket.st_ino, b"g", 0o644, os.O_RDWR, _CALLER)
    await operations.write(closed.fh, 0, b"data")
    await operations.unlink(bucket.st_ino, b"g", _CALLER)
    await operations.release(closed.fh)
    assert all(each in operations.store.holds for each in (ino, other.st_ino))
    await operations.write(fh, 4, b"more")
    await operations.finish()
    assert len(operations.store.holds) == 0
    assert operations.statistics()["buffers"] == operations.statistics()["buffer_memory_bytes"] == 0
